//! Starting a server: the child waits at its gate until its identity is on record.
//!
//! Must not wait for the child. What it has to say (ready, or what failed) comes through the
//! gate's socket; whether it lives, through its pidfd.

use super::child::{self, Pointers, Stepped};
use super::journald::JournalStream;
pub use super::twin::{TwinSpec, spawn_twin};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, getpid, getppid, setsid, write};
use std::convert::Infallible;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// The number of the gate's descriptor in the child.
const GATE: RawFd = 3;
/// The byte that opens the gate.
const OPEN: u8 = b'G';
/// The child's word that it waits at the gate.
const READY: u8 = b'R';
/// The first byte of a failure: then step (1 byte), error number and program (4 bytes each).
const FAILED: u8 = b'F';
const FAILED_BYTES: usize = 10;

/// Where a server's output goes (descriptors 1 and 2).
#[derive(Clone, Debug)]
pub enum Stdout {
    /// A FIFO, opened by the server itself, blocking, for reading and writing: it never lacks a
    /// reader, and what the server does to its end touches nobody else's.
    Fifo(CString),
    /// A file that is added to, made with mode 0644 less the umask.
    File(CString),
    /// A stream of journald.
    Journal(JournalStream),
    /// A copy of this descriptor of the node manager's.
    Inherited(RawFd),
    /// Nowhere.
    Null,
}

/// All that a server's child needs; what is not here it does not get.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    pub argv: Vec<CString>,
    /// Paths that are tried in order, as a search in PATH does.
    pub programs: Vec<CString>,
    /// `NAME=value` entries.
    pub env: Vec<CString>,
    pub cwd: CString,
    pub stdout: Stdout,
    /// `None`: where standard output goes.
    pub stderr: Option<Stdout>,
    pub umask: u32,
    /// RLIMIT_NOFILE (soft, hard); `None` leaves the node manager's own.
    pub nofile: Option<(u64, u64)>,
    /// The text for /proc/self/oom_score_adj; `None` leaves the node manager's own.
    pub oom_score_adj: Option<CString>,
}

/// A child that waits at its gate.
#[derive(Debug)]
pub struct Gated {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Closing it (also by the death of this process) ends the child without exec.
    pub gate: OwnedFd,
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Setsid,
    DeathSignal,
    Signals,
    Limits,
    OomScore,
    Chdir,
    Stdin,
    Output,
    Exec,
}

const STEPS: [Step; 9] = [
    Step::Setsid,
    Step::DeathSignal,
    Step::Signals,
    Step::Limits,
    Step::OomScore,
    Step::Chdir,
    Step::Stdin,
    Step::Output,
    Step::Exec,
];

impl Step {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Step::Setsid => "setsid",
            Step::DeathSignal => "death signal",
            Step::Signals => "signals",
            Step::Limits => "limits",
            Step::OomScore => "oom score",
            Step::Chdir => "chdir",
            Step::Stdin => "stdin",
            Step::Output => "output",
            Step::Exec => "exec",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came through the gate's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The child waits at the gate.
    Ready,
    /// A step failed with this error number, and the child ends with 127. `program`: the index
    /// in `programs` that the error is about (exec only).
    Failed { step: Step, errno: i32, program: usize },
    /// The child's end is closed. After `Ready` and the opened gate: the server runs, or the
    /// child died; its pidfd tells.
    Closed,
}

/// Forks a child that gets ready, says so, and waits at its gate.
///
/// Until the gate opens the child dies with the *thread* that called this.
///
/// # Errors
/// EAGAIN, ENOMEM, EMFILE, ...: there is no child then. InvalidInput without a program.
pub fn spawn_server(spec: &ServerSpec) -> io::Result<Gated> {
    if spec.programs.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (gate, child_gate) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let plan = Plan {
        spec,
        argv: Pointers::new(&spec.argv),
        env: Pointers::new(&spec.env),
        gate: child_gate.as_raw_fd(),
        parent: getpid().as_raw(),
    };
    // SAFETY: `Plan::run` only makes system calls with what was prepared above.
    let (pid, pidfd) = unsafe { child::fork(|| plan.run()) }?;
    Ok(Gated { pid, pidfd, gate })
}

