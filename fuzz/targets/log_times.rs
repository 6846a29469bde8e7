//! Times in logs and on the command line: whatever a server writes at a line's beginning.

use super::Bytes;
use jiff::Timestamp;
use nodemanager::cli::logs::since::{parse, time_of};

pub const WORDS: &[&str] = &[
    "2026-11-21T19:44:01.123+00:00 ",
    "[2026.11.21 19:44:01.123 +0000]",
    "{\"time\":\"",
    "2026-11-21",
    "-999999-",
    "+23:59",
    "Z",
    "ago",
    "3650d",
    "10m",
    "[",
    "]",
    ":",
    " ",
];

pub fn run(data: &[u8]) {
    // What is behind the stamp changes nothing.
    let time = time_of(data);
    assert_eq!(time_of(data), time);
    let text = String::from_utf8_lossy(data);
    let now = Timestamp::UNIX_EPOCH;
    match parse(&text, now) {
        Ok(time) => assert_eq!(parse(&text, now), Ok(time)),
        Err(error) => assert!(!error.is_empty()),
    }
    // Every moment is read back from what is written of it.
    let ms = Bytes(data).long() % 253_402_207_200_000;
    let moment = Timestamp::from_millisecond(ms as i64).expect("a moment of these years");
    let zone = jiff::tz::TimeZone::UTC;
    let stamp = moment.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z ").to_string();
    let line = [stamp.as_bytes(), data].concat();
    assert_eq!(time_of(&line), Some(moment));
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"2026-11-21T19:44:01.123+00:00 line".to_vec(),
        b"[2026.11.21 19:44:01.123 +0000][WARN] [n] [NodeManager-0207] text".to_vec(),
        b"{\"time\":\"2026-11-21T19:44:01.123+00:00\",\"level\":\"INFO\"}".to_vec(),
        b"2h ago".to_vec(),
    ]
}
