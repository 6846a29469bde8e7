//! Servers that are ready when a line of their output says so.
//!
//! Must not move output: it reads the logs that the drains write, from the place where the server's
//! own output begins. That place is on record, so a new active goes on with the same lines.

use super::ctx::Ctx;
use crate::config::{Readiness, ServerConfig, Stream};
use crate::core::checks::Told;
use crate::core::record::LogPlace;
use crate::core::{Event, Ms, ServerId};
use crate::output::rotate::rotated_files;
use log::warn;
use regex_lite::Regex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The logs are looked at so often.
const EVERY_MS: u64 = 100;
/// Bytes of one log in one look.
const LOOK_BYTES: usize = 256 * 1024;
/// What is longer is not one line.
const LINE_MAX: usize = 64 * 1024;

struct Watch {
    start_number: u64,
    pattern: Regex,
    has_timestamps: bool,
    logs: Vec<Log>,
}

/// One of a server's logs.
struct Log {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    /// The begin of a line.
    rest: Vec<u8>,
}

/// All servers that are not ready yet.
#[derive(Default)]
pub struct LogWatch {
    watches: BTreeMap<ServerId, Watch>,
    due: Option<Ms>,
}

/// Whether, and where, the lines of a server that is about to start will begin. Only standard
/// output's place is on record; standard error begins with what is there when it is looked at.
pub fn place_of(ctx: &Ctx, server: &ServerConfig) -> Option<LogPlace> {
    let Some(Readiness::Log(_)) = *server.ready else { return None };
    let path = Stream { server, is_stderr: false }.log_path(&ctx.config.node.log_dir);
    let place = std::fs::metadata(path).map(|status| LogPlace {
        device: status.dev(),
        inode: status.ino(),
        offset: status.len(),
    });
    Some(place.unwrap_or_default())
}

impl LogWatch {
    /// A server is not ready yet: its lines are read from now on.
    pub fn begin(
        &mut self,
        ctx: &Ctx,
        server: ServerId,
        config: &ServerConfig,
        start_number: u64,
        place: Option<LogPlace>,
    ) {
        let Some(Readiness::Log(pattern)) = &*config.ready else { return };
        let is_same = |watch: &Watch| watch.start_number == start_number;
        if self.watches.get(&server).is_some_and(is_same) {
            return;
        }
        let pattern = match Regex::new(pattern) {
            Ok(pattern) => pattern,
            Err(error) => return warn!(target: "0319", "{}: ready.log: {error}", config.name),
        };
        let log_dir = &ctx.config.node.log_dir;
        let log = |stream: Stream<'_>| {
            let place = place.filter(|_| !stream.is_stderr);
            Log::open(stream.log_path(log_dir), place.unwrap_or_default())
        };
        let logs = config.logged().map(log).collect();
        let has_timestamps = config.output.timestamps;
        self.watches.insert(server, Watch { start_number, pattern, has_timestamps, logs });
        self.due = Some(ctx.now());
    }

    /// It is ready, or gone.
    pub fn end(&mut self, server: ServerId) {
        self.watches.remove(&server);
        if self.watches.is_empty() {
            self.due = None;
        }
    }

    /// When `tick` is due.
    pub fn deadline(&self) -> Option<Ms> {
        self.due
    }

    /// Reads what is new.
    pub fn tick(&mut self, ctx: &mut Ctx) {
        let now = ctx.now();
        if self.due.is_none_or(|at| at > now) {
            return;
        }
        self.due = Some(now.after(EVERY_MS));
        let mut ready = Vec::new();
        for (server, watch) in &mut self.watches {
            let (pattern, has_timestamps) = (&watch.pattern, watch.has_timestamps);
            let is_it = |line: &str| pattern.is_match(own_part(line, has_timestamps));
            if watch.logs.iter_mut().any(|log| log.has_line(&is_it)) {
                ready.push((*server, watch.start_number));
            }
        }
        for (server, start_number) in ready {
            self.end(server);
            let told = Told { ready: true, ..Told::default() };
            ctx.tell(Event::Told { server, start_number, told });
        }
    }
}

