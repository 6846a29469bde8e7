//! The keeper's reports of exit statuses, as the active reads them from a socket pair.

use super::Bytes;
use nodemanager::core::Exit;
use nodemanager::shell::guard::{REPORT_BYTES, decode_report, encode_report};

pub const WORDS: &[&str] = &["\0\0\0\0", "\u{1}\0\0\0", "\u{2}\0\0\0"];

pub fn run(data: &[u8]) {
    // What is sent comes back, whatever the numbers are.
    let mut bytes = Bytes(data);
    let (pid, ticks) = (bytes.long() as i32, bytes.long());
    let (kind, value) = (bytes.byte(), bytes.long() as i32);
    let exit = match kind % 3 {
        0 => Exit::Code(value),
        1 => Exit::Signal(value),
        _ => Exit::Unknown,
    };
    let sent = encode_report(pid, ticks, exit);
    assert_eq!(decode_report(&sent), Some((pid, ticks, exit)));
    // Anything else is a report of this length and of a known kind, or none.
    let word = |at: usize| data.get(at..at + 4).map(|word| [word[0], word[1], word[2], word[3]]);
    let is_known = word(4).is_some_and(|kind| (0..3).contains(&i32::from_ne_bytes(kind)));
    let Some((pid, ticks, exit)) = decode_report(data) else {
        assert!(data.len() != REPORT_BYTES || !is_known, "a report is not taken");
        return;
    };
    assert!(data.len() == REPORT_BYTES && is_known, "{} bytes became a report", data.len());
    let again = encode_report(pid, ticks, exit);
    assert_eq!((&again[..8], &again[16..]), (&data[..8], &data[16..24]));
    assert!(exit == Exit::Unknown || again[8..12] == data[8..12]);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let exits = [Exit::Code(3), Exit::Signal(9), Exit::Unknown, Exit::Code(i32::MIN)];
    exits.map(|exit| encode_report(4711, 99, exit).to_vec()).to_vec()
}
