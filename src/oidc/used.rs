//! Logins that came back from the provider once.

use super::seal::Attempt;
use crate::state::Time;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Attempts that came back and are remembered: some hundred kilobytes.
const MAX_USED: usize = 10_000;

/// Attempts that came back to this replica. A code can be redeemed once at the provider;
/// this keeps a repetition from asking it.
#[derive(Default)]
pub(super) struct Used(Mutex<HashMap<Attempt, Time>>);

impl Used {
    /// Whether it is the first time; remembered until the attempt's end.
    pub fn take(&self, attempt: Attempt, now: Time, until: Time) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= MAX_USED {
            used.retain(|_, until| *until > now);
        }
        if used.len() >= MAX_USED {
            // A map's order is random: anybody may be forgotten.
            let some: Vec<Attempt> = used.keys().take(MAX_USED / 16).copied().collect();
            for attempt in &some {
                used.remove(attempt);
            }
        }
        used.insert(attempt, until).is_none()
    }
}
