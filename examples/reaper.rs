//! Runs a command, and reaps every orphan below it at once, as the first process of a system does.
//!
//! Must not do anything else; it ends when nothing is left to reap. For tests that need a prompt
//! reaper where the machine's own one is slow.

use nix::errno::Errno;
use std::io::{self, Write};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "reaper: {error}; usage: reaper COMMAND [WORD]...");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut words = std::env::args_os().skip(1);
    let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    // Not waited for through its handle: the loop reaps it like all others.
    let _command = Command::new(program).args(words).spawn()?;
    loop {
        match nix::sys::wait::wait() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
