//! The traps that were met on a real kernel, each with the real program; docs/TRAPS.md says which
//! precaution each test holds.

mod support;
mod tools;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nodemanager::sys::lock;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use support::{Pair, SIGCONT, SIGKILL, SIGSTOP, binary, is_alive, signal, wait_for, wait_until};
use tools::{
    EndedPid, exits, finish, freeze, has, has_tool, is_root, pid_in, state_letter, status_field,
    twins,
};

fn sleeper(name: &str, more: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = \"sleep 1000\"\nsettleTime = \"50ms\"\n{more}\n"
    )
}

fn program(name: &str, command: &[&str], more: &str) -> String {
    let words: Vec<String> = command.iter().map(|word| format!("'''{word}'''")).collect();
    let command = words.join(", ");
    format!("[[server]]\nname = \"{name}\"\ncommand = [{command}]\nsettleTime = \"50ms\"\n{more}\n")
}

fn shell(name: &str, script: &str, more: &str) -> String {
    program(name, &["sh", "-c", script], more)
}

/// The journal is gone, as after a crash of the file system.
fn remove_journal(pair: &Pair) {
    for name in ["journal.a", "journal.b"] {
        let _ = fs::remove_file(pair.home.join("run").join(name));
    }
}

/// Numbered lines as fast as a shell can, for a test that looks for holes and doubles.
const NUMBERS: &str = "n=0; while :; do n=$((n+1)); echo $n; done";

/// All lines are 1, 2, 3, ...; gives how many.
fn assert_in_sequence(text: &str) -> usize {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for (at, line) in whole.lines().enumerate() {
        assert_eq!(line, (at + 1).to_string(), "line {} is torn, lost or doubled", at + 1);
    }
    whole.lines().count()
}

/// Kills the active; gives the PID of the one that follows, once the pair is whole again.
fn take_over(pair: &Pair) -> i32 {
    let before = twins(pair);
    signal(before.0, SIGKILL);
    wait_until("the takeover", || pair.twin("active") == Some(before.1));
    pair.wait_whole();
    before.1
}

// ---- 1: locks

#[test]
fn a_dead_actives_lock_is_free_at_once_although_it_forked_all_the_time() {
    let restart = "restart = { when = \"always\", tries = 1000, delay = \"0ms\" }";
    let servers: String =
        (0..8).map(|n| program(&format!("s{n}"), &["true"], restart)).collect::<String>();
    let pair = Pair::new("", &servers);
    // They never stay up, so the start says that not all is well.
    let _ = finish(pair.command(&["run", "--detach", "--timeout", "2s"]), "run");
    for _ in 0..6 {
        take_over(&pair);
    }
    let logs = pair.log(false) + &pair.log(true);
    assert!(!logs.contains("-0207]") || !logs.contains("lock"), "a lock outlived its holder");
    let holder = lock::holder(&pair.home.join("run/nodemanager.lock")).unwrap();
    assert_eq!(holder, pair.twin("active"));
}

// ---- 2: the run directory and the journal

#[test]
fn a_removed_run_directory_is_rebuilt_under_the_pair_and_nobody_else_gets_in() {
    let pair = Pair::new(
        "",
        &(sleeper("a", "") + &shell("talks", "while :; do echo x; sleep 0.05; done", "")),
    );
    pair.start();
    let (active, keeper, before) = (twins(&pair).0, pair.pid_of("keeper"), pair.pids());
    let run = pair.home.join("run");
    fs::remove_dir_all(&run).unwrap();
    wait_until("the socket to be back", || run.join("control.sock").exists());
    pair.wait_whole();
    assert_eq!(
        (pair.pid_of("active"), pair.pid_of("keeper"), pair.pids()),
        (active, keeper, before)
    );
    has(&exits(&pair, &["run"], 75).1, &["already runs"]);
    exits(&pair, &["restart", "a"], 0);
    // The log goes on, from the FIFO of the old directory and from a new one.
    fs::write(pair.home.join("logs/talks.out"), "").unwrap();
    wait_until("output of the running server", || pair.output_of("talks").contains('x'));
    exits(&pair, &["restart", "talks"], 0);
    fs::write(pair.home.join("logs/talks.out"), "").unwrap();
    wait_until("output of the new server", || pair.output_of("talks").contains('x'));
    // It is as good as the first one: a takeover finds all it needs.
    let before = pair.pids();
    take_over(&pair);
    assert_eq!(pair.pids(), before);
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    wait_until("no process to be left", || pair.processes().is_empty());
}

