//! Who goes on with something new: a standby with another configuration or another program, which takes
//! over as soon as it is WATCHING.
//!
//! Must not change anything in the active that works: until the core says that the handover is on
//! record, the active goes on as it is, and a successor that does not get ready changes nothing.

use super::packed::PackedConfig;
use super::requests::Refused;
use super::{Door, Shell, in_force, twins};
use crate::config::Config;
use crate::core::node::Role;
use crate::core::record::Planned;
use crate::core::{ClientId, Event, Identity, Ms, standby};
use crate::sys::pidfd;
use log::{error, info, warn};
use std::os::fd::OwnedFd;

/// A standby that is not WATCHING by then does not get there: everything stays as it is.
const STANDBY_LIMIT_MS: u64 = 60_000;

/// What is in force is long with many servers. Until it is written, what the active before wrote is
/// the same, and the keeper has what it began with.
const IN_FORCE_AFTER_MS: u64 = 20;

/// The start of a standby takes a processor for milliseconds, and so does the end of the active before, on
/// whose processor a client may wait until it can ask at all. So that comes first, is looked for so often,
/// and those clients have as long to be answered.
const LOOK_AT_END_MS: u64 = 2;

/// An end that takes longer is not waited for: without a standby there is nobody to take over.
const END_MAX_MS: u64 = 100;

/// What is on its way.
#[derive(Default)]
pub struct Succession {
    pending: Option<Pending>,
    /// When what is in force is written for the keeper.
    in_force_due: Option<Ms>,
    /// This process began as a standby: when it serves, clients have waited for that.
    was_standby: bool,
    /// The standby of a new active is still to be started.
    put_off: Option<PutOff>,
}

/// A standby that is started behind the end of the active before.
#[derive(Clone, Copy)]
struct PutOff {
    look: Ms,
    until: Ms,
}

/// A successor on its way to being the active.
struct Pending {
    config: PackedConfig,
    /// The number of the configuration.
    generation: u64,
    /// The program that it runs; `None`: this one.
    image: Option<OwnedFd>,
    /// Who waits for it.
    client: Option<ClientId>,
    /// The id of the request; empty for an `apply`, which is not waited for.
    id: String,
    /// The standby that is it.
    standby: Option<Identity>,
    until: Ms,
}

impl Pending {
    fn why(&self) -> Planned {
        if self.image.is_some() { Planned::Upgrade } else { Planned::Apply }
    }
}

impl Succession {
    pub fn new(is_standby: bool) -> Succession {
        Succession { was_standby: is_standby, ..Succession::default() }
    }

    pub fn deadline(&self) -> Option<Ms> {
        let until = self.pending.as_ref().map(|pending| pending.until);
        let standby = self.put_off.map(|standby| standby.look);
        until.into_iter().chain(self.in_force_due).chain(standby).min()
    }

    /// This process is the active now: clients are answered first.
    pub fn begin(&mut self, now: Ms) {
        self.in_force_due = Some(now.after(IN_FORCE_AFTER_MS));
    }

    /// A standby is started when the active before has ended.
    pub fn put_off(&mut self, now: Ms) {
        let look = now.after(LOOK_AT_END_MS);
        self.put_off = Some(PutOff { look, until: now.after(END_MAX_MS) });
    }

    /// Why nothing else can begin now.
    pub fn obstacle(&self) -> Option<&'static str> {
        self.pending.as_ref().map(|pending| match pending.why() {
            Planned::Upgrade => "an upgrade is on its way",
            Planned::Apply | Planned::Asked => "another configuration is on its way",
        })
    }

    /// Another configuration is on its way.
    pub fn is_applying(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.why() == Planned::Apply)
    }

    /// What the next standby is to have.
    pub fn config_for_standby<'a>(&'a self, own: &'a PackedConfig) -> &'a PackedConfig {
        self.pending.as_ref().map_or(own, |pending| &pending.config)
    }

    /// What the next standby is to run; `None`: what this process runs.
    pub fn image_for_standby(&self) -> Option<&OwnedFd> {
        self.pending.as_ref().and_then(|pending| pending.image.as_ref())
    }

    /// It was started with that.
    pub fn note_standby(&mut self, process: Identity) {
        if let Some(pending) = &mut self.pending {
            pending.standby = Some(process);
        }
    }

    /// Whoever asked with this id has asked again, and waits now as this client.
    pub fn wait_again(&mut self, asked: &str, client: ClientId) -> bool {
        let found = self.pending.as_mut().filter(|pending| pending.id == asked);
        found.map(|pending| pending.client = Some(client)).is_some()
    }

    /// Nobody waits for it any more; it goes on.
    pub fn forget_client(&mut self, client: ClientId) {
        if let Some(pending) = &mut self.pending {
            pending.client.take_if(|waiting| *waiting == client);
        }
    }
}

