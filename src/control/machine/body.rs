//! Reading a request's body.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::time::Duration;

/// The longest body, as Headscale has it; real ones have about 2 KiB.
pub(super) const MAX_BODY: usize = 1024 * 1024;
/// How long a client may take to send one.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole body, or what to answer instead.
pub(super) async fn read(body: Body) -> Result<Bytes, Response> {
    let collected = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("the body is too large: at most {MAX_BODY} bytes are read");
            Err((StatusCode::PAYLOAD_TOO_LARGE, text).into_response())
        }
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("the body did not arrive: {error}")).into_response()),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time").into_response()),
    }
}
