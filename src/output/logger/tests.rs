//! The pair's log, tried without making it the process's logger.

use super::line::MAX_LINE_BYTES;
use super::*;
use crate::output::test_dir::{TestDir, whole_log};
use jiff::tz::TimeZone;
use log::{Level, LevelFilter, Log, Record};
use std::fs::{self, OpenOptions};
use std::time::{Duration, UNIX_EPOCH};

fn settings(path: PathBuf, max_size: u64, max_files: u32) -> Settings {
    let name = "node-1".to_owned();
    let level = LevelFilter::Info;
    let (target, format) = (Target::File(path), Format::Text);
    Settings { name, target, format, level, max_size, max_files, may_wait: false }
}

fn stamp(format: Format, is_journal: bool) -> Stamp {
    Stamp { name: "node-1".into(), zone: TimeZone::UTC, format, is_journal }
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
    let stamp = stamp(Format::Text, false);
    let then = UNIX_EPOCH + Duration::from_millis(1_795_290_241_123);
    let line = stamp.line(then, Level::Warn, "0145", "two\nlines \x1b[0m");
    let expected = "[2026.11.21 19:44:01.123 +0000][WARN] [node-1] [NodeManager-0145] \
                    two\\nlines \\x1b[0m\n";
    assert_eq!(line, expected);
    assert!(stamp.line(then, Level::Info, "mio::poll", "x").contains("[NodeManager-0000] x"));
}

#[test]
fn a_long_line_is_cut_at_a_characters_end() {
    let stamp = stamp(Format::Text, false);
    for shift in 0..4 {
        let text = format!("{}{}", "x".repeat(shift), "\u{20ac}".repeat(5_000));
        let line = stamp.line(UNIX_EPOCH, Level::Info, "0101", &text);
        assert!(line.ends_with("...\n") && (4085..=MAX_LINE_BYTES).contains(&line.len()));
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
        sink.target = Target::File("/dev/full".into());
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
fn lines_that_are_held_are_written_together_to_the_file_they_were_for() {
    let dir = TestDir::new();
    let (first, second) = (dir.path("standby.log"), dir.path("active.log"));
    let (logger, handle) = build(&settings(first.clone(), 0, 9)).unwrap();
    handle.hold();
    say(&logger, Level::Info, "1");
    assert_eq!(fs::read(&first).unwrap(), b"");
    handle.switch_to(&second).unwrap();
    assert_eq!(texts(&first), ["1"]);
    say(&logger, Level::Info, "2");
    handle.release();
    say(&logger, Level::Info, "3");
    assert_eq!(texts(&second), ["2", "3"]);
    handle.hold();
    let many: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    many.iter().for_each(|text| say(&logger, Level::Info, text));
    assert!(fs::read(&second).unwrap().len() > HELD_MAX_BYTES, "not all of them wait");
    handle.release();
    assert_eq!(texts(&second)[2..], many);
}

#[test]
fn of_lines_that_are_held_those_that_a_full_disk_takes_no_more_are_counted() {
    let dir = TestDir::new();
    let log = dir.path("node-1.log");
    let (logger, handle) = build(&settings(log.clone(), 0, 9)).unwrap();
    handle.hold();
    (0..3).for_each(|n| say(&logger, Level::Info, &n.to_string()));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    handle.sink().looked_at = Some(Instant::now());
    let file = handle.sink().file.replace(full);
    handle.release();
    assert_eq!(handle.sink().lost, 3);
    handle.sink().file = file;
    say(&logger, Level::Info, "3");
    assert_eq!(texts(&log), ["3 log lines were lost: the log could not be written", "3"]);
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

const THEN_MS: u64 = 1_795_290_241_123;

#[test]
fn a_line_of_json_is_one_object_with_the_documented_fields() {
    let stamp = stamp(Format::Json, false);
    let then = UNIX_EPOCH + Duration::from_millis(THEN_MS);
    let line = stamp.line(then, Level::Warn, "0145", "two\nlines \"x\"");
    let read: serde_json::Value = serde_json::from_str(&line).unwrap();
    let expected = serde_json::json!({
        "time": "2026-11-21T19:44:01.123+00:00", "level": "WARN", "node": "node-1",
        "pid": std::process::id(), "code": "0145", "text": "two\nlines \"x\""
    });
    assert_eq!((read, line.lines().count()), (expected, 1));
}

#[test]
fn a_long_line_of_json_is_cut_and_still_an_object() {
    let stamp = stamp(Format::Json, true);
    for letter in ["x", "\"", "\n", "\u{1}", "\u{20ac}"] {
        let line = stamp.line(UNIX_EPOCH, Level::Info, "0101", &letter.repeat(9_000));
        assert!(line.len() <= MAX_LINE_BYTES && line.len() > 1_000, "{letter:?} {}", line.len());
        let object = line.strip_prefix("<6>").unwrap();
        let read: serde_json::Value = serde_json::from_str(object).unwrap();
        assert!(read["text"].as_str().unwrap().ends_with("..."), "{line}");
    }
}

#[test]
fn lines_go_to_journald_with_their_priority_and_a_journald_that_comes_back_is_found() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    let dir = TestDir::new();
    let path = dir.path("stdout");
    let target = Target::Journal(path.clone());
    let settings = Settings { target, ..settings(dir.path("none"), 0, 9) };
    build(&settings).unwrap_err();
    let journald = UnixListener::bind(&path).unwrap();
    let (logger, handle) = build(&settings).unwrap();
    say(&logger, Level::Warn, "one");
    let mut lines = BufReader::new(journald.accept().unwrap().0).lines().map(Result::unwrap);
    let header: Vec<String> = lines.by_ref().take(7).collect();
    assert_eq!(header, ["node-1", "", "6", "1", "0", "0", "0"]);
    assert_eq!(lines.next().unwrap(), "<4>[NodeManager-0101] one");
    drop((lines, journald));
    fs::remove_file(&path).unwrap();
    say(&logger, Level::Info, "lost");
    let journald = UnixListener::bind(&path).unwrap();
    handle.sink().looked_at = None;
    say(&logger, Level::Info, "two");
    let lines = BufReader::new(journald.accept().unwrap().0).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.skip(7).take(2).collect();
    assert!(lines[0].starts_with("<3>[NodeManager-0010] 1 log lines were lost"), "{lines:?}");
    assert_eq!(lines[1], "<6>[NodeManager-0101] two");
}
