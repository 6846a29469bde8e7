//! `run/config.json`: the configuration in force, for a keeper that has to start the pair again.
//!
//! Must not be read by an active or a standby: they have it in memory, handed on by the process that
//! started them, and nothing that happens to this file changes what they do.

use crate::config::Config;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A larger file is none of ours.
const BYTES_MAX: u64 = 64 << 20;

const NAME: &str = "config.json";

fn path(config: &Config) -> PathBuf {
    config.node.run_dir.join(NAME)
}

/// Replaces the file, whole or not at all. Not synced: it means nothing after a reboot. Servers'
/// variables are in it, so nobody else may read it.
///
/// # Errors
/// It can't be written; what was there before is still there.
pub fn write(config: &Config) -> io::Result<()> {
    let path = path(config);
    let new = path.with_extension("json.new");
    let bytes = serde_json::to_vec(config)?;
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    fs::rename(&new, &path)
}

/// What was in force last; `None`: nobody has written it.
///
/// # Errors
/// It can't be read, or is that of another pair.
pub fn read(own: &Config) -> io::Result<Option<Config>> {
    let Some(found) = read_in(&own.node.run_dir)? else { return Ok(None) };
    match found.node.name == own.node.name {
        true => Ok(Some(found)),
        false => Err(io::Error::other("it belongs to another pair")),
    }
}

/// The same for a command whose own file can't be read.
///
/// # Errors
/// As [`read`].
pub fn read_in(run_dir: &Path) -> io::Result<Option<Config>> {
    let path = run_dir.join(NAME);
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    let found: Config = serde_json::from_slice(&bytes)?;
    match found.node.run_dir == run_dir {
        true => Ok(Some(found)),
        false => Err(io::Error::other("it belongs to another pair")),
    }
}

/// Takes away what an earlier life left.
pub fn forget(config: &Config) {
    // What can't be removed is replaced by the first active.
    let _ = fs::remove_file(path(config));
}
