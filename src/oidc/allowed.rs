//! Who may come in by the provider: `allowed_groups`, `allowed_domains`, `allowed_users`.

use super::claims::Claims;
use crate::config::Oidc;

/// Somebody whom the provider knows may not come in here. The texts are for them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    #[error("none of your groups may join this network")]
    Group,
    #[error("your e-mail address is not verified at the provider: verify it there, and log in again")]
    UnverifiedEmail,
    #[error("e-mail addresses of your domain may not join this network")]
    Domain,
    #[error("your account is not among those that may join this network")]
    User,
}

impl NotAllowed {
    /// In Headscale's words, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Group => "unauthorised group",
            Self::UnverifiedEmail => "unverified email",
            Self::Domain => "unauthorised domain",
            Self::User => "unauthorised user",
        }
    }
}

/// All lists that are not empty must agree. Those of addresses believe none that is not verified.
pub(super) fn check(claims: &Claims, rules: &Oidc) -> Result<(), NotAllowed> {
    if !rules.allowed_groups.is_empty() && !claims.groups.iter().any(|group| rules.allowed_groups.contains(group)) {
        return Err(NotAllowed::Group);
    }
    if rules.allowed_domains.is_empty() && rules.allowed_users.is_empty() {
        return Ok(());
    }
    let email = claims.trusted_email(rules).ok_or(NotAllowed::UnverifiedEmail)?;
    let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
    if !rules.allowed_domains.is_empty() && !rules.allowed_domains.iter().any(|one| one.eq_ignore_ascii_case(domain)) {
        return Err(NotAllowed::Domain);
    }
    if !rules.allowed_users.is_empty() && !rules.allowed_users.iter().any(|one| one == email) {
        return Err(NotAllowed::User);
    }
    Ok(())
}
