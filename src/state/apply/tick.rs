//! What becomes due with time.

use super::super::bookkeeping::Clock;
use super::super::table::{Incarnations, Logins, RememberedRequests, SshApprovals, SshChecks};
use super::super::*;
use super::dedupe::{IDEMPOTENCY_AGE, forget_outcomes};
use super::nodes;
use super::step::Step;
use std::time::Duration;

/// Everything that is due now.
pub(super) fn tick(step: &mut Step) -> Outcome {
    let now = step.now();
    while let Some((_, node)) = step.indexes.expiry.get_min().filter(|(time, _)| *time <= now).cloned() {
        step.edit_node(node, |node| node.expired = true)?;
    }
    while let Some((_, node)) = step.indexes.idle.get_min().filter(|(since, _)| idle_end(step, *since) <= now).cloned()
    {
        nodes::remove(step, node);
    }
    while let Some((_, id)) = step.indexes.login_deadline.get_min().filter(|(time, _)| *time <= now).cloned() {
        step.delete::<Logins>(&id);
    }
    while let Some((_, id)) = step.indexes.ssh_check_deadline.get_min().filter(|(time, _)| *time <= now).cloned() {
        step.delete::<SshChecks>(&id);
    }
    while let Some((_, from, to)) = step.indexes.ssh_approval_end.get_min().filter(|(time, ..)| *time <= now).copied() {
        step.delete::<SshApprovals>(&(from, to));
    }
    while let Some((_, id)) = step.indexes.incarnation.get_min().filter(|(time, _)| *time <= now).cloned() {
        forget_outcomes(step, id, u64::MAX);
        step.delete::<Incarnations>(&id);
    }
    while let Some((_, key)) =
        step.indexes.remembered_request.get_min().filter(|(at, _)| *at + IDEMPOTENCY_AGE <= now).cloned()
    {
        step.delete::<RememberedRequests>(&key);
    }
    Ok(Done::Nothing)
}

/// See [`State::next_due`].
pub(in crate::state) fn next_due(state: &State) -> Option<Time> {
    let ix = &state.indexes;
    let times = [
        ix.expiry.get_min().map(|(time, _)| *time),
        ix.idle.get_min().map(|(since, _)| idle_end(state, *since)),
        ix.login_deadline.get_min().map(|(time, _)| *time),
        ix.ssh_check_deadline.get_min().map(|(time, _)| *time),
        ix.ssh_approval_end.get_min().map(|(time, ..)| *time),
        ix.incarnation.get_min().map(|(time, _)| *time),
        ix.remembered_request.get_min().map(|(at, _)| *at + IDEMPOTENCY_AGE),
        // So that time without a leader can be told from time with one.
        ix.idle.get_min().map(|_| state.clock() + LEADER_PULSE),
    ];
    times.into_iter().flatten().min()
}

/// When a node goes that has been inactive since then, if there is a leader all the time.
fn idle_end(state: &State, since: Time) -> Time {
    let timeout = state.settings().map_or(Duration::MAX, |settings| settings.ephemeral_timeout);
    let clock = state.tables.clock.get(&()).map_or(Clock::default(), |clock| **clock);
    clock.wall(since + timeout)
}