/// The line without the time stamp that the node manager put in front.
fn own_part(line: &str, has_timestamps: bool) -> &str {
    match line.split_once(' ') {
        Some((_, own)) if has_timestamps => own,
        _ => line,
    }
}

impl Log {
    fn open(path: PathBuf, place: LogPlace) -> Log {
        let is_it = |file: &File| {
            file.metadata()
                .is_ok_and(|status| (status.dev(), status.ino()) == (place.device, place.inode))
        };
        let named = |path: &Path| File::open(path).ok().filter(|file| is_it(file));
        // It may have been rotated since the server began.
        let rotated = || rotated_files(&path).iter().rev().find_map(|(_, path)| named(path));
        let known = named(&path).or_else(rotated);
        let at = if known.is_some() { place.offset } else { 0 };
        let file = known.or_else(|| File::open(&path).ok());
        Log { path, file, at, rest: Vec::new() }
    }

    /// Is there a whole line that is it, among what is new?
    fn has_line(&mut self, is_it: &dyn Fn(&str) -> bool) -> bool {
        let mut left = LOOK_BYTES;
        while left > 0 {
            let mut buffer = vec![0; left.min(LINE_MAX)];
            let read = match &self.file {
                Some(file) => file.read_at(&mut buffer, self.at),
                None => Ok(0),
            };
            match read {
                Ok(0) if self.go_on() => {}
                Ok(0) | Err(_) => return false,
                Ok(count) => {
                    buffer.truncate(count);
                    self.at += count as u64;
                    left = left.saturating_sub(count);
                    if self.take(&buffer, is_it) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// At the end of a file that was rotated the next one follows; true: there is one.
    fn go_on(&mut self) -> bool {
        let there = std::fs::metadata(&self.path).map(|status| (status.dev(), status.ino()));
        let own = self.file.as_ref().map(File::metadata);
        let own = own.and_then(io::Result::ok).map(|status| (status.dev(), status.ino()));
        match there {
            Ok(there) if own != Some(there) => {
                self.file = File::open(&self.path).ok();
                self.at = 0;
                self.file.is_some()
            }
            _ => false,
        }
    }

    fn take(&mut self, bytes: &[u8], is_it: &dyn Fn(&str) -> bool) -> bool {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            let is_whole = piece.ends_with(b"\n");
            if is_whole || self.rest.len() > LINE_MAX {
                let line = std::mem::take(&mut self.rest);
                if is_it(String::from_utf8_lossy(&line).trim_end_matches('\n')) {
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_whole_lines_behind_the_place_count_also_over_a_rotation() {
        let dir = std::env::temp_dir().join(format!("nm-log-watch-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("web.out");
        std::fs::write(&path, "ready before\n").unwrap();
        let status = std::fs::metadata(&path).unwrap();
        let (device, inode, offset) = (status.dev(), status.ino(), status.len());
        let mut log = Log::open(path.clone(), LogPlace { device, inode, offset });
        let is_ready = |line: &str| line.starts_with("ready");
        assert!(!log.has_line(&is_ready), "what an earlier run wrote");
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"loading\nrea").unwrap();
        assert!(!log.has_line(&is_ready), "a part of a line");
        std::fs::rename(&path, dir.join("web.out.1")).unwrap();
        file.write_all(b"l\n").unwrap();
        std::fs::write(&path, "ready now\n").unwrap();
        let mut heir = Log::open(path.clone(), LogPlace { device, inode, offset });
        assert!(log.has_line(&is_ready) && heir.has_line(&is_ready));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_time_stamp_in_front_is_no_part_of_the_line() {
        assert_eq!(own_part("2026-11-21T19:44:01.123+00:00 up", true), "up");
        assert_eq!(own_part("all up", false), "all up");
    }
}
