//! The loop of a twin: wait, turn what came into events, let the core decide, do what it says.
//!
//! Must not decide. Actions are carried out in the order the core gave them (record before gate,
//! fence before lock, lock before serving); results go back as events. Nothing here blocks.

mod actions;
pub mod alerts;
pub mod apply;
pub mod bequest;
pub mod cgroups;
pub mod compress;
mod control;
mod ctx;
pub mod enabling;
mod endpoints;
mod events;
pub mod guard;
mod helpers;
mod identity;
pub mod in_force;
mod jobs;
pub mod keeper;
mod log_watch;
pub mod mover;
mod notes;
mod outputs;
mod own_log;
pub mod packed;
pub mod pair_requests;
pub mod peer;
mod plan;
mod probes;
pub mod requests;
mod scrapes;
mod servers;
mod signals;
mod spare;
mod spec;
pub mod store;
mod successor;
mod tasks;
mod telling;
mod token;
mod twins;
pub mod upgrade;
pub mod view;
pub mod wishes;

use crate::config::{Config, LogTarget};
use crate::core::node::{Node, Role};
use crate::core::{Action, ClientId, Event, Identity, Ms};
use crate::output::logger::{self, LogHandle};
use crate::sys::{self, lock::Lock, pidfd, process, pulse, pulse::Pulse};
pub use actions::make_dirs;
use bequest::Bequest;
use control::Control;
use ctx::Ctx;
use endpoints::Endpoints;
use log::{debug, error};
use log_watch::LogWatch;
use mio::Events;
pub use notes::say;
use outputs::Outputs;
use own_log::log_error;
pub use own_log::{log_path, log_settings};
use packed::PackedConfig;
use peer::Peers;
pub use plan::plans;
use probes::Probes;
use scrapes::Scrapes;
use servers::Servers;
use signals::Signals;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use store::Store;
use tasks::Tasks;
use token::Source;

/// Readiness events of one wait.
const EVENTS_MAX: usize = 1024;
/// Even with nothing due the loop looks around so often.
const WAIT_MAX_MS: u64 = 60_000;
/// At the end, so long for the last answers to be read.
const LAST_ANSWERS_MS: u64 = 2_000;
/// The log lines of more events than this are written together.
const LINES_TOGETHER: usize = 8;

/// One twin.
pub struct Shell {
    ctx: Ctx,
    node: Node,
    servers: Servers,
    probes: Probes,
    tasks: Tasks,
    log_watch: LogWatch,
    outputs: Outputs,
    endpoints: Endpoints,
    store: Store,
    peers: Peers,
    control: Control,
    scrapes: Scrapes,
    told: telling::Told,
    signals: Signals,
    log: LogHandle,
    /// The other twin.
    other: Option<(Identity, OwnedFd)>,
    keeper: guard::KeeperWatch,
    reports: Option<OwnedFd>,
    lock: Option<Lock>,
    own: Identity,
    /// Started by the keeper because nobody served any more.
    revives: bool,
    /// This process has the listening sockets.
    is_bound: bool,
    /// Clients are served.
    is_serving: bool,
    /// What an active listens at and could not watch yet.
    closed_doors: Vec<Door>,
    serves_since: Ms,
    says_watching: bool,
    /// Children forked since the last heartbeat of a long turn.
    forks: usize,
    /// The last heartbeat.
    beat_at: Ms,
    asked: BTreeMap<ClientId, crate::core::ask::Verb>,
    mover: Option<i32>,
    wishes: wishes::WishSaver,
    disabled: enabling::DisabledList,
    compressor: compress::Compressor,
    apply: apply::Apply,
    upgrade: upgrade::Upgrade,
    succession: successor::Succession,
    /// Everything is in the hands of the standby: this process ends without a word.
    hands_over: bool,
    /// The active before handed over to this one because it runs another program.
    came_by_upgrade: bool,
    events: events::Events,
    alerts: alerts::Alerts,
    pair_file: notes::PairFileWriter,
    exit: Option<u8>,
    exit_at: Option<Ms>,
    stderr_is_open: bool,
    ground: guard::Ground,
}