impl Shell {
    /// This process becomes the active in another's place, and serves nobody yet.
    pub(super) fn takes_over(&self) -> bool {
        self.succession.was_standby && !self.is_serving
    }

    /// Something waits for its turn behind the first clients.
    pub(super) fn has_put_off(&self) -> bool {
        self.pair_file.is_due()
    }

    /// To be called in each turn.
    pub(super) fn do_what_was_put_off(&mut self) {
        self.start_due_standby();
        self.write_due_pair_file();
    }

    fn start_due_standby(&mut self) {
        let now = self.ctx.now();
        let Some(standby) = self.succession.put_off.filter(|standby| standby.look <= now) else {
            return;
        };
        if standby.until <= now {
            self.succession.put_off = None;
            return self.spawn_standby();
        }
        let is_there =
            self.other.as_ref().is_some_and(|(_, fd)| matches!(pidfd::has_died(fd), Ok(false)));
        let until = if is_there { standby.until } else { now };
        self.succession.put_off = Some(PutOff { look: now.after(LOOK_AT_END_MS), until });
    }

    /// Another configuration. From here on a keeper that has to start the pair again takes it.
    pub(super) fn begin_apply(&mut self, config: Config) -> Result<(), Refused> {
        self.move_doors(&config)
            .map_err(|text| (409, 1, format!("{text}; nothing was changed")))?;
        let run_dir = self.ctx.config.node.run_dir.clone();
        let written = PackedConfig::new(&config)
            .and_then(|packed| in_force::write(&run_dir, &packed).map(|()| packed));
        let packed = written.map_err(|error| {
            let text = format!(
                "cannot write config.json in {}: {error}; nothing was changed",
                run_dir.display()
            );
            self.move_doors_back();
            (500, 1, text)
        })?;
        let generation = config.applied.generation;
        info!(target: "0147", "configuration {generation} of {} is on its way: a standby is started with it, and takes over", config.file.display());
        self.begin_succession((packed, generation), None, None, String::new());
        Ok(())
    }

    /// Another program.
    pub(super) fn begin_upgrade(&mut self, image: OwnedFd, client: Option<ClientId>, id: String) {
        let own = (self.ctx.packed.clone(), self.ctx.config.applied.generation);
        self.begin_succession(own, Some(image), client, id);
    }

    fn begin_succession(
        &mut self,
        (config, generation): (PackedConfig, u64),
        image: Option<OwnedFd>,
        client: Option<ClientId>,
        id: String,
    ) {
        let until = self.ctx.now().after(STANDBY_LIMIT_MS);
        let standby = None;
        self.succession.pending =
            Some(Pending { config, generation, image, client, id, standby, until });
        self.replace_standby();
    }

    /// Listens where another configuration says; all of it, or nothing is changed.
    fn move_doors(&mut self, config: &Config) -> Result<(), String> {
        let listen = |config: &Config| config.metrics.map(|metrics| metrics.listen);
        // Where nothing else is wanted, an address that is taken is no reason to refuse.
        if listen(config) != listen(&self.ctx.config) {
            self.move_metrics(config)?;
        }
        self.move_link(config).inspect_err(|_| self.move_doors_back())
    }

    fn move_doors_back(&mut self) {
        let config = self.ctx.config.clone();
        if let Err(error) = self.move_metrics(&config) {
            warn!(target: "0148", "{error}; metrics are told at the new address");
        }
        if let Err(error) = self.move_link(&config) {
            warn!(target: "0148", "{error}; the new port stays");
        }
    }

    fn move_metrics(&mut self, config: &Config) -> Result<(), String> {
        let before = self.scrapes.address();
        self.scrapes.rebind(&self.ctx, config)?;
        if self.scrapes.is_bound() && before != self.scrapes.address() {
            self.open_new_door(Door::Metrics);
        }
        Ok(())
    }

