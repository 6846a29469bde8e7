//! What the pair is at when a system call is its last, or fails.
//!
//! Must bring each act to its end in spite of the fault: what was asked for is there when an act
//! returns, or the test fails. What has to hold beside it, `audit` says.

use crate::features::*;
use crate::support::counted::{counted, starts};
use crate::support::{Pair, SIGKILL, SIGSTOP, both, is_alive, signal, wait_for, wait_until};
use crate::telling::*;
use crate::tracer::{From, Trace, Whose};
use std::fs;
use std::process::{Child, Command, Stdio};

/// Whose calls a scenario counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traced {
    Active,
    Standby,
    /// The standby that the active starts during the act.
    FreshStandby,
    Keeper,
    /// The process that moves output while no pair runs.
    Mover,
    /// The process that reads another configuration.
    Applier,
    /// Of a pair that is started by the act: its keeper, active, first standby.
    StartingKeeper,
    StartingActive,
    StartingStandby,
}

/// One situation.
pub struct Scenario {
    pub name: &'static str,
    pub traced: Traced,
    pub from: From,
    /// The servers, as TOML.
    pub servers: fn() -> String,
    /// Those that the act is about; to all others nothing may happen.
    pub touched: &'static [&'static str],
    pub prepare: fn(&Pair),
    pub act: fn(&World),
}

/// What an act works with.
pub struct World<'a> {
    pub pair: &'a Pair,
    pub trace: &'a Trace,
    /// A call fails instead of a process being killed: a command may then report a failure.
    pub has_error: bool,
    pub traced: Traced,
    /// The keeper that was started for this point.
    pub run: Option<Child>,
}

impl World<'_> {
    /// Runs a command whose result must be there in the end, whoever is killed meanwhile.
    pub fn command(&self, words: &[&str]) {
        let mut output = self.pair.run(words);
        // It says: try again.
        for _ in 0..2 {
            if output.status.code() == Some(75) && !self.has_error {
                output = self.pair.run(words);
            }
        }
        let allowed: &[i32] = if self.has_error { &[0, 1, 75] } else { &[0] };
        let code = output.status.code().unwrap_or(-1);
        assert!(allowed.contains(&code), "{words:?}: {}", both(&output));
    }
}

/// The server that acts are about, and one that must not notice.
pub fn two() -> String {
    let quick = "restart = { delay = \"20ms\", tries = 1000 }";
    counted("t", "", quick) + &counted("steady", "", quick)
}

/// Enough servers to fill the journal quickly.
fn twenty() -> String {
    let quick = "settleTime = \"1ms\"\nrestart = { delay = \"20ms\", tries = 1000 }";
    let server = |n| counted(&format!("x{n}"), "", quick).replace("settleTime = \"20ms\"\n", "");
    (0..20).map(server).collect::<String>() + &counted("steady", "", "")
}

/// Lines of one life of the server that writes.
pub const LINES: u64 = 3_000;

/// A server whose log is rotated several times in each life.
fn writer() -> String {
    let keys = "output = { maxSize = \"30KiB\", maxFiles = 1000 }\nrestart = { delay = \"20ms\" }";
    counted("w", &format!("--numbers {LINES} --burst 50"), keys) + &counted("steady", "", "")
}

fn is_up(pair: &Pair, name: &str) -> bool {
    let server = pair.server(name);
    server["state"] == "RUNNING"
        && server["pid"].as_i64().is_some_and(|pid| is_alive(i32::try_from(pid).unwrap_or(0)))
}

pub fn wait_up(pair: &Pair, name: &str) {
    wait_until(&format!("{name} to be up"), || is_up(pair, name));
}

pub fn wait_down(pair: &Pair, name: &str) {
    wait_until(&format!("{name} to be down"), || pair.server(name)["state"] == "STOPPED");
}

fn pid_of(pair: &Pair, name: &str) -> i32 {
    wait_for(&format!("the PID of {name}"), || pair.pids().get(name).copied())
}

fn nothing(_: &Pair) {}

/// An active that has not lost a standby yet: it replaces the first one at once.
fn fresh_active(pair: &Pair) {
    let active = pair.pid_of("active");
    signal(active, SIGKILL);
    wait_twins(pair, active);
    pair.wait_whole();
}

pub fn stop_t(pair: &Pair) {
    pair.ok(&["stop", "t"]);
}

pub fn start_t(pair: &Pair) {
    pair.ok(&["start", "t"]);
}