/// What an active listens at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Control,
    Link,
    Reports,
    Metrics,
}

/// Which twin a process begins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    FirstActive,
    Standby,
}

/// Where the pair's lock is.
pub fn lock_path(config: &Config) -> PathBuf {
    config.node.run_dir.join("nodemanager.lock")
}

/// Runs a twin until it ends; gives its exit status.
pub fn run(beginning: Beginning) -> u8 {
    let _ = sys::set_name(match beginning {
        Beginning::FirstActive => "nm-active",
        Beginning::Standby => "nm-standby",
    });
    match Shell::new(beginning) {
        Ok(mut shell) => {
            // Behind what is inherited under fixed numbers, and before anything of servers is open.
            sys::low::reserve();
            shell.run()
        }
        Err(error) => {
            notes::say(&format!("nodemanager: cannot start: {error}"));
            1
        }
    }
}

impl Shell {
    fn new(beginning: Beginning) -> io::Result<Shell> {
        let bequest = Bequest::unpack()?;
        let packed = PackedConfig::inherited(bequest::CONFIG)?;
        let config = packed.unpack()?;
        let is_standby = beginning == Beginning::Standby;
        // Where servers may be running already, somebody has to watch them, with a log or without.
        let may_wait = is_standby || bequest.revives;
        let settings = logger::Settings { may_wait, ..log_settings(&config, is_standby) };
        let log = logger::init(&settings).map_err(|error| log_error(&config, &error))?;
        let pulse = Pulse::from_fd(sys::inherited(bequest::PULSE)?)?;
        let mut ctx = Ctx::new(&bequest, config, packed, pulse)?;
        if bequest::is_inherited(&ctx.config) {
            ctx.inheritance =
                Some([sys::inherited(bequest::STDOUT)?, sys::inherited(bequest::STDERR)?]);
        }
        let signals = Signals::new(&ctx)?;
        let reports = match bequest.has_reports {
            true => Some(sys::inherited(bequest::REPORTS)?),
            false => None,
        };
        let _ = sys::raise_nofile();
        // A file size limit gives an error then, instead of ending this process.
        sys::ignore_signals(&[libc::SIGXFSZ])?;
        let own = own_identity()?;
        ctx.pulse.write_identity(ctx.twin.slot(), own.pid, own.start_ticks);
        let store = Store::new(&ctx.config.node, ctx.owner.clone(), ctx.config.servers.len())?;
        let (node, control, mut peers, other) = begin_as(beginning, &ctx, &bequest, own)?;
        peers.secret = bequest.secret.clone();
        let pair_file = notes::PairFileWriter::new(&ctx.config);
        let endpoints = Endpoints::inherit(&bequest, &ctx.config)?;
        let stderr_is_open = ctx.config.node.log_target != LogTarget::Stderr && !is_standby;
        let keeper = guard::KeeperWatch::default();
        Ok(Shell {
            ctx,
            node,
            servers: Servers::default(),
            probes: Probes::default(),
            tasks: Tasks::default(),
            log_watch: LogWatch::default(),
            outputs: Outputs::default(),
            endpoints,
            store,
            peers,
            control,
            scrapes: Scrapes::inherit(&bequest)?,
            told: telling::Told::default(),
            signals,
            log,
            other,
            keeper,
            reports,
            lock: None,
            own,
            revives: bequest.revives,
            is_bound: is_standby,
            is_serving: false,
            closed_doors: Vec::new(),
            serves_since: Ms(0),
            says_watching: false,
            forks: 0,
            beat_at: Ms(0),
            asked: BTreeMap::new(),
            mover: None,
            wishes: wishes::WishSaver::default(),
            disabled: enabling::DisabledList::default(),
            compressor: compress::Compressor::default(),
            apply: apply::Apply::default(),
            upgrade: upgrade::Upgrade::default(),
            succession: successor::Succession::new(is_standby),
            hands_over: false,
            came_by_upgrade: false,
            events: events::Events::default(),
            alerts: alerts::Alerts::default(),
            pair_file,
            exit: None,
            exit_at: None,
            stderr_is_open,
            ground: guard::Ground::default(),
        })
    }

