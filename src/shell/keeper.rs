//! The keeper's process: what `run` leaves in the foreground.
//!
//! Must not know a server's policy, nor write the journal; it may die without effect. It reaps the
//! orphans that land here and tells the twins how they ended, looks at the pulse, and starts the
//! pair again when nobody serves.

mod config;
mod fifos;
mod init;
pub mod renew;
mod request;
mod watch;
pub mod whole;

use super::bequest::{self, Bequest, Originals, Twin, at};
use super::packed::PackedConfig;
use super::signals::Signals;
use super::{in_force, log_error, log_settings, notes};
use crate::config::Config;
use crate::core::Identity;
use crate::core::keeper::{Action, Event, Keeper, Note};
use crate::output::logger::{self, LogHandle};
use crate::sys::kernel::{self, Feature, Missing};
use crate::sys::lock::Lock;
use crate::sys::memory::Memory;
use crate::sys::pidfd::{self, Verified};
use crate::sys::pulse::{Pulse, Role, Seen, Slot};
use crate::sys::spawn::{TwinSpec, spawn_twin};
use crate::sys::{self, process};
use config::without_servers;
use fifos::HeldFifos;
use init::Init;
use log::{error, info, warn};
use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use renew::Kept;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

const SIGNALS: Token = Token(0);
const TWINS: Token = Token(1);
const REQUEST: Token = Token(2);
const QUESTION: Token = Token(3);

/// How a keeper comes to its pair.
pub enum Pair {
    /// It starts it.
    New,
    /// It joins one whose keeper is gone, through the active's pulse.
    Joined(Pulse),
    /// It ran another program before, in this process.
    Kept(Box<Kept>),
}

/// The keeper's process.
pub struct KeeperShell {
    /// Without its servers: of them only the FIFOs are held.
    config: Config,
    /// The whole configuration, for the active that it starts.
    packed: PackedConfig,
    /// The last writing of the configuration in force, and whether it could be read.
    in_force: Option<(in_force::Writing, bool)>,
    /// The file of the program that this process was started with.
    image: PathBuf,
    core: Keeper,
    poll: Poll,
    pulse: Pulse,
    /// Both ends of the reports: the reading one is handed to every active.
    reports: Option<(OwnedFd, OwnedFd)>,
    signals: Signals,
    log: LogHandle,
    lock: Lock,
    originals: Originals,
    /// The actives that this process started and has not reaped: the next one may be started
    /// before the one before is reaped, and the core is told the end of each.
    started: Vec<i32>,
    twins: [Option<(Identity, OwnedFd)>; 2],
    request: Option<(UnixStream, Vec<u8>)>,
    /// Held open, so that a server's last words outlive both twins.
    fifos: HeldFifos,
    /// What servers inherit as standard output and error, where one does.
    inheritance: Option<[OwnedFd; 2]>,
    /// Zombies wait because the reports are full.
    is_full: bool,
    memory: Memory,
    has_served: bool,
    is_background: bool,
    exit: Option<u8>,
    init: Init,
}

/// Where the lock of the keeper is: one keeper for one pair.
pub fn lock_path(config: &Config) -> PathBuf {
    config.node.run_dir.join("keeper.lock")
}

