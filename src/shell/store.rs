//! The journal on disk, as the loop uses it.
//!
//! Must not decide what a failed write means: the core does. A journal that can't be written is
//! tried again with each heartbeat; until then the standby's copy is the record.

use crate::config::NodeConfig;
use crate::core::{Entry, Recovered, Survivor};
use crate::journal::{self, Appended, Journal, Origin, ReadError};
use crate::state::stopped;
use crate::sys::mark::Owner;
use crate::sys::{output_mark, process};
use log::{info, warn};
use std::cell::Cell;
use std::io;
use std::path::PathBuf;

/// Bytes of journal for each server; a record has about 350. All of them are read at a takeover.
const BYTES_PER_SERVER: u64 = 2048;
const BYTES_MIN: u64 = 256 << 10;

/// The journal and where it lives.
pub struct Store {
    run_dir: PathBuf,
    origin: Origin,
    owner: Owner,
    capacity: u64,
    journal: Option<Journal>,
    is_failing: bool,
    /// Processes were found that no record knows, so nobody knows their cgroups.
    pub has_survivors: bool,
}

impl Store {
    /// # Errors
    /// /proc can't be read.
    pub fn new(config: &NodeConfig, owner: Owner, servers: usize) -> io::Result<Store> {
        let origin = Origin {
            node: config.name.clone(),
            boot_id: process::boot_id()?,
            pid_namespace: process::pid_namespace_inode()?,
        };
        let capacity = (servers as u64 * BYTES_PER_SERVER).max(BYTES_MIN);
        Ok(Store {
            run_dir: config.run_dir.clone(),
            origin,
            owner,
            capacity,
            journal: None,
            is_failing: false,
            has_survivors: false,
        })
    }

    /// Reads what is there, and looks for survivors if that is asked for or the journal can't say
    /// all. Records up to `known_seq` are left out. `fifos`: each server's name and FIFO.
    ///
    /// # Errors
    /// The journal must be left alone: a program of another format wrote it, or one of another namespace.
    pub fn read(
        &mut self,
        find_survivors: bool,
        known_seq: u64,
        fifos: &[(String, PathBuf)],
    ) -> Result<Recovered, String> {
        // Whoever takes over has most of them already, and each one takes its time.
        let last = Cell::new(None);
        let is_wanted = |payload: &[u8]| match seq_of(payload) {
            Some(seq) if seq <= known_seq => {
                last.set(last.get().max(Some(seq)));
                false
            }
            _ => true,
        };
        let mut recovered = Recovered { same_boot: true, ..Recovered::default() };
        match journal::read_wanted(&self.run_dir, &is_wanted) {
            Ok(Some(contents)) => {
                recovered.same_boot = contents.origin.boot_id == self.origin.boot_id;
                if recovered.same_boot && contents.origin.pid_namespace != self.origin.pid_namespace
                {
                    return Err(format!(
                        "cannot use the journal in {}: it was written in another PID namespace, \
                         whose process numbers mean nothing here; choose another runDir",
                        self.run_dir.display()
                    ));
                }
                if let Some(damage) = contents.damage {
                    warn!(target: "0112", "{damage}; it is cut there, and survivors are looked for");
                    recovered.incomplete = true;
                }
                for payload in &contents.payloads {
                    match serde_json::from_slice(payload) {
                        Ok(entry) => recovered.entries.push(entry),
                        Err(error) => {
                            warn!(target: "0112", "a journal record is skipped: {error}");
                            recovered.incomplete = true;
                        }
                    }
                }
            }
            Ok(None) => recovered.incomplete = true,
            Err(error @ ReadError::UnknownVersion { .. }) => return Err(error.to_string()),
            Err(error) => {
                warn!(target: "0112", "{error}; survivors are looked for");
                recovered.incomplete = true;
            }
        }
        let last = last.get().max(recovered.entries.iter().map(|entry| entry.seq).max());
        recovered.was_stopped = last.is_some_and(|last| stopped::is_so(&self.run_dir, last));
        if find_survivors || recovered.incomplete {
            recovered.survivors = self.survivors(fifos);
        }
        self.has_survivors = !recovered.survivors.is_empty();
        Ok(recovered)
    }

    fn survivors(&self, fifos: &[(String, PathBuf)]) -> Vec<Survivor> {
        let found = output_mark::survivors(&self.owner, fifos).unwrap_or_else(|error| {
            warn!(target: "0113", "cannot look for survivors in /proc: {error}");
            Vec::new()
        });
        let turn = |one: process::Survivor| Survivor {
            name: one.name,
            start_number: one.start_number,
            process: one.identity,
            leads: one.session_leader,
        };
        found.into_iter().map(turn).collect()
    }

    /// Begins a new generation with these entries.
    pub fn open(&mut self, entries: Vec<Entry>) {
        let mut payloads = entries.iter().filter_map(|entry| serde_json::to_vec(entry).ok());
        let origin = self.origin.clone();
        match Journal::create(&self.run_dir, origin, self.capacity, &mut payloads) {
            Ok(journal) => {
                if let Some(warning) = journal.warning() {
                    warn!(target: "0114", "{warning}");
                }
                self.journal = Some(journal);
                self.note_success();
            }
            Err(error) => self.note_failure(&error),
        }
    }

    /// Adds the text of one entry; `all` gives every record as it is now, for the compaction.
    ///
    /// # Errors
    /// It is not on disk, for this reason.
    pub fn save(&mut self, record: &[u8], all: impl Fn() -> Vec<Entry>) -> Result<(), String> {
        let Some(journal) = &mut self.journal else {
            return Err("there is no journal".to_string());
        };
        let result = journal.append(record).and_then(|appended| match appended {
            Appended::Written => Ok(()),
            // The snapshot is made of the present state, which this entry is part of.
            Appended::Full => {
                let entries = all();
                let mut payloads = entries.iter().filter_map(|one| serde_json::to_vec(one).ok());
                journal.compact(&mut payloads)
            }
        });
        match result {
            Ok(()) => {
                self.note_success();
                Ok(())
            }
            Err(error) => {
                self.note_failure(&error);
                Err(error.to_string())
            }
        }
    }

    /// The files are gone or could not be written: they have to be made anew.
    pub fn needs_open(&self) -> bool {
        self.is_failing
            || self.journal.as_ref().is_none_or(|journal| journal.is_gone(&self.run_dir))
    }

    fn note_success(&mut self) {
        if std::mem::replace(&mut self.is_failing, false) {
            info!(target: "0134", "the journal can be written again");
        }
    }

    fn note_failure(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!(
                target: "0114",
                "cannot write the journal in {}: {error}; the standby's copy is the record until then",
                self.run_dir.display()
            );
        }
    }
}

/// The number of an entry, which comes first in its text; `None`: it must be read to be known.
fn seq_of(payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(b"{\"seq\":")?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
