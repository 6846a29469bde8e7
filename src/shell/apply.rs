//! Another configuration while the pair runs.
//!
//! Must not change anything in an active that works: a process of its own reads the files, a fresh
//! standby is started with what it found, and that standby takes over. So there is one way in which
//! a configuration comes into force, the same as at every takeover, and at each moment exactly one
//! process acts, with one configuration: whoever dies in the middle, it is the old one or the new.

pub mod changes;
pub mod helper;

use super::Shell;
use super::bequest::{self, Bequest, at};
use super::helpers::end_of;
use super::requests::Refused;
use super::token::Source;
use crate::api::{ApplyAnswer, ApplyAsk, What};
use crate::config::Config;
use crate::core::{ClientId, Ms, Wanted};
use crate::sys::pidfd;
use helper::Found;
use log::{error, info};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;

/// A look-up of a user can hang with its server; then the request is refused.
const HELPER_LIMIT_MS: u64 = 60_000;
/// What the process hands back may not be larger.
const RESULT_MAX: u64 = 64 << 20;

/// How far an `apply` is: while the files are read; what follows is the succession's.
#[derive(Default)]
pub struct Apply {
    helper: Option<Helper>,
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

impl Apply {
    pub fn deadline(&self) -> Option<Ms> {
        self.helper.as_ref().map(|helper| helper.until)
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
        let known = &self.node.servers;
        let is_gone = |name: &str| {
            !known.iter().any(|server| server.rec.name == name && !server.is_removed())
        };
        let retired = self.ctx.config.applied.retired.iter().map(|one| one.name.to_string());
        let gone = retired.filter(|name| is_gone(name)).collect();
        let bequest = Bequest { names, gone, ..self.bequest() };
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
        if let Some(text) = self.succession.obstacle() {
            return Err((503, 75, text.to_string()));
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

    /// Ends a reader that takes too long; called in each turn.
    pub(super) fn look_at_reader(&mut self) {
        let now = self.ctx.now();
        if let Some(helper) = self.apply.helper.as_mut().filter(|helper| helper.until <= now) {
            // Its end is told as any other; it is asked for once.
            let _ = helper.process.as_ref().map(|it| pidfd::signal(it, libc::SIGKILL));
            helper.until = now.after(HELPER_LIMIT_MS);
        }
    }
}

fn read_result(file: &mut File) -> io::Result<Found> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(RESULT_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}
