//! What a reader makes of damaged files: it keeps what was before, says so, and invents nothing.

use super::format::{Decoded, FREE, FREE_AT, HEADER_LEN, Header, Key, scan};
use super::reader::{look, read_settled};
use super::tests::{Scratch, Xorshift, contents, create, flip, origin, payloads};
use super::*;
use std::fs;

const TEXTS: [&str; 5] = ["alpha", "b", "{\"seq\":3}", "deltadelta", "e"];

/// A journal of one generation in memory: its bytes, and where each record ends.
fn image() -> (Vec<u8>, Vec<usize>) {
    let key = Key { generation: 7, salt: 0x1234_5678_9abc_def0 };
    let header = Header { key, origin: origin(), payload_start: HEADER_LEN as u64 };
    let mut bytes = header.encode().unwrap();
    let mut ends = Vec::new();
    for text in TEXTS {
        key.push_record(text.as_bytes(), &mut bytes).unwrap();
        ends.push(bytes.len());
    }
    key.push_end(&mut bytes);
    (bytes, ends)
}

/// A file that was never used.
fn unused() -> Vec<u8> {
    let mut block = vec![0; FREE_AT];
    block.extend_from_slice(&FREE);
    block
}

fn look_at(a: &[u8], b: &[u8]) -> Result<Option<Contents>, ReadError> {
    look([Some(a), Some(b)], Path::new("run")).result
}

/// Damage at `at` leaves exactly the records that end there or before.
fn expect_kept(bytes: &[u8], ends: &[usize], at: usize) {
    let unused = unused();
    match look_at(bytes, &unused) {
        Ok(Some(found)) => {
            let kept = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(found.payloads, payloads(&TEXTS[..kept]), "damage at {at}");
            let damage = found.damage.unwrap_or_else(|| panic!("no damage seen at {at}"));
            assert!(damage.offset as usize <= at);
        }
        Err(ReadError::Unusable(_)) => assert!(at < HEADER_LEN, "nothing kept at {at}"),
        other => panic!("damage at {at}: {other:?}"),
    }
}

#[test]
fn a_file_cut_at_any_byte_keeps_the_records_before() {
    let (bytes, ends) = image();
    for len in 1..bytes.len() {
        expect_kept(&bytes[..len], &ends, len);
    }
    assert!(look_at(&[], &[]).unwrap().is_none());
}

#[test]
fn a_flipped_bit_anywhere_keeps_the_records_before_and_is_reported() {
    let (mut bytes, ends) = image();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            expect_kept(&bytes, &ends, at);
            bytes[at] ^= 1 << bit;
        }
    }
    assert_eq!(look_at(&bytes, &unused()).unwrap().unwrap().damage, None);
}

/// What a reader finds while the files change from one opening to the next; the last stays.
fn read_while_changing(states: &[[&[u8]; 2]]) -> Contents {
    let mut opened = 0;
    let open = || {
        let state = states[opened.min(states.len() - 1)];
        opened += 1;
        Ok(state.map(Some))
    };
    read_settled(Path::new("run"), open).unwrap().unwrap()
}

#[test]
fn damage_that_is_gone_at_the_next_reading_was_a_write_on_its_way() {
    let (bytes, ends) = image();
    let (unused, mut torn) = (unused(), bytes.clone());
    torn[ends[3]] ^= 1;
    let (before, after) = ([torn.as_slice(), &unused], [bytes.as_slice(), &unused]);
    let found = read_while_changing(&[before, before, after]);
    assert_eq!((found.payloads, found.damage), (payloads(&TEXTS), None));
    let found = read_while_changing(&[before]);
    assert_eq!(found.payloads, payloads(&TEXTS[..4]));
    assert_eq!(found.damage.unwrap().offset, ends[3] as u64);
}

#[test]
fn a_compaction_that_ends_during_a_reading_is_read() {
    let (bytes, _) = image();
    let key = Key { generation: 8, salt: 5 };
    let header = Header { key, origin: origin(), payload_start: HEADER_LEN as u64 };
    let mut newer = header.encode().unwrap();
    key.push_record(b"compacted", &mut newer).unwrap();
    key.push_end(&mut newer);
    let unused = unused();
    let found = read_while_changing(&[[&bytes, &unused], [&bytes, &newer]]);
    assert_eq!((found.generation, found.payloads), (8, payloads(&["compacted"])));
}

#[test]
fn zeros_in_the_place_of_records_are_no_end() {
    let (mut bytes, ends) = image();
    bytes.resize(bytes.len() + 100, 0);
    for end in ends {
        let mut cut = bytes.clone();
        cut[end..].fill(0);
        assert!(look_at(&cut, &unused()).unwrap().unwrap().damage.is_some());
    }
}

#[test]
fn a_damaged_newest_header_gives_the_generation_before_and_says_so() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["older"]);
    journal.compact(&mut payloads(&["newer"]).into_iter()).unwrap();
    drop(journal);
    let newest = dir.path().join("journal.b");
    flip(&newest, 20, 1);
    let found = contents(dir.path());
    assert_eq!((found.generation, found.payloads), (1, payloads(&["older"])));
    assert_eq!(found.damage.unwrap().file, newest);
    drop(create(dir.path(), MIN_FILE, &["anew"]));
    let found = contents(dir.path());
    assert_eq!((found.payloads, found.damage), (payloads(&["anew"]), None));
}

