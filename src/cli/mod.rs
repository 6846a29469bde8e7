//! The commands: what is typed, what is asked of the pair, what is printed.
//!
//! Must not manage anything: a command asks over the control socket, or reads what is on disk.

pub mod apply;
pub mod args;
pub mod client;
pub mod control;
pub mod enable;
pub mod events;
pub mod help;
pub mod import;
pub mod logs;
pub mod pair;
pub mod progress;
pub mod rolling;
pub mod status;
#[cfg(test)]
mod test_server;
pub mod watch;

pub use crate::exit;

use std::io::{self, Write};

/// Why a command can't do what it was asked: its exit status, and a text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One of [`exit`].
    pub exit: u8,
    /// Without the program's name and without a newline.
    pub text: String,
}

impl Failure {
    /// A failure with this exit status and text.
    pub fn new(exit: u8, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into() }
    }

    /// Prints the text behind the program's name; returns the exit status.
    pub fn print(&self, err: &mut dyn Write) -> u8 {
        // An error that can't be told still has its exit status.
        let _ = writeln!(err, "nodemanager: {}", printable(&self.text));
        self.exit
    }
}

/// Writes `text` at once. A reader that went away (`| head`) is no failure; a full device makes
/// a successful `exit` a [`exit::FAILED`].
pub fn print(out: &mut dyn Write, text: &str, exit: u8) -> u8 {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            exit::worst([exit, exit::FAILED])
        }
        Ok(()) | Err(_) => exit,
    }
}

/// `text` without what could move a terminal's cursor: a server's output is not trusted.
pub fn printable(text: &str) -> String {
    let shown = |letter: char| if letter == '\t' || !letter.is_control() { letter } else { '?' };
    text.chars().map(shown).collect()
}
