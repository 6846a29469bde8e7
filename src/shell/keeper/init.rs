//! What the keeper tells the init system that started it (sd_notify(3)): ready, who is who,
//! reloading, stopping.
//!
//! Must not wait, and nothing depends on it: what could not be told is told again a moment later.
//! Whether the pair is whole and its servers are up is asked of the active over the control socket.

use super::whole::{Judged, WHOLE_LIMIT, judge};
use super::{KeeperShell, QUESTION};
use crate::api::{STATUS_PATH, Status};
use crate::core::Ms;
use crate::sys::notify::Sender;
use crate::sys::pulse::{Role, Seen};
use log::{info, warn};
use mio::Interest;
use mio::net::UnixStream;
use nix::time::{ClockId, clock_gettime};
use std::io::{self, Read, Write};

/// Between two questions, and between two tries to say the same.
const ASK_AGAIN_MS: u64 = 200;
/// A question that is not answered by then is asked again.
const ANSWER_LIMIT_MS: u64 = 10_000;
/// The longest answer that is read: a status of many thousand servers.
const ANSWER_MAX: usize = 64 << 20;

/// The init system's patience is prolonged by this, over and over while something goes on.
const EXTENSION_MS: u64 = 15_000;
const EXTEND_EVERY_MS: u64 = 5_000;
/// Beyond `shutdownTimeout` an end is not prolonged for longer than this.
const END_LIMIT_MS: u64 = 30_000;
/// STATUS= is one line for people.
const STATUS_CHARS_MAX: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    Reloading,
    Stopping,
}

struct Question {
    stream: UnixStream,
    out: Vec<u8>,
    answer: Vec<u8>,
    at: Ms,
}

/// What was said so far.
pub(super) struct Init {
    sender: Option<Sender>,
    phase: Phase,
    since: Ms,
    /// Sent first; what could not be sent stays here.
    owed: Option<String>,
    /// The roles as they were told last, and as they are.
    told: String,
    roles: String,
    is_served: bool,
    next: Ms,
    extend_at: Ms,
    question: Option<Question>,
    judged: Option<Judged>,
}

/// The way to the init system. `is_background`: whoever set NOTIFY_SOCKET meant another process.
pub(super) fn sender(is_background: bool) -> Option<Sender> {
    let address = std::env::var_os("NOTIFY_SOCKET").filter(|text| !text.is_empty())?;
    if is_background {
        return None;
    }
    let made = Sender::new(&address);
    if let Err(error) = &made {
        warn!(target: "0031", "cannot use NOTIFY_SOCKET={}: {error}; the init system is told nothing", address.display());
    }
    made.ok()
}

impl Init {
    pub fn new(now: Ms, sender: Option<Sender>) -> Init {
        Init {
            sender,
            phase: Phase::Starting,
            since: now,
            owed: None,
            told: String::new(),
            roles: String::new(),
            is_served: false,
            next: now,
            extend_at: now,
            question: None,
            judged: None,
        }
    }

    /// When something is to be said or asked, besides what every look brings.
    pub fn deadline(&self) -> Ms {
        let waits = matches!(self.phase, Phase::Starting | Phase::Reloading);
        let is_due = self.sender.is_some() && (waits || self.owed.is_some());
        if is_due { self.next } else { Ms(u64::MAX) }
    }

    /// The roles by the pulse; whether the end of the pair was asked for.
    pub fn see(&mut self, seen: [Seen; 2], is_ending: bool) {
        let pid_of =
            |role| seen.iter().find(|twin| twin.role == role && twin.pid > 0).map(|twin| twin.pid);
        self.is_served = pid_of(Role::Serving).is_some();
        let active = match (pid_of(Role::Serving), pid_of(Role::Promoting)) {
            (Some(pid), _) => format!("active {pid}"),
            (None, Some(pid)) => format!("{pid} takes over"),
            (None, None) => "no active".to_string(),
        };
        let standby = pid_of(Role::Standby).map(|pid| format!(", standby {pid}"));
        self.roles = active + &standby.unwrap_or_default();
        if is_ending && self.phase == Phase::Ready {
            self.stop(self.next);
        }
    }

    /// The pair is to end.
    pub fn say_stopping(&mut self, now: Ms) {
        if self.phase != Phase::Stopping {
            self.stop(now);
        }
    }

    fn stop(&mut self, now: Ms) {
        self.enter(Phase::Stopping, now);
        self.say("STOPPING=1\nSTATUS=the pair is ending".to_string());
    }

    /// Another configuration is to be applied.
    pub fn say_reloading(&mut self, now: Ms) {
        if self.phase != Phase::Ready {
            return;
        }
        let at = clock_gettime(ClockId::CLOCK_MONOTONIC);
        let at_usec = at.map(|at| at.tv_sec() * 1_000_000 + at.tv_nsec() / 1_000);
        let usec = at_usec.unwrap_or_default();
        self.enter(Phase::Reloading, now);
        // The signal that follows must reach the active before the question does.
        self.next = now.after(ASK_AGAIN_MS);
        self.say(format!(
            "RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=another configuration is applied"
        ));
    }