#[test]
fn servers_are_found_by_their_mark_when_the_journal_is_gone_and_none_is_started_twice() {
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
    pair.start();
    exits(&pair, &["restart", "b"], 0);
    let before = pair.pids();
    exits(&pair, &["shutdown"], 0);
    remove_journal(&pair);
    pair.start();
    assert_eq!(pair.pids(), before);
    exits(&pair, &["stop", "all"], 0);
    assert!(before.values().all(|pid| !is_alive(*pid)));
}

#[test]
fn a_process_with_the_mark_that_left_its_session_is_waited_for() {
    if !has_tool("setsid") {
        return;
    }
    let script = "[ -e {home}/stray ] && exec sleep 1000
        setsid sh -c 'sleep 1000 & echo $! > {home}/stray' & exec sleep 1000";
    let pair = Pair::new("", &shell("a", script, ""));
    pair.start();
    let stray = pid_in(&pair.home.join("stray"));
    let _ended = EndedPid(stray);
    let leader = pair.pids()["a"];
    exits(&pair, &["shutdown"], 0);
    remove_journal(&pair);
    signal(leader, SIGKILL);
    wait_until("its death", || !is_alive(leader));
    exits(&pair, &["run", "--detach"], 1);
    let server = pair.wait_state("a", "WAITING");
    has(&server["waitsFor"].to_string(), &[&format!("PID {stray}")]);
    // Looked at again and again, and left alone.
    wait_until("another look", || pair.server("a")["state"] == "WAITING");
    assert!(is_alive(stray));
    signal(stray, SIGKILL);
    pair.wait_state("a", "RUNNING");
}

#[test]
fn a_server_that_wiped_its_mark_is_found_by_its_output() {
    if !has_tool("perl") {
        return;
    }
    // A long title writes over the environment behind it.
    let title = "$0 = 'x' x 100000; print \"ready\\n\"; $| = 1; print ''; sleep 1000";
    let pair = Pair::new("", &program("titled", &["perl", "-e", title], ""));
    pair.start();
    let before = pair.pids();
    wait_until("the title", || pair.output_of("titled").contains("ready"));
    let environ = fs::read(format!("/proc/{}/environ", before["titled"])).unwrap();
    let _ended = EndedPid(before["titled"]);
    if String::from_utf8_lossy(&environ).contains("NM_SERVER") {
        println!("skipped: this perl does not write over its environment");
        return;
    }
    exits(&pair, &["shutdown"], 0);
    remove_journal(&pair);
    pair.start();
    assert_eq!(pair.pids(), before);
    assert_eq!(pair.server("titled")["state"], "RUNNING");
    exits(&pair, &["restart", "titled"], 0);
    assert!(!is_alive(before["titled"]));
    let _ended = EndedPid(pair.pids()["titled"]);
    exits(&pair, &["stop", "titled"], 0);
}

#[test]
fn a_damaged_journal_is_cut_with_a_warning_and_nothing_is_started_twice() {
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
    pair.start();
    let before = pair.pids();
    exits(&pair, &["shutdown"], 0);
    // A page in the middle of what is written turns to noise, in both files.
    for name in ["journal.a", "journal.b"] {
        let path = pair.home.join("run").join(name);
        let Ok(file) = File::options().write(true).open(path) else { continue };
        std::os::unix::fs::FileExt::write_all_at(&file, &[0x5a; 300], 4096 + 200).unwrap();
    }
    pair.start();
    has(&pair.log(false), &["-0112]", "is damaged at byte"]);
    assert_eq!(pair.pids(), before);
}

