//! `status --watch` in a pseudo terminal, and what its screen shows.
//!
//! Must end the process that it started when it is dropped.

use crate::support::{Pair, SIGKILL, binary, signal, wait_until};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

/// A terminal with the view in it.
pub struct Screen {
    master: File,
    /// Open, so that the terminal's settings can be read when the view has ended.
    slave: OwnedFd,
    before: Termios,
    child: Child,
    shown: Arc<Mutex<vt100::Parser>>,
}

fn size(lines: u16, columns: u16) -> Winsize {
    Winsize { ws_row: lines, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Screen {
    /// Runs `status --watch` in a session of its own.
    pub fn open(pair: &Pair, lines: u16, columns: u16, variables: &[(&str, &str)]) -> Screen {
        Screen::with(pair, &["status", "--watch"], (lines, columns), variables)
    }

    /// Runs a command there.
    pub fn with(
        pair: &Pair,
        words: &[&str],
        (lines, columns): (u16, u16),
        variables: &[(&str, &str)],
    ) -> Screen {
        let OpenptyResult { master, slave } = openpty(None, None).expect("a pseudo terminal");
        tcsetwinsize(&slave, size(lines, columns)).expect("its size");
        let before = tcgetattr(&slave).expect("its settings");
        let end = || slave.try_clone().expect("a copy of the descriptor");
        // The terminal becomes that of the session; the process stays the same.
        let child = Command::new("setsid")
            .args(["--ctty", binary()])
            .args(words)
            .arg("-c")
            .arg(pair.config())
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .envs(variables.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid runs the view");
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(vt100::Parser::new(lines, columns, 0)));
        let (mut from, to) = (master.try_clone().expect("a copy"), Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                to.lock().expect("the screen").process(&bytes[..count]);
            }
        });
        Screen { master, slave, before, child, shown }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a PID")
    }

    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    pub fn resize(&mut self, lines: u16, columns: u16) {
        self.shown.lock().expect("the screen").screen_mut().set_size(lines, columns);
        tcsetwinsize(&self.slave, size(lines, columns)).expect("another size");
    }

    pub fn text(&self) -> String {
        self.shown.lock().expect("the screen").screen().contents()
    }

    /// The line that holds this text.
    pub fn line(&self, of: &str) -> String {
        self.text().lines().find(|line| line.contains(of)).unwrap_or_default().to_owned()
    }

    /// Whether a letter of the screen has a colour.
    pub fn has_colours(&self) -> bool {
        let parser = self.shown.lock().expect("the screen");
        let screen = parser.screen();
        let (lines, columns) = screen.size();
        (0..lines).any(|line| {
            (0..columns).any(|column| {
                screen
                    .cell(line, column)
                    .is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
            })
        })
    }

    pub fn wait(&self, what: &str) {
        self.wait_until(what, |text| text.contains(what));
    }

    pub fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let started = std::time::Instant::now();
        while !holds(&self.text()) {
            let screen = self.text();
            assert!(started.elapsed() < crate::support::LIMIT, "waited for {what}:\n{screen}");
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The view runs, and has the alternate screen.
    pub fn is_taken(&self) -> bool {
        self.shown.lock().expect("the screen").screen().alternate_screen()
            && tcgetattr(&self.slave).expect("settings") != self.before
    }

    /// The terminal is as it was found.
    pub fn wait_given_back(&self) {
        wait_until("the terminal to be given back", || {
            let parser = self.shown.lock().expect("the screen");
            let screen = parser.screen();
            tcgetattr(&self.slave).expect("settings") == self.before
                && !screen.alternate_screen()
                && !screen.hide_cursor()
        });
    }

    pub fn wait_end(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the view to end", || {
            ended = self.child.try_wait().expect("a child");
            ended.is_some()
        });
        ended.expect("it ended")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the screen\n{}", self.text());
        }
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            signal(self.pid(), SIGKILL);
            let _ = self.child.wait();
        }
    }
}
