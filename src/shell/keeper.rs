//! The keeper's process: what `run` leaves in the foreground.
//!
//! Must not know a server's policy, nor write the journal; it may die without effect. It reaps the
//! orphans that land here and tells the twins how they ended, looks at the pulse, and starts the
//! pair again when nobody serves.

use super::bequest::{self, Bequest, Originals, Twin, at};
use super::guard::encode_report;
use super::signals::Signals;
use super::{log_settings, notes};
use crate::api::{SHUTDOWN_PATH, ShutdownAsk};
use crate::config::{Config, OnTerm};
use crate::core::keeper::{Action, Event, Keeper, Note, TwinRole, TwinSeen};
use crate::core::{Exit, Identity, Ms};
use crate::output::logger;
use crate::sys::lock::{Attempt, Lock};
use crate::sys::pidfd::{self, Verified};
use crate::sys::pulse::{Pulse, Role, Seen, Slot};
use crate::sys::spawn::{TwinSpec, spawn_twin};
use crate::sys::{self, process};
use crate::wire::Secret;
use log::{error, info, warn};
use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIGNALS: Token = Token(0);
const TWINS: Token = Token(1);
const REQUEST: Token = Token(2);
/// Orphans reaped in one turn.
const REAPS_PER_TURN: usize = 256;

/// How a keeper comes to its pair.
pub enum Pair {
    /// It starts it.
    New,
    /// It joins one whose keeper is gone, through the active's pulse.
    Joined(Pulse),
}

/// The keeper's process.
pub struct KeeperShell {
    config: Config,
    core: Keeper,
    poll: Poll,
    pulse: Pulse,
    /// Both ends of the reports: the reading one is handed to every active.
    reports: Option<(OwnedFd, OwnedFd)>,
    signals: Signals,
    lock: Lock,
    originals: Originals,
    /// The active that this process started last.
    started: Option<i32>,
    twins: [Option<(Identity, OwnedFd)>; 2],
    request: Option<(UnixStream, Vec<u8>)>,
    /// Zombies wait because the reports are full.
    is_full: bool,
    has_served: bool,
    exit: Option<u8>,
}

/// Where the lock of the keeper is: one keeper for one pair.
pub fn lock_path(config: &Config) -> PathBuf {
    config.node.run_dir.join("keeper.lock")
}

/// Runs the keeper until the pair has ended; gives the exit status.
pub fn run(config: Config, lock: Lock, pair: Pair) -> u8 {
    let _ = sys::set_name("nm-keeper");
    match KeeperShell::new(config, lock, pair) {
        Ok(mut keeper) => keeper.run(),
        Err(error) => {
            notes::say(&format!("nodemanager: cannot start the keeper: {error}"));
            1
        }
    }
}

