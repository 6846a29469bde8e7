//! The promises of the drain, tried with real FIFOs, children and kills.

use super::failing::{PATIENCE_MS, RETRY_MS};
use super::*;
use crate::output::test_dir::{TestDir, wait_for, whole_log};
use crate::sys::fifo;
use nix::poll::{PollFd, PollFlags, poll};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PLENTY: Limits = Limits { max_size: 1 << 30, max_files: 9, max_age_ms: 0 };
const AT_START: Now = Now { mono_ms: 0, wall_ms: 0 };

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, wall_ms: mono_ms }
}

/// Set for a test binary that is started again as a helper process.
const HELPER_DIR: &str = "NODEMANAGER_TEST_DRAIN_DIR";

fn drain_in(dir: &TestDir, limits: Limits) -> (Drain, File) {
    let fifo = fifo::open(&dir.path("fifo"), 0o600).unwrap();
    let writer = OpenOptions::new().write(true).open(dir.path("fifo")).unwrap();
    (Drain::new(fifo, dir.path("web.out"), limits), writer)
}

/// Pumps until the FIFO is empty, and tells how many bytes moved.
fn pump_all(drain: &mut Drain) -> u64 {
    let mut moved = 0;
    loop {
        let pumped = drain.pump(AT_START, 1 << 20);
        moved += pumped.moved;
        if !pumped.more {
            return moved;
        }
    }
}

fn numbered_lines(count: usize) -> Vec<u8> {
    let mut lines = Vec::new();
    for n in 1..=count {
        writeln!(lines, "{n}").unwrap();
    }
    lines
}

/// Starts this test binary again for the one test that plays `role`.
fn helper(role: &str, before: &[&str], dir: &Path) -> Command {
    let exe = std::env::current_exe().unwrap();
    let role = format!("output::drain::tests::{role}");
    let mut words = before.iter().map(|w| w.to_string()).collect::<Vec<_>>();
    words.extend([exe.to_str().unwrap(), "--exact", &role, "--nocapture"].map(String::from));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(HELPER_DIR, dir).stdin(Stdio::null());
    command
}

#[test]
fn where_splice_is_forbidden_a_copy_takes_out_what_it_wrote() {
    let dir = TestDir::new();
    let (drain, mut writer) = drain_in(&dir, PLENTY);
    writer.write_all(b"one\ntwo\nthree\n").unwrap();
    assert_eq!(drain.copy(0, 8).unwrap(), 8);
    assert_eq!(drain.copy(8, 1000).unwrap(), 6);
    assert_eq!(drain.copy(14, 1000).unwrap(), 0);
    assert_eq!(fs::read(dir.path("web.out")).unwrap(), b"one\ntwo\nthree\n");
}

#[test]
fn numbered_lines_of_a_child_are_complete_and_in_order_over_many_rotations() {
    let dir = TestDir::new();
    let limits = Limits { max_size: 10_000, max_files: 1_000, max_age_ms: 0 };
    let (mut drain, writer) = drain_in(&dir, limits);
    let mut child = Command::new("seq").args(["1", "100000"]).stdout(writer).spawn().unwrap();
    wait_for("the child's end", || {
        drain.pump(AT_START, 7_001);
        child.try_wait().unwrap().is_some()
    });
    pump_all(&mut drain);
    assert!(whole_log(&dir.path("web.out")) == numbered_lines(100_000));
    let rotated = rotate::rotated_files(&dir.path("web.out"));
    assert!(rotated.len() > 50);
    for (_, path) in rotated {
        let bytes = fs::read(path).unwrap();
        assert!(bytes.ends_with(b"\n") && (10_000..10_010).contains(&bytes.len()));
    }
}

