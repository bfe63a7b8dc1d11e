//! What `/metrics` says of the cluster, the tailnet and the process, looked up every few seconds.

use crate::cluster::{Cluster, ClusterStatus};
use crate::state::Verdict;
use metrics::{describe_gauge, gauge};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often: twice within Prometheus' usual interval of 15 s.
const EVERY: Duration = Duration::from_secs(5);

/// Keeps the gauges up to date until `stop`; after [`crate::metrics::install`].
pub async fn keep(cluster: Cluster, stop: CancellationToken) {
    describe();
    gauge!("quorumscale_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    loop {
        gauge!("quorumscale_cluster_quorum").set(flag(*cluster.quorum().borrow()));
        gauge!("quorumscale_cluster_leads").set(flag(cluster.is_leader()));
        tailnet(&cluster);
        process();
        members(&cluster.status().await);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn describe() {
    for (name, help) in [
        ("quorumscale_build_info", "1, with the release that runs."),
        ("quorumscale_cluster_quorum", "1: this replica is in touch with a quorum."),
        ("quorumscale_cluster_leads", "1: this replica leads."),
        ("quorumscale_cluster_members", "Replicas that belong to the cluster."),
        ("quorumscale_cluster_healthy_members", "Replicas that answer this one and keep up."),
        ("quorumscale_cluster_failures_tolerated", "Voters that may fail from now on with the rest still a quorum."),
        ("quorumscale_cluster_warnings", "Warnings that \"cluster status\" shows."),
        ("quorumscale_cluster_applied_index", "The last log entry that this replica has applied."),
        ("quorumscale_cluster_lag_entries", "Log entries that this replica is behind the leader."),
        ("quorumscale_nodes", "Nodes of the tailnet, by state: all, online, expired, ephemeral."),
        ("quorumscale_users", "Users of the tailnet."),
        ("quorumscale_logins_waiting", "Logins that wait for somebody's decision."),
        ("headscale_nodestore_nodes", "Nodes of the tailnet."),
        ("process_resident_memory_bytes", "Resident memory size in bytes."),
        ("process_open_fds", "Number of open file descriptors."),
        ("process_max_fds", "Maximum number of open file descriptors."),
    ] {
        describe_gauge!(name, help);
    }
}

fn tailnet(cluster: &Cluster) {
    let view = cluster.view();
    let (mut online, mut expired, mut ephemeral) = (0_u32, 0_u32, 0_u32);
    for node in view.nodes() {
        online += u32::from(view.is_online(node.id));
        expired += u32::from(node.expired);
        ephemeral += u32::from(node.ephemeral);
    }
    let all = number(view.node_count());
    gauge!("headscale_nodestore_nodes").set(all);
    gauge!("quorumscale_nodes", "state" => "all").set(all);
    for (state, count) in [("online", online), ("expired", expired), ("ephemeral", ephemeral)] {
        gauge!("quorumscale_nodes", "state" => state).set(count);
    }
    gauge!("quorumscale_users").set(number(view.users().count()));
    let waiting = view.logins().filter(|login| login.verdict == Verdict::Waiting).count();
    gauge!("quorumscale_logins_waiting").set(number(waiting));
    gauge!("quorumscale_cluster_applied_index").set(view.index() as f64);
}

fn members(status: &ClusterStatus) {
    gauge!("quorumscale_cluster_members").set(number(status.members.len()));
    gauge!("quorumscale_cluster_healthy_members").set(number(status.members.iter().filter(|m| m.healthy).count()));
    gauge!("quorumscale_cluster_failures_tolerated").set(number(status.failures_tolerated));
    gauge!("quorumscale_cluster_warnings").set(number(status.warnings.len()));
    let own = status.members.iter().find(|member| member.id == status.answered_by);
    gauge!("quorumscale_cluster_lag_entries").set(own.and_then(|own| own.lag).unwrap_or(0) as f64);
}

/// Under the names that Prometheus' own clients use. Where there is no `/proc`, they are not there.
fn process() {
    use rustix::process::{Resource, getrlimit};
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    if let Some(kilobytes) = resident.and_then(|text| text.parse::<usize>().ok()) {
        gauge!("process_resident_memory_bytes").set(number(kilobytes * 1024));
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(number(files.count()));
    }
    if let Some(files) = getrlimit(Resource::Nofile).current {
        gauge!("process_max_fds").set(files as f64);
    }
}

fn number(count: usize) -> f64 {
    count as f64
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}