/// The number of a process's own starts grows by one in this act.
pub fn once_more(world: &World, name: &str, act: impl FnOnce()) {
    let before = starts(world.pair, name).len();
    act();
    wait_up(world.pair, name);
    wait_until("the start to be reported", || starts(world.pair, name).len() > before);
    let now = starts(world.pair, name).len();
    // Where a call fails, a start may fail with it, and is tried again.
    assert!(world.has_error || now == before + 1, "{} starts instead of one", now - before);
}

pub fn act_start(world: &World) {
    once_more(world, "t", || world.command(&["start", "t"]));
}

pub fn act_stop(world: &World) {
    world.command(&["stop", "t"]);
    wait_down(world.pair, "t");
}

fn act_kill(world: &World) {
    let output = world.pair.run(&["kill", "t"]);
    // 75: it may have been done before the active died; then it is.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 75)) || world.has_error, "{}", both(&output));
    wait_down(world.pair, "t");
}

fn act_restart(world: &World) {
    once_more(world, "t", || world.command(&["restart", "t"]));
}

fn act_crash(world: &World) {
    let (pid, restarts) = (pid_of(world.pair, "t"), &world.pair.server("t")["restarts"]);
    once_more(world, "t", || {
        signal(pid, SIGKILL);
        wait_until("another process", || world.pair.pids().get("t").is_some_and(|now| *now != pid));
    });
    let server = world.pair.server("t");
    let counted = server["restarts"].as_i64() > restarts.as_i64();
    assert!(counted, "restarts: {} after {restarts}", server["restarts"]);
    assert_eq!(server["lastExit"]["signal"], "SIGKILL", "{server}");
}

fn act_rotate(world: &World) {
    let before = starts(world.pair, "w").len() as u64;
    once_more(world, "w", || world.command(&["restart", "w"]));
    let lives = starts(world.pair, "w").len() as u64 - before;
    crate::audit::wait_lines(world.pair, lives);
}

fn act_compact(world: &World) {
    for _ in 0..200 {
        if world.trace.calls() > 0 {
            return;
        }
        world.command(&["restart", "x*", "--timeout", "20s"]);
    }
    panic!("the journal was never compacted");
}

/// Both twins are there, and they are not those of before.
pub fn wait_twins(pair: &Pair, old: i32) {
    wait_until("an active and a WATCHING standby", || {
        let status = pair.status();
        let pid = |role: &str| status[role]["pid"].as_i64();
        status["standby"]["state"] == "WATCHING"
            && pid("active").is_some_and(|pid| pid != i64::from(old))
            && pid("standby").is_some_and(|pid| pid != i64::from(old))
    });
}

pub fn act_kill_active(world: &World) {
    let active = world.pair.pid_of("active");
    signal(active, SIGKILL);
    wait_twins(world.pair, active);
}

fn act_hang_active(world: &World) {
    let active = world.pair.pid_of("active");
    signal(active, SIGSTOP);
    wait_twins(world.pair, active);
}

fn act_kill_standby(world: &World) {
    let standby = world.pair.pid_of("standby");
    signal(standby, SIGKILL);
    wait_twins(world.pair, standby);
}

/// A cleaner of temporary files takes the socket alone: it is made anew.
fn act_lose_socket(world: &World) {
    let socket = socket_of(world.pair);
    fs::remove_file(&socket).expect("the control socket");
    wait_until("the control socket to be back", || socket.exists());
    world.pair.wait_whole();
}

/// As above, with all that is in the directory.
fn act_lose_run_dir(world: &World) {
    let socket = socket_of(world.pair);
    let (run, lost) = (world.pair.home.join("run"), world.pair.home.join("lost"));
    // Moved first: who removes file by file meets those that are being made again.
    fs::rename(run, &lost).expect("the run directory");
    fs::remove_dir_all(lost).expect("what was the run directory");
    wait_until("the control socket to be back", || socket.exists());
    world.pair.wait_whole();
}

fn socket_of(pair: &Pair) -> std::path::PathBuf {
    pair.home.join("run/control.sock")
}

fn act_shutdown(world: &World, words: &[&str]) {
    let output = world.pair.run(words);
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 69 | 75)) || world.has_error, "{}", both(&output));
    wait_until("the pair to be down", || twins(world.pair).is_empty());
}

fn act_shutdown_all(world: &World) {
    act_shutdown(world, &["shutdown", "--stop-servers"]);
    let servers = || -> usize { world.pair.pids().len() };
    if servers() > 0 {
        // The last active died after it had said that the pair is to be down: what is left is
        // shown as UNMANAGED, and the same command ends it.
        world.pair.ok(&["shutdown", "--stop-servers"]);
    }
    wait_until("no process to be left", || world.pair.processes().is_empty());
}

