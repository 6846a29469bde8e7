//! Another configuration while the pair runs.
//!
//! Must not change anything in an active that works: a process of its own reads the files, a fresh
//! standby is started with what it found, and that standby takes over. So there is one way in which
//! a configuration comes into force, the same as at every takeover, and at each moment exactly one
//! process acts, with one configuration: whoever dies in the middle, it is the old one or the new.

pub mod changes;
pub mod helper;

use super::bequest::{self, Bequest, at};
use super::helpers::end_of;
use super::requests::Refused;
use super::token::Source;
use super::{Door, Shell, in_force, twins};
use crate::api::{ApplyAnswer, ApplyAsk, What};
use crate::config::Config;
use crate::core::node::Role;
use crate::core::{ClientId, Identity, Ms, Wanted, standby};
use crate::sys::pidfd;
use helper::Found;
use log::{error, info, warn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

/// A look-up of a user can hang with its server; then the request is refused.
const HELPER_LIMIT_MS: u64 = 60_000;
/// A standby that is not WATCHING by then does not get there: the old configuration stays.
const STANDBY_LIMIT_MS: u64 = 60_000;
/// What the process hands back may not be larger.
const RESULT_MAX: u64 = 64 << 20;

/// How far an `apply` is.
#[derive(Default)]
pub struct Apply {
    helper: Option<Helper>,
    pending: Option<Pending>,
    hands_over: bool,
}

/// The process that reads the files.
struct Helper {
    process: Option<OwnedFd>,
    result: File,
    /// `None`: a signal asked.
    client: Option<ClientId>,
    only_show: bool,
    until: Ms,
}

/// A configuration on its way to being in force.
struct Pending {
    config: Config,
    /// The standby that has it.
    standby: Option<Identity>,
    until: Ms,
}

impl Apply {
    pub fn deadline(&self) -> Option<Ms> {
        let helper = self.helper.as_ref().map(|helper| helper.until);
        helper.into_iter().chain(self.pending.as_ref().map(|pending| pending.until)).min()
    }

    /// Another configuration is on its way.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Everything is in the hands of the standby: this process ends without a word.
    pub fn hands_over(&self) -> bool {
        self.hands_over
    }

    /// What the next standby is to have.
    pub fn config_for_standby<'a>(&'a self, own: &'a Config) -> &'a Config {
        self.pending.as_ref().map_or(own, |pending| &pending.config)
    }

    /// It was started with that.
    pub fn note_standby(&mut self, process: Identity) {
        if let Some(pending) = &mut self.pending {
            pending.standby = Some(process);
        }
    }
}

impl Shell {
    /// Somebody asks what differs, or for it to be put in force.
    pub(super) fn on_apply(&mut self, client: ClientId, ask: ApplyAsk) -> Result<(), Refused> {
        self.start_reader(Some(client), ask.names, ask.only_show)
    }

    /// SIGHUP.
    pub(super) fn apply_by_signal(&mut self) {
        info!(target: "0122", "SIGHUP came: {} is applied", self.ctx.config.file.display());
        if let Err((_, _, text)) = self.start_reader(None, Vec::new(), false) {
            error!(target: "0148", "cannot apply: {text}");
        }
    }

    fn start_reader(
        &mut self,
        client: Option<ClientId>,
        names: Vec<String>,
        only_show: bool,
    ) -> Result<(), Refused> {
        self.check_apply(only_show)?;
        if self.apply.helper.is_some() {
            return Err((503, 75, "the configuration is being read for somebody else".to_string()));
        }
        let cannot = |error: io::Error| (500, 1, format!("cannot read the configuration: {error}"));
        let result = memfd_create(c"nodemanager-result", MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| cannot(errno.into()))?;
        let mut bequest = Bequest { names, ..self.bequest() };
        let alive = &self.node.servers;
        bequest.config.applied.retired.retain(|one| {
            alive.iter().any(|server| server.rec.name == one.name && !server.is_removed())
        });
        let more = vec![at(&result, bequest::RESULT)];
        let started = self.start_helper("applier", &bequest, more, Source::Applier);
        let process = Some(started.map_err(cannot)?);
        let until = self.ctx.now().after(HELPER_LIMIT_MS);
        let result = File::from(result);
        self.apply.helper = Some(Helper { process, result, client, only_show, until });
        Ok(())
    }

    /// Is this a moment for another configuration?
    fn check_apply(&self, only_show: bool) -> Result<(), Refused> {
        if self.node.record.ending.is_some() {
            return Err((409, 75, "the pair is ending".to_string()));
        }
        if self.apply.is_pending() {
            return Err((503, 75, "another configuration is on its way".to_string()));
        }
        let has_successor =
            self.ctx.config.node.standby_port.is_some() || self.keeper.keeper().is_some();
        if !only_show && !has_successor {
            let text = "there is neither a standbyPort nor a keeper, so nobody could go on with the \
                        new configuration; start a keeper with `nodemanager run`";
            return Err((409, 1, text.to_string()));
        }
        Ok(())
    }

    /// The process that reads the files has ended.
    pub(super) fn on_applier(&mut self) {
        let Some(helper) = &mut self.apply.helper else { return };
        if end_of(&mut self.ctx, &mut helper.process, Source::Applier).is_none() {
            return;
        }
        let Some(mut helper) = self.apply.helper.take() else { return };
        let found = read_result(&mut helper.result);
        let result = match found {
            Ok(Found::Wrong(text)) => Err((400, 78, text)),
            Ok(Found::Other { config, answer }) => self.on_found(*config, answer, helper.only_show),
            Err(error) => {
                Err((500, 1, format!("the process that reads the configuration failed: {error}")))
            }
        };
        match (helper.client, result) {
            (Some(client), Ok(answer)) => {
                self.control.answer(&mut self.ctx, client, 200, &answer);
            }
            (Some(client), Err((status, exit, text))) => {
                self.control.refuse(&mut self.ctx, client, status, exit, text);
            }
            (None, Ok(_)) => {}
            (None, Err((_, _, text))) => {
                for line in text.lines() {
                    error!(target: "0148", "cannot apply: {line}");
                }
            }
        }
    }

    fn on_found(
        &mut self,
        config: Config,
        mut answer: ApplyAnswer,
        only_show: bool,
    ) -> Result<ApplyAnswer, Refused> {
        // What is not wanted up has no process to restart.
        for change in answer.servers.iter_mut().filter(|one| one.what == What::Restart) {
            let mut servers = self.node.servers.iter();
            let server = servers.find(|server| server.rec.name == change.name);
            if server.is_some_and(|server| server.rec.wanted == Wanted::Down) {
                change.what = What::Change;
            }
        }
        if only_show || answer.is_empty() {
            return Ok(answer);
        }
        if !answer.refused.is_empty() {
            let text = format!(
                "these keys of [nodeManager] can't be changed while the pair runs: {}; leave them, or \
                 end the pair without its servers (`nodemanager shutdown`) and start it again",
                answer.refused.join(", ")
            );
            return Err((400, 78, text));
        }
        self.check_apply(false)?;
        self.begin_apply(config)?;
        self.is_applying(&answer);
        Ok(answer)
    }

    /// From here on a keeper that has to start the pair again takes the new configuration.
    fn begin_apply(&mut self, config: Config) -> Result<(), Refused> {
        self.move_link(&config).map_err(|text| (409, 1, format!("{text}; nothing was changed")))?;
        in_force::write(&config).map_err(|error| {
            let dir = config.node.run_dir.display();
            (500, 1, format!("cannot write config.json in {dir}: {error}; nothing was changed"))
        })?;
        let generation = config.applied.generation;
        info!(target: "0147", "configuration {generation} of {} is on its way: a standby is started with it, and takes over", config.file.display());
        let until = self.ctx.now().after(STANDBY_LIMIT_MS);
        self.apply.pending = Some(Pending { config, standby: None, until });
        self.replace_standby();
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

    /// Goes on with an `apply`; called in each turn.
    pub(super) fn advance_apply(&mut self) {
        let now = self.ctx.now();
        if let Some(helper) = self.apply.helper.as_mut().filter(|helper| helper.until <= now) {
            // Its end is told as any other; it is asked for once.
            let _ = helper.process.as_ref().map(|it| pidfd::signal(it, libc::SIGKILL));
            helper.until = now.after(HELPER_LIMIT_MS);
        }
        let Some(pending) = &self.apply.pending else { return };
        let is_ending = self.node.record.ending.is_some();
        if self.node.role != Role::Active || is_ending || pending.until <= now {
            return self.give_up_apply(is_ending);
        }
        match self.node.standby.state {
            standby::State::Off => self.leave_to_keeper(now),
            standby::State::Watching { process, .. } if pending.standby == Some(process) => {
                self.hand_over("the standby");
            }
            standby::State::Starting { process, .. } | standby::State::Watching { process, .. }
                if pending.standby != Some(process) =>
            {
                self.replace_standby();
            }
            _ => {}
        }
    }

    /// The keeper must have seen this process serve: else it would take its end for a start that
    /// failed.
    fn leave_to_keeper(&mut self, now: Ms) {
        let seen_ms = 3 * self.ctx.config.node.heartbeat_interval_ms;
        if self.keeper.keeper().is_some() && now.since(self.serves_since) > seen_ms {
            self.hand_over("the keeper");
        }
    }

    fn hand_over(&mut self, to: &str) {
        info!(target: "0147", "this process ends; {to} goes on with the new configuration");
        self.apply.hands_over = true;
    }

    fn give_up_apply(&mut self, is_ending: bool) {
        let Some(pending) = self.apply.pending.take() else { return };
        let generation = pending.config.applied.generation;
        let why = match is_ending {
            true => "the pair is ending",
            false => "no standby got ready with it",
        };
        warn!(target: "0148", "cannot apply configuration {generation}: {why}; the old one stays");
        self.not_applied(generation, why);
        let config = self.ctx.config.clone();
        if let Err(error) = self.move_link(&config) {
            warn!(target: "0148", "{error}; the new port stays");
        }
        self.write_in_force();
        if !is_ending && pending.standby.is_some() {
            self.replace_standby();
        }
    }

    /// What a keeper is to start the pair with, if it has to.
    pub(super) fn write_in_force(&self) {
        let config = self.apply.config_for_standby(&self.ctx.config);
        if let Err(error) = in_force::write(config) {
            warn!(target: "0148", "cannot write config.json in {}: {error}; if both twins died now, the pair would be started with an older configuration", config.node.run_dir.display());
        }
    }
}

fn read_result(file: &mut File) -> io::Result<Found> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(RESULT_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}
