//! What users of other supervisors met, tried here: docs/PAINS.md says which test stands for what.
//!
//! Real processes; as root, real shortage of memory and processes too. Must leave no cgroup, mount
//! or namespace behind. A test that takes half a minute by nature is left out unless asked for:
//! `cargo test --test pains -- --ignored`.

mod support;
mod tools;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::counted::{assert_untouched, counted, started, starts};
use support::{
    Pair, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, binary, both, example, is_alive, signal, wait_until,
};
use tools::{
    Ended, EndedPid, assert_nothing_left, assert_undisturbed, exits, finish, finish_child, freeze,
    has, has_tool, is_root, pid_in, state_letter, status_field, twins,
};

const SIGUSR1: i32 = 10;
const ROLES: [&str; 3] = ["keeper", "active", "standby"];

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

fn oom_score_adj(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    text.unwrap_or_default().trim().to_string()
}

/// A group of cgroup v1 with a limit; removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new(controller: &str, pair: &Pair) -> Option<Group> {
        let dir = PathBuf::from(format!("/sys/fs/cgroup/{controller}/{}", pair.name()));
        match fs::create_dir(&dir) {
            Ok(()) => Some(Group(dir)),
            Err(error) => {
                println!("skipped: no group of {controller} in cgroup v1 ({error})");
                None
            }
        }
    }

    fn set(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn move_in(&self, pid: i32) {
        self.set("cgroup.procs", &pid.to_string());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let procs = || fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for _ in 0..200 {
            let parent = self.0.parent().map(|parent| parent.join("cgroup.procs"));
            for pid in procs().lines() {
                let _ = parent.as_ref().map(|parent| fs::write(parent, pid));
            }
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

// ---- 5: the supervisor is killed for its memory

#[test]
fn when_memory_is_short_and_the_kernel_kills_both_twins_no_server_goes_with_them() {
    if !is_root("a memory limit") {
        return;
    }
    let pair = Pair::new("", &(counted("a", "", "") + &counted("b", "", "")));
    let Some(group) = Group::new("memory", &pair) else { return };
    pair.start();
    let (pids, before) = (started(&pair, 2), twins(&pair));
    for pid in [before.0, before.1] {
        group.move_in(pid);
        fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").unwrap();
    }
    group.set("memory.limit_in_bytes", "67108864");
    let mut hog = Command::new("sh");
    hog.args(["-c", "echo $$ > $0/cgroup.procs; exec tail /dev/zero"]).arg(&group.0);
    let _hog = Ended(hog.stderr(Stdio::null()).spawn().unwrap());
    wait_until("both twins to be killed", || !is_alive(before.0) && !is_alive(before.1));
    let control = fs::read_to_string(group.0.join("memory.oom_control")).unwrap();
    assert!(!control.contains("oom_kill 0"), "nobody was killed for memory: {control}");
    pair.wait_whole();
    assert_untouched(&pair, &pids);
}

#[test]
fn what_protects_a_twin_from_the_oom_killer_is_not_handed_to_its_servers() {
    let restart = "restart = { delay = \"0s\" }";
    let pair = Pair::new("", &counted("s", "", restart));
    pair.start();
    let (own, first) = (oom_score_adj(std::process::id() as i32), started(&pair, 1)["s"]);
    let active = pair.pid_of("active");
    // Raising it is everybody's right; lowering it, as root would, goes the same way.
    fs::write(format!("/proc/{active}/oom_score_adj"), "500").unwrap();
    signal(first, SIGKILL);
    wait_until("the next start", || starts(&pair, "s").len() == 2);
    assert_eq!(oom_score_adj(starts(&pair, "s")[1]), own);
}

// ---- 6: saved state, and a crash in the middle of saving it

/// The wishes on disk, by name; a torn line fails the test.
fn wishes(pair: &Pair) -> Vec<(String, bool)> {
    let text = fs::read_to_string(pair.home.join("state/wishes")).unwrap_or_default();
    let wish = |line: &str| match line.split_once(' ') {
        Some(("up", name)) => (name.to_string(), true),
        Some(("down", name)) => (name.to_string(), false),
        _ => panic!("a torn line in {text:?}"),
    };
    text.lines().map(wish).collect()
}

/// Every process of the pair with that name.
fn named(pair: &Pair, comm: &str) -> Vec<i32> {
    let is_it = |pid: &i32| status_field(*pid, "Name") == comm;
    pair.processes().into_iter().filter(is_it).collect()
}

#[test]
fn remembered_wishes_are_never_fewer_whoever_is_killed_while_they_are_saved() {
    let remember = "autoStart = \"remember\"";
    let names = ["a", "b", "c", "d"];
    let servers: String = names.iter().map(|name| counted(name, "", remember)).collect();
    let pair = Pair::new("", &servers);
    pair.start();
    exits(&pair, &["start", "all"], 0);
    assert_eq!(wishes(&pair).len(), 4);
    for round in 0..12 {
        let verb = if round % 2 == 0 { "stop" } else { "start" };
        let child = pair.command(&[verb, "b"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = Ended(child.unwrap());
        let end = Instant::now() + Duration::from_millis(5 * round);
        while Instant::now() < end {
            named(&pair, "nm-saver").iter().for_each(|pid| signal(*pid, SIGKILL));
        }
        if round % 3 == 0 {
            signal(pair.pid_of("active"), SIGKILL);
        }
        let all = wishes(&pair);
        assert_eq!(all.len(), 4, "a wish is lost: {all:?}");
        child.0.wait().unwrap();
        pair.wait_whole();
    }
    exits(&pair, &["stop", "b"], 0);
    let up = |name: &str| name != "b";
    assert!(wishes(&pair).iter().all(|(name, is_up)| *is_up == up(name)), "{:?}", wishes(&pair));
}

#[test]
fn a_wish_of_before_a_takeover_is_still_remembered_after_one_of_after_it() {
    let remember = "autoStart = \"remember\"";
    let pair = Pair::new("", &(counted("a", "", remember) + &counted("b", "", remember)));
    pair.start();
    pair.wait_whole();
    exits(&pair, &["start", "a"], 0);
    signal(pair.pid_of("active"), SIGKILL);
    exits(&pair, &["start", "b"], 0);
    assert_eq!(wishes(&pair), [("a".to_string(), true), ("b".to_string(), true)]);
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

#[test]
fn on_a_full_disk_the_old_wishes_stay_and_the_server_is_stopped_all_the_same() {
    if !is_root("a small file system") || !has_tool("mount") {
        return;
    }
    let remember = "autoStart = \"remember\"";
    let pair = Pair::new("", &(counted("a", "", remember) + &counted("b", "", remember)));
    let Some(disk) = SmallDisk::new(pair.home.join("state")) else { return };
    pair.start();
    exits(&pair, &["start", "all"], 0);
    let before = wishes(&pair);
    disk.fill();
    exits(&pair, &["stop", "a"], 0);
    assert_eq!(wishes(&pair), before);
    wait_until("a warning", || pair.log(false).contains("forgotten at a reboot"));
    disk.make_room();
    exits(&pair, &["stop", "b"], 0);
    // With the next one that can be written, those of before are written too.
    assert_eq!(wishes(&pair), [("a".to_string(), false), ("b".to_string(), false)]);
    drop(pair.run(&["shutdown", "--stop-servers"]));
    drop(disk);
}

// ---- 7: two supervisors at once

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
    assert_eq!(pair.processes().len(), 4);
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
    let server = starts(&pair, "s")[0];
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

/// Runs in a PID namespace: a pair whose processes are all killed, its server too, and a stranger
/// gets the server's number; then the pair, or only `shutdown --stop-servers`, looks at the record.
const STRANGER: &str = r#"
    nm="$1"; config="$2"; home="$3"; then="$4"
    until_true() { for _ in $(seq 1 600); do if eval "$1"; then return 0; fi; sleep 0.05; done; echo "in vain: $1"; exit 1; }
    "$nm" run --detach -c "$config" || exit 1
    server=$("$nm" pid a -c "$config")
    all=$(ls /proc | grep -E '^[0-9]+$' | grep -v -e '^1$' -e "^$$\$")
    kill -STOP $all 2>/dev/null; kill -9 $all 2>/dev/null
    until_true '! [ -e /proc/$server ]'
    echo $((server - 1)) > /proc/sys/kernel/ns_last_pid
    setsid sh -c 'trap "echo hit > $0/hit" TERM HUP INT; echo $$ > $0/stranger; while :; do sleep 1; done' "$home" &
    until_true '[ -s "$home/stranger" ]'
    echo "$server" > "$home/server"
    if [ "$then" = start ]; then
        "$nm" run --detach -c "$config" || exit 1
        "$nm" stop a -c "$config" || exit 1
    fi
    "$nm" shutdown --stop-servers -c "$config" || exit 1
    kill -0 "$(cat "$home/stranger")" && echo lives > "$home/lives"
"#;

fn stranger_with_a_number_on_record(then: &str) {
    if !is_root("a PID namespace") || !has_tool("unshare") {
        return;
    }
    let pair = Pair::new("", &counted("a", "", "stop = { timeout = \"200ms\" }"));
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", STRANGER, "sh"]);
    command.arg(binary()).arg(pair.config()).arg(&pair.home).arg(then);
    let output = finish(command, "the namespace");
    assert!(output.status.success(), "{}", both(&output));
    let number = |file: &str| pid_in(&pair.home.join(file));
    assert_eq!(number("stranger"), number("server"), "the number was not used again");
    assert!(!pair.home.join("hit").exists(), "the stranger was signalled");
    assert!(pair.home.join("lives").exists(), "the stranger was killed");
    let expected = if then == "start" { 2 } else { 1 };
    assert_eq!(starts(&pair, "a").len(), expected);
}

#[test]
fn a_start_that_finds_a_strangers_number_on_record_leaves_the_stranger_alone() {
    stranger_with_a_number_on_record("start");
}

#[test]
fn a_shutdown_without_a_pair_leaves_a_stranger_with_a_number_on_record_alone() {
    stranger_with_a_number_on_record("shutdown");
}

// ---- 9: "cannot tell" is not "dead"

#[test]
fn a_server_that_can_not_be_looked_at_is_neither_started_again_nor_signalled() {
    let pair = Pair::new("", &(counted("a", "", "") + &counted("b", "", "")));
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 2);
    kill_at_once(&ROLES.map(|role| pair.pid_of(role)));
    // As if no descriptor were left, but for the one server.
    let mut command = Command::new(example("old_kernel"));
    command.arg(format!("pidfd_open:{}={}", pids["a"], libc::ENFILE)).arg("--").arg(binary());
    command.args(["run", "-c"]).arg(pair.config()).stdout(Stdio::null()).stderr(Stdio::null());
    let blind = Ended(command.spawn().unwrap());
    wait_until("the other server to be found", || pair.server("b")["state"] == "RUNNING");
    // It would have been started by now.
    let row = pair.server("a");
    has(&row["reason"].to_string(), &["cannot tell whether PID", "Too many open files"]);
    assert_eq!(starts(&pair, "a"), [pids["a"]]);
    pair.wait_whole();
    kill_at_once(&ROLES.map(|role| pair.pid_of(role)));
    drop(blind);
    pair.start();
    pair.wait_whole();
    assert_untouched(&pair, &pids);
}

// ---- 13: nobody answers

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
    assert!(starts(&pair, "s").len() == 3 && starts(&pair, "s")[0] == pids["s"]);
}

// ---- 15: ordinary races and shortages

#[test]
fn signals_to_servers_that_just_died_end_nobody() {
    let restart = "restart = { when = \"always\", delay = \"0s\", tries = 1000 }";
    let pair = Pair::new("", &counted("s", "--die-after 3", restart));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    let before = twins(&pair);
    for round in 0..40 {
        let words: &[&str] = match round % 4 {
            0 => &["signal", "SIGTERM", "s"],
            1 => &["kill", "s"],
            2 => &["restart", "s", "--no-wait"],
            _ => &["start", "s", "--no-wait"],
        };
        pair.run(words);
    }
    assert_undisturbed(&pair, before);
}

#[test]
fn a_fork_that_is_refused_is_tried_again_until_it_succeeds() {
    if !is_root("a limit of processes") {
        return;
    }
    let restart = "restart = { delay = \"10ms\", delayMax = \"100ms\" }";
    let pair = Pair::new("", &counted("s", "", restart));
    let Some(group) = Group::new("pids", &pair) else { return };
    pair.start();
    let (before, first) = (twins(&pair), started(&pair, 1)["s"]);
    group.move_in(before.0);
    group.set("pids.max", "1");
    signal(first, SIGKILL);
    let refused = || pair.server("s").to_string().contains("cannot fork");
    wait_until("a fork to be refused", refused);
    // The standby can't be replaced either, and nobody ends because of it.
    signal(before.1, SIGKILL);
    wait_until("a start of the standby to be refused", || {
        pair.log(false).lines().any(|line| line.contains("-0126]"))
    });
    assert_eq!(pair.pid_of("active"), before.0);
    group.set("pids.max", "max");
    pair.wait_state("s", "RUNNING");
    pair.wait_whole();
    assert_eq!((pair.pid_of("active"), starts(&pair, "s").len()), (before.0, 2));
}

#[test]
fn without_descriptors_left_nobody_ends_and_the_start_is_tried_again() {
    if !has_tool("prlimit") {
        return;
    }
    let restart = "restart = { delay = \"10ms\", delayMax = \"100ms\" }";
    let pair = Pair::new("", &counted("s", "", restart));
    pair.start();
    let (before, first) = (twins(&pair), started(&pair, 1)["s"]);
    let limit = |soft: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &before.0.to_string(), &format!("--nofile={soft}:")]);
        assert!(finish(command, "prlimit").status.success());
    };
    limit("10");
    signal(first, SIGKILL);
    wait_until("the refusal", || pair.log(false).contains("Too many open files"));
    assert!(is_alive(before.0));
    limit("1000");
    pair.wait_state("s", "RUNNING");
    assert_eq!(pair.pid_of("active"), before.0);
    assert_eq!(starts(&pair, "s").len(), 2);
}

// ---- 18: a grandchild holds the pipe

#[test]
fn a_death_is_seen_although_a_grandchild_holds_the_output() {
    // The grandchild has a session and an environment of its own, and the server's output.
    let script = "if [ -e {home}/pid ]; then echo second; exec sleep 1000; fi
        env -i setsid sh -c 'echo $$ > {home}/pid; exec sleep 1000' &
        while ! [ -s {home}/pid ]; do sleep 0.01; done; exit 3";
    let pair = Pair::new("", &shell("s", script, "restart = { delay = \"0s\" }"));
    pair.run(&["run", "--detach"]);
    let grandchild = EndedPid(pid_in(&pair.home.join("pid")));
    wait_until("the second start", || pair.output_of("s").contains("second"));
    let row = pair.wait_state("s", "RUNNING");
    assert_eq!((&row["lastExit"]["code"], &row["restarts"]), (&3.into(), &1.into()), "{row}");
    assert!(is_alive(grandchild.0));
}

// ---- 19: orphans and zombies

/// Leaves orphans behind that end soon, each in a session of its own.
const ORPHANS: &str =
    "i=0; while [ $i -lt 50 ]; do i=$((i+1)); (setsid sh -c 'sleep 0.05; exit 9' &); done
    echo done; exec sleep 1000";

fn zombies_of(parent: i32) -> usize {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter(|pid| state_letter(*pid) == Some('Z')).count()
}

#[test]
fn orphans_are_reaped_and_nobody_says_a_word_about_them() {
    let pair = Pair::new("", &shell("s", ORPHANS, ""));
    pair.start();
    let before = twins(&pair);
    wait_until("the orphans", || pair.output_of("s").contains("done"));
    let is_left = || {
        let is_it = |pid: &i32| *pid != pair.pids()["s"];
        let marked = |pid: &i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environ).contains("NM_SERVER=")
        };
        pair.processes().iter().filter(|pid| is_it(pid) && marked(pid)).count()
    };
    wait_until("the orphans to end", || is_left() == 0);
    wait_until("no zombie to be left", || zombies_of(pair.pid_of("keeper")) == 0);
    assert_undisturbed(&pair, before);
    let log = pair.log(false);
    assert!(!log.contains("unknown") && !log.contains("reap"), "{log}");
}

