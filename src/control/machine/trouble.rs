//! Registrations that come to nothing.

use super::lookups::Later;
use crate::cluster::{Unavailable, WriteError};
use crate::state::Refused;
use crate::tailcfg::{CapVer, RegisterResponse};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

/// The first clients that understand a 429 (protocol section 3.4).
const UNDERSTANDS_429: CapVer = CapVer(137);

/// Why a registration came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// For the person at the machine.
    #[error("{0}")]
    Refused(String),
    /// For that person too: the key that it was given opens nothing. Whoever tries many
    /// is limited.
    #[error("{0}")]
    BadKey(String),
    /// Try again after so many seconds.
    #[error("{text}")]
    Busy { text: String, seconds: u64 },
    /// Nobody can say now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Unavailable> for Trouble {
    fn from(error: Unavailable) -> Self {
        Trouble::Unavailable(error.to_string())
    }
}

impl From<Later> for Trouble {
    fn from(later: Later) -> Self {
        Trouble::Busy { text: later.to_string(), seconds: later.0 }
    }
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        let text = error.to_string();
        match error {
            WriteError::Unavailable(_) => Trouble::Unavailable(text),
            WriteError::Refused(Refused::TooManyLogins(seconds)) => Trouble::Busy { text, seconds },
            WriteError::Refused(Refused::AuthKeyInvalid | Refused::AuthKeyExpired | Refused::AuthKeyUsed) => {
                Trouble::BadKey(text)
            }
            // Passing by itself: a client asks again.
            WriteError::Refused(
                Refused::Stale | Refused::TooLate | Refused::NotBootstrapped | Refused::ReplicaGone,
            ) => Trouble::Unavailable(text),
            WriteError::Refused(_) => Trouble::Refused(text),
        }
    }
}

impl Trouble {
    /// As an answer that a client of this version shows to its user.
    pub fn answer(self, version: CapVer) -> Response {
        let text = self.to_string();
        match self {
            Trouble::Busy { seconds, .. } if version >= UNDERSTANDS_429 => {
                let retry_after = [(header::RETRY_AFTER, seconds.to_string())];
                (StatusCode::TOO_MANY_REQUESTS, retry_after, text).into_response()
            }
            Trouble::Refused(_) | Trouble::BadKey(_) | Trouble::Busy { .. } => {
                Json(RegisterResponse { error: text, ..RegisterResponse::default() }).into_response()
            }
            Trouble::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], text).into_response()
            }
        }
    }
}
