//! Which errors fit which system call, and how a traced process is given one.
//!
//! EAGAIN is not an error of calls that would have had something to do: an edge of epoll(7) would be
//! lost that no kernel loses.
//!
//! Must not list a call whose failure means that the program is out of its mind (exit, sigreturn)
//! or out of memory (mmap, brk): the allocator ends the process then, and that is a takeover. Nor an
//! EIO of close(2): only a file that was written can meet it, and the standard library trusts that
//! the close of a directory never does.

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace;
use nix::unistd::Pid;

/// A system call that a process is about to make.
pub struct Call {
    pub name: String,
    pub first_argument: u64,
    /// The errors that it may meet; none: it can't fail, or must not here.
    pub errors: &'static [Errno],
    /// The error comes after the deed (a close that reports an error has closed all the same).
    pub is_made_all_the_same: bool,
}

macro_rules! calls {
    ($($name:ident: $($errno:ident)*;)*) => {
        fn known(number: i64) -> Option<(&'static str, &'static [Errno])> {
            match number {
                $(n if n == libc::$name => Some((stringify!($name), &[$(Errno::$errno),*])),)*
                _ => None,
            }
        }
    };
}

calls! {
    SYS_accept4: EMFILE ENOMEM EINTR;
    SYS_access: EIO ENOMEM;
    SYS_bind: ENOMEM;
    SYS_chmod: EIO;
    SYS_clock_gettime:;
    SYS_clone: EAGAIN ENOMEM;
    SYS_clone3: EAGAIN ENOMEM;
    SYS_close: EINTR;
    SYS_close_range: ENOMEM;
    SYS_connect: ENOMEM EINTR;
    SYS_dup: EMFILE;
    SYS_dup2: EMFILE;
    SYS_dup3: EMFILE;
    SYS_epoll_create1: EMFILE ENOMEM;
    SYS_epoll_ctl: ENOMEM ENOSPC;
    SYS_epoll_pwait: EINTR;
    SYS_epoll_wait: EINTR;
    SYS_eventfd2: EMFILE ENOMEM;
    SYS_execve: ENOMEM EIO;
    SYS_exit_group:;
    SYS_fallocate: ENOSPC EIO EINTR;
    SYS_fchmod: EIO;
    SYS_fcntl: EMFILE ENOMEM EINTR;
    SYS_fdatasync: EIO ENOSPC;
    SYS_flock: EINTR ENOMEM;
    SYS_fstat: EIO ENOMEM;
    SYS_fsync: EIO ENOSPC;
    SYS_ftruncate: EIO EINTR;
    SYS_getdents64: EIO ENOMEM;
    SYS_getrandom: EINTR;
    SYS_getsockname: ENOMEM;
    SYS_getsockopt: ENOMEM;
    SYS_ioctl: EIO ENOMEM;
    SYS_kill: EPERM;
    SYS_linkat: ENOSPC EIO;
    SYS_listen: ENOMEM;
    SYS_lseek: EIO;
    SYS_lstat: EIO ENOMEM;
    SYS_memfd_create: EMFILE ENOMEM;
    SYS_mkdir: ENOSPC EIO;
    SYS_mknodat: ENOSPC EIO;
    SYS_mknod: ENOSPC EIO;
    SYS_newfstatat: EIO ENOMEM;
    SYS_open: EMFILE ENOMEM EIO ENOSPC EINTR;
    SYS_openat: EMFILE ENOMEM EIO ENOSPC EINTR;
    SYS_pidfd_open: EMFILE ENOMEM;
    SYS_pidfd_send_signal: EPERM EAGAIN;
    SYS_pipe2: EMFILE ENOMEM;
    SYS_poll: EINTR ENOMEM;
    SYS_ppoll: EINTR ENOMEM;
    SYS_prctl: EPERM;
    SYS_pread64: EIO EINTR;
    SYS_prlimit64: EPERM;
    SYS_pwrite64: ENOSPC EIO EINTR;
    SYS_read: EIO EINTR ENOMEM;
    SYS_readlink: EIO ENOMEM;
    SYS_readlinkat: EIO ENOMEM;
    SYS_readv: EIO EINTR;
    SYS_recvfrom: EINTR ENOMEM;
    SYS_recvmsg: EINTR ENOMEM;
    SYS_rename: ENOSPC EIO;
    SYS_renameat2: ENOSPC EIO;
    SYS_rt_sigaction:;
    SYS_rt_sigprocmask:;
    SYS_rt_sigreturn:;
    SYS_sendmsg: EINTR ENOMEM;
    SYS_sendto: EINTR ENOMEM;
    SYS_setsockopt: ENOMEM;
    SYS_shutdown: ENOMEM;
    SYS_socket: EMFILE ENOMEM;
    SYS_socketpair: EMFILE ENOMEM;
    SYS_splice: EINTR EIO ENOSPC ENOMEM;
    SYS_statx: EIO ENOMEM;
    SYS_tee: ENOMEM;
    SYS_timerfd_create: EMFILE ENOMEM;
    SYS_unlink: EIO;
    SYS_unlinkat: EIO;
    SYS_waitid: EINTR;
    SYS_wait4: EINTR;
    SYS_write: ENOSPC EIO EINTR;
    SYS_writev: ENOSPC EIO EINTR;
}

/// The call that a process stands at the entry of.
pub fn call_of(pid: Pid) -> Option<Call> {
    let regs = ptrace::getregs(pid).ok()?;
    let number = i64::try_from(regs.orig_rax).ok()?;
    let (name, errors) = known(number).unwrap_or(("", &[]));
    let name = match name {
        "" => format!("call {number}"),
        name => name.trim_start_matches("SYS_").to_string(),
    };
    let is_made_all_the_same = name == "close";
    Some(Call { name, first_argument: regs.rdi, errors, is_made_all_the_same })
}

/// The call that the process stands at the entry of is not made.
pub fn skip(pid: Pid) {
    if let Ok(mut regs) = ptrace::getregs(pid) {
        regs.orig_rax = u64::MAX;
        let _ = ptrace::setregs(pid, regs);
    }
}

/// At the exit of a call: it returns this error.
pub fn set_result(pid: Pid, errno: Errno) {
    if let Ok(mut regs) = ptrace::getregs(pid) {
        regs.rax = (-i64::from(errno as i32)) as u64;
        let _ = ptrace::setregs(pid, regs);
    }
}
