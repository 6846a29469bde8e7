//! A process under ptrace(2): its system calls are counted, and at the one that was asked for it is
//! killed, or the call fails with an error that fits it.
//!
//! Must not change what else the process does: signals are passed on, its children are let go.
//! ptrace wants all its calls from one thread, so each trace has a thread of its own.

use crate::errors;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What happens to the traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL before the N-th call is made (the first is 1).
    Kill { at: usize },
    /// The N-th call of those that can fail returns an error instead of being made; which of the
    /// errors that fit it, `kind` says.
    Fail { at: usize, kind: usize },
    /// As `Fail`, with the first error, at the N-th call after the N-th fork: how many calls come
    /// before is not always the same.
    FailAfterFork { fork: usize, call: usize },
    /// As `Fail`, with the first error, at the N-th call of this name.
    FailNamed { name: &'static str, nth: usize },
}

/// Whose calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The process that the trace began with.
    Its,
    /// The first of its descendants that runs this hidden command (`active`, `standby`).
    ChildsNamed(&'static str),
}

/// From which call on they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Beginning,
    /// The first write to another file of the journal than the one before.
    Compaction,
}

/// What a trace saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Calls that count (of those that can fail, where one was to fail).
    pub calls: usize,
    /// Which of them made another process.
    pub forks: Vec<usize>,
    /// The call that the fault hit.
    pub hit: Option<String>,
    /// How many errors fit that call.
    pub kinds: usize,
    /// How the process ended, if it did.
    pub ended: Option<String>,
    /// It ended by the fault's own SIGKILL.
    pub was_killed: bool,
}

impl Seen {
    /// Neither it nor the fault ended it.
    pub fn was_killed_by_another(&self) -> bool {
        !self.was_killed && self.ended.as_deref() == Some("signal SIGKILL")
    }
}

/// A running trace.
pub struct Trace {
    stop: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    traced: Arc<Mutex<Vec<Pid>>>,
    thread: JoinHandle<Seen>,
}

impl Trace {
    /// Begins to trace a process that this one may trace; it goes on when this returns.
    pub fn start(root: i32, whose: Whose, from: From, fault: Fault) -> Trace {
        let (stop, ready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let calls = Arc::new(AtomicUsize::new(0));
        let traced = Arc::new(Mutex::new(Vec::new()));
        let (stops, is_ready, counter) = (stop.clone(), ready.clone(), calls.clone());
        let pids = traced.clone();
        let thread = std::thread::spawn(move || {
            let mut tracer = Tracer::new(Pid::from_raw(root), whose, from, fault, counter);
            tracer.seize(root, whose);
            is_ready.store(true, Ordering::SeqCst);
            tracer.follow(&stops, &pids);
            tracer.seen
        });
        crate::support::wait_until("the trace to begin", || {
            ready.load(Ordering::SeqCst) || thread.is_finished()
        });
        Trace { stop, ready, calls, traced, thread }
    }

    /// Lets the process go, and tells what was seen.
    pub fn finish(self) -> Seen {
        assert!(self.ready.load(Ordering::SeqCst), "the process could not be traced");
        self.stop.store(true, Ordering::SeqCst);
        crate::support::wait_until("the trace to end", || {
            // A traced process stops for any signal, and is let go then. This one does nothing.
            for pid in self.traced.lock().expect("the list").iter() {
                let _ = kill(*pid, Signal::SIGCONT);
            }
            self.thread.is_finished()
        });
        self.thread.join().expect("the tracing thread")
    }

    /// Calls that counted so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// May this user trace a process that is no descendant (Yama, a container's filter)?
pub fn is_allowed() -> bool {
    let script = "sleep 60 >/dev/null 2>&1 & echo $!";
    let orphan = Command::new("sh").args(["-c", script]).output().expect("a shell");
    let pid = String::from_utf8_lossy(&orphan.stdout).trim().parse().expect("a PID");
    let is_allowed = ptrace::seize(Pid::from_raw(pid), Options::empty()).is_ok();
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    if is_allowed {
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL));
    }
    is_allowed
}

/// One traced process.
#[derive(Clone, Copy, Default)]
struct Tracee {
    counts: bool,
    /// Between the entry of a call and its exit.
    is_inside: bool,
    /// What the call in progress is to return.
    returns: Option<Errno>,
}

