//! Logs that can't be written for a while: the server lives and goes on, and every byte that it
//! wrote is in its logs or in the count that the pair's log tells.
//!
//! Must not measure times: how long output waits is the program's own affair. Needs root for the
//! disks; says so and is skipped elsewhere.

mod support;
mod tools;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::counted::{assert_untouched, counted, started};
use support::{Pair, SIGKILL, has_tool, is_alive, signal, wait_for, wait_until};
use tools::{Ended, exits, finish, is_root};

/// Bytes of a numbered line of the test server.
const LINE: u64 = 40;
const ONE_FILE: &str = "output = { maxSize = \"1GiB\" }";

/// Writes some megabytes a second, for ever.
fn writer() -> String {
    counted("w", "--numbers 1000000000 --burst 100", ONE_FILE)
}

/// A small file system on the pair's logs; taken away when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(pair: &Pair) -> Option<SmallDisk> {
        let dir = pair.home.join("logs");
        fs::create_dir(&dir).expect("the log directory");
        let disk = SmallDisk(dir);
        if !disk.mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) {
            println!("skipped: nothing can be mounted here");
            return None;
        }
        Some(disk)
    }

    fn mount(&self, words: &[&str]) -> bool {
        let mut command = Command::new("mount");
        command.args(words).arg(&self.0);
        finish(command, "mount").status.success()
    }

    fn grow(&self) {
        assert!(self.mount(&["-o", "remount,size=1g"]), "the disk can't be made larger");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A numbered line, if it is a whole one.
fn number(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok().filter(|line| line.len() as u64 == LINE - 1)?;
    text.strip_prefix("line ")?.trim().parse().ok()
}

fn log_of(pair: &Pair) -> Vec<u8> {
    fs::read(pair.home.join("logs/w.out")).unwrap_or_default()
}

/// The number of the last whole line in the log.
fn last_number(pair: &Pair) -> u64 {
    let bytes = log_of(pair);
    let whole = bytes.rsplitn(2, |byte| *byte == b'\n').nth(1).unwrap_or_default();
    number(whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default()).unwrap_or(0)
}

/// What the pair's log says of dropped bytes: how many, and how many cut lines were ended.
fn told(pair: &Pair) -> (u64, u64) {
    let log = pair.log(false);
    let lines = log.lines().filter(|line| line.contains("-0364]"));
    lines.fold((0, 0), |(bytes, ended), line| {
        let at = line.find("w: ").expect("the server's name") + 3;
        let count = line[at..].split(' ').next().and_then(|count| count.parse::<u64>().ok());
        let cut = line
            .split("cut lines, ")
            .nth(1)
            .and_then(|rest| rest.trim_end_matches(')').parse::<u64>().ok());
        (bytes + count.expect("a count"), ended + cut.unwrap_or(0))
    })
}

fn is_told(pair: &Pair) -> bool {
    told(pair).0 > 0
}

/// Stops the writer. Every byte it wrote is in the log or was told; lines are whole, but for the
/// cut ones that were told too, and none is there twice.
fn assert_adds_up(pair: &Pair) {
    // It never ends by itself, and what it wrote last is in the log when the stop is done.
    exits(pair, &["stop", "w"], 0);
    wait_for("the last bytes", || {
        let before = log_of(pair).len();
        pair.status();
        (log_of(pair).len() == before).then_some(())
    });
    let (bytes, ended) = told(pair);
    let log = log_of(pair);
    let whole = log.strip_suffix(b"\n").expect("a line's end");
    let (mut before, mut cut) = (0, 0);
    for line in whole.split(|byte| *byte == b'\n') {
        match number(line) {
            Some(number) => {
                assert!(number > before, "line {number} stands behind {before}");
                before = number;
            }
            None => cut += 1,
        }
    }
    let (in_log, written) = (log.len() as u64, before * LINE);
    println!("written {written}, in the log {in_log}, dropped {bytes}, cut lines {ended}");
    assert!(cut <= ended, "{cut} lines are torn, and {ended} were told");
    assert_eq!(in_log - ended + bytes, written);
}

#[test]
fn on_a_full_disk_what_is_in_the_log_and_what_was_told_adds_up_to_the_byte_over_takeovers() {
    if !is_root("a small file system") || !has_tool("mount") {
        return;
    }
    let pair = Pair::new("", &writer());
    let Some(disk) = SmallDisk::new(&pair) else { return };
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 1);
    for _ in 0..2 {
        let dropped = dropped_so_far(&pair);
        wait_until("bytes to be dropped", || dropped_so_far(&pair) > dropped + 300_000);
        signal(pair.pid_of("active"), SIGKILL);
        pair.wait_whole();
    }
    assert!(!is_told(&pair), "told while there was no room");
    assert_untouched(&pair, &pids);
    disk.grow();
    wait_until("the loss to be told", || is_told(&pair));
    let last = last_number(&pair);
    wait_until("output to go on", || last_number(&pair) > last + 1_000);
    assert_untouched(&pair, &pids);
    // As good as before: nothing is lost over one more takeover.
    let lost = told(&pair);
    signal(pair.pid_of("active"), SIGKILL);
    pair.wait_whole();
    assert_eq!(told(&pair), lost);
    assert_adds_up(&pair);
    drop(pair.run(&["shutdown", "--stop-servers"]));
    drop(disk);
}

/// What the record of dropped bytes says of the one server.
fn dropped_so_far(pair: &Pair) -> u64 {
    let record = fs::read(pair.home.join("run/dropped")).unwrap_or_default();
    record.get(8..16).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
}

