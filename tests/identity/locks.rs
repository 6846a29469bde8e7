//! The lock that a server waits for: who holds it, the timeout, and an active that is killed meanwhile.

use crate::support::{Pair, SIGTERM, binary, has_tool, is_alive, signal, wait_for, wait_until};
use crate::tools::freeze;
use crate::{is_root, lose_journal, running, sleeper, take_over};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Somebody else who has the lock; ended by PID.
struct Holder(Child);

impl Holder {
    fn of(path: &Path) -> Holder {
        let mut flock = Command::new("flock");
        // Without a fork, so that the one who holds it is the one that is named.
        flock.arg("--no-fork").arg(path).args(["sleep", "1000"]);
        let child = flock.spawn().expect("flock (util-linux) is installed");
        wait_until("the lock to be held", || {
            Command::new("flock")
                .arg("-n")
                .arg(path)
                .arg("true")
                .status()
                .is_ok_and(|s| !s.success())
        });
        // It has the lock before it is what it runs.
        wait_until("sleep to run", || {
            fs::read_to_string(format!("/proc/{}/comm", child.id()))
                .is_ok_and(|comm| comm.trim() == "sleep")
        });
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_lock(timeout: &str, more: &str) -> (Pair, PathBuf) {
    let keys = format!("lock = {{ file = \"web.lock\", timeout = \"{timeout}\" }}\n{more}");
    let pair = Pair::new("", &sleeper("web", &keys));
    let path = pair.home.join("web.lock");
    fs::write(&path, "").expect("the lock's file");
    (pair, path)
}

/// Starts the pair although its server can't be up yet.
fn start_without_waiting(pair: &Pair) {
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    pair.wait_whole();
}

fn is_free(path: &Path) -> bool {
    Command::new("flock").arg("-n").arg(path).arg("true").status().is_ok_and(|s| s.success())
}

#[test]
fn a_server_waits_for_its_lock_says_who_holds_it_and_keeps_it_over_a_takeover() {
    let (pair, path) = with_lock("1m", "");
    let holder = Holder::of(&path);
    start_without_waiting(&pair);
    let row = pair.wait_state("web", "WAITING");
    let what = format!("lock {}, held by PID {} (sleep)", path.display(), holder.0.id());
    assert_eq!(row["waitsFor"], what.as_str());
    assert_eq!(row["detail"], format!("waits for {what}").as_str());
    assert!(pair.log(false).contains(&format!("WAITING for {what}")));
    drop(holder);
    let pid = running(&pair, "web");
    assert!(!is_free(&path));
    take_over(&pair);
    assert_eq!(running(&pair, "web"), pid);
    assert!(!is_free(&path), "the lock is the server's own");
    pair.ok(&["stop", "web"]);
    assert!(is_free(&path));
}

#[test]
fn a_server_that_waits_when_its_active_is_killed_is_started_again_and_waits_on() {
    let (pair, path) = with_lock("1m", "restart = { tries = 0, then = \"fail\" }");
    let holder = Holder::of(&path);
    start_without_waiting(&pair);
    let mut waiting = pair.wait_state("web", "WAITING");
    for _ in 0..3 {
        let old = waiting["pid"].as_i64().expect("a child that waits");
        take_over(&pair);
        wait_until("the child to end with its parent", || !is_alive(old as i32));
        waiting = wait_for("another child to wait", || {
            let row = pair.server("web");
            let is_another = row["pid"].as_i64().is_some_and(|pid| pid != old);
            (row["state"] == "WAITING" && is_another).then_some(row)
        });
        assert_eq!((&waiting["failCount"], &waiting["lastExit"]), (&0.into(), &().into()));
    }
    drop(holder);
    running(&pair, "web");
    assert_eq!(pair.server("web")["failCount"], 0);
}

#[test]
fn a_lock_that_is_not_free_in_time_is_a_failure_and_stop_ends_a_wait() {
    let (pair, path) =
        with_lock("300ms", "restart = { tries = 1, delay = \"50ms\", then = \"fail\" }");
    let holder = Holder::of(&path);
    pair.run(&["run", "--detach"]);
    let told = pair.wait_state("web", "FAILED")["reason"].to_string();
    let who = format!("s in vain for lock {}, held by PID {}", path.display(), holder.0.id());
    assert!(told.contains("waited ") && told.contains(&who), "{told}");
    drop(holder);
    pair.ok(&["reset", "web"]);
    running(&pair, "web");
    let (pair, path) = with_lock("10m", "");
    let holder = Holder::of(&path);
    start_without_waiting(&pair);
    let pid = pair.wait_state("web", "WAITING")["pid"].as_i64().expect("a child that waits");
    pair.ok(&["stop", "web"]);
    assert!(!is_alive(pid as i32));
    drop(holder);
    assert_eq!(pair.server("web")["state"], "STOPPED");
    assert!(is_free(&path));
}

#[test]
fn two_servers_with_one_lock_run_one_after_the_other() {
    let keys = "lock = { file = \"both.lock\", timeout = \"1m\" }";
    let pair = Pair::new("", &(sleeper("one", keys) + &sleeper("two", keys)));
    start_without_waiting(&pair);
    let is = |name: &str, state: &str| pair.server(name)["state"] == state;
    wait_until("one to run and one to wait", || {
        is("one", "RUNNING") && is("two", "WAITING") || is("one", "WAITING") && is("two", "RUNNING")
    });
    let (first, second) = if is("one", "RUNNING") { ("one", "two") } else { ("two", "one") };
    signal(running(&pair, first), SIGTERM);
    running(&pair, second);
    pair.wait_state(first, "WAITING");
    let waits = pair.server(first)["waitsFor"].to_string();
    assert!(waits.contains(&format!("PID {} (", running(&pair, second))), "{waits}");
}

#[test]
fn a_lock_is_opened_and_made_as_the_servers_user() {
    if !is_root() {
        return println!("skipped: only root can start servers as another user");
    }
    let give_up = "restart = { tries = 0, then = \"fail\" }";
    let lock = |file: &str| format!("user = 54321\nlock = {{ file = \"{file}\" }}\n{give_up}");
    let servers = [
        sleeper("made", &lock("open/made.lock")),
        sleeper("theirs", &lock("open/theirs.lock")),
        sleeper("closed", &lock("closed.lock")),
    ];
    let pair = Pair::new("", &servers.concat());
    // As /run/lock is: there O_CREAT is refused for a file that is another user's.
    fs::create_dir(pair.home.join("open")).expect("a directory");
    fs::set_permissions(pair.home.join("open"), fs::Permissions::from_mode(0o1777)).expect("mode");
    fs::write(pair.home.join("open/theirs.lock"), "").expect("root's file, that all can read");
    pair.run(&["run", "--detach"]);
    running(&pair, "made");
    running(&pair, "theirs");
    assert_eq!(fs::metadata(pair.home.join("open/made.lock")).expect("it").uid(), 54321);
    assert!(!is_free(&pair.home.join("open/made.lock")));
    assert!(!is_free(&pair.home.join("open/theirs.lock")));
    let told = pair.wait_state("closed", "FAILED")["reason"].to_string();
    assert!(told.contains("Permission denied") && told.contains("the server's own user"), "{told}");
}

/// What root lacks in a container; newer kernels open /proc/PID/environ to CAP_PERFMON too.
pub const NO_PTRACE: [&str; 4] = [
    "--bounding-set",
    "-sys_ptrace,-sys_admin,-perfmon",
    "--inh-caps",
    "-sys_ptrace,-sys_admin,-perfmon",
];

#[test]
fn a_server_that_got_its_lock_unseen_by_a_hung_active_is_found_running_with_and_without_ptrace() {
    for can_trace in [true, false] {
        if !can_trace && (!is_root() || !has_tool("setpriv")) {
            return println!("skipped: the second part needs root and setpriv (util-linux)");
        }
        let (pair, path) = with_lock("10m", if is_root() { "user = 54321" } else { "" });
        let holder = Holder::of(&path);
        let mut run = Command::new(if can_trace { binary() } else { "setpriv" });
        if !can_trace {
            run.args(NO_PTRACE).arg(binary());
        }
        run.args(["run", "--detach", "--timeout", "1s", "-c"]).arg(pair.config());
        run.output().expect("it runs");
        pair.wait_whole();
        let pid = pair.wait_state("web", "WAITING")["pid"].as_i64().expect("a child") as i32;
        let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
        freeze(active);
        drop(holder);
        wait_until("the server to run", || {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
        });
        wait_until("the takeover", || pair.twin("active") == Some(standby));
        assert_eq!(running(&pair, "web"), pid, "with ptrace: {can_trace}");
        assert!(is_alive(pid) && pair.server("web")["adopted"] == true);
        pair.ok(&["stop", "web"]);
    }
}

#[test]
fn a_lock_keeps_a_second_copy_from_running_where_the_first_can_not_be_recognised() {
    if !is_root() || !has_tool("setpriv") {
        return println!("skipped: it needs root and setpriv (util-linux)");
    }
    let (pair, _) = with_lock("10m", "user = 54321");
    let start = || {
        let mut run = Command::new("setpriv");
        run.args(NO_PTRACE).arg(binary());
        run.args(["run", "--detach", "--timeout", "1s", "-c"]).arg(pair.config());
        run.output().expect("it runs");
        pair.wait_whole();
    };
    start();
    let first = running(&pair, "web");
    lose_journal(&pair);
    start();
    let waits = pair.wait_state("web", "WAITING")["waitsFor"].to_string();
    assert!(waits.contains(&format!("held by PID {first} (sleep)")), "{waits}");
    signal(first, SIGTERM);
    assert_ne!(running(&pair, "web"), first);
}
