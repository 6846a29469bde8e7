//! Starting a server: the child waits at its gate until its identity is on record.
//!
//! Must not wait for the child. What it has to say (ready, or what failed) comes through the
//! gate's socket; whether it lives, through its pidfd.

use super::child::{self, Pointers, Stepped};
use super::journald::JournalStream;
use super::rights::{Rights, Trouble};
use super::server_lock;
pub use super::twin::{TwinSpec, spawn_twin};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, getpid, getppid, setsid};
use std::convert::Infallible;
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
    let sockets = spec.sockets.iter().copied().zip(FIRST..).collect::<Vec<_>>();
    let free = FIRST.saturating_add(i32::try_from(sockets.len()).map_err(io::Error::other)?);
    let ready = spec.ready.as_ref().map_or(FIRST, |(number, _)| number.saturating_add(1));
    let mut plan = Plan {
        spec,
        argv: Pointers::new(&spec.argv),
        env: Pointers::with_pids(&spec.env, &spec.pid_variables),
        sockets,
        free,
        gate: child_gate.as_raw_fd(),
        gate_at: free.max(ready),
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
    let mut message = [0; WAITS_BYTES];
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

/// What the child works from. All of its methods run in the child: see the head of `child`.
struct Plan<'a> {
    spec: &'a ServerSpec,
    argv: Pointers<'a>,
    env: Pointers<'a>,
    /// (descriptor in the parent, its number here)
    sockets: Vec<(RawFd, RawFd)>,
    /// The number behind the sockets.
    free: RawFd,
    gate: RawFd,
    /// Its number here.
    gate_at: RawFd,
    parent: i32,
}

