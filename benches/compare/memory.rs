//! Memory that is there before anybody is measured who takes much of it.
//!
//! A virtual machine gives what it has not used for seconds back to its host (free page reporting).
//! The first touch of such a page then costs some 11 us, five times what it costs to move it, and
//! whoever happens to get it would be measured by that. Must not fail where little can be had.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What everybody may give a pipe (pipe(7), pipe-max-size).
const PIPE_BYTES: usize = 1 << 20;

/// Uses so many bytes as pipes and as a file in `dir` use them, and lets go of them.
pub fn use_once(dir: &Path, bytes: u64) {
    let pipes = usize::try_from(bytes).unwrap_or(usize::MAX) / PIPE_BYTES;
    drop((0..pipes).map_while(|_| full_pipe().ok()).collect::<Vec<_>>());
    let path = dir.join("used");
    let _ = fill(&path, bytes);
    let _ = fs::remove_file(path);
}

fn full_pipe() -> io::Result<(File, File)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let size = i32::try_from(PIPE_BYTES).unwrap_or(i32::MAX);
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size))?;
    let mut writer = File::from(writer);
    writer.write_all(&[0; PIPE_BYTES])?;
    Ok((reader.into(), writer))
}

fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let piece = [0; 65_536];
    for _ in 0..bytes / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    Ok(())
}