/// One way to damage a file of the journal.
type Damage = (&'static str, fn(&mut Vec<u8>));

/// What the journal's writer left behind the header: the records.
const RECORDS: usize = 4096;

const DAMAGES: [Damage; 10] = [
    ("cut to nothing", |file| file.clear()),
    ("cut within the header", |file| file.truncate(100)),
    ("cut behind the header", |file| file.truncate(RECORDS)),
    ("cut within a record", |file| file.truncate(RECORDS + 333)),
    ("a bit of the header", |file| file[20] ^= 1),
    ("a bit of a record's length", |file| file[RECORDS] ^= 4),
    ("a bit of a record's text", |file| file[RECORDS + 40] ^= 1),
    ("a zeroed first page", |file| file[..4096].fill(0)),
    ("a zeroed second page", |file| file[4096..8192].fill(0)),
    ("a doubled page", |file| {
        let page = file[4096..8192].to_vec();
        file.splice(4096..4096, page);
    }),
];

#[test]
fn twenty_damages_of_one_journal_start_no_server_twice() {
    let wiped = "exec env -i sleep 1001";
    let servers = sleeper("a", "") + &sleeper("b", "") + &shell("wiped", wiped, "");
    let pair = Pair::new("", &servers);
    pair.start();
    let before = pair.pids();
    let _ended = EndedPid(before["wiped"]);
    for (what, damage) in DAMAGES {
        for names in [&["journal.a", "journal.b"][..], &["newest"]] {
            exits(&pair, &["shutdown"], 0);
            for path in names.iter().map(|name| journal_file(&pair, name)) {
                let mut bytes = fs::read(&path).unwrap();
                damage(&mut bytes);
                fs::write(&path, bytes).unwrap();
            }
            pair.start();
            assert_eq!(pair.pids(), before, "{what}, in {names:?}");
            let restarts = |name: &str| pair.server(name)["restarts"].clone();
            assert_eq!([restarts("a"), restarts("wiped")], [0, 0], "{what}, in {names:?}");
        }
    }
    exits(&pair, &["stop", "all"], 0);
    assert!(before.values().all(|pid| !is_alive(*pid)));
}

/// A file of the journal by its name, or the one that counts.
fn journal_file(pair: &Pair, name: &str) -> std::path::PathBuf {
    let path = |name: &str| pair.home.join("run").join(name);
    if name != "newest" {
        return path(name);
    }
    let generation = |name: &&str| {
        let bytes = fs::read(path(name)).unwrap_or_default();
        bytes.get(16..24).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
    };
    path(["journal.a", "journal.b"].iter().max_by_key(|name| generation(name)).unwrap())
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_left_as_it_is() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    let before = pair.pids();
    exits(&pair, &["shutdown"], 0);
    let path = pair.home.join("run/journal.a");
    let mut bytes = fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&3u32.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..4092]);
    bytes[4092..4096].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let other = fs::read(pair.home.join("run/journal.b")).ok();
    let (_, err) = exits(&pair, &["run", "--detach"], 78);
    has(&err, &["journal.a", "version is 3", "knows 2 only"]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read(pair.home.join("run/journal.b")).ok(), other);
    assert!(is_alive(before["a"]) && !pair.home.join("run/control.sock").exists());
}

// ---- 3: a full disk

/// A small file system of its own on the pair's run directory.
struct SmallDisk<'a>(&'a Pair);

