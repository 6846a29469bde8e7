//! The threads that the view listens to: keys, signals, the pair's status and events, answers to
//! commands, a log.
//!
//! Must not draw. Each thread ends with the process or when nobody listens any more; the supervisor
//! itself has none of them.

use crate::api::{EVENTS_PATH, Status};
use crate::cli::client::{CallError, Client, Patience};
use crate::cli::control::{self, Action, Options};
use crate::cli::logs::{self, LogsOptions, choose};
use crate::cli::{Failure, exit};
use crate::config::Config;
use crate::events::Record;
use crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use serde::Deserialize;
use signal_hook::consts::signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at the events.
const EVENTS_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at the status while nothing happens: uptimes, CPU and memory.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// The first limit of a question; it doubles while nobody answers.
const LIMIT: Duration = Duration::from_secs(1);
const LIMIT_MAX: Duration = Duration::from_secs(16);
/// Lines of a log to begin with.
const LOG_LINES: usize = 200;

/// What the view hears.
#[derive(Debug)]
pub enum Message {
    Key(KeyEvent),
    /// The size changed.
    Resize,
    Signal(i32),
    Status(Box<Status>),
    /// The newest event.
    Event(Box<Record>),
    /// Nobody answers, for that long.
    Silence(Duration, Failure),
    /// What came of a command.
    Result(String),
    /// Output of a server.
    Log(String, String),
    /// The terminal went away.
    Gone,
}

/// What the pair is asked.
#[derive(Clone, Debug)]
pub enum Wish {
    /// The rows, and more about this server.
    About(Option<String>),
    /// Something was changed: look now.
    Look,
}

/// Gives the status, with more about the servers named; within a limit.
pub type Fetch = Box<dyn Fn(&[String], Duration) -> Result<Status, Failure> + Send>;

/// Keys and changes of the size.
pub fn keys(to: Sender<Message>) {
    thread::spawn(move || {
        loop {
            let message = match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Message::Key(key),
                Ok(Event::Resize(..)) => Message::Resize,
                Ok(_) => continue,
                Err(_) => Message::Gone,
            };
            let is_over = matches!(message, Message::Gone);
            if to.send(message).is_err() || is_over {
                return;
            }
        }
    });
}

/// The signals that would end or stop the process with the terminal taken.
///
/// # Errors
/// The kernel refuses to tell about them.
pub fn signals(to: Sender<Message>) -> io::Result<()> {
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH];
    let mut signals = Signals::new(wanted)?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let message =
                if signal == SIGWINCH { Message::Resize } else { Message::Signal(signal) };
            if to.send(message).is_err() {
                return;
            }
        }
    });
    Ok(())
}

#[derive(Deserialize)]
struct Events {
    last: u64,
    events: Vec<Record>,
}

/// The status whenever something happened, and once a second.
pub fn pair(client: Client, fetch: Fetch, wishes: Receiver<Wish>, to: Sender<Message>) {
    thread::spawn(move || {
        let mut names: Vec<String> = Vec::new();
        let (mut last, mut limit) = (None, LIMIT);
        let (mut heard_at, mut looked_at) = (Instant::now(), None::<Instant>);
        loop {
            let news = newest(&client, &mut last);
            let is_due = looked_at.is_none_or(|at| at.elapsed() >= STATUS_EVERY);
            let (is_news, is_silent) = (matches!(news, Ok(Some(_))), news.is_err());
            let told = match news {
                Ok(Some(event)) => to.send(Message::Event(Box::new(event))),
                Ok(None) => Ok(()),
                Err(failure) => to.send(Message::Silence(heard_at.elapsed(), failure)),
            };
            if told.is_err() {
                return;
            }
            if !is_silent && (is_news || is_due) {
                let message = match fetch(&names, limit) {
                    Ok(status) => {
                        (heard_at, limit) = (Instant::now(), LIMIT);
                        Message::Status(Box::new(status))
                    }
                    Err(failure) => {
                        limit = limit.saturating_mul(2).min(LIMIT_MAX);
                        Message::Silence(heard_at.elapsed(), failure)
                    }
                };
                looked_at = Some(Instant::now());
                if to.send(message).is_err() {
                    return;
                }
            }
            match wishes.recv_timeout(EVENTS_EVERY) {
                Ok(Wish::About(name)) => (names, looked_at) = (name.into_iter().collect(), None),
                Ok(Wish::Look) => looked_at = None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
}

/// The newest event behind the number `last`.
///
/// # Errors
/// Nobody answers, though a pair lives: one that does not is told by the status.
fn newest(client: &Client, last: &mut Option<u64>) -> Result<Option<Record>, Failure> {
    let path = format!("{EVENTS_PATH}?since={}", last.unwrap_or(0));
    let patience = Patience::Until(Instant::now() + LIMIT);
    let response = match client.call("GET", &path, None, patience) {
        Ok(response) => response,
        Err(CallError::NotRunning { .. }) => return Ok(None),
        Err(error) => return Err(error.failure(client.control_socket(), None)),
    };
    let Ok(answer) = control::parse::<Events>(&response) else { return Ok(None) };
    // Smaller: the history began anew.
    *last = Some(answer.last);
    Ok(answer.events.into_iter().last())
}

/// Asks for `action` on one server; the answer comes as a message.
pub fn act(client: Client, action: Action, name: String, to: Sender<Message>) {
    thread::spawn(move || {
        let asked = control::ask(&client, &action, vec![name.clone()], Options::default());
        let text = match asked {
            Ok(answer) => {
                let lines = answer.results.iter().map(|one| format!("{}: {}", one.name, one.text));
                lines.collect::<Vec<_>>().join("; ")
            }
            Err(failure) => format!("{} {name}: {}", action.name(), failure.text),
        };
        // Without a listener the view has ended.
        let _ = to.send(Message::Result(text));
    });
}

/// Follows the log of a server until `is_closed`.
pub fn follow(config: &Config, name: String, to: Sender<Message>, is_closed: Arc<AtomicBool>) {
    let chosen = match choose::of_servers(config, std::slice::from_ref(&name), None) {
        Ok(chosen) => chosen,
        Err(text) => return drop(to.send(Message::Log(name, format!("{text}\n")))),
    };
    for text in chosen.elsewhere {
        let _ = to.send(Message::Log(name.clone(), format!("{text}\n")));
    }
    if chosen.files.is_empty() {
        return;
    }
    let options = LogsOptions {
        follow: true,
        lines: Some(LOG_LINES),
        files: chosen.files,
        ..LogsOptions::default()
    };
    thread::spawn(move || {
        let mut out =
            LogWriter { name: name.clone(), to: to.clone(), is_closed, bytes: Vec::new() };
        if let Err(error) = logs::run(&options, &mut out) {
            let _ = to.send(Message::Log(name, format!("cannot read the log: {error}\n")));
        }
    });
}

/// Gives what is written to the view; a closed one is a reader that went away.
struct LogWriter {
    name: String,
    to: Sender<Message>,
    is_closed: Arc<AtomicBool>,
    bytes: Vec<u8>,
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.bytes.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        self.bytes.clear();
        let sent = self.to.send(Message::Log(self.name.clone(), text));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// What silence means, in words.
pub fn silence(since: Duration, failure: &Failure) -> String {
    match failure.exit {
        exit::TIME_OVER | exit::TRY_LATER => {
            format!("takeover ... nobody has answered for {} s", since.as_secs())
        }
        _ => failure.text.clone(),
    }
}
