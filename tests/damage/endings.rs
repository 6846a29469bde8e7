//! The journal of a pair that ends, or that ended once before: which end is believed.
//!
//! A pair that was shut down and started again has the old end in its older file. When the newer one is
//! damaged and both twins die, nobody may be stopped for that; and an end that was asked for must
//! come, whatever is left of the record of it.

use crate::world::{Done, Process, Way, World};
use crate::{HEADER, Scratch, identity, origin, recovered};
use nodemanager::core::record::{Ending, Entry, NodeRecord, Phase, Record, ServerRecord, Wanted};
use nodemanager::core::{EndAsked, Ms};
use nodemanager::journal::{Appended, Journal, MIN_FILE, read_once};
use std::collections::HashSet;
use std::fs;

/// `auto` is started with the pair, as all are in `World`.
const NAMES: [&str; 3] = ["one", "two", "three"];

fn node(seq: u64, ending: Option<Ending>) -> Entry {
    let record = Record::Node(NodeRecord { epoch: seq, ending, ..NodeRecord::default() }.into());
    Entry { seq, record }
}

fn end(stop_servers: bool, done: bool) -> Option<Ending> {
    Some(Ending { stop_servers, since: Ms(5), ids: vec!["id".to_string()], done, failed: None })
}

fn server(seq: u64, at: usize, start_number: u64, wanted: Wanted, phase: Phase) -> Entry {
    let record = ServerRecord { start_number, phase, ..ServerRecord::new(NAMES[at], wanted) };
    Entry { seq, record: Record::Server(record.into()) }
}

fn up(seq: u64, start_number: u64) -> impl Iterator<Item = Entry> {
    (0..NAMES.len()).map(move |at| {
        let process = identity(100 * start_number as i32 + at as i32);
        server(seq, at, start_number, Wanted::Up, Phase::Up { process })
    })
}

fn living(start_number: u64) -> Vec<Process> {
    let process = |server: usize| Process {
        server,
        start_number,
        identity: identity(100 * start_number as i32 + server as i32),
        is_unmarked: false,
    };
    (0..NAMES.len()).map(process).collect()
}

/// The files of a journal whose generations hold these entries; the first of each is the snapshot.
fn files(name: &str, generations: &[Vec<Entry>]) -> [Vec<u8>; 2] {
    let dir = Scratch::new(name);
    let bytes = |entry: &Entry| serde_json::to_vec(entry).unwrap();
    let mut journal: Option<Journal> = None;
    for entries in generations {
        let mut first = entries.iter().take(1).map(bytes);
        let journal = match &mut journal {
            Some(journal) => {
                journal.compact(&mut first).unwrap();
                journal
            }
            none => {
                none.insert(Journal::create(&dir.0, origin("boot"), MIN_FILE, &mut first).unwrap())
            }
        };
        for entry in &entries[1..] {
            assert_eq!(journal.append(&bytes(entry)).unwrap(), Appended::Written);
        }
    }
    ["journal.a", "journal.b"].map(|name| {
        let mut file = fs::read(dir.0.join(name)).unwrap();
        let used = file.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        file.truncate(used.max(HEADER));
        file
    })
}

/// Every cut and every flipped bit of either file; each different reading once, and the undamaged
/// one. Gives how many.
fn for_each_damage(
    files: &[Vec<u8>; 2],
    end_asked: Option<EndAsked>,
    mut check: impl FnMut(Way, Done, &str),
    living: &[Process],
    copy: &[Entry],
) -> usize {
    let names = NAMES.map(str::to_string);
    let mut known = HashSet::new();
    let mut look = |both: [Option<&[u8]>; 2], what: &dyn Fn() -> String| {
        let result = read_once(both);
        let key = result.as_ref().ok().map(|contents| {
            let contents = contents.as_ref();
            contents.map(|it| (it.generation, it.payloads.len(), it.damage.is_some()))
        });
        if !known.insert(key) {
            return;
        }
        let Some(mut recovered) = recovered(&result, "boot") else { return };
        recovered.end_asked = end_asked;
        for way in [Way::Start { revives: true }, Way::Takeover, Way::EarlyTakeover] {
            let done = World::new(&names, living.to_vec()).begin(way, &recovered, copy);
            let what = format!("{}, {way:?}", what());
            check(way, done.unwrap_or_else(|error| panic!("{what}: {error}")), &what);
        }
    };
    let whole = files.each_ref().map(|file| Some(file.as_slice()));
    look(whole, &|| "nothing damaged".to_string());
    look([None, None], &|| "both removed".to_string());
    for which in 0..2 {
        let mut both = whole;
        both[which] = None;
        look(both, &|| format!("file {which} removed"));
        let mut damaged = files[which].clone();
        for at in 0..damaged.len() {
            both[which] = Some(&files[which][..at]);
            look(both, &|| format!("file {which} cut to {at}"));
            for bit in 0..8 {
                damaged[at] ^= 1 << bit;
                let mut both = whole;
                both[which] = Some(&damaged);
                look(both, &|| format!("bit {bit} of byte {at} of file {which}"));
                damaged[at] ^= 1 << bit;
            }
        }
    }
    known.len()
}

#[test]
fn the_end_of_a_life_before_stops_nobody_whatever_is_damaged() {
    for (stop_servers, done) in [(true, true), (true, false), (false, true), (false, false)] {
        // The first life ended: with its servers, they are down and wanted by nobody.
        let mut first = vec![node(1, None)];
        first.extend(up(2, 1));
        first.push(node(3, end(stop_servers, false)));
        if stop_servers {
            first.extend((0..NAMES.len()).map(|at| server(4, at, 1, Wanted::Down, Phase::Down)));
        }
        first.extend(done.then(|| node(5, end(stop_servers, true))));
        // Then somebody started the pair again.
        let mut second = vec![node(6, None)];
        second.extend(up(7, 2));
        let name = format!("before-{stop_servers}-{done}");
        let files = files(&name, &[first, second.clone()]);
        let check = |_, done: Done, what: &str| {
            assert!(!done.has_exited, "{what}: it ended");
            assert_eq!(done.living.len(), NAMES.len(), "{what}: {done:?}");
            assert_eq!(done.started, [0; 0], "{what}");
        };
        assert!(for_each_damage(&files, None, check, &living(2), &second) > 5);
    }
}

#[test]
fn an_end_that_was_asked_for_comes_whatever_is_left_of_its_record() {
    for stop_servers in [true, false] {
        let mut first = vec![node(1, None)];
        first.extend(up(2, 1));
        let mut second = vec![node(3, None)];
        second.extend(up(4, 1));
        second.push(node(5, end(stop_servers, false)));
        let files = files(&format!("asked-{stop_servers}"), &[first, second.clone()]);
        let asked = if stop_servers { EndAsked::ServersStop } else { EndAsked::ServersStay };
        let check = |_, done: Done, what: &str| {
            assert!(done.has_exited, "{what}: it did not end");
            let left = if stop_servers { 0 } else { NAMES.len() };
            assert_eq!(done.living.len(), left, "{what}: {done:?}");
            assert_eq!(done.started, [0; 0], "{what}");
        };
        assert!(for_each_damage(&files, Some(asked), check, &living(1), &second) > 5);
    }
}
