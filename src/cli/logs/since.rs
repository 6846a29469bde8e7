//! `--since`: from which moment on lines are shown.
//!
//! A line is as old as the time stamp at its beginning says, where it has one: RFC 3339 with an
//! offset (as `output.timestamps` writes it), that of the pair's own log, or the `time` of its JSON.
//! A line without one belongs to the one before it. Of a log without any stamp only the files are
//! told apart, by when they were last written. Must not guess more than that.

use crate::config::units;
use crate::output::tail::{Newest, Piece, each_from_newest};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Enough of a line to see its time stamp.
const HEAD_BYTES: usize = 48;
const CHUNK_BYTES: usize = 64 * 1024;

/// The moment that `text` means: RFC 3339, a local date and time, or so long ago (`10m`, `2h`).
///
/// # Errors
/// It is none of these; the text says what would be.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    let ago = text.strip_suffix("ago").map_or(text, str::trim_end);
    if let Ok(ms) = units::parse_duration_ms(ago) {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        return now.checked_sub(SignedDuration::from_millis(ms)).map_err(|e| e.to_string());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let local = text.parse::<DateTime>().map_err(|_| {
        "expected a time such as 2026-11-21T19:44:01Z or \"2026-11-21 19:44\", or how long ago: \
         10m, 2h, 1d"
            .to_owned()
    })?;
    let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
    local.to_zoned(zone).map(|time| time.timestamp()).map_err(|error| error.to_string())
}

/// The pieces of a log, oldest first, that were written since then. Where the newest file is open,
/// the last piece is of it, even if it is empty.
///
/// # Errors
/// A file that can't be read.
pub(super) fn pieces(path: &Path, newest: &Newest, since: Timestamp) -> io::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    each_from_newest(path, newest, true, |file, size| {
        let written = Timestamp::try_from(file.metadata()?.modified()?).unwrap_or(Timestamp::MAX);
        let is_old = written < since;
        if !is_old || (pieces.is_empty() && newest.file.is_some()) {
            let start = if is_old { size } else { 0 };
            pieces.push(Piece { file, start, end: size });
        }
        Ok(!is_old)
    })?;
    pieces.reverse();
    for piece in &mut pieces {
        if piece.start < piece.end {
            match first_since(&piece.file, piece.end, since)? {
                First::NoStamps => break,
                First::At(offset) => {
                    piece.start = offset;
                    break;
                }
                First::Older => piece.start = piece.end,
            }
        }
    }
    Ok(pieces)
}

/// Where the first line of that time is.
enum First {
    At(u64),
    /// All stamps are of before.
    Older,
    NoStamps,
}

fn first_since(file: &File, end: u64, since: Timestamp) -> io::Result<First> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut at, mut line_at, mut head) = (0u64, 0u64, Vec::new());
    let mut found = First::NoStamps;
    loop {
        let want = usize::try_from(end.saturating_sub(at)).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let count = file.read_at(buffer.get_mut(..want).unwrap_or_default(), at)?;
        let chunk = buffer.get(..count).unwrap_or_default();
        let is_end = chunk.is_empty();
        let rest: &[u8] = if is_end { b"\n" } else { chunk };
        for part in rest.split_inclusive(|byte| *byte == b'\n') {
            let room = HEAD_BYTES.saturating_sub(head.len());
            head.extend_from_slice(part.get(..room).unwrap_or(part));
            at = at.saturating_add(part.len() as u64);
            if !part.ends_with(b"\n") {
                continue;
            }
            match time_of(&head) {
                Some(time) if time >= since => return Ok(First::At(line_at)),
                Some(_) => found = First::Older,
                None => {}
            }
            head.clear();
            line_at = at;
        }
        if is_end {
            return Ok(found);
        }
    }
}

