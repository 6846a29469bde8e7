//! What the full-screen view knows, and what a key or a message makes of it.
//!
//! Must not touch a terminal, a socket or a clock: keys and messages come in, what is to be done goes out.

use crate::api::{ServerStatus, Status};
use crate::cli::control::Action;
use crate::cli::printable;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::VecDeque;

/// So many lines of a log can be scrolled back.
const LOG_LINES_MAX: usize = 2000;
/// A longer line of a log goes on in the next one, in letters.
const LOG_LINE_MAX: usize = 4096;
/// A filter is no longer than that, in letters.
const FILTER_MAX: usize = 64;

/// What the view is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    /// End, and give the terminal back.
    Quit,
    /// Ctrl-C: as the signal.
    Interrupt,
    /// Ctrl-Z: give the terminal back and stop.
    Suspend,
    /// Draw every line anew.
    Redraw,
    /// Ask the pair.
    Act(Action, String),
    /// More is wanted about this server from now on.
    Detail(String),
    /// Nothing more than the rows is wanted.
    NoDetail,
    /// Begin to follow this server's log.
    Follow(String),
    /// Follow it no longer.
    Unfollow,
}

/// What fills the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page {
    Servers,
    Help,
    Detail(String),
    Log(String),
}

/// What the keys are for at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Keys,
    /// Letters go into the filter.
    Filter,
    /// `y` does it.
    Confirm(Action, String),
}

/// All that the view knows.
#[derive(Clone, Debug)]
pub struct Model {
    pub status: Option<Status>,
    /// Nobody answers; in words.
    pub silence: Option<String>,
    pub page: Page,
    pub mode: Mode,
    pub filter: String,
    /// By name, so that it stays where it is when rows come and go.
    pub selected: Option<String>,
    /// The first row that is shown.
    pub top: usize,
    /// Rows or lines that fit; as the last drawing found.
    pub room: usize,
    /// The newest event, or what came of the last command.
    pub message: String,
    /// Commands that were not answered yet.
    pub pending: usize,
    pub log: VecDeque<String>,
    /// The log's last line has no end yet.
    log_is_open: bool,
    /// Lines that the log is scrolled back, or that the details are scrolled on.
    pub scroll: usize,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            status: None,
            silence: None,
            page: Page::Servers,
            mode: Mode::Keys,
            filter: String::new(),
            selected: None,
            top: 0,
            room: 1,
            message: String::new(),
            pending: 0,
            log: VecDeque::new(),
            log_is_open: false,
            scroll: 0,
        }
    }
}

impl Model {
    /// The servers that the filter leaves.
    pub fn shown(&self) -> Vec<&ServerStatus> {
        let wanted = self.filter.to_lowercase();
        let is_shown = |one: &&ServerStatus| {
            let state = one.state.to_string().to_lowercase();
            wanted.is_empty()
                || one.name.to_lowercase().contains(&wanted)
                || state.starts_with(&wanted)
        };
        self.status.iter().flat_map(|status| &status.servers).filter(is_shown).collect()
    }

    /// The row that is selected among those shown.
    pub fn selected_row(&self) -> Option<usize> {
        let name = self.selected.as_ref()?;
        self.shown().iter().position(|one| one.name == *name)
    }

    /// The pair answered.
    pub fn on_status(&mut self, status: Status) {
        let row = self.selected_row().unwrap_or(0);
        self.status = Some(status);
        self.silence = None;
        self.keep_selection(row);
    }

    /// The pair did not answer.
    pub fn on_silence(&mut self, text: String) {
        self.silence = Some(text);
    }

    /// What came of a command.
    pub fn on_result(&mut self, text: String) {
        self.pending = self.pending.saturating_sub(1);
        self.message = text;
    }

    /// Output of the server whose log is followed.
    pub fn on_log(&mut self, name: &str, text: &str) {
        if self.page != Page::Log(name.to_owned()) {
            return;
        }
        for part in text.split_inclusive('\n') {
            let line = printable(part.trim_end_matches(['\n', '\r']));
            let goes_on = self.log_is_open
                && self.log.back().is_some_and(|last| last.chars().count() < LOG_LINE_MAX);
            match self.log.back_mut().filter(|_| goes_on) {
                Some(last) => last.push_str(&line),
                None => {
                    self.log.push_back(line);
                    // What is read stays where it is.
                    self.scroll += usize::from(self.scroll > 0);
                }
            }
            self.log_is_open = !part.ends_with('\n');
        }
        while self.log.len() > LOG_LINES_MAX {
            self.log.pop_front();
        }
    }

    fn keep_selection(&mut self, row: usize) {
        if self.selected_row().is_none() {
            let shown = self.shown();
            let name = shown.get(row.min(shown.len().saturating_sub(1)));
            self.selected = name.map(|one| one.name.clone());
        }
    }

    fn select(&mut self, row: usize) {
        let shown = self.shown();
        let name = shown.get(row.min(shown.len().saturating_sub(1))).map(|one| one.name.clone());
        self.selected = name;
    }

