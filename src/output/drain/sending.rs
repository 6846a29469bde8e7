//! Lines from the FIFO to syslog.
//!
//! A line is sent before it is taken out of the FIFO, so none is lost; a mover that is killed
//! between the two leaves one line that its successor sends again. Must not send a part of a line
//! as a line, except where it is longer than a message or its writer is dead.

use super::{Drain, Limits, Now, PIPE_BYTES};
use crate::output::loss::Loss;
use crate::output::syslog::{Syslog, TEXT_MAX};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

impl Drain {
    /// Joins `fifo` with syslog instead of a log.
    pub fn to_syslog(fifo: OwnedFd, syslog: Syslog) -> Drain {
        Drain {
            fifo: File::from(fifo),
            path: syslog.path().to_owned(),
            limits: Limits { max_size: 0, max_files: 0, max_age_ms: 0 },
            file: None,
            rotate_at: u64::MAX,
            paused: false,
            paced: false,
            room: PIPE_BYTES,
            failing: None,
            loss: Loss::default(),
            skipped: 0,
            began_ms: None,
            is_old: false,
            stamp: None,
            syslog: Some(syslog),
        }
    }

    /// Who writes, for syslog: lines that are in the FIFO by now are of the one before. Nothing to
    /// do for a log.
    pub fn set_writer(&mut self, now: Now, pid: Option<i32>) {
        let Some(syslog) = &mut self.syslog else { return };
        if syslog.pid() == pid {
            return;
        }
        let is_known = syslog.pid().is_some();
        syslog.flushes = is_known;
        if is_known && !self.paused && self.failing.is_none() {
            // What can't be sent now goes with the next one's number.
            while self.send_lines(now, PIPE_BYTES).is_ok_and(|moved| moved > 0) {}
        }
        if let Some(syslog) = &mut self.syslog {
            syslog.set_pid(pid);
            syslog.flushes = false;
        }
    }

    /// Sends lines, up to so many bytes of them. 0: there is no whole line.
    pub(super) fn send_lines(&mut self, now: Now, left: usize) -> io::Result<usize> {
        if self.loss.has_gap() {
            if !self.skip_rest_of_line()? {
                return Ok(0);
            }
            self.loss.close_gap(false);
            self.skipped = 0;
        }
        let bytes = self.look_ahead(left.clamp(TEXT_MAX, PIPE_BYTES))?;
        let mut sent = 0usize;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in line.chunks(TEXT_MAX) {
                match self.send_piece(now, piece) {
                    Ok(0) => return Ok(sent),
                    Ok(count) => sent = sent.saturating_add(count),
                    Err(_) if sent > 0 => return Ok(sent),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(sent)
    }

    /// 0: it is a part of a line whose rest is to be waited for.
    fn send_piece(&mut self, now: Now, piece: &[u8]) -> io::Result<usize> {
        let Some(syslog) = &mut self.syslog else { return Ok(0) };
        let text = piece.strip_suffix(b"\n").unwrap_or(piece);
        let is_whole = text.len() < piece.len() || piece.len() == TEXT_MAX || syslog.flushes;
        if !is_whole {
            return Ok(0);
        }
        // An empty line says nothing, and receivers drop it.
        if !text.is_empty() {
            syslog.send(now.wall_ms, text)?;
        }
        // This process alone reads the FIFO, so what was seen is what is taken out.
        (&self.fifo).read_exact(&mut vec![0; piece.len()])?;
        Ok(piece.len())
    }
}
