//! `make chaos`: a cluster of real processes under attack, while clients write
//! through all of its replicas and nodes hold their streams; then everything that was
//! acknowledged is looked for, and everything that was answered is explained.
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
mod fault;
mod history;
mod linear;
mod nemesis;
mod objects;
mod report;
mod sandbox;
mod stock;
mod streams;
mod workload;

use dice::Dice;
use history::History;
use objects::Told;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use streams::Streams;
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
    // Before there is another thread.
    sandbox::enter();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let bound = Duration::from_secs(settings.seconds) + AROUND;
    let good = runtime.block_on(async { tokio::time::timeout(bound, run(settings)).await });
    runtime.shutdown_background();
    sandbox::leave();
    match good {
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

/// Whether nothing was lost, nothing came twice, nobody noticed, and something was tried.
async fn run(settings: Settings) -> bool {
    let Settings { seconds, replicas, seed } = settings;
    println!("chaos: {seconds} s on {replicas} replicas, SEED={seed}");
    check::check_the_checker();
    linear::check_the_checker();
    let dice = Dice::new(seed);
    let means = sandbox::means();
    let mut cluster = Cluster::start_with(replicas, means.settings()).await;
    let owner = cluster.create_user(1, "owner");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &owner, "--reusable", "-e", "24h"]);

    let history = Arc::new(History::default());
    let streams = Streams::start(&cluster, replicas, &key).await;
    history.events().watchers = streams.count();
    let stock = stock::Stock::start(&cluster, replicas, &key, &history).await;
    let workload = Workload::start(&cluster, replicas as usize, &key, &history, &dice).await;
    let (told, stop) = (Arc::new(Told::default()), Arc::new(AtomicBool::new(false)));
    let clients = (0..replicas as usize).map(|number| objects::Client {
        number,
        home: number,
        dice: dice.split(&format!("objects {number}")),
        driver: workload.driver.clone(),
        told: told.clone(),
        nodes: streams.named(),
        count: 0,
    });
    let objects = tokio::spawn(objects::all(clients.collect(), stop.clone()));

    let nemesis = nemesis::Nemesis { size: replicas, means, dice: dice.split("nemesis"), history: &history };
    let attacks = nemesis.attack(&mut cluster, Duration::from_secs(seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let driver = workload.stop().await;
    objects.await.expect("no client panics");
    cluster.healthy().await;

    streams.hear_the_last_change(&cluster, &history).await;
    stock.end(&history).await;
    let mut findings = check::check(&cluster, &history, &driver, dice.split("check")).await;
    findings.nonlinear = told.wrong();
    findings.streams = streams.findings(&attacks);
    report::print(&report::Run { attacks: &attacks, history: &history, streams: &streams, told: &told }, &findings);
    let good = findings.is_empty() && report::vacuous(&attacks, &history).is_none();
    if !good {
        println!("\nFAILED: SEED={seed}");
    }
    good
}
