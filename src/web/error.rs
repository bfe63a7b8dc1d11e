//! Error pages for people.

use super::page::Page;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

/// A page that names the status and says what it means; `reason` says what was
/// wrong and what to do, if there is more to say.
pub fn error_page(status: StatusCode, reason: &str) -> Response {
    let heading = status.canonical_reason().unwrap_or("Error");
    let meaning = match status.as_u16() {
        401 | 403 => "You are not authorised to see this.",
        410 => "This link is no longer valid.",
        404 => "There is nothing at this address.",
        400..=499 => "This request could not be processed.",
        503 => "The server cannot answer at the moment.",
        _ => "Something went wrong on the server.",
    };
    let page = Page::new("Error", heading).status(status).text(meaning);
    if reason.is_empty() { page.into_response() } else { page.text(reason).into_response() }
}

/// The answer to every path that nobody has.
pub async fn not_found(method: Method) -> Response {
    if matches!(method, Method::GET | Method::HEAD) {
        error_page(StatusCode::NOT_FOUND, "")
    } else {
        (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
    }
}