#[test]
fn a_mover_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    let fifo = fifo::open(&dir.path("fifo"), 0o600).unwrap();
    let mut writer = OpenOptions::new().write(true).open(dir.path("fifo")).unwrap();
    let stop = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let write = scope.spawn(|| {
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                written += 1;
                writeln!(writer, "{written}").unwrap();
            }
            written
        });
        for kill in 0..30 {
            let start = moved_so_far(&log);
            let mut mover: Child = helper("helper_that_moves", &[], &dir.path(""))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            wait_for("the mover's work", || moved_so_far(&log) != start);
            std::thread::sleep(Duration::from_micros(kill * 37));
            mover.kill().unwrap();
            mover.wait().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        let mut drain = Drain::new(fifo, log.clone(), KILL_LIMITS);
        wait_for("the writer's end", || {
            pump_all(&mut drain);
            write.is_finished()
        });
        pump_all(&mut drain);
        write.join().unwrap()
    });
    assert!(whole_log(&log) == numbered_lines(written));
    let rotated = rotate::rotated_files(&log);
    assert!(rotated.iter().all(|(_, path)| fs::read(path).unwrap().ends_with(b"\n")));
}

const KILL_LIMITS: Limits = Limits { max_size: 20_000, max_files: 100_000, max_age_ms: 0 };

fn moved_so_far(log: &Path) -> (usize, u64) {
    let size = fs::metadata(log).map_or(0, |status| status.size());
    (rotate::rotated_files(log).len(), size)
}

/// Moves output until it is killed, or its parent is gone.
#[test]
fn helper_that_moves() {
    let Some(dir) = std::env::var_os(HELPER_DIR).map(PathBuf::from) else { return };
    let fifo = fifo::open(&dir.join("fifo"), 0o600).unwrap();
    let mut drain = Drain::new(fifo, dir.join("web.out"), KILL_LIMITS);
    let parent = nix::unistd::getppid();
    while nix::unistd::getppid() == parent {
        if !drain.pump(AT_START, 10_007).more {
            let mut fds = [PollFd::new(drain.fifo_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, 100_u8);
        }
    }
}

#[test]
fn a_line_without_end_is_cut_at_the_hard_limit() {
    let dir = TestDir::new();
    let (mut drain, mut writer) =
        drain_in(&dir, Limits { max_size: 1_000, max_files: 9, max_age_ms: 0 });
    let line = vec![b'x'; 50_000];
    for _ in 0..30 {
        writer.write_all(&line).unwrap();
        assert_eq!(pump_all(&mut drain), 50_000);
    }
    let rotated = rotate::rotated_files(&dir.path("web.out"));
    assert_eq!(rotated.len(), 1);
    assert_eq!(fs::metadata(&rotated[0].1).unwrap().size(), 1_000 + MIN_OVERSIZE);
    assert!(whole_log(&dir.path("web.out")) == vec![b'x'; 30 * 50_000]);
}

#[test]
fn a_line_across_the_limit_stays_whole_though_its_end_comes_late() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    let (mut drain, mut writer) =
        drain_in(&dir, Limits { max_size: 4, max_files: 9, max_age_ms: 0 });
    for part in ["abc", "def", "ghi", "j\nkl", "m\n"] {
        writer.write_all(part.as_bytes()).unwrap();
        pump_all(&mut drain);
    }
    assert_eq!(fs::read_to_string(dir.path("web.out.1")).unwrap(), "abcdefghij\n");
    assert_eq!(fs::read_to_string(dir.path("web.out.2")).unwrap(), "klm\n");
    assert_eq!(fs::read_to_string(log).unwrap(), "");
}

#[test]
fn a_log_that_somebody_truncated_gets_no_hole() {
    let dir = TestDir::new();
    let (mut drain, mut writer) = drain_in(&dir, PLENTY);
    writer.write_all(b"before\n").unwrap();
    pump_all(&mut drain);
    OpenOptions::new().write(true).open(dir.path("web.out")).unwrap().set_len(0).unwrap();
    writer.write_all(b"after\n").unwrap();
    pump_all(&mut drain);
    assert_eq!(fs::read_to_string(dir.path("web.out")).unwrap(), "after\n");
}

