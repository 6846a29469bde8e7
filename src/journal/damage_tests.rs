//! What a reader makes of damaged files: it keeps what was before, says so, and invents nothing.

use super::format::{Chain, Decoded, FREE_AT, HEADER_LEN, Header, Key, RECORD_HEAD, scan};
use super::reader::{look, read_settled};
use super::tests::{Scratch, Xorshift, contents, create, flip, origin, payloads};
use super::*;
use std::fs;

const TEXTS: [&str; 5] = ["alpha", "b", "{\"seq\":3}", "deltadelta", "e"];

const KEY: Key = Key { generation: 7, salt: 0x1234_5678_9abc_def0 };

/// A journal of one generation in memory: its bytes, and where each record ends.
fn image() -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header(KEY, 0);
    let mut chain = Chain::begin(KEY);
    let mut ends = Vec::new();
    for text in TEXTS {
        chain.push_record(text.as_bytes(), &mut bytes).unwrap();
        ends.push(bytes.len());
    }
    chain.push_end(&mut bytes);
    (bytes, ends)
}

fn header(key: Key, former: u64) -> Vec<u8> {
    let payload_start = HEADER_LEN as u64;
    Header { key, former, origin: origin(), payload_start }.encode().unwrap()
}

/// A file that was never used, beside the one with this key.
fn unused_beside(key: Key) -> Vec<u8> {
    let mut block = vec![0; FREE_AT];
    block.extend_from_slice(&key.free_mark());
    block
}

fn unused() -> Vec<u8> {
    unused_beside(KEY)
}

fn look_at(a: &[u8], b: &[u8]) -> Result<Option<Contents>, ReadError> {
    look([Some(a), Some(b)], Path::new("run"), &|_, _| true).result
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
    read_settled(Path::new("run"), &|_, _| true, open).unwrap().unwrap()
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
    let mut newer = header(key, KEY.salt);
    let mut chain = Chain::begin(key);
    chain.push_record(b"compacted", &mut newer).unwrap();
    chain.push_end(&mut newer);
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
    let (mut first, mut mine) = (Chain::begin(first), Chain::begin(second));
    let mut bytes = Vec::new();
    mine.push_record(b"mine", &mut bytes).unwrap();
    // It stands in the same place of its own use.
    first.push_record(b"gone", &mut Vec::new()).unwrap();
    first.push_record(b"left", &mut bytes).unwrap();
    first.push_end(&mut bytes);
    let found = scan(&mut bytes.as_slice(), second, 0, &|_, _| true);
    assert_eq!(found.payloads, payloads(&["mine"]));
    assert!(found.damage.is_some());
}

