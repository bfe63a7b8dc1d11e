//! Watches this machine: room and speed of its disk, and its clock. A leader on a machine
//! that is not well leaves the lead to one that is.

use super::membership::members;
use super::replica::Replica;
use super::status::{Problem, ProblemKind};
use super::wire;
use crate::state::ReplicaId;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How often.
const ROUND: Duration = Duration::from_secs(1);
/// How long nothing is tried after the lead was given away, or nobody was found to take it:
/// two slow machines must not play ping-pong.
const PAUSE: Duration = Duration::from_secs(30);
const PAUSE_WHEN_LOW: Duration = Duration::from_secs(3);

impl Replica {
    /// Until this replica stops.
    pub async fn watch_machine(self: Arc<Self>) {
        let mut not_before = Instant::now();
        loop {
            self.look_at_space();
            let off = self.clocks.problem();
            self.say_when_new(ProblemKind::ClockOff, off);
            self.say_when_new(ProblemKind::DiskSlow, self.syncs.problem());
            let low = self.space.is_low();
            if *self.leads.borrow() && (low || self.syncs.slow().is_some()) && Instant::now() >= not_before {
                self.give_way().await;
                not_before = Instant::now() + if low { PAUSE_WHEN_LOW } else { PAUSE };
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// What is wrong with this replica's machine, or with the cluster as this replica knows it.
    pub fn problems(&self) -> Vec<Problem> {
        let differ = self.integrity.halted().map(|text| Problem { kind: ProblemKind::NoMajority, text });
        let low = self.space.problem().map(|text| Problem { kind: ProblemKind::DiskLow, text });
        let slow = self.syncs.problem().map(|text| Problem { kind: ProblemKind::DiskSlow, text });
        let clock = self.clocks.problem().map(|text| Problem { kind: ProblemKind::ClockOff, text });
        [differ, low, slow, clock].into_iter().flatten().collect()
    }

    /// Hands the lead to the voter that is most up to date among those that are well.
    async fn give_way(&self) {
        let answers = self.ask_all().await;
        let membership = self.metrics();
        let voters = members(membership.membership_config.membership());
        let well = |answer: &wire::StatusResponse| {
            !answer.problems.iter().any(|problem| ProblemKind::named(&problem.kind).forbids_leading())
        };
        let able = answers.iter().filter_map(|(id, answer)| {
            let answer = answer.as_ref().ok()?;
            let votes = voters.get(id).is_some_and(|(_, votes)| *votes);
            (*id != self.id && votes && well(answer)).then_some((answer.applied, *id))
        });
        let Some((_, to)) = able.max() else { return };
        tracing::warn!("this replica's disk is not well: replica {to} is to lead");
        if let Err(reason) = self.transfer(Some(to)).await {
            tracing::warn!("the lead was not handed over: {reason}");
        }
    }

    /// Logs a problem when it comes and when it goes.
    fn say_when_new(&self, kind: ProblemKind, problem: Option<String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(text) if said.insert(kind) => tracing::warn!("{}", text.replacen("its", "this machine's", 1)),
            None if said.remove(&kind) => tracing::info!("{}: well again", kind.name()),
            _ => {}
        }
    }
}

impl From<Problem> for wire::Problem {
    fn from(problem: Problem) -> Self {
        Self { kind: problem.kind.name().into(), text: problem.text }
    }
}

/// What another replica says of itself; of a newer release perhaps something unknown, which
/// its text explains.
pub fn problem(problem: &wire::Problem) -> Problem {
    Problem { kind: ProblemKind::named(&problem.kind), text: problem.text.clone() }
}

impl Replica {
    /// The question how another replica is, with this machine's time.
    pub fn status_request(&self) -> wire::StatusRequest {
        wire::StatusRequest { time_ms: self.time_ms() }
    }

    /// This machine's clock, for others.
    pub fn time_ms(&self) -> u64 {
        u64::try_from(self.clocks.own().0).unwrap_or(0)
    }

    /// Remembers what another replica's clock says.
    pub fn note_clock(&self, id: ReplicaId, time_ms: u64) {
        if id != self.id {
            self.clocks.note(id, time_ms);
        }
    }
}
