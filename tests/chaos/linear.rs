//! Whether a history is linearizable: whether each operation can be given one moment
//! between its request and its answer, so that in the order of these moments every
//! answer is right (Herlihy, Wing). The search is Wing and Gong's, with the memory of
//! Lowe ("Testing for linearizability"); histories of different objects are checked one
//! by one, which is enough, because linearizability is local.
//!
//! An operation without an answer may take effect at any time after its request, or never.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

/// What is searched for one object at most: beyond it, nobody knows.
const MOST_STEPS: usize = 3_000_000;

/// How one object behaves when it is used by one caller after the other.
pub trait Operation: Clone + Debug {
    type State: Clone + Eq + Hash + Default;

    /// The state after this operation; `None`: its answer is wrong in that state.
    fn apply(&self, state: &Self::State) -> Option<Self::State>;
}

/// An operation as its caller saw it.
#[derive(Clone, Debug)]
pub struct Call<O> {
    pub operation: O,
    pub from: Instant,
    /// `None`: there was no answer.
    pub to: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains the answers.
    Wrong,
    /// The search was given up.
    Undecided,
}

/// Set of operations, as bits.
type Done = Vec<u64>;

pub fn check<O: Operation>(mut calls: Vec<Call<O>>) -> Verdict {
    calls.sort_by_key(|call| call.from);
    let none: Done = vec![0; calls.len().div_ceil(64)];
    let mut open = vec![(none, O::State::default())];
    let mut seen: HashSet<(Done, O::State)> = HashSet::new();
    while let Some((done, state)) = open.pop() {
        let next = candidates(&calls, &done);
        let answered = |index: &usize| calls[*index].to.is_some();
        if !next.iter().any(answered) {
            return Verdict::Linearizable;
        }
        if seen.len() > MOST_STEPS {
            return Verdict::Undecided;
        }
        for index in next {
            let Some(after) = calls[index].operation.apply(&state) else { continue };
            let mut done = done.clone();
            done[index / 64] |= 1 << (index % 64);
            let step = (done, after);
            if seen.insert(step.clone()) {
                open.push(step);
            }
        }
    }
    Verdict::Wrong
}

/// Operations that may be the next one, the likeliest last: those that began before
/// any other that is still to come had its answer.
fn candidates<O>(calls: &[Call<O>], done: &Done) -> Vec<usize> {
    let mut earliest: Option<Instant> = None;
    let mut found: Vec<usize> = Vec::new();
    for (index, call) in calls.iter().enumerate() {
        if done[index / 64] & (1 << (index % 64)) != 0 {
            continue;
        }
        if earliest.is_some_and(|earliest| call.from > earliest) {
            break;
        }
        if let Some(to) = call.to {
            earliest = Some(earliest.map_or(to, |earliest| earliest.min(to)));
        }
        found.push(index);
    }
    found.retain(|index| earliest.is_none_or(|earliest| calls[*index].from <= earliest));
    // Those without an answer are tried when nothing else explains what was seen.
    found.sort_by_key(|index| std::cmp::Reverse((calls[*index].to.is_none(), calls[*index].to)));
    found
}

// ---- Objects ----

/// The policy, or a node's name: what was written last is what is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Register {
    Write(String),
    Read(String),
}

impl Operation for Register {
    /// Nothing was written yet: then anything may be there, and stays.
    type State = Option<String>;

    fn apply(&self, state: &Self::State) -> Option<Self::State> {
        match self {
            Register::Write(value) => Some(Some(value.clone())),
            Register::Read(value) => state.as_ref().is_none_or(|there| there == value).then(|| Some(value.clone())),
        }
    }
}