#[test]
fn random_bytes_never_panic_and_never_become_a_record() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    let (good, _) = image();
    let key = KEY;
    for round in 0..100_000 {
        if round % 10 > 0 {
            let len = random.below(64);
            let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            assert_eq!(Header::decode(&bytes).clone_sound(), None);
            assert!(scan(&mut bytes.as_slice(), key, 0, &|_, _| true).payloads.is_empty());
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
        [(0, b"X"), (8, &[0]), (12, &[0xff, 0xff]), (16, &[0xff; 8]), (40, &[0; 8]), (56, &[0xff])];
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
    let found = scan(&mut endless, Key { generation: 1, salt: 1 }, 4096, &|_, _| true);
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
fn two_sound_files_of_which_none_follows_the_other_are_damage() {
    let file = |generation, former| {
        let key = Key { generation, salt: 100 + generation };
        let mut bytes = header(key, former);
        Chain::begin(key).push_end(&mut bytes);
        bytes
    };
    // The last two are of two journals, and only their generations follow each other.
    for (a, b, is_damaged) in [
        ((7, 106), (8, 107), false),
        ((8, 107), (7, 106), false),
        ((7, 106), (7, 106), true),
        ((7, 106), (9, 107), true),
        ((9, 108), (1, 0), true),
        ((7, 106), (8, 55), true),
        ((8, 0), (7, 108), true),
    ] {
        let found = look_at(&file(a.0, a.1), &file(b.0, b.1)).unwrap().unwrap();
        let generation = a.0.max(b.0);
        assert_eq!((found.generation, found.damage.is_some()), (generation, is_damaged), "{a:?}");
    }
}

#[test]
fn files_of_two_journals_whose_generations_follow_each_other_are_told_apart() {
    let (one, two) = (Scratch::new(), Scratch::new());
    drop(create(one.path(), MIN_FILE, &["of one"]));
    drop(create(two.path(), MIN_FILE, &["of two"]));
    drop(create(two.path(), MIN_FILE, &["of two, later"]));
    assert_eq!(contents(two.path()).damage, None);
    fs::copy(one.path().join("journal.a"), two.path().join("journal.a")).unwrap();
    let found = contents(two.path());
    assert_eq!((found.generation, found.payloads), (2, payloads(&["of two, later"])));
    assert!(found.damage.is_some());
    drop(create(two.path(), MIN_FILE, &["anew"]));
    assert_eq!(contents(two.path()).damage, None, "the next active makes a pair of them again");
}

#[test]
fn an_unused_file_of_another_journal_is_not_taken_for_the_own_one() {
    let (bytes, _) = image();
    for (salt, is_damaged) in [(KEY.salt, false), (KEY.salt ^ 1, true), (0, true)] {
        let other = unused_beside(Key { salt, ..KEY });
        for both in [[&bytes, &other], [&other, &bytes]] {
            let found = look_at(both[0], both[1]).unwrap().unwrap();
            assert_eq!((found.payloads, found.damage.is_some()), (payloads(&TEXTS), is_damaged));
        }
    }
    assert!(look_at(&unused(), &unused_beside(Key { generation: 1, salt: 5 })).unwrap().is_none());
}

/// The bytes of each record, and of the end mark.
fn pieces() -> (Vec<u8>, Vec<Vec<u8>>) {
    let (bytes, ends) = image();
    let begins = std::iter::once(HEADER_LEN).chain(ends.iter().copied());
    let until = ends.iter().copied().chain([bytes.len()]);
    let pieces = begins.zip(until).map(|(from, to)| bytes[from..to].to_vec()).collect();
    (bytes[..HEADER_LEN].to_vec(), pieces)
}

/// Files that are made of whole records end where the first one is not in its place.
fn expect_order_kept(order: &[usize]) {
    let (mut bytes, pieces) = pieces();
    bytes.extend(order.iter().flat_map(|piece| pieces[*piece].clone()));
    let kept = order.iter().enumerate().take_while(|(at, piece)| at == *piece).count();
    let found = look_at(&bytes, &unused()).unwrap().unwrap();
    assert_eq!(found.payloads, payloads(&TEXTS[..kept.min(TEXTS.len())]), "{order:?}");
    assert_eq!(found.damage.is_some(), kept <= TEXTS.len(), "{order:?}");
}

#[test]
fn whole_records_that_are_missing_doubled_or_swapped_end_what_counts() {
    let all: Vec<usize> = (0..=TEXTS.len()).collect();
    expect_order_kept(&all);
    for at in 0..TEXTS.len() {
        for count in 1..=TEXTS.len() - at {
            let mut order = all.clone();
            order.drain(at..at + count);
            expect_order_kept(&order);
        }
        for other in 0..=TEXTS.len() {
            let mut order = all.clone();
            order.insert(at, other);
            expect_order_kept(&order);
            let mut order = all.clone();
            order.swap(at, other);
            expect_order_kept(&order);
        }
    }
}

#[test]
fn a_record_of_another_place_with_the_same_content_does_not_fit() {
    let key = Key { generation: 1, salt: 9 };
    let (mut bytes, mut chain) = (Vec::new(), Chain::begin(key));
    for text in [b"same", b"same", b"last"] {
        chain.push_record(text, &mut bytes).unwrap();
    }
    chain.push_end(&mut bytes);
    let whole = RECORD_HEAD + 4;
    bytes.drain(whole..2 * whole);
    let found = scan(&mut bytes.as_slice(), key, 0, &|_, _| true);
    assert_eq!(found.payloads, payloads(&["same"]));
    assert!(found.damage.is_some());
}
