//! Short commands beside a server: checks that are programs, and hooks of events.
//!
//! Must not outlive the active: a job dies with its parent, and whoever takes over runs it anew. It
//! runs as its server does (user, limits, directory, environment), without the server's mark, and
//! has a time after which its whole group is killed.

use super::ctx::Ctx;
use super::spec;
use super::token::Source;
use crate::config::ServerConfig;
use crate::core::{Exit, Identity, Ms};
use crate::sys::pidfd;
use crate::sys::spawn::{self, News, ServerSpec};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Jobs at once: the next ones are refused, which a check takes for a bad answer.
const JOBS_MAX: usize = 256;
/// What fits into a pipe by default (pipe(7)): who writes more stands still, until its time is over.
const SAID_MAX: usize = 64 << 10;
/// Letters of its last line that are shown.
const LINE_MAX: usize = 200;

struct Job {
    process: Identity,
    pidfd: OwnedFd,
    gate: OwnedFd,
    /// What it writes.
    said: OwnedFd,
    until: Ms,
    is_late: bool,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With the last line that it wrote.
    Exited(Exit, String),
    /// It could not begin: the step that failed, and the error number.
    NotBegun(String),
    TimedOut,
}

/// All jobs that run.
pub struct Jobs {
    running: BTreeMap<usize, Job>,
    next: usize,
    /// What their ends come as.
    source: fn(usize) -> Source,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs::new(Source::Job)
    }
}

impl Jobs {
    /// None yet; their ends come as this.
    pub fn new(source: fn(usize) -> Source) -> Jobs {
        Jobs { running: BTreeMap::new(), next: 0, source }
    }

    /// Starts a job; its number comes back with its end.
    ///
    /// # Errors
    /// There is no child: fork was refused, or too many run.
    pub fn start(
        &mut self,
        ctx: &mut Ctx,
        server: &ServerConfig,
        command: &[String],
        timeout_ms: u64,
    ) -> Result<usize, String> {
        self.launch(ctx, timeout_ms, |ctx, said| spec::job(ctx, server, command, said))
    }

    /// As `start`, for any program; `prepare` is given where it writes.
    ///
    /// # Errors
    /// As `start`, and those of `prepare`.
    pub fn launch(
        &mut self,
        ctx: &mut Ctx,
        timeout_ms: u64,
        prepare: impl FnOnce(&Ctx, RawFd) -> Result<ServerSpec, String>,
    ) -> Result<usize, String> {
        if self.running.len() >= JOBS_MAX {
            return Err(format!("{JOBS_MAX} other commands are still running"));
        }
        // The child's end blocks: it may be any program.
        let (said, theirs) =
            pipe2(OFlag::O_CLOEXEC).map_err(|error| format!("cannot make a pipe: {error}"))?;
        let spec = prepare(ctx, theirs.as_raw_fd())?;
        let child = spawn::spawn_server(spec).map_err(|error| format!("cannot fork: {error}"))?;
        let number = self.next;
        let begun = pidfd::identify(child.pid, &child.pidfd).and_then(|process| {
            ctx.watch(&child.pidfd, (self.source)(number))?;
            spawn::open_gate(&child.gate)?;
            Ok(process)
        });
        self.next += 1;
        let until = ctx.now().after(timeout_ms);
        let (pidfd, gate) = (child.pidfd, child.gate);
        match begun {
            Ok(process) => {
                let job = Job { process, pidfd, gate, said, until, is_late: false };
                self.running.insert(number, job);
                Ok(number)
            }
            Err(error) => {
                let _ = pidfd::signal(&pidfd, libc::SIGKILL);
                let process = Identity { pid: child.pid, start_ticks: 0, inode: 0 };
                // It is reaped when its death is seen; nobody waits for its end, or is told of it.
                let job = Job { process, pidfd, gate, said, until, is_late: true };
                self.running.insert(number, job);
                ctx.look_again((self.source)(number));
                Err(format!("cannot watch the child: {error}"))
            }
        }
    }

    /// A job's pidfd is readable, or may be: has it ended?
    pub fn on_ready(&mut self, ctx: &mut Ctx, number: usize) -> Option<End> {
        let job = self.running.get(&number)?;
        let exit = match pidfd::exit_of_child(&job.pidfd) {
            Ok(Some(exit)) => exit,
            Ok(None) => {
                // It was killed, and it may be that nothing tells when that is done.
                if job.is_late {
                    ctx.look_again((self.source)(number));
                }
                return None;
            }
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Exit::Unknown,
            Err(_) => {
                ctx.look_again((self.source)(number));
                return None;
            }
        };
        // What it left behind in its group has no task any more. Before it is reaped: until then
        // the number of the group is its own.
        let _ = pidfd::signal_group(&job.pidfd, job.process.pid, libc::SIGKILL, true);
        match pidfd::reap(&job.pidfd) {
            Err(error) if error.raw_os_error() != Some(libc::ECHILD) => {
                ctx.look_again((self.source)(number));
                return None;
            }
            _ => {}
        }
        let job = self.running.remove(&number)?;
        let failure = failure(&job.gate);
        ctx.close(job.pidfd);
        Some(match (failure, job.is_late) {
            (_, true) => End::TimedOut,
            (Some(text), _) => End::NotBegun(text),
            (None, false) => End::Exited(exit, last_line(job.said)),
        })
    }

    /// When `kill_late` is due.
    pub fn deadline(&self) -> Option<Ms> {
        self.running.values().filter(|job| !job.is_late).map(|job| job.until).min()
    }

    /// Kills what takes too long; its end follows. Jobs whose end was not seen are given back.
    pub fn kill_late(&mut self, now: Ms) -> Vec<usize> {
        for job in self.running.values_mut().filter(|job| !job.is_late && job.until <= now) {
            job.is_late = true;
            let _ = pidfd::signal_group(&job.pidfd, job.process.pid, libc::SIGKILL, true);
            let _ = pidfd::signal(&job.pidfd, libc::SIGKILL);
        }
        let dead = |(number, job): (&usize, &Job)| pidfd::is_dead(&job.pidfd).then_some(*number);
        self.running.iter().filter_map(dead).collect()
    }
}

/// The last line with something in it of what is in the pipe now.
fn last_line(said: OwnedFd) -> String {
    let mut text = vec![0; SAID_MAX];
    if fcntl(&said, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_err() {
        return String::new();
    }
    let length = File::from(said).read(&mut text).unwrap_or(0);
    text.truncate(length);
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(LINE_MAX).collect()
}

/// What the child said of a step that failed.
pub fn failure(gate: &OwnedFd) -> Option<String> {
    for _ in 0..4 {
        match spawn::read_news(gate) {
            Ok(Some(News::Failed { step, errno, .. })) => {
                let cause = io::Error::from_raw_os_error(errno);
                return Some(format!("cannot run it: step {step}: {cause}"));
            }
            Ok(Some(News::Closed) | None) | Err(_) => return None,
            Ok(Some(_)) => {}
        }
    }
    None
}
