//! `/bootstrap-dns`: where the login server is, for a client whose own DNS fails.
//! (Protocol section 1.2.)
//!
//! Anyone may ask, so it tells about one name only, and no question makes it look
//! up anything that it did not look up within the last minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long a lookup's result, also a failure, is used.
const FRESH: Duration = Duration::from_secs(60);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// More addresses than a cluster has replicas.
const MAX_ADDRESSES: usize = 16;

/// What the relay answers about the login server's name.
pub struct Bootstrap {
    host: String,
    known: Arc<dyn Fn() -> Vec<IpAddr> + Send + Sync>,
    looked_up: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

impl Bootstrap {
    /// `host` is that of `server_url`, without a port. `known` gives the addresses that the
    /// cluster knows for it (its replicas' client addresses); where it gives none, DNS is asked.
    pub fn new(host: &str, known: impl Fn() -> Vec<IpAddr> + Send + Sync + 'static) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Self { host, known: Arc::new(known), looked_up: Mutex::default() }
    }

    /// The answer's body: the name and its addresses, or nothing for a question about
    /// another name.
    pub(super) async fn answer(&self, question: Option<&str>) -> BTreeMap<String, Vec<IpAddr>> {
        let asked = question.filter(|q| !q.is_empty());
        if asked.is_some_and(|q| !q.trim_end_matches('.').eq_ignore_ascii_case(&self.host)) {
            return BTreeMap::new();
        }
        let mut addresses = (self.known)();
        if addresses.is_empty() {
            addresses = self.look_up().await;
        }
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() { BTreeMap::new() } else { BTreeMap::from([(self.host.clone(), addresses)]) }
    }

    async fn look_up(&self) -> Vec<IpAddr> {
        if let Ok(ip) = self.host.parse() {
            return vec![ip];
        }
        // Held during the lookup, so that there is one at a time.
        let mut cached = self.looked_up.lock().await;
        if let Some((at, addresses)) = &*cached
            && at.elapsed() < FRESH
        {
            return addresses.clone();
        }
        let addresses = match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((self.host.as_str(), 0))).await {
            Ok(Ok(found)) => found.map(|addr| addr.ip()).collect(),
            Ok(Err(e)) => {
                tracing::warn!("bootstrap-dns: {:?} cannot be looked up: {e}", self.host);
                Vec::new()
            }
            Err(_) => {
                tracing::warn!("bootstrap-dns: no answer about {:?} in {} s", self.host, LOOKUP_TIMEOUT.as_secs());
                Vec::new()
            }
        };
        *cached = Some((Instant::now(), addresses.clone()));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn only_the_login_servers_name_is_answered() {
        let ip = IpAddr::from(Ipv4Addr::new(192, 0, 2, 7));
        let bootstrap = Bootstrap::new("Login.Example.com", move || vec![ip]);
        let found = BTreeMap::from([("login.example.com".to_owned(), vec![ip])]);
        assert_eq!(bootstrap.answer(None).await, found);
        assert_eq!(bootstrap.answer(Some("login.example.COM.")).await, found);
        assert!(bootstrap.answer(Some("other.example.com")).await.is_empty());
    }

    #[tokio::test]
    async fn an_address_needs_no_lookup() {
        let bootstrap = Bootstrap::new("[::1]", Vec::new);
        assert_eq!(bootstrap.answer(Some("::1")).await["::1"], ["::1".parse::<IpAddr>().unwrap()]);
    }
}
