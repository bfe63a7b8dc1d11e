//! `debug`: looking at a server from outside. Hidden, as Headscale's is.

mod swarm;
mod table;

use super::context::Context;
use super::error::Error;
use super::go;
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
    Swarm(Box<swarm::Swarm>),
    /// Show what several swarms measured side by side, as Markdown; the files are outputs of -o json
    SwarmTable {
        #[arg(value_name = "FILE")]
        files: Vec<std::path::PathBuf>,
    },
    #[command(external_subcommand)]
    Other(Vec<String>),
}

pub(super) fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    match group.command {
        Command::Swarm(args) => swarm::run(context, *args),
        Command::SwarmTable { files } => swarm_table(context, &files),
        Command::Other(words) => {
            Err(Error::said(format!("debug {} is not there yet", words.first().map_or("", String::as_str))))
        }
    }
}

fn swarm_table(context: &mut Context<'_>, files: &[std::path::PathBuf]) -> Result<(), Error> {
    if files.is_empty() {
        return Err(Error::said("missing parameters: the FILEs that debug swarm -o json wrote"));
    }
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|error| Error::said(go::open_error(path, &error)))?;
        serde_json::from_str(&text).map_err(|error| Error::said(format!("{}: {error}", path.display())))
    };
    let reports = files.iter().map(read).collect::<Result<Vec<_>, Error>>()?;
    context.terminal.print(&table::side_by_side(&reports))
}
