//! The seventy-three servers: what kinds there are, their configuration, and what may be seen of each.
//!
//! Must not look at anything: it says what is allowed, the audit asks.

use crate::beside;
use serde_json::Value;
use std::path::Path;

/// What a server is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Quick,
    /// Takes its time until it counts as RUNNING.
    Slow,
    /// Goes on when SIGTERM comes; its grace is short.
    Deaf,
    /// A leader with children, some of which go on when SIGTERM comes.
    Forking,
    /// Writes numbered lines.
    Chatty,
    /// Ends by itself again and again, and is never given up.
    Crashing,
    /// As `Crashing`, and given up after some tries.
    Hopeless,
    /// Ends with a code of its own and is not started again.
    Coded,
    /// RUNNING when a program says that it is ready.
    Asked,
    /// Another one needs it.
    Needed,
    /// It needs the one of the same number.
    Dependent,
    /// Disabled and enabled again and again, and nothing else.
    Listed,
    /// Its definition is changed by `apply`.
    Changed,
    /// Has hooks and a reload command.
    Hooked,
    /// The child of a process that ends, known by its PID file.
    Daemon,
    /// Its work is waited for before it is stopped.
    Drained,
    /// The instances of one program, whose number is changed by `apply`.
    Instance,
}

const MANY: [(Kind, usize, &str); 16] = [
    (Kind::Quick, 14, "quick"),
    (Kind::Slow, 6, "slow"),
    (Kind::Deaf, 5, "deaf"),
    (Kind::Forking, 8, "forking"),
    (Kind::Chatty, 5, "chatty"),
    (Kind::Crashing, 5, "crashing"),
    (Kind::Hopeless, 3, "hopeless"),
    (Kind::Coded, 4, "coded"),
    (Kind::Asked, 3, "asked"),
    (Kind::Needed, 2, "needed"),
    (Kind::Dependent, 2, "dependent"),
    (Kind::Listed, 3, "listed"),
    (Kind::Changed, 3, "changed"),
    (Kind::Hooked, 3, "hooked"),
    (Kind::Daemon, 3, "daemon"),
    (Kind::Drained, 2, "drained"),
];

/// The program with several instances.
const PROGRAM: &str = "many";

/// What was asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Up,
    Down,
    /// Two requests were on their way at the same time, or one was not answered.
    Either,
}

/// A server, as the run knows it.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub kind: Kind,
    pub wish: Wish,
    /// The process that must still be there; None when it may be another one by now.
    pub pinned: Option<i32>,
    /// `None`: it was asked for, and the answer said neither.
    pub is_disabled: Option<bool>,
    /// What it needs was not up at the last look.
    pub need_is_down: bool,
    /// How often its definition was changed.
    pub version: u64,
    /// The highest count of restarts that was shown in this life of the pair.
    pub restarts: u64,
}

impl Server {
    /// It stays up by itself.
    pub fn is_steady(&self) -> bool {
        !matches!(self.kind, Kind::Crashing | Kind::Hopeless | Kind::Coded)
    }

    /// Any command may name it.
    pub fn is_free(&self) -> bool {
        !matches!(self.kind, Kind::Needed | Kind::Listed)
    }

    /// The name of the server that it needs.
    pub fn need(&self) -> Option<String> {
        let number = self.name.strip_prefix("dependent-")?;
        Some(format!("needed-{number}"))
    }

    /// The only code with which it ends by itself.
    fn code(&self) -> Option<i64> {
        match self.kind {
            Kind::Crashing => Some(3),
            Kind::Hopeless => Some(5),
            Kind::Coded => Some(42),
            _ => None,
        }
    }

    /// Something else than the truth is said of its last end. SIGKILL, SIGTERM and SIGUSR1 are sent to it in
    /// every way.
    pub fn wrong_exit(&self, row: &Value) -> bool {
        let last = &row["lastExit"];
        // A child that could not become the server (its output's directory is gone) ends with 127.
        match last["kind"].as_str() {
            None | Some("unknown") => false,
            Some("code") if last["code"] == 127 => false,
            Some("code") => last["code"].as_i64() != self.code(),
            Some("signal") => {
                !matches!(last["signal"].as_str(), Some("SIGKILL" | "SIGTERM" | "SIGUSR1"))
            }
            Some(_) => true,
        }
    }

    /// Whether a server that is wanted up may stay in this state.
    pub fn may_be(&self, row: &Value, is_calm: bool) -> bool {
        let has_reason = row["reason"].as_str().is_some_and(|reason| !reason.is_empty());
        match (row["state"].as_str().unwrap_or_default(), self.kind) {
            ("RUNNING", _) => true,
            ("STARTING" | "BACKOFF" | "STOPPING", Kind::Crashing | Kind::Hopeless) => true,
            ("FAILED", Kind::Hopeless | Kind::Coded) => has_reason,
            // Whether what it needs is up, the audit of that one says.
            ("WAITING", Kind::Dependent) if self.need_is_down => true,
            ("STARTING" | "BACKOFF" | "STOPPING" | "WAITING", _) => !is_calm,
            _ => false,
        }
    }

