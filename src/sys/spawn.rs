//! Starting a server: the child waits at its gate until its identity is on record.
//!
//! Must not wait for the child. What it has to say (ready, or what failed) comes through the
//! gate's socket; whether it lives, through its pidfd.

mod plan;

use super::journald::JournalStream;
use super::rights::Rights;
pub use super::twin::{TwinSpec, spawn_twin};
use super::{low, room};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use plan::Plan;
use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The first number that a server's own descriptors may have; behind them is the gate's.
const FIRST: RawFd = 3;
/// The byte that opens the gate.
const OPEN: u8 = b'G';
/// The child's word that it waits at the gate.
const READY: u8 = b'R';
/// The first byte of the child's word that it waits for its lock: then the device and the inode of
/// the lock's file (8 bytes each).
const WAITS: u8 = b'W';
const WAITS_BYTES: usize = 17;
/// The first byte of a failure: then step (1 byte), error number and detail (4 bytes each).
const FAILED: u8 = b'F';
const FAILED_BYTES: usize = 10;
/// What a child is called until its exec, in 15 bytes. No program's file name has a slash.
const AT_GATE: &CStr = c"node/at-gate";

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
    /// Its standard input is a copy of this descriptor; `None`: nothing.
    pub stdin: Option<RawFd>,
    pub stdout: Stdout,
    /// `None`: where standard output goes.
    pub stderr: Option<Stdout>,
    pub umask: u32,
    pub rights: Rights,
    /// The file whose flock(2) it gets before its exec, and keeps.
    pub lock: Option<CString>,
    /// It dies with this process, also after its exec.
    pub dies_with_parent: bool,
    /// Sockets that it gets as the descriptors from 3 on.
    pub sockets: Vec<RawFd>,
    /// The FIFO to which it writes that it is ready, and the descriptor that it has there.
    pub ready: Option<(RawFd, CString)>,
    /// Variables that get its own PID.
    pub pid_variables: Vec<&'static str>,
    /// The file through which it enters its cgroup; without limits it may fail to.
    pub cgroup: Option<(CString, bool)>,
    /// Something could not be prepared: the child fails at once, so that this start counts and
    /// ends as any other one that fails.
    pub is_unprepared: bool,
}

/// A child that waits at its gate.
#[derive(Debug)]
pub struct Gated {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Closing it (also by the death of this process) ends the child without exec.
    pub gate: OwnedFd,
}

impl ServerSpec {
    /// It gets no descriptor of the node manager's but its gate.
    fn takes_nothing_along(&self) -> bool {
        let is_inherited = |output: &Stdout| matches!(output, Stdout::Inherited(_));
        let is_output =
            is_inherited(&self.stdout) || self.stderr.as_ref().is_some_and(is_inherited);
        self.stdin.is_none() && !is_output && self.sockets.is_empty()
    }
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Prepare,
    Cgroup,
    Setsid,
    DeathSignal,
    Signals,
    OomScore,
    Stdin,
    Output,
    Ready,
    Limits,
    Nice,
    Groups,
    Group,
    User,
    Chdir,
    NoNewPrivileges,
    Lock,
    Exec,
}

const STEPS: [Step; 18] = [
    Step::Prepare,
    Step::Cgroup,
    Step::Setsid,
    Step::DeathSignal,
    Step::Signals,
    Step::OomScore,
    Step::Stdin,
    Step::Output,
    Step::Ready,
    Step::Limits,
    Step::Nice,
    Step::Groups,
    Step::Group,
    Step::User,
    Step::Chdir,
    Step::NoNewPrivileges,
    Step::Lock,
    Step::Exec,
];

