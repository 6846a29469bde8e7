//! Carries out what the core says, one action at a time.
//!
//! Must not change the order, and must not skip: an action that fails becomes an event or a log
//! line, and the next one is carried out.

use super::servers::PairPids;
use super::token::Source;
use super::{Door, Shell, cgroups, control, lock_path, log_path, log_watch, notes, twins};
use crate::config::{LogTarget, Readiness};
use crate::core::node::Role;
use crate::core::plan::Kind;
use crate::core::record::TaskKind;
use crate::core::task::TaskEnd;
use crate::core::{Action, Event, Name, Phase, Record, Recovered, ServerId};
use crate::sys::lock::{Attempt, Lock};
use crate::sys::{self, pidfd, pulse};
use crate::wire::Message;
use log::{error, warn};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A heartbeat is sent in the middle of many forks, so that a long turn is not taken for a hang.
const FORKS_PER_BEAT: usize = 64;

impl Shell {
    pub(super) fn do_action(&mut self, action: Action) {
        let ctx = &mut self.ctx;
        match action {
            Action::Spawn { server, start_number } => self.spawn_server(server, start_number),
            Action::Discard { server, start_number } => {
                self.servers.discard_child(ctx, server, start_number);
            }
            Action::OpenGate { server, start_number } => {
                self.servers.open_gate(ctx, server, start_number);
            }
            Action::Signal { server, process, signal, scope } => {
                self.servers.set_forked(server, forked(&self.node, server, process.pid));
                let cgroup = cgroup_of(&self.node, server);
                self.servers.signal(server, process, signal, scope, cgroup.as_deref());
            }
            Action::Reap { server, process } => self.servers.reap(ctx, server, process),
            Action::ProbeGroup { server, process } => {
                self.servers.set_forked(server, forked(&self.node, server, process.pid));
                let cgroup = cgroup_of(&self.node, server);
                self.servers.probe_group(ctx, server, process, cgroup.as_deref());
            }
            Action::Probe { server, start_number, check } => {
                self.probes.ask(ctx, &self.servers, server, start_number, check);
            }
            Action::FindMain { server, start_number, starter } => {
                let (keeper, standby) = (self.keeper.keeper(), self.node.standby.process());
                let pair = PairPids::of(keeper, standby);
                self.servers.find_main(ctx, server, start_number, starter, pair);
            }
            Action::SpawnTask { server, number, kind } => self.spawn_task(server, number, kind),
            Action::OpenTaskGate { server, number } => self.tasks.open_gate(ctx, server, number),
            Action::KillTask { server, number } => {
                self.tasks.kill(ctx, &mut self.servers, server, number);
            }
            Action::WatchTask { server, number, process } => {
                let name = self.servers.name(server);
                self.tasks.watch(ctx, name, server, number, process);
            }
            Action::ProbeStrays { server } => self.servers.probe_strays(ctx, server),
            Action::Verify { server, process, start_number } => {
                let may_be_at_gate = may_be_at_gate(&self.node, server);
                if self.store.has_survivors && cgroup_of(&self.node, server).is_none() {
                    self.servers.find_cgroup(ctx, server, process, start_number);
                }
                self.servers.verify(server, process, start_number, may_be_at_gate);
            }
            Action::OpenJournal { entries, goes_on } => {
                self.servers.begin(&ctx.owner, &self.node.servers);
                self.tasks.begin(&self.node.servers);
                match goes_on {
                    true => self.store.go_on(entries, || self.node.entries()),
                    false => self.store.open(entries),
                }
                // Before the standby is started, which inherits them.
                self.begin_endpoints();
            }
            Action::Save { entry, answer } => self.save(&entry, answer),
            Action::Answer { client, outcomes } => self.answer(client, outcomes),
            Action::AnswerAboutPair { client, result, text } => {
                self.answer_about_pair(client, result, text);
            }
            Action::HandOver => self.hand_over(),
            Action::LeaveMover => self.leave_mover(),
            Action::Exit { code } => self.exit = Some(code),
            Action::Note(note) => self.note(note),
            other => self.do_pair_action(other),
        }
    }

