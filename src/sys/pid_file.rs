//! What a daemon's PID file says.
//!
//! Must not be believed by itself: the file can be old, or written by somebody who wants a stranger
//! signalled. A file of another kind must not stop who reads it.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A number with blanks around it is not longer.
const BYTES_MAX: u64 = 64;

/// The number in a PID file.
///
/// # Errors
/// It can't be read, is no regular file, or holds no PID.
pub fn read(path: &Path) -> Result<i32, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("{} is no regular file", path.display()));
    }
    let mut bytes = Vec::new();
    // One more, so that a longer file is not taken for its beginning.
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    parse(&bytes).ok_or_else(|| format!("{} holds no PID", path.display()))
}

/// The first word of a PID file, if it is a number that a server's process can have.
pub fn parse(bytes: &[u8]) -> Option<i32> {
    if bytes.len() as u64 > BYTES_MAX {
        return None;
    }
    let word = str::from_utf8(bytes).ok()?.split_ascii_whitespace().next()?;
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|pid| is_number && *pid > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_one_number_above_one_with_blanks_around_it() {
        assert_eq!(parse(b"412\n"), Some(412));
        assert_eq!(parse(b" \t412 its user\n"), Some(412));
        for none in ["", "\n", "0", "1", "-7", "+7", "x", "7x", "99999999999", "\u{663}"] {
            assert_eq!(parse(none.as_bytes()), None, "{none:?}");
        }
    }

    #[test]
    fn a_number_that_is_cut_by_the_limit_is_not_taken_for_a_shorter_one() {
        let long = format!("{}412", " ".repeat(62));
        assert_eq!((long.len(), parse(long.as_bytes())), (65, None));
        let file = std::env::temp_dir().join(format!("nm-pid-file-{}", std::process::id()));
        std::fs::write(&file, long).unwrap();
        assert!(read(&file).unwrap_err().ends_with("holds no PID"));
        std::fs::write(&file, "412\n").unwrap();
        assert_eq!(read(&file), Ok(412));
        std::fs::remove_file(&file).unwrap();
    }
}