impl Step {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Step::Prepare => "preparation",
            Step::Cgroup => "cgroup",
            Step::Setsid => "setsid",
            Step::DeathSignal => "death signal",
            Step::Signals => "signals",
            Step::OomScore => "oom score",
            Step::Stdin => "stdin",
            Step::Output => "output",
            Step::Ready => "descriptor of readiness",
            Step::Limits => "limits",
            Step::Nice => "nice",
            Step::Groups => "groups",
            Step::Group => "group",
            Step::User => "user",
            Step::Chdir => "chdir",
            Step::NoNewPrivileges => "no new privileges",
            Step::Lock => "lock",
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
    /// It passed the gate, and waits for its lock, which somebody else holds.
    WaitsForLock { device: u64, inode: u64 },
    /// A step failed with this error number, and the child ends with 127. `detail`: the index in
    /// `programs` or in the limits that the error is about (exec and limits only).
    Failed { step: Step, errno: i32, detail: usize },
    /// The child's end is closed. After `Ready` and the opened gate: the server runs, or the
    /// child died; its pidfd tells.
    Closed,
}

/// Makes a child that gets ready, says so, and waits at its gate.
///
/// Until the gate opens the child dies with the *thread* that called this.
///
/// # Errors
/// EAGAIN, ENOMEM, EMFILE, ...: there is no child then. InvalidInput without a program.
pub fn spawn_server(spec: ServerSpec) -> io::Result<Gated> {
    // What belongs to the memory is the parent's too (`room`), also its end for lack of memory in
    // the child's cgroup.
    let rights = &spec.rights;
    let is_apart =
        rights.credentials.is_some() || rights.oom_score_adj.is_some() || spec.cgroup.is_some();
    spawn(spec, !is_apart)
}

/// `shares`: the child shares this process's memory until its exec, instead of getting a copy.
fn spawn(spec: ServerSpec, shares: bool) -> io::Result<Gated> {
    if spec.programs.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (gate, child_gate) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let place = (shares && spec.takes_nothing_along()).then(|| low::take(&child_gate)).flatten();
    let number = place.as_ref().map_or(child_gate.as_raw_fd(), low::Place::number);
    let plan = Plan::new(spec, number, place.as_ref().map(low::Place::way))?;
    let (pid, pidfd) = room::start(plan, shares, place)?;
    Ok(Gated { pid, pidfd, gate })
}

/// The next news of a child, without waiting; `None` while there is none.
///
/// # Errors
/// Those of recv(2); InvalidData for a message that no child sends.
pub fn read_news(gate: &OwnedFd) -> io::Result<Option<News>> {
    let mut message = [0; WAITS_BYTES];
    let mut receive = || recv(gate.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT);
    let received = match receive() {
        // The child died before it read the byte that opens the gate. The kernel says so once,
        // and before it hands out what the child had said.
        Err(Errno::ECONNRESET) => receive(),
        other => other,
    };
    // Who says something has a table of descriptors of its own, and who is at its end has no room.
    if received.is_ok() {
        room::sweep();
    }
    let length = match received {
        Ok(length) => length,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(Errno::ECONNRESET) => 0,
        Err(e) => return Err(e.into()),
    };
    match message.get(..length) {
        Some([]) => Ok(Some(News::Closed)),
        Some([READY]) => Ok(Some(News::Ready)),
        Some([WAITS, rest @ ..]) if rest.len() == WAITS_BYTES - 1 => {
            let number = |at: usize| {
                let bytes = rest.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u64::from_le_bytes)
            };
            Ok(Some(News::WaitsForLock { device: number(0), inode: number(8) }))
        }
        Some([FAILED, step, e0, e1, e2, e3, d0, d1, d2, d3]) => {
            let step = STEPS.get(usize::from(*step)).ok_or(io::ErrorKind::InvalidData)?;
            let errno = i32::from_le_bytes([*e0, *e1, *e2, *e3]);
            let detail = u32::from_le_bytes([*d0, *d1, *d2, *d3]) as usize;
            Ok(Some(News::Failed { step: *step, errno, detail }))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Whether a process of this name (`process::comm`) is a child that has not come to its exec.
pub fn is_at_gate(comm: &str) -> bool {
    AT_GATE.to_bytes() == comm.as_bytes()
}

/// Lets the child go on to exec. Only to be called when its identity is on record.
///
/// # Errors
/// EPIPE when the child is dead.
pub fn open_gate(gate: &OwnedFd) -> io::Result<()> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    Ok(send(gate.as_raw_fd(), &[OPEN], flags).map(drop)?)
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
