//! A server's output has every byte once and in order, whoever dies while it is moved.
//!
//! Must not read the newest of the rotated files while the writer writes.
//!
//! The long form moves 10 GiB (`NM_OUTPUT_GIB` chooses another number) over a hundred takeovers and
//! more, and compares each byte; files are removed when they were read, so that it needs less disk
//! than that: `cargo build --release --examples && \
//! cargo test --release --test output -- --ignored --nocapture`

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::counted::{assert_untouched, counted, started};
use support::{Pair, SIGKILL, SIGSTOP, is_alive, signal, wait_until};

/// Bytes of a numbered line of the test server.
const LINE: usize = 40;

const KEEP_ALL: &str = "output = { maxSize = \"300KiB\", maxFiles = 1000 }";

/// A server that writes so many numbered lines, in short bursts that are each more than its FIFO
/// holds, into a log that is rotated all the time and of which nothing is thrown away.
fn writer(lines: u64) -> String {
    let options = format!("--numbers {lines} --burst 4000");
    counted("w", &options, KEEP_ALL)
}

/// The rotated files, oldest first, and then the present one.
fn files(pair: &Pair) -> Vec<PathBuf> {
    let logs = pair.home.join("logs");
    let mut rotated: Vec<(u64, PathBuf)> = fs::read_dir(&logs)
        .expect("the log directory")
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name.strip_prefix("w.out.")?.parse().ok()?, entry.path()))
        })
        .collect();
    rotated.sort();
    let present = logs.join("w.out");
    rotated.into_iter().map(|(_, path)| path).chain([present]).collect()
}

/// The number of the last whole line that is in the log by now.
fn last_number(pair: &Pair) -> u64 {
    let number = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        let lines = bytes.len() / LINE;
        let line = bytes.get(lines.checked_sub(1)? * LINE..lines * LINE)?;
        std::str::from_utf8(line).ok()?.strip_prefix("line ")?.trim().parse().ok()
    };
    files(pair).iter().rev().find_map(number).unwrap_or(0)
}

/// Every line is there once and in its place. Gives the number of files.
fn assert_complete(pair: &Pair, lines: u64) -> usize {
    wait_until("the last line", || last_number(pair) == lines);
    let mut next = 1;
    let files = files(pair);
    for path in &files {
        let bytes = fs::read(path).expect("a log file");
        assert_eq!(bytes.len() % LINE, 0, "{} has a torn line", path.display());
        for line in bytes.chunks(LINE) {
            let line = String::from_utf8_lossy(line);
            let wanted = format!("line {next:>33} \n");
            assert_eq!(line, wanted, "in {}", path.display());
            next += 1;
        }
    }
    assert_eq!(next - 1, lines);
    files.len()
}

#[test]
fn every_line_is_in_the_log_once_and_in_order_while_actives_are_killed_again_and_again() {
    const LINES: u64 = 2_500_000;
    let pair = Pair::new("", &writer(LINES));
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 1);
    let mut kills = 0;
    while last_number(&pair) < LINES {
        signal(pair.pid_of("active"), SIGKILL);
        kills += 1;
        pair.wait_whole();
    }
    let files = assert_complete(&pair, LINES);
    assert_untouched(&pair, &pids);
    let megabytes = LINES as usize * LINE / 1_000_000;
    println!("{megabytes} MB in {files} files, {kills} actives killed on the way");
    assert!(kills > 3, "the writer was too quick to prove anything: {kills} kills");
    assert!(files > 10, "there was hardly a rotation: {files} files");
}

#[test]
fn every_line_is_in_the_log_when_actives_hang_and_when_both_twins_are_killed() {
    const LINES: u64 = 2_000_000;
    let node = "heartbeatInterval = \"50ms\"\nheartbeatTimeout = \"300ms\"";
    let pair = Pair::new(node, &writer(LINES));
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 1);
    for stops in [true, false, true, false] {
        let active = pair.pid_of("active");
        match stops {
            // It holds the output's lock until it is killed; the server waits meanwhile.
            true => signal(active, SIGSTOP),
            false => {
                let standby = pair.pid_of("standby");
                [active, standby].iter().for_each(|pid| signal(*pid, SIGSTOP));
                [active, standby].iter().for_each(|pid| signal(*pid, SIGKILL));
            }
        }
        wait_until("the old active to die", || !is_alive(active));
        pair.wait_whole();
        assert!(last_number(&pair) < LINES, "the writer was too quick to prove anything");
    }
    assert_complete(&pair, LINES);
    assert_untouched(&pair, &pids);
}