/// The pulse of a pair, reached through its active's descriptor.
///
/// # Errors
/// The active is gone, or belongs to another user.
pub fn pulse_of(active: &Identity) -> io::Result<Pulse> {
    let path = format!("/proc/{}/fd/{}", active.pid, bequest::PULSE);
    let file = std::fs::File::options().read(true).write(true).open(path)?;
    // The number may be somebody else's by now.
    match pidfd::open_verified(active)? {
        Verified::Alive(_) => Pulse::from_fd(file.into()),
        Verified::Gone => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The keeper that a pair has, by its pulse: its lock can be gone with the run directory.
pub fn keeper_of(pulse: &Pulse) -> Option<i32> {
    let Seen { pid, start_ticks, .. } = pulse.read(Slot::Keeper);
    let is_alive = pid > 0
        && pidfd::open(pid).is_ok_and(|fd| {
            process::start_ticks(pid).is_ok_and(|ticks| ticks == start_ticks)
                && !pidfd::is_dead(&fd)
        });
    is_alive.then_some(pid)
}

impl KeeperShell {
    fn new(config: Config, lock: Lock, pair: Pair) -> io::Result<KeeperShell> {
        let log = logger::init(&log_settings(&config, false));
        if let Err(error) = log {
            return Err(io::Error::other(format!(
                "cannot write the log in {}: {error}",
                config.node.log_dir.display()
            )));
        }
        sys::set_child_subreaper()?;
        let numbers = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGCHLD];
        let signals = Signals::of(&numbers)?;
        sys::ignore_signals(&[libc::SIGTSTP, libc::SIGQUIT, libc::SIGXFSZ])?;
        let poll = Poll::new()?;
        for stream in signals.streams() {
            let fd = stream.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), SIGNALS, Interest::READABLE)?;
        }
        let originals = Originals { nofile: sys::nofile()?, umask: sys::current_umask() };
        let now = process::monotonic_ms();
        let (interval, timeout) =
            (config.node.heartbeat_interval_ms, config.node.heartbeat_timeout_ms);
        let mut actions = Vec::new();
        let has_served = matches!(pair, Pair::Joined(_));
        let (pulse, reports, core, role) = match pair {
            Pair::New => {
                let core = Keeper::start(now, interval, timeout, &mut actions);
                (Pulse::create()?, Some(report_pair()?), core, Role::Keeper)
            }
            Pair::Joined(pulse) => {
                (pulse, None, Keeper::join(now, interval, timeout), Role::Joined)
            }
        };
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        pulse.write_identity(Slot::Keeper, pid, process::start_ticks(pid)?);
        pulse.set_role(Slot::Keeper, role);
        let mut keeper = KeeperShell {
            config,
            core,
            poll,
            pulse,
            reports,
            signals,
            lock,
            originals,
            started: None,
            twins: [None, None],
            request: None,
            is_full: false,
            has_served,
            exit: None,
        };
        keeper.carry_out(actions);
        Ok(keeper)
    }

    fn run(&mut self) -> u8 {
        let mut events = Events::with_capacity(64);
        loop {
            if let Some(code) = self.exit {
                return code;
            }
            let now = process::monotonic_ms();
            let wait_ms = self.core.deadline().since(now);
            let waited = self.poll.poll(&mut events, Some(Duration::from_millis(wait_ms)));
            if waited.is_err() {
                events.clear();
            }
            let mut looks = false;
            for event in &events {
                match event.token() {
                    SIGNALS => self.on_signals(),
                    TWINS => looks = true,
                    _ => self.on_request(),
                }
            }
            if self.is_full {
                self.reap();
            }
            let now = process::monotonic_ms();
            if looks || self.core.wants_look(now) {
                self.look(now);
            }
            let mut actions = Vec::new();
            self.core.tick(process::monotonic_ms(), &mut actions);
            self.carry_out(actions);
        }
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.core.handle(process::monotonic_ms(), event, &mut actions);
        self.carry_out(actions);
    }

    // ---- the pulse

    fn look(&mut self, _now: Ms) {
        self.pulse.beat(Slot::Keeper);
        self.keep_lock();
        let seen = [self.pulse.read(Slot::TwinA), self.pulse.read(Slot::TwinB)];
        let twins = [self.twin(0, seen[0]), self.twin(1, seen[1])];
        self.has_served |= twins.iter().any(|twin| twin.role == TwinRole::Serving);
        self.tell(Event::Look(twins));
    }

    /// Somebody removed the run directory: once the active has rebuilt it, this is its keeper again.
    fn keep_lock(&mut self) {
        let path = lock_path(&self.config);
        if !self.lock.still_at(&path)
            && let Ok(Attempt::Taken(lock)) = Lock::try_take(&path)
        {
            self.lock = lock;
        }
    }

    /// What a slot says, and whether the process that wrote it lives.
    fn twin(&mut self, index: usize, seen: Seen) -> TwinSeen {
        let is_known = self.twins[index].as_ref().is_some_and(|(process, _)| {
            process.pid == seen.pid && process.start_ticks == seen.start_ticks
        });
        if !is_known {
            if let Some((_, fd)) = self.twins[index].take() {
                let raw = fd.as_raw_fd();
                let _ = self.poll.registry().deregister(&mut SourceFd(&raw));
            }
            let process = Identity { pid: seen.pid, start_ticks: seen.start_ticks, inode: 0 };
            if seen.pid > 0
                && let Ok(Verified::Alive(fd)) = pidfd::open_verified(&process)
            {
                let raw = fd.as_raw_fd();
                let _ =
                    self.poll.registry().register(&mut SourceFd(&raw), TWINS, Interest::READABLE);
                self.twins[index] = Some((process, fd));
            }
        }
        let alive = self.twins[index].as_ref().is_some_and(|(_, fd)| !pidfd::is_dead(fd));
        TwinSeen { role: twin_role(seen.role), counter: seen.counter, alive }
    }

    // ---- orphans

    /// Reaps what ended, and reports it first: WNOWAIT leaves the zombie until the report is on
    /// its way, so that no status is lost in between.
    fn reap(&mut self) {
        self.is_full = false;
        for _ in 0..REAPS_PER_TURN {
            let Ok(Some((pid, exit))) = sys::waitid_any_nowait() else { return };
            let ticks = process::start_ticks(pid).unwrap_or(0);
            if let Some((_, write)) = &self.reports
                && self.has_served
            {
                let report = encode_report(pid, ticks, exit);
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                if send(write.as_raw_fd(), &report, flags) == Err(nix::Error::EAGAIN) {
                    self.is_full = true;
                    return;
                }
            }
            let _ = sys::reap_pid(pid);
            if self.started == Some(pid) {
                self.started = None;
                self.on_started_exited(exit);
            }
        }
        self.is_full = true;
    }

    fn on_started_exited(&mut self, exit: Exit) {
        let code = match exit {
            Exit::Code(code) => u8::try_from(code).unwrap_or(1),
            Exit::Signal(_) | Exit::Unknown => 1,
        };
        self.look(process::monotonic_ms());
        self.tell(Event::StartedExited { code });
    }

    // ---- signals

    fn on_signals(&mut self) {
        for signal in self.signals.take() {
            match signal {
                libc::SIGCHLD => self.reap(),
                libc::SIGTERM | libc::SIGINT => {
                    info!(target: "0020", "the keeper was told by a signal to end the pair");
                    self.tell(Event::AskedToEnd);
                }
                other => self.pass_on(other),
            }
        }
    }

    /// SIGHUP and SIGUSR1 are for the active (the standby opens its log anew by itself).
    fn pass_on(&mut self, signal: i32) {
        self.look(process::monotonic_ms());
        for (index, slot) in [Slot::TwinA, Slot::TwinB].into_iter().enumerate() {
            if let (Role::Serving, Some((_, fd))) = (self.pulse.read(slot).role, &self.twins[index])
            {
                let _ = pidfd::signal(fd, signal);
            }
        }
    }

    // ---- actions

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start { revives } => self.start(revives),
                Action::KillTwins => {
                    for (_, fd) in self.twins.iter().flatten() {
                        let _ = pidfd::signal(fd, libc::SIGKILL);
                    }
                }
                Action::AskToEnd { force } => self.ask_to_end(force),
                Action::Exit { code } => self.exit = Some(code),
                Action::Note(note) => say(note),
            }
        }
    }

    fn start(&mut self, revives: bool) {
        // The slots of the dead say nothing any more.
        for slot in [Slot::TwinA, Slot::TwinB] {
            self.pulse.write_identity(slot, 0, 0);
        }
        match self.try_start(revives) {
            Ok((pid, ticks)) => {
                self.started = Some(pid);
                self.pulse.write_identity(Slot::TwinA, pid, ticks);
            }
            Err(error) => {
                error!(target: "0021", "cannot start the active: {error}");
                self.tell(Event::StartFailed);
            }
        }
    }

    fn try_start(&mut self, revives: bool) -> io::Result<(i32, u64)> {
        if self.reports.is_none() {
            // A keeper that joined becomes an ancestor with the pair that it starts.
            self.reports = Some(report_pair()?);
            self.pulse.set_role(Slot::Keeper, Role::Keeper);
        }
        let bequest = Bequest {
            config: self.config.clone(),
            twin: Twin::A,
            secret: Secret(String::new()),
            revives,
            originals: self.originals,
            has_reports: true,
            active: None,
            left: Vec::new(),
            wishes: String::new(),
        };
        let packed = bequest.pack()?;
        let (argv, env) = bequest::command("active", &self.config)?;
        let mut fds: Vec<(RawFd, RawFd)> =
            vec![at(&packed, bequest::BEQUEST), at(&self.pulse.fd(), bequest::PULSE)];
        fds.extend(self.reports.as_ref().map(|(read, _)| at(read, bequest::REPORTS)));
        let stderr = Some(io::stderr().as_fd().as_raw_fd());
        let (pid, fd) = spawn_twin(&TwinSpec { argv, env, fds, stderr })?;
        Ok((pid, pidfd::identify(pid, &fd)?.start_ticks))
    }

    /// A signal becomes a request, asked until it is answered: it survives a takeover.
    fn ask_to_end(&mut self, force: bool) {
        let ask = ShutdownAsk {
            id: format!("keeper-{}{}", std::process::id(), if force { "-force" } else { "" }),
            stop_servers: self.config.node.on_term == OnTerm::StopServers,
            force,
        };
        let body = serde_json::to_string(&ask).unwrap_or_default();
        let text = format!(
            "POST {SHUTDOWN_PATH} HTTP/1.1\r\nHost: nodemanager\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.drop_request();
        let stream = UnixStream::connect(self.config.node.control_socket());
        let connected = stream.and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, REQUEST, interest)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => self.request = Some((stream, text.into_bytes())),
            // Nobody is there to hear it. It is asked again.
            Err(error) => warn!(target: "0022", "cannot ask the active to end: {error}"),
        }
    }

    fn on_request(&mut self) {
        let Some((stream, out)) = &mut self.request else { return };
        while !out.is_empty() {
            match stream.write(out) {
                Ok(count) => drop(out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.drop_request(),
            }
        }
        let mut answer = [0; 1024];
        match stream.read(&mut answer) {
            Ok(0) => self.drop_request(),
            Ok(_) => {
                self.drop_request();
                self.tell(Event::EndAnswered);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.drop_request(),
        }
    }

    fn drop_request(&mut self) {
        if let Some((mut stream, _)) = self.request.take() {
            let _ = self.poll.registry().deregister(&mut stream);
        }
    }
}

fn twin_role(role: Role) -> TwinRole {
    match role {
        Role::None | Role::Keeper | Role::Joined => TwinRole::None,
        Role::Starting => TwinRole::Starting,
        Role::Serving => TwinRole::Serving,
        Role::Standby => TwinRole::Standby,
        Role::Promoting => TwinRole::Promoting,
        Role::Ended => TwinRole::Ended,
    }
}

fn report_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

fn say(note: Note) {
    match note {
        Note::NobodyServes { both_dead: true } => {
            warn!(target: "0023", "both twins are dead: the pair is started again");
        }
        Note::NobodyServes { both_dead: false } => {
            warn!(target: "0023", "nobody serves: what is left of the pair is killed, then it is started again");
        }
        Note::StartAgainFailed { retry_ms } => {
            error!(target: "0024", "the pair could not be started again; the next try in {retry_ms} ms");
        }
        Note::StillAlive => {
            error!(target: "0025", "a twin does not die of SIGKILL (frozen, or stuck in the kernel); its death is waited for");
        }
    }
}

/// The lock of the keeper, or who has it.
///
/// # Errors
/// The lock file can't be made.
pub fn take_lock(path: &Path) -> io::Result<Attempt> {
    Lock::try_take(path)
}
