//! What is believed of the journal, and what is found without it.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::*;

/// The journal is gone, as after a crash of the file system.
fn remove_journal(pair: &Pair) {
    for name in ["journal.a", "journal.b"] {
        let _ = fs::remove_file(pair.home.join("run").join(name));
    }
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
fn two_pairs_with_one_name_leave_each_other_alone_also_without_their_journals() {
    let pairs = [Pair::new("", &sleeper("a", "")), Pair::new("", &sleeper("a", ""))];
    let text = fs::read_to_string(pairs[1].config()).unwrap();
    fs::write(pairs[1].config(), text.replace(pairs[1].name(), pairs[0].name())).unwrap();
    pairs.iter().for_each(Pair::start);
    let before: Vec<_> = pairs.iter().map(Pair::pids).collect();
    assert_ne!(before[0], before[1], "each has a server of its own");
    for pair in &pairs {
        exits(pair, &["shutdown"], 0);
        remove_journal(pair);
    }
    pairs.iter().for_each(Pair::start);
    assert_eq!(pairs.iter().map(Pair::pids).collect::<Vec<_>>(), before);
    exits(&pairs[0], &["stop", "a"], 0);
    assert!(!is_alive(before[0]["a"]) && is_alive(before[1]["a"]));
    exits(&pairs[0], &["start", "a"], 0);
}

#[test]
fn servers_are_found_where_the_run_directory_is_another_one_now() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    let before = pair.pids();
    exits(&pair, &["shutdown"], 0);
    pair.configure("runDir = \"{home}/elsewhere\"", &sleeper("a", ""));
    pair.start();
    assert_eq!(pair.pids(), before);
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
fn the_recorded_end_of_a_life_before_ends_no_pair_that_both_twins_left() {
    for how in ["--keep-servers", "--stop-servers"] {
        let pair = Pair::new("", &(sleeper("a", "") + &sleeper("b", "")));
        pair.start();
        exits(&pair, &["shutdown", how], 0);
        pair.start();
        let (before, (active, standby)) = (pair.pids(), twins(&pair));
        // Stopped first: neither writes any more, nor acts on the other's death.
        [active, standby].iter().for_each(|pid| freeze(*pid));
        let newest = journal_file(&pair, "newest");
        let mut bytes = fs::read(&newest).unwrap();
        bytes[..RECORDS].fill(0);
        fs::write(&newest, bytes).unwrap();
        let left = fs::read(journal_file(&pair, "newest")).unwrap();
        has(&String::from_utf8_lossy(&left), &["\"ending\":{"]);
        [active, standby].iter().for_each(|pid| signal(*pid, SIGKILL));
        wait_until("another active", || pair.twin("active").is_some_and(|pid| pid != active));
        pair.wait_whole();
        assert_eq!(pair.pids(), before, "after {how}");
        has(&pair.log(false), &["-0112]"]);
    }
}

#[test]
fn an_end_that_was_asked_for_comes_although_both_twins_and_its_record_are_lost() {
    let deaf = shell("deaf", "trap '' TERM; echo ready; while :; do sleep 1; done", "");
    let slow = deaf.replace("settleTime", "stop = { timeout = \"3s\" }\nsettleTime");
    let pair = Pair::new("", &(slow + &sleeper("b", "")));
    pair.start();
    let (before, (active, standby)) = (pair.pids(), twins(&pair));
    wait_until("deafness", || pair.output_of("deaf").contains("ready"));
    let (out, _) = exits(&pair, &["shutdown", "--stop-servers", "--no-wait"], 0);
    assert_eq!(out, "the pair ends\n");
    [active, standby].iter().for_each(|pid| freeze(*pid));
    assert!(is_alive(before["deaf"]), "it was to outlive its end being asked for");
    remove_journal(&pair);
    [active, standby].iter().for_each(|pid| signal(*pid, SIGKILL));
    wait_until("the end of all", || pair.processes().is_empty());
    has(&pair.log(false), &["both twins are dead"]);
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
    wait_until("no process to be left", || pair.processes().is_empty());
}

// ---- 20: logs
