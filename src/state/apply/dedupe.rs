//! No request is applied twice, however often it is retried.

use super::super::bookkeeping::{Incarnation, RememberedRequest};
use super::super::table::{Incarnations, RememberedRequests, Requests};
use super::super::*;
use super::step::Step;
use std::time::Duration;

/// How long a process that asks for nothing is remembered; deadlines are far shorter.
pub(super) const INCARNATION_IDLE: Duration = Duration::from_secs(10 * 60);
/// How many outcomes are kept for a process that acknowledges none. Proposers
/// have far fewer requests under way; the oldest are then refused as too late.
const MAX_OUTCOMES: u64 = 65_536;
/// How long an `Idempotency-Key` is remembered.
pub(super) const IDEMPOTENCY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How many are remembered: a few megabytes. The oldest go first.
const MAX_IDEMPOTENCY_KEYS: usize = 10_000;

/// Applies a proposal unless it was applied before; its first outcome otherwise.
pub(super) fn once(step: &mut Step, proposal: &Proposal, run: impl FnOnce(&mut Step) -> Outcome) -> Outcome {
    let RequestId { incarnation, sequence, acknowledged } = proposal.request;
    if let Some(outcome) = step.tables.requests.get(&(incarnation, sequence)) {
        return Outcome::clone(outcome);
    }
    let known = step.tables.incarnations.get(&incarnation).map_or(Incarnation::default(), |known| **known);
    if sequence <= known.acknowledged || proposal.deadline < step.now() {
        return Err(Refused::TooLate);
    }
    let outcome = match &proposal.idempotency_key {
        None => run(step),
        Some(key) => once_a_day(step, key, &proposal.command, run),
    };
    let mark = known.acknowledged.max(acknowledged).max(sequence.saturating_sub(MAX_OUTCOMES));
    let forget_at = (step.now() + INCARNATION_IDLE).max(proposal.deadline).max(known.forget_at);
    step.put::<Incarnations>(incarnation, Incarnation { acknowledged: mark, forget_at });
    step.put::<Requests>((incarnation, sequence), outcome.clone());
    forget_outcomes(step, incarnation, mark);
    outcome
}

/// Forgets what a process has acknowledged, or (`u64::MAX`) all that it asked.
pub(super) fn forget_outcomes(step: &mut Step, incarnation: u64, up_to: u64) {
    let range = step.tables.requests.range((incarnation, 0)..=(incarnation, up_to));
    let forgotten: Vec<_> = range.map(|(key, _)| *key).collect();
    for key in forgotten {
        step.delete::<Requests>(&key);
    }
}

fn once_a_day(step: &mut Step, key: &str, command: &Command, run: impl FnOnce(&mut Step) -> Outcome) -> Outcome {
    let fingerprint = fingerprint(command);
    if let Some(first) = step.tables.remembered_requests.get(key)
        && first.at + IDEMPOTENCY_AGE > step.now()
    {
        let same = first.fingerprint == fingerprint;
        return if same { Ok(first.done.clone()) } else { Err(Refused::IdempotencyKeyReused(key.into())) };
    }
    let done = run(step)?;
    let request = RememberedRequest { fingerprint, done: done.clone(), at: step.now() };
    step.put::<RememberedRequests>(key.into(), request);
    while step.tables.remembered_requests.len() > MAX_IDEMPOTENCY_KEYS
        && let Some((_, oldest)) = step.indexes.remembered_request.get_min().cloned()
    {
        step.delete::<RememberedRequests>(&oldest);
    }
    Ok(done)
}

/// What was asked for: the command without what each proposer adds to it anew.
fn fingerprint(command: &Command) -> SecretHash {
    let mut command = command.clone();
    match &mut command {
        Command::ApproveLogin { policy_version, seed, v4_pools, .. } => {
            (*policy_version, *seed) = (0, 0);
            v4_pools.clear();
        }
        Command::SetTags { policy_version, .. } => *policy_version = 0,
        Command::BackfillIps { seed } => *seed = 0,
        Command::Import { sealed, .. } => sealed.clear(),
        Command::RegisterWithKey { registration, .. } => {
            registration.seed = 0;
            registration.v4_pools.clear();
        }
        _ => {}
    }
    SecretHash::of(&serde_json::to_string(&command).expect("commands have string keys"))
}
