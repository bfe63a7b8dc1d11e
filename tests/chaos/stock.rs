//! Stock clients among the others: nodes of Tailscale's Go library, and a `tailscaled`.

use crate::history::History;
use crate::support::{Cluster, Fleet, Tailscaled, Up};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After the last fault they reach each other again by then.
const WELL: Duration = Duration::from_secs(60);
/// How long an administrator's list may need to show them as online.
const SHOWN: Duration = Duration::from_secs(30);

pub struct Stock {
    running: Option<Running>,
}

struct Running {
    fleet: Fleet,
    daemon: Tailscaled,
    addresses: Vec<std::net::IpAddr>,
}

impl Stock {
    /// Without `QUORUMSCALE_CLIENTS`, the folder that `tools/clients` fills, there are none.
    pub async fn start(cluster: &Cluster, replicas: u64, key: &str, history: &Arc<History>) -> Stock {
        if std::env::var_os("QUORUMSCALE_CLIENTS").is_none() {
            println!(
                "  (left out: stock clients: QUORUMSCALE_CLIENTS does not say where tools/clients has built them)"
            );
            return Stock { running: None };
        }
        let fleet = Fleet::start(&[]);
        let mut addresses = Vec::new();
        for number in 1..=2 {
            let node = fleet.up(&format!("stock-{number}"), Up::at(cluster.url(number)).key(key)).await;
            addresses.push(node.running().await[0]);
        }
        let daemon = Tailscaled::start().await;
        let up = daemon.up(&cluster.url(replicas), &["--hostname=stock-3", &format!("--authkey={key}")]);
        up.unwrap_or_else(|e| panic!("tailscaled joins: {e}"));
        history.events().watchers += 3;
        Stock { running: Some(Running { fleet, daemon, addresses }) }
    }

    /// They are in the tailnet still, see each other, and reach each other.
    pub async fn end(self, history: &History) {
        let Some(Running { fleet, daemon, addresses }) = self.running else { return };
        let begun = Instant::now();
        let (one, two) = (fleet.node("stock-1"), fleet.node("stock-2"));
        while let Err(error) = one.get(&format!("http://{}/", addresses[1])).await {
            if begun.elapsed() > WELL {
                return history.wrong(format!("stock clients do not reach each other: {error}"));
            }
        }
        let mut seen = Vec::new();
        while begun.elapsed() < SHOWN {
            seen = [one.status().await, two.status().await].into();
            let online = |name: &str| seen.iter().all(|status| shows(status, name));
            let sees = String::from_utf8_lossy(&daemon.tailscale(&["status", "--json"]).stdout).into_owned();
            if online("stock-3") && sees.contains("stock-1") && sees.contains("stock-2") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        history.wrong(format!("stock clients do not see each other as online: {seen:?}"));
    }
}

fn shows(status: &serde_json::Value, name: &str) -> bool {
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    peers.iter().any(|peer| peer["online"] == true && peer.to_string().contains(name))
}
