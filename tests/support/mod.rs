//! A real pair in a directory of its own, for the tests that run the real program.
//!
//! Must leave nothing behind: whatever a test does, its processes are ended by PID and its
//! directory is removed when `Pair` is dropped. Waiting is always for a condition with a limit.
#![allow(dead_code, reason = "every test file uses its own part of this")]

pub mod cgroup_root;
pub mod counted;

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a condition may take to come true before the test fails. Long, because the machine may
/// be busy; a test that passes never waits for it.
pub const LIMIT: Duration = Duration::from_secs(60);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A node manager with its own home. `NM_KEEP=1` keeps the home of a test that failed.
pub struct Pair {
    pub home: PathBuf,
    pub port: u16,
    name: String,
}

/// The built program.
pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_nodemanager")
}

/// A program of `examples/`, built beside the tests.
pub fn example(name: &str) -> PathBuf {
    let path = Path::new(binary()).parent().expect("the binary is in a directory").join("examples");
    let path = path.join(name);
    assert!(path.exists(), "{} is not built; cargo test builds it", path.display());
    path
}

/// A port that nobody listens on now, outside the range that the kernel gives to clients, so that
/// only another test could take it.
pub fn free_port() -> u16 {
    let start = 20_000 + (std::process::id() % 60) as u16 * 200;
    loop {
        let port = start + (NEXT.fetch_add(1, Ordering::SeqCst) % 200) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `holds` gives something; fails after `LIMIT`, saying what was waited for.
pub fn wait_for<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `holds`.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// Is there such a program? Says that the test is skipped where there is none.
pub fn has_tool(name: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    if !found {
        println!("skipped: needs {name}");
    }
    found
}

/// Is this process alive (a zombie is not)?
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}

/// Sends a signal to a process of the test.
pub fn signal(pid: i32, number: i32) {
    assert!(pid > 1, "refusing to signal {pid}");
    // A process that is gone is what many tests want.
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::try_from(number).expect("a signal"),
    );
}

pub const SIGKILL: i32 = 9;
pub const SIGSTOP: i32 = 19;
pub const SIGCONT: i32 = 18;
pub const SIGTERM: i32 = 15;

impl Pair {
    /// A home with this configuration. `servers` is TOML; `{port}`, `{home}` in it are replaced.
    /// Heartbeats are quick (100 ms, timeout 1 s) unless `node` says otherwise: lines of TOML
    /// for the `[nodeManager]` table.
    pub fn new(node: &str, servers: &str) -> Pair {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("nm-test-{}-{number}", std::process::id());
        let home = std::env::temp_dir().join(&name);
        fs::create_dir_all(home.join("conf")).expect("the test's home");
        let pair = Pair { home, port: free_port(), name };
        pair.configure(node, servers);
        pair
    }

    /// Writes the configuration anew.
    pub fn configure(&self, node: &str, servers: &str) {
        let mut text = format!("[nodeManager]\nname = \"{}\"\n", self.name);
        let defaults = [
            ("standbyPort", self.port.to_string()),
            ("heartbeatInterval", "\"100ms\"".to_string()),
            ("heartbeatTimeout", "\"1s\"".to_string()),
        ];
        for (key, value) in defaults {
            if !node.contains(key) {
                text += &format!("{key} = {value}\n");
            }
        }
        text += &format!("{}\n{}\n", node.replace("none-standbyPort", ""), servers);
        let text = text
            .replace("{port}", &self.port.to_string())
            .replace("{home}", &self.home.display().to_string());
        fs::write(self.config(), text).expect("the test's configuration");
    }

    /// The name of the node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path of the configuration.
    pub fn config(&self) -> PathBuf {
        self.home.join("conf/nodemanager.toml")
    }

