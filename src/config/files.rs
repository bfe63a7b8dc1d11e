//! Whether the files are there that a configuration names.

use super::{ClientSecret, Config, PolicySource};
use std::path::Path;

/// What is wrong with the files that the server reads and does not make, a sentence each.
pub fn missing_files(config: &Config) -> Vec<String> {
    let mut files: Vec<(&str, &Path)> = Vec::new();
    if let Some(tls) = &config.tls {
        files.extend([("tls_cert_path", tls.cert.as_path()), ("tls_key_path", &tls.key)]);
    }
    if let PolicySource::File(Some(path)) = &config.policy {
        files.push(("policy.path", path));
    }
    if let Some(previous) = &config.cluster.previous_secret_path {
        files.extend([
            ("cluster.secret_path", config.cluster.secret_path.as_path()),
            ("cluster.previous_secret_path", previous),
        ]);
    }
    if let Some(ClientSecret::File(path)) = config.oidc.as_ref().map(|oidc| &oidc.client_secret) {
        files.push(("oidc.client_secret_path", path));
    }
    files.extend(config.derp.paths.iter().map(|path| ("derp.paths", path.as_path())));
    files.extend(config.dns.extra_records_path.iter().map(|path| ("dns.extra_records_path", path.as_path())));
    let problem = |(key, path): (&str, &Path)| {
        let error = std::fs::File::open(path).err()?;
        Some(format!("{key} {:?}: {error}", path.display().to_string()))
    };
    files.into_iter().filter_map(problem).collect()
}
