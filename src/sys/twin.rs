//! Starting a process of the pair from the image that this process runs itself.
//!
//! Must not wait for the child: a failure before its exec is its exit status 127.

use super::child::{self, Pointers, Stepped};
use super::{raw, room};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

/// What a process of the pair is started with; what is not here it does not get.
#[derive(Clone, Debug)]
pub struct TwinSpec {
    pub argv: Vec<CString>,
    /// `NAME=value` entries.
    pub env: Vec<CString>,
    /// (descriptor here, its number there); numbers there are from 3 on, each once.
    pub fds: Vec<(RawFd, RawFd)>,
    /// Its standard error; `None`: /dev/null.
    pub stderr: Option<RawFd>,
    /// The path of the program; `None`: what this process runs.
    pub program: Option<CString>,
}

/// Starts a process in a session of its own, with default signal dispositions, an empty mask,
/// standard input and output at /dev/null, and just the given descriptors.
///
/// Without a `program` it runs /proc/self/exe, this process's image also when its file was replaced.
/// Limits, umask and working directory are this process's.
///
/// # Errors
/// EAGAIN, ENOMEM, EMFILE, ...: there is no child then. InvalidInput for a number below 3 or one
/// that is given twice.
pub fn spawn_twin(spec: &TwinSpec) -> io::Result<(i32, OwnedFd)> {
    let mut targets: Vec<RawFd> = spec.fds.iter().map(|(_, target)| *target).collect();
    targets.sort_unstable();
    let twice = targets.windows(2).any(|pair| pair.first() == pair.last());
    if twice || targets.first().is_some_and(|least| *least < 3) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let above = targets.last().map_or(3, |last| last.saturating_add(1));
    let plan = Plan {
        argv: Pointers::new(spec.argv.clone()),
        env: Pointers::new(spec.env.clone()),
        gaps: gaps(&targets),
        moves: spec.fds.iter().copied().chain(spec.stderr.map(|fd| (fd, 2))).collect(),
        above,
        null_stderr: spec.stderr.is_none(),
        program: spec.program.clone().unwrap_or_else(|| c"/proc/self/exe".to_owned()),
    };
    room::start(plan, true, None)
}

/// The descriptors above 2 that are not among `targets` (sorted), as ranges.
fn gaps(targets: &[RawFd]) -> Vec<(libc::c_uint, libc::c_uint)> {
    let mut gaps = Vec::with_capacity(targets.len() + 1);
    let mut next = 3;
    for target in targets.iter().filter_map(|target| libc::c_uint::try_from(*target).ok()) {
        if next < target {
            gaps.push((next, target - 1));
        }
        next = target.saturating_add(1);
    }
    gaps.push((next, libc::c_uint::MAX));
    gaps
}

/// What the child works from. All of its methods run in the child: see the head of `child`.
struct Plan {
    argv: Pointers,
    env: Pointers,
    gaps: Vec<(libc::c_uint, libc::c_uint)>,
    moves: Vec<(RawFd, RawFd)>,
    above: RawFd,
    null_stderr: bool,
    program: CString,
}

impl room::Plan for Plan {
    fn run(&mut self) -> Infallible {
        if self.get_ready().is_ok() {
            child::exec(&self.program, &self.argv, &self.env);
        }
        child::exit_now(127)
    }
}

impl Plan {
    fn get_ready(&mut self) -> Stepped {
        // First out of the way of all targets: a target's number may be another one's source.
        for (source, _) in &mut self.moves {
            *source = raw::dup_above(*source, self.above)?;
        }
        for (source, target) in &self.moves {
            child::copy_to(*source, *target)?;
        }
        let null = |target| child::open_as(c"/dev/null", OFlag::O_RDWR, Mode::empty(), target);
        null(0)?;
        null(1)?;
        if self.null_stderr {
            null(2)?;
        }
        for (first, last) in &self.gaps {
            child::close_all(*first, *last);
        }
        raw::new_session()?;
        child::reset_signals()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Exit;
    use crate::sys::pidfd;
    use crate::sys::testing::{Scratch, cstring, probe_argv, probe_env, reaped, wait_until};
    use std::fs::File;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_twin_gets_just_its_descriptors_even_when_sources_and_targets_cross() {
        let scratch = Scratch::new();
        let files: Vec<File> = ["one", "two", "err"]
            .iter()
            .map(|name| File::create(scratch.path(name)).unwrap())
            .collect();
        // 1 goes to where 2 is, and 2 to where 1 is.
        let (one, two) = (files[0].as_raw_fd(), files[1].as_raw_fd());
        let leaked = nix::unistd::dup(&files[0]).unwrap();
        let report = scratch.path("report");
        let spec = TwinSpec {
            argv: probe_argv(),
            env: probe_env("twin", report.to_str().unwrap()),
            fds: vec![(one, two), (two, one)],
            stderr: Some(files[2].as_raw_fd()),
            program: None,
        };
        let (pid, twin) = spawn_twin(&spec).unwrap();
        wait_until("the twin has ended", || pidfd::is_dead(&twin));
        assert_eq!(reaped(&twin), Exit::Code(0));
        drop(leaked);
        let report = std::fs::read_to_string(report).unwrap();
        let has = |fd: RawFd, path: &str| {
            let line = format!("fd {fd} {path}");
            assert!(report.lines().any(|found| found == line), "{line} is not in {report}");
        };
        has(0, "/dev/null");
        has(1, "/dev/null");
        has(2, scratch.path("err").to_str().unwrap());
        has(one, scratch.path("two").to_str().unwrap());
        has(two, scratch.path("one").to_str().unwrap());
        assert_eq!(report.matches(scratch.path("").to_str().unwrap()).count(), 3, "{report}");
        assert!(report.contains(&format!("session {pid}\n")), "{report}");
    }

    #[test]
    fn targets_below_three_or_given_twice_are_refused() {
        for fds in [vec![(0, 2)], vec![(0, 5), (1, 5)]] {
            let spec = TwinSpec {
                argv: vec![cstring("x")],
                env: vec![],
                fds,
                stderr: None,
                program: None,
            };
            let error = spawn_twin(&spec).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn every_descriptor_that_is_no_target_lies_in_a_gap() {
        assert_eq!(gaps(&[]), [(3, libc::c_uint::MAX)]);
        assert_eq!(gaps(&[3, 4, 7]), [(5, 6), (8, libc::c_uint::MAX)]);
    }
}