fn act_shutdown_keeping(world: &World) {
    act_shutdown(world, &["shutdown", "--keep-servers"]);
}

/// Most of its lines come when no pair runs.
fn act_move(world: &World) {
    once_more(world, "w", || world.command(&["restart", "w"]));
    act_shutdown_keeping(world);
    world.pair.ok(&["run", "--detach"]);
    crate::audit::wait_lines(world.pair, 1);
}

/// The processes of the pair that are no servers and no movers.
pub fn twins(pair: &Pair) -> Vec<i32> {
    let is_twin = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let _program = words.next();
        matches!(words.next().as_deref(), Some("active" | "standby" | "run"))
    };
    pair.processes().into_iter().filter(is_twin).collect()
}

/// The pair was down before the point; the started `run` goes on by itself or says why not.
fn act_started(world: &World) {
    let mut out_of_patience = 400;
    wait_until("the pair to be whole or its keeper to give up", || {
        out_of_patience -= 1;
        let keeper = world.run.as_ref().map_or(0, |run| i32::try_from(run.id()).unwrap_or(0));
        world.pair.status()["pair"] == "ok" || !is_alive(keeper) || out_of_patience == 0
    });
}

/// A keeper that waits, stopped, to become `run`; it may be traced from its exec on.
pub fn stopped_run(pair: &Pair) -> Child {
    let script = "kill -STOP $$; exec \"$0\" run -c \"$1\"";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, crate::support::binary()]).arg(pair.config());
    let log = fs::File::options().create(true).append(true).open(pair.home.join("run.err"));
    let log = log.expect("a file for the keeper's messages");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let child = command.spawn().expect("a shell");
    let pid = child.id();
    wait_until("the shell to stop itself", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default().contains(") T ")
    });
    child
}

impl Scenario {
    /// The process that is traced first, and whose calls count.
    pub fn whose(&self) -> Whose {
        match self.traced {
            Traced::FreshStandby | Traced::StartingStandby => Whose::ChildsNamed("standby"),
            Traced::StartingActive => Whose::ChildsNamed("active"),
            Traced::Mover => Whose::ChildsNamed("mover"),
            Traced::Applier => Whose::ChildsNamed("applier"),
            _ => Whose::Its,
        }
    }

    /// After so many points a pair is ended and a new one begun: no server may outlive its time,
    /// and hangs that repeat make the timeout grow.
    pub fn points_per_pair(&self) -> usize {
        if self.name.contains("hung") { 3 } else { 100 }
    }

    /// Who is traced is slow, on a busy machine very slow. Only where a hang is waited for the
    /// timeout has to be short.
    pub fn heartbeat_timeout(&self) -> &'static str {
        if self.may_be_taken_for_hung() { "1s" } else { "8s" }
    }

    /// A hang is to be seen soon.
    pub fn may_be_taken_for_hung(&self) -> bool {
        self.name.contains("hung")
    }

    /// Does each server have a cgroup?
    pub fn is_in_cgroups(&self) -> bool {
        self.name.contains("cgroup")
    }

    /// Is its server the child of the process that was started?
    pub fn is_forking(&self) -> bool {
        self.name.contains("forking") || self.name.contains("daemon")
    }

    /// Is the pair started by the point itself?
    pub fn starts_the_pair(&self) -> bool {
        use Traced::{StartingActive, StartingKeeper, StartingStandby};
        matches!(self.traced, StartingKeeper | StartingActive | StartingStandby)
    }

    /// May a new `run` be needed afterwards?
    pub fn may_need_run(&self) -> bool {
        self.starts_the_pair() || self.traced == Traced::Keeper || self.ends_the_pair()
    }

    /// May the traced process end without a fault, or because a call of it failed?
    pub fn may_end(&self) -> bool {
        // Whoever hands over to the next configuration ends; who can't begin is replaced.
        let is_replaced = matches!(self.traced, Traced::FreshStandby | Traced::Applier);
        let hands_over = ["apply", "switch over"].iter().any(|word| self.name.starts_with(word));
        self.may_need_run() || is_replaced || hands_over
    }

    /// Does the act end the pair?
    pub fn ends_the_pair(&self) -> bool {
        self.name.starts_with("shutdown")
    }
}

pub const fn scenario(
    name: &'static str,
    traced: Traced,
    touched: &'static [&'static str],
    prepare: fn(&Pair),
    act: fn(&World),
) -> Scenario {
    Scenario { name, traced, from: From::Beginning, servers: two, touched, prepare, act }
}

