//! The streams that a command reads and writes.

use super::error::Error;
use std::io::{BufRead, ErrorKind, IsTerminal, Write};

/// Where a command asks and prints.
pub(super) struct Terminal {
    pub(super) input: Box<dyn BufRead>,
    pub(super) out: Box<dyn Write>,
    pub(super) err: Box<dyn Write>,
    /// Whether `out` understands colours.
    pub(super) colour: bool,
}

impl Terminal {
    /// This process's streams. Colours are for terminals, unless `NO_COLOR` is set.
    pub(super) fn of_this_process() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            input: Box::new(std::io::stdin().lock()),
            out: Box::new(std::io::stdout()),
            err: Box::new(std::io::stderr()),
            colour: !no_color && std::io::stdout().is_terminal(),
        }
    }

    /// Prints text, which ends its own lines. A reader that went away is no error.
    pub(super) fn print(&mut self, text: &str) -> Result<(), Error> {
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Error::said(format!("writing the output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Says a line to the operator, beside the output. There is nobody left to tell if that fails.
    pub(super) fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }

    /// Asks a question; everything but yes is no.
    pub(super) fn confirm(&mut self, question: &str) -> bool {
        let _ = write!(self.err, "{question} [y/n] ").and_then(|()| self.err.flush());
        let mut answer = String::new();
        let answered = self.input.read_line(&mut answer).is_ok();
        answered && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes" | "sure")
    }
}
