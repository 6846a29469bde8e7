//! The fake disk: one journal, that may be full, torn or lost.
//!
//! Must not know who writes. A write that was done stays done, whoever is killed.

use nodemanager::core::{Entry, Record};
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Disk {
    /// None: there is no journal (at first, or somebody removed the run directory).
    pub journal: Option<Vec<Entry>>,
    /// What the core asked to be saved, and was: a new generation of the journal may have more, which
    /// nobody relies on.
    saved: BTreeMap<String, Entry>,
    /// A record at the end is cut.
    pub is_torn: bool,
    pub is_full: bool,
    /// A write failed since the journal was last whole.
    pub has_holes: bool,
    /// The numbers of the latest records that could not be written, by their key in `latest`.
    pub missing: BTreeMap<String, u64>,
}

impl Disk {
    /// A new generation; an atomic rename, so that it is there or the old one is.
    pub fn replace(&mut self, entries: Vec<Entry>) -> bool {
        if self.is_full {
            self.has_holes = true;
            return false;
        }
        self.journal = Some(entries);
        self.is_torn = false;
        self.has_holes = false;
        self.missing.clear();
        true
    }

    /// What was read, and these behind it: all of them, or it has holes.
    pub fn go_on(&mut self, entries: Vec<Entry>) -> bool {
        // What who goes on does not know is lost, and its number is another one's from now on.
        self.missing.clear();
        if self.is_full {
            self.missing.extend(entries.iter().map(|entry| (key(entry), entry.seq)));
            self.has_holes = true;
            return false;
        }
        self.journal.get_or_insert_default().extend(entries);
        self.has_holes = false;
        true
    }

    pub fn append(&mut self, entry: Entry, tears: bool) -> bool {
        match &mut self.journal {
            Some(entries) if !self.is_full => {
                // A torn end is written over.
                newer(&mut self.saved, &entry);
                self.missing.remove(&key(&entry));
                entries.push(entry);
                self.is_torn = false;
                true
            }
            _ => {
                self.is_torn |= tears;
                self.has_holes = true;
                self.missing.insert(key(&entry), entry.seq);
                false
            }
        }
    }

    /// Somebody removed the run directory.
    pub fn lose(&mut self) {
        self.journal = None;
        self.saved.clear();
    }

    /// The latest record that the core asked to be saved, of each server and of the node.
    pub fn saved(&self) -> BTreeMap<String, Entry> {
        self.saved.clone()
    }

    /// The latest record of each server (by name) and of the node (by "").
    pub fn latest(&self) -> BTreeMap<String, Entry> {
        let mut latest = BTreeMap::new();
        for entry in self.journal.iter().flatten() {
            newer(&mut latest, entry);
        }
        latest
    }
}

/// Whose record it is.
fn key(entry: &Entry) -> String {
    match &entry.record {
        Record::Node(_) => String::new(),
        Record::Server(server) => server.name.to_string(),
    }
}

/// Keeps the entry if nothing newer is there.
pub fn newer(latest: &mut BTreeMap<String, Entry>, entry: &Entry) {
    let key = key(entry);
    if latest.get(&key).is_none_or(|old| old.seq <= entry.seq) {
        latest.insert(key, entry.clone());
    }
}