/// The time stamp at the beginning of a line.
pub fn time_of(line: &[u8]) -> Option<Timestamp> {
    let ascii =
        line.iter().take(HEAD_BYTES).take_while(|byte| byte.is_ascii_graphic() || **byte == b' ');
    let text: String = ascii.map(|byte| char::from(*byte)).collect();
    if let Some(own) = text.strip_prefix('[') {
        let (inner, _) = own.split_once(']')?;
        return Timestamp::strptime("%Y.%m.%d %H:%M:%S%.f %z", inner).ok();
    }
    let text = text.strip_prefix("{\"time\":\"").unwrap_or(&text);
    let shape = b"0000-00-00";
    let (date, rest) = text.split_at_checked(shape.len())?;
    let is_date = date.bytes().zip(shape).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        other => byte == *other,
    });
    if !is_date || !rest.starts_with(['T', ' ']) {
        return None;
    }
    let is_time = |c: char| c.is_ascii_digit() || matches!(c, ':' | '.' | '+' | '-' | 'Z');
    let end =
        rest.char_indices().skip(1).find(|(_, c)| !is_time(*c)).map_or(rest.len(), |(at, _)| at);
    format!("{date}{}", rest.get(..end)?.trim_end_matches(':')).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::gzip::compress_rotated;
    use crate::output::rotate::plain;
    use crate::output::tail::open_newest;
    use crate::output::test_dir::TestDir;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now = at("2026-11-21T19:44:01Z");
        assert_eq!(parse("10m", now), Ok(at("2026-11-21T19:34:01Z")));
        assert_eq!(parse("2h ago", now), Ok(at("2026-11-21T17:44:01Z")));
        assert_eq!(parse("2026-11-21T20:00:00+01:00", now), Ok(at("2026-11-21T19:00:00Z")));
        let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        let local = jiff::civil::date(2026, 11, 20).at(1, 2, 0, 0).to_zoned(zone).unwrap();
        assert_eq!(parse("2026-11-20 01:02", now), Ok(local.timestamp()));
        for text in ["", "10", "yesterday", "ago", "2026-13-01"] {
            assert!(parse(text, now).unwrap_err().contains("how long ago"), "{text}");
        }
    }

    #[test]
    fn the_stamps_that_are_written_here_are_read_and_others_need_an_offset() {
        let time = Some(at("2026-11-21T19:44:01.123Z"));
        for line in [
            "2026-11-21T19:44:01.123+00:00 a line",
            "2026-11-21 20:44:01.123+01:00: a line",
            "2026-11-21T19:44:01.123Z",
            "[2026.11.21 19:44:01.123 +0000][WARN] [n] [NodeManager-0207] text",
            "{\"time\":\"2026-11-21T19:44:01.123+00:00\",\"level\":\"INFO\"}",
        ] {
            assert_eq!(time_of(line.as_bytes()), time, "{line}");
        }
        for line in ["", "x", "2026-11-21 19:44:01 a line", "[x]", "[2026.11.21", "2026-11-21Tx"] {
            assert_eq!(time_of(line.as_bytes()), None, "{line}");
        }
    }

    fn shown(log: &Path, since: &str) -> String {
        let mut bytes = Vec::new();
        for piece in pieces(log, &open_newest(log).unwrap(), at(since)).unwrap() {
            let mut part = vec![0; (piece.end - piece.start) as usize];
            piece.file.read_exact_at(&mut part, piece.start).unwrap();
            bytes.extend(part);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn stamped_lines_are_shown_from_the_first_of_that_time_with_what_belongs_to_them() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        let line = |minute: u32| format!("2026-11-21T19:{minute:02}:00.000+00:00 line\n  more\n");
        fs::write(plain(&log, 1), line(1) + &line(2)).unwrap();
        fs::write(plain(&log, 2), line(3) + &line(4)).unwrap();
        fs::write(&log, "  even more\n".to_owned() + &line(5)).unwrap();
        compress_rotated(&log, 9, Duration::ZERO).unwrap();
        let expected = line(4) + "  even more\n" + &line(5);
        assert_eq!(shown(&log, "2026-11-21T19:03:30Z"), expected);
        assert_eq!(shown(&log, "2026-11-21T19:04:30Z"), line(5));
        assert_eq!(shown(&log, "2026-11-21T20:00:00Z"), "");
    }

    #[test]
    fn of_lines_without_stamps_the_files_are_told_apart() {
        let dir = TestDir::new();
        let log = dir.path("web.out");
        for (path, text, ago) in [(plain(&log, 1), "1\n", 7_200), (plain(&log, 2), "2\n", 3_000)] {
            fs::write(&path, text).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(ago)).unwrap();
        }
        fs::write(&log, "3\n").unwrap();
        compress_rotated(&log, 9, Duration::ZERO).unwrap();
        let ago = |text: &str| parse(text, Timestamp::now()).unwrap().to_string();
        assert_eq!(shown(&log, &ago("1h")), "2\n3\n");
        assert_eq!(shown(&log, &ago("3h")), "1\n2\n3\n");
        assert_eq!(shown(&log, "2100-01-01T00:00:00Z"), "");
    }
}
