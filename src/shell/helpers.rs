//! Processes of the pair's own for what the loop may not wait for: one compresses logs, one writes
//! what is to outlive a reboot, one reads a configuration.
//!
//! Must not know what they do: only how they are started, and how it is seen that they have ended.

use super::bequest::{self, Bequest};
use super::ctx::Ctx;
use super::{Shell, token::Source};
use crate::core::Exit;
use crate::sys::pidfd;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

impl Shell {
    /// Starts one with what it has to know and more descriptors; its end comes as `source`.
    pub(super) fn start_helper(
        &mut self,
        role: &str,
        bequest: &Bequest,
        more: Vec<(RawFd, RawFd)>,
        source: Source,
    ) -> io::Result<OwnedFd> {
        let packed = bequest.pack()?;
        let mut fds = vec![bequest::at(&packed, bequest::BEQUEST), self.ctx.packed.handed()];
        fds.extend(more);
        self.spawn_watched(role, None, fds, source)
    }
}

/// How it ended, once it has; nobody has to ask for it any more then.
pub fn end_of(ctx: &mut Ctx, process: &mut Option<OwnedFd>, source: Source) -> Option<Exit> {
    let exit = match pidfd::reap(process.as_ref()?) {
        Ok(exit) => exit?,
        // Somebody else has reaped it.
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Exit::Unknown,
        Err(_) => {
            ctx.look_again(source);
            return None;
        }
    };
    process.take().into_iter().for_each(|process| ctx.close(process));
    Some(exit)
}
