//! Help in cobra's layout.

use super::error::Error;
use clap::{Arg, ArgAction, Command};

/// Gives every command its help, so that clap prints this and no other.
pub(super) fn attach(root: Command, program: &str) -> Command {
    let globals: Vec<Arg> = root.get_arguments().cloned().collect();
    attach_below(root, program, &globals, true)
}

fn attach_below(command: Command, path: &str, globals: &[Arg], is_root: bool) -> Command {
    let text = render(&command, path, globals, is_root);
    command.override_help(text).mut_subcommands(|sub| {
        let path = format!("{path} {}", sub.get_name());
        attach_below(sub, &path, globals, false)
    })
}

/// The help of the command with this path below the root.
pub(super) fn of(root: &Command, path: &[&str], program: &str) -> Result<String, Error> {
    let globals: Vec<Arg> = root.get_arguments().cloned().collect();
    let (mut command, mut full) = (root, program.to_owned());
    for name in path {
        let unknown = || Error::said(format!("unknown help topic {:?}", path.join(" ")));
        command = command.find_subcommand(name).ok_or_else(unknown)?;
        full = format!("{full} {}", command.get_name());
    }
    Ok(render(command, &full, &globals, path.is_empty()))
}

fn render(command: &Command, path: &str, globals: &[Arg], is_root: bool) -> String {
    let mut text = String::new();
    if let Some(about) = command.get_about() {
        text += &format!("{about}\n\n");
    }
    let subcommands: Vec<&Command> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).collect();
    text += "Usage:\n";
    if subcommands.is_empty() {
        let positionals: String = command
            .get_positionals()
            .filter(|arg| !arg.is_hide_set())
            .map(|arg| format!(" {}", value_name(arg)))
            .collect();
        text += &format!("  {path}{positionals} [flags]\n");
    } else {
        text += &format!("  {path} [command]\n");
    }
    let aliases: Vec<&str> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        text += &format!("\nAliases:\n  {}, {}\n", command.get_name(), aliases.join(", "));
    }
    text += &list_of_commands(&subcommands);
    let help_line = (Some('h'), "help".to_owned(), String::new(), format!("help for {}", command.get_name()));
    let is_global = |arg: &&Arg| globals.iter().any(|global| global.get_id() == arg.get_id());
    let own = command.get_arguments().filter(|arg| is_root || !is_global(arg));
    text += &flags("Flags", own.filter_map(flag).chain([help_line]).collect());
    if !is_root {
        text += &flags("Global Flags", globals.iter().filter_map(flag).collect());
    }
    if !subcommands.is_empty() {
        text += &format!("\nUse \"{path} [command] --help\" for more information about a command.\n");
    }
    text
}

fn list_of_commands(subcommands: &[&Command]) -> String {
    let Some(width) = subcommands.iter().map(|sub| sub.get_name().len()).max() else { return String::new() };
    let width = width.max(11);
    let mut lines: Vec<String> = subcommands
        .iter()
        .map(|sub| {
            format!("  {:width$} {}\n", sub.get_name(), sub.get_about().map(ToString::to_string).unwrap_or_default())
        })
        .collect();
    lines.sort();
    format!("\nAvailable Commands:\n{}", lines.concat())
}

/// Shorthand, name, type, and what it does.
type Flag = (Option<char>, String, String, String);

fn flag(arg: &Arg) -> Option<Flag> {
    let long = arg.get_long().filter(|_| !arg.is_hide_set())?;
    let is_bool = arg.is_require_equals_set() || matches!(arg.get_action(), ArgAction::SetTrue);
    let kind = if is_bool { String::new() } else { value_name(arg) };
    let mut what = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let default = arg.get_default_values().first().map(|value| value.to_string_lossy()).unwrap_or_default();
    match kind.as_str() {
        "" => {}
        "string" if !default.is_empty() => what += &format!(" (default \"{default}\")"),
        "int" | "uint" if !default.is_empty() && default != "0" => what += &format!(" (default {default})"),
        _ => {}
    }
    Some((arg.get_short(), long.to_owned(), kind, what))
}

fn flags(title: &str, mut flags: Vec<Flag>) -> String {
    flags.sort_by(|a, b| a.1.cmp(&b.1));
    let left = |(short, long, kind, _): &Flag| {
        let short = short.map_or("      ".into(), |short| format!("  -{short}, "));
        format!("{short}--{long}{}{kind}", if kind.is_empty() { "" } else { " " })
    };
    let width = flags.iter().map(|flag| left(flag).len()).max().unwrap_or(0);
    let lines: String = flags.iter().map(|flag| format!("{:width$}   {}\n", left(flag), flag.3)).collect();
    format!("\n{title}:\n{lines}")
}

fn value_name(arg: &Arg) -> String {
    arg.get_value_names().and_then(|names| names.first()).map_or_else(|| "string".into(), ToString::to_string)
}
