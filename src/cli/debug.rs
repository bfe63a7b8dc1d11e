//! `debug`: looking at a server from outside. Hidden, as Headscale's is.

mod swarm;
mod table;

use super::context::Context;
use super::error::Error;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load test servers with many nodes at once, and measure how fast they are served
    ///
    /// The nodes register, hold their streams, change one after the other, flap, and log out. With --user the command
    /// makes an ephemeral key of its own and deletes it at the end; the server deletes the nodes when they log out.
    /// Only servers on this machine are loaded, unless --yes-really-load names that wish.
    Swarm(swarm::Swarm),
    #[command(external_subcommand)]
    Other(Vec<String>),
}

pub(super) fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::Swarm(args) => swarm::run(context, args),
        Command::Other(words) => {
            Err(Error::said(format!("debug {} is not there yet", words.first().map_or("", String::as_str))))
        }
    }
}
