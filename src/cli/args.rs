//! The command line.
//!
//! Must not read a file or ask anybody: it turns words into values, or says what is wrong.

use super::{Failure, exit};
use crate::api::{Dependants, Goal};
use clap::{Args as ClapArgs, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// A whole command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "nodemanager",
    version,
    about = "Starts, watches and restarts the servers of this machine; replicated itself",
    after_help = "NAME is a server, an instance (web@2), a program with all its instances (web), \
                  a pattern (w*), a tag (tag:shop), or all.",
    disable_help_subcommand = true
)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, ClapArgs)]
pub struct Common {
    /// The configuration file [default: $NODEMANAGER_CONFIG, ./conf/nodemanager.toml,
    /// /etc/nodemanager/nodemanager.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Wait no longer than this (500ms, 10s, 2m, 1h); what was asked for goes on, exit status 124
    #[arg(long, global = true, value_name = "DUR", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Do not wait for the result
    #[arg(long, global = true)]
    pub no_wait: bool,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Start the pair and stay in the foreground as its keeper
    Run {
        /// Return when the pair is whole and the servers that start by themselves are up; with
        /// --no-wait as soon as an active serves
        #[arg(long)]
        detach: bool,
        /// Started by --detach: who reads standard error goes away soon
        #[arg(long, hide = true, conflicts_with = "detach")]
        background: bool,
    },
    /// Read the configuration and print every error in it, or the paths and servers
    Check {
        /// Every value with where it is from, secrets too; with --json as JSON
        #[arg(long)]
        effective: bool,
    },
    /// Show the pair and the servers
    Status {
        /// Servers, with details of each [default: all, without]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Only the pair: exit status 3 without a WATCHING standby or without a keeper
        #[arg(long)]
        pair: bool,
        /// Only the rows
        #[arg(long)]
        no_header: bool,
        /// On the whole screen, refreshed as things happen, with keys to start, stop and restart
        /// servers and to follow their logs; `?` shows the keys
        #[arg(short, long, conflicts_with_all = ["pair", "no_header"])]
        watch: bool,
    },
    /// Start servers and wait for the result
    Start(Names),
    /// Stop servers and wait until they are gone
    Stop(Down),
    /// Stop servers and start them again
    Restart {
        #[command(flatten)]
        down: Down,
        /// One after the other, each RUNNING again before the next; stops at the first that fails.
        /// Those that need them are left as they are, unless --dependants is given
        #[arg(long)]
        rolling: bool,
    },
    /// Make servers read their configuration again, as their key `reload` says
    Reload(Names),
    /// Let servers take no new work, wait until none is left, and stop them
    Drain(Down),
    /// Let servers be started again; this starts none of them without --now
    Enable {
        #[command(flatten)]
        names: Names,
        /// Start them too
        #[arg(long)]
        now: bool,
    },
    /// Let nothing start servers until they are enabled; what runs, runs on without --now
    Disable {
        #[command(flatten)]
        down: Down,
        /// Stop them too
        #[arg(long)]
        now: bool,
    },
    /// Send a signal to servers
    Signal {
        /// A name (HUP, SIGHUP) or a number
        #[arg(value_name = "SIG", value_parser = signal_name)]
        signal: String,
        #[command(flatten)]
        names: Names,
    },
    /// Stop servers at once with SIGKILL; they stay down
    Kill(Names),
    /// Clear counts; start a FAILED server that is wanted
    #[command(alias = "reset-failed")]
    Reset(Names),
    /// Show the output of servers, or the pair's own logs; --json: one object a line
    #[command(alias = "tail")]
    Logs(Logs),
    /// Show what happened; --json: one object a line
    Events(Events),
    /// Wait for servers
    Wait(Wait),
    /// End the pair; servers stay up unless --stop-servers is given
    Shutdown {
        /// Leave the servers up (the default)
        #[arg(long, conflicts_with = "stop_servers")]
        keep_servers: bool,
        /// Stop the servers first
        #[arg(long)]
        stop_servers: bool,
    },
    /// Show what apply would change
    #[command(alias = "reread")]
    Diff {
        /// Servers [default: everything]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Put the configuration file in force; only what changed is restarted
    #[command(alias = "update")]
    Apply {
        /// Servers [default: everything]
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Write the configuration file of another program anew as one of this program
    Import(Import),
    /// Look at what the pair needs of this machine: a line for each check, exit status 1 at a FAIL
    Doctor,
    /// Print a script that completes commands and options
    Completions {
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print a man page
    Man {
        #[arg(value_enum, default_value = "nodemanager")]
        page: Page,
    },
    /// Print the PID of servers
    #[command(hide = true)]
    Pid(Names),
    /// Kept for habit: logs --self
    #[command(hide = true)]
    Maintail {
        #[arg(short, long)]
        follow: bool,
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<u32>,
    },
    /// Let the standby become the active, and a fresh standby take its place; no server notices
    #[command(visible_alias = "failover")]
    Switchover,
    /// Let the pair run the program that is on disk now, proven first; no server notices
    Upgrade,
    /// Restart nothing by itself (on) or again (off); what is asked for is done
    Maintenance {
        #[arg(value_name = "on|off", value_enum)]
        state: OnOff,
    },
    /// Started by the program itself
    #[command(hide = true)]
    Keeper {
        #[arg(long)]
        from: i32,
    },
    /// Started by the program itself
    #[command(hide = true)]
    Active,
    /// Started by the program itself
    #[command(hide = true)]
    Standby,
    /// Started by the program itself
    #[command(hide = true)]
    Mover,
    /// Started by the program itself
    #[command(hide = true)]
    Saver,
    /// Started by the program itself
    #[command(hide = true)]
    Compressor,
    /// Started by the program itself
    #[command(hide = true)]
    Applier,
    /// Started by the program itself
    #[command(hide = true)]
    Mailer,
    /// Started by the program itself
    #[command(hide = true)]
    Prover,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnOff {
    On,
    Off,
}

/// What `import` reads and writes.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub struct Import {
    /// Whose file it is
    #[arg(value_enum)]
    pub from: Origin,
    /// supervisord.conf or jeusnm.xml
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write over it if it is there
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// Whom `completions` writes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What `man` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// The commands
    #[value(alias = "1")]
    Nodemanager,
    /// The configuration
    #[value(name = "nodemanager.toml", alias = "5")]
    Configuration,
}

/// Whose configuration is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    Supervisord,
    Jeusnm,
}

/// One or more servers.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub struct Names {
    /// Servers
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Servers that are to go down, and those that need them.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub struct Down {
    #[command(flatten)]
    pub names: Names,
    /// Those that need these servers too, and before them
    #[arg(long, conflicts_with = "only")]
    dependants: bool,
    /// Leave those that need these servers as they are
    #[arg(long)]
    only: bool,
}

impl Down {
    /// What becomes of those that need the servers; `None`: nothing was said.
    pub fn dependants(&self) -> Option<Dependants> {
        match (self.dependants, self.only) {
            (true, _) => Some(Dependants::Too),
            (_, true) => Some(Dependants::Leave),
            (false, false) => None,
        }
    }
}

/// What `logs` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub struct Logs {
    /// Servers
    #[arg(value_name = "NAME", required_unless_present_any = ["self_log", "standby", "reopen"])]
    pub names: Vec<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// This many lines from the end [default: 10, or all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u32>,
    /// Nothing from before: 2026-11-21T19:44:01Z, "2026-11-21 19:44", or how long ago (10m, 2h)
    #[arg(long, value_name = "T", value_parser = since)]
    pub since: Option<jiff::Timestamp>,
    /// Only standard output
    #[arg(long, conflicts_with = "stderr")]
    pub stdout: bool,
    /// Only standard error, of servers where it has a log of its own
    #[arg(long)]
    pub stderr: bool,
    /// The active's own log
    #[arg(long = "self", conflicts_with_all = ["names", "standby"])]
    pub self_log: bool,
    /// The standby's own log
    #[arg(long, conflicts_with = "names")]
    pub standby: bool,
    /// Make the pair open all of its logs again, after another program moved them
    #[arg(long, conflicts_with_all = ["names", "self_log", "standby", "follow", "lines", "since"])]
    pub reopen: bool,
}

/// What `events` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, ClapArgs)]
pub struct Events {
    /// Of these servers only [default: everything]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub follow: bool,
    /// This many from the end [default: 20, or all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u32>,
    /// Nothing from before: 2026-11-21T19:44:01Z, "2026-11-21 19:44", or how long ago (10m, 2h)
    #[arg(long, value_name = "T", value_parser = since)]
    pub since: Option<jiff::Timestamp>,
    /// Only these kinds, by name or pattern (server-*); may be given again
    #[arg(long = "kind", value_name = "KIND")]
    pub kinds: Vec<String>,
}

/// What `wait` waits for.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
pub struct Wait {
    #[command(flatten)]
    goal: GoalFlags,
    #[command(flatten)]
    pub names: Names,
}

#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
#[group(required = true, multiple = false)]
struct GoalFlags {
    /// Until the process exists
    #[arg(long)]
    up: bool,
    /// Until it is RUNNING
    #[arg(long)]
    ready: bool,
    /// Until its group is gone
    #[arg(long)]
    down: bool,
}

impl Wait {
    /// What is waited for.
    pub fn goal(&self) -> Goal {
        match (self.goal.up, self.goal.down) {
            (true, _) => Goal::Up,
            (_, true) => Goal::Down,
            (false, false) => Goal::Ready,
        }
    }
}

/// Reads a command line, its first word being the program.
///
/// # Errors
/// A command line that is wrong: exit status 64. What `--help` and `--version` print comes with
/// exit status 0 and belongs on stdout. The text is whole, with its newlines.
pub fn parse<I, T>(words: I) -> Result<Args, Failure>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let matches = super::help::command().try_get_matches_from(words);
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches));
    let mut args = args.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Failure::new(exit::DONE, error.render().to_string())
        }
        _ => Failure::new(exit::USAGE, error.render().to_string()),
    })?;
    if let Command::Maintail { follow, lines } = args.command {
        let logs = Logs { follow, lines, self_log: true, ..Logs::default() };
        args.command = Command::Logs(logs);
    }
    Ok(args)
}

/// A moment: a time, or how long ago.
fn since(text: &str) -> Result<jiff::Timestamp, String> {
    super::logs::since::parse(text, jiff::Timestamp::now())
}

/// A duration as the configuration has it: `500ms`, `10s`, `2m`, `1h`, `1d`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if digits > 0 => return Err(format!("a unit is missing: {text}s or {text}ms?")),
        _ => return Err("expected a number with ms, s, m, h or d behind it, such as 10s".into()),
    };
    let count: u64 = number.parse().map_err(|_| format!("{number:?} is no number that fits"))?;
    count.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "too long".into())
}

/// The full name of a signal that was given as `HUP`, `sighup` or `1`.
fn signal_name(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let by_number = text.parse().ok().and_then(|number: i32| Signal::try_from(number).ok());
    let signal = by_number.or_else(|| full.parse().ok());
    signal
        .map(|signal: Signal| signal.as_str().to_owned())
        .ok_or_else(|| "no such signal; see `kill -l`".into())
}

#[cfg(test)]
mod tests;