/// All of them, but for those of `commands`. A later feature adds its line here.
pub const ALL: &[Scenario] = &[
    scenario("start a server", Traced::Active, &["t"], stop_t, act_start),
    scenario("stop a server", Traced::Active, &["t"], start_t, act_stop),
    scenario("restart a server", Traced::Active, &["t"], start_t, act_restart),
    scenario("kill a server", Traced::Active, &["t"], start_t, act_kill),
    scenario("a server crashes", Traced::Active, &["t"], start_t, act_crash),
    scenario("take over from a dead active", Traced::Standby, &[], nothing, act_kill_active),
    scenario("take over from a hung active", Traced::Standby, &[], nothing, act_hang_active),
    scenario("start a fresh standby", Traced::Active, &[], fresh_active, act_kill_standby),
    scenario("be a fresh standby", Traced::FreshStandby, &[], fresh_active, act_kill_standby),
    scenario("lose the control socket", Traced::Active, &[], fresh_active, act_lose_socket),
    scenario("lose the run directory", Traced::Active, &[], fresh_active, act_lose_run_dir),
    scenario("keep a pair that takes over", Traced::Keeper, &[], nothing, act_kill_active),
    scenario("begin as keeper", Traced::StartingKeeper, &[], nothing, act_started),
    scenario("begin as active", Traced::StartingActive, &[], nothing, act_started),
    scenario("begin as standby", Traced::StartingStandby, &[], nothing, act_started),
    scenario("shutdown, active", Traced::Active, &["t", "steady"], start_t, act_shutdown_all),
    scenario("shutdown, standby", Traced::Standby, &["t", "steady"], start_t, act_shutdown_all),
    scenario("shutdown, keeper", Traced::Keeper, &["t", "steady"], start_t, act_shutdown_all),
    scenario("shutdown keeping servers", Traced::Active, &[], start_t, act_shutdown_keeping),
    Scenario {
        servers: writer,
        ..scenario("shutdown, mover", Traced::Mover, &["w"], nothing, act_move)
    },
    Scenario {
        servers: writer,
        ..scenario("rotate a log", Traced::Active, &["w"], nothing, act_rotate)
    },
    Scenario {
        servers: twenty,
        from: From::Compaction,
        ..scenario("compact the journal", Traced::Active, &["*"], nothing, act_compact)
    },
    apply("apply, active", Traced::Active),
    apply("apply, the standby that takes over", Traced::FreshStandby),
    apply("apply, the process that reads", Traced::Applier),
    apply("apply, keeper", Traced::Keeper),
    scenario("switch over, active", Traced::Active, &[], nothing, act_switch_over),
    scenario("switch over, standby", Traced::Standby, &[], nothing, act_switch_over),
    scenario("maintenance", Traced::Active, &[], nothing, act_maintain),
    Scenario {
        servers: asked_by_http,
        ..scenario("ready by http", Traced::Active, &["t"], stop_t, act_ready)
    },
    Scenario {
        servers: asked_by_program,
        ..scenario("ready by a program", Traced::Active, &["t"], not_yet_asked, act_ready)
    },
    Scenario {
        servers: dependent,
        ..scenario("start dependent", Traced::Active, BOTH, stop_both, act_start_dependent)
    },
    Scenario {
        servers: dependent,
        ..scenario("stop needed", Traced::Active, BOTH, start_t, act_stop_needed)
    },
    scenario("disable now", Traced::Active, &["t"], enable_t, act_disable),
    scenario("enable now", Traced::Active, &["t"], disable_t, act_enable),
    Scenario {
        servers: handed,
        ..scenario("start with sockets", Traced::Active, &["t"], stop_t, act_start_handed)
    },
    Scenario {
        servers: told,
        ..scenario("tell an event", Traced::Active, &["t"], with_mailer, act_tell)
    },
    Scenario {
        servers: told,
        ..scenario("tell a takeover", Traced::Standby, &[], with_mailer, act_tell_takeover)
    },
    Scenario {
        servers: told,
        ..scenario("tell figures", Traced::Active, &[], with_mailer, act_ask_metrics)
    },
];

/// A server, and the one that it needs.
const BOTH: &[&str] = &["t", "db"];

const fn apply(name: &'static str, traced: Traced) -> Scenario {
    let touched = &["t", "n"];
    Scenario { servers: changeable, ..scenario(name, traced, touched, apply_old, act_apply) }
}