struct Tracer {
    root: Pid,
    whose: Whose,
    fault: Fault,
    tracees: BTreeMap<Pid, Tracee>,
    has_begun: bool,
    /// The journal's file that the last write went to.
    journal: Option<String>,
    calls: Arc<AtomicUsize>,
    /// Calls with the name that is asked for.
    named: usize,
    seen: Seen,
}

impl Tracer {
    fn new(root: Pid, whose: Whose, from: From, fault: Fault, calls: Arc<AtomicUsize>) -> Tracer {
        Tracer {
            root,
            whose,
            fault,
            tracees: BTreeMap::new(),
            has_begun: from == From::Beginning,
            journal: None,
            calls,
            named: 0,
            seen: Seen::default(),
        }
    }

    fn seize(&mut self, root: i32, whose: Whose) {
        let follows = match whose {
            Whose::Its => Options::empty(),
            Whose::ChildsNamed(_) => {
                Options::PTRACE_O_TRACEFORK
                    | Options::PTRACE_O_TRACEVFORK
                    | Options::PTRACE_O_TRACECLONE
                    | Options::PTRACE_O_TRACEEXEC
            }
        };
        let root = Pid::from_raw(root);
        ptrace::seize(root, Options::PTRACE_O_TRACESYSGOOD | follows).expect("a trace");
        ptrace::interrupt(root).expect("the traced process can be stopped");
        let tracee = Tracee { counts: whose == Whose::Its, ..Tracee::default() };
        self.tracees.insert(root, tracee);
        // It stops once; from there on it is followed.
        let status = waitpid(root, Some(WaitPidFlag::__WALL)).expect("it stops");
        self.on_status(status);
    }

    /// Until it is told to stop, or nobody is left.
    fn follow(&mut self, stop: &AtomicBool, traced: &Mutex<Vec<Pid>>) {
        while !self.tracees.is_empty() {
            *traced.lock().expect("the list") = self.tracees.keys().copied().collect();
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(status) => match status.pid() {
                    Some(pid) if stop.load(Ordering::SeqCst) && is_stop(&status) => {
                        self.let_go(pid, signal_of(&status));
                    }
                    _ => self.on_status(status),
                },
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        traced.lock().expect("the list").clear();
    }

    fn let_go(&mut self, pid: Pid, signal: Option<Signal>) {
        // A call whose error was put in its place must not be left half-way.
        if self.tracees.get(&pid).is_some_and(|tracee| tracee.returns.is_some()) {
            return self.on_call(pid);
        }
        let _ = ptrace::detach(pid, signal);
        self.tracees.remove(&pid);
    }

    fn on_status(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(pid, code) => self.on_end(pid, format!("exit {code}")),
            WaitStatus::Signaled(pid, signal, _) => self.on_end(pid, format!("signal {signal}")),
            WaitStatus::PtraceSyscall(pid) => self.on_call(pid),
            WaitStatus::PtraceEvent(pid, _, event) => self.on_event(pid, event),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            _ => {}
        }
    }

    fn on_end(&mut self, pid: Pid, how: String) {
        if self.tracees.remove(&pid).is_some_and(|tracee| tracee.counts) {
            self.seen.ended = Some(how);
        }
        // Nobody is left to be looked for.
        let has_counted = self.tracees.values().any(|tracee| tracee.counts);
        if pid == self.root && !has_counted && self.seen.hit.is_some() {
            self.tracees.clear();
        }
    }

    fn on_event(&mut self, pid: Pid, event: i32) {
        const EXEC: i32 = nix::libc::PTRACE_EVENT_EXEC;
        if event == EXEC && pid != self.root {
            let is_wanted = matches!(self.whose, Whose::ChildsNamed(role)
                if role_of(pid) == role && self.seen.hit.is_none())
                && !self.tracees.values().any(|tracee| tracee.counts);
            // A keeper's active is what starts the standby.
            let leads_there = role_of(pid) == "active" && self.seen.hit.is_none();
            if !is_wanted && !leads_there {
                return self.let_go(pid, None);
            }
            // The next stop is the end of the execve.
            self.tracees.insert(pid, Tracee { counts: is_wanted, is_inside: true, returns: None });
        }
        self.resume(pid, None);
    }