    /// A command of the node manager for this configuration, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).arg("-c").arg(self.config()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the node manager can be run")
    }

    /// Runs a command that must succeed; gives what it printed.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?} failed: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts the pair in the background and waits until it is whole.
    pub fn start(&self) {
        self.ok(&["run", "--detach"]);
    }

    /// `status --json`, from the pair or without one from the journal.
    pub fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("status is no JSON ({error}): {}", both(&output)))
    }

    /// The row of one server.
    pub fn server(&self, name: &str) -> Value {
        let status = self.status();
        let servers = status["servers"].as_array().cloned().unwrap_or_default();
        servers
            .into_iter()
            .find(|server| server["name"] == name)
            .unwrap_or_else(|| panic!("no server {name} in {status}"))
    }

    /// The PIDs of all servers by name (only those that have one).
    pub fn pids(&self) -> BTreeMap<String, i32> {
        let status = self.status();
        let servers = status["servers"].as_array().cloned().unwrap_or_default();
        servers
            .iter()
            .filter_map(|server| {
                let pid = i32::try_from(server["pid"].as_i64()?).ok()?;
                Some((server["name"].as_str()?.to_string(), pid))
            })
            .collect()
    }

    /// The PID of `active`, `standby` or `keeper`, as `status` says.
    pub fn twin(&self, role: &str) -> Option<i32> {
        self.status()[role]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }

    /// The PID of a role that must be there.
    pub fn pid_of(&self, role: &str) -> i32 {
        wait_for(&format!("a {role}"), || self.twin(role))
    }

    /// Waits until the pair is `ok` (active, WATCHING standby, keeper).
    pub fn wait_whole(&self) {
        wait_until("a whole pair", || self.status()["pair"] == "ok");
    }

    /// Waits until a server is in that state.
    pub fn wait_state(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} to be {state}"), || {
            Some(self.server(name)).filter(|server| server["state"] == state)
        })
    }

    /// The active's log, or the standby's.
    pub fn log(&self, is_standby: bool) -> String {
        let suffix = if is_standby { "_standby" } else { "" };
        let path = self.home.join(format!("logs/{}{suffix}.log", self.name));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// What a server wrote, from the current log file only.
    pub fn output_of(&self, server: &str) -> String {
        let path = self.home.join(format!("logs/{server}.out"));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Every process that carries this pair's marks or runs with its configuration, ended by PID.
    /// All are stopped first: who sees another one die starts a third, faster than one looks.
    fn end_all(&self) {
        let end = Instant::now() + LIMIT;
        let mut stopped = Vec::new();
        while Instant::now() < end {
            let found = self.processes();
            if found.is_empty() {
                return;
            }
            let is_all = found == stopped;
            found.iter().for_each(|pid| signal(*pid, if is_all { SIGKILL } else { SIGSTOP }));
            stopped = if is_all { Vec::new() } else { found };
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("left behind: {:?}", self.processes());
    }

    /// The processes of this pair: keeper, twins, mover, servers and their children.
    pub fn processes(&self) -> Vec<i32> {
        let (mark, config) = (format!("NM_SERVER={}/", self.name), self.config());
        let config = config.display().to_string();
        let own = std::process::id().to_string();
        let entries = fs::read_dir("/proc").map(|dir| dir.flatten().collect::<Vec<_>>());
        entries
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && *pid != own)
            .filter(|pid| {
                let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let (environ, words) = (read("environ"), read("cmdline"));
                let environ = String::from_utf8_lossy(&environ).into_owned();
                let words = String::from_utf8_lossy(&words).into_owned();
                environ.contains(&mark) || words.contains(&config)
            })
            .filter_map(|pid| pid.parse().ok())
            .filter(|pid| is_alive(*pid))
            .collect()
    }
}

/// What a command printed, for messages.
pub fn both(output: &Output) -> String {
    format!(
        "{} {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

impl Drop for Pair {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = |text: String| {
                let lines: Vec<&str> = text.lines().collect();
                lines[lines.len().saturating_sub(40)..].join("\n")
            };
            let (active, standby) = (lines(self.log(false)), lines(self.log(true)));
            println!("--- the active's log ends with\n{active}\n--- the standby's\n{standby}");
        }
        self.end_all();
        if std::thread::panicking() && std::env::var_os("NM_KEEP").is_some() {
            return println!("--- kept: {}", self.home.display());
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}
