//! Durations, sizes and signals as people write them.
//!
//! Pure and small: must not read files, clocks or the environment. Errors are whole sentences that
//! quote what was written, so that the configuration and the command line can show them as they are.

use nix::sys::signal::Signal;
use std::str::FromStr;

/// The longest duration: ten years. It keeps sums and products of durations far from overflow.
const MAX_DURATION_MS: u64 = 3_650 * 86_400_000;

/// The greatest size, because a file offset is signed.
const MAX_SIZE: u64 = i64::MAX as u64;

/// The real-time signals by number; the C library keeps 32 and 33 for itself (signal(7), nptl(7)).
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Milliseconds of `"500ms"`, `"10s"`, `"2m"`, `"1h"` or `"7d"`; at most ten years.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let factor = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    };
    let Some(factor) = factor.filter(|_| !number.is_empty()) else {
        let cause = "write a whole number and ms, s, m, h or d, such as \"10s\"";
        return Err(format!("{} is not a duration: {cause}", quoted(text)));
    };
    times(number, factor, MAX_DURATION_MS)
        .ok_or_else(|| format!("{} is too long: at most \"3650d\"", quoted(text)))
}

/// Bytes of `"10MiB"`, `"64K"` or `"10485760"`; units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let power = match unit {
        "" => Some(0),
        "K" | "KiB" => Some(1),
        "M" | "MiB" => Some(2),
        "G" | "GiB" => Some(3),
        "T" | "TiB" => Some(4),
        _ => None,
    };
    let Some(power) = power.filter(|_| !number.is_empty()) else {
        let hint = match unit.to_ascii_uppercase().as_str() {
            "K" | "KB" | "KIB" => "write \"KiB\" for 1024 bytes",
            "M" | "MB" | "MIB" => "write \"MiB\" for 1024 * 1024 bytes",
            "G" | "GB" | "GIB" => "write \"GiB\" for 1024^3 bytes",
            _ => "write a whole number of bytes, or with K, KiB, M, MiB, G or GiB",
        };
        return Err(format!("{} is not a size: {hint}", quoted(text)));
    };
    times(number, 1 << (10 * power), MAX_SIZE)
        .ok_or_else(|| format!("{} is too large: at most {MAX_SIZE} bytes", quoted(text)))
}

/// The number of `"SIGTERM"`, `"TERM"`, `"15"` or `"SIGRTMIN+3"`.
pub fn parse_signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = match (name.parse::<i32>(), name.strip_prefix("RTMIN")) {
        (Ok(number), _) => Some(number).filter(|n| is_signal(*n)),
        (_, Some("")) => Some(*REAL_TIME.start()),
        (_, Some(plus)) => plus
            .strip_prefix('+')
            .and_then(|above| above.parse::<u8>().ok())
            .map(|above| REAL_TIME.start() + i32::from(above))
            .filter(|n| REAL_TIME.contains(n)),
        _ => Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32),
    };
    known.ok_or_else(|| {
        format!("{} is not a signal: write a name such as \"SIGTERM\", or 1 to 64", quoted(text))
    })
}

/// `SIGTERM` of 15; `signal N` for a number that has no name.
pub fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if number == *REAL_TIME.start() => "SIGRTMIN".to_owned(),
        Err(_) if REAL_TIME.contains(&number) => format!("SIGRTMIN+{}", number - REAL_TIME.start()),
        Err(_) => format!("signal {number}"),
    }
}

/// Whether a program can be sent that signal.
pub fn is_signal(number: i32) -> bool {
    Signal::try_from(number).is_ok() || REAL_TIME.contains(&number)
}

/// The text in quotes, for a message: control characters escaped, and no longer than a line.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}", format!("{}...", text.get(..end).unwrap_or_default())),
        None => format!("{text:?}"),
    }
}

/// The digits in front, and what follows them.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn times(number: &str, factor: u64, max: u64) -> Option<u64> {
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|product| *product <= max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_of_a_duration_is_counted_in_milliseconds() {
        let of = |text| parse_duration_ms(text).unwrap();
        assert_eq!(of("500ms"), 500);
        assert_eq!(of("10s"), 10_000);
        assert_eq!(of("2m"), 120_000);
        assert_eq!(of("1h"), 3_600_000);
        assert_eq!(of("7d"), 604_800_000);
        assert_eq!(of("0s"), 0);
    }

    #[test]
    fn what_is_no_duration_is_refused_and_quoted() {
        for text in ["", "10", "s", "10 s", "-1s", "1.5s", "10S", "1m30s", "٣s", "10sec"] {
            let error = parse_duration_ms(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        assert!(parse_duration_ms("3651d").unwrap_err().contains("too long"));
        assert!(parse_duration_ms("99999999999999999999s").unwrap_err().contains("too long"));
    }

    #[test]
    fn sizes_are_powers_of_1024_and_decimal_units_get_a_hint() {
        assert_eq!(parse_size("10MiB"), Ok(10 << 20));
        assert_eq!(parse_size("64K"), Ok(64 << 10));
        assert_eq!(parse_size("10485760"), Ok(10 << 20));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        assert!(parse_size("10MB").unwrap_err().contains("MiB"));
        assert!(parse_size("1kb").unwrap_err().contains("KiB"));
        assert!(parse_size("99999999T").unwrap_err().contains("too large"));
        for text in ["", "K", "-1", "1.5M", "1 M"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signal_is_known_by_both_names_and_by_its_number() {
        for text in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(parse_signal(text), Ok(15), "{text}");
        }
        for text in ["", "SIG", "0", "32", "65", "-15", "SIGFOO", "RTMIN+31", "RTMIN-1"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_signal_has_a_name_that_is_read_back() {
        for number in (1..=31).chain(34..=64) {
            assert_eq!(parse_signal(&signal_name(number)), Ok(number), "{number}");
        }
        assert_eq!(signal_name(37), "SIGRTMIN+3");
        assert_eq!(signal_name(33), "signal 33");
    }

    #[test]
    fn a_quoted_text_stays_on_one_short_line() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert!(quoted(&"ä".repeat(1_000)).chars().count() < 70);
    }
}
