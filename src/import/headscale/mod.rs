//! Headscale's data: its SQLite database as 0.28, 0.29 and the development head write it,
//! its Noise key and its policy.
//!
//! | file | what it has |
//! |---|---|
//! | `database.rs` | opening the file without changing it, and its schema |
//! | `row.rs` | values as Headscale's libraries store them |
//! | `users.rs`, `keys.rs`, `nodes.rs` | one kind of record each: rows in, records out |
//! | `files.rs` | the Noise key and the policy |

mod database;
mod files;
mod keys;
mod nodes;
mod row;
#[cfg(test)]
mod tests;
mod users;

use crate::config::{HeadscaleConfig, HeadscaleDatabase};
use crate::state::{Import, LastNumbers, Settings};
use crate::tailcfg::{MachineKey, PrivateKey};
use database::Database;
pub use database::DatabaseError;
pub use files::FileError;
use std::path::{Path, PathBuf};

/// Where Headscale's data is.
#[derive(Clone, Debug)]
pub struct Sources {
    pub config: HeadscaleConfig,
    /// The database; `None`: where the configuration says.
    pub database: Option<PathBuf>,
    /// The file with the Noise key; `None`: where the configuration says, or beside the database.
    pub noise_key: Option<PathBuf>,
    /// The policy; `None`: where the configuration says.
    pub policy: Option<PathBuf>,
    pub without_policy: bool,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    pub import: Import,
    pub noise: PrivateKey,
    pub report: Report,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

/// What an operator should know before an import, a sentence each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is carried over in another form, or not at all, and why.
    pub notes: Vec<String>,
    /// What has to be put right first.
    pub problems: Vec<String>,
}

impl Report {
    fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }
}

/// Nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    File(#[from] FileError),
    /// The configuration names none.
    #[error("Headscale's configuration names no SQLite database (database.sqlite.path): name it with --db")]
    NoDatabase,
    /// It is a server's.
    #[error(
        "Headscale's configuration has database.type postgres: only SQLite is read. Copy the tables into a SQLite \
         database of the same Headscale release, and name it with --db"
    )]
    Postgres,
}

/// Reads everything, and changes nothing.
pub fn read(sources: &Sources) -> Result<Found, ReadError> {
    let path = database_path(sources)?;
    let database = Database::open(&path)?;
    let mut report = Report::default();
    let (noise, noise_path) = files::noise_key(sources, &path)?;
    let (policy, policy_path) = files::policy(sources, &database, &mut report)?;
    let import = import(sources, &database, MachineKey(noise.public()), policy, &mut report)?;
    if database.has_write_ahead_log() {
        report.note(format!(
            "{}-wal has changes that are not in {} yet: they are read. If Headscale still runs, stop it: what it \
             changes from now on is lost",
            path.display(),
            path.display()
        ));
    }
    let files = [Some(path), Some(noise_path), policy_path].into_iter().flatten().collect();
    Ok(Found { import, noise, report, files })
}

fn database_path(sources: &Sources) -> Result<PathBuf, ReadError> {
    match (&sources.database, &sources.config.database) {
        (Some(path), _) | (None, HeadscaleDatabase::Sqlite(Some(path))) => Ok(path.clone()),
        (None, HeadscaleDatabase::Sqlite(None)) => Err(ReadError::NoDatabase),
        (None, HeadscaleDatabase::Postgres) => Err(ReadError::Postgres),
    }
}

fn import(
    sources: &Sources,
    database: &Database,
    noise_public: MachineKey,
    policy: Option<String>,
    report: &mut Report,
) -> Result<Import, DatabaseError> {
    let config = &sources.config;
    let users = users::read(database, report)?;
    let pre_auth_keys = keys::pre_auth_keys(database, &users, report)?;
    let api_keys = keys::api_keys(database, report)?;
    let nodes = nodes::read(database, &nodes::Around { users: &users, keys: &pre_auth_keys, config }, report)?;
    keys::oauth(database, report)?;
    let last = LastNumbers {
        users: database.last_number("users")?,
        nodes: database.last_number("nodes")?,
        pre_auth_keys: database.last_number("pre_auth_keys")?,
        api_keys: database.last_number("api_keys")?,
    };
    Ok(Import {
        source: database.release()?,
        settings: settings(config),
        noise_public,
        users,
        pre_auth_keys,
        api_keys,
        nodes,
        policy,
        last,
    })
}

fn settings(config: &HeadscaleConfig) -> Settings {
    Settings {
        prefix_v4: config.prefixes.v4,
        prefix_v6: config.prefixes.v6,
        allocation: config.prefixes.allocation,
        base_domain: config.base_domain.clone(),
        node_expiry: config.node.expiry,
        ephemeral_timeout: config.node.ephemeral_inactivity_timeout,
    }
}

/// `path`, or the file of that name in the directory of `other`: a copy of somebody's files
/// is often in one place.
fn here_or_beside(path: &Path, other: &Path) -> PathBuf {
    match (path.exists(), path.file_name(), other.parent()) {
        (false, Some(name), Some(directory)) if directory.join(name).exists() => directory.join(name),
        _ => path.to_owned(),
    }
}
