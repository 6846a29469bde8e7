//! The journal is damaged at every byte, and no server is started twice because of it.
//!
//! Real files, written by the real writer; what the real reader makes of them goes to the real core,
//! in a world where the servers still live. `tests/traps/main.rs` does some of it with a real pair.

mod endings;
mod world;

use nodemanager::core::record::{Entry, Identity, NodeRecord, Phase, Record, ServerRecord, Wanted};
use nodemanager::core::{Ms, Name, Recovered};
use nodemanager::journal::{Contents, Journal, MIN_FILE, Origin, ReadError, read_once};
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use world::{Process, Way, World};

const WAYS: [Way; 4] = [
    Way::Start { revives: false },
    Way::Start { revives: true },
    Way::Takeover,
    Way::EarlyTakeover,
];
const HEADER: usize = 4096;

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("nm-damage-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn origin(boot: &str) -> Origin {
    Origin { node: "node".to_string(), boot_id: boot.to_string(), pid_namespace: 1 }
}

fn identity(pid: i32) -> Identity {
    Identity { pid, start_ticks: pid as u64 * 10, inode: 0 }
}

/// A life of several servers: every kind of record, in the order in which they were written.
struct Life {
    names: Vec<String>,
    /// The entries of each generation: the snapshot and what was appended.
    generations: Vec<Vec<Entry>>,
    /// What lives at the end of it.
    living: Vec<Process>,
    seq: u64,
    latest: Vec<ServerRecord>,
}

impl Life {
    fn new() -> Life {
        let mut life = Life {
            names: Vec::new(),
            generations: vec![Vec::new()],
            living: Vec::new(),
            seq: 0,
            latest: Vec::new(),
        };
        let names = ["plain", "again", "unmarked", "stopping", "gate", "later", "down"];
        for name in names {
            life.names.push(name.to_string());
            life.latest.push(ServerRecord::new(name, Wanted::Up));
        }
        life.write(Record::Node(NodeRecord { epoch: 1, ..NodeRecord::default() }.into()));
        // In the older generation all but two run; one runs as another process than later.
        for (server, pid) in [(0, 100), (1, 110), (2, 120), (3, 130), (4, 140)] {
            life.start(server, pid);
        }
        life.set(6, |record| record.wanted = Wanted::Down);
        life.end(1);
        life.compact();
        // The newer one: what ended is started again, also the one that wipes its mark.
        life.start(1, 111);
        life.end(2);
        life.start(2, 121);
        life.end(4);
        life.start(4, 141);
        life.start(5, 150);
        let until = Ms(9_000_000);
        let why = nodemanager::core::record::Why::Asked;
        let process = identity(130);
        let leader_dead = false;
        life.set(3, |record| {
            record.wanted = Wanted::Down;
            record.phase = Phase::Stopping { process, why, leader_dead, killed: false, until };
        });
        life.living.iter_mut().for_each(|one| one.is_unmarked = one.server == 2);
        life
    }

    fn write(&mut self, record: Record) {
        self.seq += 1;
        let entry = Entry { seq: self.seq, record };
        self.generations.last_mut().expect("a generation").push(entry);
    }

    fn set(&mut self, server: usize, change: impl FnOnce(&mut ServerRecord)) {
        change(&mut self.latest[server]);
        self.write(Record::Server(self.latest[server].clone().into()));
    }

    /// Every record of a start, and the process.
    fn start(&mut self, server: usize, pid: i32) {
        let (process, until) = (identity(pid), Ms(1_000));
        self.set(server, |record| {
            record.start_number += 1;
            record.phase = Phase::Spawning { until };
        });
        for phase in [
            Phase::AtGate { process, until },
            Phase::Execing { process, until },
            Phase::Locking { process, until },
            Phase::Settling { process, until },
            Phase::Up { process },
        ] {
            self.set(server, |record| record.phase = phase);
        }
        let start_number = self.latest[server].start_number;
        let is_unmarked = false;
        self.living.push(Process { server, start_number, identity: process, is_unmarked });
    }

    fn end(&mut self, server: usize) {
        let old = self.latest[server].phase.process().expect("it runs");
        self.living.retain(|one| one.identity != old);
        let until = Ms(2_000);
        self.set(server, |record| {
            record.phase = Phase::Reaping { process: old, until, at_gate: false };
        });
        self.set(server, |record| {
            record.failures.push(until);
            record.phase = Phase::Backoff { until };
        });
    }

