//! What users of other supervisors met, tried here: docs/PAINS.md says which test stands for what.
//!
//! Real processes; as root, real shortage of memory and processes too. Must leave no cgroup, mount
//! or namespace behind. A test that takes half a minute by nature is left out unless asked for:
//! `cargo test --test pains -- --ignored`.

mod records;
mod servers;
mod shortages;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tools/mod.rs"]
mod tools;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::counted::{assert_untouched, counted, reported, started, starts};
use support::{
    Pair, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, binary, both, example, has_tool, is_alive, signal,
    wait_until,
};
use tools::stranger::assert_spared;
use tools::{
    Ended, EndedPid, assert_nothing_left, assert_undisturbed, exits, finish, finish_child, freeze,
    has, is_root, pid_in, state_letter, status_field, twins,
};

const SIGUSR1: i32 = 10;
const ROLES: [&str; 3] = ["keeper", "active", "standby"];

/// Every process of the pair with that name.
fn named(pair: &Pair, comm: &str) -> Vec<i32> {
    let is_it = |pid: &i32| status_field(*pid, "Name") == comm;
    pair.processes().into_iter().filter(is_it).collect()
}

/// A small file system; taken away when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(dir: PathBuf) -> Option<SmallDisk> {
        fs::create_dir_all(&dir).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&dir);
        if !finish(command, "mount").status.success() {
            println!("skipped: nothing can be mounted here");
            return None;
        }
        Some(SmallDisk(dir))
    }

    fn fill(&self) {
        let zeroes = vec![0; 1 << 20];
        assert!(fs::write(self.0.join("filler"), zeroes).is_err(), "the disk is not full");
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn shell(name: &str, script: &str, more: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = [\"sh\", \"-c\", '''{script}''']\n\
         settleTime = \"20ms\"\n{more}\n"
    )
}

/// Kills at one instant: nobody acts on another's death.
fn kill_at_once(pids: &[i32]) {
    for number in [SIGSTOP, SIGKILL] {
        pids.iter().for_each(|pid| signal(*pid, number));
    }
    wait_until("the killed to end", || !pids.iter().any(|pid| is_alive(*pid)));
}

fn run_in_background(pair: &Pair) -> Child {
    let mut command = pair.command(&["run"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn of_twenty_starts_at_the_same_instant_one_becomes_the_pair() {
    let pair = Pair::new("", &counted("s", "", ""));
    let mut children: Vec<Child> = (0..20).map(|_| run_in_background(&pair)).collect();
    pair.wait_whole();
    let keeper = pair.pid_of("keeper");
    let at = children.iter().position(|child| child.id() as i32 == keeper);
    let the_one = Ended(children.remove(at.expect("the keeper is one of them")));
    for child in children {
        let output = finish_child(child, "a second run");
        assert_eq!(output.status.code(), Some(75), "{}", both(&output));
        has(&both(&output), &["a node manager already runs", &format!("PID {keeper}")]);
    }
    let server = started(&pair, 1)["s"];
    assert_eq!(starts(&pair, "s"), [server]);
    // The keeper, two twins, the server.
    wait_until("nobody else to be there", || pair.processes().len() == 4);
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    drop(the_one);
}

#[test]
fn a_control_socket_that_was_swept_away_is_made_again_and_lets_no_second_pair_in() {
    let pair = Pair::new("", &counted("s", "", ""));
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 1);
    let (active, keeper) = (pair.pid_of("active"), pair.pid_of("keeper"));
    for round in 0..2 {
        fs::remove_file(pair.home.join("run/control.sock")).unwrap();
        let _ = fs::remove_file(pair.home.join("run/pair.json"));
        let second = finish(pair.command(&["run"]), "a second run");
        assert_eq!(second.status.code(), Some(75), "{}", both(&second));
        wait_until("the socket", || pair.home.join("run/control.sock").exists());
        pair.wait_whole();
        assert_untouched(&pair, &pids);
        if round == 0 {
            assert_eq!([pair.pid_of("active"), pair.pid_of("keeper")], [active, keeper]);
            // The next active has the new socket too.
            signal(active, SIGKILL);
            pair.wait_whole();
            assert_ne!(pair.pid_of("active"), active);
        }
    }
    exits(&pair, &["stop", "s"], 0);
}

#[test]
fn a_stale_or_foreign_pair_file_misleads_nobody() {
    let pair = Pair::new("", &counted("s", "", ""));
    pair.start();
    pair.wait_whole();
    kill_at_once(&ROLES.map(|role| pair.pid_of(role)));
    let server = reported(&pair, "s", 1)[0];
    // It names a stranger as the active now.
    let stranger = Ended(Command::new("sleep").arg("600").spawn().unwrap());
    let path = pair.home.join("run/pair.json");
    let mut file: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).expect("pair.json");
    file["active"]["pid"] = stranger.0.id().into();
    fs::write(&path, file.to_string()).unwrap();
    pair.start();
    assert_eq!(pair.pids()["s"], server);
    assert!(is_alive(stranger.0.id() as i32));
    kill_at_once(&ROLES.map(|role| pair.pid_of(role)));
    fs::write(&path, "garbage").unwrap();
    pair.start();
    assert_eq!(pair.pids()["s"], server);
    assert_eq!(starts(&pair, "s"), [server]);
}

// ---- 8: numbers on record that are a stranger's by now

#[test]
fn every_command_ends_in_its_time_while_both_twins_are_stopped() {
    let pair = Pair::new("heartbeatTimeout = \"60s\"", &counted("s", "", ""));
    pair.start();
    let before = twins(&pair);
    [before.0, before.1].iter().for_each(|pid| freeze(*pid));
    for words in [
        &["status", "--timeout", "1s"] as &[&str],
        &["start", "s", "--timeout", "1s"],
        &["stop", "s", "--timeout", "1s"],
        &["wait", "--up", "s", "--timeout", "1s"],
    ] {
        let output = finish(pair.command(words), &words.join(" "));
        assert!(!output.status.success(), "{words:?}: {}", both(&output));
    }
    exits(&pair, &["logs", "s"], 0);
    [before.1, before.0].iter().for_each(|pid| signal(*pid, SIGCONT));
    pair.wait_whole();
}

#[test]
#[ignore = "takes 30 s, the limit of a command that was given none"]
fn a_command_without_a_limit_of_its_own_ends_while_both_twins_are_stopped() {
    let pair = Pair::new("heartbeatTimeout = \"120s\"", &counted("s", "", ""));
    pair.start();
    let before = twins(&pair);
    [before.0, before.1].iter().for_each(|pid| freeze(*pid));
    let output = finish(pair.command(&["status"]), "status");
    assert!(!output.status.success(), "{}", both(&output));
    [before.1, before.0].iter().for_each(|pid| signal(*pid, SIGCONT));
}

// ---- 14: a pause is no hang

#[test]
fn a_pause_of_the_whole_machine_is_taken_for_no_hang() {
    let pair = Pair::new("", &counted("s", "", ""));
    pair.start();
    let (before, pids) = (twins(&pair), started(&pair, 1));
    let keeper = pair.pid_of("keeper");
    let all = [keeper, before.1, before.0];
    for _ in 0..2 {
        all.iter().for_each(|pid| freeze(*pid));
        // Longer than anybody would wait for a beat: a pause can't be waited for otherwise.
        std::thread::sleep(Duration::from_millis(2_500));
        all.iter().for_each(|pid| signal(*pid, SIGCONT));
        pair.wait_whole();
        let since = pair.log(false).lines().count();
        exits(&pair, &["restart", "s"], 0);
        wait_until("the pair to go on", || pair.log(false).lines().count() > since);
        assert_undisturbed(&pair, before);
        assert_eq!(pair.pid_of("keeper"), keeper);
    }
    assert_eq!(reported(&pair, "s", 3)[0], pids["s"]);
}

// ---- 15: ordinary races and shortages

#[test]
fn a_shutdown_ends_although_servers_are_starting_waiting_or_deaf() {
    let deaf = "trap '' TERM; echo ready; while :; do sleep 1; done";
    let servers = [
        shell("starting", "exec sleep 1000", "").replace("\"20ms\"", "\"10m\""),
        shell("waiting", "exit 1", "restart = { delay = \"10m\", delayMax = \"10m\" }"),
        shell("deaf", deaf, "stop = { timeout = \"10m\" }"),
    ];
    let pair = Pair::new("shutdownTimeout = \"500ms\"", &servers.concat());
    // It says that not all are up.
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    pair.wait_whole();
    pair.wait_state("starting", "STARTING");
    pair.wait_state("waiting", "BACKOFF");
    wait_until("the deaf one", || pair.output_of("deaf").contains("ready"));
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    assert_nothing_left(&pair);
}

// ---- 21: a disk full of logs

#[test]
fn an_orphan_that_holds_everything_of_a_dead_pair_keeps_nobody_from_starting() {
    // What the servers have, their orphans have; nothing of it is a lock or a socket of the pair.
    let script = "setsid sleep 600 & echo $! > {home}/orphan; exec sleep 1000";
    let pair = Pair::new("", &(shell("s", script, "") + &counted("t", "--usr1-exits 1", "")));
    pair.start();
    pair.wait_whole();
    let orphan = EndedPid(pid_in(&pair.home.join("orphan")));
    let pids = pair.pids();
    kill_at_once(&[&ROLES.map(|role| pair.pid_of(role))[..], &[pids["s"]]].concat());
    pair.run(&["run", "--detach", "--timeout", "2s"]);
    pair.wait_whole();
    assert_eq!(pair.pids()["t"], pids["t"]);
    assert!(is_alive(orphan.0));
    signal(pids["t"], SIGUSR1);
    wait_until("the restart", || {
        let row = pair.server("t");
        row["restarts"] == 1 && row["state"] == "RUNNING"
    });
}
