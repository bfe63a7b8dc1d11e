//! What clients asked and heard, and whether one after the other could have led to it.
//!
//! The committed log is the order to check against: every request that had an answer
//! must be in it, with that answer, at a place that fits real time; a read must show the
//! state at one place of it. If all that holds, the history is linearizable. What timed
//! out may be in it or not.

use super::clients::{Answer, Ask, ClientId};
use super::reference::{Logged, Reference, Violation};
use crate::state::{Command, Done, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// A request and its answer.
pub struct Operation {
    pub client: ClientId,
    pub ask: Ask,
    pub begun: u64,
    /// `None`: still under way when the simulation ended.
    pub ended: Option<u64>,
    pub answer: Answer,
}

/// What happened in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub done: usize,
    pub refused: usize,
    pub never: usize,
    pub unknown: usize,
    pub reads: usize,
    pub streams: usize,
}

/// Checks a whole history.
pub fn check(history: &[Operation], reference: &mut Reference) -> Result<Count, Violation> {
    check_once(reference)?;
    let mut by_name: BTreeMap<String, Vec<(u64, Outcome)>> = BTreeMap::new();
    for logged in &reference.commands {
        if let Some(name) = name(&logged.proposal.command) {
            by_name.entry(name).or_default().push((logged.index, logged.outcome.clone()));
        }
    }
    // (when it was known, up to which index)
    let mut known: Vec<(u64, u64)> = Vec::new();
    let mut ended: Vec<&Operation> = history.iter().filter(|op| op.ended.is_some()).collect();
    ended.sort_by_key(|op| op.ended);
    let unknown = history.len() - ended.len();
    let mut count = Count { unknown, ..Count::default() };
    for op in ended {
        let floor = known.iter().rev().filter(|(at, _)| *at < op.begun).map(|(_, index)| *index).max().unwrap_or(0);
        let at = op.ended.unwrap_or(u64::MAX);
        match (&op.ask, &op.answer) {
            (_, Answer::Read(state)) => {
                count.reads += 1;
                if state.index() < floor {
                    return Err(format!(
                        "a read showed {}, after {floor} had been shown or acknowledged: of client {}, from {} to {at} us",
                        state.index(),
                        op.client,
                        op.begun
                    ));
                }
                if state.hash() != reference.hash(state.index()) {
                    return Err(format!("a read showed a state that was never there, at {}", state.index()));
                }
                known.push((at, state.index()));
            }
            (Ask::Write { command, .. }, Answer::Done(_) | Answer::Refused(_)) => {
                let outcome = match &op.answer {
                    Answer::Done(done) => Ok(done.clone()),
                    Answer::Refused(refused) => Err(refused.clone()),
                    _ => continue,
                };
                match outcome {
                    Ok(_) => count.done += 1,
                    Err(_) => count.refused += 1,
                }
                let Some(name) = name(command) else { continue };
                let places = by_name.get(&name).map_or(&[][..], Vec::as_slice);
                let place = places.iter().find(|(index, logged)| *index > floor && *logged == outcome);
                let Some((index, _)) = place else {
                    return Err(format!(
                        "client {} was told {outcome:?} of {name}, which the log does not say after {floor}: {places:?}",
                        op.client
                    ));
                };
                known.push((at, *index));
            }
            (Ask::Write { .. }, Answer::Never) => count.never += 1,
            (_, Answer::Streamed(begun)) => count.streams += usize::from(*begun),
            (_, Answer::Unknown | Answer::Never) => count.unknown += 1,
            (Ask::Read | Ask::Stream { .. }, _) => {}
        }
    }
    check_never(history, &by_name)?;
    Ok(count)
}

/// What a command that is sent once is known by.
fn name(command: &Command) -> Option<String> {
    Some(match command {
        Command::CreateUser { name, .. } => format!("user {name}"),
        Command::RenameUser { name, .. } => format!("new name {name}"),
        Command::CreatePreAuthKey { prefix, .. } => format!("key {prefix}"),
        Command::RegisterWithKey { registration, .. } => format!("machine {}", registration.machine_key),
        Command::SetPolicy { text, .. } => format!("policy {text}"),
        _ => return None,
    })
}

/// What was refused for want of a quorum, each time that it was asked, is not there.
fn check_never(history: &[Operation], by_name: &BTreeMap<String, Vec<(u64, Outcome)>>) -> Result<(), Violation> {
    let mut never: BTreeMap<String, bool> = BTreeMap::new();
    for op in history {
        if let Ask::Write { command, .. } = &op.ask
            && let Some(name) = name(command)
        {
            *never.entry(name).or_insert(true) &= matches!(op.answer, Answer::Never) && op.ended.is_some();
        }
    }
    for (name, _) in never.into_iter().filter(|(_, never)| *never) {
        if let Some((index, _)) = by_name.get(&name).into_iter().flatten().find(|(_, outcome)| outcome.is_ok()) {
            return Err(format!("{name} was refused as not written, and is there, at {index}"));
        }
    }
    Ok(())
}

/// Nothing is applied twice; what is unique is unique; a single-use key is used once.
fn check_once(reference: &Reference) -> Result<(), Violation> {
    let mut done: BTreeMap<String, &Done> = BTreeMap::new();
    let mut reusable: BTreeMap<&str, bool> = BTreeMap::new();
    let mut users_of_key: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut requests = BTreeMap::new();
    for Logged { index, proposal, outcome } in &reference.commands {
        let request = (proposal.request.incarnation, proposal.request.sequence);
        let first: &mut (&Command, Vec<&Outcome>) = requests.entry(request).or_insert((&proposal.command, Vec::new()));
        if *first.0 != proposal.command {
            return Err(format!("two commands are called {request:?}, the second at {index}"));
        }
        if outcome.is_ok() && first.1.iter().any(|other| other.is_ok() && *other != outcome) {
            return Err(format!("request {request:?} had two outcomes, the second at {index}"));
        }
        first.1.push(outcome);
        let (Ok(what), Some(name)) = (outcome, name(&proposal.command)) else { continue };
        match &proposal.command {
            Command::CreatePreAuthKey { prefix, reusable: many, .. } => drop(reusable.insert(prefix, *many)),
            Command::RegisterWithKey { prefix, .. } => {
                users_of_key.entry(prefix).or_default().insert(name.clone());
            }
            _ => {}
        }
        if let Some(before) = done.insert(name.clone(), what)
            && before != what
        {
            return Err(format!("{name} was done twice: {before:?}, and {what:?} at {index}"));
        }
    }
    for (prefix, machines) in users_of_key {
        if reusable.get(prefix) != Some(&true) && machines.len() > 1 {
            return Err(format!("the single-use key {prefix} was used by {machines:?}"));
        }
    }
    let mut ids = BTreeSet::new();
    for (name, what) in &done {
        let id = match what {
            Done::User(user) if name.starts_with("user ") => format!("user {}", user.id),
            Done::Node(node) => format!("node {node}"),
            Done::PreAuthKey(key) => format!("key {}", key.id),
            Done::PolicyVersion(version) => format!("policy {version}"),
            _ => continue,
        };
        if !ids.insert(id.clone()) {
            return Err(format!("{name} has the id of something else: {id}"));
        }
    }
    Ok(())
}
