//! Why a login comes to nothing.

use super::allowed::NotAllowed;
use crate::cluster::{Unavailable, WriteError};
use crate::state::Refused;

/// Why a login comes to nothing. The texts are for whoever logs in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("missing code or state parameter")]
    MissingParameters,
    #[error("the provider refused the login ({0})")]
    Denied(String),
    #[error("this login was not begun at this server")]
    ForeignState,
    #[error("this login took too long, or its machine does not wait any more")]
    Gone,
    #[error("this browser has no cookie of the login: it was begun in another browser, or cookies are switched off")]
    NoCookie,
    #[error("this login was begun in another browser")]
    OtherBrowser,
    #[error("this login came back before: each can be used once")]
    Used,
    #[error("too many logins came from your address: try again in {0} seconds")]
    TooMany(u64),
    #[error("the provider cannot be asked at the moment")]
    ProviderUnavailable,
    #[error("what the provider said about the login could not be verified")]
    NotVerified,
    #[error("{0}")]
    NotAllowed(#[from] NotAllowed),
    #[error("the session does not come from a machine of yours, so it is not for you to let through")]
    NotYourSession,
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
}

impl From<WriteError> for LoginError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refused) => Self::Refused(refused),
            WriteError::Unavailable(error) => Self::Unavailable(error),
        }
    }
}