    fn run(&mut self) -> u8 {
        self.say_beginning();
        let mut actions = Vec::new();
        self.node.begin(self.ctx.now(), &mut actions);
        self.carry_out(actions);
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.empty_inbox();
            if let Some(code) = self.ended() {
                return code;
            }
            self.wait(&mut events);
            for event in &events {
                if let Some(source) = Source::of(event.token()) {
                    self.on_ready(source);
                    self.beat_in_long_turn();
                }
            }
            self.empty_inbox();
            self.tick();
            if self.hands_over {
                return 0;
            }
        }
    }

    /// Hands every event to the core and carries out what it says, until nothing is left.
    fn empty_inbox(&mut self) {
        // One write(2) for the lines of many events.
        if self.node.role == Role::Promoting || self.ctx.inbox.len() > LINES_TOGETHER {
            self.log.hold();
        }
        while let Some(event) = self.ctx.inbox.pop_front() {
            debug!(target: "0100", "event {event:?}");
            if let Event::ClientGone { client } = event {
                self.asked.remove(&client);
                self.succession.forget_client(client);
                self.upgrade.forget_client(client);
            }
            let mut actions = Vec::new();
            let before = self.node.role;
            self.node.handle(self.ctx.now(), event, &mut actions);
            self.note_role(before);
            self.carry_out(actions);
        }
        self.peers.flush_main();
        self.log.release();
    }

    fn wait(&mut self, events: &mut Events) {
        let now = self.ctx.now();
        let is_busy = self.outputs.is_busy()
            || self.servers.has_unseen()
            || self.has_put_off()
            || !self.ctx.inbox.is_empty();
        let due = [
            self.node.deadline(),
            self.servers.deadline(),
            self.probes.deadline(),
            self.tasks.deadline(self.ctx.now()),
            self.log_watch.deadline(),
            self.outputs.deadline(),
            self.compressor.deadline(),
            self.apply.deadline(),
            self.succession.deadline(),
            self.upgrade.deadline(),
            self.events.deadline(),
            self.alerts.deadline(),
            self.peers.deadline(),
            self.control.deadline(),
            self.scrapes.deadline(),
            self.exit_at,
        ];
        let next = due.into_iter().flatten().min().unwrap_or(now.after(WAIT_MAX_MS));
        let wait_ms = if is_busy { 0 } else { next.since(now).min(WAIT_MAX_MS) };
        let wait = Duration::from_millis(wait_ms);
        let wait = self.outputs.look_every().map_or(wait, |every| wait.min(every));
        match self.ctx.wait(events, wait) {
            Ok(()) => {}
            Err(error) => {
                // There is nothing to wait with. Timers go on, so the other twin sees a beat.
                error!(target: "0198", "cannot wait for events: {error}");
                events.clear();
            }
        }
    }

    fn on_ready(&mut self, source: Source) {
        match source {
            Source::Signals => self.on_signals(),
            Source::ControlListener => self.control.accept(&mut self.ctx),
            Source::LinkListener => self.peers.accept(&mut self.ctx),
            Source::ScrapeListener => {
                self.scrapes.accept(&mut self.ctx);
                self.answer_scrapes();
            }
            Source::Scraper(number) => {
                self.scrapes.on_ready(&self.ctx, number);
                self.answer_scrapes();
            }
            Source::Reports => self.read_reports(),
            Source::OtherTwin => self.on_other_twin(),
            Source::Keeper => self.on_keeper(),
            Source::Saver => self.on_saver(),
            Source::Compressor => self.on_compressor(),
            Source::Applier => self.on_applier(),
            Source::Prover => self.on_prover(),
            Source::Mailer => self.on_mailer(),
            Source::Hook(number) => self.on_hook(number),
            Source::Client(number) => {
                if let Some(request) = self.control.on_ready(&mut self.ctx, number) {
                    self.on_request(ClientId(number as u64), request);
                }
            }
            Source::Peer(number) => self.on_peer(number),
            Source::Gate(number) => self.servers.on_gate(&mut self.ctx, number),
            Source::Leader(number) => self.servers.on_leader(&mut self.ctx, number),
            Source::Witness(number) => self.servers.on_witness(&mut self.ctx, number),
            Source::Output(number) => self.outputs.on_readable(number),
            Source::Probe(number) => self.probes.on_ready(&mut self.ctx, number),
            Source::Job(number) => self.probes.on_job(&mut self.ctx, number),
            Source::Task(number) => self.tasks.on_ready(&mut self.ctx, &mut self.servers, number),
            Source::Told(number) => self.on_told(number),
            Source::Discarded(number) => self.servers.on_discarded(&mut self.ctx, number),
        }
    }

    fn tick(&mut self) {
        for source in std::mem::take(&mut self.ctx.again) {
            self.on_ready(source);
        }
        if self.signals.is_waiting() {
            self.on_signals();
        }
        let now = self.ctx.now();
        if self.node.deadline().is_some_and(|at| at <= now) {
            let mut actions = Vec::new();
            let before = self.node.role;
            self.node.tick(now, &mut actions);
            self.note_role(before);
            self.carry_out(actions);
        }
        self.do_what_was_put_off();
        self.servers.look_at_unseen(&mut self.ctx);
        self.servers.ask_again(&mut self.ctx);
        self.probes.tick(&mut self.ctx);
        self.tasks.tick(&mut self.ctx, &mut self.servers);
        self.log_watch.tick(&mut self.ctx);
        self.outputs.turn(&mut self.ctx);
        self.compress_logs();
        self.look_at_reader();
        self.look_at_prover();
        self.advance_succession();
        self.peers.tick(&mut self.ctx);
        self.control.tick(&mut self.ctx);
        self.scrapes.tick(&mut self.ctx);
        self.answer_scrapes();
        self.tell_events();
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            debug!(target: "0100", "action {action:?}");
            self.do_action(action);
            // Each may take a moment on a slow disk: together they are work and no hang.
            self.beat_in_long_turn();
        }
    }

    /// The exit status, once everything that was to be sent is sent.
    fn ended(&mut self) -> Option<u8> {
        let code = self.exit?;
        self.tell_events();
        let now = self.ctx.now();
        let until = *self.exit_at.get_or_insert(now.after(LAST_ANSWERS_MS));
        if (self.control.is_sending() || self.alerts.is_busy()) && now < until {
            return None;
        }
        self.end(code);
        Some(code)
    }
}

