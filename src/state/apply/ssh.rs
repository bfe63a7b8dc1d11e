//! SSH sessions that wait for somebody's decision (protocol section 5.9).

use super::super::table::{SshApprovals, SshChecks};
use super::super::*;
use super::step::Step;
use std::time::Duration;

/// How many sessions from one node to another may wait: a script that opens some at once fits.
const MAX_WAITING_PER_PAIR: usize = 16;
/// How many sessions of one node may wait: it cannot use up what all share, and no single
/// destination can use up what it has.
const MAX_WAITING_PER_SOURCE: usize = 256;
/// How many checks are kept in all, decided ones included: some megabytes.
const MAX_CHECKS: usize = 10_000;
/// How many approvals are remembered; beyond that those go first that end first.
const MAX_APPROVALS: usize = 50_000;
/// The longest time that a session may wait, whatever its deadline says.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);
/// The longest time that an approval may hold, as in the policy language.
const MAX_PERIOD: Duration = Duration::from_secs(168 * 3600);

/// A waiting check is never pushed out: when there are too many, new ones are refused.
pub(super) fn start(step: &mut Step, check: &SshCheck) -> Outcome {
    if step.ssh_check(&check.id).is_some() {
        return Err(Refused::SshCheckDecided);
    }
    if step.node(check.source).is_none() || step.node(check.destination).is_none() {
        return Err(Refused::NodeNotFound);
    }
    let now = step.now();
    if let Some(free_at) = first_free_place(step, check) {
        return Err(Refused::TooManySshChecks(free_at.since(now).as_secs() + 1));
    }
    // The edge's clock said when; how long is what counts.
    let wait = check.deadline.since(check.created).min(MAX_WAIT);
    let check = SshCheck { created: now, deadline: now + wait, verdict: SshVerdict::Waiting, ..check.clone() };
    step.put::<SshChecks>(check.id.clone(), check);
    Ok(Done::Nothing)
}

/// When there will be room again; `None`: there is room.
fn first_free_place(step: &Step, check: &SshCheck) -> Option<Time> {
    let waiting = |destination: NodeId| {
        let first = (check.source, destination, Time(i64::MIN), AuthId::lowest());
        step.indexes.waiting_ssh_check.range(first..).take_while(|(source, ..)| *source == check.source)
    };
    let of_pair = || waiting(check.destination).take_while(|(_, to, ..)| *to == check.destination);
    if of_pair().count() >= MAX_WAITING_PER_PAIR {
        return of_pair().map(|(_, _, deadline, _)| *deadline).min();
    }
    if waiting(NodeId(0)).count() >= MAX_WAITING_PER_SOURCE {
        return waiting(NodeId(0)).map(|(_, _, deadline, _)| *deadline).min();
    }
    let is_full = step.tables.ssh_checks.len() >= MAX_CHECKS;
    step.indexes.ssh_check_deadline.get_min().filter(|_| is_full).map(|(deadline, _)| *deadline)
}

/// Lets the session through, or not. An approval under a policy that is no longer in
/// force is for this session alone.
pub(super) fn decide(step: &mut Step, id: &AuthId, approve: bool, by: &str) -> Outcome {
    let check = step.ssh_check(id).filter(|check| check.deadline > step.now()).ok_or(Refused::SshCheckNotFound)?;
    let check = SshCheck::clone(check);
    if check.verdict != SshVerdict::Waiting {
        return Err(Refused::SshCheckDecided);
    }
    let owner = |node: NodeId| step.node(node).map(|node| node.owner.clone()).ok_or(Refused::NodeNotFound);
    let (source_owner, destination_owner) = (owner(check.source)?, owner(check.destination)?);
    let verdict = if approve { SshVerdict::Approved } else { SshVerdict::Rejected };
    if approve && !check.period.is_zero() && check.policy_version == step.policy_version() {
        let (approved, until) = (step.now(), step.now() + check.period.min(MAX_PERIOD));
        let approval = SshApproval { by: by.into(), approved, until, source_owner, destination_owner };
        make_room(step);
        step.put::<SshApprovals>((check.source, check.destination), approval);
    }
    step.put::<SshChecks>(id.clone(), SshCheck { verdict, ..check });
    Ok(Done::Nothing)
}

fn make_room(step: &mut Step) {
    while step.tables.ssh_approvals.len() >= MAX_APPROVALS {
        let Some((_, from, to)) = step.indexes.ssh_approval_end.get_min().copied() else { return };
        step.delete::<SshApprovals>(&(from, to));
    }
}