    fn do_pair_action(&mut self, action: Action) {
        match action {
            Action::SendSnapshot { entries, seq } => {
                let servers = entries.len() as u64;
                for entry in entries {
                    self.peers.send(&Message::Entry(entry));
                }
                self.peers.send(&Message::SnapshotEnd { seq, servers });
            }
            Action::SpawnStandby if self.takes_over() => self.succession.put_off(self.ctx.now()),
            Action::SpawnStandby => self.spawn_standby(),
            Action::KillStandby { process } => {
                if let Some((other, fd)) = &self.other
                    && *other == process
                {
                    let _ = pidfd::signal(fd, libc::SIGKILL);
                }
            }
            Action::TellStandbyToStop => self.peers.send(&Message::Stop),
            Action::DropStandbyLink | Action::CloseLink => self.peers.close_main(&mut self.ctx),
            Action::Connect => {
                if let Some(port) = self.peers.port() {
                    self.peers.connect(&mut self.ctx, port);
                }
            }
            Action::Hold { name, process, task } => {
                self.servers.hold(&self.ctx, &name, process);
                self.tasks.hold(&name, task);
            }
            Action::Ack { seq } => self.peers.send(&Message::Ack { seq }),
            Action::SayWatching => self.say_watching(),
            Action::Beat => self.beat(),
            Action::Fence => {
                if let Some((_, fd)) = &self.other {
                    let _ = pidfd::signal(fd, libc::SIGKILL);
                }
            }
            Action::TakeLock => self.take_lock(),
            Action::ReadJournal { find_survivors, known_seq } => {
                self.read_journal(find_survivors, known_seq);
            }
            Action::Serve => self.serve(),
            // Carried out above.
            _ => {}
        }
    }

    /// What the machine lacks for a start is not the server's failure.
    fn spawn_server(&mut self, server: ServerId, start_number: u64) {
        let prepared = self.prepare_output(server).and_then(|()| self.prepare_endpoints(server));
        match prepared {
            Ok(sockets) => {
                self.tell_output_place(server, start_number);
                self.servers.spawn(&mut self.ctx, server, start_number, sockets);
            }
            Err(error) => self.ctx.tell(Event::SpawnFailed { server, start_number, error }),
        }
        self.forks += 1;
        if self.forks.is_multiple_of(FORKS_PER_BEAT) {
            self.send_beat();
        }
    }

    /// A command of a server writes where the server writes, and may be the first that does.
    fn spawn_task(&mut self, server: ServerId, number: u64, kind: TaskKind) {
        if let Err(text) = self.prepare_output(server) {
            let end = TaskEnd::NotBegun(text);
            return self.ctx.tell(Event::TaskEnded { server, number, end });
        }
        if let Some(one) = self.node.servers.get(server.0) {
            let begun = (kind, &*one.rec);
            self.tasks.spawn(&mut self.ctx, &mut self.servers, server, number, begun);
        }
    }

    /// What an earlier run wrote goes into its log first.
    fn tell_output_place(&mut self, server: ServerId, start_number: u64) {
        let name = self.servers.name(server).to_string();
        let Some(config) = self.ctx.server(&name) else { return };
        if !matches!(*config.ready, Some(Readiness::Log(_))) {
            return;
        }
        self.outputs.settle(&self.ctx, &name);
        if let Some(config) = self.ctx.server(&name)
            && let Some(place) = log_watch::place_of(&self.ctx, config)
        {
            self.ctx.tell(Event::OutputAt { server, start_number, place });
        }
    }

