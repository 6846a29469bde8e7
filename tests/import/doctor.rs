//! `doctor`: each thing that it warns of is made for real.

use super::support::{Pair, binary, both};
use super::{Home, has};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

const SERVER: &str = "[[server]]\nname = \"web\"\ncommand = [\"sleep\", \"1000\"]\n";

/// What it prints, and whether it says that all is well.
fn doctor(pair: &Pair) -> (String, bool) {
    let output: Output = pair.run(&["doctor"]);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", both(&output));
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

fn fails(pair: &Pair, parts: &[&str]) {
    let (text, is_well) = doctor(pair);
    assert!(!is_well, "{text}");
    let line = text.lines().find(|line| line.starts_with("FAIL"));
    has(line.unwrap_or_else(|| panic!("no FAIL:\n{text}")), parts);
}

#[test]
fn a_machine_that_lacks_nothing_is_told_so_in_lines_and_in_json() {
    let pair = Pair::new("", SERVER);
    let (text, is_well) = doctor(&pair);
    assert!(is_well && !text.contains("FAIL"), "{text}");
    let checks = [
        "kernel",
        "clock",
        "configuration",
        "limits",
        "runDir",
        "stateDir",
        "logDir",
        "pair",
        "control socket",
        "standbyPort",
        "journal",
        "cgroups",
    ];
    for check in checks {
        assert!(text.lines().any(|line| line.contains(&format!(" {check}: "))), "{check}:\n{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&pair.ok(&["doctor", "--json"])).expect("JSON");
    assert_eq!((&json["schema"], &json["ok"]), (&1.into(), &true.into()));
    assert_eq!(json["checks"].as_array().map(Vec::len), Some(text.lines().count()));
    assert!(json["checks"][0]["level"].is_string() && json["checks"][0]["todo"].is_string());
}

#[test]
fn a_port_that_another_process_has_is_told_with_that_process() {
    let pair = Pair::new("", SERVER);
    let _listener = TcpListener::bind(("127.0.0.1", pair.port)).expect("the port");
    let own = format!("in use by PID {}", std::process::id());
    fails(
        &pair,
        &["standbyPort: cannot bind", &own, "choose another port in", "nodemanager.toml:"],
    );
}

#[test]
fn a_directory_that_can_not_be_one_is_told() {
    let pair = Pair::new("logDir = \"conf/nodemanager.toml/logs\"", SERVER);
    fails(&pair, &["logDir: ", "nodemanager.toml is no directory", "choose another logDir"]);
    if !nix::unistd::geteuid().is_root() {
        let pair = Pair::new("stateDir = \"/proc/1/state\"", SERVER);
        fails(&pair, &["stateDir: cannot write"]);
    }
}

#[test]
fn a_socket_that_was_left_is_a_warning_and_one_that_somebody_else_has_a_failure() {
    let pair = Pair::new("", SERVER);
    fs::create_dir_all(pair.home.join("run")).expect("the run directory");
    let path = pair.home.join("run/control.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    fails(&pair, &["control socket: somebody listens at", "without the lock"]);
    drop(listener);
    let (text, is_well) = doctor(&pair);
    assert!(is_well, "{text}");
    has(&text, &["warn control socket: ", "was left by a pair that is gone"]);
}

#[test]
fn a_limit_of_descriptors_that_is_too_low_is_told() {
    let pair = Pair::new("", SERVER);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 64; ulimit -Hn 64; exec \"$0\" doctor -c \"$1\"", binary()]);
    let output = command.arg(pair.config()).output().expect("a shell");
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    has(&both(&output), &["FAIL limits: ", "the hard limit is 64; raise the limit"]);
}

#[test]
fn a_clock_that_is_before_what_was_written_is_told() {
    let pair = Pair::new("", SERVER);
    fs::create_dir_all(pair.home.join("run")).expect("the run directory");
    let file = File::create(pair.home.join("run/journal.1")).expect("a file");
    file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).expect("its time");
    let (text, is_well) = doctor(&pair);
    assert!(!is_well, "{text}");
    has(&text, &["FAIL clock: the clock is wrong: ", "journal.1 was written 86"]);
}

#[test]
fn errors_of_the_configuration_are_told_with_their_lines() {
    let pair = Pair::new("runDirr = \"x\"", SERVER);
    fails(&pair, &["configuration: ", "nodemanager.toml:", "runDirr", "nodemanager check"]);
}

/// A tmpfs that goes away with the test.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path, options: &str) -> Option<Mounted> {
        fs::create_dir_all(dir).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(dir);
        let is_done = mount.output().is_ok_and(|output| output.status.success());
        if !is_done {
            println!("skipped: this user can't mount");
        }
        is_done.then(|| Mounted(dir.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_file_system_and_one_without_inodes_are_told() {
    let home = Home::new();
    let pair = Pair::new(&format!("runDir = \"{}\"", home.0.join("r").display()), SERVER);
    if let Some(_full) = Mounted::new(&home.0.join("r"), "size=512k") {
        fails(&pair, &["runDir: no room for", "KiB are left; make room"]);
    }
    if let Some(_full) = Mounted::new(&home.0.join("r"), "size=100m,nr_inodes=8") {
        fails(&pair, &["runDir: no room for", "inodes are left"]);
    }
    if let Some(_full) = Mounted::new(&home.0.join("r"), "size=8m") {
        let (text, is_well) = doctor(&pair);
        assert!(is_well, "{text}");
        has(&text, &["warn runDir: little room for", "MiB are left"]);
    }
}

#[test]
fn a_pair_that_runs_is_looked_at_its_program_and_its_journal_too() {
    let pair = Pair::new("", SERVER);
    pair.start();
    let (text, is_well) = doctor(&pair);
    assert!(is_well, "{text}");
    has(&text, &["ok   pair: it runs, and is whole", "is the pair's", "the same file"]);
    let copy = pair.home.join("nodemanager");
    fs::copy(binary(), &copy).expect("a copy");
    let output = Command::new(&copy).args(["doctor", "-c"]).arg(pair.config()).output();
    let output = output.expect("the copy can be run");
    has(&both(&output), &["warn version: the active PID", "from another file"]);
    pair.ok(&["shutdown", "--stop-servers"]);
    let text = fs::read_to_string(pair.config()).expect("the configuration");
    fs::write(pair.config(), text.replace(pair.name(), "another")).expect("the configuration");
    fails(&pair, &["journal: it is of the node nm-test-", "and this one is another"]);
}
