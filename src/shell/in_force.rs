//! `run/config.json`: the configuration in force, for a keeper that has to start the pair again.
//!
//! Must not be read by an active or a standby: they have it in memory, handed on by the process that
//! started them, and nothing that happens to this file changes what they do.

use super::packed::{BYTES_MAX, PackedConfig};
use crate::config::Config;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const NAME: &str = "config.json";

/// Replaces the file, whole or not at all. Not synced: it means nothing after a reboot. Servers'
/// variables are in it, so nobody else may read it.
///
/// # Errors
/// It can't be written; what was there before is still there.
pub fn write(run_dir: &Path, config: &PackedConfig) -> io::Result<()> {
    let path = run_dir.join(NAME);
    let new = path.with_extension("json.new");
    let bytes = config.bytes()?;
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    fs::rename(&new, &path)
}

/// One writing of the file, told from another: a new one is made while the old one is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writing {
    inode: u64,
    changed_at: (i64, i64),
}

/// The last writing; `None`: nobody has written it, or that can't be told.
pub fn last_writing(run_dir: &Path) -> Option<Writing> {
    let found = fs::symlink_metadata(run_dir.join(NAME)).ok()?;
    Some(Writing { inode: found.ino(), changed_at: (found.ctime(), found.ctime_nsec()) })
}

/// What was in force last, if that is not `known` (of the pair of `own`); `None` also when nobody has
/// written it.
///
/// # Errors
/// It can't be read, or is that of another pair.
pub fn read_new(own: &Config, known: &PackedConfig) -> io::Result<Option<(Config, PackedConfig)>> {
    let Some(bytes) = bytes_in(&own.node.run_dir)? else { return Ok(None) };
    // To read a thousand servers' definitions takes milliseconds, and every active writes them.
    if known.bytes().is_ok_and(|known| known == bytes) {
        return Ok(None);
    }
    let found = config_of(&bytes, &own.node.run_dir)?;
    match found.node.name == own.node.name {
        true => Ok(Some((found, PackedConfig::from_bytes(&bytes)?))),
        false => Err(io::Error::other("it belongs to another pair")),
    }
}

/// The same for a command whose own file can't be read.
///
/// # Errors
/// As [`read_new`].
pub fn read_in(run_dir: &Path) -> io::Result<Option<Config>> {
    bytes_in(run_dir)?.map(|bytes| config_of(&bytes, run_dir)).transpose()
}

fn bytes_in(run_dir: &Path) -> io::Result<Option<Vec<u8>>> {
    let path = run_dir.join(NAME);
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes =
        Vec::with_capacity(usize::try_from(file.metadata()?.len().min(BYTES_MAX)).unwrap_or(0) + 1);
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn config_of(bytes: &[u8], run_dir: &Path) -> io::Result<Config> {
    let found: Config = serde_json::from_slice(bytes)?;
    match found.node.run_dir == run_dir {
        true => Ok(found),
        false => Err(io::Error::other("it belongs to another pair")),
    }
}

/// Takes away what an earlier life left.
pub fn forget(config: &Config) {
    // What can't be removed is replaced by the first active.
    let _ = fs::remove_file(config.node.run_dir.join(NAME));
}
