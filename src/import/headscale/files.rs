//! The files beside the database: the Noise key, and maybe the policy.

use super::database::{Database, DatabaseError};
use super::row::ValueError;
use super::{ReadError, Report, Sources, here_or_beside};
use crate::config::HeadscalePolicy;
use crate::sensitive::Sensitive;
use crate::tailcfg::PrivateKey;
use std::path::{Path, PathBuf};

/// The name that Headscale's example gives the key's file.
const USUAL_NOISE_KEY: &str = "noise_private.key";

/// No policy is larger.
const MAX_POLICY: u64 = 4 << 20;

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("reading Headscale's Noise key {}: {reason}; name the file with --noise-key", path.display())]
    NoiseKey { path: PathBuf, reason: String },
    #[error("reading Headscale's policy {}: {reason}; name the file with --policy-file, or leave it out with --without-policy", path.display())]
    Policy { path: PathBuf, reason: String },
}

/// The key that clients know the server by, and the file that has it.
pub fn noise_key(sources: &Sources, database: &Path) -> Result<(PrivateKey, PathBuf), FileError> {
    let configured = sources.config.noise_private_key_path.clone();
    let path = match &sources.noise_key {
        Some(path) => path.clone(),
        None => here_or_beside(&configured.unwrap_or_else(|| USUAL_NOISE_KEY.into()), database),
    };
    let failed = |reason: String| FileError::NoiseKey { path: path.clone(), reason };
    let text = Sensitive::new(std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?);
    let key = text.parse::<PrivateKey>().map_err(|error| failed(error.to_string()))?;
    Ok((key, path))
}

/// The policy, and its file if it is in one.
pub fn policy(
    sources: &Sources,
    database: &Database,
    report: &mut Report,
) -> Result<(Option<String>, Option<PathBuf>), ReadError> {
    if sources.without_policy {
        report.note("the policy stays behind (--without-policy): everything is allowed until one is set".into());
        return Ok((None, None));
    }
    match (&sources.policy, &sources.config.policy) {
        (Some(path), _) => Ok((Some(read(path)?), Some(path.clone()))),
        (None, HeadscalePolicy::File(Some(path))) => {
            let beside = sources.database.as_deref().unwrap_or(Path::new(""));
            let path = here_or_beside(path, beside);
            Ok((Some(read(&path)?), Some(path)))
        }
        (None, HeadscalePolicy::File(None)) => Ok((None, None)),
        (None, HeadscalePolicy::Database) => Ok((newest(database)?, None)),
    }
}

fn read(path: &Path) -> Result<String, FileError> {
    let failed = |reason: String| FileError::Policy { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_POLICY {
        return Err(failed(format!("it has {size} bytes; at most {MAX_POLICY} are read")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

/// The one that Headscale has in force.
fn newest(database: &Database) -> Result<Option<String>, DatabaseError> {
    let rows = database.rows("policies", |row| {
        let deleted = row.time("deleted_at")?.is_some();
        Ok::<_, ValueError>((!deleted).then_some(row.text("data")?))
    })?;
    Ok(rows.into_iter().flatten().next_back().filter(|text| !text.trim().is_empty()))
}
