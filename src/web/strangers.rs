//! Pages that the leader has to be asked about: so many for each address, then "later".

use super::ClientIp;
use super::error::error_page;
use crate::cluster::Cluster;
use crate::limits::{Budget, Limits, Source};
use crate::state::{AuthId, SshVerdict, Verdict};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

struct Pages {
    cluster: Cluster,
    /// Of links that this replica has not heard of.
    unknown: Budget,
    /// Of logins and sessions that wait. Counted apart, so that whoever tries links at random
    /// keeps nobody behind the same address from a page that is there.
    waiting: Budget,
}

/// Wraps the pages of logins and SSH sessions.
pub fn limited<S: Clone + Send + Sync + 'static>(pages: Router<S>, cluster: Cluster, limits: Limits) -> Router<S> {
    let budget = || Budget::new(limits.lookups_per_minute);
    let pages_seen = Arc::new(Pages { cluster, unknown: budget(), waiting: budget() });
    pages.layer(from_fn_with_state(pages_seen, count))
}

async fn count(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let budget = match pages.budget(&request) {
        Some(budget) => budget,
        None => return next.run(request).await,
    };
    let ip = request.extensions().get::<ClientIp>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0);
    let source = Source::of(ip);
    if let Some(wait) = budget.wait(source) {
        return later(wait);
    }
    budget.spend(source);
    next.run(request).await
}

impl Pages {
    /// What the request counts for; `None`: this replica answers it alone.
    fn budget(&self, request: &Request) -> Option<&Budget> {
        let id: AuthId = request.uri().path().rsplit('/').next()?.parse().ok()?;
        if request.uri().query() == Some("state") {
            return None;
        }
        let view = self.cluster.view();
        let waits = view.login(&id).map(|login| login.verdict == Verdict::Waiting);
        match waits.or_else(|| view.ssh_check(&id).map(|check| check.verdict == SshVerdict::Waiting)) {
            None => Some(&self.unknown),
            Some(true) => Some(&self.waiting),
            Some(false) => None,
        }
    }
}

fn later(wait: Duration) -> Response {
    metrics::counter!("quorumscale_limited_total", "what" => "login pages").increment(1);
    let seconds = wait.as_secs() + 1;
    let reason =
        format!("Too many login links were opened from your address. Load this page again in {seconds} seconds.");
    let mut response = error_page(StatusCode::TOO_MANY_REQUESTS, &reason);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}
