//! What this replica tells the others about itself when it starts.

use super::relay;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::state::{COMMAND_FORMAT, Command, Replica, Settings, Standing, Time};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between attempts while there is no quorum.
const RETRY: Duration = Duration::from_secs(1);

/// This replica, by its configuration.
pub fn of(config: &Config, cluster: &Cluster, relay: Option<&relay::Parts>) -> Replica {
    Replica {
        id: cluster.id(),
        incarnation: cluster.incarnation(),
        since: Time::now(),
        version: env!("CARGO_PKG_VERSION").into(),
        command_format: COMMAND_FORMAT,
        client_addresses: config.cluster.client_addresses.clone(),
        relay: relay.and_then(relay::Parts::record),
        config_differs: Vec::new(),
        standing: Standing::Serving,
    }
}

/// Tells the cluster, as soon as there is a quorum that hears it. Also warns where
/// this replica's file says something else than what the cluster runs on.
pub async fn announce(cluster: Cluster, mut replica: Replica, own: Settings, stop: CancellationToken) {
    loop {
        let ready = cluster.view().settings().cloned();
        if let Some(settings) = ready {
            replica.config_differs = differences(&own, &settings);
            match cluster.write(Command::ReplicaUp(replica.clone())).await {
                Ok(_) => break,
                Err(error) => tracing::debug!(%error, "this replica is not announced yet"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return,
        }
    }
    for difference in &replica.config_differs {
        tracing::warn!("{difference}: the cluster's value is in force; make this file say the same");
    }
}

fn differences(own: &Settings, cluster: &Settings) -> Vec<String> {
    fn show<T: std::fmt::Debug>(value: &T) -> String {
        format!("{value:?}")
    }
    fn prefix<T: ToString>(value: &Option<T>) -> String {
        value.as_ref().map_or("none".into(), T::to_string)
    }
    [
        ("prefixes.v4", prefix(&own.prefix_v4), prefix(&cluster.prefix_v4)),
        ("prefixes.v6", prefix(&own.prefix_v6), prefix(&cluster.prefix_v6)),
        ("prefixes.allocation", show(&own.allocation), show(&cluster.allocation)),
        ("dns.base_domain", own.base_domain.clone(), cluster.base_domain.clone()),
        ("node.expiry", show(&own.node_expiry), show(&cluster.node_expiry)),
        ("node.ephemeral.inactivity_timeout", show(&own.ephemeral_timeout), show(&cluster.ephemeral_timeout)),
    ]
    .into_iter()
    .filter(|(_, here, there)| here != there)
    .map(|(key, here, there)| format!("{key}: here {here}, cluster {there}"))
    .collect()
}