/// More servers than a new active joins with their logs in one turn, and the first and the last of them are
/// restarted meanwhile.
#[test]
fn every_line_of_a_hundred_servers_is_in_its_log_once_also_of_those_restarted_in_a_takeover() {
    const LINES: u64 = 20_000;
    const TAKEOVERS: usize = 4;
    let keys = "instances = 100\noutput = { maxSize = \"1GiB\" }";
    let teller = |name: &str| {
        let command = "command = [\"sh\", \"-c\", \"echo started; exec sleep 1000\"]";
        format!("[[server]]\nname = \"{name}\"\nsettleTime = \"20ms\"\n{command}\n")
    };
    let writers = counted("w", &format!("--numbers {LINES} --burst 4000"), keys);
    let pair = Pair::new("", &[teller("a"), writers, teller("z")].concat());
    pair.start();
    let told = |name: &str, times: usize| {
        let path = pair.home.join("logs").join(format!("{name}.out"));
        let has = || fs::read_to_string(&path).unwrap_or_default();
        wait_until(&format!("{name} to have told {times} starts"), || has().len() >= 8 * times);
        assert_eq!(has(), "started\n".repeat(times));
    };
    for takeover in 1..=TAKEOVERS {
        // A start counts as done at its exec, and another one would end the shell before it has told.
        ["a", "z"].into_iter().for_each(|name| told(name, takeover));
        pair.wait_whole();
        signal(pair.pid_of("active"), SIGKILL);
        pair.ok(&["restart", "a", "z"]);
    }
    ["a", "z"].into_iter().for_each(|name| told(name, 1 + TAKEOVERS));
    let whole: String = (1..=LINES).map(|number| format!("line {number:>33} \n")).collect();
    for number in 1..=100 {
        let path = pair.home.join("logs").join(format!("w@{number}.out"));
        let has = || fs::read_to_string(&path).unwrap_or_default();
        wait_until("the last line", || has().len() >= whole.len());
        assert!(has() == whole, "{} is not what was written", path.display());
    }
}

#[test]
fn a_shutdown_that_keeps_servers_leaves_a_mover_and_the_next_start_goes_on_behind_it() {
    const LINES: u64 = 3_000_000;
    let pair = Pair::new("", &writer(LINES));
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 1);
    let mut moved_alone = 0;
    for _ in 0..4 {
        let said = pair.ok(&["shutdown", "--keep-servers"]);
        assert!(said.contains(&pids["w"].to_string()), "{said}");
        let before = last_number(&pair);
        wait_until("the mover to move", || last_number(&pair) > before);
        moved_alone += last_number(&pair) - before;
        pair.start();
    }
    println!("{moved_alone} of {LINES} lines were moved while no pair ran");
    assert_complete(&pair, LINES);
    assert_untouched(&pair, &pids);
    pair.ok(&["shutdown", "--stop-servers"]);
    wait_until("no process, no mover to be left", || pair.processes().is_empty());
}

/// A cleaner of temporary files takes the run directory.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// File by file.
    Emptied,
    /// It is somewhere else now.
    Moved,
    MovedAndRemoved,
}

fn lose_run_dir(pair: &Pair, how: Lost) {
    let (run, lost) = (pair.home.join("run"), pair.home.join("lost"));
    match how {
        Lost::Emptied => {
            fs::remove_dir_all(run.join("out")).expect("the FIFOs");
            for path in fs::read_dir(&run).expect("the rest").flatten().map(|entry| entry.path()) {
                // Some are made again meanwhile.
                let _ = fs::remove_file(path);
            }
        }
        Lost::Moved | Lost::MovedAndRemoved => fs::rename(&run, &lost).expect("the run directory"),
    }
    if matches!(how, Lost::MovedAndRemoved) {
        fs::remove_dir_all(&lost).expect("what was the run directory");
    }
    wait_until("the FIFOs to be made again", || run.join("out/w.fifo").exists());
    wait_until("the control socket to be back", || run.join("control.sock").exists());
    pair.wait_whole();
}

