//! `run`: becomes the keeper of a new pair, joins one without a keeper, or says who runs already;
//! and `run --detach`, which does that in the background and waits until the pair is whole.
//!
//! Must not manage anything itself: the keeper's loop does.

use crate::api::{Status, Twin};
use crate::cli::client::Client;
use crate::cli::control::Options;
use crate::cli::logs::choose::{self, Chosen};
use crate::cli::progress::{self, Plan, Reached};
use crate::cli::{Failure, exit, print, status};
use crate::config::{Config, ConfigErrors, OnTerm, ServerConfig};
use crate::core::Identity;
use crate::output::tail::last_lines;
use crate::shell;
use crate::shell::keeper::whole::{Judged, WHOLE_LIMIT, judge};
use crate::shell::keeper::{self, Pair};
use crate::sys::kernel::{self, Missing};
use crate::sys::lock::{self, Attempt};
use crate::sys::pidfd::{self, Verified};
use crate::sys::rights::{Capability, has_capability};
use crate::sys::{memory, process};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How often the state of a pair that is starting is asked for.
const LOOK_EVERY_MS: u16 = 50;
/// Lines of the log that are shown when a start failed.
const LOG_LINES: usize = 8;

/// The client of this configuration's pair.
pub fn client(config: &Config) -> Client {
    let run_dir = &config.node.run_dir;
    Client::new(config.node.control_socket(), run_dir.join("pair.json"), shell::lock_path(config))
        .telling(shell::say)
}

/// What the living pair of this file works with; `None`: no pair lives, or it can't be told.
pub fn config_in_force(file: &Path) -> Option<Config> {
    let config = shell::in_force::read_in(&crate::config::likely_run_dir(file)).ok()??;
    let holder = lock::holder(&shell::lock_path(&config)).ok()?;
    holder.map(|_| config)
}

/// Descriptors that the active needs besides those of servers; 33 are for their children (`sys::low`).
const OWN_DESCRIPTORS: u64 = 160;
/// An output that goes through a FIFO: the FIFO, and the log or syslog's socket.
const PIPED_DESCRIPTORS: u64 = 2;

/// Does what is configured fit into the limit of open descriptors?
///
/// # Errors
/// It does not; the text says what would.
pub fn check_fits(config: &Config) -> Result<(), String> {
    let (_, hard) = crate::sys::nofile().map_err(|error| error.to_string())?;
    let piped = config.servers.iter().flat_map(ServerConfig::piped).count();
    let (all, piped) = (config.servers.len() as u64, piped as u64);
    let kept: usize = config.servers.iter().map(ServerConfig::kept_descriptors).sum();
    let needed = OWN_DESCRIPTORS + all + piped * PIPED_DESCRIPTORS + kept as u64;
    if needed <= hard {
        return Ok(());
    }
    let least = OWN_DESCRIPTORS + all + kept as u64;
    let way_out = match least <= hard {
        true => {
            "give some of them output.to = \"direct\" or \"null\" (one descriptor each), or raise the limit"
        }
        false => "raise the limit (ulimit -Hn)",
    };
    Err(format!(
        "{}: {all} servers ({piped} outputs through a pipe) need {needed} file \
         descriptors, and the hard limit is {hard}; {way_out}",
        config.file.display()
    ))
}

/// Can servers be started as other users, and be signalled then?
///
/// # Errors
/// This is root without what root usually may do (a container's); says what is missing.
pub fn check_rights(config: &Config) -> Result<(), String> {
    let accounts = config.servers.iter().filter_map(|server| server.identity.account.as_ref());
    if !nix::unistd::geteuid().is_root() || !accounts.into_iter().any(|account| account.uid != 0) {
        return Ok(());
    }
    let needed = [
        (Capability::SetUid, "CAP_SETUID"),
        (Capability::SetGid, "CAP_SETGID"),
        (Capability::Kill, "CAP_KILL"),
    ];
    let lacks = |(capability, _): &&(Capability, &str)| has_capability(*capability) == Some(false);
    let missing: Vec<&str> = needed.iter().filter(lacks).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}: a server has a user of its own, and that needs {}; allow it in the container, or \
         remove the key",
        config.file.display(),
        missing.join(" and ")
    ))
}

