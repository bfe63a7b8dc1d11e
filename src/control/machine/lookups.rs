//! Questions to the leader about what this replica does not know: so many for each
//! address, then "later".

use super::Peer;
use crate::cluster::Cluster;
use crate::limits::{Budget, Limits, Source};

/// One kind of question. A machine that has a node is never limited; any other machine's
/// question takes the leader's time whatever comes of it, so each of them counts.
pub(super) struct Lookups {
    cluster: Cluster,
    budget: Budget,
    /// For the metrics.
    what: &'static str,
}

/// The address asked too often just now: again after so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests from this address were for nodes and logins that are not there: try again in {0} seconds")]
pub(super) struct Later(pub u64);

impl Lookups {
    pub fn new(cluster: &Cluster, limits: Limits, what: &'static str) -> Self {
        Self { cluster: cluster.clone(), budget: Budget::new(limits.lookups_per_minute), what }
    }

    /// Counts one more, or refuses it.
    pub fn ask(&self, peer: &Peer) -> Result<(), Later> {
        if self.cluster.view().nodes_of_machine(&peer.machine_key).next().is_some() {
            return Ok(());
        }
        let source = Source::of(peer.ip);
        if let Some(wait) = self.budget.wait(source) {
            metrics::counter!("quorumscale_limited_total", "what" => self.what).increment(1);
            return Err(Later(wait.as_secs() + 1));
        }
        self.budget.spend(source);
        Ok(())
    }
}