impl SmallDisk<'_> {
    fn new(pair: &Pair) -> Option<SmallDisk<'_>> {
        let run = pair.home.join("run");
        fs::create_dir(&run).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&run);
        if !finish(command, "mount").status.success() {
            println!("skipped: nothing can be mounted here");
            return None;
        }
        Some(SmallDisk(pair))
    }

    fn fill(&self) {
        let mut file = File::create(self.0.home.join("run/filler")).unwrap();
        let error = loop {
            if let Err(error) = file.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        while file.write_all(&[1]).is_ok() {}
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        command.arg("--lazy").arg(self.0.home.join("run"));
        let _ = command.status();
    }
}

#[test]
fn on_a_full_disk_a_crashed_server_is_restarted_and_takeovers_go_on() {
    if !is_root("a small file system") || !has_tool("mount") {
        return;
    }
    let restart = "restart = { when = \"always\", tries = 1000, delay = \"0ms\" }";
    let pair = Pair::new("", &(sleeper("a", restart) + &sleeper("b", restart)));
    let Some(disk) = SmallDisk::new(&pair) else { return };
    pair.start();
    let active = twins(&pair).0;
    disk.fill();
    for _ in 0..20 {
        let before = pair.pids()["a"];
        signal(before, SIGKILL);
        wait_until("a new one", || {
            let server = pair.server("a");
            server["state"] == "RUNNING" && server["pid"] != before
        });
    }
    assert_eq!(pair.pid_of("active"), active);
    let before = pair.pids();
    take_over(&pair);
    assert_eq!(pair.pids(), before);
    exits(&pair, &["restart", "b"], 0);
    exits(&pair, &["stop", "a"], 0);
    drop(disk);
}

// ---- 4, 5: groups

#[test]
fn a_zombie_in_the_group_whose_parent_is_stopped_does_not_hold_up_a_stop() {
    if !has_tool("perl") {
        return;
    }
    // The helper leaves the group, lets its child there end, and never reaps it. The kernel hangs
    // up and wakes a stopped group when its session is orphaned, so it stops itself again.
    let script = "perl -e '
        $child = fork; exit 0 unless $child; setpgrp(0, 0);
        open F, \">{home}/child\"; print F \"$child\\n\"; close F;
        open F, \">{home}/helper\"; print F \"$$\\n\"; close F;
        $SIG{HUP} = IGNORE; while (1) { kill STOP, $$ }' & exec sleep 1000";
    let pair = Pair::new("", &shell("a", script, ""));
    pair.start();
    let child = pid_in(&pair.home.join("child"));
    let helper = pid_in(&pair.home.join("helper"));
    let _ended = EndedPid(helper);
    wait_until("the zombie", || {
        state_letter(child) == Some('Z') && state_letter(helper) == Some('T')
    });
    exits(&pair, &["stop", "a"], 0);
    assert_eq!(state_letter(child), Some('Z'), "the test lost its zombie");
    assert_eq!(state_letter(helper), Some('T'));
}

#[test]
fn a_stop_right_after_a_start_leaves_nothing() {
    let pair = Pair::new("", &sleeper("a", "autoStart = false"));
    pair.start();
    for _ in 0..30 {
        exits(&pair, &["start", "a", "--no-wait"], 0);
        let pid = pair.pids().get("a").copied();
        exits(&pair, &["stop", "a"], 0);
        assert!(pid.is_none_or(|pid| !is_alive(pid)));
        assert_eq!(pair.server("a")["state"], "STOPPED");
    }
    let marked = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environ).contains("NM_SERVER=")
    };
    wait_until("no server to be left", || !pair.processes().iter().any(marked));
}

// ---- 7: nobody acts

#[test]
fn the_keeper_brings_back_a_pair_whose_twins_are_both_stopped_and_keep_the_port() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    let (before, keeper, servers) = (twins(&pair), pair.pid_of("keeper"), pair.pids());
    freeze(before.1);
    freeze(before.0);
    wait_until("the stopped twins to be killed", || !is_alive(before.0) && !is_alive(before.1));
    pair.wait_whole();
    assert_eq!((pair.pid_of("keeper"), pair.pids()), (keeper, servers));
    exits(&pair, &["restart", "a"], 0);
}