    fn compact(&mut self) {
        let seq = self.seq;
        let mut snapshot = vec![Entry {
            seq,
            record: Record::Node(NodeRecord { epoch: 1, ..NodeRecord::default() }.into()),
        }];
        let servers = self.latest.iter().cloned().map(|server| Record::Server(server.into()));
        snapshot.extend(servers.map(|record| Entry { seq, record }));
        self.generations.push(snapshot);
    }

    /// The files of the run directory, without the space behind the records, and each one's
    /// number of bytes that mean something.
    fn files(&self, name: &str) -> [Vec<u8>; 2] {
        let dir = Scratch::new(name);
        let bytes = |entry: &Entry| serde_json::to_vec(entry).unwrap();
        let mut payloads = self.generations[0].iter().map(bytes);
        let mut journal = Journal::create(&dir.0, origin("boot"), MIN_FILE, &mut payloads).unwrap();
        // The snapshot is what the generation began with; the rest is appended.
        let snapshot = self.latest.len() + 1;
        for entries in &self.generations[1..] {
            let (first, rest) = entries.split_at(snapshot);
            journal.compact(&mut first.iter().map(bytes)).unwrap();
            for entry in rest {
                assert_eq!(
                    journal.append(&bytes(entry)).unwrap(),
                    nodemanager::journal::Appended::Written
                );
            }
        }
        ["journal.a", "journal.b"].map(|name| {
            let mut file = fs::read(dir.0.join(name)).unwrap();
            let used = file.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            file.truncate(used.max(HEADER));
            file
        })
    }

    /// What a standby has been sent: the latest record of everything.
    fn copy(&self) -> Vec<Entry> {
        let mut latest = HashMap::new();
        for entry in self.generations.iter().flatten() {
            let key = match &entry.record {
                Record::Node(_) => Name::default(),
                Record::Server(server) => server.name.clone(),
            };
            latest.insert(key, entry.clone());
        }
        let mut copy: Vec<Entry> = latest.into_values().collect();
        copy.sort_by_key(|entry| entry.seq);
        copy
    }
}

/// What the store makes of what the reader found (`src/shell/store.rs`).
fn recovered(result: &Result<Option<Contents>, ReadError>, boot: &str) -> Option<Recovered> {
    let mut recovered = Recovered { same_boot: true, ..Recovered::default() };
    match result {
        Ok(Some(contents)) => {
            recovered.same_boot = contents.origin.boot_id == boot;
            recovered.incomplete = contents.damage.is_some();
            for payload in &contents.payloads {
                match serde_json::from_slice(payload) {
                    Ok(entry) => recovered.entries.push(entry),
                    Err(_) => recovered.incomplete = true,
                }
            }
        }
        Ok(None) | Err(ReadError::Unusable(_) | ReadError::Io { .. }) => {
            recovered.incomplete = true;
        }
        // Refused: nothing is started at all.
        Err(ReadError::UnknownVersion { .. }) => return None,
    }
    Some(recovered)
}

/// Feeds damaged files to reader and core; what was seen before is not tried again.
struct Trial<'a> {
    life: &'a Life,
    copy: Vec<Entry>,
    known: HashMap<(u64, usize, bool, bool), ()>,
    damages: usize,
}

impl<'a> Trial<'a> {
    fn new(life: &'a Life) -> Trial<'a> {
        Trial { life, copy: life.copy(), known: HashMap::new(), damages: 0 }
    }

    /// `files`: as they are now; what was done to them is told when something is wrong.
    fn check(&mut self, files: [Option<&[u8]>; 2], what: &dyn Fn() -> String) {
        self.damages += 1;
        let result = read_once(files);
        if let Ok(Some(contents)) = &result {
            let generation = contents.generation as usize;
            // Nothing is invented: what is read was written, in its order, from the first on.
            if let Some(written) = self.life.generations.get(generation - 1) {
                assert!(contents.payloads.len() <= written.len(), "{}", what());
            }
            let key = (
                contents.generation,
                contents.payloads.len(),
                contents.damage.is_some(),
                contents.origin.boot_id == "boot",
            );
            if self.known.insert(key, ()).is_some() {
                return;
            }
            if let Some(written) = self.life.generations.get(generation - 1) {
                let written: Vec<Vec<u8>> =
                    written.iter().map(|entry| serde_json::to_vec(entry).unwrap()).collect();
                assert!(written.starts_with(&contents.payloads), "{}", what());
            }
        }
        self.try_core(&result, what);
    }

    fn try_core(&self, result: &Result<Option<Contents>, ReadError>, what: &dyn Fn() -> String) {
        let Some(recovered) = recovered(result, "boot") else { return };
        for way in WAYS {
            let world = World::new(&self.life.names, self.life.living.clone());
            // A standby that did not have every record yet knows what it has only.
            let done = world.begin(way, &recovered, &self.copy);
            let done = done.unwrap_or_else(|error| {
                panic!("{}, {way:?}: {error}\n{recovered:?}", what());
            });
            // One of each: nothing twice within this life either.
            let mut once = done.started.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), done.started.len(), "{}, {way:?}", what());
        }
    }
}

