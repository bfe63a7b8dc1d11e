//! What a configuration file means, and what is said about it.

mod fuzz;
mod keys;
mod lookup;
mod oidc;
mod sections;

use super::{Config, Note, Surroundings, load};
use std::path::{Path, PathBuf};

/// An environment without files or variables.
fn nowhere() -> Surroundings {
    Surroundings { env: Default::default(), directories: Vec::new(), root: false }
}

fn with_env<const N: usize>(env: [(&str, &str); N]) -> Surroundings {
    Surroundings { env: env.map(|(k, v)| (k.into(), v.into())).into(), ..nowhere() }
}

/// A file with this text in a directory of its own.
struct File {
    dir: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, text).unwrap();
    File { dir, path }
}

/// Loads a text in which nothing is wrong.
fn loaded(text: &str) -> Config {
    loaded_with(text, &nowhere())
}

fn loaded_with(text: &str, surroundings: &Surroundings) -> Config {
    load(Some(&file(text).path), surroundings).unwrap_or_else(|error| panic!("{error}")).config
}

/// Why a text is refused.
fn refused(text: &str) -> String {
    load(Some(&file(text).path), &nowhere()).expect_err("should be refused").to_string()
}

fn notes(text: &str) -> Vec<Note> {
    load(Some(&file(text).path), &nowhere()).unwrap_or_else(|error| panic!("{error}")).notes
}

fn warnings(text: &str) -> Vec<String> {
    let warning = |note| if let Note::Warning(text) = note { Some(text) } else { None };
    notes(text).into_iter().filter_map(warning).collect()
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
