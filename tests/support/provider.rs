//! An OpenID provider that is not ours: npm's `oidc-provider` (`tests/oidc-provider`).

use super::browser::{Browser, Visited};
use super::process::Process;
use super::programs::program;
use super::wait::eventually_some;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Node.js starts within seconds, on a busy machine too.
const STARTED: Duration = Duration::from_secs(60);

/// It ends with the test.
pub struct Provider {
    pub issuer: String,
    _process: Process,
    _dir: TempDir,
}

impl Provider {
    pub async fn start() -> Provider {
        Self::start_at(0).await
    }

    /// On this port of 127.0.0.1.
    pub async fn start_at(port: u16) -> Provider {
        let dir = tempfile::Builder::new().prefix("quorumscale-provider-").tempdir().expect("a directory");
        let mut command = Command::new("node");
        command.arg(program("oidc-provider/provider.mjs")).arg(port.to_string());
        let process = Process::start(&mut command, &dir.path().join("log"));
        let find = || process.output().lines().find(|line| line.starts_with("http://")).map(String::from);
        let issuer = eventually_some("the OpenID provider", STARTED, find).await;
        Provider { issuer, _process: process, _dir: dir }
    }

    /// Lines of a replica's configuration that name it.
    pub fn config(&self, more: &str) -> String {
        config(&self.issuer, more)
    }

    /// Logs in at the page that `location` leads to, and comes back to where the provider
    /// sends browsers: that address, not yet visited.
    pub async fn log_in(&self, browser: &mut Browser, location: &str, account: &str) -> String {
        let is_back = |url: &str| url.contains("/oidc/callback?");
        let page = browser.follow(location, is_back).await;
        if is_back(&page.url) {
            // It knows this browser already.
            return page.url;
        }
        assert!(page.reply.body.contains("name=\"login\""), "the provider's page: {page:?}");
        let back: Visited = browser.submit(&page, &format!("login={account}"), is_back).await;
        assert!(is_back(&back.url), "the provider sends the browser back: {back:?}");
        back.url
    }
}

/// The same, of one that does not run.
pub fn config(issuer: &str, more: &str) -> String {
    format!(
        "oidc:\n  issuer: {issuer}\n  client_id: quorumscale\n  client_secret: \"a secret: with + signs\"\n  \
         pkce: {{ enabled: true }}\n{more}"
    )
}
