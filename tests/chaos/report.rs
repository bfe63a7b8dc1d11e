//! The table.

use crate::check::Findings;
use crate::history::{History, Outcome};
use crate::nemesis::{Attack, Fault};
use std::time::Duration;

/// Examples of each kind of finding.
const EXAMPLES: usize = 5;

pub fn print(attacks: &[Attack], history: &History, findings: &Findings) {
    println!("\n{:<28} {:>5} {:>16} {:>9} {:>12}", "fault", "times", "longest gap (s)", "elections", "slowest stop");
    for fault in Fault::ALL {
        let of: Vec<&Attack> = attacks.iter().filter(|attack| attack.fault == fault && attack.held).collect();
        if of.is_empty() {
            continue;
        }
        let gap = of.iter().map(|attack| history.longest_gap(attack.from, attack.to)).max();
        let elections: u64 = of.iter().map(|attack| attack.elections).sum();
        let stop = of.iter().filter_map(|attack| attack.slowest_stop).max();
        println!(
            "{:<28} {:>5} {:>15.2}{} {:>9} {:>12}",
            fault.name(),
            of.len(),
            gap.unwrap_or_default().as_secs_f64(),
            if fault.takes_the_quorum() { "*" } else { " " },
            elections,
            stop.map_or("-".into(), |stop| format!("{:.1} s", stop.as_secs_f64())),
        );
    }
    println!("* the quorum is gone for most of that time");
    let spurious: u64 = attacks.iter().map(|attack| attack.spurious).sum();
    println!("elections between faults: {spurious}");
    let events = history.events();
    println!(
        "operations: {} done, {} refused, {} unknown; {} races for a single-use key; refused without a quorum after {:.1} s at most",
        events.count(Outcome::Done),
        events.count(Outcome::Refused),
        events.count(Outcome::Unknown),
        events.races.len(),
        events.slowest_refusal.as_secs_f64(),
    );
    for (kind, list) in findings.all() {
        println!("{kind}: {}", list.len());
        list.iter().take(EXAMPLES).for_each(|one| println!("    {one}"));
    }
    drop(events);
    if let Some(reason) = vacuous(attacks, history) {
        println!("vacuous: {reason}");
    }
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