// ---- 9: the death signal

#[test]
fn servers_outlive_whoever_started_them_also_those_started_after_a_takeover() {
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
    pair.start();
    take_over(&pair);
    exits(&pair, &["restart", "b"], 0);
    let before = pair.pids();
    take_over(&pair);
    // All at once: nobody is left who could have held it back.
    let all = [pair.pid_of("keeper"), pair.pid_of("active"), pair.pid_of("standby")];
    all.iter().for_each(|pid| signal(*pid, SIGKILL));
    wait_until("the whole pair to be dead", || all.iter().all(|pid| !is_alive(*pid)));
    assert!(before.values().all(|pid| is_alive(*pid)));
    pair.start();
    assert_eq!(pair.pids(), before);
}

// ---- 10, 11, 12: output

#[test]
fn output_is_whole_and_in_order_through_every_change_of_its_mover() {
    let pair = Pair::new("", &shell("n", NUMBERS, "output = { maxSize = \"1GiB\" }"));
    pair.start();
    let server = pair.pids()["n"];
    for _ in 0..2 {
        take_over(&pair);
        exits(&pair, &["shutdown"], 0);
        let length = || fs::metadata(pair.home.join("logs/n.out")).unwrap().len();
        let before = length();
        wait_until("the mover that was left behind to move", || length() > before + 1000);
        pair.start();
        let hung = twins(&pair);
        signal(hung.0, SIGSTOP);
        wait_until("the hung active to be replaced", || !is_alive(hung.0));
        pair.wait_whole();
    }
    assert_eq!(pair.pids()["n"], server);
    exits(&pair, &["stop", "n"], 0);
    let count = assert_in_sequence(&pair.output_of("n"));
    assert!(count > 1000, "only {count} lines");
}

#[test]
fn nothing_is_moved_while_another_mover_lives_and_one_that_hangs_is_killed() {
    let pair = Pair::new("", &shell("n", NUMBERS, "output = { maxSize = \"1GiB\" }"));
    pair.start();
    exits(&pair, &["shutdown"], 0);
    let length = || fs::metadata(pair.home.join("logs/n.out")).unwrap().len();
    let before = length();
    wait_until("the mover that was left behind to move", || length() > before);
    let mover = lock::holder(&pair.home.join("run/mover.lock")).unwrap().unwrap();
    let _ended = EndedPid(mover);
    freeze(mover);
    let before = length();
    pair.start();
    for _ in 0..20 {
        pair.status();
        let now = length();
        assert!(now == before || !is_alive(mover), "two processes move one output");
    }
    wait_until("the mover to be killed", || !is_alive(mover));
    wait_until("the output to go on", || length() > before);
    exits(&pair, &["stop", "n"], 0);
    assert_in_sequence(&pair.output_of("n"));
}

#[test]
fn last_words_are_kept_while_the_active_is_dead_and_the_standby_stopped() {
    let script =
        "while ! [ -e {home}/go ]; do sleep 0.01; done; echo these are my last words; exit 9";
    let restart = "restart = { when = \"never\" }";
    let pair = Pair::new("heartbeatTimeout = \"1m\"", &shell("a", script, restart));
    pair.start();
    let (before, server) = (twins(&pair), pair.pids()["a"]);
    freeze(before.1);
    signal(before.0, SIGKILL);
    wait_until("the active's death", || !is_alive(before.0));
    fs::write(pair.home.join("go"), "").unwrap();
    wait_until("the server's death", || !is_alive(server));
    assert_eq!(pair.output_of("a"), "");
    signal(before.1, SIGCONT);
    wait_until("the last words", || pair.output_of("a") == "these are my last words\n");
    let server = pair.wait_state("a", "FAILED");
    assert_eq!(server["lastExit"]["code"], 9);
}

