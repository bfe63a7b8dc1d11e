//! What an import needs of Headscale's own configuration. Keys of features that are not here
//! do not matter for that, so nothing else is looked at.

use super::build::general;
use super::load::{LoadError, Surroundings, origin};
use super::reader::Reader;
use super::{NodeRules, Prefixes};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Headscale's configuration, as far as its data means nothing without it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadscaleConfig {
    /// What its clients know it by, as it is written.
    pub server_url: String,
    pub prefixes: Prefixes,
    pub node: NodeRules,
    /// Without a trailing dot.
    pub base_domain: String,
    pub noise_private_key_path: Option<PathBuf>,
    pub policy: HeadscalePolicy,
    pub database: HeadscaleDatabase,
}

/// Where its policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadscalePolicy {
    Database,
    /// `None`: it has none, and allows everything.
    File(Option<PathBuf>),
}

/// Where its data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadscaleDatabase {
    /// `None`: the file does not say.
    Sqlite(Option<PathBuf>),
    Postgres,
}

/// Reads the file; not this process's environment, which is not Headscale's.
pub fn load_headscale(file: &Path) -> Result<HeadscaleConfig, LoadError> {
    let nothing = Surroundings { env: BTreeMap::new(), directories: Vec::new(), root: false };
    let mut reader = Reader::open(Some(file.to_owned()), &nothing)?;
    let config = HeadscaleConfig {
        server_url: reader.text("server_url").unwrap_or_default(),
        prefixes: general::prefixes(&mut reader),
        node: general::node(&mut reader),
        base_domain: reader.text("dns.base_domain").unwrap_or_default().trim_end_matches('.').to_lowercase(),
        noise_private_key_path: reader.path("noise.private_key_path"),
        policy: policy(&mut reader),
        database: database(&mut reader),
    };
    let (_, problems) = reader.finish();
    if problems.is_empty() { Ok(config) } else { Err(LoadError::Values { origin: origin(Some(file)), problems }) }
}

/// A file is what Headscale takes unless it is told otherwise.
fn policy(reader: &mut Reader) -> HeadscalePolicy {
    match reader.non_empty("policy.mode").as_deref() {
        Some("database" | "db") => HeadscalePolicy::Database,
        _ => HeadscalePolicy::File(reader.path("policy.path")),
    }
}

fn database(reader: &mut Reader) -> HeadscaleDatabase {
    match reader.non_empty("database.type").as_deref() {
        Some("postgres") => HeadscaleDatabase::Postgres,
        _ => HeadscaleDatabase::Sqlite(reader.path("database.sqlite.path")),
    }
}
