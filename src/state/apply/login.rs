//! Logins that wait for somebody's decision (protocol sections 3.3 and 9.7).

use super::super::table::Logins;
use super::super::*;
use super::register::{self, Arrival, Lot, Terms};
use super::step::Step;
use std::sync::Arc;
use std::time::Duration;

/// How many logins of one address may wait: an office behind one address fits,
/// and a flood from it cannot use up what all share.
pub const MAX_LOGINS_PER_SOURCE: usize = 64;
/// How many logins are kept in all, decided ones included: some megabytes.
pub const MAX_LOGINS: usize = 10_000;
/// The most that [`Command::StartBoundedLogin`] may allow for one address.
/// Each registration counts those that wait.
pub const LOGINS_PER_SOURCE_BOUND: usize = 1000;
/// The most that it may allow in all: some hundred megabytes.
pub const LOGINS_BOUND: usize = 100_000;
/// The longest time that a login may wait, whatever its deadline says.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// A waiting login is never pushed out: when there are too many, new ones are refused.
pub(super) fn start(step: &mut Step, login: &PendingLogin) -> Outcome {
    start_within(step, login, MAX_LOGINS_PER_SOURCE, MAX_LOGINS)
}

/// The same with other bounds than the usual ones, as far as memory allows.
pub(super) fn start_bounded(step: &mut Step, login: &PendingLogin, per_source: u64, in_all: u64) -> Outcome {
    let at_most = |asked: u64, most: usize| usize::try_from(asked).unwrap_or(most).min(most);
    start_within(step, login, at_most(per_source, LOGINS_PER_SOURCE_BOUND), at_most(in_all, LOGINS_BOUND))
}

fn start_within(step: &mut Step, login: &PendingLogin, per_source: usize, in_all: usize) -> Outcome {
    if step.login(&login.id).is_some() {
        return Err(Refused::LoginDecided);
    }
    let now = step.now();
    if let Some(seconds) = step.wait_for_login(now, login.source, per_source, in_all) {
        return Err(Refused::TooManyLogins(seconds));
    }
    // The edge's clock said when; how long is what counts.
    let wait = login.deadline.since(login.created).min(MAX_WAIT);
    let login = PendingLogin { created: now, deadline: now + wait, verdict: Verdict::Waiting, ..login.clone() };
    step.put::<Logins>(login.id.clone(), login);
    Ok(Done::Nothing)
}

/// Who approved, and what was decided.
pub(super) struct Approval<'a> {
    pub user: UserId,
    pub owner: &'a Owner,
    pub method: RegisterMethod,
    pub policy_version: u64,
    /// Counts where the machine asked for none.
    pub provider_expiry: Option<Time>,
    pub lot: Lot<'a>,
}

/// The login becomes a node: one that its machine has already, if the owner
/// fits, so that a node that logs in again stays what it is. With tags asked for a
/// personal node becomes tagged, and without a tagged one goes back to the user.
pub(super) fn approve(step: &mut Step, id: &AuthId, approval: Approval) -> Outcome {
    let login = waiting(step, id)?;
    if approval.policy_version != step.policy_version() {
        return Err(Refused::Stale);
    }
    let owner_exists = match approval.owner {
        Owner::User(owner) => step.user(*owner).is_some(),
        Owner::Tags(tags) if tags.is_empty() => return Err(Refused::NoTags),
        Owner::Tags(_) => true,
    };
    if step.user(approval.user).is_none() || !owner_exists {
        return Err(Refused::UserNotFound);
    }
    let existing = node_for_login(step, &login, &approval);
    register::check_node_key(step, login.node_key, login.machine_key, existing.as_deref())?;
    let now = step.now();
    let arrival = Arrival {
        node_key: login.node_key,
        hostinfo: &login.hostinfo,
        cap_ver: login.cap_ver,
        expiry: login.expiry.filter(|asked| *asked > now).or(approval.provider_expiry),
    };
    let terms = Terms { owner: approval.owner.clone(), method: approval.method, auth_key: None, ephemeral: false };
    let node = match existing {
        Some(node) => register::renew(step, node.id, &arrival, terms)?,
        None => register::create(step, login.machine_key, &arrival, terms, approval.lot)?,
    };
    step.put::<Logins>(id.clone(), PendingLogin { verdict: Verdict::Registered(node), ..PendingLogin::clone(&login) });
    Ok(Done::Node(node))
}

pub(super) fn decide(step: &mut Step, id: &AuthId, approve: bool) -> Outcome {
    let login = waiting(step, id)?;
    let verdict = if approve { Verdict::Approved } else { Verdict::Rejected };
    step.put::<Logins>(id.clone(), PendingLogin { verdict, ..PendingLogin::clone(&login) });
    Ok(Done::Nothing)
}

fn waiting(step: &Step, id: &AuthId) -> Result<Arc<PendingLogin>, Refused> {
    let login = step.login(id).filter(|login| login.deadline > step.now()).ok_or(Refused::LoginNotFound)?;
    if login.verdict != Verdict::Waiting {
        return Err(Refused::LoginDecided);
    }
    Ok(login.clone())
}

fn node_for_login(step: &Step, login: &PendingLogin, approval: &Approval) -> Option<Arc<Node>> {
    let nodes: Vec<_> = step.nodes_of_machine(&login.machine_key).cloned().collect();
    let of_user = nodes.iter().find(|node| node.owner == Owner::User(approval.user)).cloned();
    let tagged = register::tagged_node(&nodes, &login.node_key);
    match approval.owner {
        Owner::User(_) => of_user.or(tagged),
        Owner::Tags(_) => tagged.or(of_user),
    }
}
