//! `status --watch`: the status on the whole screen, refreshed by events, with keys for what is done
//! most.
//!
//! Must not decide anything about servers: keys ask the pair as the commands do. The model, what is
//! drawn, the terminal and the threads are apart.

mod feed;
mod model;
mod screen;
mod terminal;

pub use feed::Fetch;

use super::client::Client;
use super::{Failure, exit, printable};
use crate::config::Config;
use feed::{Message, Wish};
use jiff::Timestamp;
use model::{Effect, Model};
use nix::sys::signal::{Signal, raise};
use signal_hook::consts::signal::{SIGCONT, SIGINT, SIGTSTP};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use terminal::Terminal;

/// What is watched.
pub struct Watch {
    pub config: Config,
    pub client: Client,
    pub fetch: Fetch,
    pub json: bool,
    pub has_colours: bool,
}

/// How the view ended.
enum End {
    Quit,
    Signal(i32),
    /// The terminal went away.
    Gone(io::Error),
}

/// Shows it until `q`; returns the exit status: 64 where there is no terminal. A signal ends the
/// process as it would without a view, after the terminal was given back.
pub fn run(watch: Watch, err: &mut dyn Write) -> u8 {
    if let Err(text) = check_terminal(watch.json) {
        return Failure::new(exit::USAGE, text).print(err);
    }
    let end = match View::open(watch) {
        Ok(mut view) => view.run(),
        Err(error) => End::Gone(error),
    };
    match end {
        End::Quit => exit::DONE,
        End::Signal(signal) => {
            // Returns only if the signal is ignored.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            exit::FAILED
        }
        End::Gone(error) => {
            Failure::new(exit::FAILED, format!("cannot use the terminal: {error}")).print(err)
        }
    }
}

fn check_terminal(json: bool) -> Result<(), &'static str> {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if json {
        return Err("--watch is for people; for programs there is `nodemanager events --follow \
                    --json`, and GET /v1/events?since=NUMBER on the control socket");
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() || is_dumb {
        return Err("--watch needs a terminal for input and output; without one use `nodemanager \
                    status`, or `nodemanager events --follow`");
    }
    Ok(())
}

struct View {
    watch: Watch,
    model: Model,
    terminal: Terminal,
    messages: Receiver<Message>,
    to: Sender<Message>,
    wishes: Sender<Wish>,
    /// Set: the log that is followed is not shown any more.
    log_is_closed: Arc<AtomicBool>,
}

impl View {
    fn open(mut watch: Watch) -> io::Result<View> {
        let (to, messages) = channel();
        let (wishes, wished) = channel();
        feed::signals(to.clone())?;
        let terminal = Terminal::take(watch.has_colours)?;
        feed::keys(to.clone());
        // Nothing but the view writes to the terminal.
        watch.client = watch.client.telling(|_| {});
        let nothing: Fetch = Box::new(|_, _| Err(Failure::new(exit::FAILED, "")));
        let fetch = std::mem::replace(&mut watch.fetch, nothing);
        feed::pair(watch.client.clone(), fetch, wished, to.clone());
        let log_is_closed = Arc::default();
        let model = Model::default();
        Ok(View { watch, model, terminal, messages, to, wishes, log_is_closed })
    }

    fn run(&mut self) -> End {
        loop {
            if let Err(error) = self.draw() {
                return End::Gone(error);
            }
            // It ends by a message alone; one sender is here.
            let Ok(first) = self.messages.recv() else { return End::Quit };
            let mut next = Some(first);
            // What came together is drawn once.
            while let Some(message) = next {
                if let Some(end) = self.on_message(message) {
                    return end;
                }
                next = self.messages.try_recv().ok();
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let lines = screen::render(&mut self.model, self.terminal.size(), Timestamp::now());
        self.terminal.draw(lines)
    }

    fn on_message(&mut self, message: Message) -> Option<End> {
        match message {
            Message::Key(key) => {
                let effect = self.model.on_key(key);
                return self.carry_out(effect);
            }
            Message::Resize => self.terminal.forget(),
            Message::Signal(SIGTSTP) => return self.suspend(),
            Message::Signal(SIGCONT) => return self.terminal.retake().err().map(End::Gone),
            Message::Signal(signal) => return Some(End::Signal(signal)),
            Message::Status(status) => self.model.on_status(*status),
            Message::Silence(since, failure) => {
                self.model.on_silence(feed::silence(since, &failure));
            }
            Message::Event(event) if self.model.pending == 0 => {
                let server = event.server.map(|name| format!("{name}: ")).unwrap_or_default();
                let time = event.time.parse::<Timestamp>().map(|time| {
                    let local = time.to_zoned(jiff::tz::TimeZone::system());
                    local.strftime("%H:%M:%S  ").to_string()
                });
                let time = time.unwrap_or_default();
                self.model.message = format!("{time}{server}{}", event.text);
            }
            Message::Event(_) => {}
            Message::Result(text) => {
                self.model.on_result(printable(&text));
                self.wish(Wish::Look);
            }
            Message::Log(name, text) => self.model.on_log(&name, &text),
            Message::Gone => return Some(End::Gone(io::ErrorKind::UnexpectedEof.into())),
        }
        None
    }

    fn carry_out(&mut self, effect: Effect) -> Option<End> {
        match effect {
            Effect::Nothing => {}
            Effect::Quit => return Some(End::Quit),
            Effect::Interrupt => return Some(End::Signal(SIGINT)),
            Effect::Suspend => return self.suspend(),
            Effect::Redraw => self.terminal.forget(),
            Effect::Act(action, name) => {
                feed::act(self.watch.client.clone(), action, name, self.to.clone());
            }
            Effect::Detail(name) => self.wish(Wish::About(Some(name))),
            Effect::NoDetail => self.wish(Wish::About(None)),
            Effect::Follow(name) => {
                self.log_is_closed = Arc::default();
                let is_closed = Arc::clone(&self.log_is_closed);
                self.wish(Wish::About(None));
                feed::follow(&self.watch.config, name, self.to.clone(), is_closed);
            }
            Effect::Unfollow => self.log_is_closed.store(true, Ordering::Relaxed),
        }
        None
    }

    fn wish(&self, wish: Wish) {
        // Its thread ends with the process.
        let _ = self.wishes.send(wish);
    }

    /// Gives the terminal back and stops; goes on here when the process is continued.
    fn suspend(&mut self) -> Option<End> {
        let stopped = self.terminal.leave().and_then(|()| Ok(raise(Signal::SIGSTOP)?));
        stopped.and_then(|()| self.terminal.retake()).err().map(End::Gone)
    }
}

#[cfg(test)]
mod tests;