impl Plan<'_> {
    fn run(&mut self) -> Infallible {
        // The first act: as long as this child holds copies of the parent's descriptors, it
        // keeps dead connections and other children's gates open. What is inherited goes with
        // them, so it is copied before.
        if self.inherit_output().is_err() || self.keep_own().is_err() {
            child::exit_now(127);
        }
        self.env.write_pids();
        if let Err((step, Trouble { errno, detail })) = self.get_ready() {
            self.fail(step, errno, detail);
        }
        self.tell(&[READY]);
        self.wait_at_gate();
        // Behind the gate: a child that is not on record yet must not keep anybody waiting.
        if let Err(errno) = self.take_lock() {
            self.fail(Step::Lock, errno, 0);
        }
        if !self.spec.dies_with_parent {
            // It survives exec, and would end the server together with its node manager.
            let _ = set_pdeathsig(None);
        }
        let (errno, program) = self.exec();
        self.fail(Step::Exec, errno, program)
    }

    /// Its sockets and the gate get their numbers; all else is closed.
    fn keep_own(&mut self) -> Stepped {
        // First out of the way of all numbers: one's number may be where another one is.
        let above = self.gate_at.saturating_add(1);
        for (source, _) in &mut self.sockets {
            *source = child::copy_above(*source, above)?;
        }
        let gate = child::copy_above(self.gate, above)?;
        for (source, number) in &self.sockets {
            child::copy_to(*source, *number)?;
        }
        child::move_to(gate, self.gate_at)?;
        if self.free < self.gate_at {
            child::close_all(self.free as libc::c_uint, self.gate_at as libc::c_uint - 1);
        }
        child::close_all(above as libc::c_uint, libc::c_uint::MAX);
        Ok(())
    }

    fn get_ready(&self) -> Result<(), (Step, Trouble)> {
        let at = |step| move |errno: i32| (step, Trouble::from(errno));
        let number = |e: Errno| e as i32;
        // Where /proc/PID/environ can't be read, this tells a child at its gate from a server.
        set_name(AT_GATE).map_err(number).map_err(at(Step::Prepare))?;
        if self.spec.is_unprepared {
            return Err(at(Step::Prepare)(libc::ENODATA));
        }
        // The kernel may take some milliseconds to move it: here nobody waits for that.
        if let Some((procs, is_needed)) = &self.spec.cgroup
            && let Err(errno) = child::write_to(procs, b"0")
            && *is_needed
        {
            return Err(at(Step::Cgroup)(errno));
        }
        setsid().map_err(number).map_err(at(Step::Setsid))?;
        self.die_with_parent().map_err(at(Step::DeathSignal))?;
        child::reset_signals().map_err(at(Step::Signals))?;
        umask(Mode::from_bits_truncate(self.spec.umask));
        let rights = &self.spec.rights;
        rights.set_oom_score().map_err(at(Step::OomScore))?;
        // Before the limits, which may leave no descriptor for it, and before the change of user,
        // who need not reach what belongs to the node manager.
        let null = |target| child::open_as(c"/dev/null", OFlag::O_RDWR, Mode::empty(), target);
        if self.spec.stdin.is_none() {
            null(0).map_err(at(Step::Stdin))?;
        }
        self.open_output().map_err(at(Step::Output))?;
        self.open_ready().map_err(at(Step::Ready))?;
        rights.set_limits().map_err(|trouble| (Step::Limits, trouble))?;
        rights.set_nice().map_err(at(Step::Nice))?;
        if rights.credentials.is_some() {
            rights.set_groups().map_err(at(Step::Groups))?;
            rights.set_group().map_err(at(Step::Group))?;
            rights.set_user().map_err(at(Step::User))?;
            // The kernel forgets it with the old credentials.
            self.die_with_parent().map_err(at(Step::DeathSignal))?;
        }
        chdir(self.spec.cwd.as_c_str()).map_err(number).map_err(at(Step::Chdir))?;
        rights.keep_from_new_privileges().map_err(at(Step::NoNewPrivileges))
    }

    fn die_with_parent(&self) -> Stepped {
        set_pdeathsig(Signal::SIGKILL).map_err(|e| e as i32)?;
        // A parent that died before the line above sends no signal any more.
        if getppid().as_raw() != self.parent {
            child::kill_self();
        }
        Ok(())
    }

    fn take_lock(&self) -> Stepped {
        let Some(path) = &self.spec.lock else { return Ok(()) };
        server_lock::take(path, |device, inode| {
            let mut message = [0; WAITS_BYTES];
            let all = [WAITS].into_iter().chain(device.to_le_bytes()).chain(inode.to_le_bytes());
            message.iter_mut().zip(all).for_each(|(byte, value)| *byte = value);
            self.tell(&message);
        })
    }

    fn inherit_output(&self) -> Stepped {
        if let Some(fd) = self.spec.stdin {
            child::copy_to(fd, 0)?;
        }
        if let Stdout::Inherited(fd) = &self.spec.stdout {
            child::copy_to(*fd, 1)?;
        }
        if let Some(Stdout::Inherited(fd)) = &self.spec.stderr {
            child::copy_to(*fd, 2)?;
        }
        Ok(())
    }

    fn open_output(&self) -> Stepped {
        let owner = self.spec.rights.output_owner;
        open_as(&self.spec.stdout, 1, owner)?;
        match &self.spec.stderr {
            Some(stderr) => open_as(stderr, 2, owner),
            None => child::copy_to(1, 2),
        }
    }

    fn open_ready(&self) -> Stepped {
        let Some((number, path)) = &self.spec.ready else { return Ok(()) };
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW;
        child::open_as(path, flags, Mode::empty(), *number)?;
        match self.spec.rights.output_owner {
            // So that it can open /dev/fd/N.
            Some(uid) => child::give_to(*number, uid),
            None => Ok(()),
        }
    }

    /// Sends a message; if that fails the parent is dead, and the gate's end of file says so.
    fn tell(&self, message: &[u8]) {
        let _ = send(self.gate_at, message, MsgFlags::MSG_NOSIGNAL);
    }

    fn fail(&self, step: Step, errno: i32, detail: usize) -> ! {
        let [e0, e1, e2, e3] = errno.to_le_bytes();
        let [d0, d1, d2, d3] = (detail as u32).to_le_bytes();
        let message: [u8; FAILED_BYTES] = [FAILED, step as u8, e0, e1, e2, e3, d0, d1, d2, d3];
        self.tell(&message);
        child::exit_now(127)
    }

    fn wait_at_gate(&self) {
        let mut byte = [0];
        loop {
            match recv(self.gate_at, &mut byte, MsgFlags::empty()) {
                Ok(1) if byte == [OPEN] => return,
                Err(Errno::EINTR) => {}
                // The parent is gone or has given up: nothing may run.
                _ => child::kill_self(),
            }
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

/// `owner`: so that it can open /dev/stdout, which opens the FIFO again, the FIFO is given to it.
fn open_as(output: &Stdout, target: RawFd, owner: Option<u32>) -> Stepped {
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
    child::open_as(path, flags, mode, target)?;
    match (output, owner) {
        (Stdout::Fifo(_), Some(uid)) => child::give_to(target, uid),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