#[test]
fn a_sound_journal_starts_only_what_is_not_there() {
    let life = Life::new();
    let files = life.files("sound");
    let result = read_once([Some(files[0].as_slice()), Some(files[1].as_slice())]);
    let contents = result.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((contents.generation, &contents.damage), (2, &None));
    assert_eq!(contents.payloads.len(), life.generations[1].len());
    let recovered = recovered(&result, "boot").unwrap();
    let done = World::new(&life.names, life.living.clone())
        .begin(Way::Start { revives: true }, &recovered, &[])
        .unwrap();
    assert_eq!(done.started, [0; 0], "six live, and the seventh is wanted down");
    // The world can tell: with empty hands and nobody found, it sees the second start.
    let blind = World::new(&life.names, life.living.clone()).begin(
        Way::Start { revives: true },
        &Recovered { same_boot: false, ..recovered },
        &[],
    );
    assert!(blind.is_err() || blind.is_ok_and(|done| !done.started.contains(&0)));
}

#[test]
fn a_cut_at_every_byte_of_either_file_starts_nothing_twice() {
    let life = Life::new();
    let files = life.files("cut");
    let mut trial = Trial::new(&life);
    for which in 0..2 {
        for len in 0..files[which].len() {
            let mut both = files.each_ref().map(|file| Some(file.as_slice()));
            both[which] = Some(&files[which][..len]);
            trial.check(both, &|| format!("file {which} cut to {len}"));
        }
        let mut both = files.each_ref().map(|file| Some(file.as_slice()));
        both[which] = None;
        trial.check(both, &|| format!("file {which} removed"));
    }
    trial.check([None, None], &|| "both removed".to_string());
    println!("{} damages, {} different readings", trial.damages, trial.known.len());
}

#[test]
fn every_flipped_bit_of_either_file_starts_nothing_twice() {
    let life = Life::new();
    let files = life.files("bits");
    let mut trial = Trial::new(&life);
    for which in 0..2 {
        let mut damaged = files.clone();
        for at in 0..files[which].len() {
            for bit in 0..8 {
                damaged[which][at] ^= 1 << bit;
                let both = damaged.each_ref().map(|file| Some(file.as_slice()));
                trial.check(both, &|| format!("bit {bit} of byte {at} of file {which}"));
                damaged[which][at] ^= 1 << bit;
            }
        }
    }
    println!("{} damages, {} different readings", trial.damages, trial.known.len());
}

/// Ways to spoil a whole block that begins at some byte.
type Spoil = fn(&mut Vec<u8>, usize);

#[test]
fn zeroed_doubled_and_lost_blocks_start_nothing_twice() {
    let spoils: [(&str, Spoil); 5] = [
        ("a zeroed page", |file, at| {
            let end = (at + 4096).min(file.len());
            file[at..end].fill(0);
        }),
        ("a zeroed sector", |file, at| {
            let end = (at + 512).min(file.len());
            file[at..end].fill(0);
        }),
        ("noise", |file, at| {
            let end = (at + 300).min(file.len());
            file[at..end].fill(0x5a);
        }),
        ("a doubled page", |file, at| {
            let block = file[at..(at + 4096).min(file.len())].to_vec();
            file.splice(at..at, block);
        }),
        ("a page in the place of the next", |file, at| {
            let block = file[at..(at + 4096).min(file.len())].to_vec();
            let end = (at + 4096 + block.len()).min(file.len());
            if let Some(next) = file.get_mut(at + 4096..end) {
                next.copy_from_slice(&block[..next.len()]);
            }
        }),
    ];
    let life = Life::new();
    let files = life.files("blocks");
    let mut seen = 0;
    for (name, spoil) in spoils {
        for (which, at) in
            (0..2).flat_map(|which| (0..files[which].len()).map(move |at| (which, at)))
        {
            // Every sector, and every byte around the end of the header.
            if at % 512 != 0 && !(4000..4200).contains(&at) {
                continue;
            }
            let mut damaged = files.clone();
            spoil(&mut damaged[which], at);
            let both = damaged.each_ref().map(|file| Some(file.as_slice()));
            let result = read_once(both);
            Trial::new(&life).try_core(&result, &|| format!("{name} at {at} of file {which}"));
            seen += 1;
        }
    }
    assert!(seen > 2_000, "only {seen} damages were tried");
}

