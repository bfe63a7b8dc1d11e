//! What a client gets for a registration (protocol section 3.2).

use serde::Serialize;

/// `tailcfg.RegisterResponse`. All keys are always there: Tailscale's Rust client needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterResponse {
    pub user: RegisteredUser,
    pub login: Login,
    /// The client makes a new node key and registers that.
    pub node_key_expired: bool,
    pub machine_authorized: bool,
    /// Where a person decides about the login; empty: nobody has to.
    #[serde(rename = "AuthURL")]
    pub auth_url: String,
    /// Tailnet lock, which is not there: always `null`.
    pub node_key_signature: Option<String>,
    /// For people: `tailscale up` prints it.
    pub error: String,
}

/// `tailcfg.User`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RegisteredUser {
    #[serde(rename = "ID")]
    pub id: u64,
    #[serde(rename = "DisplayName")]
    pub display_name: String,
    #[serde(rename = "ProfilePicURL", skip_serializing_if = "String::is_empty")]
    pub profile_pic_url: String,
}

/// `tailcfg.Login`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Login {
    #[serde(rename = "ID")]
    pub id: u64,
    #[serde(rename = "Provider")]
    pub provider: String,
    #[serde(rename = "LoginName")]
    pub login_name: String,
    #[serde(rename = "DisplayName")]
    pub display_name: String,
    #[serde(rename = "ProfilePicURL", skip_serializing_if = "String::is_empty")]
    pub profile_pic_url: String,
}
