//! `run/config.json`: the configuration in force, for a keeper that has to start the pair again.
//!
//! Must not be read by an active or a standby: they have it in memory, handed on by the process that
//! started them, and nothing that happens to this file changes what they do.

use super::packed::{BYTES_MAX, PackedConfig};
use crate::config::Config;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
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

/// What was in force last; `None`: nobody has written it.
///
/// # Errors
/// It can't be read, or is that of another pair.
pub fn read(own: &Config) -> io::Result<Option<(Config, PackedConfig)>> {
    let Some((found, bytes)) = read_bytes(&own.node.run_dir)? else { return Ok(None) };
    match found.node.name == own.node.name {
        true => Ok(Some((found, PackedConfig::from_bytes(&bytes)?))),
        false => Err(io::Error::other("it belongs to another pair")),
    }
}

/// The same for a command whose own file can't be read.
///
/// # Errors
/// As [`read`].
pub fn read_in(run_dir: &Path) -> io::Result<Option<Config>> {
    Ok(read_bytes(run_dir)?.map(|(config, _)| config))
}

fn read_bytes(run_dir: &Path) -> io::Result<Option<(Config, Vec<u8>)>> {
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
        true => Ok(Some((found, bytes))),
        false => Err(io::Error::other("it belongs to another pair")),
    }
}

/// Takes away what an earlier life left.
pub fn forget(config: &Config) {
    // What can't be removed is replaced by the first active.
    let _ = fs::remove_file(config.node.run_dir.join(NAME));
}
