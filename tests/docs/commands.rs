//! docs/COMMANDS.md, made from the definition of the command line.
//!
//! Must not hold a word of its own about a command: `--help` and this page say the same.

use clap::{Arg, Command};
use nodemanager::cli::help;
use std::fmt::Write;

const HEAD: &str = "\
# Commands

This page is made from the definition of the command line, which `nodemanager COMMAND --help` shows too:
`NM_RENEW=1 cargo test --test docs` writes it. What commands return: [EXIT_CODES.md](EXIT_CODES.md).

";

/// What nobody types.
const OF_THE_PROGRAM: &str = "Started by the program itself";

/// The whole page.
pub fn page() -> String {
    let mut all = help::command();
    all.build();
    let mut text = HEAD.to_owned();
    text += &format!("{}.\n\n", sentence(all.get_about()));
    text += &format!("{}\n\n## Options of all commands\n\n", one_line(all.get_after_help()));
    text += &table(all.get_arguments().filter(|arg| arg.get_id() != "version"));
    for one in all.get_subcommands().filter(|one| !one.is_hide_set()) {
        text += &section(one);
    }
    text += "\n## Kept for habit\n\n| | |\n|---|---|\n";
    for one in all.get_subcommands().filter(|one| one.is_hide_set()) {
        let about = sentence(one.get_about());
        if about != OF_THE_PROGRAM {
            let _ = writeln!(text, "| `{}` | {} |", one.get_name(), cell(&about));
        }
    }
    text
}

fn section(command: &Command) -> String {
    let name = command.get_name();
    let mut text = format!("\n## {name}\n\n{}.\n\n", sentence(command.get_about()));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let _ = write!(text, "    {usage}\n\n");
    let own = |arg: &&Arg| !arg.is_global_set() && arg.get_id() != "help";
    if command.get_arguments().any(|arg| own(&arg)) {
        text += &table(command.get_arguments().filter(own));
        text.push('\n');
    }
    let aliases: Vec<String> =
        command.get_all_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        let _ = write!(text, "Understood too: {}.\n\n", aliases.join(", "));
    }
    let examples = help::EXAMPLES.iter().filter(|(of, _)| *of == name);
    for line in examples.flat_map(|(_, lines)| *lines) {
        let _ = writeln!(text, "    {line}");
    }
    text
}

fn table<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut rows = "| | |\n|---|---|\n".to_owned();
    for arg in args.filter(|arg| !arg.is_hide_set()) {
        let names = arg.get_value_names().unwrap_or_default();
        let takes_value = arg.get_action().takes_values() && !arg.is_positional();
        let value = if takes_value { names.first().map_or("", |name| name.as_str()) } else { "" };
        let mut shown: Vec<String> = Vec::new();
        shown.extend(arg.get_short().map(|short| format!("-{short} {value}").trim().to_owned()));
        shown.extend(arg.get_long().map(|long| format!("--{long} {value}").trim().to_owned()));
        if arg.is_positional() {
            shown.push(names.first().map_or("", |name| name.as_str()).to_owned());
        }
        let mut help = one_line(arg.get_help());
        let values: Vec<String> =
            arg.get_possible_values().iter().map(|one| format!("`{}`", one.get_name())).collect();
        if !values.is_empty() && (takes_value || arg.is_positional()) {
            let _ =
                write!(help, "{}{}", if help.is_empty() { "" } else { ": " }, values.join(", "));
        }
        let shown: Vec<String> = shown.iter().map(|one| format!("`{}`", cell(one))).collect();
        let _ = writeln!(rows, "| {} | {} |", shown.join(", "), cell(&help));
    }
    rows
}

/// A bar ends a cell, and what is between `<` and `>` is taken for HTML.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn one_line(text: Option<&clap::builder::StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn sentence(text: Option<&clap::builder::StyledStr>) -> String {
    one_line(text).trim_end_matches('.').to_owned()
}