    /// At the entry or the exit of a call.
    fn on_call(&mut self, pid: Pid) {
        let Some(tracee) = self.tracees.get_mut(&pid) else {
            return self.resume(pid, None);
        };
        if tracee.is_inside {
            tracee.is_inside = false;
            if let Some(errno) = tracee.returns.take() {
                errors::set_result(pid, errno);
            }
        } else {
            tracee.is_inside = true;
            self.on_entry(pid);
        }
        self.resume(pid, None);
    }

    fn on_entry(&mut self, pid: Pid) {
        let Some(call) = errors::call_of(pid) else { return };
        if !self.has_begun && !self.begins_compaction(pid, &call) {
            return;
        }
        self.has_begun = true;
        let can_fail = !call.errors.is_empty();
        if !matches!(self.fault, Fault::Kill { .. }) && !can_fail {
            return;
        }
        self.seen.calls += 1;
        self.calls.store(self.seen.calls, Ordering::SeqCst);
        if matches!(call.name.as_str(), "clone" | "clone3") {
            self.seen.forks.push(self.seen.calls);
        }
        let is_due = self.is_due(&call.name);
        let number = self.seen.calls;
        let text = || format!("{} ({number}) of {}", call.name, name_of(pid));
        match self.fault {
            Fault::Kill { .. } if is_due => {
                self.seen.hit = Some(text());
                self.seen.was_killed = true;
                let _ = kill(pid, Signal::SIGKILL);
            }
            Fault::Fail { .. } | Fault::FailAfterFork { .. } | Fault::FailNamed { .. }
                if is_due =>
            {
                let kind = if let Fault::Fail { kind, .. } = self.fault { kind } else { 0 };
                let errno = call.errors[kind % call.errors.len()];
                let hit = format!("{errno:?} from {}", text());
                println!("  {hit}");
                self.seen.hit = Some(hit);
                self.seen.kinds = call.errors.len();
                if !call.is_made_all_the_same {
                    errors::skip(pid);
                }
                if let Some(tracee) = self.tracees.get_mut(&pid) {
                    tracee.returns = Some(errno);
                }
            }
            _ => {}
        }
    }

    /// Is this the call that is to fail?
    fn is_due(&mut self, name: &str) -> bool {
        let (calls, forks) = (self.seen.calls, &self.seen.forks);
        match self.fault {
            Fault::FailNamed { name: wanted, nth } => {
                self.named += usize::from(name == wanted);
                name == wanted && self.named == nth
            }
            Fault::Kill { at } | Fault::Fail { at, .. } => at == calls,
            Fault::FailAfterFork { fork, call } => {
                forks.len() == fork && forks.last().is_some_and(|last| last + call == calls)
            }
        }
    }

    fn begins_compaction(&mut self, pid: Pid, call: &errors::Call) -> bool {
        if call.name != "pwrite64" {
            return false;
        }
        let path = fs::read_link(format!("/proc/{pid}/fd/{}", call.first_argument));
        let path = path.map(|path| path.display().to_string()).unwrap_or_default();
        if !path.contains("journal") {
            return false;
        }
        let before = self.journal.replace(path);
        before.is_some() && before != self.journal
    }

    fn resume(&mut self, pid: Pid, signal: Option<Signal>) {
        let tracee = *self.tracees.entry(pid).or_default();
        // One that is gone meanwhile says so at the next wait.
        let _ = match tracee.counts {
            true => ptrace::syscall(pid, signal),
            false => ptrace::cont(pid, signal),
        };
    }
}

fn is_stop(status: &WaitStatus) -> bool {
    !matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..))
}

fn signal_of(status: &WaitStatus) -> Option<Signal> {
    match status {
        WaitStatus::Stopped(_, signal) => Some(*signal),
        _ => None,
    }
}

/// The hidden command of a process of the pair, else the name of its program.
fn role_of(pid: Pid) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default().into_owned();
    match words.next() {
        Some(role) if program.contains("nodemanager") => role.into_owned(),
        _ => program,
    }
}

/// The name that a process of the pair gave itself: its present role.
fn name_of(pid: Pid) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_string()
}
