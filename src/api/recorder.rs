//! Records of what is done to the cluster itself.

use super::Options;
use super::audit::deed;
use super::problem::ApiError;
use super::request::Once;
use crate::cluster::{Asked, Unavailable, WriteError};
use crate::state::{Command, Deed};

/// Records what has no command of its own, as a change of the membership has none: that it
/// begins, before it does, and then what became of it. What cannot be recorded is not begun,
/// so that whatever happens to this replica meanwhile, the record says who asked for it.
pub struct Recorder<'a> {
    options: &'a Options,
    once: Once,
    action: &'static str,
    subject: String,
    about: String,
}

impl<'a> Recorder<'a> {
    /// `about` is what else is to be said of it, such as an address.
    pub async fn begin(
        options: &'a Options,
        once: Once,
        action: &'static str,
        subject: String,
        about: &str,
    ) -> Result<Self, ApiError> {
        let recorder = Self { options, once, action, subject, about: about.to_owned() };
        Self::must_note(options, &recorder.once, recorder.deed("begun")).await?;
        Ok(recorder)
    }

    /// Says something else of it from now on.
    pub fn about(self, about: String) -> Self {
        Self { about, ..self }
    }

    /// Records what became of it.
    pub async fn end<T, E: std::fmt::Display>(self, result: Result<T, E>) -> Result<T, E> {
        let deed = match &result {
            Ok(_) => self.deed("done"),
            Err(error) => deed(self.action, self.subject.as_str(), format!("failed: {error}")),
        };
        Self::note(self.options, &self.once, deed).await;
        result
    }

    /// Records something that is done already, or that has to be possible also where nothing
    /// can be recorded: then the log has it.
    pub async fn note(options: &Options, once: &Once, deed: Deed) {
        if let Err(error) = write(options, once, deed.clone()).await {
            log(once, &deed, &error);
        }
    }

    /// Records something that is done only if that is recorded. A cluster with members of a
    /// release that has no record keeps none.
    pub async fn must_note(options: &Options, once: &Once, deed: Deed) -> Result<(), ApiError> {
        match write(options, once, deed.clone()).await {
            Ok(()) => Ok(()),
            Err(error @ WriteError::Unavailable(Unavailable::Mixed { .. })) => {
                log(once, &deed, &error);
                Ok(())
            }
            Err(error) => Err(ApiError::write("recording what is about to be done", error)),
        }
    }

    fn deed(&self, stage: &str) -> Deed {
        let detail = if self.about.is_empty() { stage.to_owned() } else { format!("{stage}: {}", self.about) };
        deed(self.action, self.subject.as_str(), detail)
    }
}

async fn write(options: &Options, once: &Once, deed: Deed) -> Result<(), WriteError> {
    // Without a quorum nobody has to wait to hear that.
    if !*options.cluster.quorum().borrow() {
        return Err(Unavailable::NoQuorum.into());
    }
    // The request's own key would name several different writes.
    let asked = Asked { idempotency_key: None, ..once.0.clone() };
    options.cluster.write_once(asked, Command::Note(deed)).await.map(drop)
}

fn log(once: &Once, deed: &Deed, error: &WriteError) {
    let by = once.0.origin.as_ref().map(|origin| origin.by.as_str()).unwrap_or_default();
    tracing::warn!(by, ?deed, %error, "not in the audit record");
}
