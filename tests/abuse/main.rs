//! `make abuse`: a replica is flooded in one way after the other, from loopback addresses
//! of their own, and a stock client from another address joins meanwhile. It ends by
//! itself, prints what the client noticed, and fails if a client did not join, or if a
//! node that was there before lost its stream.

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

mod flood;

use flood::{FLOODS, Flood, Target};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::{Cluster, Fleet, Machine, MapStream, Session, Settings, Up, server_key};

/// How long a flood runs before the client comes.
const BEFORE: Duration = Duration::from_millis(1500);
/// A client that needs longer did not join. Without a flood it needs about a second.
const JOINED: Duration = Duration::from_secs(60);
/// The whole run.
const BOUND: Duration = Duration::from_secs(900);

struct Row {
    flood: &'static str,
    joined: Result<Duration, String>,
    /// Whether the node that was there before kept its stream.
    kept: bool,
    came: u64,
    turned_away: u64,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let rows = runtime.block_on(async { tokio::time::timeout(BOUND, run()).await });
    runtime.shutdown_background();
    let Ok(rows) = rows else {
        eprintln!("FAILED: not done within {} s", BOUND.as_secs());
        return ExitCode::FAILURE;
    };
    print(&rows);
    match rows.iter().all(|row| row.joined.is_ok() && row.kept) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

async fn run() -> Vec<Row> {
    let only = std::env::var("ABUSE_FLOODS").unwrap_or_default();
    let cluster = Cluster::start_with(1, Settings { alone: true, ..Settings::default() }).await;
    let owner = cluster.create_user(1, "owner");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &owner, "--reusable", "-e", "24h"]);
    let target = Target { address: cluster.address(1), key: server_key(&cluster.url(1)).await };
    let (node, mut stream) = standing_node(&target, &key).await;
    let fleet = Fleet::start(&[]);
    let quiet = Flood { name: "none", work: |_, _, _| Box::pin(std::future::pending()), each: 0 };
    let mut rows = Vec::new();
    for flood in std::iter::once(&quiet).chain(FLOODS).filter(|flood| flood.name.contains(&only)) {
        eprintln!("{} ...", flood.name);
        let running = flood.start(&target);
        tokio::time::sleep(BEFORE).await;
        let joined = join(&fleet, &cluster, &key, rows.len()).await;
        let (came, turned_away) = running.stop().await;
        let kept = is_open(&mut stream).await && !node.is_closed();
        rows.push(Row { flood: flood.name, joined, kept, came, turned_away });
    }
    rows
}

/// A node that is in the tailnet before the floods; they must not end its stream.
async fn standing_node(target: &Target, key: &str) -> (Session, MapStream) {
    let machine = Machine::new("standing");
    let registered = machine.register(target.address, &target.key, key).await.expect("a registration");
    assert!(registered.accepted(), "{registered:?}");
    let mut session = Session::open(target.address, &target.key, &machine).await.expect("a connection");
    let stream = session.map(&machine).await.expect("a stream");
    (session, stream)
}

/// Whether a stream goes on, as far as one can see at the moment.
async fn is_open(stream: &mut MapStream) -> bool {
    while let Ok(frame) = tokio::time::timeout(Duration::from_millis(50), stream.next()).await {
        if frame.is_err() {
            return false;
        }
    }
    true
}

async fn join(fleet: &Fleet, cluster: &Cluster, key: &str, number: usize) -> Result<Duration, String> {
    let begun = Instant::now();
    let name = format!("client{number}");
    let node = fleet.up(&name, Up::at(cluster.url(1)).key(key)).await;
    match node.runs_within(JOINED).await {
        true => Ok(begun.elapsed()),
        false => Err(format!("not within {} s", JOINED.as_secs())),
    }
}

fn print(rows: &[Row]) {
    println!("{:44} {:>12} {:>12}   {:20} standing node", "flood", "attempts", "turned away", "a client joined");
    for row in rows {
        let joined = match &row.joined {
            Ok(took) => format!("in {:.1} s", took.as_secs_f64()),
            Err(why) => why.clone(),
        };
        let kept = if row.kept { "kept its stream" } else { "LOST ITS STREAM" };
        println!("{:44} {:>12} {:>12}   {joined:20} {kept}", row.flood, row.came, row.turned_away);
    }
}
