//! Signals as bytes: the handler writes one, the loop reads it like anything else.
//!
//! Must not do anything in a handler. One socket per signal, because a byte carries no number.

use super::ctx::Ctx;
use super::token::Source;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::low_level::pipe;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;

/// The signals that mean something to a twin.
const SIGNALS: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGUSR1];

/// One socket per signal.
pub struct Signals {
    streams: Vec<(i32, UnixStream)>,
    is_unread: bool,
}

impl Signals {
    /// # Errors
    /// No descriptor is left, or a handler can't be set.
    pub fn new(ctx: &Ctx) -> io::Result<Signals> {
        let signals = Signals::of(&SIGNALS)?;
        for stream in signals.streams() {
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
        Ok(Signals { streams, is_unread: false })
    }

    /// The sockets, to be watched.
    pub fn streams(&self) -> impl Iterator<Item = &UnixStream> {
        self.streams.iter().map(|(_, stream)| stream)
    }

    /// A socket could not be read: `take` has to be called again, no event will say so.
    pub fn is_unread(&self) -> bool {
        self.is_unread
    }

    /// The signals that came since the last time, each once however often it came.
    pub fn take(&mut self) -> Vec<i32> {
        let mut came = Vec::new();
        self.is_unread = false;
        for (number, stream) in &mut self.streams {
            let mut buffer = [0; 64];
            let mut is_there = false;
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(_) => is_there = true,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.is_unread |= error.kind() != ErrorKind::WouldBlock;
                        break;
                    }
                }
            }
            if is_there {
                came.push(*number);
            }
        }
        came
    }
}
