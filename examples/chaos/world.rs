//! The run: its directory, its pair, what it knows of the servers, and its commands.
//!
//! Must not act or judge; acts and audit do.

use crate::faults::Faults;
use crate::history::{History, hook};
use crate::machine::{self, LIMIT, Process, ask_status, is_alive, pid_in, signal, wait_for};
use crate::report::{After, Report};
use crate::rng::Rng;
use crate::servers::{Server, Tables, Wish, tables};
use crate::{Held, chatter, say, servers};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A command that is not through by then hangs: every one has a limit of its own below this.
const COMMAND_LIMIT: Duration = Duration::from_secs(100);
/// From so many hangs on, most more of them are left out: the pair's patience doubles with each.
const HANGS_ENOUGH: u64 = 4;
/// Servers live for so long beyond the run.
const SPARE_LIFE_S: u64 = 1_200;

static OUTPUTS: AtomicU64 = AtomicU64::new(0);

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Done {
    pub words: String,
    pub status: i32,
    pub text: String,
}

pub struct World {
    pub home: PathBuf,
    pub node: String,
    pub port: u16,
    binary: PathBuf,
    test_server: PathBuf,
    pub servers: Vec<Server>,
    pub settle_ms: u64,
    life_s: u64,
    /// Chance of the present act.
    pub rng: Rng,
    pub act: u64,
    is_verbose: bool,
    pub faults: Faults,
    pub report: Report,
    pub chatter: BTreeMap<String, chatter::Reader>,
    /// What `status` counted last, to see takeovers that nobody timed.
    pub takeovers_seen: u64,
    pub history: History,
    /// Hangs in this life of the pair.
    hangs: u64,
}

