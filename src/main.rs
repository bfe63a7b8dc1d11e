//! The program: the command line, with the server behind `serve`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorumscale::cli::run(std::env::args_os(), |_config| async { Err("the server is not there yet".into()) })
}
