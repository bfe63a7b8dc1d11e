//! Keeps the map current while the server runs.

use super::MapLoader;
use crate::tailcfg::DerpMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// How soon a load that failed is tried again; twice as long after each more failure,
/// until it is the ordinary time.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// Part of the time between two loads that is random, so that replicas do not ask together.
const JITTER: f64 = 0.1;

/// Loads the map every `every` (`derp.update_frequency`, where `derp.auto_update_enabled`) and
/// publishes it when it changed, for as long as it is polled and somebody has a receiver.
///
/// A source that fails is a warning that names it, and its last good regions stay.
pub async fn keep_current(mut loader: MapLoader, every: Duration, map: watch::Sender<Arc<DerpMap>>) {
    let mut retry = FIRST_RETRY;
    let mut wait = every;
    loop {
        let jitter = JITTER * (2.0 * rand::random::<f64>() - 1.0);
        tokio::select! {
            () = map.closed() => return,
            () = sleep(wait.mul_f64(1.0 + jitter)) => {}
        }
        if load_and_publish(&mut loader, &map).await {
            (wait, retry) = (every, FIRST_RETRY);
        } else {
            wait = retry.min(every);
            retry = retry.saturating_mul(2).min(every);
        }
    }
}

/// Whether all sources could be read.
pub(super) async fn load_and_publish(loader: &mut MapLoader, map: &watch::Sender<Arc<DerpMap>>) -> bool {
    let loaded = loader.load().await;
    for error in &loaded.failed {
        tracing::warn!("{error}; what was last read from there stays in force");
    }
    map.send_if_modified(|current| {
        let changed = **current != loaded.map;
        if changed {
            tracing::info!("the DERP map changed: it has {} regions from its sources now", loaded.map.regions.len());
            *current = Arc::new(loaded.map);
        }
        changed
    });
    loaded.failed.is_empty()
}
