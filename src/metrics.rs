//! `metrics_listen_addr`: Prometheus metrics, and pages for looking inside.
//!
//! Parts of the server count with the macros of the `metrics` crate, under names that
//! start with `quorumscale_`, and bring their own [`Page`]s.

use axum::Router;
use axum::http::header;
use axum::routing::{MethodRouter, get};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// How often what was measured is condensed, so that it does not grow when nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Bounds of what is measured in seconds: from a fast disk's sync to a timeout.
const SECONDS: [f64; 16] =
    [0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Bounds of how many came together.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// What gives the metrics their text. Cloning is cheap.
#[derive(Clone)]
pub struct Handle(PrometheusHandle);

/// There is a recorder already, or the thread that keeps it could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("metrics cannot be recorded: {0}")]
    Recorder(#[from] BuildError),
    #[error("the thread for metrics cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts recording, for the whole process; before anything that counts is made. Once only.
pub fn install() -> Result<Handle, InstallError> {
    let handle = builder()?.install_recorder()?;
    let upkeep = handle.clone();
    // For as long as the process lives, as the recorder.
    std::thread::Builder::new().name("metrics".into()).spawn(move || {
        loop {
            std::thread::sleep(UPKEEP);
            upkeep.run_upkeep();
        }
    })?;
    Ok(Handle(handle))
}

/// Histograms by the unit at the end of a name: what is measured on several replicas can
/// then be added up.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
    for counted in ["_entries", "_writes", "_reports"] {
        builder = builder.set_buckets_for_metric(Matcher::Suffix(counted.into()), &COUNTS)?;
    }
    Ok(builder)
}

/// A page below `/debug/`.
pub struct Page {
    /// What follows `/debug/`: lower-case letters, digits and dashes.
    pub path: &'static str,
    /// What the index says about it.
    pub title: &'static str,
    pub handler: MethodRouter,
}

impl Page {
    /// A page of plain text that is made for each request.
    pub fn text(path: &'static str, title: &'static str, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let text = Arc::new(text);
        Self { path, title, handler: get(async move || text()) }
    }
}

/// `/metrics` in Prometheus' text format, `/debug/` with a list of `pages`, and these behind
/// `guard`. The paths of pages must differ.
pub fn router(handle: Handle, pages: Vec<Page>, guard: impl FnOnce(Router) -> Router) -> Router {
    let mut index = String::from("Quorumscale\n\n/metrics  Metrics for Prometheus\n");
    for page in &pages {
        // Writing to a string cannot fail.
        let _ = writeln!(index, "/debug/{}  {}", page.path, page.title);
    }
    let index = get(async move || index);
    let router = Router::new().route("/debug", index.clone()).route("/debug/", index);
    let pages =
        pages.into_iter().fold(router, |router, page| router.route(&format!("/debug/{}", page.path), page.handler));
    guard(pages).route("/metrics", get(async move || metrics(&handle)))
}

fn metrics(handle: &Handle) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.0.render())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tower::ServiceExt;

    fn local_handle() -> (metrics_exporter_prometheus::PrometheusRecorder, Handle) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = Handle(recorder.handle());
        (recorder, handle)
    }

    async fn fetch(router: Router, path: &str) -> (StatusCode, String) {
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 100_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_was_counted_is_shown() {
        let (recorder, handle) = local_handle();
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::counter!("quorumscale_test_total", "kind" => "a").increment(3);
        });
        let (status, text) = fetch(router(handle, vec![], |_| Router::new()), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("quorumscale_test_total{kind=\"a\"} 3"), "{text}");
    }

    #[test]
    fn times_and_counts_are_histograms_that_can_be_added_up() {
        let recorder = builder().unwrap().build_recorder();
        ::metrics::with_local_recorder(&recorder, || {
            ::metrics::histogram!("quorumscale_test_seconds").record(0.03);
            ::metrics::histogram!("quorumscale_test_batch_entries").record(3.0);
        });
        let text = recorder.handle().render();
        for line in [
            "quorumscale_test_seconds_bucket{le=\"0.02\"} 0",
            "quorumscale_test_seconds_bucket{le=\"0.05\"} 1",
            "quorumscale_test_batch_entries_bucket{le=\"4\"} 1",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[tokio::test]
    async fn the_index_names_the_pages_and_they_are_there() {
        let (_recorder, handle) = local_handle();
        let page = || Page::text("thing", "A thing", || "inside\n".into());
        let router = router(handle, vec![page()], |pages| pages);
        let (_, index) = fetch(router.clone(), "/debug/").await;
        assert!(index.contains("/debug/thing  A thing"), "{index}");
        assert_eq!(fetch(router.clone(), "/debug/thing").await, (StatusCode::OK, "inside\n".into()));
        assert_eq!(fetch(router, "/debug/other").await.0, StatusCode::NOT_FOUND);
    }
}
