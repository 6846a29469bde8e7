//! The static program (musl): it needs nothing but the kernel.

use crate::machine::is_root;
use crate::support::{Pair, SIGKILL, both, has_tool, signal, wait_for, wait_until};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds it where Rust has the target. `None`: it can't be built here, as was printed.
fn program() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> Option<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        println!("skipped: needs `rustup target add {TARGET}`");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("static");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--offline", "--quiet", "--locked", "--bin", "nodemanager"])
        .args(["--target", TARGET])
        .args(["--config", "profile.dev.debug=false", "--config", "profile.dev.incremental=false"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", both(&built));
    Some(target.join(TARGET).join("debug/nodemanager"))
}

/// Two servers of which the program itself is all that there is to run: one that goes on, and one
/// as a user that is a number only, as there is no /etc/passwd.
const CONFIG: &str = "[nodeManager]\nname = \"empty\"\nstandbyPort = {port}\nrunDir = \"/run\"\nstateDir = \"/state\"\n\
    logDir = \"/logs\"\nheartbeatInterval = \"100ms\"\nheartbeatTimeout = \"1s\"\n\
    [[server]]\nname = \"reader\"\ncommand = [\"/nodemanager\", \"logs\", \"--self\", \"-f\", \"-c\", \"/nodemanager.toml\"]\n\
    [[server]]\nname = \"once\"\ntype = \"oneshot\"\nuser = \"4321\"\ncommand = [\"/nodemanager\", \"--version\"]\n";

/// A directory with the program and its configuration, /proc and /dev/null, as the root of a container.
struct Empty {
    pair: Pair,
    container: Child,
}

impl Empty {
    /// Begins `run` as its PID 1.
    fn run(program: &Path, has_null: bool) -> Empty {
        let pair = Pair::new("", "");
        let root = pair.home.join("root");
        for dir in ["proc", "dev"] {
            fs::create_dir_all(root.join(dir)).expect("the root");
        }
        fs::copy(program, root.join("nodemanager")).expect("a copy of the program");
        let config = CONFIG.replace("{port}", &pair.port.to_string());
        fs::write(root.join("nodemanager.toml"), config).expect("a configuration");
        if has_null {
            let made =
                Command::new("mknod").arg(root.join("dev/null")).args(["c", "1", "3"]).output();
            assert!(made.as_ref().is_ok_and(|made| made.status.success()), "{made:?}");
        }
        let container = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--root"])
            .arg(&root)
            .args(["/nodemanager", "run", "-c", "/nodemanager.toml"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        Empty { pair, container }
    }

    /// A command in there.
    fn inside(&self, words: &[&str]) -> Output {
        let outer = self.container.id();
        let leader = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children"));
        let leader = leader.unwrap_or_default().trim().to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &leader, "-m", "-p", "-r", "/nodemanager"]).args(words);
        command
            .args(["-c", "/nodemanager.toml"])
            .stdin(Stdio::null())
            .output()
            .expect("nsenter runs")
    }

    fn status(&self) -> Value {
        let output = self.inside(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The status of a whole pair with this server's state.
    fn whole(&self) -> Value {
        wait_for("a whole pair with its servers", || {
            let status = self.status();
            let is_up = status["servers"][0]["state"] == "RUNNING";
            (status["pair"] == "ok" && is_up).then_some(status)
        })
    }

    /// A PID in there as it is out here.
    fn outer_pid(&self, inner: &Value) -> i32 {
        let root = self.pair.home.join("root");
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_it = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let last = numbers.and_then(|numbers| numbers.split_whitespace().last());
            last == Some(inner.to_string().as_str())
                && fs::read_link(format!("/proc/{pid}/root")).is_ok_and(|place| place == root)
        };
        pids.find(is_it).expect("a process of the container")
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        // --kill-child: its PID 1 goes with it, and with that all others.
        let _ = self.container.kill();
        let _ = self.container.wait();
    }
}

fn can_contain() -> bool {
    is_root() && ["unshare", "nsenter", "mknod"].into_iter().all(has_tool)
}

#[test]
fn the_static_program_runs_a_pair_in_an_empty_directory_and_a_takeover_keeps_its_server() {
    if !can_contain() {
        return;
    }
    let Some(program) = program() else { return };
    let said = Command::new("ldd").arg(&program).output().expect("ldd runs");
    let said = both(&said);
    assert!(said.contains("statically linked") || said.contains("not a dynamic"), "{said}");

    let mut empty = Empty::run(&program, true);
    let before = empty.whole();
    assert_eq!(before["servers"][0]["name"], "reader");
    wait_until("the end of the server that runs once", || {
        empty.status()["servers"][1]["state"] == "EXITED"
    });
    signal(empty.outer_pid(&before["active"]["pid"]), SIGKILL);
    let after = wait_for("a takeover", || {
        Some(empty.whole()).filter(|status| status["active"]["pid"] == before["standby"]["pid"])
    });
    assert_eq!(after["servers"][0]["pid"], before["servers"][0]["pid"]);
    // Lines have the time of the zone, without files of zones in UTC.
    let log = fs::read_to_string(empty.pair.home.join("root/logs/empty.log")).expect("its log");
    assert!(log.contains("+0000]"), "{log}");
    let ended = empty.inside(&["shutdown", "--stop-servers"]);
    assert!(!both(&ended).contains("cannot"), "{}", both(&ended));
    let status = wait_for("the end", || empty.container.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_root_directory_without_dev_null_is_refused_with_what_is_missing() {
    if !can_contain() {
        return;
    }
    let Some(program) = program() else { return };
    let mut empty = Empty::run(&program, false);
    let status = wait_for("the refusal", || empty.container.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(1));
    let mut said = String::new();
    let stderr = empty.container.stderr.as_mut().expect("its standard error");
    std::io::Read::read_to_string(stderr, &mut said).expect("its words");
    assert!(said.contains("cannot open /dev/null"), "{said}");
}
