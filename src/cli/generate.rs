//! `generate`: keys, secrets and manual pages, made here without a server.

use super::context::Context;
use super::error::Error;
use super::man;
use crate::tailcfg::PrivateKey;
use clap::{Args, Subcommand};
use serde_json::json;

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a private key for the server
    PrivateKey,
    /// Make a secret for a cluster, the same for all its replicas (cluster.secret_path)
    Secret,
    /// Write the manual pages into a directory
    Man(man::Man),
}

pub(super) fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::PrivateKey => {
            let key = PrivateKey::generate().reveal();
            context.show(key.clone(), &json!({ "private_key": key }))
        }
        Command::Man(man) => man::run(context, &man),
        Command::Secret => {
            let secret = hex::encode(rand::random::<[u8; 32]>());
            context.show(secret.clone(), &json!({ "secret": secret }))
        }
    }
}