#[test]
fn a_server_that_falls_silent_on_a_full_disk_is_told_of_all_the_same() {
    if !is_root("a small file system") || !has_tool("mount") {
        return;
    }
    // More than the disk and the FIFO hold together; then it writes nothing for ever.
    let lines = 60_000;
    let pair = Pair::new("", &counted("w", &format!("--numbers {lines}"), ONE_FILE));
    let Some(disk) = SmallDisk::new(&pair) else { return };
    pair.start();
    pair.wait_whole();
    wait_until("bytes to be dropped", || dropped_so_far(&pair) > 0);
    let all = |pair: &Pair| {
        let (bytes, ended) = told(pair);
        log_of(pair).len() as u64 - ended + bytes == lines * LINE
    };
    disk.grow();
    wait_until("all bytes to be in the log or told", || all(&pair));
    drop(pair.run(&["shutdown", "--stop-servers"]));
    drop(disk);
}

/// A read-only file system on top of the log directory: what is open can be written on, and
/// nothing new can be opened.
struct ReadOnly<'a>(&'a SmallDisk);

impl<'a> ReadOnly<'a> {
    fn new(disk: &'a SmallDisk) -> ReadOnly<'a> {
        assert!(disk.mount(&["-t", "tmpfs", "-o", "ro", "tmpfs"]), "nothing can be mounted on top");
        ReadOnly(disk)
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0.0).status();
    }
}

#[test]
fn a_takeover_and_a_revival_while_no_log_can_be_opened_lose_no_count_and_leave_no_server_alone() {
    if !is_root("a small file system") || !has_tool("mount") {
        return;
    }
    let pair = Pair::new("", &writer());
    let Some(disk) = SmallDisk::new(&pair) else { return };
    disk.grow();
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 1);
    let read_only = ReadOnly::new(&disk);
    // There is a standby again, which had no log to open.
    signal(pair.pid_of("active"), SIGKILL);
    pair.wait_whole();
    let both = [pair.pid_of("standby"), pair.pid_of("active")];
    both.iter().for_each(|pid| signal(*pid, SIGKILL));
    wait_until("their deaths", || both.iter().all(|pid| !is_alive(*pid)));
    pair.wait_whole();
    assert_untouched(&pair, &pids);
    let dropped = dropped_so_far(&pair);
    wait_until("bytes to be dropped", || dropped_so_far(&pair) > dropped + 100_000);
    let last = last_number(&pair);
    drop(read_only);
    wait_until("output to go on", || last_number(&pair) > last + 1_000);
    wait_until("the loss to be told", || is_told(&pair));
    assert_untouched(&pair, &pids);
    assert_adds_up(&pair);
    drop(pair.run(&["shutdown", "--stop-servers"]));
    drop(disk);
}

/// Makes the log unusable, and gives what makes it usable again.
type Trouble = (&'static str, fn(&Pair) -> Option<Box<dyn FnOnce()>>);

const TROUBLES: [Trouble; 4] = [
    ("the directory is removed", |pair| {
        // Files come while it is emptied: it goes first, then what is in it.
        let aside = pair.home.join("logs-aside");
        fs::rename(pair.home.join("logs"), &aside).expect("the log directory");
        fs::remove_dir_all(aside).expect("what was in it");
        Some(Box::new(|| {}))
    }),
    ("a directory is in the log's place", |pair| {
        let log = pair.home.join("logs/w.out");
        fs::remove_file(&log).expect("the log");
        fs::create_dir(&log).ok()?;
        Some(Box::new(move || fs::remove_dir(log).expect("the directory")))
    }),
    ("the log is immutable", |pair| {
        let log = pair.home.join("logs/w.out");
        let change = |flag: &str, log: &PathBuf| {
            let mut command = Command::new("chattr");
            command.arg(flag).arg(log);
            finish(command, "chattr").status.success()
        };
        if !has_tool("chattr") || !change("+i", &log) {
            return None;
        }
        Some(Box::new(move || assert!(change("-i", &log), "the log stays immutable")))
    }),
    ("each write fails with EIO", |pair| {
        if !has_tool("strace") {
            return None;
        }
        let active = pair.pid_of("active").to_string();
        let words = ["-qq", "-e", "trace=splice", "-e", "inject=splice:error=EIO", "-p", &active];
        let strace = Command::new("strace").args(words).stderr(Stdio::null()).spawn().ok()?;
        Some(Box::new(move || drop(Ended(strace))))
    }),
];

#[test]
fn a_log_that_cannot_be_written_for_a_while_costs_the_server_nothing_and_is_written_on() {
    if !is_root("an immutable file, and tracing the active") {
        return;
    }
    for (what, begin) in TROUBLES {
        let pair = Pair::new("", &writer());
        pair.start();
        pair.wait_whole();
        let pids = started(&pair, 1);
        wait_until("output", || last_number(&pair) > 100);
        let Some(end) = begin(&pair) else {
            println!("skipped: {what}");
            continue;
        };
        if what != "the directory is removed" {
            wait_until(what, || pair.log(false).contains("cannot write"));
        }
        end();
        wait_until("output to go on", || last_number(&pair) > 0);
        let last = last_number(&pair);
        wait_until("more output", || last_number(&pair) > last + 1_000);
        assert_untouched(&pair, &pids);
        let log = log_of(&pair);
        let whole = &log[..log.len() / LINE as usize * LINE as usize];
        let first = number(&whole[..LINE as usize - 1]);
        // What was in the file that is gone is gone with it; what is there has no hole.
        if let (Some(first), (0, 0)) = (first, told(&pair)) {
            for (at, line) in whole.chunks(LINE as usize).enumerate() {
                assert_eq!(number(&line[..LINE as usize - 1]), Some(first + at as u64), "{what}");
            }
        }
    }
}