    /// Listens at another standbyPort, if it is another one: the next standby connects there.
    fn move_link(&mut self, config: &Config) -> Result<(), String> {
        let (Some(old), Some(new)) = (self.peers.port(), config.node.standby_port) else {
            return Ok(());
        };
        if old != new {
            let listener = twins::bind_port(config, new)?;
            self.peers.set_listener(self.ctx.poll.registry(), listener);
            self.open_new_door(Door::Link);
            info!(target: "0108", "listening on 127.0.0.1:{new} for the standby");
        }
        Ok(())
    }

    /// Goes on with what is on its way; called in each turn.
    pub(super) fn advance_succession(&mut self) {
        let now = self.ctx.now();
        if self.succession.in_force_due.is_some_and(|due| due <= now) {
            self.succession.in_force_due = None;
            self.write_in_force();
        }
        let Some(pending) = &self.succession.pending else { return };
        if self.hands_over {
            return;
        }
        if self.node.role != Role::Active || self.node.record.ending.is_some() {
            return self.give_up_succession("the pair is ending");
        }
        if self.node.is_handing_over() {
            return;
        }
        if pending.until <= now {
            let text = match pending.why() {
                Planned::Upgrade => "the standby that runs the new program does not get ready",
                Planned::Apply | Planned::Asked => "no standby got ready with it",
            };
            return self.give_up_succession(text);
        }
        match self.node.standby.state {
            standby::State::Off => self.leave_to_keeper(now),
            standby::State::Watching { process, .. } if pending.standby == Some(process) => {
                self.successor_is_ready();
            }
            standby::State::Starting { process, .. } | standby::State::Watching { process, .. }
                if pending.standby != Some(process) =>
            {
                self.replace_standby();
            }
            // A new program that ends once does so again; a configuration that was read does not
            // make it end.
            standby::State::Down { .. } if pending.image.is_some() && pending.standby.is_some() => {
                self.give_up_succession("the standby that runs the new program has ended");
            }
            _ => {}
        }
    }

    /// The keeper must have seen this process serve: else it would take its end for a start that
    /// failed.
    fn leave_to_keeper(&mut self, now: Ms) {
        let seen_ms = 3 * self.ctx.config.node.heartbeat_interval_ms;
        if self.keeper.keeper().is_some() && now.since(self.serves_since) > seen_ms {
            self.successor_is_ready();
        }
    }

    fn successor_is_ready(&mut self) {
        let Some(pending) = &self.succession.pending else { return };
        let (why, id) = (pending.why(), pending.id.clone());
        self.ctx.tell(Event::SuccessorReady { why, id });
    }

    /// It is on record: whoever watches goes on.
    pub(super) fn hand_over(&mut self) {
        let to = match self.node.standby.state {
            standby::State::Off => "the keeper",
            _ => "the standby",
        };
        let what = match self.node.record.handover.as_ref().map(|handover| handover.why) {
            Some(Planned::Apply) => " with the new configuration",
            Some(Planned::Upgrade) => " with the new program",
            Some(Planned::Asked) | None => "",
        };
        info!(target: "0160", "this process, PID {}, ends; {to} goes on{what}", self.own.pid);
        self.hands_over = true;
    }

    fn give_up_succession(&mut self, text: &str) {
        let Some(pending) = self.succession.pending.take() else { return };
        match pending.why() {
            Planned::Upgrade => {
                let log = super::log_path(&self.ctx.config, true);
                let text = format!(
                    "not upgraded: {text}; the pair goes on as it is (see {})",
                    log.display()
                );
                error!(target: "0164", "{text}");
                self.not_upgraded(&text);
                if let Some(client) = pending.client {
                    self.control.refuse(&mut self.ctx, client, 500, 1, text);
                }
            }
            Planned::Apply | Planned::Asked => self.take_back_config(&pending, text),
        }
        if self.node.record.ending.is_none() && pending.standby.is_some() {
            self.replace_standby();
        }
    }

    fn take_back_config(&mut self, pending: &Pending, text: &str) {
        let generation = pending.generation;
        warn!(target: "0148", "cannot apply configuration {generation}: {text}; the old one stays");
        self.not_applied(generation, text);
        self.move_doors_back();
        self.write_in_force();
    }

    /// What a keeper is to start the pair with, if it has to.
    pub(super) fn write_in_force(&self) {
        let config = self.succession.config_for_standby(&self.ctx.packed);
        let run_dir = &self.ctx.config.node.run_dir;
        if let Err(error) = in_force::write(run_dir, config) {
            warn!(target: "0148", "cannot write config.json in {}: {error}; if both twins died now, the pair would be started with an older configuration", run_dir.display());
        }
    }
}
