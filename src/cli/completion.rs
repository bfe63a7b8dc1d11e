//! `completion`: scripts with which shells complete commands.

use super::context::Context;
use super::error::Error;
use super::parse;
use clap::{Args, Subcommand};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(super) struct Group {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the script for bash
    Bash,
    /// Print the script for zsh
    Zsh,
    /// Print the script for fish
    Fish,
    /// Print the script for PowerShell
    Powershell,
}

pub(super) fn run(context: &mut Context<'_>, group: Group) -> Result<(), Error> {
    let shell = match group.command {
        Command::Bash => Shell::Bash,
        Command::Zsh => Shell::Zsh,
        Command::Fish => Shell::Fish,
        Command::Powershell => Shell::PowerShell,
    };
    let mut script = Vec::new();
    let program = context.program.clone();
    clap_complete::generate(shell, &mut parse::command(&program), program, &mut script);
    context.terminal.print(&String::from_utf8_lossy(&script))
}
