//! People as an identity provider knows them.

use serde::{Deserialize, Serialize};

/// What a provider said of somebody who logged in, checked at the edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderUser {
    /// The issuer and the subject there: this, and nothing else, makes the user.
    pub provider_id: String,
    /// What they would be called; `None`: the provider gave no name that a user can have.
    pub name: Option<String>,
    pub display_name: String,
    /// `None`: there is none that can be trusted, and what was known before stays.
    pub email: Option<String>,
    pub profile_pic_url: String,
}
