//! The journal on disk, as the loop uses it.
//!
//! Must not decide what a failed write means: the core does. A journal that can't be written is
//! tried again with each heartbeat; until then the standby's copy is the record.

use crate::config::NodeConfig;
use crate::core::record::sound_until;
use crate::core::{Entry, Recovered, Survivor};
use crate::journal::{self, Appended, End, Journal, Origin, ReadError};
use crate::state::stopped;
use crate::sys::mark::Owner;
use crate::sys::{output_mark, process};
use log::{info, warn};
use std::cell::RefCell;
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
    /// Of the journal that was read, until it is gone on with.
    end: Option<End>,
    /// A record may be missing in it: it is to be made anew.
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
        Ok(Store::at(config.run_dir.clone(), origin, owner, capacity))
    }

    fn at(run_dir: PathBuf, origin: Origin, owner: Owner, capacity: u64) -> Store {
        Store {
            run_dir,
            origin,
            owner,
            capacity,
            journal: None,
            end: None,
            is_failing: false,
            has_survivors: false,
        }
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
        let seqs = RefCell::new(Vec::new());
        let is_wanted = |place: usize, payload: &[u8]| {
            let seq = seq_of(payload);
            // The last look counts.
            let mut seqs = seqs.borrow_mut();
            seqs.truncate(place);
            seqs.push(seq);
            seq.is_none_or(|seq| seq > known_seq)
        };
        let mut recovered = Recovered { same_boot: true, ..Recovered::default() };
        match journal::read_wanted(&self.run_dir, &is_wanted) {
            Ok(Some(contents)) => {
                self.end = contents.end.filter(|_| contents.origin == self.origin);
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
        let seqs = seqs.into_inner();
        let last = seqs.iter().copied().flatten().max();
        let last = last.max(recovered.entries.iter().map(|entry| entry.seq).max());
        let can_go_on = self.end.is_some() && seqs.iter().all(Option::is_some);
        recovered.sound_until =
            can_go_on.then(|| sound_until(seqs.into_iter().flatten())).flatten();
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
        self.end = None;
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

    /// Goes on with the journal that was read, which lacks these entries alone; where that can't be, begins
    /// a new generation with all.
    pub fn go_on(&mut self, entries: Vec<Entry>, all: impl Fn() -> Vec<Entry>) {
        let Some(end) = self.end.take() else { return self.open(all()) };
        let origin = self.origin.clone();
        match Journal::go_on(&self.run_dir, origin, self.capacity, end) {
            Ok(journal) => self.journal = Some(journal),
            Err(_) => return self.open(all()),
        }
        for entry in entries {
            let Ok(text) = serde_json::to_vec(&entry) else { continue };
            if self.save(&text, &all).is_err() {
                return self.open(all());
            }
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
        let mut is_whole = false;
        let result = journal.append(record).and_then(|appended| match appended {
            Appended::Written => Ok(()),
            // The snapshot is made of the present state, which this entry is part of.
            Appended::Full => {
                let entries = all();
                let mut payloads = entries.iter().filter_map(|one| serde_json::to_vec(one).ok());
                journal.compact(&mut payloads).map(|()| is_whole = true)
            }
        });
        match result {
            Ok(()) => {
                // Behind a record that could not be written this one does not mend it.
                if is_whole {
                    self.note_success();
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{NodeRecord, Record};

    #[test]
    fn a_record_that_could_not_be_written_makes_the_journal_due_anew_whatever_is_written_behind_it()
    {
        let dir = std::env::temp_dir().join(format!("nm-store-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let origin = Origin { node: "n".into(), boot_id: "b".into(), pid_namespace: 1 };
        let mut store = Store::at(dir.clone(), origin, Owner::default(), 0);
        let entry = |seq| Entry { seq, record: Record::Node(NodeRecord::default().into()) };
        store.open(vec![entry(1)]);
        assert!(!store.needs_open());
        store.note_failure(&io::Error::other("no space"));
        let text = serde_json::to_vec(&entry(3)).expect("its text");
        store.save(&text, || vec![entry(3)]).expect("it is written");
        assert!(store.needs_open(), "number 2 is missing");
        store.open(vec![entry(3)]);
        assert!(!store.needs_open());
        std::fs::remove_dir_all(&dir).expect("the directory goes");
    }
}