/// The configuration with the accounts of its servers, and a warning where they would not be found
/// again without a journal.
///
/// # Errors
/// Those of [`crate::config::look_up_accounts`].
pub fn with_accounts(config: Config) -> Result<Config, ConfigErrors> {
    let mut config = crate::config::look_up_accounts(config)?;
    let is_other = |server: &ServerConfig| {
        server.identity.account.as_ref().is_some_and(|account| account.uid != 0)
    };
    // Any of these opens the environment of another user's process, by kernel.
    let any = [Capability::SysPtrace, Capability::SysAdmin, Capability::PerfMon];
    if nix::unistd::geteuid().is_root()
        && config.servers.iter().any(is_other)
        && any.into_iter().all(|capability| has_capability(capability) == Some(false))
    {
        config.warnings.push(format!(
            "{}: without CAP_SYS_PTRACE, servers with a user of their own are not recognised when \
             the journal is lost, and would be started a second time; allow it, or give them a lock",
            config.file.display()
        ));
    }
    config.warnings.extend(shell::cgroups::warnings(&config));
    Ok(config)
}

/// Reads and checks a configuration as `run` does.
fn load_checked(file: &Path) -> Result<Config, String> {
    let config =
        crate::config::load(file).and_then(with_accounts).map_err(|errors| errors.to_string())?;
    check_fits(&config).and_then(|()| check_rights(&config))?;
    Ok(config)
}

/// Stays in the foreground as the keeper; gives the exit status. `is_background`: whoever reads
/// standard error goes away soon.
pub fn run(config: Config, is_background: bool, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    memory::keep_small();
    if let Err(text) = check_fits(&config).and_then(|()| check_rights(&config)) {
        return Failure::new(exit::BAD_CONFIG, text).print(err);
    }
    let missing = kernel::missing();
    if let Some(text) = refusal(&missing).or_else(missing_files) {
        return Failure::new(exit::FAILED, text).print(err);
    }
    if std::process::id() == 1 && config.node.on_term == OnTerm::KeepServers {
        let text = "onTerm = \"keep-servers\" can't be kept by PID 1: with it every process of the \
                    container ends; use \"stop-servers\"";
        return Failure::new(exit::BAD_CONFIG, text).print(err);
    }
    if let Err(text) = shell::make_dirs(&config) {
        return Failure::new(exit::BAD_CONFIG, text).print(err);
    }
    // What fails matters to limits alone; a start that has some says it.
    let _ = shell::cgroups::settle(&config);
    if let Some(text) = shell::cgroups::warning_of_systemd(&config) {
        print(err, &format!("warning: {text}\n"), exit::DONE);
    }
    let path = keeper::lock_path(&config);
    let lock = match lock::Lock::try_take(&path) {
        Ok(Attempt::Taken(lock)) => lock,
        Ok(Attempt::HeldBy(pid)) => {
            return Failure::new(exit::TRY_LATER, who_runs(&config, pid)).print(err);
        }
        Err(error) => {
            let text = format!("cannot take the lock {}: {error}", path.display());
            return Failure::new(exit::BAD_CONFIG, text).print(err);
        }
    };
    let pair = match lock::holder(&shell::lock_path(&config)).ok().flatten() {
        None => join_what_is_left(&config),
        Some(pid) => match join(pid) {
            Ok(pulse) => match keeper::keeper_of(&pulse) {
                None => Pair::Joined(pulse),
                Some(pid) => {
                    return Failure::new(exit::TRY_LATER, who_runs(&config, pid)).print(err);
                }
            },
            Err(error) => {
                let text = format!("{}; and cannot join it: {error}", who_runs(&config, pid));
                return Failure::new(exit::TRY_LATER, text).print(err);
            }
        },
    };
    let verb = if matches!(pair, Pair::New) { "starts" } else { "joins" };
    let log = shell::log_path(&config, false);
    let text = format!(
        "{}: the keeper (PID {}) {verb} the pair; its log is {}\n",
        config.node.name,
        std::process::id(),
        log.display()
    );
    print(out, &text, exit::DONE);
    keeper::run(config, lock, pair, missing, is_background)
}

/// What no root directory may lack, also one with nothing but the program: every process of the pair has
/// /dev/null as its standard input, and processes are known by /proc.
fn missing_files() -> Option<String> {
    let refused = |path: &str| match File::open(path) {
        Ok(_) => None,
        Err(error) => Some(format!("cannot open {path}: {error}; mount what it is in")),
    };
    ["/proc/self/stat", "/dev/null"].into_iter().find_map(refused)
}

/// Why nothing can work on this kernel, if that is so.
fn refusal(missing: &[Missing]) -> Option<String> {
    let needed = missing.iter().filter(|one| one.feature.instead().is_none());
    let texts: Vec<String> = needed
        .map(|Missing { feature, errno }| {
            let (name, since) = feature.name();
            format!("{name} (since Linux {since}; the kernel says {errno:?})")
        })
        .collect();
    (!texts.is_empty()).then(|| {
        format!(
            "cannot start on Linux {}: it lacks {}; use Linux 5.10 or later, or allow the call in \
             the container's seccomp profile",
            kernel::release(),
            texts.join(", ")
        )
    })
}