/// A user's name, which one user at a time can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `None` in the answer's place: it is not known.
    Create(Option<Created>),
    /// Deletes the user with this id; whether it was there.
    Delete(String, Option<bool>),
    /// The id of the user with this name.
    Read(Option<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    Made(String),
    Exists,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Holder {
    #[default]
    Nobody,
    User(String),
    /// Whoever created it does not know the id.
    Somebody,
}

impl Operation for Name {
    type State = Holder;

    fn apply(&self, state: &Holder) -> Option<Holder> {
        let is_free = *state == Holder::Nobody;
        match self {
            Name::Create(Some(Created::Made(id))) => is_free.then(|| Holder::User(id.clone())),
            Name::Create(Some(Created::Exists)) => (!is_free).then(|| state.clone()),
            Name::Create(None) => Some(if is_free { Holder::Somebody } else { state.clone() }),
            Name::Delete(id, answer) => {
                let holds = match state {
                    Holder::Nobody => false,
                    Holder::User(there) => there == id,
                    Holder::Somebody => answer.unwrap_or(true),
                };
                match answer {
                    Some(found) if *found != holds => None,
                    _ if holds => Some(Holder::Nobody),
                    _ => Some(state.clone()),
                }
            }
            Name::Read(None) => is_free.then_some(Holder::Nobody),
            Name::Read(Some(id)) => match state {
                Holder::Nobody => None,
                Holder::User(there) => (there == id).then(|| state.clone()),
                Holder::Somebody => Some(Holder::User(id.clone())),
            },
        }
    }
}

/// A pre-authenticated key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthKey {
    /// The first operation: whether one machine only may use it.
    Made {
        once: bool,
    },
    /// A machine registers with it.
    Use(String, Option<Used>),
    Expire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    In,
    /// Another machine has used it.
    Spent,
    Expired,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyState {
    once: bool,
    expired: bool,
    machines: Vec<String>,
}

impl Operation for AuthKey {
    type State = KeyState;

    fn apply(&self, state: &KeyState) -> Option<KeyState> {
        let mut after = state.clone();
        match self {
            AuthKey::Made { once } => after.once = *once,
            AuthKey::Expire => after.expired = true,
            AuthKey::Use(machine, answer) => {
                // A machine that is in may say so again.
                let is_in = state.machines.contains(machine);
                let spent = state.once && !state.machines.is_empty() && !is_in;
                let lets_in = is_in || (!spent && !state.expired);
                let right = match answer {
                    None => true,
                    Some(Used::In) => lets_in,
                    Some(Used::Spent) => spent,
                    Some(Used::Expired) => state.expired && !is_in,
                };
                if !right {
                    return None;
                }
                if lets_in && !is_in {
                    after.machines.push(machine.clone());
                    after.machines.sort();
                }
            }
        }
        Some(after)
    }
}

/// A search that finds everything linearizable would be worse than none.
pub fn check_the_checker() {
    use std::time::Duration;
    let zero = Instant::now();
    let at = |second: u64| zero + Duration::from_secs(second);
    fn judged<O: Operation>(calls: &[(O, Instant, Option<Instant>)]) -> Verdict {
        let call = |(operation, from, to): &(O, Instant, Option<Instant>)| Call {
            operation: operation.clone(),
            from: *from,
            to: *to,
        };
        check(calls.iter().map(call).collect())
    }
    use Register::{Read, Write};
    let (a, b) = || -> (String, String) { ("a".into(), "b".into()) }();
    let write = |value: &String, from, to: Option<u64>| (Write(value.clone()), at(from), to.map(at));
    let read = |value: &String, from, to| (Read(value.clone()), at(from), Some(at(to)));
    let good = Verdict::Linearizable;
    assert_eq!(judged(&[write(&a, 0, Some(1)), write(&b, 2, Some(5)), read(&a, 3, 4), read(&b, 6, 7)]), good);
    assert_eq!(judged(&[write(&a, 0, Some(1)), write(&b, 2, None), read(&a, 3, 4), read(&b, 9, 10)]), good);
    // A stale read; a read that goes back; a write that was lost; one that came from nowhere.
    let stale = [write(&a, 0, Some(1)), write(&b, 2, Some(3)), read(&a, 4, 5)];
    let back = [write(&a, 0, Some(1)), write(&b, 2, None), read(&b, 3, 4), read(&a, 5, 6)];
    let nowhere = [write(&a, 0, Some(1)), read(&b, 2, 3)];
    for wrong in [&stale[..], &back, &nowhere] {
        assert_eq!(judged(wrong), Verdict::Wrong, "{wrong:?}");
    }

    let made = |id: &str| Name::Create(Some(Created::Made(id.into())));
    let twice = [(made("1"), at(0), Some(at(2))), (made("2"), at(1), Some(at(3)))];
    let gone = [(made("1"), at(0), Some(at(1))), (Name::Read(None), at(2), Some(at(3)))];
    let undead = [
        (made("1"), at(0), Some(at(1))),
        (Name::Delete("1".into(), Some(true)), at(2), Some(at(3))),
        (Name::Read(Some("1".into())), at(4), Some(at(5))),
    ];
    for wrong in [&twice[..], &gone, &undead] {
        assert_eq!(judged(wrong), Verdict::Wrong, "{wrong:?}");
    }
    let late = [(Name::Create(None), at(0), None), (Name::Read(Some("7".into())), at(8), Some(at(9)))];
    assert_eq!(judged(&late), good);

    let used = |machine: &str, answer, from, to| (AuthKey::Use(machine.into(), Some(answer)), at(from), Some(at(to)));
    let once = (AuthKey::Made { once: true }, at(0), Some(at(1)));
    let both = [once.clone(), used("m1", Used::In, 2, 5), used("m2", Used::In, 3, 4)];
    let none = [once.clone(), used("m1", Used::Spent, 2, 5), used("m2", Used::Spent, 3, 4)];
    let expired = [once.clone(), (AuthKey::Expire, at(2), Some(at(3))), used("m1", Used::In, 4, 5)];
    for wrong in [&both[..], &none, &expired] {
        assert_eq!(judged(wrong), Verdict::Wrong, "{wrong:?}");
    }
    assert_eq!(judged(&[once, used("m1", Used::In, 2, 5), used("m2", Used::Spent, 3, 4)]), good);
}