/// The FIFO that the server writes to has no name any more then, and a standby that is started
/// afterwards has never had it.
#[test]
fn no_line_is_lost_or_doubled_by_takeovers_after_the_run_directory_was_removed() {
    const LINES: u64 = 1_000_000;
    for how in [Lost::Emptied, Lost::Moved, Lost::MovedAndRemoved] {
        let pair = Pair::new("", &writer(LINES));
        pair.start();
        pair.wait_whole();
        let pids = started(&pair, 1);
        lose_run_dir(&pair, how);
        for round in 1..=3 {
            let active = pair.pid_of("active");
            signal(active, SIGKILL);
            wait_until("the old active to die", || !is_alive(active));
            pair.wait_whole();
            let before = last_number(&pair);
            assert!(before < LINES, "{how:?}, {round}: the writer was too quick to prove anything");
            let what = format!("more output ({how:?}, {round})");
            wait_until(&what, || last_number(&pair) > before);
        }
        assert_complete(&pair, LINES);
        assert_untouched(&pair, &pids);
        // The next process writes to the one that has the name.
        pair.ok(&["restart", "w"]);
        wait_until("the output of the next one", || last_number(&pair) < LINES);
    }
}

#[test]
fn no_rotated_file_is_written_over_while_the_active_has_no_descriptor_left() {
    const LINES: u64 = 400_000;
    let can = Command::new("prlimit").args(["--pid", &std::process::id().to_string()]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        return println!("skipped: prlimit (util-linux) is not installed");
    }
    let pair = Pair::new("", &counted("w", &format!("--numbers {LINES} --burst 100"), KEEP_ALL));
    pair.start();
    pair.wait_whole();
    wait_until("some rotated files", || files(&pair).len() > 4);
    let active = pair.pid_of("active");
    let limit = |soft: usize| {
        let words = [format!("--pid={active}"), format!("--nofile={soft}:")];
        let status = Command::new("prlimit").args(words).status();
        assert!(status.is_ok_and(|status| status.success()), "prlimit failed");
    };
    // Below the lowest free number: it can open nothing.
    limit(3);
    let before = last_number(&pair);
    wait_until("much more output", || last_number(&pair) > before + 60_000);
    limit(1024);
    assert_complete(&pair, LINES);
    assert_eq!(pair.pid_of("active"), active);
}

// ---- the long form

/// The lines of one writer's log, read file by file while it is written.
struct Reader {
    name: String,
    /// The last line that was read, and the number of its file.
    line: u64,
    file: u64,
    files: u64,
}

impl Reader {
    /// Reads and removes the rotated files; the newest only when `all`: the next one's number
    /// comes from it.
    fn read(&mut self, pair: &Pair, all: bool) {
        let path = pair.home.join(format!("logs/{}.out", self.name));
        let rotated = nodemanager::output::rotate::rotated_files(&path);
        let take = if all { rotated.len() } else { rotated.len().saturating_sub(1) };
        for (number, path) in &rotated[..take] {
            assert_eq!(*number, self.file + 1, "{} is not the next file", path.display());
            self.file = *number;
            self.check(path);
            fs::remove_file(path).expect("a file that was read");
        }
        if all {
            self.check(&path);
        }
    }

    /// Each byte of each line is what the writer wrote.
    fn check(&mut self, path: &std::path::Path) {
        let bytes = fs::read(path).expect("a log file");
        assert_eq!(bytes.len() % LINE, 0, "{} has a torn line", path.display());
        let mut wanted = Vec::with_capacity(LINE);
        for line in bytes.chunks(LINE) {
            self.line += 1;
            wanted.clear();
            std::io::Write::write_fmt(&mut wanted, format_args!("line {:>33} \n", self.line))
                .expect("memory");
            assert_eq!(line, wanted, "in {}", path.display());
        }
        self.files += 1;
    }
}