/// The next news of a child, without waiting; `None` while there is none.
///
/// # Errors
/// Those of recv(2); InvalidData for a message that no child sends.
pub fn read_news(gate: &OwnedFd) -> io::Result<Option<News>> {
    let mut message = [0; FAILED_BYTES];
    let mut receive = || recv(gate.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT);
    let received = match receive() {
        // The child died before it read the byte that opens the gate. The kernel says so once,
        // and before it hands out what the child had said.
        Err(Errno::ECONNRESET) => receive(),
        other => other,
    };
    let length = match received {
        Ok(length) => length,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(Errno::ECONNRESET) => 0,
        Err(e) => return Err(e.into()),
    };
    match message.get(..length) {
        Some([]) => Ok(Some(News::Closed)),
        Some([READY]) => Ok(Some(News::Ready)),
        Some([FAILED, step, e0, e1, e2, e3, p0, p1, p2, p3]) => {
            let step = STEPS.get(usize::from(*step)).ok_or(io::ErrorKind::InvalidData)?;
            let errno = i32::from_le_bytes([*e0, *e1, *e2, *e3]);
            let program = u32::from_le_bytes([*p0, *p1, *p2, *p3]) as usize;
            Ok(Some(News::Failed { step: *step, errno, program }))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Lets the child go on to exec. Only to be called when its identity is on record.
///
/// # Errors
/// EPIPE when the child is dead.
pub fn open_gate(gate: &OwnedFd) -> io::Result<()> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    Ok(send(gate.as_raw_fd(), &[OPEN], flags).map(drop)?)
}

/// What the child works from. All of its methods run in the child: see the head of `child`.
struct Plan<'a> {
    spec: &'a ServerSpec,
    argv: Pointers<'a>,
    env: Pointers<'a>,
    gate: RawFd,
    parent: i32,
}

impl Plan<'_> {
    fn run(&self) -> Infallible {
        // The first act: as long as this child holds copies of the parent's descriptors, it
        // keeps dead connections and other children's gates open. What is inherited goes with
        // them, so it is copied before.
        if self.inherit_output().is_err() || child::move_to(self.gate, GATE).is_err() {
            child::exit_now(127);
        }
        child::close_all(GATE as libc::c_uint + 1, libc::c_uint::MAX);
        if let Err((step, errno)) = self.get_ready() {
            fail(step, errno, 0);
        }
        tell(&[READY]);
        wait_at_gate();
        // It survives exec, and would end the server together with its node manager.
        let _ = set_pdeathsig(None);
        let (errno, program) = self.exec();
        fail(Step::Exec, errno, program)
    }

    fn get_ready(&self) -> Result<(), (Step, i32)> {
        let at = |step| move |errno| (step, errno);
        let number = |e: Errno| e as i32;
        setsid().map_err(number).map_err(at(Step::Setsid))?;
        set_pdeathsig(Signal::SIGKILL).map_err(number).map_err(at(Step::DeathSignal))?;
        // A parent that died before the line above sends no signal any more.
        if getppid().as_raw() != self.parent {
            child::kill_self();
        }
        child::reset_signals().map_err(at(Step::Signals))?;
        umask(Mode::from_bits_truncate(self.spec.umask));
        if let Some((soft, hard)) = self.spec.nofile {
            let set = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
            set.map_err(number).map_err(at(Step::Limits))?;
        }
        self.set_oom_score().map_err(at(Step::OomScore))?;
        chdir(self.spec.cwd.as_c_str()).map_err(number).map_err(at(Step::Chdir))?;
        let null = |target| child::open_as(c"/dev/null", OFlag::O_RDWR, Mode::empty(), target);
        null(0).map_err(at(Step::Stdin))?;
        self.open_output().map_err(at(Step::Output))
    }

    fn set_oom_score(&self) -> Stepped {
        let Some(score) = &self.spec.oom_score_adj else { return Ok(()) };
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(c"/proc/self/oom_score_adj", flags, Mode::empty());
        let file = file.map_err(|e| e as i32)?;
        write(file.as_fd(), score.as_bytes()).map(drop).map_err(|e| e as i32)
    }

    fn inherit_output(&self) -> Stepped {
        if let Stdout::Inherited(fd) = &self.spec.stdout {
            child::copy_to(*fd, 1)?;
        }
        if let Some(Stdout::Inherited(fd)) = &self.spec.stderr {
            child::copy_to(*fd, 2)?;
        }
        Ok(())
    }

    fn open_output(&self) -> Stepped {
        open_as(&self.spec.stdout, 1)?;
        match &self.spec.stderr {
            Some(stderr) => open_as(stderr, 2),
            None => child::copy_to(1, 2),
        }
    }

    /// The error number, and which program it is about.
    fn exec(&self) -> (i32, usize) {
        let mut refused = None;
        let mut last = (libc::ENOENT, 0);
        for (index, program) in self.spec.programs.iter().enumerate() {
            last = (child::exec(program, &self.argv, &self.env), index);
            match last.0 {
                libc::ENOENT | libc::ENOTDIR => {}
                // There, but not to be run: the more useful answer if none of the rest is.
                libc::EACCES => refused = refused.or(Some(last)),
                _ => return last,
            }
        }
        refused.unwrap_or(last)
    }
}

fn open_as(output: &Stdout, target: RawFd) -> Stepped {
    let (path, flags, mode) = match output {
        Stdout::Fifo(path) => (path.as_c_str(), OFlag::O_RDWR | OFlag::O_NOFOLLOW, Mode::empty()),
        Stdout::File(path) => (
            path.as_c_str(),
            OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT,
            Mode::from_bits_truncate(0o644),
        ),
        Stdout::Null => (c"/dev/null", OFlag::O_RDWR, Mode::empty()),
        Stdout::Journal(stream) => return stream.connect_as(target),
        // It is there since this child's first act.
        Stdout::Inherited(_) => return Ok(()),
    };
    child::open_as(path, flags, mode, target)
}

/// Sends a message; if that fails the parent is dead, and the gate's end of file says so.
fn tell(message: &[u8]) {
    let _ = send(GATE, message, MsgFlags::MSG_NOSIGNAL);
}

fn fail(step: Step, errno: i32, program: usize) -> ! {
    let [e0, e1, e2, e3] = errno.to_le_bytes();
    let [p0, p1, p2, p3] = (program as u32).to_le_bytes();
    tell(&[FAILED, step as u8, e0, e1, e2, e3, p0, p1, p2, p3]);
    child::exit_now(127)
}

fn wait_at_gate() {
    let mut byte = [0];
    loop {
        match recv(GATE, &mut byte, MsgFlags::empty()) {
            Ok(1) if byte == [OPEN] => return,
            Err(Errno::EINTR) => {}
            // The parent is gone or has given up: nothing may run.
            _ => child::kill_self(),
        }
    }
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