#[test]
fn a_newest_file_that_was_cut_to_nothing_or_removed_is_reported() {
    let spoil: [fn(&Path); 2] =
        [|path| fs::write(path, []).unwrap(), |path| fs::remove_file(path).unwrap()];
    for spoil in spoil {
        let dir = Scratch::new();
        let mut journal = create(dir.path(), MIN_FILE, &["older"]);
        journal.compact(&mut payloads(&["newer"]).into_iter()).unwrap();
        spoil(&dir.path().join("journal.b"));
        let found = contents(dir.path());
        assert_eq!(found.payloads, payloads(&["older"]));
        assert!(found.damage.is_some());
    }
}

#[test]
fn a_record_damaged_at_the_very_start_leaves_none_and_no_older_ones() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["older"]);
    journal.compact(&mut payloads(&["newer", "newest"]).into_iter()).unwrap();
    flip(&dir.path().join("journal.b"), HEADER_LEN as u64, 1);
    let found = contents(dir.path());
    assert_eq!((found.generation, found.payloads), (2, vec![]));
    assert_eq!(found.damage.unwrap().offset, HEADER_LEN as u64);
}

#[test]
fn records_of_an_earlier_use_never_show_up() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["used1", "used2", "used3", "used4"]);
    journal.compact(&mut std::iter::empty()).unwrap();
    journal.compact(&mut payloads(&["again"]).into_iter()).unwrap();
    let (path, end) = (dir.path().join("journal.a"), HEADER_LEN as u64 + 13);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.windows(5).any(|window| window == b"used4"), "the old records are gone");
    for (offset, bits) in [(end, 0), (end, 5), (end + 4, 1)] {
        flip(&path, offset, bits);
        assert_eq!(contents(dir.path()).payloads, payloads(&["again"]));
        flip(&path, offset, bits);
    }
}

#[test]
fn records_of_the_same_generation_in_a_broken_off_use_do_not_validate() {
    let (first, second) = (Key { generation: 3, salt: 1 }, Key { generation: 3, salt: 2 });
    let mut bytes = Vec::new();
    second.push_record(b"mine", &mut bytes).unwrap();
    first.push_record(b"left", &mut bytes).unwrap();
    first.push_end(&mut bytes);
    let found = scan(&mut bytes.as_slice(), second, 0);
    assert_eq!(found.payloads, payloads(&["mine"]));
    assert!(found.damage.is_some());
}

#[test]
fn random_bytes_never_panic_and_never_become_a_record() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let (good, _) = image();
    let key = Key { generation: 7, salt: 0x1234_5678_9abc_def0 };
    for round in 0..100_000 {
        if round % 10 > 0 {
            let len = random.below(64);
            let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            assert_eq!(Header::decode(&bytes).clone_sound(), None);
            assert!(scan(&mut bytes.as_slice(), key, 0).payloads.is_empty());
            continue;
        }
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(bytes.len() - random.below(40));
        let found = look_at(&bytes, &good[..random.below(HEADER_LEN)]);
        if let Ok(Some(found)) = found {
            assert!(payloads(&TEXTS).starts_with(&found.payloads));
        }
    }
}

impl Decoded {
    fn clone_sound(&self) -> Option<Header> {
        match self {
            Decoded::Sound(header) => Some(header.clone()),
            _ => None,
        }
    }
}

#[test]
fn sealed_headers_that_make_no_sense_are_damage() {
    let (good, _) = image();
    let nonsense: [(usize, &[u8]); 6] =
        [(0, b"X"), (8, &[0]), (12, &[0xff, 0xff]), (16, &[0xff; 8]), (40, &[0; 8]), (48, &[0xff])];
    for (at, bytes) in nonsense {
        let mut block = good[..HEADER_LEN].to_vec();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32fast::hash(&block[..4092]);
        block[4092..].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(Header::decode(&block), Decoded::Damaged(_)), "field at {at}");
    }
}

#[test]
fn a_nonsense_length_is_refused_before_anything_is_read_for_it() {
    struct Endless(usize);
    impl io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += buffer.len();
            buffer.fill(0xfe);
            Ok(buffer.len())
        }
    }
    let mut endless = Endless(0);
    let found = scan(&mut endless, Key { generation: 1, salt: 1 }, 4096);
    assert!(found.damage.is_some());
    assert_eq!(endless.0, 8);
}

#[test]
fn a_zeroed_header_beside_a_sound_one_is_damage_and_a_fresh_journal_has_none() {
    let dir = Scratch::new();
    let mut journal = create(dir.path(), MIN_FILE, &["older"]);
    assert_eq!(contents(dir.path()).damage, None, "the second file was never used");
    journal.compact(&mut payloads(&["newer"]).into_iter()).unwrap();
    let path = dir.path().join("journal.b");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..HEADER_LEN].fill(0);
    fs::write(&path, bytes).unwrap();
    let found = contents(dir.path());
    assert_eq!((found.generation, found.payloads), (1, payloads(&["older"])));
    assert_eq!(found.damage.unwrap().file, path);
}

#[test]
fn two_sound_files_that_are_no_neighbours_are_damage() {
    let file = |generation| {
        let key = Key { generation, salt: generation };
        let header = Header { key, origin: origin(), payload_start: HEADER_LEN as u64 };
        let mut bytes = header.encode().unwrap();
        key.push_end(&mut bytes);
        bytes
    };
    for (a, b, is_damaged) in
        [(7, 8, false), (8, 7, false), (7, 7, true), (7, 9, true), (9, 1, true)]
    {
        let found = look_at(&file(a), &file(b)).unwrap().unwrap();
        assert_eq!((found.generation, found.damage.is_some()), (a.max(b), is_damaged), "{a}, {b}");
    }
}