#[test]
fn a_log_that_somebody_renamed_or_removed_is_made_again() {
    let dir = TestDir::new();
    let (mut drain, mut writer) = drain_in(&dir, PLENTY);
    writer.write_all(b"1\n").unwrap();
    pump_all(&mut drain);
    assert!(!drain.check_path().unwrap());
    fs::rename(dir.path("web.out"), dir.path("web.out-20261121")).unwrap();
    assert!(drain.check_path().unwrap());
    writer.write_all(b"2\n").unwrap();
    pump_all(&mut drain);
    assert_eq!(fs::read_to_string(dir.path("web.out")).unwrap(), "2\n");

    fs::remove_file(dir.path("web.out")).unwrap();
    writer.write_all(b"3\n").unwrap();
    pump_all(&mut drain);
    assert_eq!(fs::read_to_string(dir.path("web.out")).unwrap(), "3\n");
    assert_eq!(fs::read_to_string(dir.path("web.out-20261121")).unwrap(), "1\n");
}

#[test]
fn a_paused_drain_leaves_everything_to_the_next_one() {
    let dir = TestDir::new();
    let (mut drain, mut writer) = drain_in(&dir, PLENTY);
    writer.write_all(b"1\n").unwrap();
    drain.set_paused(true);
    assert_eq!(drain.pump(AT_START, 1_000), Pumped::default());
    drain.set_paused(false);
    assert_eq!(drain.pump(AT_START, 1_000).moved, 2);
}

#[test]
fn the_budget_bounds_a_pump_and_the_rest_is_announced() {
    let dir = TestDir::new();
    let (mut drain, mut writer) = drain_in(&dir, PLENTY);
    writer.write_all(&[b'x'; 10_000]).unwrap();
    let pumped = drain.pump(AT_START, 6_000);
    assert_eq!((pumped.moved, pumped.more), (6_000, true));
    let pumped = drain.pump(AT_START, 6_000);
    assert_eq!((pumped.moved, pumped.more), (4_000, false));
}

#[test]
fn output_waits_while_the_log_cannot_be_written_and_is_dropped_only_from_a_full_fifo() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    let (mut drain, mut writer) = drain_in(&dir, PLENTY);
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    writer.write_all(b"waits\n").unwrap();

    let trouble = drain.pump(at(1_000), 1 << 20).trouble.unwrap();
    assert!(trouble.is_new && trouble.text.contains("web.out"), "{}", trouble.text);
    let trouble = drain.pump(at(1_150), 1 << 20).trouble.unwrap();
    assert_eq!((trouble.is_new, trouble.retry_after_ms), (false, Some(50)));
    assert!(drain.pump(at(9_000), 1 << 20).trouble.is_some());
    assert_eq!(drain.loss.untold(), (0, 0), "a FIFO with room is not emptied");

    while !drain.is_full() {
        writer.write_all(&[b'x'; 4096]).unwrap();
    }
    drain.pump(at(9_300), 1 << 20);
    assert!(drain.loss.untold().0 >= 60_000 && !drain.is_full());

    fs::remove_dir(&log).unwrap();
    writer.write_all(b"goes on\n").unwrap();
    // It is the rest of a line whose beginning is gone.
    let bytes = drain.loss.untold().0 + 8;
    writer.write_all(b"a line\n").unwrap();
    let pumped = drain.pump(at(9_600), 1 << 20);
    let lost = Lost { bytes, ended_lines: 0, before_byte: Some(7) };
    assert_eq!((pumped.moved, pumped.lost, pumped.trouble), (7, Some(lost), None));
    drain.loss_is_told();
    writer.write_all(b"1\n").unwrap();
    assert_eq!(drain.pump(at(9_600), 1 << 20).lost, None, "told once");
    assert_eq!(fs::read_to_string(&log).unwrap(), "a line\n1\n");
}

#[test]
fn a_writer_as_quick_as_the_discarding_keeps_what_it_adds_meanwhile() {
    let dir = TestDir::new();
    let log = dir.path("web.out");
    let (mut drain, _) = drain_in(&dir, PLENTY);
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    // It does not wait for room, so it is there as soon as there is some.
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let mut writer = options.open(dir.path("fifo")).unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let until = is_done.clone();
    let write = std::thread::spawn(move || {
        while !until.load(Ordering::SeqCst) {
            let _ = writer.write(&[b'x'; 999]);
        }
    });
    for number in 1..=100 {
        wait_for("a full FIFO", || drain.is_full());
        let before = drain.loss.untold().0;
        drain.pump(at(number * PATIENCE_MS), 1 << 20);
        let lost = drain.loss.untold().0 - before;
        assert!(lost <= PIPE_BYTES as u64, "{lost} bytes of one FIFO");
    }
    is_done.store(true, Ordering::SeqCst);
    write.join().unwrap();
    assert!(drain.loss.untold().0 > 0);
}

