//! The commands about the server itself: `serve`, `configtest`, `health`, `version`.

use super::ServeError;
use super::context::Context;
use super::error::Error;
use crate::config::{self, Config, Note};
use serde::Serialize;
use serde_json::{Value, json};
use std::future::Future;

/// Runs the server until it stops.
pub(super) fn serve<S, F>(context: &mut Context<'_>, serve: S) -> Result<(), Error>
where
    S: FnOnce(Config) -> F,
    F: Future<Output = Result<(), ServeError>>,
{
    let loaded = config::load(context.globals.config.as_deref(), &context.surroundings)
        .map_err(|error| Error::said(format!("loading configuration: {error}")))?;
    for note in &loaded.notes {
        let line = if loaded.config.log.json { json_line(note) } else { note.to_string() };
        context.say(&line);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::said(format!("starting: {error}")))?;
    runtime.block_on(serve(loaded.config)).map_err(|error| Error::said(error.to_string()))
}

fn json_line(note: &Note) -> String {
    match note {
        Note::Info(message) => json!({ "level": "INFO", "message": message }).to_string(),
        Note::Warning(message) => json!({ "level": "WARN", "message": message }).to_string(),
    }
}

/// Checks the configuration and the files that it names. Warnings are said, and are no failure.
pub(super) fn configtest(context: &mut Context<'_>) -> Result<(), Error> {
    let failed = |why: String| Error::said(format!("configuration error: loading configuration: {why}"));
    let loaded = config::load(context.globals.config.as_deref(), &context.surroundings);
    let loaded = loaded.map_err(|error| failed(error.to_string()))?;
    for note in loaded.notes.iter().filter(|note| matches!(note, Note::Warning(_))) {
        context.say(&note.to_string());
    }
    let missing = config::missing_files(&loaded.config);
    if missing.is_empty() { Ok(()) } else { Err(failed(missing.join("; "))) }
}

/// Succeeds if the server can read and write.
pub(super) async fn health(context: &mut Context<'_>) -> Result<(), Error> {
    let answer: Value = context.client()?.get("checking health", "/api/v1/health").await?;
    context.show("", &answer)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    commit: &'static str,
    build_time: &'static str,
    /// Headscale's name for what built it and for where it runs.
    go: Toolchain,
    dirty: bool,
}

#[derive(Serialize)]
struct Toolchain {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
}

/// Says which release this is.
pub(super) fn version(context: &mut Context<'_>) -> Result<(), Error> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("QUORUMSCALE_COMMIT").unwrap_or("unknown"),
        build_time: option_env!("QUORUMSCALE_BUILD_TIME").unwrap_or("unknown"),
        go: Toolchain {
            version: concat!("rust", env!("CARGO_PKG_RUST_VERSION")),
            os: std::env::consts::OS,
            arch: arch(),
        },
        dirty: false,
    };
    let text = format!(
        "{} version {}\ncommit: {}\nbuild time: {}\nbuilt with: {} {}/{}\n",
        context.program,
        version.version,
        version.commit,
        version.build_time,
        version.go.version,
        version.go.os,
        version.go.arch
    );
    context.show(text, &version)
}

/// The architecture by Go's name.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