/// Runs the keeper until the pair has ended; gives the exit status. `missing`: what the kernel
/// lacks. `is_background`: standard output and error lead nowhere that servers could write to.
pub fn run(
    config: Config,
    lock: Lock,
    pair: Pair,
    missing: Vec<Missing>,
    is_background: bool,
) -> u8 {
    let _ = sys::set_name("nm-keeper");
    match KeeperShell::new(config, lock, pair, missing, is_background) {
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
    fn new(
        config: Config,
        lock: Lock,
        pair: Pair,
        missing: Vec<Missing>,
        is_background: bool,
    ) -> io::Result<KeeperShell> {
        let settings = log_settings(&config, false);
        let log = logger::init(&settings).map_err(|error| log_error(&config, &error))?;
        say_kernel(missing);
        let numbers = [
            libc::SIGTERM,
            libc::SIGINT,
            libc::SIGHUP,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGCHLD,
        ];
        let signals = Signals::of(&numbers)?;
        sys::ignore_signals(&[libc::SIGTSTP, libc::SIGQUIT, libc::SIGXFSZ])?;
        let poll = Poll::new()?;
        for stream in signals.streams() {
            let fd = stream.as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), SIGNALS, Interest::READABLE)?;
        }
        let now = process::monotonic_ms();
        let (interval, timeout) =
            (config.node.heartbeat_interval_ms, config.node.heartbeat_timeout_ms);
        let mut actions = Vec::new();
        let is_new = matches!(pair, Pair::New);
        let core = match is_new {
            true => Keeper::start(now, interval, timeout, &mut actions),
            false => Keeper::join(now, interval, timeout),
        };
        let kept = Kept::new(pair, &config, is_background)?;
        let role = if kept.reports.is_some() { Role::Keeper } else { Role::Joined };
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        kept.pulse.write_identity(Slot::Keeper, pid, process::start_ticks(pid)?);
        kept.pulse.set_role(Slot::Keeper, role);
        let packed = kept.packed.map_or_else(|| PackedConfig::new(&config), Ok)?;
        let mut fifos = HeldFifos::default();
        fifos.want(&config);
        let mut keeper = KeeperShell {
            fifos,
            config: without_servers(config),
            packed,
            in_force: None,
            image: kept.image,
            core,
            poll,
            pulse: kept.pulse,
            reports: kept.reports,
            signals,
            log,
            lock,
            originals: kept.originals,
            started: kept.started,
            twins: [None, None],
            request: None,
            inheritance: kept.inheritance,
            // There may be zombies already, of which no signal comes.
            is_full: true,
            memory: Memory::default(),
            has_served: !is_new,
            is_background,
            exit: None,
            init: Init::new(now, init::sender(is_background)),
        };
        renew::hear_signals();
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
            let wait_ms = self.core.deadline().min(self.init.deadline()).since(now);
            let waited = self.poll.poll(&mut events, Some(Duration::from_millis(wait_ms)));
            if waited.is_err() {
                events.clear();
            }
            let mut looks = false;
            for event in &events {
                match event.token() {
                    SIGNALS => self.on_signals(),
                    TWINS => looks = true,
                    REQUEST => self.on_request(),
                    _ => self.on_answer(),
                }
            }
            if self.signals.is_waiting() {
                self.on_signals();
            }
            if self.is_full {
                self.reap();
            }
            let now = process::monotonic_ms();
            let is_time = self.core.wants_look(now);
            if is_time {
                self.take_config_in_force();
            }
            if looks || is_time {
                self.look(now);
            }
            let mut actions = Vec::new();
            self.core.tick(process::monotonic_ms(), &mut actions);
            self.carry_out(actions);
            self.tell_init(process::monotonic_ms());
        }
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.core.handle(process::monotonic_ms(), event, &mut actions);
        self.carry_out(actions);
    }

    // ---- signals

    fn on_signals(&mut self) {
        for signal in self.signals.take() {
            match signal {
                libc::SIGCHLD => self.reap(),
                libc::SIGTERM | libc::SIGINT => {
                    info!(target: "0020", "the keeper was told by a signal to end the pair");
                    self.init.say_stopping(process::monotonic_ms());
                    self.tell(Event::AskedToEnd);
                }
                libc::SIGUSR2 => self.renew(),
                other => {
                    if other == libc::SIGHUP {
                        self.init.say_reloading(process::monotonic_ms());
                    }
                    self.pass_on(other);
                }
            }
        }
    }

    /// SIGHUP is for the active, SIGUSR1 (open the logs again) for everybody.
    fn pass_on(&mut self, signal: i32) {
        self.look(process::monotonic_ms());
        if signal == libc::SIGUSR1 {
            let _ = self.log.reopen();
        }
        for (index, slot) in [Slot::TwinA, Slot::TwinB].into_iter().enumerate() {
            let is_active = self.pulse.read(slot).role == Role::Serving;
            if let (true, Some((_, fd))) =
                (is_active || signal == libc::SIGUSR1, &self.twins[index])
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
                self.started.push(pid);
                self.pulse.claim_for_child(Slot::TwinA, pid, ticks);
            }
            Err(error) => {
                error!(target: "0021", "cannot start the active: {error}");
                self.tell(Event::StartFailed);
            }
        }
    }

    fn try_start(&mut self, revives: bool) -> io::Result<(i32, u64)> {
        if revives {
            self.take_config_in_force();
        }
        if self.reports.is_none() {
            // A keeper that joined becomes an ancestor with the pair that it starts.
            self.reports = Some(report_pair()?);
            self.pulse.set_role(Slot::Keeper, Role::Keeper);
        }
        let bequest = Bequest {
            revives,
            has_reports: true,
            image: self.image.clone(),
            ..Bequest::new(Twin::A, self.originals)
        };
        let packed = bequest.pack()?;
        let (argv, env) = bequest::command("active", &self.config)?;
        let mut fds: Vec<(RawFd, RawFd)> = vec![
            at(&packed, bequest::BEQUEST),
            self.packed.handed(),
            at(&self.pulse.fd(), bequest::PULSE),
        ];
        fds.extend(self.reports.as_ref().map(|(read, _)| at(read, bequest::REPORTS)));
        if let Some([out, err]) = &self.inheritance {
            fds.extend([at(out, bequest::STDOUT), at(err, bequest::STDERR)]);
        }
        let stderr = Some(io::stderr().as_fd().as_raw_fd());
        let (pid, fd) = spawn_twin(&TwinSpec { argv, env, fds, stderr, program: None })?;
        let identity = pidfd::identify(pid, &fd).inspect_err(|_| {
            // This start has failed, and the next one must not find a rival.
            let _ = pidfd::signal(&fd, libc::SIGKILL);
        })?;
        Ok((pid, identity.start_ticks))
    }
}

