//! `make chaos`: a cluster of real processes under attack, while clients write
//! through all of its replicas; then everything that was acknowledged is looked for.
//!
//! Settings, by environment: `CHAOS_SECONDS` of attack (60), `CHAOS_REPLICAS` (3 or
//! 5), `CHAOS_SEED` (a random one, which is printed), `CHAOS_FAULTS` (only
//! faults whose name has this in it), `CHAOS_VERBOSE` (slow answers). The seed decides what is attempted and
//! in which order; processes and the network have their own will.

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

mod check;
mod dice;
mod history;
mod nemesis;
mod report;
mod workload;

use dice::Dice;
use history::History;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use support::Cluster;
use workload::Workload;

/// What a run may take beyond the attack: start, recovery, the last answers, checks.
const AROUND: Duration = Duration::from_secs(300);

/// The nemesis and the command line block a thread each while they wait for processes.
const THREADS: usize = 6;

struct Settings {
    seconds: u64,
    replicas: u64,
    seed: u64,
}

fn main() -> ExitCode {
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(reason) => {
            eprintln!("error: {reason}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let bound = Duration::from_secs(settings.seconds) + AROUND;
    match runtime.block_on(async { tokio::time::timeout(bound, run(settings)).await }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) => {
            eprintln!("FAILED: not done within {} s", bound.as_secs());
            ExitCode::FAILURE
        }
    }
}

impl Settings {
    fn read() -> Result<Settings, String> {
        let settings = Settings {
            seconds: number("CHAOS_SECONDS")?.unwrap_or(60),
            replicas: number("CHAOS_REPLICAS")?.unwrap_or(3),
            seed: number("CHAOS_SEED")?.unwrap_or_else(rand::random),
        };
        match settings.replicas {
            3 | 5 => Ok(settings),
            other => Err(format!("CHAOS_REPLICAS={other}: 3 or 5")),
        }
    }
}

fn number(name: &str) -> Result<Option<u64>, String> {
    match std::env::var(name) {
        Err(_) => Ok(None),
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|e| format!("{name}={text}: {e}")),
    }
}

/// Whether nothing was lost, nothing came twice, and something was tried.
async fn run(settings: Settings) -> bool {
    let Settings { seconds, replicas, seed } = settings;
    println!("chaos: {seconds} s on {replicas} replicas, SEED={seed}");
    check::check_the_checker();
    let dice = Dice::new(seed);
    let mut cluster = Cluster::start(replicas).await;
    let history = Arc::new(History::default());
    let workload = Workload::start(&cluster, &history, &dice).await;

    let attacks = nemesis::attack(&mut cluster, Duration::from_secs(seconds), dice.split("nemesis"), &history).await;
    let driver = workload.stop().await;
    cluster.healthy().await;

    let findings = check::check(&cluster, &history, &driver, dice.split("check")).await;
    report::print(&attacks, &history, &findings);
    let good = findings.is_empty() && report::vacuous(&attacks, &history).is_none();
    if !good {
        println!("\nFAILED: SEED={seed}");
    }
    good
}