    /// Without its directory there is no FIFO: somebody emptied the run directory, and the next
    /// heartbeat would be too late for this start.
    fn prepare_output(&mut self, server: ServerId) -> Result<(), String> {
        let name = self.servers.name(server).to_string();
        let mut made = self.outputs.ensure(&self.ctx, &name);
        if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            make_dirs(&self.ctx.config)?;
            self.keep_run_dir();
            if self.exit.is_some() {
                return Err("this active ends".to_string());
            }
            made = self.outputs.ensure(&self.ctx, &name);
        }
        made.map_err(|error| format!("cannot make its FIFO: {error}"))
    }

    /// The journal, then the copy: the gate opens when either has it. That the pair is to end is
    /// said in shared memory before both: an end on record that is not there is an old one.
    fn save(&mut self, entry: &crate::core::Entry, answer: bool) {
        if let Record::Node(node) = &entry.record
            && let Some(ending) = &node.ending
        {
            self.ctx.pulse.set_end_asked(ending.asked());
        }
        let node = &self.node;
        let result = serde_json::to_vec(entry).map_err(|error| error.to_string());
        let result = result.and_then(|text| {
            let saved = self.store.save(&text, || node.entries());
            self.peers.send_entry(&text);
            saved
        });
        let seq = entry.seq;
        if answer {
            self.ctx.tell(match result {
                Ok(()) => Event::Saved { seq },
                Err(error) => Event::NotSaved { seq, error },
            });
        }
    }

    /// A standby that can't hold an output would lose bytes at the takeover: it does not watch yet.
    pub(super) fn say_watching(&mut self) {
        let names: Vec<Name> =
            self.ctx.config.all_servers().map(|server| server.name.clone()).collect();
        for name in names {
            let held = self.outputs.hold(&self.ctx, &name);
            if let Err(error) = held.and_then(|()| self.endpoints.hold_ready(&self.ctx, &name)) {
                if !self.says_watching {
                    warn!(target: "0213", "cannot hold the FIFO of {name}: {error}; not WATCHING until it can be held");
                }
                self.says_watching = true;
                return;
            }
        }
        self.says_watching = false;
        self.peers.send(&Message::Watching);
    }

    fn take_lock(&mut self) {
        let path = lock_path(&self.ctx.config);
        // A start may fail. A takeover is tried until it works: nobody else is left to serve.
        let is_start = self.is_start();
        // Servers may be running already: who comes back can do without logs for a while.
        let made = match self.revives {
            true => make_run_dirs(&self.ctx.config),
            false => make_dirs(&self.ctx.config),
        };
        if let Err(error) = made
            && is_start
        {
            return self.fail(78, &error);
        }
        let event = match Lock::try_take(&path) {
            Ok(Attempt::Taken(lock)) => {
                self.lock = Some(lock);
                Event::Locked
            }
            Ok(Attempt::HeldBy(pid)) => Event::LockHeld { pid },
            Err(error) if is_start => {
                let text = format!("cannot take the lock {}: {error}", path.display());
                return self.fail(78, &text);
            }
            Err(error) => Event::LockFailed { error: error.to_string() },
        };
        self.ctx.tell(event);
    }

    /// Nobody was active before, and nobody is there who could try again.
    fn is_start(&self) -> bool {
        self.node.promotion.as_ref().is_some_and(|one| one.cause.is_none())
    }

    fn read_journal(&mut self, find_survivors: bool, known_seq: u64) {
        if !self.is_bound
            && let Err(error) = self.bind()
        {
            return self.fail(78, &error);
        }
        match self.store.read(find_survivors, known_seq, &self.ctx.fifos()) {
            Ok(recovered) => {
                let end_asked = self.ctx.pulse.end_asked();
                let disabled = self.read_disabled();
                // No record knows them either (it is a new boot), so nothing may be started.
                let has_records = recovered.same_boot && !recovered.entries.is_empty();
                if disabled.is_none() && !has_records && !self.revives && self.is_start() {
                    let dir = self.ctx.config.node.state_dir.display();
                    let text = format!(
                        "cannot read {dir}/disabled, so nobody knows which servers are disabled; \
                         mend or remove it"
                    );
                    return self.fail(78, &text);
                }
                self.ctx.tell(Event::Recovered(Recovered { end_asked, disabled, ..recovered }));
            }
            Err(error) => self.fail(78, &error),
        }
    }

    /// Makes the sockets of the pair; they live as long as any twin does.
    fn bind(&mut self) -> Result<(), String> {
        let node = &self.ctx.config.node;
        // The port first: it is the one that can be taken, and it leaves no file behind.
        if let Some(port) = node.standby_port {
            let listener = twins::bind_port(&self.ctx.config, port)?;
            self.peers.set_listener(self.ctx.poll.registry(), listener);
        }
        // Servers that run already need an active, whoever has the port by now: it is tried again.
        if !self.revives {
            self.scrapes.rebind(&self.ctx, &self.ctx.config)?;
        }
        let path = node.control_socket();
        let listener = control::bind(&path, node)
            .map_err(|error| format!("cannot bind {}: {error}", path.display()))?;
        self.control = control::Control::new(Some(listener));
        self.is_bound = true;
        Ok(())
    }

    /// A start that can't go on: the reason on stderr and in the log, and nothing left behind.
    pub(super) fn fail(&mut self, code: u8, text: &str) {
        error!(target: "0103", "{text}");
        if self.stderr_is_open {
            notes::say(&format!("nodemanager: {text}"));
        }
        self.exit = Some(code);
    }

    /// A door that can't be watched would keep everybody waiting behind it: it is tried again with
    /// each heartbeat.
    pub(super) fn open_doors(&mut self) {
        for door in std::mem::take(&mut self.closed_doors) {
            if self.try_door(door).is_err() {
                self.closed_doors.push(door);
            }
        }
    }

    /// The first try of a door that was just made.
    pub(super) fn open_new_door(&mut self, door: Door) {
        self.closed_doors.retain(|closed| *closed != door);
        if let Err(error) = self.try_door(door) {
            match door {
                Door::Metrics => {
                    error!(target: "0171", "metrics are not told: {error}; tried again until it works");
                }
                _ => {
                    error!(target: "0103", "cannot watch {door:?}: {error}; tried again until it works");
                }
            }
            self.closed_doors.push(door);
        }
    }

    fn try_door(&mut self, door: Door) -> std::io::Result<()> {
        match (door, &self.reports) {
            (Door::Control, _) => self.control.begin(&mut self.ctx),
            (Door::Metrics, _) => self.scrapes.begin(&mut self.ctx),
            (Door::Link, _) => self.peers.listen(self.ctx.poll.registry()),
            (Door::Reports, Some(reports)) => self.ctx.watch(reports, Source::Reports),
            (Door::Reports, None) => Ok(()),
        }
    }

    /// From here on this process is the active.
    fn serve(&mut self) {
        self.ctx.pulse.set_role(self.ctx.twin.slot(), pulse::Role::Serving);
        self.ctx.pulse.beat(self.ctx.twin.slot());
        let _ = sys::set_name("nm-active");
        self.serves_since = self.ctx.now();
        if self.ctx.config.node.log_target == LogTarget::File
            && let Err(error) = self.log.switch_to(&log_path(&self.ctx.config, false))
        {
            warn!(target: "0104", "cannot write the active's log: {error}");
        }
        for door in [Door::Control, Door::Link, Door::Reports, Door::Metrics] {
            self.open_new_door(door);
        }
        self.say_serving();
        let writers = self.node.servers.iter();
        let writers = writers.filter_map(|one| Some((&one.rec.name, one.rec.phase.process()?.pid)));
        self.outputs.begin(&self.ctx, writers);
        if !self.takes_over() {
            // No client waits. What starts need for a while must not come between what lives long:
            // memory goes back in whole pages.
            self.outputs.join_rest(&self.ctx);
        }
        self.beat_in_long_turn();
        self.look_at_keeper();
        self.is_serving = true;
        match self.stderr_is_open {
            // Whoever waits for the start may look at once.
            true => self.write_pair_file("serving", None),
            false => self.note_serving(),
        }
        self.succession.begin(self.serves_since);
        if self.stderr_is_open {
            // Whoever waits for the start reads until the end of the file.
            sys::silence_stderr();
            self.stderr_is_open = false;
        }
    }

    /// The last acts of this process.
    pub(super) fn end(&mut self, _code: u8) {
        let is_done = self.node.record.ending.as_ref().is_some_and(|ending| ending.done);
        if self.lock.is_none() {
            return;
        }
        if self.node.role != Role::Active && !is_done {
            // A start that failed on the way: a socket that nobody serves would mislead.
            if self.is_bound {
                let _ = std::fs::remove_file(self.ctx.config.node.control_socket());
            }
            return;
        }
        self.outputs.end(&mut self.ctx);
        if is_done {
            cgroups::remove_empty(&self.ctx.cgroup_root, &self.ctx.config);
            self.write_pair_file(crate::api::PAIR_ENDED, None);
            let _ = std::fs::remove_file(self.ctx.config.node.control_socket());
            let is_failure =
                self.node.record.ending.as_ref().is_some_and(|ending| ending.failed.is_some());
            let role = if is_failure { pulse::Role::EndedForFailure } else { pulse::Role::Ended };
            self.ctx.pulse.set_role(self.ctx.twin.slot(), role);
        }
    }
}

