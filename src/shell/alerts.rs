//! Who is told of events: hooks, which are programs, and mail.
//!
//! Must not lose an alert to the death of the active, and must not hold anything up: what was not
//! through is done again by whoever takes over (at least once), from a small file that says up to which
//! number all is done. Queues have limits.

mod hooks;
pub mod mail;

use super::Shell;
use crate::core::Ms;
use crate::events::Record;
use hooks::Hooks;
use jiff::{SignedDuration, Timestamp};
use log::warn;
use mail::Mailer;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// What is older is not told again by whoever takes over or comes back.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(1);

/// Up to which event all is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    hooks: u64,
    mail: u64,
}

/// Hooks and mail on their way.
#[derive(Default)]
pub struct Alerts {
    hooks: Hooks,
    mail: Mailer,
    /// What the file says.
    done: Option<Done>,
    is_failing: bool,
    is_flushed: bool,
}

impl Alerts {
    /// When `tell_alerts` has something to do.
    pub fn deadline(&self) -> Option<Ms> {
        [self.hooks.deadline(), self.mail.deadline()].into_iter().flatten().min()
    }

    /// Something is not through yet.
    pub fn is_busy(&self) -> bool {
        self.hooks.oldest().is_some() || self.mail.oldest().is_some()
    }
}

fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join("alerts.json")
}

fn write(path: &Path, done: Done) -> io::Result<()> {
    let new = path.with_extension("json.new");
    std::fs::write(&new, serde_json::to_vec(&done)?)?;
    std::fs::rename(&new, path)
}

impl Shell {
    /// A new event.
    pub(super) fn alert(&mut self, record: &Record) {
        let config = &self.ctx.config.alerts;
        self.alerts.hooks.offer(&config.hooks, record);
        if let Some(mail) = &config.mail {
            self.alerts.mail.offer(mail, record, self.ctx.now());
        }
    }

    /// What the active before did not get through.
    pub(super) fn recall_alerts(&mut self) {
        let config = &self.ctx.config.alerts;
        let path = path_in(&self.ctx.config.node.state_dir);
        if config.hooks.is_empty() && config.mail.is_none() {
            // Those that come later are not for what happens now.
            let _ = std::fs::remove_file(&path);
            return;
        }
        let last = self.events.last();
        let read = std::fs::read(&path).ok();
        let done = read.and_then(|bytes| serde_json::from_slice::<Done>(&bytes).ok());
        let Some(done) = done else { return self.save_done(Done { hooks: last, mail: last }) };
        self.alerts.done = Some(done);
        let now = Timestamp::now();
        let is_new = |record: &Record| {
            let time = record.time.parse::<Timestamp>();
            time.is_ok_and(|time| now.duration_since(time) < AGE_MAX)
        };
        for record in self
            .events
            .since(done.hooks.min(done.mail))
            .filter(|one| is_new(one))
            .collect::<Vec<_>>()
        {
            if record.seq > done.hooks {
                self.alerts.hooks.offer(&config.hooks, &record);
            }
            if let Some(mail) = config.mail.as_ref().filter(|_| record.seq > done.mail) {
                self.alerts.mail.offer(mail, &record, self.ctx.now());
            }
        }
    }

    /// Starts hooks and mail, ends what takes too long; called in each turn of an active.
    pub(super) fn tell_alerts(&mut self) {
        if self.alerts.done.is_none() {
            return;
        }
        if self.exit.is_some() && !std::mem::replace(&mut self.alerts.is_flushed, true) {
            // Nobody is there to send it later.
            self.alerts.mail.hurry(self.ctx.now());
        }
        self.run_hooks();
        self.send_mail();
        self.note_done();
    }

    /// Something may be through.
    fn note_done(&mut self) {
        let last = self.events.last();
        let before = |oldest: Option<u64>| oldest.map_or(last, |seq| seq.saturating_sub(1));
        let Some(done) = self.alerts.done else { return };
        let (hooks, mail) = (self.alerts.hooks.oldest(), self.alerts.mail.oldest());
        let now = Done { hooks: before(hooks), mail: before(mail) };
        // Events that nobody is told of need no note.
        let is_through = |is_changed: &mut bool| std::mem::take(is_changed);
        let is_changed = is_through(&mut self.alerts.hooks.is_changed)
            | is_through(&mut self.alerts.mail.is_changed);
        if is_changed && now != done {
            self.save_done(now);
        }
    }

    fn save_done(&mut self, done: Done) {
        self.alerts.done = Some(done);
        let path = path_in(&self.ctx.config.node.state_dir);
        match write(&path, done) {
            Ok(()) => self.alerts.is_failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.alerts.is_failing, true) {
                    warn!(target: "0151", "cannot write {}: {error}; after a takeover hooks and mail may come again", path.display());
                }
            }
        }
    }
}