fn join(pid: i32) -> io::Result<crate::sys::pulse::Pulse> {
    let start_ticks = process::start_ticks(pid)?;
    keeper::pulse_of(&Identity { pid, start_ticks, inode: 0 })
}

/// Nobody is active, and yet a twin may live: it takes over at this moment, or it hangs and keeps
/// the port, and then its keeper ends it.
fn join_what_is_left(config: &Config) -> Pair {
    let twins = client(config).living_twins().into_iter();
    let mut twins =
        twins.map(|Twin { pid, start_ticks, .. }| Identity { pid, start_ticks, inode: 0 });
    twins.find_map(|twin| keeper::pulse_of(&twin).ok()).map_or(Pair::New, Pair::Joined)
}

/// Who has this run directory, and since when.
fn who_runs(config: &Config, pid: i32) -> String {
    let since = process::start_ticks(pid).ok().map(|ticks| {
        let ago_ms = process::boottime_ms().saturating_sub(process::ticks_to_boot_ms(ticks));
        let at = jiff::Timestamp::now()
            .checked_sub(Duration::from_millis(ago_ms))
            .unwrap_or_else(|_| jiff::Timestamp::now());
        format!(" since {at:.0}")
    });
    format!(
        "a node manager already runs with {}: PID {pid}{}; see `nodemanager status`",
        config.node.run_dir.display(),
        since.unwrap_or_default()
    )
}

/// Starts the pair in the background, and returns when it is whole and its servers are up; if it does
/// not wait, when an active serves.
pub fn detach(config: &Config, options: Options, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let client = client(config);
    if let Ok(now) = status::fetch(&client, &[], Some(Duration::from_secs(1)))
        && let Some(seen) = &now.keeper
    {
        if now.node != config.node.name {
            let text = format!("{} ({})", who_runs(config, seen.pid), now.node);
            return Failure::new(exit::TRY_LATER, text).print(err);
        }
        let text = format!("already running\n{}", summary(&now));
        return print(out, &text, exit::DONE);
    }
    let _ = shell::cgroups::settle(config);
    let mut child = match spawn(config) {
        Ok(child) => child,
        Err(error) => {
            return Failure::new(exit::FAILED, format!("cannot start the keeper: {error}"))
                .print(err);
        }
    };
    let limit = Instant::now() + options.timeout.unwrap_or(WHOLE_LIMIT);
    let mut said = Vec::new();
    let plan = options.shown(Some(Plan::of_all("starting", Reached::AsWanted)));
    let began = progress::during(&client, plan, || {
        began(&client, &mut child, &mut said, limit, !options.no_wait)
    });
    match began {
        Began::Ended(code) => report_failure(config, &mut child, &mut said, code, err),
        Began::Silent => {
            let text = "the pair does not answer yet; it goes on".to_string();
            Failure::new(exit::TIME_OVER, text).print(err)
        }
        Began::Seen(now, failure) => {
            let code = print(out, &summary(&now), exit::DONE);
            failure.map_or(code, |failure| failure.print(err))
        }
    }
}

/// What came of a start.
enum Began {
    /// The keeper ended, with this status.
    Ended(u8),
    /// Nobody answered in time.
    Silent,
    /// The pair is there; what of it is not as it should be.
    Seen(Box<Status>, Option<Failure>),
}

/// Waits until the pair is there or, with `waits`, until all of it is as it should be.
fn began(
    client: &Client,
    child: &mut Child,
    said: &mut Vec<u8>,
    limit: Instant,
    waits: bool,
) -> Began {
    loop {
        pause(child, said);
        if let Ok(Some(ended)) = child.try_wait() {
            let code = ended.code().and_then(|code| u8::try_from(code).ok());
            return Began::Ended(code.unwrap_or(exit::FAILED));
        }
        let is_over = Instant::now() >= limit;
        let Ok(now) = status::fetch(client, &[], Some(Duration::from_millis(500))) else {
            if is_over {
                return Began::Silent;
            }
            continue;
        };
        let failure = match judge(&now) {
            _ if !waits => None,
            Judged::Whole => None,
            Judged::Failed(text) => Some(Failure::new(exit::FAILED, text)),
            Judged::NotYet(_) if !is_over => continue,
            Judged::NotYet(text) => {
                Some(Failure::new(exit::TIME_OVER, format!("{text}; it goes on")))
            }
        };
        return Began::Seen(Box::new(now), failure);
    }
}

