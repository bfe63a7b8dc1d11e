//! Runs seeds, each in a process of its own: what crates keep in statics, such as the
//! seeds of their random choices, begins anew there.

use super::disk::Fault;
use super::world::{self, Plan};
use std::process::{Command, Output};

const CHILD: &str = "cluster::sim::runner::child";

fn seed(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}

/// One simulation, when the environment says which.
#[test]
#[ignore = "a part of the others"]
fn child() {
    let seed = seed("SIM_SEED").expect("SIM_SEED says which seed");
    let fault = match std::env::var("SIM_FAULT").as_deref() {
        Ok("no sync") => Fault::NoSync,
        Ok("applied apart") => Fault::AppliedApart,
        _ => Fault::None,
    };
    let print = std::env::var("SIM_VERBOSE").is_ok();
    let begun = std::time::Instant::now();
    // Randomness of a thread is seeded with the first that it needs.
    let run = std::thread::spawn(move || world::run(Plan { seed, fault, print }));
    match run.join() {
        Ok(Ok(report)) => {
            println!("seed {seed}: trace {} of {} events", report.trace.0, report.trace.1);
            println!(
                "{:?}, {} faults, {} entries, {:?}",
                report.count,
                report.faults,
                report.committed,
                begun.elapsed()
            );
        }
        Ok(Err(failure)) => {
            failure.last.iter().for_each(|line| println!("{line}"));
            panic!("seed {seed}: {}", failure.why);
        }
        Err(_) => panic!("seed {seed}: the simulation itself panicked"),
    }
}

#[allow(dead_code)]
fn simulate(seed: u64, fault: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", CHILD, "--nocapture"])
        .env("SIM_SEED", seed.to_string())
        .env("SIM_FAULT", fault)
        .output()
        .unwrap()
}
