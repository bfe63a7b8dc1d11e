//! What a write carries beside its command.

use crate::state::Origin;

/// Who asks for a write, and how its repetition is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `Idempotency-Key` of a request from outside: a repetition within a day changes
    /// nothing and has the first one's outcome.
    pub idempotency_key: Option<String>,
    /// On whose behalf it is, for the record; `None`: the cluster's own doing, of which
    /// there is no record.
    pub origin: Option<Origin>,
}

impl From<Origin> for Asked {
    fn from(origin: Origin) -> Self {
        Self { idempotency_key: None, origin: Some(origin) }
    }
}
