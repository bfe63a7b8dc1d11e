//! What goes wrong with a command.

/// A command failed; its text is what is printed behind `Error: `.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// In whole words.
    #[error("{0}")]
    Said(String),
    /// A server refused.
    #[error("unexpected response status: {0}")]
    Api(String),
    /// No server could be asked, or none answered.
    #[error("{doing}: {method} \"{url}\": {why}")]
    Unreachable { doing: &'static str, method: &'static str, url: String, why: String },
    /// Everything has been said; only the exit code is missing.
    #[error("")]
    Shown,
}

impl Error {
    /// An error in whole words.
    pub(super) fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }
}
