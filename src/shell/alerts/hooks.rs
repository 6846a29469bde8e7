//! Hooks: programs that are run when something happens, with the event on their standard input.
//!
//! Must not run more than a few at once, nor keep more than a hundred waiting. A hook dies with the
//! active, and is run again by the next one; its whole group is killed when its time is over.

use crate::config::EventHook;
use crate::core::server::exit_text;
use crate::core::{Exit, Ms};
use crate::events::{Draft, Kind, Record};
use crate::shell::Shell;
use crate::shell::jobs::{End, Jobs};
use crate::shell::spec;
use crate::shell::token::Source;
use log::warn;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;

/// Hooks that run at once.
const RUNNING_MAX: usize = 4;
/// Hooks that wait.
const QUEUE_MAX: usize = 100;

/// A hook that is to be run for an event.
#[derive(Clone)]
struct Due {
    /// Its place in the configuration.
    hook: usize,
    record: Record,
}

/// Hooks that wait or run.
pub struct Hooks {
    jobs: Jobs,
    queue: VecDeque<Due>,
    running: BTreeMap<usize, Due>,
    dropped: u64,
    /// One is through.
    pub is_changed: bool,
}

impl Default for Hooks {
    fn default() -> Hooks {
        let (queue, running) = (VecDeque::new(), BTreeMap::new());
        Hooks { jobs: Jobs::new(Source::Hook), queue, running, dropped: 0, is_changed: false }
    }
}

impl Hooks {
    /// Every hook that is for this event waits for its turn.
    pub fn offer(&mut self, hooks: &[EventHook], record: &Record) {
        for (hook, _) in hooks.iter().enumerate().filter(|(_, hook)| hook.is_for(record)) {
            if self.queue.len() < QUEUE_MAX {
                self.queue.push_back(Due { hook, record: record.clone() });
                continue;
            }
            self.dropped += 1;
            if self.dropped == 1 {
                warn!(target: "0152", "{QUEUE_MAX} hooks wait: more are dropped until these are through");
            }
        }
    }

    /// The event of the oldest that is not through.
    pub fn oldest(&self) -> Option<u64> {
        self.queue.iter().chain(self.running.values()).map(|due| due.record.seq).min()
    }

    pub fn deadline(&self) -> Option<Ms> {
        self.jobs.deadline()
    }
}

impl Shell {
    /// Begins with those whose turn it is.
    pub(super) fn run_hooks(&mut self) {
        for number in self.alerts.hooks.jobs.kill_late(self.ctx.now()) {
            self.on_hook(number);
        }
        while self.alerts.hooks.running.len() < RUNNING_MAX {
            let Some(due) = self.alerts.hooks.queue.pop_front() else { break };
            match self.start_hook(&due) {
                Ok(number) => drop(self.alerts.hooks.running.insert(number, due)),
                Err(text) => self.hook_failed(&due, &text),
            }
        }
        let hooks = &mut self.alerts.hooks;
        if hooks.queue.is_empty() && hooks.dropped > 0 {
            let count = std::mem::take(&mut hooks.dropped);
            let text = format!("{count} hooks were not run: more than {QUEUE_MAX} waited");
            warn!(target: "0152", "{text}");
            self.happen(Draft::new(Kind::HookDropped, text).with("count", count));
        }
    }

    fn start_hook(&mut self, due: &Due) -> Result<usize, String> {
        let hook = self.ctx.config.alerts.hooks.get(due.hook).ok_or("it is not configured")?;
        let input = input_of(&due.record)
            .map_err(|error| format!("cannot make its standard input: {error}"))?;
        let timeout_ms = hook.timeout_ms;
        let told = variables(hook, &self.ctx.config.node.name, &due.record);
        let hook = hook.clone();
        let jobs = &mut self.alerts.hooks.jobs;
        jobs.launch(&mut self.ctx, timeout_ms, |ctx, said| {
            spec::hook(ctx, &hook, &told, input.as_raw_fd(), said)
        })
    }

    /// It has ended, or may have.
    pub(in crate::shell) fn on_hook(&mut self, number: usize) {
        let Some(end) = self.alerts.hooks.jobs.on_ready(&mut self.ctx, number) else { return };
        let Some(due) = self.alerts.hooks.running.remove(&number) else { return };
        self.alerts.hooks.is_changed = true;
        let text = match end {
            End::Exited(Exit::Code(0), _) => return,
            End::Exited(exit, line) if line.is_empty() => exit_text(exit),
            End::Exited(exit, line) => format!("{}: {line}", exit_text(exit)),
            End::NotBegun(text) => text,
            End::TimedOut => "its time was over, and it was killed".to_owned(),
        };
        self.hook_failed(&due, &text);
    }

    fn hook_failed(&mut self, due: &Due, why: &str) {
        self.alerts.hooks.is_changed = true;
        let hook = self.ctx.config.alerts.hooks.get(due.hook);
        let name = hook.map_or_else(String::new, |hook| hook.name.clone());
        let (seq, kind) = (due.record.seq, &due.record.kind);
        let text = format!("hook {name} failed for event {seq} ({kind}): {why}");
        warn!(target: "0153", "{text}");
        let draft = Draft::new(Kind::HookFailed, text).with("hook", name).with("event", seq);
        self.happen(draft.with("reason", why));
    }
}

/// The event as JSON. Memory, so that nothing ever waits for who does not read it.
fn input_of(record: &Record) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"nodemanager-event", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(record.line().as_bytes())?;
    file.rewind()?;
    Ok(file)
}

fn variables(hook: &EventHook, node: &str, record: &Record) -> Vec<(&'static str, String)> {
    let mut told = vec![
        ("NM_NODE", node.to_owned()),
        ("NM_HOOK", hook.name.clone()),
        ("NM_EVENT", record.kind.clone()),
        ("NM_EVENT_SEQ", record.seq.to_string()),
        ("NM_EVENT_TIME", record.time.clone()),
        ("NM_EVENT_TEXT", record.text.clone()),
    ];
    told.extend(record.server.clone().map(|name| ("NM_SERVER_NAME", name)));
    told
}
