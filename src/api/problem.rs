//! Errors of the API, and the one place that maps refusals to HTTP statuses.

use super::types::{Problem, ProblemDetail};
use crate::cluster::{MembershipError, Unavailable, WriteError};
use crate::state::{NodeId, Refused};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::fmt::Display;

/// When a client should ask again after a 503: an election takes about this long.
const RETRY_AFTER_SECONDS: u64 = 2;

/// An error that knows how it looks on the wire.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    /// What was tried, or the whole story where there is no cause.
    detail: String,
    causes: Vec<ProblemDetail>,
}

impl ApiError {
    /// An error without a cause.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), causes: Vec::new() }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Adds the cause: what Headscale puts into `errors`.
    pub fn because(mut self, cause: impl Display) -> Self {
        self.causes.push(ProblemDetail { message: cause.to_string(), ..ProblemDetail::default() });
        self
    }

    /// Adds a fault in a named place of the request.
    pub fn at(mut self, location: impl Into<String>, message: impl Into<String>, value: serde_json::Value) -> Self {
        self.causes.push(ProblemDetail { message: message.into(), location: location.into(), value });
        self
    }

    /// A refusal while `action` was tried; the status by Headscale's map.
    pub fn refused(action: &str, refused: &Refused) -> Self {
        match refused {
            // Headscale says these without what was tried.
            Refused::UserExists | Refused::NoTags => Self::new(status_of(refused), refused.to_string()),
            _ => Self::new(status_of(refused), action).because(refused),
        }
    }

    /// What failed while `action` was tried.
    pub fn write(action: &str, error: WriteError) -> Self {
        match error {
            WriteError::Refused(refused) => Self::refused(action, &refused),
            WriteError::Unavailable(unavailable) => unavailable.into(),
        }
    }

    /// As [`ApiError::write`], with Headscale's words for a node that is not there.
    pub fn write_node(action: &str, id: NodeId, error: WriteError) -> Self {
        match error {
            WriteError::Refused(Refused::NodeNotFound) => {
                Self::not_found(action).because(format!("node no longer exists in NodeStore: {id}"))
            }
            other => Self::write(action, other),
        }
    }

    /// The error as clients read it.
    fn problem(&self) -> Problem {
        let mut message = self.detail.clone();
        for cause in &self.causes {
            message = format!("{message}: {}", cause.message);
        }
        Problem {
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            errors: self.causes.clone(),
            code: grpc_code(self.status),
            message,
        }
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<MembershipError> for ApiError {
    fn from(error: MembershipError) -> Self {
        match error {
            MembershipError::Unavailable(unavailable) => unavailable.into(),
            MembershipError::Refused(reason) => Self::new(StatusCode::CONFLICT, reason),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.problem())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"quorumscale\""));
        }
        response
    }
}

/// Headscale's error map (its `errors.go`), and what only a cluster can say.
fn status_of(refused: &Refused) -> StatusCode {
    match refused {
        Refused::UserNotFound
        | Refused::AuthKeyNotFound
        | Refused::ApiKeyNotFound
        | Refused::NodeNotFound
        | Refused::NodeKeyUnknown
        | Refused::LoginNotFound
        | Refused::SshCheckNotFound => StatusCode::NOT_FOUND,
        Refused::UserNotEmpty
        | Refused::InvalidUserName { .. }
        | Refused::InvalidName(_)
        | Refused::NameTaken(_)
        | Refused::NoTags
        | Refused::AuthKeyInvalid
        | Refused::AuthKeyExpired
        | Refused::AuthKeyUsed
        | Refused::TagsNotPermitted(_)
        | Refused::ImportInvalid(_)
        | Refused::ExtendingKey
        | Refused::MachineMismatch => StatusCode::BAD_REQUEST,
        Refused::UserExists
        | Refused::NodeKeyInUse
        | Refused::NodeKeyOfOtherOwner
        | Refused::KeyPrefixTaken
        | Refused::AmbiguousOwnership
        | Refused::LoginDecided
        | Refused::SshCheckDecided
        | Refused::Stale
        | Refused::Bootstrapped
        | Refused::ImportNeedsEmpty { .. }
        | Refused::ImportedBefore { .. } => StatusCode::CONFLICT,
        Refused::IdempotencyKeyReused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::TooManyLogins(_) | Refused::TooManySshChecks(_) => StatusCode::TOO_MANY_REQUESTS,
        Refused::NotBootstrapped | Refused::TooLate => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The gRPC code that Headscale 0.29 would have sent (`google.rpc.Code`).
fn grpc_code(status: StatusCode) -> u16 {
    match status.as_u16() {
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        413 | 429 => 8,
        400..=499 => 3,
        501 => 12,
        503 => 14,
        _ => 13,
    }
}

/// An outcome that the command cannot have: state and the API disagree.
pub fn unexpected(action: &str, done: &crate::state::Done) -> ApiError {
    tracing::error!(action, ?done, "a command had an outcome of another kind");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, action)
        .because("the cluster answered something unexpected; its log has more")
}
