//! The state of a cluster that goes on under a new name: restored from a backup, or
//! recovered by a survivor. Replicas of the old one are not its members, and to
//! clients it is the same server.

use super::keys::{Keyring, KeysError};
use super::secret::Secret;
use crate::state::{Row, ServerKeys, State};

/// Why a state cannot be renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("{0}")]
    Unreadable(String),
}

/// The same state with a new cluster id and its keys under `secret`. `previous` are the
/// names of clusters that are given up with this.
pub fn renew(state: &State, keyring: &Keyring, secret: &Secret, previous: Vec<String>) -> Result<State, RenewError> {
    let unreadable = |error: &dyn std::fmt::Display| RenewError::Unreadable(error.to_string());
    let old = state.server_keys().ok_or_else(|| unreadable(&"it has no server keys"))?;
    let keys = ServerKeys { previous_cluster_ids: previous, ..keyring.renew(secret, old)? };
    let keys = serde_json::to_vec(&keys).map_err(|e| unreadable(&e))?;
    let rows = state.rows().filter(|row| Row::kind(&row.key) != "replicas").map(|row| {
        let value = match Row::kind(&row.key) {
            "server_keys" => keys.clone(),
            _ => row.value.unwrap_or_default(),
        };
        (row.key, value)
    });
    State::load(rows).map_err(|e| unreadable(&e))
}
