//! The machine's time zone, for stamps in logs.
//!
//! Must not be asked for each line: it reads a file. Where the zone is a file and no name, its rules
//! are read from it alone; to look a name up, the whole directory of zones would be walked and kept,
//! in each process of the pair.

use jiff::tz::TimeZone;
use std::fs::File;
use std::io::Read;

/// What tzset(3) reads when TZ is not set.
const FILE: &str = "/etc/localtime";
/// More than any zone has.
const BYTES_MAX: u64 = 64 << 10;

/// The time zone of this machine, or what TZ says; UTC where neither can be read.
pub fn local() -> TimeZone {
    let named = std::env::var_os("TZ").and_then(|_| TimeZone::try_system().ok());
    named.or_else(from_file).unwrap_or(TimeZone::UTC)
}

fn from_file() -> Option<TimeZone> {
    let mut bytes = Vec::new();
    File::open(FILE).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    TimeZone::tzif("local", &bytes).ok()
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