impl World {
    /// A directory of its own; nothing runs yet.
    pub fn new(seed: u64, is_verbose: bool, limit: Duration) -> Held<World> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let examples = own.parent().ok_or("this program is in no directory")?.to_path_buf();
        let binary = examples.parent().ok_or("no directory above")?.join("nodemanager");
        let test_server = examples.join("test_server");
        for path in [&binary, &test_server] {
            if !path.exists() {
                return Err(format!(
                    "{} is missing; build it with `cargo build [--release] --bin nodemanager \
                     --examples`",
                    path.display()
                ));
            }
        }
        let node = format!("chaos-{}", std::process::id());
        let home = std::env::temp_dir().join(&node);
        for part in ["conf", "run", "logs", "starts", "commands"] {
            fs::create_dir_all(home.join(part)).map_err(|error| error.to_string())?;
        }
        nodemanager::sys::set_child_subreaper().map_err(|error| error.to_string())?;
        let mut world = World {
            faults: Faults::default(),
            report: Report::new(),
            home,
            node,
            port: free_port()?,
            binary,
            test_server,
            servers: servers::all(),
            settle_ms: 50,
            life_s: limit.as_secs() + SPARE_LIFE_S,
            rng: Rng::new(seed),
            act: 0,
            is_verbose,
            chatter: BTreeMap::new(),
            takeovers_seen: 0,
            history: History::default(),
            hangs: 0,
        };
        world.prepare_faults()?;
        world.configure()?;
        Ok(world)
    }

    /// The next act, with a chance of its own: what an act draws changes no later one.
    pub fn begin_act(&mut self, seed: u64) {
        self.act += 1;
        self.rng = Rng::new(seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(self.act));
    }

    pub fn say(&self, text: &str) {
        if self.is_verbose {
            say(text);
        }
    }

    pub fn config(&self) -> PathBuf {
        self.home.join("conf/nodemanager.toml")
    }

    /// Writes the configuration of all servers.
    pub fn configure(&self) -> Held {
        let with = Tables {
            program: &self.test_server,
            home: &self.home,
            life_s: self.life_s,
            settle_ms: self.settle_ms,
        };
        let text = format!(
            "[nodeManager]\nname = \"{}\"\nstandbyPort = {}\nheartbeatInterval = \"100ms\"\n\
             heartbeatTimeout = \"1s\"\nlogMaxFiles = 50\n{}{}",
            self.node,
            self.port,
            hook(&self.home),
            tables(&self.servers, &with)
        );
        fs::write(self.config(), text).map_err(|error| error.to_string())
    }

    /// Starts a command of the node manager; `finish` waits for it.
    pub fn spawn(&self, words: &[&str]) -> Held<Running> {
        let number = OUTPUTS.fetch_add(1, Ordering::SeqCst);
        let path = self.home.join(format!("commands/{number}"));
        let file = File::create(&path).map_err(|error| error.to_string())?;
        let err = file.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.binary);
        command.args(words).arg("-c").arg(self.config());
        if words.first() == Some(&"run") {
            self.faults.add_clock(&mut command);
        }
        command.stdin(Stdio::null()).stdout(file).stderr(err);
        let child = command.spawn().map_err(|error| format!("{words:?}: {error}"))?;
        Ok(Running { child, path, words: words.join(" ") })
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Held<Done> {
        self.spawn(words)?.finish()
    }

    /// The exit status must be one of these.
    pub fn allow(&mut self, done: &Done, allowed: &[i32]) -> Held {
        if done.status != 0 {
            let verb = done.words.split(' ').next().unwrap_or_default();
            self.report.note(format!("{verb}: {}", done.status));
        }
        match allowed.contains(&done.status) {
            true => Ok(()),
            false => Err(format!(
                "`{}` exited with {}, allowed are {allowed:?}: {}",
                done.words, done.status, done.text
            )),
        }
    }

    /// `run --detach` until the pair is there (some servers may fail: 1).
    pub fn start_pair(&mut self) -> Held {
        let done = self.run(&["run", "--detach"])?;
        let allowed: &[i32] = if self.is_calm() { &[0, 1] } else { &[0, 1, 75, 124] };
        self.allow(&done, allowed)
    }

    /// The status, once somebody answers.
    pub fn status(&self) -> Held<Value> {
        wait_for("an answer to GET /v1/status", || ask_status(&self.home, Duration::from_secs(5)))
    }

    /// The PID of active, standby or keeper once there is one.
    pub fn pid_of(&self, role: &str) -> Held<i32> {
        wait_for(&format!("a {role}"), || {
            pid_in(&ask_status(&self.home, Duration::from_secs(5))?, role)
        })
    }

    /// All three that there are now.
    pub fn pair_pids(&self) -> Held<Vec<i32>> {
        let status = self.status()?;
        Ok(["keeper", "active", "standby"]
            .iter()
            .filter_map(|role| pid_in(&status, role))
            .collect())
    }

    /// Nothing is wrong that lasts.
    pub fn is_calm(&self) -> bool {
        self.faults.is_calm()
    }

    pub fn processes(&self) -> Vec<Process> {
        machine::processes(&self.node, &self.config())
    }

    /// Waits until another active than `old` answers; the time counts from `since`.
    pub fn time_takeover(&mut self, old: &[i32], since: Instant, after: After) -> Held {
        while since.elapsed() < LIMIT {
            let status = ask_status(&self.home, Duration::from_secs(30));
            let pid = status.and_then(|status| pid_in(&status, "active"));
            if pid.is_some_and(|pid| !old.contains(&pid)) {
                self.report.time(after, since.elapsed());
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        Err(format!("waited in vain for an answer of another active than {old:?}"))
    }

    /// Whether the active is to be stopped once more; counted.
    pub fn wants_hang(&mut self) -> bool {
        let wants = self.hangs < HANGS_ENOUGH || self.rng.per_mille(100);
        self.hangs += u64::from(wants);
        wants
    }

    /// A new life of the pair: all servers are wanted up, and nothing is remembered.
    pub fn forget(&mut self) {
        self.hangs = 0;
        for server in &mut self.servers {
            let wish = if server.is_disabled == Some(true) { Wish::Down } else { Wish::Up };
            (server.wish, server.pinned, server.restarts) = (wish, None, 0);
        }
    }

    /// Other processes than before may be these servers from now on.
    pub fn touch(&mut self, at: usize) {
        self.servers[at].pinned = None;
    }

    /// Ends every process of the pair, by its PID.
    fn end_all(&self) {
        for _ in 0..200 {
            let found = self.processes();
            machine::reap(&found);
            let ours = found.iter().filter(|one| one.server.is_some() || one.role.is_some());
            let pids: Vec<i32> = ours.map(|one| one.pid).filter(|pid| is_alive(*pid)).collect();
            if pids.is_empty() {
                return;
            }
            for pid in pids {
                signal(pid, Signal::SIGKILL);
                signal(pid, Signal::SIGCONT);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end: the last lines, an ordered shutdown, and nothing left.
    pub fn end(&mut self) -> Held {
        let done = self.run(&["stop", "chatty-*"])?;
        self.allow(&done, &[0])?;
        // What is in the FIFOs is moved before the shutdown is answered.
        let done = self.run(&["shutdown", "--stop-servers"])?;
        self.allow(&done, &[0])?;
        self.no_pair()?;
        self.read_chatter()?;
        if let Some((name, _)) = self.chatter.iter().find(|(_, reader)| reader.is_cut()) {
            return Err(format!("{name}'s output ends in the middle of a line"));
        }
        let seen = self.processes();
        machine::reap(&seen);
        let left = seen.iter().find(|one| one.server.is_some() || one.role.is_some());
        left.map_or(Ok(()), |left| Err(format!("all has ended, and {left:?} lives")))
    }

    /// Removes the directory.
    pub fn clean(&mut self) {
        self.end_all();
        self.unmount();
        let _ = fs::remove_dir_all(&self.home);
    }

    /// Tells what failed, and keeps the directory.
    pub fn keep_evidence(&mut self, what: &str) {
        say(&format!("FAILED in act {}: {what}", self.act));
        let mut seen = String::new();
        for process in self.processes() {
            let state = fs::read_to_string(format!("/proc/{}/stat", process.pid));
            seen += &format!("{process:?} {}\n", state.unwrap_or_default().trim());
        }
        let status = self.run(&["status", "--json", "--timeout", "5s"]);
        seen += &status.map_or_else(|error| error, |done| done.text);
        let _ = fs::write(self.home.join("evidence.txt"), format!("{what}\n{seen}\n"));
        for suffix in ["", "_standby"] {
            let path = self.home.join(format!("logs/{}{suffix}.log", self.node));
            let text = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            say(&format!("--- the last lines of {}{suffix}.log", self.node));
            lines[lines.len().saturating_sub(30)..].iter().for_each(|line| say(line));
        }
        self.end_all();
        // What was on a tmpfs goes with it.
        let kept = self.home.join("kept");
        for part in ["run", "logs"] {
            let _ = fs::create_dir_all(&kept);
            let _ = Command::new("cp").arg("-r").arg(self.home.join(part)).arg(&kept).status();
        }
        self.unmount();
        say(&format!("the directory is kept: {}", self.home.display()));
    }
}

/// A command that runs.
pub struct Running {
    child: Child,
    path: PathBuf,
    words: String,
}

impl Running {
    /// Waits for its end.
    pub fn finish(mut self) -> Held<Done> {
        let end = Instant::now() + COMMAND_LIMIT;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(None) => {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    return Err(format!("`{}` does not end", self.words));
                }
                Err(error) => return Err(format!("`{}`: {error}", self.words)),
            }
        };
        let text = read(&self.path);
        let _ = fs::remove_file(&self.path);
        let status = status.code().ok_or_else(|| format!("`{}`: {status}", self.words))?;
        Ok(Done { words: self.words, status, text })
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// A port that nobody listens on now, outside the range that the kernel gives to clients.
fn free_port() -> Held<u16> {
    let start = 10_000 + (std::process::id() % 8_000) as u16;
    (start..start + 1_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .ok_or_else(|| format!("no free port from {start} on, within {LIMIT:?} or ever"))
}
