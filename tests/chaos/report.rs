//! The table.

use crate::check::Findings;
use crate::fault::Fault;
use crate::history::{History, Outcome};
use crate::nemesis::Attack;
use crate::objects::Told;
use crate::streams::{Moved, Streams};
use std::time::Duration;

/// Examples of each kind of finding.
const EXAMPLES: usize = 5;

/// What a run was made of.
pub struct Run<'a> {
    pub attacks: &'a [Attack],
    pub history: &'a History,
    pub streams: &'a Streams,
    pub told: &'a Told,
}

pub fn print(run: &Run, findings: &Findings) {
    println!(
        "\n{:<30} {:>5} {:>11} {:>7} {:>8} {:>8} {:>9} {:>6}",
        "fault", "times", "longest gap", "moved", "away", "offline", "elections", "stop"
    );
    for fault in Fault::ALL {
        row(run, *fault);
    }
    println!("* the quorum is gone for most of that time");
    let attacks = run.attacks;
    let spurious: u64 = attacks.iter().map(|attack| attack.spurious).sum();
    println!("elections between faults: {spurious}");
    let mut gaps: Vec<Duration> = of(attacks, Fault::KillLeader).map(|(_, attack)| gap(run, attack)).collect();
    gaps.sort();
    if let Some(last) = gaps.last() {
        let middle = gaps[gaps.len() / 2].as_secs_f64();
        println!("next write after SIGKILL of the leader: p50 {middle:.2} s, longest {:.2} s", last.as_secs_f64());
    }
    let events = run.history.events();
    println!(
        "operations: {} done, {} refused, {} unknown; {} races for a single-use key; refused without a quorum after {:.1} s at most",
        events.count(Outcome::Done),
        events.count(Outcome::Refused),
        events.count(Outcome::Unknown),
        events.races.len(),
        events.slowest_refusal.as_secs_f64(),
    );
    let (operations, objects) = run.told.size();
    println!("linearizable: {operations} operations on {objects} shared objects; {} streams", run.streams.count());
    for (kind, list) in findings.all() {
        println!("{kind}: {}", list.len());
        list.iter().take(EXAMPLES).for_each(|one| println!("    {one}"));
    }
    drop(events);
    if let Some(reason) = vacuous(attacks, run.history) {
        println!("vacuous: {reason}");
    }
}

fn row(run: &Run, fault: Fault) {
    let of: Vec<(usize, &Attack)> = of(run.attacks, fault).collect();
    if of.is_empty() {
        return;
    }
    let longest = of.iter().map(|(_, attack)| gap(run, attack)).max().unwrap_or_default();
    let moved: Vec<Moved> = of.iter().map(|(index, _)| run.streams.during(run.attacks, *index)).collect();
    let away = moved.iter().map(|moved| moved.longest).max().unwrap_or_default();
    let stop = of.iter().filter_map(|(_, attack)| attack.slowest_stop).max();
    println!(
        "{:<30} {:>5} {:>9.2} s{} {:>6} {:>6.2} s {:>8} {:>9} {:>6}",
        fault.name(),
        of.len(),
        longest.as_secs_f64(),
        if fault.takes_the_quorum() { "*" } else { " " },
        moved.iter().map(|moved| moved.streams).sum::<usize>(),
        away.as_secs_f64(),
        moved.iter().map(|moved| moved.marks.len()).sum::<usize>(),
        of.iter().map(|(_, attack)| attack.elections).sum::<u64>(),
        stop.map_or("-".into(), |stop| format!("{:.1} s", stop.as_secs_f64())),
    );
}

/// Attacks that took hold.
fn of(attacks: &[Attack], fault: Fault) -> impl Iterator<Item = (usize, &Attack)> {
    attacks.iter().enumerate().filter(move |(_, attack)| attack.fault == fault && attack.held)
}

fn gap(run: &Run, attack: &Attack) -> Duration {
    run.history.longest_gap(attack.from, attack.to)
}

/// Why a run without findings proves nothing, if it does not.
pub fn vacuous(attacks: &[Attack], history: &History) -> Option<&'static str> {
    let held = |attack: &&Attack| attack.held;
    if !attacks.iter().any(|attack| held(&attack)) {
        return Some("no fault took hold");
    }
    let events = history.events();
    if events.count(Outcome::Done) == 0 {
        return Some("nothing was written");
    }
    // Each fault must have met writes: some before it, some after.
    let met = |attack: &Attack| {
        events.acknowledged.iter().any(|at| *at < attack.from) && events.acknowledged.iter().any(|at| *at > attack.from)
    };
    if !attacks.iter().filter(held).all(met) {
        return Some("a fault met no writes");
    }
    let lasted = attacks.iter().map(|attack| attack.to - attack.from).sum::<Duration>();
    (lasted < Duration::from_millis(500)).then_some("the faults lasted less than half a second")
}
