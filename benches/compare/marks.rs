//! The FIFO into which every server writes its PID and the time as its first act.
//!
//! Must not wake up for every mark: the times are in the marks, so reading late costs no accuracy
//! and takes no processor from those that are measured.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a mark: PID and time, 8 bytes each.
const MARK: usize = 16;
/// Room for the marks of 65,536 servers.
const PIPE_BYTES: i32 = 1 << 20;
const PAUSE: Duration = Duration::from_micros(500);

/// A server said that it is there.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub pid: i32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at_ns: u64,
}

pub struct Marks {
    fifo: File,
    left: Vec<u8>,
}

impl Marks {
    pub fn new(dir: &Path) -> io::Result<Marks> {
        let path = dir.join("marks");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
        let flags = OFlag::O_NONBLOCK.bits();
        let fifo = File::options().read(true).write(true).custom_flags(flags).open(&path)?;
        // A smaller one does too: it is emptied all the time.
        let _ = fcntl(&fifo, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        Ok(Marks { fifo, left: Vec::new() })
    }

    /// What came since.
    pub fn take(&mut self) -> Vec<Mark> {
        let mut bytes = [0; 1 << 16];
        while let Ok(count) = self.fifo.read(&mut bytes) {
            self.left.extend_from_slice(&bytes[..count]);
        }
        let whole = self.left.len() / MARK * MARK;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let read = |mark: &[u8]| Mark {
            pid: i32::try_from(number(&mark[..8])).unwrap_or_default(),
            at_ns: number(&mark[8..]),
        };
        self.left.drain(..whole).collect::<Vec<u8>>().chunks(MARK).map(read).collect()
    }

    /// Waits for `count` marks; gives fewer when the limit is over.
    pub fn wait(&mut self, count: usize, limit: Duration) -> Vec<Mark> {
        let end = Instant::now() + limit;
        let mut all = self.take();
        while all.len() < count && Instant::now() < end {
            std::thread::sleep(PAUSE);
            all.extend(self.take());
        }
        all
    }
}

/// CLOCK_MONOTONIC, nanoseconds.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or_default()
}

/// Milliseconds between two times.
pub fn ms_between(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e6
}

/// The value below which that many percent of them are; NaN when there is none.
pub fn quantile(times: &[f64], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(at).copied().unwrap_or(f64::NAN)
}
