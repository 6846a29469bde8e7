//! What a server says of itself in a datagram to $NOTIFY_SOCKET (sd_notify(3)).
//!
//! Pure: bytes in, values out. Must not believe anything of it to be short, printable or true.

use crate::core::checks::Told;

/// A longer datagram is not taken (systemd's limit is a page too).
pub const MESSAGE_MAX: usize = 4_096;
/// So much of a status text is kept, in characters.
const STATUS_MAX: usize = 300;

/// One datagram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    pub told: Told,
    /// It names another process as the server's main one.
    pub main_pid: Option<i32>,
}

/// Reads the lines `NAME=VALUE`. What is unknown or no value is left out; of a line that comes
/// twice the last one counts. BARRIER=1 needs no answer: its descriptor is closed when the
/// datagram is taken.
pub fn parse(message: &[u8]) -> Notice {
    let mut notice = Notice::default();
    for line in message.split(|byte| *byte == b'\n') {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = line.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        let told = &mut notice.told;
        match name {
            b"READY" => told.ready |= value == b"1",
            b"STOPPING" => told.stopping |= value == b"1",
            b"STATUS" => told.status = Some(cleaned(value)),
            b"EXTEND_TIMEOUT_USEC" => told.extend_ms = ms(value).or(told.extend_ms),
            b"WATCHDOG_USEC" => {
                told.watchdog_ms = ms(value).filter(|ms| *ms > 0).or(told.watchdog_ms);
            }
            b"WATCHDOG" => match value {
                b"1" => told.watchdog = true,
                b"trigger" => told.watchdog_trigger = true,
                _ => {}
            },
            b"MAINPID" => {
                let pid = number(value).and_then(|pid| i32::try_from(pid).ok());
                notice.main_pid = pid.filter(|pid| *pid > 0).or(notice.main_pid);
            }
            _ => {}
        }
    }
    notice
}

/// Microseconds as milliseconds, rounded up.
fn ms(value: &[u8]) -> Option<u64> {
    number(value).map(|us| us.div_ceil(1_000))
}

fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// On one line, for a terminal and a log.
fn cleaned(value: &[u8]) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    String::from_utf8_lossy(value).chars().take(STATUS_MAX).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_that_is_known_is_read_and_others_are_passed_over() {
        let text = b"READY=1\nSTATUS=two \x1b[31mred\nX_OTHER=1\nBARRIER=1\nMAINPID=77\n\
                     WATCHDOG_USEC=1500\nEXTEND_TIMEOUT_USEC=2000001\nno line";
        let told = Told {
            ready: true,
            status: Some("two ?[31mred".to_string()),
            extend_ms: Some(2_001),
            watchdog_ms: Some(2),
            ..Told::default()
        };
        assert_eq!(parse(text), Notice { told, main_pid: Some(77) });
        assert!(parse(b"WATCHDOG=1\nSTOPPING=1").told.watchdog);
        assert!(parse(b"WATCHDOG=trigger").told.watchdog_trigger);
    }

    #[test]
    fn what_is_no_value_says_nothing() {
        let text =
            b"READY=yes\nWATCHDOG_USEC=0\nWATCHDOG_USEC=-1\nMAINPID=0\nMAINPID=99999999999\n\
                     EXTEND_TIMEOUT_USEC=+5\nWATCHDOG=2\n=\n";
        assert_eq!(parse(text), Notice::default());
        let long = [b"STATUS=".as_slice(), &[0xff; MESSAGE_MAX]].concat();
        assert_eq!(parse(&long).told.status.map(|text| text.chars().count()), Some(STATUS_MAX));
    }
}