#[test]
fn as_the_first_process_of_a_container_the_keeper_reaps_everything_and_brings_the_pair_back() {
    if !is_root("a PID namespace") || !has_tool("unshare") {
        return;
    }
    let pair = Pair::new("", &(shell("s", ORPHANS, "") + &counted("a", "", "")));
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(binary());
    command.args(["run", "-c"]).arg(pair.config()).stdout(Stdio::null());
    let mut inside = Ended(command.spawn().unwrap());
    let count = |text: &str| pair.log(false).matches(text).count();
    wait_until("the pair", || count("is WATCHING") == 1 && count("RUNNING, PID") == 2);
    let named = |comm: &str| named(&pair, comm);
    let keeper = named("nm-keeper")[0];
    wait_until("the orphans", || pair.output_of("s").contains("done"));
    let both_twins = [named("nm-active"), named("nm-standby")].concat();
    kill_at_once(&both_twins);
    wait_until("the pair again", || count("is WATCHING") == 2);
    wait_until("no zombie to be left", || zombies_of(keeper) == 0);
    assert_eq!(starts(&pair, "a").len(), 1);
    signal(keeper, SIGTERM);
    wait_until("the end", || inside.0.try_wait().unwrap().is_some());
    wait_until("no process to be left", || pair.processes().is_empty());
}

