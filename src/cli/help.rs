//! What the program says of itself: examples behind each `--help`, completions, man pages.
//!
//! Must not know what a command does: all of it comes from the definition of the command line, and the
//! page of the configuration from docs/CONFIGURATION.md, which a test holds together with the keys.

use super::args::{Args, Shell};
use clap::{Command, CommandFactory};
use std::io;

mod roff;

/// The command, and lines that can be typed as they are. A test parses them.
pub const EXAMPLES: &[(&str, &[&str])] = &[
    ("run", &["nodemanager run", "nodemanager -c /etc/shop.toml run --detach"]),
    ("check", &["nodemanager check", "nodemanager check --effective --json"]),
    (
        "status",
        &[
            "nodemanager status",
            "nodemanager status web@2",
            "nodemanager status --watch",
            "nodemanager status --pair --json",
        ],
    ),
    ("start", &["nodemanager start web", "nodemanager start tag:shop --timeout 30s"]),
    ("stop", &["nodemanager stop web", "nodemanager stop redis --dependants"]),
    ("restart", &["nodemanager restart web@2", "nodemanager restart --rolling web"]),
    ("reload", &["nodemanager reload web"]),
    ("drain", &["nodemanager drain web@1 --timeout 10m"]),
    ("enable", &["nodemanager enable web --now"]),
    ("disable", &["nodemanager disable mailer", "nodemanager disable web --now --only"]),
    ("signal", &["nodemanager signal HUP web", "nodemanager signal SIGUSR1 tag:shop"]),
    ("kill", &["nodemanager kill web@2"]),
    ("reset", &["nodemanager reset web", "nodemanager reset all"]),
    (
        "logs",
        &[
            "nodemanager logs -f web",
            "nodemanager logs --since 10m web db",
            "nodemanager logs --self -n 50",
        ],
    ),
    ("wait", &["nodemanager wait --ready web --timeout 1m"]),
    ("shutdown", &["nodemanager shutdown", "nodemanager shutdown --stop-servers"]),
    (
        "events",
        &[
            "nodemanager events -f",
            "nodemanager events --since 1d web",
            "nodemanager events --json",
        ],
    ),
    ("switchover", &["nodemanager switchover"]),
    ("upgrade", &["nodemanager upgrade"]),
    ("maintenance", &["nodemanager maintenance on", "nodemanager maintenance off"]),
    ("diff", &["nodemanager diff"]),
    ("apply", &["nodemanager apply", "nodemanager apply web"]),
    (
        "import",
        &[
            "nodemanager import supervisord /etc/supervisor/supervisord.conf -o conf/nodemanager.toml",
            "nodemanager import jeusnm jeusnm.xml",
        ],
    ),
    ("doctor", &["nodemanager doctor", "nodemanager doctor --json"]),
    ("completions", &["nodemanager completions bash > /etc/bash_completion.d/nodemanager"]),
    ("man", &["nodemanager man | man -l -", "nodemanager man nodemanager.toml | man -l -"]),
];

/// The whole command line, with its examples.
pub fn command() -> Command {
    EXAMPLES.iter().fold(Args::command(), |command, (name, lines)| {
        let title = if lines.len() == 1 { "Example" } else { "Examples" };
        let text = format!("{title}:\n  {}", lines.join("\n  "));
        command.mut_subcommand(name, |one| one.after_help(text))
    })
}

/// What people type: without what the program starts itself.
fn visible() -> Command {
    let all = command();
    let mut shown = Command::new("nodemanager").version(env!("CARGO_PKG_VERSION"));
    if let Some(about) = all.get_about() {
        shown = shown.about(about.clone());
    }
    for arg in all.get_arguments() {
        shown = shown.arg(arg.clone());
    }
    for one in all.get_subcommands().filter(|one| !one.is_hide_set()) {
        shown = shown.subcommand(one.clone());
    }
    shown.subcommand_required(true).disable_help_subcommand(true)
}

/// A script for the shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    use clap_complete::Shell::{Bash, Fish, Zsh};
    let shell = match shell {
        Shell::Bash => Bash,
        Shell::Zsh => Zsh,
        Shell::Fish => Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(), "nodemanager", &mut script);
    script
}

/// nodemanager(1), in roff.
///
/// # Errors
/// None that writing to memory does not have.
pub fn page_of_commands() -> io::Result<Vec<u8>> {
    let mut shown = visible();
    shown.build();
    let man = clap_mangen::Man::new(shown.clone()).manual("Node manager").date("");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    // A line that can't be stretched is no fault.
    page.extend(b".ad l\n");
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend(b".SH COMMANDS\n");
    for one in shown.get_subcommands_mut() {
        let name = one.get_name().to_owned();
        page.extend(format!(".SS {}\n", roff::escaped(&name)).bytes());
        let help = one.render_help().to_string();
        page.extend(roff::as_it_is(&help).bytes());
    }
    page.extend(roff::of_markdown(BEHIND).bytes());
    Ok(page)
}

/// nodemanager.toml(5), in roff.
pub fn page_of_configuration() -> Vec<u8> {
    let title = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH nodemanager.toml 5 \"\" \"nodemanager\" \"Node manager\"\n.ad l\n";
    let name = ".SH NAME\nnodemanager.toml \\- the configuration of nodemanager(1)\n";
    (title.to_owned() + name + &roff::of_markdown(CONFIGURATION)).into_bytes()
}

/// All keys.
const CONFIGURATION: &str = include_str!("../../docs/CONFIGURATION.md");

/// What no definition says.
const BEHIND: &str = "\
## EXIT STATUS

* 0: done
* 1: it was tried and failed
* 3: `status`: a server that is wanted is not up
* 4: no server has that name
* 64: the command line is wrong
* 69: no node manager runs
* 75: somebody else runs it, or try again later
* 77: not permitted
* 78: the configuration is wrong
* 124: the time is over; what was asked for goes on

## FILES

`$NODEMANAGER_CONFIG`, `./conf/nodemanager.toml`, `/etc/nodemanager/nodemanager.toml`: see nodemanager.toml(5).
";