#[test]
fn a_servers_o_nonblock_stays_its_own_and_dev_stdout_can_be_opened() {
    if !has_tool("perl") {
        return;
    }
    let script = "echo through the path > /dev/stdout
        [ -e {home}/second ] && exec sleep 1000; touch {home}/second
        exec perl -e 'use Fcntl; fcntl(STDOUT, F_SETFL, O_NONBLOCK) or die; sleep 1000'";
    let pair = Pair::new("", &(shell("a", script, "") + &sleeper("b", "")));
    pair.start();
    let is_nonblocking = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{}/fdinfo/1", pair.pids()[name])).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        i32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_NONBLOCK != 0
    };
    wait_until("the path to be written", || pair.output_of("a").contains("through the path"));
    wait_until("the flag to be set", || is_nonblocking("a"));
    assert!(!is_nonblocking("b"));
    exits(&pair, &["restart", "a"], 0);
    assert!(!is_nonblocking("a"), "the next copy of the server has the flag of the one before");
}

// ---- 13: commands never hang

#[test]
fn commands_return_in_time_although_hundreds_of_calls_were_never_answered() {
    let pair = Pair::new("none-standbyPort", &sleeper("a", ""));
    pair.start();
    assert_eq!(pair.status()["pair"], "single");
    let (active, keeper) = (pair.pid_of("active"), pair.pid_of("keeper"));
    // Without its keeper nobody revives a hung active that has no standby.
    signal(keeper, SIGKILL);
    wait_until("the keeper's death", || !is_alive(keeper));
    freeze(active);
    let address = UnixAddr::new(&pair.home.join("run/control.sock")).unwrap();
    let mut held = Vec::new();
    let is_full = loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let call = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        match connect(call.as_raw_fd(), &address) {
            Ok(()) => held.push(call),
            Err(nix::errno::Errno::EAGAIN) => break true,
            Err(error) => panic!("cannot connect: {error}"),
        }
        if held.len() > 6000 {
            break false;
        }
    };
    assert!(is_full && held.len() > 100, "the backlog took {} calls", held.len());
    for words in [
        &["status", "--timeout", "500ms"][..],
        &["stop", "a", "--timeout", "500ms"],
        &["shutdown", "--timeout", "500ms"],
        &["wait", "--down", "a", "--timeout", "500ms"],
    ] {
        has(&exits(&pair, words, 124).1, &["500ms", "again later"]);
    }
    drop(held);
    signal(active, SIGCONT);
    assert_eq!(pair.server("a")["state"], "RUNNING");
}

// ---- 15, 21: what a server inherits

/// Starts the pair from a shell that has done this before.
fn start_from_shell(pair: &Pair, before: &str) {
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{before}; exec \"$@\"")).arg("bash").arg(binary());
    command.args(["run", "--detach", "-c"]).arg(pair.config());
    let output = finish(command, "run");
    assert!(output.status.success(), "{}", support::both(&output));
}

fn assert_clean(pid: i32) {
    let mut numbers: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    numbers.sort();
    assert_eq!(numbers, ["0", "1", "2"]);
    for field in ["SigIgn", "SigBlk", "SigCgt"] {
        assert_eq!(status_field(pid, field), "0000000000000000", "{field}");
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Process group, session, terminal.
    assert_eq!(fields[2..5], [pid.to_string(), pid.to_string(), "0".to_string()]);
}

/// A run of hexadecimal digits as long as the secret is.
fn holds_a_secret(bytes: &[u8]) -> bool {
    bytes.split(|byte| !byte.is_ascii_hexdigit()).any(|run| run.len() >= 32)
}

#[test]
fn a_server_has_three_descriptors_default_signals_a_session_and_no_secret() {
    if !has_tool("bash") {
        return;
    }
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
    start_from_shell(&pair, "exec 9</dev/null 33>/dev/null; trap '' PIPE HUP USR2 CHLD TERM INT");
    assert_clean(pair.pids()["a"]);
    take_over(&pair);
    exits(&pair, &["restart", "b"], 0);
    assert_clean(pair.pids()["b"]);
    // The secret goes through a pipe: nobody finds it in an environment or a command line.
    for pid in pair.processes() {
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert!(!holds_a_secret(&bytes), "PID {pid}: {}", String::from_utf8_lossy(&bytes));
        }
    }
    exits(&pair, &["stop", "all"], 0);
}