#[test]
fn files_that_changed_places_or_come_from_other_lives_start_nothing_twice() {
    let life = Life::new();
    let [a, b] = life.files("swap");
    let mut trial = Trial::new(&life);
    trial.check([Some(&b), Some(&a)], &|| "swapped".to_string());
    trial.check([Some(&a), Some(&a)], &|| "the older one twice".to_string());
    trial.check([Some(&b), Some(&b)], &|| "the newer one twice".to_string());
    // A file of a life that went on for longer, in this boot and in another one: every server was
    // started a thousand times and is down. Its generation is the same, the next, or far away.
    let generations = [1, 2, 3, 4, 7, 9];
    for (boot, generation) in
        ["boot", "other"].iter().flat_map(|boot| generations.map(|g| (*boot, g)))
    {
        let dir = Scratch::new(&format!("other-{boot}-{generation}"));
        let entries = life.names.iter().map(|name| {
            let start_number = 1_000;
            let record = ServerRecord { start_number, ..ServerRecord::new(name, Wanted::Up) };
            serde_json::to_vec(&Entry { seq: 100_000, record: Record::Server(record.into()) })
                .unwrap()
        });
        let entries: Vec<Vec<u8>> = entries.collect();
        let mut journal =
            Journal::create(&dir.0, origin(boot), MIN_FILE, &mut entries.clone().into_iter())
                .unwrap();
        for _ in 1..generation {
            journal.compact(&mut entries.clone().into_iter()).unwrap();
        }
        let strange = ["journal.a", "journal.b"].map(|name| fs::read(dir.0.join(name)).unwrap());
        for own in [&a, &b] {
            for strange in &strange {
                let what = format!("with a file of generation {generation} of {boot}");
                for both in [[own, strange], [strange, own]] {
                    let result = read_once(both.map(|file| Some(file.as_slice())));
                    let seen = result.as_ref().is_ok_and(|found| {
                        found.as_ref().is_some_and(|contents| contents.damage.is_some())
                    });
                    assert!(seen, "{what}: {result:?}");
                    trial.try_core(&result, &|| what.clone());
                }
            }
        }
    }
}

/// Where each record begins, and where the end mark ends.
fn borders(file: &[u8]) -> Vec<usize> {
    let mut borders = vec![HEADER];
    loop {
        let at = borders[borders.len() - 1];
        let len = u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        borders.push(at + 8 + len);
        if len == 0 {
            return borders;
        }
    }
}

#[test]
fn whole_records_that_are_missing_doubled_swapped_or_strange_start_nothing_twice() {
    let life = Life::new();
    let files = life.files("records");
    let mut trial = Trial::new(&life);
    for which in 0..2 {
        let (own, other) = (&files[which], &files[1 - which]);
        let (begins, strange) = (borders(own), borders(other));
        let piece = |at: usize| own[begins[at]..begins[at + 1]].to_vec();
        // The last one is the end mark.
        let count = begins.len() - 2;
        for at in 0..count {
            let from_other =
                strange.windows(2).nth(at).map(|ends| other[ends[0]..ends[1]].to_vec());
            let changes = [
                Some((at, at + 1, Vec::new())),
                Some((at, at, piece(at))),
                (at + 1 < count).then(|| (at, at + 2, [piece(at + 1), piece(at)].concat())),
                from_other.clone().map(|strange| (at, at, strange)),
                from_other.map(|strange| (at, at + 1, strange)),
                Some((at, count, Vec::new())),
            ];
            for (number, (from, to, bytes)) in
                changes.into_iter().enumerate().filter_map(|(n, c)| Some((n, c?)))
            {
                let mut damaged = own.clone();
                damaged.splice(begins[from]..begins[to], bytes);
                let mut both = files.each_ref().map(|file| Some(file.as_slice()));
                both[which] = Some(&damaged);
                let what = || format!("change {number} of record {at} in file {which}");
                trial.check(both, &what);
                // The older file is not read any more: its header says enough.
                if let (1, Ok(Some(contents))) = (which, read_once(both)) {
                    assert!(contents.damage.is_some(), "{}", what());
                    assert!(contents.payloads.len() <= at + 1, "{}", what());
                }
            }
        }
    }
    println!("{} damages, {} different readings", trial.damages, trial.known.len());
}
