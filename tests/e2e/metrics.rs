//! What `/metrics` says of writes and map streams: every figure is there, with its help,
//! and moves when what it measures happens.

use crate::support::{Cluster, Machine, Session, request, server_key};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// A replica's metrics, as text.
async fn metrics(cluster: &Cluster, id: u64) -> String {
    let reply = request("GET", &format!("http://{}:9090/metrics", cluster.address(id)), &[], b"").await;
    reply.expect("metrics are served").body
}

/// The metrics, once they are as wanted.
async fn until(what: &str, cluster: &Cluster, id: u64, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let text = metrics(cluster, id).await;
        if wanted(&text) {
            return text;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}: {text}", SOON.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The sum of all series whose names start so.
fn value(text: &str, series: &str) -> f64 {
    let lines = text.lines().filter(|line| line.starts_with(series));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_of_writes_and_streams_is_explained_and_moves() {
    let cluster = Cluster::start(3).await;
    let alice = cluster.create_user(1, "alice");
    let key = cluster.ok(1, &["preauthkeys", "create", "--user", &alice, "--reusable"]);
    let leader = cluster.leader(1).await;
    let (home, server_key) = (cluster.address(leader), server_key(&cluster.url(leader)).await);

    let (watcher, other) = (Machine::new("watcher"), Machine::new("other"));
    for machine in [&watcher, &other] {
        assert!(machine.register(home, &server_key, &key).await.expect("it registers").accepted());
    }
    let mut session = Session::open(home, &server_key, &watcher).await.expect("a session");
    let mut stream = session.map(&watcher).await.expect("a stream");
    stream.next().await.expect("a whole map");
    let mut others = Session::open(home, &server_key, &other).await.expect("a session");
    let mut update = other.map_request(false);
    update["Endpoints"] = serde_json::json!(["192.0.2.7:41641"]);
    let (status, text) = others.post("/machine/map", update.to_string().as_bytes()).await.expect("an answer");
    assert_eq!(status, 200, "{text}");
    while !stream.next().await.expect("the change").to_string().contains("192.0.2.7:41641") {}

    let moved = [
        "quorumscale_propose_seconds_count",
        "quorumscale_commit_seconds_count",
        "quorumscale_apply_seconds_count",
        "quorumscale_apply_batch_entries_count",
        "quorumscale_append_batch_entries_count",
        "quorumscale_sync_batch_writes_count",
        "quorumscale_store_sync_seconds_count",
        "quorumscale_report_batch_reports_count",
        "quorumscale_change_told_seconds_count",
        "quorumscale_changes_total",
        "quorumscale_changes_marked_total",
        "quorumscale_map_rendered_bytes_total",
        "quorumscale_map_compressed_bytes_total",
        "quorumscale_map_sent_bytes_total",
        "headscale_mapresponse_generated_total{response_type=\"full\"}",
        "headscale_mapresponse_generated_total{response_type=\"change\"}",
        "headscale_mapresponse_sent_total{status=\"ok\",type=\"full\"}",
        "headscale_mapresponse_sent_total{status=\"ok\",type=\"change\"}",
        "headscale_mapresponse_endpoint_updates_total{status=\"ok\"}",
    ];
    let text =
        until("each figure moves", &cluster, leader, |text| moved.iter().all(|series| value(text, series) > 0.0)).await;
    assert_eq!(value(&text, "quorumscale_streams"), 1.0, "{text}");
    for name in moved.iter().map(|series| series.split('{').next().unwrap_or_default()) {
        let name = name.trim_end_matches("_count");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is not explained");
    }
    for gauge in ["quorumscale_writes_in_flight", "quorumscale_reports_waiting", "quorumscale_changes_coalesced_total"]
    {
        assert!(text.contains(&format!("\n{gauge} ")), "{gauge} is not there");
    }

    drop((session, stream));
    let ended = |text: &str| {
        value(text, "headscale_mapresponse_ended_total{reason=\"client_gone\"}") >= 1.0
            && value(text, "quorumscale_streams") == 0.0
    };
    until("the stream's end is counted", &cluster, leader, ended).await;
}
