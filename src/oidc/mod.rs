//! Login through an OpenID provider (OpenID Connect Core 1.0, the code flow).
//!
//! A machine that waits for a decision shows its user a page of this server
//! (`/register/{id}`, or `/auth/{id}` for an SSH session). With a provider the page sends the
//! browser there; it comes back to `/oidc/callback`, and whoever the provider says has
//! logged in confirms that the machine is theirs. Each step may meet another replica: what
//! a step needs of the one before travels with the browser, sealed, and what is decided is
//! a command as any other decision.
//!
//! | file | what |
//! |---|---|
//! | `login`, `error` | the steps, and why one may fail |
//! | `seal`, `used` | what the browser carries, and what binds it to the browser; once |
//! | `provider` | discovery, codes for tokens, keys, user information |
//! | `jws`, `claims` | whether a token is signed, and meant for this login |
//! | `allowed`, `identity` | who may come in, and who that is |

mod allowed;
mod claims;
mod error;
#[cfg(test)]
mod fuzz_tests;
mod identity;
mod jws;
mod login;
mod provider;
mod seal;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod used;

pub use allowed::NotAllowed;
pub use error::LoginError;
pub use login::{Begun, Confirmed, Cookie, Cookies, Finished, Purpose, Returned};

use crate::cluster::Cluster;
use crate::config::{self, ClientSecret, WhenUnavailable};
use crate::limits::{Budget, Limits};
use crate::policy::Policies;
use crate::sensitive::Sensitive;
use provider::Provider;
use seal::Sealer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How long a start waits for a provider without which it may not be.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// How many logins may speak with the provider at one time; the next ones are told to wait.
const MAX_CONVERSATIONS: usize = 64;

/// The login cannot be offered, and so the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("oidc.client_secret_path: {path}: {reason}")]
    Secret { path: PathBuf, reason: String },
    #[error(
        "oidc.issuer {issuer:?}: {reason}. To serve without it, and to go on looking for it, set \
         oidc.only_start_if_oidc_is_available to false"
    )]
    Unavailable { issuer: String, reason: String },
}

/// What a login needs of the rest of the server.
pub struct Environment {
    pub cluster: Cluster,
    pub policies: Arc<Policies>,
    /// This replica's own, without a slash at its end: the provider sends browsers back there.
    pub server_url: String,
    pub limits: Limits,
}

/// A provider that is being looked for, before there is a cluster to log in to.
pub struct Found {
    rules: config::Oidc,
    secret: Sensitive<String>,
    provider: Arc<Provider>,
}

/// Login by a provider.
pub struct Oidc {
    rules: config::Oidc,
    secret: Sensitive<String>,
    provider: Arc<Provider>,
    environment: Environment,
    /// Of the `state` that a browser takes to the provider.
    states: Sealer,
    /// Of the form in which a person confirms.
    confirmations: Sealer,
    used: used::Used,
    /// Returns from the provider, by the address that they came from.
    returns: Budget,
    conversations: Semaphore,
}

impl Found {
    /// Reads the secret; where a start without the provider is not wanted, waits for it.
    pub async fn look(rules: &config::Oidc) -> Result<Self, StartError> {
        let secret = match &rules.client_secret {
            ClientSecret::Text(secret) => secret.clone(),
            ClientSecret::File(path) => {
                let error = |reason: String| StartError::Secret { path: path.clone(), reason };
                let text = std::fs::read_to_string(path).map(Sensitive::new).map_err(|e| error(e.to_string()))?;
                Sensitive::new(text.trim().to_owned())
            }
        };
        let provider = Arc::new(Provider::new(&rules.issuer));
        if rules.when_unavailable == WhenUnavailable::Refuse {
            let found = provider.find_within(START_PATIENCE).await;
            found.map_err(|e| StartError::Unavailable { issuer: rules.issuer.clone(), reason: e.to_string() })?;
        }
        Ok(Self { rules: rules.clone(), secret, provider })
    }

    /// Offers logins, and goes on looking for the provider until `stop`.
    pub fn serve(self, environment: Environment, stop: CancellationToken) -> Arc<Oidc> {
        let provider = self.provider.clone();
        tokio::spawn(async move { stop.run_until_cancelled(provider.follow()).await });
        Arc::new(Oidc {
            states: Sealer::new(&environment.cluster, "state"),
            confirmations: Sealer::new(&environment.cluster, "confirm"),
            used: used::Used::default(),
            returns: Budget::new(u32::try_from(environment.limits.pending_logins_per_address).unwrap_or(u32::MAX)),
            conversations: Semaphore::new(MAX_CONVERSATIONS),
            rules: self.rules,
            secret: self.secret,
            provider: self.provider,
            environment,
        })
    }
}