fn spawn(config: &Config) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(process::own_program()?)
        .arg("run")
        .arg("--background")
        .arg("-c")
        .arg(&config.file);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A process group of its own: a terminal's Ctrl-C is not for it. It has no terminal to lose.
    command.process_group(0);
    // Its own group changes nothing, but makes the standard library fork. Otherwise the C library
    // would take clone3, and give up where an older container's filter denies it with EPERM.
    command.gid(nix::unistd::getgid().as_raw());
    command.spawn()
}

/// Waits a moment, and reads what the keeper has to say meanwhile.
fn pause(child: &mut Child, said: &mut Vec<u8>) {
    let Some(stderr) = &mut child.stderr else {
        // A command may wait; nothing else runs in this process.
        std::thread::sleep(Duration::from_millis(LOOK_EVERY_MS.into()));
        return;
    };
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::from(LOOK_EVERY_MS)).unwrap_or(0);
    if ready > 0 {
        let mut buffer = [0; 4096];
        match stderr.read(&mut buffer) {
            Ok(0) | Err(_) => child.stderr = None,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Both PIDs, and a line for each server.
fn summary(status: &Status) -> String {
    let mut text = String::new();
    if let Some(active) = &status.active {
        text += &format!("active {}\n", active.pid);
    }
    match status.standby.as_ref().map(|standby| (standby.pid, standby.state)) {
        Some((Some(pid), state)) => text += &format!("standby {pid} {state}\n"),
        Some((None, state)) => text += &format!("standby {state}\n"),
        None => text += "no standby (no standbyPort in the configuration)\n",
    }
    for server in &status.servers {
        let pid = server.pid.map(|pid| format!(" PID {pid}")).unwrap_or_default();
        text += &format!("{} {}{pid}\n", server.name, server.state);
    }
    text
}

fn report_failure(
    config: &Config,
    child: &mut Child,
    said: &mut Vec<u8>,
    code: u8,
    err: &mut dyn Write,
) -> u8 {
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_end(said);
    }
    let said = String::from_utf8_lossy(said);
    let mut text = said.trim_end().to_string();
    let path = shell::log_path(config, false);
    let lines = last_lines(&path, LOG_LINES, 8192);
    if !lines.is_empty() && has_file(&path) {
        text += &format!("\nlast lines of {}:\n  {}", path.display(), lines.join("\n  "));
    }
    let code = if code == exit::DONE { exit::FAILED } else { code };
    print(err, &format!("{text}\n"), code)
}

fn has_file(path: &Path) -> bool {
    File::open(path).is_ok()
}

/// The log of the active, or of the standby.
pub fn own_log(config: &Config, is_standby: bool) -> Chosen {
    choose::of_the_pair(config, is_standby, shell::log_path(config, is_standby))
}

/// Makes every process of the pair open its logs again.
pub fn reopen_logs(config: &Config, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let living = client(config).living();
    if living.is_empty() {
        return Failure::new(exit::NOT_RUNNING, "no node manager runs").print(err);
    }
    for Twin { pid, start_ticks, .. } in &living {
        let process = Identity { pid: *pid, start_ticks: *start_ticks, inode: 0 };
        let sent = match pidfd::open_verified(&process) {
            Ok(Verified::Alive(fd)) => pidfd::signal(&fd, libc::SIGUSR1),
            // Who comes after it opens them anyway.
            Ok(Verified::Gone) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
            let exit = if is_denied { exit::NOT_PERMITTED } else { exit::FAILED };
            return Failure::new(exit, format!("cannot signal PID {pid}: {error}")).print(err);
        }
    }
    print(out, "the pair opens its logs again\n", exit::DONE)
}

/// The processes that the pair starts itself.
pub fn inner(role: Inner) -> u8 {
    memory::keep_small();
    match role {
        Inner::Keeper { from } => keeper::renew::resume(from),
        Inner::Active => shell::run(shell::Beginning::FirstActive),
        Inner::Standby => shell::run(shell::Beginning::Standby),
        Inner::Mover => shell::mover::run(),
        Inner::Saver => shell::wishes::run(),
        Inner::Compressor => shell::compress::run(),
        Inner::Mailer => shell::alerts::mail::run(),
        Inner::Applier => shell::apply::helper::run(load_checked),
        Inner::Prover => shell::upgrade::prover::run(),
    }
}

/// A process that is only started by another of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// The keeper, with what the program before left in this descriptor.
    Keeper {
        from: i32,
    },
    Active,
    Standby,
    Mover,
    Saver,
    Compressor,
    Applier,
    Prover,
    Mailer,
}