/// Reads until so many bytes are there, read or not; fails when none follow for long.
fn wait_until_all(
    arrived: impl Fn(&Reader) -> u64,
    reader: &mut Reader,
    bytes: u64,
    read: impl Fn(&mut Reader),
) {
    let mut last = (0, Instant::now());
    loop {
        read(reader);
        let there = arrived(reader);
        if there >= bytes {
            return;
        }
        if there > last.0 {
            last = (there, Instant::now());
        }
        assert!(last.1.elapsed() < support::LIMIT, "{there} bytes have come, and no more follow");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
#[ignore = "takes minutes; see the head of this file"]
fn ten_gibibytes_of_several_writers_are_in_the_logs_byte_for_byte_over_a_hundred_takeovers() {
    const WRITERS: u64 = 4;
    const TAKEOVERS: u64 = 100;
    let gib = std::env::var("NM_OUTPUT_GIB").ok().and_then(|gib| gib.parse().ok()).unwrap_or(10.0);
    let bytes = (gib * f64::from(1 << 30)) as u64;
    let lines = bytes / WRITERS / LINE as u64 + 1;
    // One writes line by line, the others more with each write than a pipe takes at once.
    let table = |number: u64| {
        let bulk = if number == 0 { 1 } else { 700 * number + 13 };
        let options = format!("--numbers {lines} --bulk {bulk} --life 100000");
        counted(
            &format!("w{number}"),
            &options,
            "output = { maxSize = \"24MiB\", maxFiles = 1000 }",
        )
    };
    let pair = Pair::new("", &(0..WRITERS).map(table).collect::<String>());
    let began = Instant::now();
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, WRITERS as usize);
    let reader = |number| Reader { name: format!("w{number}"), line: 0, file: 0, files: 0 };
    let mut readers: Vec<Reader> = (0..WRITERS).map(reader).collect();
    let arrived = &|reader: &Reader| {
        let path = pair.home.join(format!("logs/{}.out", reader.name));
        let rotated = nodemanager::output::rotate::rotated_files(&path);
        let paths = rotated.into_iter().map(|(_, path)| path).chain([path]);
        let sizes = paths.map(|path| fs::metadata(path).map_or(0, |status| status.len()));
        reader.line * LINE as u64 + sizes.sum::<u64>()
    };
    let lines_read = &AtomicU64::new(0);
    let kills = std::thread::scope(|scope| {
        let reading: Vec<_> = readers
            .iter_mut()
            .map(|reader| {
                let pair = &pair;
                scope.spawn(move || {
                    wait_until_all(arrived, reader, lines * LINE as u64, |reader| {
                        let before = reader.line;
                        reader.read(pair, false);
                        lines_read.fetch_add(reader.line - before, Ordering::Relaxed);
                    });
                })
            })
            .collect();
        let mut kills = 0;
        let is_over = || reading.iter().all(|thread| thread.is_finished());
        while !is_over() {
            // So much more has to arrive before the next one that it is no race of starts alone.
            let share = lines * WRITERS / (TAKEOVERS + TAKEOVERS / 2);
            let next = (kills + 1) * share;
            while lines_read.load(Ordering::Relaxed) < next && !is_over() {
                std::thread::sleep(Duration::from_millis(5));
            }
            signal(pair.pid_of("active"), SIGKILL);
            kills += 1;
            pair.wait_whole();
        }
        kills
    });
    readers.iter_mut().for_each(|reader| reader.read(&pair, true));
    assert_untouched(&pair, &pids);
    let files: u64 = readers.iter().map(|reader| reader.files).sum();
    let rotations = files - WRITERS;
    let moved: u64 = readers.iter().map(|reader| reader.line * LINE as u64).sum();
    let moved_gib = moved as f64 / f64::from(1 << 30);
    let seconds = began.elapsed().as_secs();
    println!("{moved_gib:.2} GiB, {kills} takeovers, {rotations} rotations, {seconds} s");
    assert!(readers.iter().all(|reader| reader.line == lines), "lines are missing at the end");
    assert!(gib < 10.0 || (kills >= TAKEOVERS && rotations >= 100), "too quick to prove anything");
}
