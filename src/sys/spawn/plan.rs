//! What a server's child does between its clone and its exec: all of it runs in the child, and
//! waits at the gate.
//!
//! Must not allocate, lock, panic or use the C library: see the head of `child`.

use super::*;
use crate::sys::child::{self, Pointers, Stepped};
use crate::sys::rights::Trouble;
use crate::sys::{raw, server_lock};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::getpid;
use std::convert::Infallible;
use std::mem;

/// What the child works from. All of its methods but `new` run in the child: see the head of
/// `child`.
pub(super) struct Plan {
    /// Without argv and env.
    spec: ServerSpec,
    argv: Pointers,
    env: Pointers,
    /// (descriptor in the parent, its number here)
    sockets: Vec<(RawFd, RawFd)>,
    /// The number behind the sockets.
    free: RawFd,
    gate: RawFd,
    /// Its number here.
    gate_at: RawFd,
    /// How it leaves the parent's table of descriptors; `None`: what it has is a copy.
    way: Option<low::Way>,
    parent: i32,
}

impl room::Plan for Plan {
    fn run(&mut self) -> Infallible {
        // The first act: as long as this child holds copies of the parent's descriptors, it
        // keeps dead connections and other children's gates open. What is inherited goes with
        // them, so it is copied before.
        let left = self.way.as_ref().map_or(Ok(()), low::Way::leave);
        if left.is_err() || self.inherit_output().is_err() || self.keep_own().is_err() {
            // Without a parent it has not failed: it dies as it would at its gate.
            if raw::parent() != self.parent {
                child::kill_self();
            }
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
            let _ = raw::set_death_signal(0);
        }
        let (errno, program) = self.exec();
        self.fail(Step::Exec, errno, program)
    }
}

impl Plan {
    pub(super) fn new(
        mut spec: ServerSpec,
        gate: RawFd,
        way: Option<low::Way>,
    ) -> io::Result<Plan> {
        let sockets = spec.sockets.iter().copied().zip(FIRST..).collect::<Vec<_>>();
        let free = FIRST.saturating_add(i32::try_from(sockets.len()).map_err(io::Error::other)?);
        let ready = spec.ready.as_ref().map_or(FIRST, |(number, _)| number.saturating_add(1));
        Ok(Plan {
            argv: Pointers::new(mem::take(&mut spec.argv)),
            env: Pointers::with_pids(mem::take(&mut spec.env), &spec.pid_variables),
            sockets,
            free,
            gate,
            way,
            gate_at: free.max(ready),
            parent: getpid().as_raw(),
            spec,
        })
    }

    /// Its sockets and the gate get their numbers; all else is closed.
    fn keep_own(&mut self) -> Stepped {
        // First out of the way of all numbers: one's number may be where another one is.
        let above = self.gate_at.saturating_add(1);
        for (source, _) in &mut self.sockets {
            *source = raw::dup_above(*source, above)?;
        }
        let gate = raw::dup_above(self.gate, above)?;
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
        // Where /proc/PID/environ can't be read, this tells a child at its gate from a server.
        raw::set_name(AT_GATE).map_err(at(Step::Prepare))?;
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
        raw::new_session().map_err(at(Step::Setsid))?;
        self.die_with_parent().map_err(at(Step::DeathSignal))?;
        child::reset_signals().map_err(at(Step::Signals))?;
        raw::umask(self.spec.umask);
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
        raw::chdir(&self.spec.cwd).map_err(at(Step::Chdir))?;
        rights.keep_from_new_privileges().map_err(at(Step::NoNewPrivileges))
    }

    fn die_with_parent(&self) -> Stepped {
        raw::set_death_signal(libc::SIGKILL)?;
        // A parent that died before the line above sends no signal any more.
        if raw::parent() != self.parent {
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
            Some(uid) => raw::give_to(*number, uid),
            None => Ok(()),
        }
    }

    /// Sends a message; if that fails the parent is dead, and the gate's end of file says so.
    fn tell(&self, message: &[u8]) {
        let _ = raw::send(self.gate_at, message);
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
            match raw::receive(self.gate_at, &mut byte) {
                Ok(1) if byte == [OPEN] => return,
                Err(libc::EINTR) => {}
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
        (Stdout::Fifo(_), Some(uid)) => raw::give_to(target, uid),
        _ => Ok(()),
    }
}