/// Before exec a process has no mark; after it, a server may hide its own.
fn may_be_at_gate(node: &crate::core::Node, server: ServerId) -> bool {
    match node.servers.get(server.0).map(|server| &server.rec.phase) {
        Some(Phase::Verifying { was, .. }) => was.is_before_exec(),
        _ => false,
    }
}

/// The process group of a server whose main process is not the one that was forked; that of its starter
/// until there is one.
fn forked(node: &crate::core::Node, server: ServerId, pid: i32) -> Option<i32> {
    let one = node.servers.get(server.0)?;
    one.rec.main_group.or((one.plan.kind == Kind::Forking).then_some(pid))
}

/// The directory of a server's cgroup, by its record.
fn cgroup_of(node: &crate::core::Node, server: ServerId) -> Option<PathBuf> {
    node.servers.get(server.0)?.rec.cgroup.as_deref().map(PathBuf::from)
}

/// The directories that the pair writes.
///
/// # Errors
/// One can't be made; says which key names it.
pub fn make_dirs(config: &crate::config::Config) -> Result<(), String> {
    make_run_dirs(config)?;
    make_dir(&config.node.log_dir, "logDir")?;
    make_dir(&config.node.state_dir, "stateDir")
}

/// Those without which nothing can be managed.
///
/// # Errors
/// As [`make_dirs`].
pub(super) fn make_run_dirs(config: &crate::config::Config) -> Result<(), String> {
    make_dir(&config.node.run_dir, "runDir")?;
    ["out", "notify", "ready"]
        .iter()
        .try_for_each(|name| make_dir(&config.node.run_dir.join(name), "runDir"))
}

fn make_dir(path: &Path, key: &str) -> Result<(), String> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| format!("cannot make {}: {error}; choose another {key}", path.display()))?;
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK)
        .map_err(|error| {
            format!("cannot write {}: {}; choose another {key}", path.display(), error.desc())
        })
}

/// The secret of a new standby: 32 bytes from the kernel, as text.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn new_secret() -> Result<crate::wire::Secret, String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes: {error}"))?;
    let text = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(crate::wire::Secret(text))
}
