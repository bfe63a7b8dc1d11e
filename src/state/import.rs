//! What another server held, brought in as a whole.

use super::record::{ApiKey, Node, PreAuthKey, Settings, User};
use super::{ApiKeyId, AuthKeyId, SecretHash, Time};
use crate::tailcfg::MachineKey;
use serde::{Deserialize, Serialize};

/// Everything that an import brings, but for the server's private key. Records keep their
/// numbers; of nodes, `version`, `expired` and `idle_since` are set when it is applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Import {
    /// Where it comes from, for people: `Headscale 0.29.2`.
    pub source: String,
    pub settings: Settings,
    /// What the nodes know the server by.
    pub noise_public: MachineKey,
    pub users: Vec<User>,
    pub pre_auth_keys: Vec<PreAuthKey>,
    pub api_keys: Vec<ApiKey>,
    pub nodes: Vec<Node>,
    /// HuJSON; `None`: there was none.
    pub policy: Option<String>,
    /// The last numbers that the other server gave out.
    pub last: LastNumbers,
}

/// The last number of each kind, records that are gone included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastNumbers {
    pub users: u64,
    pub nodes: u64,
    pub pre_auth_keys: u64,
    pub api_keys: u64,
}

impl Import {
    /// The same for the same content: a repetition is known by it.
    pub fn fingerprint(&self) -> SecretHash {
        SecretHash::of(&serde_json::to_string(self).expect("records have string keys and no failing serialisers"))
    }
}

/// That there was an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    pub fingerprint: SecretHash,
    /// As [`Import::source`].
    pub source: String,
    pub at: Time,
    /// Who asked, as in [`PolicyText::author`](super::PolicyText::author).
    pub author: String,
}

/// A key whose slow hash is replaced by a fast one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdoptedKey {
    PreAuth(AuthKeyId),
    Api(ApiKeyId),
}

/// Why a user cannot have this name; `None`: it can.
pub fn user_name_fault(name: &str) -> Option<String> {
    super::apply::users::validate(name).err().map(|refused| refused.to_string())
}

/// Why a node cannot have this name in MagicDNS; `None`: it can.
pub fn given_name_fault(name: &str, base_domain: &str) -> Option<String> {
    super::names::validate(name, base_domain).err()
}

/// The MagicDNS label that a host name gives, before it is made unique.
pub fn label_of(host_name: &str) -> String {
    super::names::sanitize(host_name)
}
