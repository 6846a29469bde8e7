//! Signals as bytes: the handler writes one, the loop reads it like anything else.
//!
//! Must not do anything in a handler. One socket per signal, because a byte carries no number.

use super::ctx::Ctx;
use super::token::Source;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

/// The signals that mean something to a twin.
const SIGNALS: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGUSR1];

/// One socket per signal.
pub struct Signals(Vec<(i32, UnixStream)>);

impl Signals {
    /// # Errors
    /// No descriptor is left, or a handler can't be set.
    pub fn new(ctx: &Ctx) -> io::Result<Signals> {
        let signals = Signals::of(&SIGNALS)?;
        for (_, stream) in &signals.0 {
            ctx.watch(stream, Source::Signals)?;
        }
        Ok(signals)
    }

    /// Handlers for these signals.
    ///
    /// # Errors
    /// No descriptor is left, or a handler can't be set.
    pub fn of(numbers: &[i32]) -> io::Result<Signals> {
        let mut streams = Vec::new();
        for number in numbers {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            pipe::register(*number, write)?;
            streams.push((*number, read));
        }
        Ok(Signals(streams))
    }

    /// The sockets, to be watched.
    pub fn streams(&self) -> impl Iterator<Item = &UnixStream> {
        self.0.iter().map(|(_, stream)| stream)
    }

    /// The signals that came since the last time, each once however often it came.
    pub fn take(&mut self) -> Vec<i32> {
        let mut came = Vec::new();
        for (number, stream) in &mut self.0 {
            let mut buffer = [0; 64];
            let mut is_there = false;
            while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {
                is_there = true;
            }
            if is_there {
                came.push(*number);
            }
        }
        came
    }
}
