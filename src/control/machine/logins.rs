//! Waiting for somebody's verdict about a pending login (protocol section 3.3) or an SSH
//! session (5.9).

use crate::cluster::Cluster;
use crate::state::{AuthId, Batch, Change, SshVerdict, State, Verdict};
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
        let waits = |view: &State| view.login(id).is_some_and(|login| login.verdict == Verdict::Waiting);
        self.until(cluster, id, patience, waits).await
    }

    /// As [`Logins::decided`], for an SSH session.
    pub async fn ssh_decided(&self, cluster: &Cluster, id: &AuthId, patience: Duration) -> Arc<State> {
        let waits = |view: &State| view.ssh_check(id).is_some_and(|check| check.verdict == SshVerdict::Waiting);
        self.until(cluster, id, patience, waits).await
    }

    async fn until(
        &self,
        cluster: &Cluster,
        id: &AuthId,
        patience: Duration,
        waits: impl Fn(&State) -> bool,
    ) -> Arc<State> {
        let waiter = self.enter(id);
        let deadline = Instant::now() + patience;
        loop {
            let mut woken = pin!(waiter.notify.notified());
            // From here on no verdict is missed, so look only now.
            woken.as_mut().enable();
            let view = cluster.view();
            if !waits(&view) || Instant::now() >= deadline {
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

async fn wake(logins: Weak<Logins>, mut changes: broadcast::Receiver<Arc<Batch>>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(id: &AuthId) -> Arc<Batch> {
        Arc::new(Batch { index: 1, view: Arc::default(), changes: vec![Change::LoginDecided(id.clone())] })
    }

    #[tokio::test]
    async fn a_verdict_wakes_those_who_wait_for_it_and_nobody_else() {
        let logins = Arc::new(Logins { waiting: Mutex::default() });
        let (sender, receiver) = broadcast::channel(4);
        tokio::spawn(wake(Arc::downgrade(&logins), receiver));
        let (one, other) = (AuthId::generate(), AuthId::generate());
        let (first, second, stranger) = (logins.enter(&one), logins.enter(&one), logins.enter(&other));
        let (first, second) = (first.notify.notified(), second.notify.notified());
        let mut stranger = pin!(stranger.notify.notified());
        assert!(!stranger.as_mut().enable());
        sender.send(decided(&one)).unwrap();
        timeout(LOOK_AGAIN, async { tokio::join!(first, second) }).await.unwrap();
        assert!(!stranger.as_mut().enable());
    }

    #[tokio::test]
    async fn a_follower_that_missed_changes_wakes_everybody() {
        let logins = Arc::new(Logins { waiting: Mutex::default() });
        let (sender, receiver) = broadcast::channel(1);
        let waiter = logins.enter(&AuthId::generate());
        let woken = waiter.notify.notified();
        for _ in 0..3 {
            sender.send(decided(&AuthId::generate())).unwrap();
        }
        tokio::spawn(wake(Arc::downgrade(&logins), receiver));
        timeout(LOOK_AGAIN, woken).await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_kept_of_waiters_that_are_gone() {
        let logins = Logins { waiting: Mutex::default() };
        let id = AuthId::generate();
        let (one, two) = (logins.enter(&id), logins.enter(&id));
        drop(one);
        assert_eq!(logins.waiting.lock().unwrap().len(), 1);
        drop(two);
        assert!(logins.waiting.lock().unwrap().is_empty());
    }
}