    /// A key was pressed.
    pub fn on_key(&mut self, key: KeyEvent) -> Effect {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return Effect::Interrupt,
                KeyCode::Char('z') => return Effect::Suspend,
                KeyCode::Char('l') => return Effect::Redraw,
                KeyCode::Char('u') if self.mode == Mode::Filter => {
                    self.filter.clear();
                    self.keep_selection(0);
                }
                _ => {}
            }
            return Effect::Nothing;
        }
        match (self.mode.clone(), self.page.clone()) {
            (Mode::Confirm(action, name), _) => self.on_answer(key.code, action, name),
            (Mode::Filter, _) => self.on_letter(key.code),
            (Mode::Keys, Page::Servers) => self.on_servers_key(key.code),
            (Mode::Keys, Page::Help) => {
                self.page = Page::Servers;
                Effect::Nothing
            }
            (Mode::Keys, Page::Detail(name)) => self.on_detail_key(key.code, name),
            (Mode::Keys, Page::Log(_)) => self.on_log_key(key.code),
        }
    }

    fn on_answer(&mut self, code: KeyCode, action: Action, name: String) -> Effect {
        self.mode = Mode::Keys;
        if matches!(code, KeyCode::Char('y' | 'Y')) {
            return self.act(action, name);
        }
        self.message = format!("{name}: not done");
        Effect::Nothing
    }

    fn act(&mut self, action: Action, name: String) -> Effect {
        self.pending += 1;
        self.message = format!("{name}: {} ...", action.name());
        Effect::Act(action, name)
    }

    fn on_letter(&mut self, code: KeyCode) -> Effect {
        match code {
            KeyCode::Enter => self.mode = Mode::Keys,
            KeyCode::Esc => {
                self.mode = Mode::Keys;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.chars().count() < FILTER_MAX => {
                self.filter.push(letter);
            }
            _ => {}
        }
        self.keep_selection(0);
        Effect::Nothing
    }

    fn on_servers_key(&mut self, code: KeyCode) -> Effect {
        if let Some(step) = Step::of(code) {
            let row = self.selected_row().unwrap_or(0);
            self.select(step.from(row, self.shown().len().saturating_sub(1), self.room));
            return Effect::Nothing;
        }
        match code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Char('?' | 'h') => self.page = Page::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => {
                self.filter.clear();
                self.message.clear();
                self.keep_selection(0);
            }
            _ => return self.on_server_key(code),
        }
        Effect::Nothing
    }

    /// What is done with the selected server.
    fn on_server_key(&mut self, code: KeyCode) -> Effect {
        let Some(name) = self.selected.clone().filter(|_| self.selected_row().is_some()) else {
            return Effect::Nothing;
        };
        let (action, is_asked) = match code {
            KeyCode::Enter => {
                (self.page, self.scroll) = (Page::Detail(name.clone()), 0);
                return Effect::Detail(name);
            }
            KeyCode::Char('l') => return self.follow(name),
            KeyCode::Char('s') => (Action::Start, false),
            KeyCode::Char('t') => (Action::Stop, true),
            KeyCode::Char('r') => (Action::Restart, true),
            KeyCode::Char('R') => (Action::Reload, false),
            KeyCode::Char('D') => (Action::Drain, true),
            KeyCode::Char('K') => (Action::Kill, true),
            KeyCode::Char('c') => (Action::Reset, false),
            KeyCode::Char('e') => (Action::Enable, false),
            KeyCode::Char('d') => (Action::Disable, true),
            _ => return Effect::Nothing,
        };
        if is_asked {
            self.mode = Mode::Confirm(action, name);
            return Effect::Nothing;
        }
        self.act(action, name)
    }

    fn follow(&mut self, name: String) -> Effect {
        self.page = Page::Log(name.clone());
        (self.scroll, self.log_is_open) = (0, false);
        self.log.clear();
        Effect::Follow(name)
    }

    fn on_detail_key(&mut self, code: KeyCode, name: String) -> Effect {
        if let Some(step) = Step::of(code) {
            self.scroll = step.from(self.scroll, usize::MAX, self.room);
            return Effect::Nothing;
        }
        match code {
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter => {
                self.page = Page::Servers;
                Effect::NoDetail
            }
            KeyCode::Char('l') => self.follow(name),
            _ => Effect::Nothing,
        }
    }

    fn on_log_key(&mut self, code: KeyCode) -> Effect {
        if let Some(step) = Step::of(code) {
            // Counted from the end.
            let most = self.log.len().saturating_sub(self.room);
            let first = most.saturating_sub(self.scroll);
            self.scroll = most.saturating_sub(step.from(first, most, self.room));
            return Effect::Nothing;
        }
        if matches!(code, KeyCode::Char('q') | KeyCode::Esc) {
            self.page = Page::Servers;
            self.log.clear();
            return Effect::Unfollow;
        }
        Effect::Nothing
    }
}

/// A way through rows or lines.
#[derive(Clone, Copy, Debug)]
enum Step {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

impl Step {
    fn of(code: KeyCode) -> Option<Step> {
        match code {
            KeyCode::Up | KeyCode::Char('k') => Some(Step::Up),
            KeyCode::Down | KeyCode::Char('j') => Some(Step::Down),
            KeyCode::PageUp => Some(Step::PageUp),
            KeyCode::PageDown | KeyCode::Char(' ') => Some(Step::PageDown),
            KeyCode::Home | KeyCode::Char('g') => Some(Step::First),
            KeyCode::End | KeyCode::Char('G') => Some(Step::Last),
            _ => None,
        }
    }

    fn from(self, at: usize, last: usize, page: usize) -> usize {
        let page = page.max(1);
        match self {
            Step::Up => at.saturating_sub(1),
            Step::Down => at.saturating_add(1),
            Step::PageUp => at.saturating_sub(page),
            Step::PageDown => at.saturating_add(page),
            Step::First => 0,
            Step::Last => last,
        }
        .min(last)
    }
}
