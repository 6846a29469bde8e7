//! The pair's log, tried without making it the process's logger.

use super::*;
use crate::output::test_dir::{TestDir, whole_log};
use log::{Level, LevelFilter, Log, Record};
use std::fs::{self, OpenOptions};
use std::time::{Duration, UNIX_EPOCH};

fn settings(path: PathBuf, max_size: u64, max_files: u32) -> Settings {
    let name = "node-1".to_owned();
    let level = LevelFilter::Info;
    Settings { name, path: Some(path), level, max_size, max_files, may_wait: false }
}

fn say(logger: &env_logger::Logger, level: Level, text: &str) {
    let mut record = Record::builder();
    record.level(level).target("0101");
    logger.log(&record.args(format_args!("{text}")).build());
}

fn texts(path: &Path) -> Vec<String> {
    let log = String::from_utf8(whole_log(path)).unwrap();
    log.lines().map(|l| l.rsplit_once("] ").unwrap().1.to_owned()).collect()
}

#[test]
fn a_line_has_the_documented_format() {
    let stamp = Stamp { name: "node-1".into(), zone: TimeZone::UTC };
    let then = UNIX_EPOCH + Duration::from_millis(1_795_290_241_123);
    let line = stamp.line(then, Level::Warn, "0145", "two\nlines \x1b[0m");
    let expected = "[2026.11.21 19:44:01.123 +0000][WARN] [node-1] [NodeManager-0145] \
                    two\\nlines \\x1b[0m\n";
    assert_eq!(line, expected);
    assert!(stamp.line(then, Level::Info, "mio::poll", "x").contains("[NodeManager-0000] x"));
}

#[test]
fn a_long_line_is_cut_at_a_characters_end() {
    let stamp = Stamp { name: "node-1".into(), zone: TimeZone::UTC };
    for shift in 0..4 {
        let text = format!("{}{}", "x".repeat(shift), "\u{20ac}".repeat(5_000));
        let line = stamp.line(UNIX_EPOCH, Level::Info, "0101", &text);
        assert!(line.ends_with("...\n") && (4090..=MAX_LINE_BYTES).contains(&line.len()));
    }
}

#[test]
fn lines_below_the_level_are_not_written_and_rotation_keeps_the_order() {
    let dir = TestDir::new();
    let log = dir.path("node-1.log");
    let (logger, _handle) = build(&settings(log.clone(), 500, 100)).unwrap();
    for n in 0..100 {
        say(&logger, Level::Info, &n.to_string());
        say(&logger, Level::Debug, "not this one");
    }
    assert_eq!(texts(&log), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    let rotated = rotate::rotated_files(&log);
    assert!(rotated.len() >= 10);
    assert!(rotated.iter().all(|(_, path)| fs::read(path).unwrap().ends_with(b"\n")));
}

#[test]
fn a_file_that_another_process_rotated_is_opened_again() {
    let dir = TestDir::new();
    let log = dir.path("node-1.log");
    let (logger, handle) = build(&settings(log.clone(), 0, 9)).unwrap();
    say(&logger, Level::Info, "1");
    rotate::rotate(&log, 9).unwrap();
    handle.sink().looked_at = None;
    say(&logger, Level::Info, "2");
    fs::remove_file(&log).unwrap();
    handle.reopen().unwrap();
    say(&logger, Level::Info, "3");
    assert_eq!(texts(&log), ["1", "3"]);
}

#[test]
fn in_a_burst_of_lines_the_path_is_looked_at_once_and_again_later() {
    let dir = TestDir::new();
    let log = dir.path("node-1.log");
    let (logger, handle) = build(&settings(log.clone(), 0, 9)).unwrap();
    say(&logger, Level::Info, "1");
    fs::remove_file(&log).unwrap();
    handle.sink().looked_at = Some(Instant::now() + LOOK_EVERY * 1_000);
    say(&logger, Level::Info, "2");
    assert!(!log.exists());
    handle.sink().looked_at = Instant::now().checked_sub(LOOK_EVERY);
    say(&logger, Level::Info, "3");
    assert_eq!(texts(&log), ["3"]);
}

#[test]
fn after_a_switch_the_lines_go_to_the_other_file_as_soon_as_it_can_be_opened() {
    let dir = TestDir::new();
    let (standby, active) = (dir.path("node-1_standby.log"), dir.path("node-1.log"));
    fs::create_dir(&active).unwrap();
    let (logger, handle) = build(&settings(standby.clone(), 0, 9)).unwrap();
    say(&logger, Level::Info, "standby");
    handle.switch_to(&active).unwrap_err();
    say(&logger, Level::Info, "not yet");
    fs::remove_dir(&active).unwrap();
    say(&logger, Level::Info, "active");
    assert_eq!(texts(&standby), ["standby", "not yet"]);
    assert_eq!(texts(&active), ["active"]);
}

#[test]
fn lines_lost_to_a_full_disk_are_counted_and_told_when_it_works_again() {
    let dir = TestDir::new();
    let log = dir.path("node-1.log");
    let (logger, handle) = build(&settings(log.clone(), 0, 9)).unwrap();
    {
        let mut sink = handle.sink();
        sink.path = Some("/dev/full".into());
        sink.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
    }
    say(&logger, Level::Info, "1");
    say(&logger, Level::Info, "2");
    handle.switch_to(&log).unwrap();
    say(&logger, Level::Info, "3");
    assert_eq!(texts(&log), ["2 log lines were lost: the log could not be written", "3"]);
    assert!(fs::read_to_string(&log).unwrap().contains("[ERROR] [node-1] [NodeManager-0010]"));
}

#[test]
fn a_line_after_a_torn_one_starts_on_its_own() {
    let dir = TestDir::new();
    let log = dir.path("node-1.log");
    let (_logger, handle) = build(&settings(log.clone(), 0, 9)).unwrap();
    fs::write(&log, "torn he").unwrap();
    handle.sink().torn = true;
    handle.sink().take(b"whole\n");
    handle.sink().take(b"next\n");
    assert_eq!(fs::read_to_string(&log).unwrap(), "torn he\nwhole\nnext\n");
}