    /// Its table of the configuration. `settle_ms`: of the quick ones.
    fn table(&self, with: &Tables<'_>, instances: usize) -> String {
        let (life_s, settle_ms) = (with.life_s, with.settle_ms);
        let (program, home) = (with.program.display(), with.home.display());
        let (name, file) = match self.kind {
            Kind::Instance => (PROGRAM, "many-${instance}"),
            _ => (self.name.as_str(), self.name.as_str()),
        };
        let restart = "restart = { delay = \"100ms\", delayMax = \"500ms\" }\n";
        let steady = &format!("stop = {{ timeout = \"2s\" }}\n{restart}");
        let patient = steady.replace("delay =", "tries = 1000, delay =");
        let (options, keys) = match self.kind {
            Kind::Quick => ("", steady.to_string()),
            Kind::Slow => ("", format!("settleTime = \"900ms\"\n{steady}")),
            Kind::Deaf => {
                ("--ignore-term yes", format!("stop = {{ timeout = \"300ms\" }}\n{restart}"))
            }
            Kind::Forking if name.ends_with(['0', '2', '4', '6']) => (
                "--children 3 --deaf-children yes",
                format!("stop = {{ timeout = \"300ms\" }}\n{restart}"),
            ),
            Kind::Forking => ("--children 3", steady.to_string()),
            Kind::Chatty => (
                "--chat 50",
                format!("output = {{ maxSize = \"96KiB\", maxFiles = 1000 }}\n{steady}"),
            ),
            Kind::Crashing => (
                "--die-within 9000 --code 3",
                "restart = { delay = \"50ms\", delayMax = \"1s\", then = \"slow\" }\n".to_string(),
            ),
            Kind::Hopeless => (
                "--die-within 5000 --code 5",
                "restart = { tries = 3, window = \"1m\", delay = \"100ms\", then = \"fail\" }\n"
                    .to_string(),
            ),
            Kind::Coded => {
                ("--die-after 3000 --code 42", "restart = { when = \"never\" }\n".to_string())
            }
            Kind::Asked => {
                ("", format!("ready = {{ exec = [\"true\"], interval = \"50ms\" }}\n{steady}"))
            }
            Kind::Dependent => {
                ("", format!("dependsOn = [\"{}\"]\n{steady}", self.need().unwrap_or_default()))
            }
            Kind::Changed => ("", format!("env = {{ V = \"{}\" }}\n{steady}", self.version)),
            // A command that can't be run (no descriptors) fails the start; it is tried again.
            Kind::Hooked => ("", beside::hooks(&home.to_string(), name) + &patient),
            Kind::Daemon => (
                "",
                format!(
                    "type = \"forking\"\npidFile = \"{home}/starts/{name}.pid\"\nstartTimeout = \"3s\"\n{patient}"
                ),
            ),
            Kind::Drained => ("", beside::drain(&home.to_string(), name) + steady),
            // Only the first of them has a table, with the number of all.
            Kind::Instance => ("", format!("instances = {instances}\n{steady}")),
            Kind::Needed | Kind::Listed => ("", steady.to_string()),
        };
        let settle = match self.kind {
            Kind::Slow | Kind::Daemon => String::new(),
            _ => format!("settleTime = \"{settle_ms}ms\"\n"),
        };
        let command = format!("{program} --starts {home}/starts/{file} --life {life_s} {options}");
        let command = match self.kind {
            Kind::Daemon => format!(
                "[\"sh\", \"-c\", \"setsid {command} & echo $$! > {home}/starts/{name}.pid\"]"
            ),
            _ => format!("\"{command}\""),
        };
        format!(
            "[[server]]\nname = \"{name}\"\npassEnv = [\"PATH\"]\n{settle}{keys}command = {command}\n"
        )
    }
}

/// All servers, wanted up.
pub fn all() -> Vec<Server> {
    let several = |&(kind, count, name): &(Kind, usize, &str)| {
        (0..count).map(move |number| new(format!("{name}-{number}"), kind)).collect::<Vec<_>>()
    };
    let instances = (1..=2).map(|number| new(instance(number), Kind::Instance));
    MANY.iter().flat_map(several).chain(instances).collect()
}

/// The name of an instance of the program with several.
pub fn instance(number: usize) -> String {
    format!("{PROGRAM}@{number}")
}

/// A server that is wanted up.
pub fn new(name: String, kind: Kind) -> Server {
    let (wish, pinned, is_disabled) = (Wish::Up, None, Some(false));
    Server { name, kind, wish, pinned, is_disabled, need_is_down: false, version: 1, restarts: 0 }
}

/// What the tables of the servers depend on.
pub struct Tables<'a> {
    pub program: &'a Path,
    pub home: &'a Path,
    pub life_s: u64,
    pub settle_ms: u64,
}

/// The `[[server]]` tables of the configuration.
pub fn tables(servers: &[Server], with: &Tables<'_>) -> String {
    let instances = servers.iter().filter(|one| one.kind == Kind::Instance).count();
    let has_table = |one: &&Server| one.kind != Kind::Instance || one.name == instance(1);
    servers.iter().filter(has_table).map(|one| one.table(with, instances)).collect()
}