impl Kept {
    /// What a keeper begins with.
    fn new(pair: Pair, config: &Config, is_background: bool) -> io::Result<Kept> {
        let (pulse, reports) = match pair {
            Pair::Kept(kept) => return Ok(*kept),
            Pair::Joined(pulse) => (pulse, None),
            Pair::New => {
                in_force::forget(config);
                (Pulse::create()?, Some(report_pair()?))
            }
        };
        let originals = Originals {
            nofile: sys::raise_nofile()?,
            umask: sys::current_umask(),
            oom_score_adj: process::oom_score_adj(),
        };
        let (image, inheritance) = (process::own_program()?, inheritance(config, is_background)?);
        let (packed, started) = (None, Vec::new());
        Ok(Kept { packed, pulse, reports, originals, image, started, inheritance })
    }
}

/// This process's own standard output and error, or nothing where nobody would read them.
fn inheritance(config: &Config, is_background: bool) -> io::Result<Option<[OwnedFd; 2]>> {
    if !bequest::is_inherited(config) {
        return Ok(None);
    }
    if is_background {
        warn!(target: "0029", "the pair runs in the background: the output of servers with output.to = \"inherit\" goes nowhere");
        let null = std::fs::File::options().write(true).open("/dev/null")?;
        return Ok(Some([null.try_clone()?.into(), null.into()]));
    }
    let own =
        [io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?];
    Ok(Some(own))
}

fn report_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Becomes the one under which orphans land, and says what the kernel lacks, in one line.
fn say_kernel(mut missing: Vec<Missing>) {
    if let Err(error) = sys::set_child_subreaper() {
        let feature = Feature::Subreaper;
        missing.retain(|one| one.feature != feature);
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL));
        missing.push(Missing { feature, errno });
    }
    let describe = |Missing { feature, errno }: &Missing| {
        let (name, since) = feature.name();
        let instead = feature.instead().unwrap_or("nothing");
        format!("{name} (Linux {since}; {errno:?}): {instead}")
    };
    let release = kernel::release();
    match missing.is_empty() {
        true => info!(target: "0027", "Linux {release} has all that is used"),
        false => {
            let texts: Vec<String> = missing.iter().map(describe).collect();
            info!(target: "0027", "Linux {release} lacks, and what is done instead: {}", texts.join("; "));
        }
    }
}

fn say(note: Note) {
    match note {
        Note::NobodyServes { both_dead: true } => {
            warn!(target: "0023", "both twins are dead: the pair is started again");
        }
        Note::NobodyServes { both_dead: false } => {
            warn!(target: "0023", "nobody serves: what is left of the pair is killed, then it is started again");
        }
        Note::KillsRepeat { times, patience_ms } => {
            error!(target: "0028", "ALERT: twins that did not serve were killed {times} times lately; the next ones get {patience_ms} ms");
        }
        Note::StartAgainFailed { retry_ms } => {
            error!(target: "0024", "the pair could not be started again; the next try in {retry_ms} ms");
        }
        Note::StillAlive => {
            error!(target: "0025", "a twin does not die of SIGKILL (frozen, or stuck in the kernel); its death is waited for");
        }
    }
}
