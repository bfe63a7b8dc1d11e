//! What a snapshot file is encrypted under: a passphrase or a key file, and never in the arguments.

use crate::cli::context::Context;
use crate::cli::error::Error;
use crate::cluster::backup::Lock;
use crate::sensitive::Sensitive;
use clap::Args;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// The environment's variable with the passphrase.
const VARIABLE: &str = "QUORUMSCALE_SNAPSHOT_PASSPHRASE";

/// A shorter one is guessed, however dear each guess is made.
const SHORTEST: usize = 8;

#[derive(Debug, Args)]
pub(super) struct LockArgs {
    /// File whose first line is the passphrase (default: $QUORUMSCALE_SNAPSHOT_PASSPHRASE, or a question)
    #[arg(long, value_name = "file", conflicts_with = "key_file")]
    passphrase_file: Option<PathBuf>,
    /// File with a key, as "generate secret" makes it, instead of a passphrase
    #[arg(long, value_name = "file")]
    key_file: Option<PathBuf>,
}

impl LockArgs {
    /// For a new file: a typed passphrase is asked for twice.
    pub(super) fn new_lock(&self, context: &Context<'_>) -> Result<Lock, Error> {
        let lock = self.read(context, true)?;
        match &lock {
            Lock::Passphrase(passphrase) if passphrase.chars().count() < SHORTEST => Err(Error::said(format!(
                "the passphrase has {} characters, and needs at least {SHORTEST}",
                passphrase.chars().count()
            ))),
            _ => Ok(lock),
        }
    }

    /// For a file that is there.
    pub(super) fn lock(&self, context: &Context<'_>) -> Result<Lock, Error> {
        self.read(context, false)
    }

    fn read(&self, context: &Context<'_>, twice: bool) -> Result<Lock, Error> {
        if let Some(path) = &self.key_file {
            return key(path);
        }
        if let Some(path) = &self.passphrase_file {
            let text = text(path)?;
            let line = text.lines().next().unwrap_or_default();
            return Ok(Lock::Passphrase(Sensitive::new(line.to_owned())));
        }
        if let Some(passphrase) = context.surroundings.env.get(VARIABLE).filter(|text| !text.is_empty()) {
            return Ok(Lock::Passphrase(Sensitive::new(passphrase.clone())));
        }
        if !std::io::stdin().is_terminal() {
            return Err(Error::said(format!(
                "a passphrase is needed: give --passphrase-file or --key-file, or set {VARIABLE}"
            )));
        }
        let passphrase = typed("Passphrase of the snapshot: ")?;
        if twice && typed("The same again: ")? != passphrase {
            return Err(Error::said("the two passphrases differ: nothing was saved"));
        }
        Ok(Lock::Passphrase(passphrase))
    }
}

fn typed(prompt: &str) -> Result<Sensitive<String>, Error> {
    let typed = rpassword::prompt_password(prompt);
    typed.map(Sensitive::new).map_err(|error| Error::said(format!("asking for the passphrase: {error}")))
}

fn text(path: &Path) -> Result<Sensitive<String>, Error> {
    let text = std::fs::read_to_string(path);
    text.map(Sensitive::new).map_err(|error| Error::said(format!("reading {}: {error}", path.display())))
}

fn key(path: &Path) -> Result<Lock, Error> {
    let text = text(path)?;
    let mut key = Sensitive::new([0; 32]);
    hex::decode_to_slice(text.trim(), &mut *key).map_err(|_| {
        Error::said(format!(
            "{}: not a key (expected 64 hex digits, got {} characters): \"generate secret\" makes one",
            path.display(),
            text.trim().chars().count()
        ))
    })?;
    Ok(Lock::Key(key))
}
