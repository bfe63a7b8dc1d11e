//! `generate man`: the manual pages, one for each command.

use super::args::Cli;
use super::context::Context;
use super::error::Error;
use clap::{Args, CommandFactory};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Where the pages are written; it is made if it is not there
    directory: PathBuf,
}

pub(super) fn run(context: &mut Context<'_>, man: &Man) -> Result<(), Error> {
    let count = write(&man.directory, &context.program).map_err(|error| {
        let directory = man.directory.display();
        Error::said(format!("cannot write the manual pages to {directory}: {error}; name a directory that is yours"))
    })?;
    let told = format!("{count} pages in {}", man.directory.display());
    context.show(told, &serde_json::json!({ "directory": man.directory, "pages": count }))
}

/// The pages of all commands that help shows, as `PROGRAM-COMMAND.1`; gives how many.
fn write(directory: &Path, program: &str) -> std::io::Result<usize> {
    std::fs::create_dir_all(directory)?;
    let root = Cli::command().name(program.to_owned()).disable_help_subcommand(true);
    clap_mangen::generate_to(root, directory)?;
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        count += usize::from(entry?.path().extension().is_some_and(|extension| extension == "1"));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_says_what_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let count = write(&dir.path().join("new"), "quorumscale").unwrap();
        assert!(count > 40, "{count}");
        for (page, words) in [
            ("quorumscale.1", "configtest"),
            ("quorumscale-nodes-list.1", "\\-\\-user"),
            ("quorumscale-cluster-status.1", "cluster"),
        ] {
            let text = std::fs::read_to_string(dir.path().join("new").join(page)).unwrap();
            assert!(text.contains(".TH ") && text.contains(words), "{page}: {text}");
        }
    }
}
