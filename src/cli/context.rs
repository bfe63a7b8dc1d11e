//! What a command works with.

use super::args::Globals;
use super::client::Client;
use super::error::Error;
use super::help;
use super::output::{self, Format};
use super::parse;
use super::terminal::Terminal;
use crate::config::{self, Surroundings};
use serde::Serialize;

/// One call of the program.
pub(super) struct Context<'a> {
    /// The name that it was called by.
    pub(super) program: String,
    pub(super) globals: Globals,
    pub(super) format: Format,
    pub(super) terminal: &'a mut Terminal,
    pub(super) surroundings: Surroundings,
}

impl Context<'_> {
    /// A client for the server that flags, environment and file name.
    pub(super) fn client(&self) -> Result<Client, Error> {
        let connecting =
            |error: &dyn std::fmt::Display| Error::said(format!("connecting to {}: {error}", self.program));
        let config = config::load_client(self.globals.config.as_deref(), &self.surroundings)
            .map_err(|error| connecting(&format_args!("loading configuration: {error}")))?;
        let mut cli = config.cli;
        if let Some(server) = &self.globals.server {
            cli.address.clone_from(server);
        }
        if let Some(key) = &self.globals.api_key {
            cli.api_key.clone_from(key);
        }
        let roots = self.surroundings.env.get("SSL_CERT_FILE").map(std::path::PathBuf::from);
        let client = Client::new(&self.program, config.unix_socket, &cli, roots.as_deref());
        client.map_err(|error| connecting(&error))
    }

    /// Prints a result: a line for people, or the payload in the format that was asked for.
    pub(super) fn show<T: Serialize>(&mut self, line: impl Into<String>, payload: &T) -> Result<(), Error> {
        let text = match self.format {
            Format::Human => line.into() + "\n",
            machine => output::payload(machine, payload)?,
        };
        self.terminal.print(&text)
    }

    /// Says a line beside the output.
    pub(super) fn say(&mut self, line: &str) {
        self.terminal.say(line);
    }

    /// Asks, unless `--force` answers.
    pub(super) fn confirm(&mut self, question: &str) -> bool {
        self.globals.force || self.terminal.confirm(question)
    }

    /// Prints the help of a command or group.
    pub(super) fn help(&mut self, path: &[&str]) -> Result<(), Error> {
        let command = parse::command(&self.program);
        let text = help::of(&command, path, &self.program)?;
        self.terminal.print(&text)
    }
}
