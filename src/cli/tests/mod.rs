//! What each command prints, and what it asks of a server.

mod cluster;
mod errors;
mod fake;
mod local;
mod objects;
mod servers;

use super::terminal::Terminal;
use super::{ServeError, execute};
use crate::config::{Config, Surroundings};
use fake::Fake;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: u8,
    out: String,
    err: String,
}

/// One call, as it is prepared.
struct Call {
    args: Vec<String>,
    surroundings: Surroundings,
    input: String,
    colour: bool,
}

/// A call of the program under Headscale's name; words are separated by spaces.
fn call(line: &str) -> Call {
    let args = std::iter::once("headscale").chain(line.split_whitespace()).map(String::from).collect();
    let surroundings = Surroundings { env: Default::default(), directories: Vec::new(), root: false };
    Call { args, surroundings, input: String::new(), colour: false }
}

impl Call {
    /// One more argument, spaces and all.
    fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    fn named(mut self, program: &str) -> Self {
        self.args[0] = program.into();
        self
    }

    fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.surroundings.env.insert(name.into(), value.to_string());
        self
    }

    fn answering(mut self, input: &str) -> Self {
        self.input = input.into();
        self
    }

    fn in_colour(mut self) -> Self {
        self.colour = true;
        self
    }

    /// Runs it with a server at its socket.
    fn at(self, fake: &Fake) -> Ran {
        self.env("HEADSCALE_UNIX_SOCKET", fake.socket().display()).run()
    }

    fn run(self) -> Ran {
        self.run_with(|_| Err("the test has no server".into()))
    }

    fn run_with(self, serve: impl FnOnce(Config) -> Result<(), ServeError>) -> Ran {
        let (out, err) = (Buffer::default(), Buffer::default());
        let mut terminal = Terminal {
            input: Box::new(std::io::Cursor::new(self.input)),
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            colour: self.colour,
        };
        let args = self.args.into_iter().map(Into::into).collect();
        let code = execute(args, &mut terminal, self.surroundings, |config| std::future::ready(serve(config)));
        Ran { code, out: out.text(), err: err.text() }
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A command that succeeded and said nothing beside its output.
fn prints(out: impl Into<String>) -> Ran {
    Ran { code: 0, out: out.into(), err: String::new() }
}

/// A command that failed with this message.
fn fails(message: &str) -> Ran {
    Ran { code: 1, out: String::new(), err: format!("Error: {message}\n") }
}
