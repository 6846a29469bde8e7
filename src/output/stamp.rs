//! The time stamp in front of a line: `2026-11-21T19:44:01.123+00:00 `, always as long.
//!
//! Must not read a clock.

use super::zone;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What a stamp looks like; a digit stands for any digit, `+` for either sign.
const SHAPE: &[u8; STAMP_BYTES] = b"0000-00-00T00:00:00.000+00:00 ";
/// Bytes of a stamp with the space behind it.
pub const STAMP_BYTES: usize = 30;

/// Makes stamps.
#[derive(Clone, Debug)]
pub struct LineStamp(TimeZone);

impl LineStamp {
    /// In this machine's time zone.
    pub fn local() -> LineStamp {
        LineStamp(zone::local())
    }

    /// The stamp of a moment (milliseconds since 1970), `STAMP_BYTES` long.
    pub fn text(&self, wall_ms: u64) -> String {
        let at = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = at.unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(self.0.clone());
        let text = time.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z ").to_string();
        // A time zone of old with seconds in its offset would be longer.
        if text.len() == STAMP_BYTES { text } else { LineStamp(TimeZone::UTC).text(wall_ms) }
    }
}

/// Could these bytes, from a line's beginning, be a stamp or the first part of one?
pub fn is_begun(bytes: &[u8]) -> bool {
    bytes.len() <= STAMP_BYTES
        && bytes.iter().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            b'+' => matches!(byte, b'+' | b'-'),
            other => byte == other,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_its_shape_and_so_has_each_part_of_it() {
        let text = LineStamp(TimeZone::UTC).text(1_795_290_241_123);
        assert_eq!(text, "2026-11-21T19:44:01.123+00:00 ");
        let local = LineStamp::local().text(1_795_290_241_123);
        for end in 0..=STAMP_BYTES {
            assert!(is_begun(&text.as_bytes()[..end]) && is_begun(&local.as_bytes()[..end]));
        }
        for other in ["x", "2026-11-21 ", "2026-11-21T19:44:01.123+00:00 x"] {
            assert!(!is_begun(other.as_bytes()), "{other}");
        }
        LineStamp(TimeZone::UTC).text(u64::MAX);
    }
}
