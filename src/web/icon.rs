//! The icon: three replicas, two of them a quorum.

use axum::http::header;
use axum::response::IntoResponse;

const SVG: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<rect width="32" height="32" rx="7" fill="#1f4f8f"/>
<path d="M16 10 9 22h14z" fill="none" stroke="#9cc3f2" stroke-width="2"/>
<circle cx="16" cy="10" r="4" fill="#fff"/><circle cx="9" cy="22" r="4" fill="#fff"/>
<circle cx="23" cy="22" r="4" fill="#9cc3f2"/>
</svg>
"##;

/// `GET /favicon.ico`.
pub async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "public, max-age=86400")], SVG)
}