/// A twin's core, and what it has of the other one.
type Begun = (Node, Control, Peers, Option<(Identity, OwnedFd)>);

fn begin_as(
    beginning: Beginning,
    ctx: &Ctx,
    bequest: &Bequest,
    own: Identity,
) -> io::Result<Begun> {
    let wishes = crate::state::Wishes::read(&ctx.config.node.state_dir);
    let (pair, plans) = plans(&ctx.config, &|name| wishes.is_up(name));
    match beginning {
        Beginning::FirstActive => {
            ctx.pulse.set_role(ctx.twin.slot(), pulse::Role::Starting);
            let node = Node::first(ctx.now(), pair, plans, bequest.revives);
            let peers = Peers::new((own.pid, own.start_ticks), None);
            Ok((node, Control::new(None), peers, None))
        }
        Beginning::Standby => {
            ctx.pulse.set_role(ctx.twin.slot(), pulse::Role::Standby);
            let node = Node::standby(ctx.now(), pair, plans);
            let (control, peers, other) = twins::inherit(ctx, bequest, own)?;
            Ok((node, control, peers, Some(other)))
        }
    }
}

fn own_identity() -> io::Result<Identity> {
    let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let fd = pidfd::open(pid)?;
    pidfd::identify(pid, &fd.as_fd())
}

/// The process's start time for the pulse and pair.json.
pub fn ticks_of(pid: i32) -> Option<u64> {
    process::start_ticks(pid).ok()
}
