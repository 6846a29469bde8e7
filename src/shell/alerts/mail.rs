//! Mail about events: what happens within a short time is one mail.
//!
//! Must not send in the loop: a process of its own does, one at a time. What could not be sent is
//! tried again with growing delay, together with what came since, and given up in the end.

use crate::config::Mail;
use crate::core::{Exit, Ms};
use crate::events::{Draft, Kind, Record};
use crate::mail;
use crate::shell::Shell;
use crate::shell::bequest::{self, Bequest, at};
use crate::shell::helpers::end_of;
use crate::shell::token::Source;
use crate::sys::{self, pidfd};
use log::{info, warn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;

/// Events in one mail; of more only the number is said.
const EVENTS_MAX: usize = 200;
/// The process that sends has so long; its own limits are shorter.
const HELPER_LIMIT_MS: u64 = 90_000;
/// The first delay after a failure; each one is three times as long, up to the last.
const AGAIN_MS: u64 = 2_000;
const AGAIN_MAX_MS: u64 = 900_000;
/// After so many tries it is given up.
const TRIES_MAX: u32 = 10;
/// Letters of what the process that sends says.
const SAID_MAX: u64 = 500;

/// Events for the next mail, and the one that is being sent.
#[derive(Default)]
pub struct Mailer {
    waiting: Vec<Record>,
    /// More than fit into one mail.
    left_out: u64,
    sending: Vec<Record>,
    process: Option<OwnedFd>,
    said: Option<File>,
    until: Option<Ms>,
    due: Option<Ms>,
    tries: u32,
    /// One is through.
    pub is_changed: bool,
}

impl Mailer {
    /// An event for the next mail, if it is for mail at all.
    pub fn offer(&mut self, mail: &Mail, record: &Record, now: Ms) {
        if !mail.is_for(record) {
            return;
        }
        self.due.get_or_insert(now.after(mail.group_ms));
        match self.waiting.len() + self.sending.len() < EVENTS_MAX {
            true => self.waiting.push(record.clone()),
            false => self.left_out += 1,
        }
    }

    /// Sends what waits at once.
    pub fn hurry(&mut self, now: Ms) {
        self.due = self.due.map(|_| now);
    }

    /// The oldest event that is in no mail that was sent.
    pub fn oldest(&self) -> Option<u64> {
        self.sending.iter().chain(&self.waiting).map(|record| record.seq).min()
    }

    pub fn deadline(&self) -> Option<Ms> {
        match self.process {
            Some(_) => self.until,
            None => self.due,
        }
    }

    fn again(&mut self, now: Ms) -> u64 {
        let delay_ms = AGAIN_MS.saturating_mul(3u64.saturating_pow(self.tries.saturating_sub(1)));
        let delay_ms = delay_ms.min(AGAIN_MAX_MS);
        self.due = Some(now.after(delay_ms));
        let newer = std::mem::take(&mut self.waiting);
        self.waiting = std::mem::take(&mut self.sending);
        self.waiting.extend(newer);
        delay_ms
    }
}

/// The process that sends; gives its exit status.
pub fn run() -> u8 {
    let _ = sys::set_name("nm-mailer");
    let (Ok(bequest), Ok(config)) = (Bequest::unpack(), bequest::config()) else { return 1 };
    let sent = match &config.alerts.mail {
        Some(settings) => {
            let name = &config.node.name;
            mail::send(settings, name, &bequest.mail, bequest.mail_left_out)
        }
        None => Err("mail is not configured".to_owned()),
    };
    let (text, exit) = match sent {
        Ok(text) => (text, 0),
        Err(text) => (text, 1),
    };
    if let Ok(said) = sys::inherited(bequest::RESULT) {
        let _ = File::from(said).write_all(text.as_bytes());
    }
    exit
}

impl Shell {
    /// Begins to send what is due, and ends what takes too long.
    pub(super) fn send_mail(&mut self) {
        let now = self.ctx.now();
        let mailer = &mut self.alerts.mail;
        if let Some(process) = &mailer.process {
            if mailer.until.is_some_and(|until| until <= now) {
                let _ = pidfd::signal(process, libc::SIGKILL);
                mailer.until = Some(now.after(HELPER_LIMIT_MS));
            }
            return;
        }
        if mailer.waiting.is_empty() || mailer.due.is_none_or(|due| due > now) {
            return;
        }
        mailer.due = None;
        mailer.sending = std::mem::take(&mut mailer.waiting);
        let left_out = std::mem::take(&mut mailer.left_out);
        let (mail, mail_left_out) = (mailer.sending.clone(), left_out);
        let bequest = Bequest { mail, mail_left_out, ..self.bequest() };
        match self.start_mailer(&bequest) {
            Ok((process, said)) => {
                self.alerts.mail.process = Some(process);
                self.alerts.mail.said = Some(said);
                self.alerts.mail.until = Some(now.after(HELPER_LIMIT_MS));
            }
            Err(error) => self.mail_failed(&format!("cannot start the process: {error}")),
        }
    }

    fn start_mailer(&mut self, bequest: &Bequest) -> io::Result<(OwnedFd, File)> {
        let said = memfd_create(c"nodemanager-said", MFdFlags::MFD_CLOEXEC)?;
        let more = vec![at(&said, bequest::RESULT)];
        let process = self.start_helper("mailer", bequest, more, Source::Mailer)?;
        Ok((process, File::from(said)))
    }

    /// The process that sends has ended.
    pub(in crate::shell) fn on_mailer(&mut self) {
        let mailer = &mut self.alerts.mail;
        let Some(exit) = end_of(&mut self.ctx, &mut mailer.process, Source::Mailer) else { return };
        mailer.until = None;
        let said = mailer.said.take().map(read_said).unwrap_or_default();
        if exit != Exit::Code(0) {
            let text = match (said.is_empty(), exit) {
                (false, Exit::Code(_)) => said,
                _ => "the process that sends it was killed".to_owned(),
            };
            return self.mail_failed(&text);
        }
        let count = std::mem::take(&mut mailer.sending).len();
        (mailer.tries, mailer.is_changed) = (0, true);
        match said.is_empty() {
            true => info!(target: "0154", "a mail about {count} events was sent"),
            false => warn!(target: "0154", "a mail about {count} events was sent, but {said}"),
        }
    }

    fn mail_failed(&mut self, why: &str) {
        let now = self.ctx.now();
        let mailer = &mut self.alerts.mail;
        mailer.tries += 1;
        if mailer.tries < TRIES_MAX {
            let tries = mailer.tries;
            let delay_ms = mailer.again(now);
            warn!(target: "0155", "a mail could not be sent ({tries} of {TRIES_MAX} tries): {why}; tried again in {delay_ms} ms");
            return;
        }
        let count = std::mem::take(&mut mailer.sending).len();
        (mailer.tries, mailer.is_changed) = (0, true);
        let text = format!("a mail about {count} events was given up: {why}");
        warn!(target: "0155", "{text}");
        let draft = Draft::new(Kind::MailFailed, text).with("count", count);
        self.happen(draft.with("reason", why));
    }
}

fn read_said(mut file: File) -> String {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.take(SAID_MAX).read_to_end(&mut bytes));
    read.map(|_| String::from_utf8_lossy(&bytes).replace(char::is_control, " ")).unwrap_or_default()
}