#[test]
fn a_rotation_that_is_impossible_lets_the_file_grow_and_says_so_once() {
    let dir = TestDir::new();
    let fifo = fifo::open(&dir.path("fifo"), 0o600).unwrap();
    let mut writer = OpenOptions::new().write(true).open(dir.path("fifo")).unwrap();
    // With two more characters the name is longer than a name can be.
    let log = dir.path(&"x".repeat(254));
    let mut drain =
        Drain::new(fifo, log.clone(), Limits { max_size: 4, max_files: 1, max_age_ms: 0 });
    writer.write_all(b"1234\n").unwrap();
    let trouble = drain.pump(AT_START, 1 << 20).trouble.unwrap();
    assert!(trouble.text.starts_with("cannot rename"), "{}", trouble.text);
    writer.write_all(b"5678\n").unwrap();
    assert_eq!(drain.pump(AT_START, 1 << 20).trouble, None);
    assert_eq!(fs::read_to_string(log).unwrap(), "1234\n5678\n");
}

#[test]
fn a_full_disk_keeps_the_writer_alive_and_the_loss_is_told() {
    let dir = TestDir::new();
    let unshare = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let script = "mount -t tmpfs -o size=256k none \"$0\" || exit 77; exec \"$@\"";
    let mount_point = dir.path("");
    let before = ["unshare", unshare, "sh", "-c", script, mount_point.to_str().unwrap()];
    let output = helper("helper_on_a_full_disk", &before, &mount_point).output();
    match output {
        Ok(out) if out.status.success() || out.status.code() == Some(101) => {
            let said = String::from_utf8_lossy(&out.stdout);
            let complained = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success() && said.contains("1 passed"), "{said}\n{complained}");
        }
        _ => {
            let _ = writeln!(io::stderr(), "skipped: no file system can be mounted here");
        }
    }
}

/// Runs with a file system of 256 KiB of its own.
#[test]
fn helper_on_a_full_disk() {
    let Some(dir) = std::env::var_os(HELPER_DIR).map(PathBuf::from) else { return };
    let fifo = fifo::open(&dir.join("fifo"), 0o600).unwrap();
    let mut writer = OpenOptions::new().write(true).open(dir.join("fifo")).unwrap();
    let log = dir.join("web.out");
    let mut drain = Drain::new(fifo, log.clone(), PLENTY);
    let write = std::thread::spawn(move || writer.write_all(&numbered_lines(200_000)).unwrap());
    let (mut now_ms, mut moved) = (0, 0);
    wait_for("the writer's end", || {
        now_ms += 50;
        let pumped = drain.pump(at(now_ms), 100_000);
        moved += pumped.moved;
        assert_eq!(pumped.lost, None, "told while there is no room");
        write.is_finished()
    });
    write.join().unwrap();
    assert!(now_ms >= PATIENCE_MS && drain.loss.untold().0 > 500_000);
    let kept = fs::read(&log).unwrap();
    assert_eq!(kept.len() as u64, moved);
    // There is room again, and nothing more is written: it is told.
    File::options().write(true).open(&log).unwrap().set_len(100).unwrap();
    wait_for("the loss to be told", || {
        now_ms += RETRY_MS;
        let pumped = drain.pump(at(now_ms), 1 << 20);
        moved += pumped.moved;
        if let Some(lost) = pumped.lost {
            assert_eq!(moved + lost.bytes, numbered_lines(200_000).len() as u64);
            drain.loss_is_told();
        }
        pumped.lost.is_some()
    });
    // The first line behind the gap is a whole one, and the one before it has an end.
    OpenOptions::new().write(true).open(dir.join("fifo")).unwrap().write_all(b"x\n").unwrap();
    now_ms += RETRY_MS;
    drain.pump(at(now_ms), 1 << 20);
    assert!(fs::read(&log).unwrap().ends_with(b"\nx\n"));
}
