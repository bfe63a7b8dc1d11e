//! Arguments, taken as cobra takes them: a flag's value may begin with a dash,
//! the last of several counts, `--force=false` is a value, and what is wrong is
//! said in cobra's words.

use super::args::Cli;
use super::error::Error;
use super::{go, help};
use crate::config::nearest::distance;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::path::Path;

/// What the arguments mean.
pub(super) enum Parsed {
    /// A text was asked for.
    Help(String),
    Command {
        cli: Box<Cli>,
        /// Arguments that the command has no use for. Headscale ignores them too.
        ignored: Vec<String>,
    },
}

/// The id of the arguments that a command has no use for.
const IGNORED: &str = "ignored";

/// The name that the program was called by.
pub(super) fn program(args: &[OsString]) -> String {
    let name = args.first().and_then(|arg| Path::new(arg).file_name()).map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "quorumscale".into())
}

/// The tree of commands.
pub(super) fn command(program: &str) -> Command {
    let root = like_cobra(Cli::command().name(program.to_owned()).bin_name(program.to_owned()));
    help::attach(root, program)
}

/// Parses all arguments, the program's name included.
pub(super) fn parse(program: &str, args: Vec<OsString>) -> Result<Parsed, Error> {
    let command = command(program);
    let words: Vec<String> = args.iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let matches = match command.clone().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return explain(&error, &command, &words, program),
    };
    let ignored = ignored(&matches);
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Error::said(first_line(&error)))?;
    Ok(Parsed::Command { cli: Box::new(cli), ignored })
}

fn like_cobra(command: Command) -> Command {
    let is_leaf = command.get_subcommands().next().is_none();
    // What takes everything as it is needs no place for the rest.
    let takes_all = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let takes_many = command.get_positionals().any(|arg| matches!(arg.get_action(), ArgAction::Append));
    let mut command = command
        .disable_help_subcommand(true)
        .args_override_self(true)
        .mut_args(flag_like_cobra)
        .mut_subcommands(like_cobra);
    if is_leaf && !takes_all && !takes_many {
        command = command.arg(Arg::new(IGNORED).num_args(0..).action(ArgAction::Append).hide(true));
    }
    command
}

fn flag_like_cobra(arg: Arg) -> Arg {
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_parser(go::boolean),
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

fn ignored(matches: &ArgMatches) -> Vec<String> {
    let mut leaf = matches;
    while let Some((_, deeper)) = leaf.subcommand() {
        leaf = deeper;
    }
    let values = leaf.try_get_many::<String>(IGNORED).ok().flatten();
    values.map(|values| values.cloned().collect()).unwrap_or_default()
}

/// Says in cobra's words what clap found wrong.
fn explain(error: &clap::Error, command: &Command, words: &[String], program: &str) -> Result<Parsed, Error> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let flag = |arg: &str| long_name(arg).to_owned();
    let message = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            return Ok(Parsed::Help(help::of(command, &path(command, words), program)?));
        }
        // An unknown command of a group prints the group's help.
        ErrorKind::InvalidSubcommand if !path(command, words).is_empty() => {
            return Ok(Parsed::Help(help::of(command, &path(command, words), program)?));
        }
        ErrorKind::InvalidSubcommand => unknown_command(&text(ContextKind::InvalidSubcommand), command, program),
        ErrorKind::UnknownArgument => unknown_flag(&text(ContextKind::InvalidArg)),
        ErrorKind::ValueValidation => {
            let arg = with_shorthand(command, words, &flag(&text(ContextKind::InvalidArg)));
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("invalid argument {:?} for {arg:?} flag: {why}", text(ContextKind::InvalidValue))
        }
        ErrorKind::MissingRequiredArgument => {
            let Some(ContextValue::Strings(args)) = error.get(ContextKind::InvalidArg) else {
                return Err(Error::said(first_line(error)));
            };
            let mut names: Vec<_> = args.iter().map(|arg| format!("{:?}", long_name(arg))).collect();
            names.sort();
            format!("required flag(s) {} not set", names.join(", "))
        }
        ErrorKind::InvalidValue if text(ContextKind::InvalidValue).is_empty() => {
            format!("flag needs an argument: --{}", flag(&text(ContextKind::InvalidArg)))
        }
        _ => first_line(error),
    };
    Err(Error::said(message))
}

fn unknown_command(name: &str, command: &Command, program: &str) -> String {
    let typed = name.to_lowercase();
    let is_near = |known: &&str| distance(&typed, known) <= 2 || known.starts_with(&typed);
    let near: String = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(Command::get_name)
        .filter(is_near)
        .map(|name| format!("\t{name}\n"))
        .collect();
    let hint = if near.is_empty() { String::new() } else { format!("\n\nDid you mean this?\n{near}") };
    format!("unknown command {name:?} for {program:?}{hint}")
}

fn unknown_flag(arg: &str) -> String {
    match arg.strip_prefix('-') {
        Some(rest) if !rest.starts_with('-') => {
            format!("unknown shorthand flag: '{}' in {arg}", rest.chars().next().unwrap_or('-'))
        }
        _ => format!("unknown flag: {arg}"),
    }
}

/// `user` of `--user <uint>`.
fn long_name(arg: &str) -> &str {
    arg.split([' ', '=', '[']).next().unwrap_or(arg).trim_start_matches('-')
}

/// `-u, --user` if the command has it so.
fn with_shorthand(command: &Command, words: &[String], long: &str) -> String {
    let leaf = path(command, words).iter().try_fold(command, |command, name| command.find_subcommand(name));
    let short = leaf.and_then(|leaf| {
        let arg = leaf.get_arguments().chain(command.get_arguments()).find(|arg| arg.get_long() == Some(long))?;
        arg.get_short()
    });
    match short {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("--{long}"),
    }
}

/// The names of the command that the words lead to, up to the first that is none.
fn path<'a>(command: &'a Command, words: &[String]) -> Vec<&'a str> {
    let (mut here, mut path) = (command, Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            if takes_next_word(here, word) || takes_next_word(command, word) {
                words.next();
            }
            continue;
        }
        let Some(deeper) = here.find_subcommand(word) else { break };
        path.push(deeper.get_name());
        here = deeper;
    }
    path
}

fn takes_next_word(command: &Command, flag: &str) -> bool {
    let is_flag = |arg: &&Arg| {
        let long = arg.get_long().is_some_and(|long| flag == format!("--{long}"));
        long || arg.get_short().is_some_and(|short| flag == format!("-{short}"))
    };
    let takes_value = |arg: &Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    command.get_arguments().find(is_flag).is_some_and(|arg| takes_value(arg) && !arg.is_require_equals_set())
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").into()
}
