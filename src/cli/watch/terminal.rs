//! The terminal of the full-screen view: taken, drawn to, and given back.
//!
//! Must not know what is shown. Whoever ends the view, also by a panic, the terminal is given back as
//! it was found.

use super::screen::{Line, Look, Size};
use crate::cli::status::text;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic;

/// A terminal that is taken.
pub struct Terminal {
    has_colours: bool,
    /// What is on it now.
    drawn: Vec<Line>,
}

impl Terminal {
    /// Takes it.
    ///
    /// # Errors
    /// It is none, or it went away.
    pub fn take(has_colours: bool) -> io::Result<Terminal> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let _ = give_back();
            before(info);
        }));
        // Made first: its end gives back what is taken by then.
        let mut terminal = Terminal { has_colours, drawn: Vec::new() };
        terminal.retake()?;
        Ok(terminal)
    }

    /// Takes it again after a stop, during which anybody may have changed it.
    ///
    /// # Errors
    /// It went away.
    pub fn retake(&mut self) -> io::Result<()> {
        self.drawn.clear();
        disable_raw_mode()?;
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap, Clear(ClearType::All))
    }

    /// Gives it back for a while.
    ///
    /// # Errors
    /// It went away.
    pub fn leave(&mut self) -> io::Result<()> {
        give_back()
    }

    /// The next drawing draws every line.
    pub fn forget(&mut self) {
        self.drawn.clear();
    }

    /// Its size now.
    pub fn size(&self) -> Size {
        let (columns, lines) = size().unwrap_or((80, 24));
        Size { columns: usize::from(columns), lines: usize::from(lines) }
    }

    /// Writes the lines that are not there already.
    ///
    /// # Errors
    /// It went away.
    pub fn draw(&mut self, lines: Vec<Line>) -> io::Result<()> {
        let mut bytes = Vec::new();
        if self.drawn.len() != lines.len() {
            queue!(bytes, Clear(ClearType::All))?;
            self.drawn.clear();
        }
        for (at, line) in
            lines.iter().enumerate().filter(|(at, line)| self.drawn.get(*at) != Some(line))
        {
            queue!(bytes, MoveTo(0, u16::try_from(at).unwrap_or(u16::MAX)))?;
            bytes.extend(painted(line, self.has_colours).into_bytes());
            queue!(bytes, Clear(ClearType::UntilNewLine))?;
        }
        self.drawn = lines;
        let mut out = io::stdout().lock();
        out.write_all(&bytes)?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = give_back();
    }
}

fn give_back() -> io::Result<()> {
    let shown = execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
    disable_raw_mode().and(shown)
}

/// With the attributes of the terminal; without colours where they are not wanted (bold and
/// reverse are none).
fn painted(line: &Line, has_colours: bool) -> String {
    let start = match line.look {
        Look::Plain => "\x1b[0m",
        Look::Reverse => "\x1b[0;7m",
        Look::Bold => "\x1b[0;1m",
        Look::Alarm if has_colours => "\x1b[0;1;33m",
        Look::Alarm => "\x1b[0;1m",
    };
    let mut painted = start.to_owned();
    match line.state.as_ref().filter(|_| has_colours) {
        Some((columns, state)) => {
            let [before, shown, behind] = text::parts(&line.text, columns);
            let colour = text::colour(*state);
            let _ = write!(painted, "{before}\x1b[{colour}m{shown}{start}{behind}");
        }
        None => painted.push_str(&line.text),
    }
    painted + "\x1b[0m"
}
