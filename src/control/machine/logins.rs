//! Waiting for somebody's verdict about a pending login (protocol section 3.3).

use crate::cluster::Cluster;
use crate::state::{AuthId, Change, State, Verdict};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep_until, timeout};

/// How often a waiter looks by itself, beside being woken.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Wakes who waits for a login that was decided, on whichever replica. One task
/// follows the cluster's changes for all waiters, so that a change costs nothing
/// to those whom it does not concern.
pub(super) struct Logins {
    waiting: Mutex<HashMap<AuthId, Waiting>>,
}

#[derive(Default)]
struct Waiting {
    waiters: usize,
    notify: Arc<Notify>,
}

impl Logins {
    /// Starts to follow; ends by itself when the result is dropped.
    pub fn follow(cluster: &Cluster) -> Arc<Self> {
        let logins = Arc::new(Self { waiting: Mutex::default() });
        tokio::spawn(wake(Arc::downgrade(&logins), cluster.subscribe()));
        logins
    }

    /// Waits until the login is decided or gone, at most for `patience`. The view
    /// that comes back has whatever ended the wait.
    pub async fn decided(&self, cluster: &Cluster, id: &AuthId, patience: Duration) -> Arc<State> {
        let waiter = self.enter(id);
        let deadline = Instant::now() + patience;
        loop {
            let mut woken = pin!(waiter.notify.notified());
            // From here on no verdict is missed, so look only now.
            woken.as_mut().enable();
            let view = cluster.view();
            let waits = view.login(id).is_some_and(|login| login.verdict == Verdict::Waiting);
            if !waits || Instant::now() >= deadline {
                return view;
            }
            let next = deadline.min(Instant::now() + LOOK_AGAIN);
            tokio::select! {
                () = woken => {}
                () = sleep_until(next) => {}
            }
        }
    }

    fn enter(&self, id: &AuthId) -> Waiter<'_> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = waiting.entry(id.clone()).or_default();
        entry.waiters += 1;
        Waiter { logins: self, id: id.clone(), notify: entry.notify.clone() }
    }

    fn wake_one(&self, id: &AuthId) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = waiting.get(id) {
            entry.notify.notify_waiters();
        }
    }

    fn wake_all(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().for_each(|entry| entry.notify.notify_waiters());
    }
}

struct Waiter<'a> {
    logins: &'a Logins,
    id: AuthId,
    notify: Arc<Notify>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.logins.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = waiting.entry(self.id.clone()) {
            entry.get_mut().waiters -= 1;
            if entry.get().waiters == 0 {
                entry.remove();
            }
        }
    }
}

async fn wake(logins: Weak<Logins>, mut changes: broadcast::Receiver<Arc<crate::state::Batch>>) {
    loop {
        let next = timeout(LOOK_AGAIN, changes.recv()).await;
        let Some(logins) = logins.upgrade() else { return };
        match next {
            Ok(Ok(batch)) => {
                for change in &batch.changes {
                    if let Change::LoginDecided(id) = change {
                        logins.wake_one(id);
                    }
                }
            }
            Ok(Err(RecvError::Lagged(_))) => logins.wake_all(),
            Ok(Err(RecvError::Closed)) => return logins.wake_all(),
            Err(_) => {}
        }
    }
}
