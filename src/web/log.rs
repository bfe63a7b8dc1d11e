//! One log line for each request.

use super::ClientIp;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;

/// Middleware: logs method, path, client, status, size and time until the
/// response began. Queries and keys stay out of the log.
pub async fn requests(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = redacted(request.uri().path());
    let version = request.version();
    let client = request.extensions().get::<ClientIp>().map(|client| client.0.to_string()).unwrap_or_default();
    let response = next.run(request).await;
    // A stream has no size before it ends.
    let bytes = response.body().size_hint().exact();
    tracing::info!(
        %method,
        path,
        proto = ?version,
        remote = client,
        status = response.status().as_u16(),
        bytes,
        elapsed = ?started.elapsed(),
        "http request"
    );
    response
}

/// The path with every key and login id cut after its kind.
fn redacted(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(redacted_segment).collect();
    segments.join("/")
}

fn redacted_segment(segment: &str) -> String {
    match segment.split_once("hskey-").and_then(|(_, rest)| rest.split_once('-')) {
        Some((kind, _)) => format!("hskey-{kind}-***"),
        None => segment.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn the_log_never_shows_a_key() {
        assert_eq!(redacted("/register/hskey-authreq-0123456789abcdef01234567"), "/register/hskey-authreq-***");
        assert_eq!(redacted("/api/v1/apikey/hskey-api-0123-4567"), "/api/v1/apikey/hskey-api-***");
        assert_eq!(redacted("/api/v1/node/7/tags"), "/api/v1/node/7/tags");
    }
}