    fn enter(&mut self, phase: Phase, now: Ms) {
        (self.phase, self.since, self.extend_at) = (phase, now, now);
        (self.question, self.judged) = (None, None);
    }

    fn say(&mut self, text: String) {
        self.owed = Some(text);
        self.send_owed();
    }

    fn send_owed(&mut self) {
        if let (Some(sender), Some(text)) = (&self.sender, &self.owed)
            && sender.send(text).is_ok()
        {
            self.owed = None;
        }
    }

    fn say_ready(&mut self, now: Ms, note: &str) {
        let first = self.phase == Phase::Starting;
        self.enter(Phase::Ready, now);
        self.told = self.roles.clone();
        let status: String =
            if note.is_empty() { self.roles.clone() } else { format!("{}; {note}", self.roles) };
        let is_plain = |c: &char| !c.is_control();
        let status: String = status.chars().filter(is_plain).take(STATUS_CHARS_MAX).collect();
        if first && self.sender.is_some() {
            info!(target: "0032", "the init system is told that the pair is ready: {status}");
        }
        self.say(format!("READY=1\nSTATUS={status}"));
    }

    /// Says what changed, and asks for more patience while something goes on. `end_ms`: how long
    /// an end may take.
    fn speak(&mut self, now: Ms, end_ms: u64) {
        if self.owed.is_some() {
            self.send_owed();
        } else if self.phase == Phase::Ready && self.told != self.roles {
            self.told = self.roles.clone();
            self.say(format!("STATUS={}", self.roles));
        }
        let took_ms = now.since(self.since);
        let whole_ms = u64::try_from(WHOLE_LIMIT.as_millis()).unwrap_or(u64::MAX);
        let limit_ms = match self.phase {
            Phase::Starting | Phase::Reloading => whole_ms,
            Phase::Stopping => end_ms.saturating_add(END_LIMIT_MS),
            Phase::Ready => 0,
        };
        if took_ms < limit_ms && now >= self.extend_at {
            self.extend_at = now.after(EXTEND_EVERY_MS);
            let text = format!("EXTEND_TIMEOUT_USEC={}", EXTENSION_MS * 1_000);
            let _ = self.sender.as_ref().map(|sender| sender.send(&text));
        }
        if !matches!(self.phase, Phase::Starting | Phase::Reloading) {
            return;
        }
        match self.judged.take() {
            Some(Judged::Whole) => self.say_ready(now, ""),
            Some(Judged::Failed(text)) => self.say_ready(now, &text),
            Some(Judged::NotYet(text)) if took_ms >= whole_ms => self.say_ready(now, &text),
            None if took_ms >= whole_ms && self.is_served => self.say_ready(now, ""),
            Some(Judged::NotYet(_)) | None => {}
        }
    }
}

impl KeeperShell {
    /// After each turn of the loop.
    pub(super) fn tell_init(&mut self, now: Ms) {
        if self.init.sender.is_none() {
            return;
        }
        self.init.speak(now, self.config.node.shutdown_timeout_ms);
        if now < self.init.next {
            return;
        }
        self.init.next = now.after(ASK_AGAIN_MS);
        let waits = matches!(self.init.phase, Phase::Starting | Phase::Reloading);
        let asked_at = self.init.question.as_ref().map(|question| question.at);
        let is_asked = asked_at.is_some_and(|at| now.since(at) < ANSWER_LIMIT_MS);
        if waits && self.init.is_served && !is_asked {
            self.ask_status(now);
        }
    }

    fn ask_status(&mut self, now: Ms) {
        self.drop_question();
        let out = format!("GET {STATUS_PATH} HTTP/1.1\r\nHost: nodemanager\r\n\r\n").into_bytes();
        let connected = UnixStream::connect(self.config.node.control_socket());
        let Ok(mut stream) = connected else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, QUESTION, interest).is_ok() {
            self.init.question = Some(Question { stream, out, answer: Vec::new(), at: now });
        }
    }

    pub(super) fn on_answer(&mut self) {
        let Some(question) = &mut self.init.question else { return };
        match exchange(question) {
            Ok(false) => {}
            Ok(true) => {
                let status = parse(&question.answer);
                self.drop_question();
                let status = status.filter(|status| !status.applying);
                self.init.judged = status.map(|status| judge(&status));
            }
            Err(_) => self.drop_question(),
        }
    }

    fn drop_question(&mut self) {
        if let Some(mut question) = self.init.question.take() {
            let _ = self.poll.registry().deregister(&mut question.stream);
        }
    }
}

/// Goes on with a question; is its answer whole?
fn exchange(question: &mut Question) -> io::Result<bool> {
    let Question { stream, out, answer, .. } = question;
    while !out.is_empty() {
        match stream.write(out) {
            Ok(count) => drop(out.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    let mut buffer = [0; 16 << 10];
    while answer.len() <= ANSWER_MAX {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

/// The status in an answer. The connection ends with it.
fn parse(answer: &[u8]) -> Option<Status> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(answer).ok()? else { return None };
    let body = answer.get(length..).filter(|_| head.code == Some(200))?;
    serde_json::from_slice(body).ok()
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
