//! When API keys were used last: to the minute, and without a write for each request.

use crate::cluster::Cluster;
use crate::state::{ApiKey, ApiKeyId, Command, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long uses are gathered: one command tells of all of them.
const GATHER: Duration = Duration::from_secs(1);

/// What this replica has told the cluster, and is about to.
#[derive(Clone)]
pub struct Usage {
    cluster: Cluster,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Default)]
struct Noted {
    /// The last minute of each key that was told. As many as there are keys.
    told: BTreeMap<ApiKeyId, i64>,
    untold: BTreeSet<ApiKeyId>,
}

impl Usage {
    /// Uses of this cluster's keys.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, noted: Arc::default() }
    }

    /// A key let somebody in. Costs next to nothing within the same minute.
    pub fn note(&self, key: &ApiKey, now: Time) {
        let minute = now.0.div_euclid(60_000);
        let is_first = {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.told.insert(key.id, minute) == Some(minute) {
                return;
            }
            noted.untold.insert(key.id);
            noted.untold.len() == 1
        };
        if is_first {
            let usage = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(GATHER).await;
                usage.tell().await;
            });
        }
    }

    async fn tell(&self) {
        let view = self.cluster.view();
        let used = {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.told.retain(|id, _| view.api_key(*id).is_some());
            std::mem::take(&mut noted.untold)
        };
        if let Err(error) = self.cluster.write(Command::UseApiKeys(used)).await {
            tracing::debug!(%error, "when API keys were used is not recorded this time");
        }
    }
}