#[test]
fn servers_get_the_limits_and_the_umask_that_the_pair_was_started_with() {
    if !has_tool("bash") {
        return;
    }
    let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
    start_from_shell(&pair, "ulimit -Sn 333; umask 0037");
    let soft = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line =
            text.lines().find(|line| line.starts_with("Max open files")).unwrap().to_string();
        line.split_whitespace().nth(3).unwrap().to_string()
    };
    let assert_original = |name: &str| {
        let pid = pair.pids()[name];
        assert_eq!((soft(pid), status_field(pid, "Umask")), ("333".into(), "0037".into()));
    };
    assert_original("a");
    take_over(&pair);
    exits(&pair, &["restart", "b"], 0);
    assert_original("b");
    // Also when the keeper brought the pair back.
    let both = twins(&pair);
    signal(both.1, SIGKILL);
    signal(both.0, SIGKILL);
    pair.wait_whole();
    exits(&pair, &["restart", "a"], 0);
    assert_original("a");
    // The pair itself has what it can get.
    assert_ne!(soft(pair.pid_of("active")), "333");
}

// ---- 16: ports

#[test]
fn check_warns_of_a_standby_port_that_the_kernel_may_give_away() {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first = range.split_whitespace().next().unwrap();
    let pair = Pair::new(&format!("standbyPort = {first}"), &sleeper("a", ""));
    let (out, err) = exits(&pair, &["check"], 0);
    has(&err, &["warning", "standbyPort", first, "outgoing connections"]);
    assert!(!out.contains("warning"));
    let pair = Pair::new("", &sleeper("a", ""));
    assert_eq!(exits(&pair, &["check"], 0).1, "");
}

// ---- 19: identity

#[test]
fn a_journal_of_another_pid_namespace_is_refused_and_left_as_it_is() {
    if !is_root("a PID namespace") || !has_tool("unshare") {
        return;
    }
    let pair = Pair::new("", &sleeper("a", ""));
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(binary());
    command.args(["run", "-c"]).arg(pair.config());
    let mut inside = tools::Ended(command.spawn().unwrap());
    let journal = pair.home.join("run/journal.a");
    wait_until("the server inside", || pair.log(false).contains("a: RUNNING"));
    // With the first process of the namespace all others end.
    inside.0.kill().unwrap();
    inside.0.wait().unwrap();
    wait_until("all to be dead", || pair.processes().is_empty());
    let before = fs::read(&journal).unwrap();
    let (_, err) = exits(&pair, &["run", "--detach"], 78);
    has(&err, &["journal", "another PID namespace", "runDir"]);
    assert_eq!(fs::read(&journal).unwrap(), before);
    assert!(pair.processes().is_empty());
}

// ---- 20: logs

#[test]
fn a_truncated_log_gets_no_hole_and_a_removed_one_is_made_again() {
    let pair = Pair::new("", &shell("talks", "while :; do echo 0123456789; sleep 0.01; done", ""));
    pair.start();
    let path = pair.home.join("logs/talks.out");
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    wait_until("some output", || length(&path) > 500);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    wait_until("more output", || length(&path) > 100);
    let text = fs::read(&path).unwrap();
    assert!(!text.contains(&0), "the log has a hole");
    let inode = fs::metadata(&path).unwrap().ino();
    let held = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    wait_for("the log to be made again", || {
        fs::metadata(&path).ok().filter(|file| file.ino() != inode && file.len() > 0)
    });
    drop(held);
    assert!(fs::read_to_string(&path).unwrap().starts_with("0123456789\n"));
}
