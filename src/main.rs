//! The program: the command line, with the server behind `serve`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorumscale::cli::run(std::env::args_os(), |config| async {
        quorumscale::server::run(config).await.map_err(Into::into)
    })
}
