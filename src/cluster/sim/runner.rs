//! Runs seeds, each in a process of its own: what crates keep in statics, such as the
//! seeds of their random choices, begins anew there.
//!
//! `SIM_SEED=n` runs one; `SIM_SEEDS=n` that many new ones; `SIM_SECONDS=n` new ones for
//! that long. The last two come after all seeds that ever found something.

use super::disk::Fault;
use super::world::{self, Plan};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const CHILD: &str = "cluster::sim::runner::one_seed";
/// Seeds that a plain `cargo test` adds.
const FRESH: u64 = 2;
/// Only a loop takes this long.
const PATIENCE: Duration = Duration::from_secs(600);
/// Each with a comment that says what it found.
const SEEDS: &str = include_str!("seeds.txt");
/// How many runs it may take to find a fault that is there.
const TO_FIND: u64 = 40;

/// One simulation; the tests below start it in processes of their own.
#[test]
#[ignore = "needs SIM_SEED"]
fn one_seed() {
    let seed = number("SIM_SEED").expect("SIM_SEED says which seed");
    let fault = match std::env::var("SIM_FAULT").as_deref() {
        Ok("no sync") => Fault::NoSync,
        Ok("applied apart") => Fault::AppliedApart,
        _ => Fault::None,
    };
    let own_dir = tempfile::tempdir().unwrap();
    let dir = std::env::var("SIM_DIR").map_or_else(|_| own_dir.path().to_owned(), Into::into);
    let plan = Plan { seed, fault, dir, print: std::env::var("SIM_VERBOSE").is_ok() };
    let begun = Instant::now();
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE);
        println!("no end after {PATIENCE:?}");
        std::process::exit(3);
    });
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        // What is left of a replica whose core has panicked may never come to rest.
        println!("broken: {panic}");
        std::process::exit(2);
    }));
    // A thread of its own: its randomness begins with the simulation.
    match std::thread::spawn(move || world::run(plan)).join() {
        Ok(Ok(report)) => {
            println!("trace {} of {} events", report.trace.0, report.trace.1);
            println!(
                "seed {seed}: {} faults, {} log entries, {:?}, {:.1} s",
                report.faults,
                report.committed,
                report.count,
                begun.elapsed().as_secs_f64()
            );
        }
        Ok(Err(failure)) => {
            failure.last.iter().for_each(|line| println!("{line}"));
            println!("broken: {}", failure.why);
            std::process::exit(2);
        }
        Err(_) => std::process::exit(2),
    }
}

#[test]
fn simulated_clusters_keep_what_they_promise_under_every_fault() {
    if let Some(seed) = number("SIM_SEED") {
        let run = simulate(seed, "");
        println!("{}", run.output);
        assert!(run.good, "seed {seed} broke a promise");
        return;
    }
    let known = SEEDS.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let until = number("SIM_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let fresh = match until {
        Some(_) => u64::MAX,
        None => number("SIM_SEEDS").unwrap_or(FRESH),
    };
    let known: Vec<u64> = known.collect();
    let must = known.len();
    let seeds = known.into_iter().chain((0..fresh).map(|_| u64::from(rand::random::<u32>())));
    let goes_on = |n: usize| n < must || until.is_none_or(|until| Instant::now() < until);
    let (seeds, count, broken) = (Mutex::new(seeds.enumerate()), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((_, seed)) = next.filter(|(n, _)| goes_on(*n)) else { return };
            let run = simulate(seed, "");
            count.fetch_add(1, Ordering::Relaxed);
            println!("{}", run.output.lines().find(|line| line.starts_with("seed ")).unwrap_or("broken"));
            if !run.good {
                println!("{}\nseed {seed} broke a promise; again: make sim SEED={seed}", run.output);
                broken.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(work);
        }
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(broken.is_empty(), "of {} seeds these broke a promise: {broken:?}", count.into_inner());
}

#[test]
fn a_seed_run_twice_has_the_same_trace() {
    let seed = u64::from(rand::random::<u32>());
    let trace = |run: &Run| run.output.lines().find(|line| line.starts_with("trace ")).map(str::to_owned);
    let (first, second) = (simulate(seed, ""), simulate(seed, ""));
    let both = (trace(&first), trace(&second));
    assert!(both.0.is_some() && both.0 == both.1, "seed {seed}: {both:?}");
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    assert_found("no sync");
}

#[test]
fn an_applied_index_that_is_written_apart_from_its_records_is_found_out() {
    assert_found("applied apart");
}

fn assert_found(fault: &str) {
    let found = (1..=TO_FIND).find(|seed| simulate(*seed, fault).output.contains("\nbroken: "));
    assert!(found.is_some(), "{TO_FIND} seeds do not notice a disk with this fault: {fault}");
}

/// A finished simulation.
struct Run {
    good: bool,
    output: String,
}

fn simulate(seed: u64, fault: &str) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", CHILD, "--nocapture"])
        .env("SIM_SEED", seed.to_string())
        .env("SIM_FAULT", fault)
        .env("SIM_DIR", dir.path())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { good: child.status.success(), output: text(&child.stderr) + &text(&child.stdout) }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text:?}")))
}