// ---- 20: a shutdown has an end

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
fn a_full_log_disk_neither_ends_nor_holds_a_server_for_ever_and_the_loss_is_told() {
    if !is_root("a small file system") || !has_tool("mount") {
        return;
    }
    // A thousand bytes a line, and how many lines were written.
    let script =
        "n=0; while :; do n=$((n+1)); printf \"line %995s\\n\" $n; echo $n > {home}/n; done";
    let pair = Pair::new("", &shell("s", script, ""));
    let Some(disk) = SmallDisk::new(pair.home.join("logs")) else { return };
    pair.start();
    let (before, server) = (twins(&pair), pair.pids()["s"]);
    let count = || -> u64 {
        let text = fs::read_to_string(pair.home.join("n")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    // Twice what fits: the server went on although nothing could be written.
    wait_until("the server to go on", || count() > 1_200);
    assert_eq!(pair.pids()["s"], server);
    assert_eq!((pair.pid_of("active"), pair.pid_of("standby")), before);
    exits(&pair, &["stop", "s"], 0);
    fs::write(pair.home.join("logs/s.out"), "").unwrap();
    exits(&pair, &["start", "s"], 0);
    wait_until("lines again", || pair.output_of("s").contains("line "));
    wait_until("the loss to be told", || pair.log(false).contains("-0364]"));
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    drop(disk);
}

// ---- 22: restart storms

#[test]
fn the_delay_before_a_restart_grows_to_its_cap_and_a_reset_begins_again() {
    let restart =
        "autoStart = false\nrestart = { delay = \"20ms\", delayMax = \"100ms\", tries = 1000 }";
    let pair = Pair::new("", &counted("s", "--die-after 1 --code 4", restart));
    pair.start();
    pair.run(&["start", "s", "--no-wait"]);
    let delays = || -> Vec<u64> {
        let log = pair.log(false);
        let lines = log.lines().filter(|line| line.contains("-0309]"));
        let delay =
            |line: &str| line.rsplit_once("the next try in ")?.1.split(' ').next()?.parse().ok();
        lines.filter_map(delay).collect()
    };
    // What a line says is what is left of the delay when it is written, never more than that.
    let largest = || delays().into_iter().max().unwrap_or(0);
    wait_until("the delay to grow", || delays().len() >= 6 && largest() > 50);
    assert!(delays()[0] <= 20 && largest() <= 100, "{:?}", delays());
    let row = pair.server("s");
    assert!(row["failCount"].as_u64() >= Some(5) && row["restarts"].as_u64() >= Some(5), "{row}");
    exits(&pair, &["stop", "s"], 0);
    let before = delays().len();
    exits(&pair, &["reset", "s"], 0);
    assert_eq!(pair.server("s")["failCount"], 0);
    pair.run(&["start", "s", "--no-wait"]);
    wait_until("the next try", || delays().len() > before);
    assert!(delays()[before] <= 20, "{:?}", delays());
}

// ---- 24: what was wanted

#[test]
fn finished_work_is_not_done_again_by_another_active_or_a_fresh_pair() {
    let keys = "settleTime = \"0ms\"";
    let options = "--die-after 1 --code 0";
    let once = counted("once", options, keys).replace("settleTime = \"20ms\"\n", "");
    let pair = Pair::new("", &(once + &counted("s", "", "")));
    pair.run(&["run", "--detach"]);
    pair.wait_whole();
    pair.wait_state("once", "EXITED");
    signal(pair.pid_of("active"), SIGKILL);
    pair.wait_whole();
    kill_at_once(&["active", "standby"].map(|role| pair.pid_of(role)));
    pair.wait_whole();
    kill_at_once(&ROLES.map(|role| pair.pid_of(role)));
    pair.start();
    assert_eq!(pair.server("once")["state"], "EXITED");
    assert_eq!(starts(&pair, "once").len(), 1, "finished work was done again");
}

#[test]
fn a_server_that_was_stopped_stays_so_whoever_takes_over_or_comes_back() {
    let pair = Pair::new("", &(counted("a", "", "") + &counted("b", "", "")));
    pair.start();
    started(&pair, 2);
    exits(&pair, &["stop", "a"], 0);
    for roles in [&ROLES[1..2], &ROLES[1..], &ROLES[..]] {
        pair.wait_whole();
        let pids: Vec<i32> = roles.iter().map(|role| pair.pid_of(role)).collect();
        kill_at_once(&pids);
        if roles.len() == 3 {
            pair.start();
        }
        pair.wait_whole();
        assert_eq!(pair.server("a")["state"], "STOPPED", "after the death of {roles:?}");
    }
    assert_eq!(starts(&pair, "a").len(), 1);
}

// ---- near misses

#[test]
fn a_server_that_died_by_sigkill_is_started_again() {
    let pair = Pair::new("", &counted("s", "", "restart = { delay = \"0s\" }"));
    pair.start();
    let (before, first) = (twins(&pair), started(&pair, 1)["s"]);
    signal(first, SIGKILL);
    wait_until("the next start", || starts(&pair, "s").len() == 2);
    let row = pair.wait_state("s", "RUNNING");
    assert_eq!((&row["lastExit"]["signal"], &row["restarts"]), (&"SIGKILL".into(), &1.into()));
    assert_undisturbed(&pair, before);
}

#[test]
fn a_restart_of_a_server_restarts_its_process_and_nobody_of_the_pair() {
    let pair = Pair::new("", &(counted("s", "--child 600000", "") + &counted("t", "", "")));
    pair.start();
    let (before, pids) = (twins(&pair), started(&pair, 2));
    exits(&pair, &["restart", "s"], 0);
    assert!(!is_alive(pids["s"]));
    assert_eq!((starts(&pair, "s").len(), starts(&pair, "t").len()), (2, 1));
    assert_undisturbed(&pair, before);
}

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
