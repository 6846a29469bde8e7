//! Signals as flags: the handler sets one and writes a byte, which wakes the loop.
//!
//! Must not do anything in a handler, nor trust the byte: a socket may have no memory for it, and the
//! signal must not be lost for that. The flag is what counts; each turn of a loop looks at them.

use super::ctx::Ctx;
use super::token::Source;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use std::io::{self, ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signals that mean something to a twin.
const SIGNALS: [i32; 4] = [SIGTERM, SIGINT, SIGHUP, SIGUSR1];

struct Signal {
    number: i32,
    came: Arc<AtomicBool>,
    wakes: UnixStream,
}

/// The signals that are waited for.
pub struct Signals(Vec<Signal>);

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
        let mut signals = Vec::new();
        for number in numbers {
            let (wakes, write) = UnixStream::pair()?;
            wakes.set_nonblocking(true)?;
            let came = Arc::new(AtomicBool::new(false));
            // In this order: who is woken finds the flag.
            flag::register(*number, came.clone())?;
            pipe::register(*number, write)?;
            signals.push(Signal { number: *number, came, wakes });
        }
        Ok(Signals(signals))
    }

    /// The sockets, to be watched.
    pub fn streams(&self) -> impl Iterator<Item = &UnixStream> {
        self.0.iter().map(|signal| &signal.wakes)
    }

    /// One came that was not taken; an event may never say so.
    pub fn is_waiting(&self) -> bool {
        self.0.iter().any(|signal| signal.came.load(Ordering::SeqCst))
    }

    /// The signals that came since the last time, each once however often it came.
    pub fn take(&mut self) -> Vec<i32> {
        let mut came = Vec::new();
        for signal in &mut self.0 {
            drain(&mut signal.wakes);
            if signal.came.swap(false, Ordering::SeqCst) {
                came.push(signal.number);
            }
        }
        came
    }
}

/// Makes room for further bytes.
fn drain(stream: &mut UnixStream) {
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, raise};

    #[test]
    fn a_signal_is_not_lost_when_its_byte_is() {
        let mut signals = Signals::of(&[libc::SIGURG]).unwrap();
        assert!(!signals.is_waiting() && signals.take().is_empty());
        // Nobody can write to it any more: the handler's byte is lost.
        signals.0[0].wakes.shutdown(std::net::Shutdown::Both).unwrap();
        raise(Signal::SIGURG).unwrap();
        assert!(signals.is_waiting());
        assert_eq!(signals.take(), [libc::SIGURG]);
        assert!(!signals.is_waiting() && signals.take().is_empty());
    }
}
