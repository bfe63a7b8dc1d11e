//! API keys that are none: so many for each address, then "later".

use super::apikeys::KEY_START;
use super::problem::ApiError;
use crate::cluster::Cluster;
use crate::limits::{Budget, Limits, Source};
use crate::web::ClientIp;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone)]
struct Failures {
    cluster: Cluster,
    keys: Arc<Budget>,
}

/// Wraps the API of the network ([`super::authenticated`]). A key that this replica knows is
/// always heard; of an address that failed too often no other is, since each costs a
/// question to the leader.
pub fn limited(api: Router, cluster: Cluster, limits: Limits) -> Router {
    let failures = Failures { cluster, keys: Arc::new(Budget::new(limits.failed_keys_per_minute)) };
    api.layer(axum::middleware::from_fn_with_state(failures, count))
}

async fn count(State(failures): State<Failures>, request: Request, next: Next) -> Response {
    let ip = request.extensions().get::<ClientIp>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0);
    let source = Source::of(ip);
    let Some(is_known) = is_known(&failures.cluster, request.headers()) else { return next.run(request).await };
    if !is_known && let Some(wait) = failures.keys.wait(source) {
        return later(wait);
    }
    let response = next.run(request).await;
    if response.status() != StatusCode::UNAUTHORIZED {
        return response;
    }
    let wait = failures.keys.wait(source);
    failures.keys.spend(source);
    wait.map_or(response, later)
}

/// Whether this replica knows a key with the prefix of the request's; `None`: it has no key.
fn is_known(cluster: &Cluster, headers: &HeaderMap) -> Option<bool> {
    let value = headers.get(header::AUTHORIZATION)?;
    let key = value.to_str().ok().and_then(|value| value.split_once(' ')?.1.trim().strip_prefix(KEY_START));
    let prefix = key.and_then(|key| key.split_once('-')).map(|(prefix, _)| prefix);
    Some(prefix.is_some_and(|prefix| cluster.view().api_key_by_prefix(prefix).is_some()))
}

fn later(wait: Duration) -> Response {
    metrics::counter!("quorumscale_limited_total", "what" => "API keys").increment(1);
    let seconds = wait.as_secs() + 1;
    let text = format!("too many API keys from this address were not valid: try again in {seconds} seconds");
    let mut response = ApiError::new(StatusCode::TOO_MANY_REQUESTS, text).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

#[cfg(test)]
mod tests {
    use super::super::tests::World;
    use super::*;
    use axum::body::Body;
    use serde_json::json;
    use tower::ServiceExt;

    async fn ask(api: &Router, from: &str, key: &str) -> Response {
        let request = Request::get("/api/v1/user").header(header::AUTHORIZATION, format!("Bearer {key}"));
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ClientIp(from.parse().unwrap()));
        api.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn api_keys_that_are_none_are_limited_by_address_and_good_ones_are_not() {
        let world = World::new();
        let limits = Limits { failed_keys_per_minute: 5, ..Limits::default() };
        let api = limited(world.network(), world.cluster.clone(), limits);
        let good = world.ok("POST", "/apikey", json!({})).await["apiKey"].as_str().unwrap().to_owned();
        let wrong_secret = format!("{}-{}", good.rsplit_once('-').unwrap().0, "0".repeat(64));
        let unknown = format!("{KEY_START}0123456789ab-{}", "0".repeat(64));
        for key in [&unknown, &wrong_secret, "nonsense", &unknown, &wrong_secret] {
            assert_eq!(ask(&api, "2001:db8::1", key).await.status(), StatusCode::UNAUTHORIZED);
        }
        for (from, key) in [("2001:db8::1", &unknown), ("2001:db8::2", &wrong_secret)] {
            let answer = ask(&api, from, key).await;
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
            let seconds: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&seconds), "{seconds}");
        }
        assert_eq!(ask(&api, "2001:db8:0:1::1", &unknown).await.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&api, "2001:db8::1", &good).await.status(), StatusCode::OK);
    }
}
