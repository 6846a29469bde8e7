//! The process that is left behind when the pair ends and servers stay up: it moves their output.
//!
//! Must not watch, restart or signal anything: it is no node manager. It ends when the next active
//! asks for the lock (SIGTERM), or when the last server is gone and its FIFO empty.

use super::bequest::{self, Bequest, Twin};
use super::ctx::Ctx;
use super::outputs::Outputs;
use super::packed::PackedConfig;
use super::signals::Signals;
use super::token::Source;
use super::{lock_path, log_settings};
use crate::core::{Identity, Name};
use crate::output::logger::{self, Settings};
use crate::sys;
use crate::sys::pidfd::{self, Verified};
use crate::sys::pulse::Pulse;
use log::info;
use mio::Events;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// It looks around so often, even when nothing happens.
const LOOK_MS: u64 = 1_000;

/// Runs the mover; gives its exit status.
pub fn run() -> u8 {
    let _ = sys::set_name("nm-mover");
    match start() {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn start() -> io::Result<()> {
    let bequest = Bequest { twin: Twin::A, ..Bequest::unpack()? };
    let packed = PackedConfig::inherited(bequest::CONFIG)?;
    let config = packed.unpack()?;
    let settings = Settings { may_wait: true, ..log_settings(&config, false) };
    let log = logger::init(&settings)?;
    let mut ctx = Ctx::new(&bequest, config, packed, Pulse::create()?)?;
    let mut signals = Signals::new(&ctx)?;
    let _ = sys::raise_nofile();
    let mut left = watch_left(&ctx, &bequest.left);
    let mut outputs = Outputs::default();
    let writers = bequest.left.iter().map(|(name, process)| (name, process.pid));
    outputs.begin_as_mover(&ctx, writers);
    info!(target: "0140", "moves the output of servers that stay up ({}) until the next start, PID {}", left.len(), std::process::id());
    let mut events = Events::with_capacity(256);
    loop {
        outputs.turn(&mut ctx);
        if left.is_empty() && !outputs.is_busy() {
            info!(target: "0141", "the last server is gone; the mover ends");
            break;
        }
        let due = outputs.deadline().map_or(LOOK_MS, |at| at.since(ctx.now()).min(LOOK_MS));
        let wait = Duration::from_millis(if outputs.is_busy() { 0 } else { due });
        let wait = outputs.look_every().map_or(wait, |every| wait.min(every));
        ctx.wait(&mut events, wait)?;
        for event in &events {
            if let Some(Source::Output(number)) = Source::of(event.token()) {
                outputs.on_readable(number);
            }
        }
        if let Some(signal) = signals.take().into_iter().next_back() {
            match signal {
                libc::SIGUSR1 | libc::SIGHUP => {
                    let _ = log.reopen();
                    outputs.check_paths(&ctx, true);
                }
                _ => {
                    info!(target: "0141", "the next active moves the output; the mover ends");
                    break;
                }
            }
        }
        if !outputs.moves() && is_active_again(&ctx, &bequest) {
            info!(target: "0141", "the next active was quicker and moves the output; the mover ends");
            break;
        }
        outputs.check_paths(&ctx, false);
        left.retain(|(_, fd)| !pidfd::is_dead(fd));
    }
    outputs.end(&mut ctx);
    Ok(())
}

/// Is somebody active who is not the one that left this process behind? It took the movers' lock
/// before this process could, and knows nothing of it.
fn is_active_again(ctx: &Ctx, bequest: &Bequest) -> bool {
    let holder = sys::lock::holder(&lock_path(&ctx.config)).ok().flatten();
    holder.is_some() && holder != bequest.active.map(|active| active.pid)
}

fn watch_left(ctx: &Ctx, left: &[(Name, Identity)]) -> Vec<(Name, OwnedFd)> {
    let mut watched = Vec::new();
    for (name, process) in left {
        if let Ok(Verified::Alive(fd)) = pidfd::open_verified(process) {
            let _ = ctx.watch(&fd, Source::Leader(watched.len()));
            watched.push((name.clone(), fd));
        }
    }
    watched
}
