//! Rotated logs on their way to gzip files.
//!
//! Must not compress in the loop: a process of its own does, one at a time, and for all logs. It works
//! from what is in the log directories, so one that was killed, or whose active was, leaves nothing
//! that the next one does not find.

use super::bequest;
use super::helpers::end_of;
use super::{Shell, log_path, log_settings, token::Source};
use crate::config::{Config, LogTarget, OutputTo, ServerConfig};
use crate::core::{Exit, Ms};
use crate::output::gzip::{Compressed, compress_rotated};
use crate::output::logger::{self, Settings};
use crate::output::rotate::{plain, rotated_files};
use crate::sys;
use crate::sys::lock::{Attempt, Lock};
use log::warn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// The pair's own logs are looked at so often: any of its processes rotates them.
const LOOK_EVERY_MS: u64 = 5_000;
/// What could not be compressed yet is tried again after so long, and what failed.
const AGAIN_MS: u64 = 1_000;
const FAILED_AGAIN_MS: u64 = 60_000;
/// Another process of the pair may still write to a log of the pair that was just rotated.
const OWN_MIN_AGE: Duration = Duration::from_secs(2);
/// Exit statuses of the process that compresses.
const NOT_YET: u8 = 2;
const FAILED: u8 = 1;

/// The process that compresses, and when the next one is to begin.
#[derive(Default)]
pub struct Compressor {
    process: Option<OwnedFd>,
    is_due: bool,
    again_at: Option<Ms>,
    look_at: Ms,
}

impl Compressor {
    pub fn deadline(&self) -> Option<Ms> {
        self.again_at
    }
}

/// A log whose rotated files are to be compressed.
struct ToDo {
    path: PathBuf,
    max_files: u32,
    min_age: Duration,
}

fn to_do(config: &Config) -> Vec<ToDo> {
    let node = &config.node;
    let is_wanted =
        |server: &&ServerConfig| server.output.compress && server.output.to == OutputTo::Pipe;
    let servers = config.servers.iter().filter(is_wanted).flat_map(ServerConfig::logged);
    let servers = servers.map(|stream| ToDo {
        path: stream.log_path(&node.log_dir),
        max_files: stream.server.output.max_files,
        min_age: Duration::ZERO,
    });
    servers.chain(own_logs(config)).collect()
}

fn own_logs(config: &Config) -> Vec<ToDo> {
    let node = &config.node;
    if !node.log_compress || node.log_target != LogTarget::File {
        return Vec::new();
    }
    let own = |is_standby| ToDo {
        path: log_path(config, is_standby),
        max_files: node.log_max_files,
        min_age: OWN_MIN_AGE,
    };
    vec![own(false), own(true)]
}

/// Runs the process that compresses; gives its exit status.
pub fn run() -> u8 {
    let _ = sys::set_name("nm-compressor");
    match bequest::config().and_then(|config| compress_all(&config)) {
        Ok(Compressed::All) => 0,
        Ok(Compressed::NotYet) => NOT_YET,
        Err(_) => FAILED,
    }
}

fn compress_all(config: &Config) -> io::Result<Compressed> {
    let settings = Settings { may_wait: true, ..log_settings(config, false) };
    logger::init(&settings)?;
    // That of an active that was killed may still be at work.
    let lock = match Lock::try_take(&config.node.run_dir.join("compressor.lock"))? {
        Attempt::Taken(lock) => lock,
        Attempt::HeldBy(_) => return Ok(Compressed::NotYet),
    };
    let mut result = Ok(Compressed::All);
    for ToDo { path, max_files, min_age } in to_do(config) {
        match compress_rotated(&path, max_files, min_age) {
            Ok(Compressed::All) => {}
            Ok(Compressed::NotYet) if result.is_ok() => result = Ok(Compressed::NotYet),
            Ok(Compressed::NotYet) => {}
            Err(error) => {
                warn!(target: "0366", "{error}; it stays as it is, and is tried again");
                result = Err(error);
            }
        }
    }
    drop(lock);
    result
}

impl Shell {
    /// Starts the process that compresses when there is something to compress.
    pub(super) fn compress_logs(&mut self) {
        let now = self.ctx.now();
        let compressor = &mut self.compressor;
        compressor.is_due |= self.outputs.take_compress();
        if self.is_serving && now >= compressor.look_at {
            compressor.look_at = now.after(LOOK_EVERY_MS);
            let has_plain = |log: &ToDo| {
                rotated_files(&log.path)
                    .iter()
                    .any(|(number, path)| *path == plain(&log.path, *number))
            };
            compressor.is_due |= own_logs(&self.ctx.config).iter().any(has_plain);
        }
        if compressor.again_at.is_some_and(|at| at <= now) {
            compressor.again_at = None;
            compressor.is_due = true;
        }
        if !compressor.is_due || compressor.process.is_some() || compressor.again_at.is_some() {
            return;
        }
        compressor.is_due = false;
        if to_do(&self.ctx.config).is_empty() {
            return;
        }
        let bequest = self.bequest();
        match self.start_helper("compressor", &bequest, Vec::new(), Source::Compressor) {
            Ok(process) => self.compressor.process = Some(process),
            Err(error) => {
                warn!(target: "0366", "cannot start the process that compresses logs: {error}; tried again");
                self.compressor.again_at = Some(now.after(FAILED_AGAIN_MS));
            }
        }
    }

    /// The process that compresses has ended.
    pub(super) fn on_compressor(&mut self) {
        let process = &mut self.compressor.process;
        let again_ms = match end_of(&mut self.ctx, process, Source::Compressor) {
            None => return,
            Some(Exit::Code(0)) => None,
            Some(Exit::Code(code)) if code == i32::from(FAILED) => Some(FAILED_AGAIN_MS),
            // Killed, or not all could be done yet.
            _ => Some(AGAIN_MS),
        };
        self.compressor.again_at = again_ms.map(|ms| self.ctx.now().after(ms));
    }
}
