//! Both files of the journal: what the reader finds is what `docs/JOURNAL.md` says it must find.
//!
//! `Model` reads the layout a second time, in the plainest way. An input is a short script: it
//! builds the two files (now and then with the real writer), then damages them.

use super::Bytes;
use nodemanager::journal::{Appended, Contents, Journal, Origin, ReadError, read, read_once};
use std::io::Read;
use std::path::Path;

pub const WORDS: &[&str] = &[
    "\0\0\0\0",
    "\0\0\0\0\0\0\0\0",
    "\u{1}\0\0\0",
    "\0\0\u{10}\0",
    "\u{1}\0\u{10}\0",
    "NMJOURNL",
    "\u{2}\0\0\0",
    "\u{3}\0\0\0",
    "\0\u{10}",
    "\u{7f}",
    "A",
    "B",
];

const HEADER: usize = 4096;
const PAYLOAD_MAX: usize = 1 << 20;

pub fn run(data: &[u8]) {
    let mut script = Bytes(data);
    let kind = script.byte();
    let mut files = match kind {
        0xff => match really_written(&mut script) {
            Some(files) => files,
            None => return,
        },
        _ => built(kind, &mut script),
    };
    while !script.is_empty() {
        damage(&mut files, &mut script);
    }
    compare(&files);
}

// ---- what is read

/// A file that goes on for ever, and notices who reads on and on.
struct Endless<'a> {
    bytes: &'a [u8],
    /// How much may be asked for behind the end.
    left: usize,
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() {
            self.left = self.left.checked_sub(buffer.len()).expect("it reads on behind the damage");
            buffer.fill(0xa5);
            return Ok(buffer.len());
        }
        self.bytes.read(buffer)
    }
}

fn compare(files: &[Option<Vec<u8>>; 2]) {
    let found = read_once(files.each_ref().map(|file| file.as_deref()));
    let expected = Model::read(files);
    match (&found, &expected) {
        (Ok(Some(found)), Model::Read { payloads, generation, damage }) => {
            assert_eq!((found.generation, &found.payloads), (*generation, payloads));
            let told = found.damage.as_ref().map(|damage| {
                (usize::from(damage.file.ends_with("journal.b")), damage.offset as usize)
            });
            assert_eq!(told, *damage);
            told.into_iter().for_each(|(_, at)| assert!(at <= HEADER + (1 << 24)));
        }
        (Ok(None), Model::Nothing) | (Err(ReadError::Unusable(_)), Model::Unusable) => {}
        (Err(ReadError::UnknownVersion { version, .. }), Model::Unknown(unknown)) => {
            assert_eq!(version, unknown);
        }
        _ => panic!("the reader finds {found:?}, the model {expected:?}"),
    }
    let endless = files.each_ref().map(|file| {
        let bytes = file.as_deref()?;
        Some(Endless { bytes, left: HEADER + PAYLOAD_MAX + 64 })
    });
    // Whatever stands behind the end, the records before it are the same.
    if let (Ok(Some(found)), Ok(Some(longer))) = (&found, read_once(endless)) {
        let whole = found.damage.is_none() && longer.generation == found.generation;
        assert!(!whole || longer.payloads == found.payloads);
    }
}

/// What a reader must find.
#[derive(Debug)]
enum Model {
    Nothing,
    Unusable,
    Unknown(u32),
    /// `damage`: in which file, and where.
    Read {
        generation: u64,
        payloads: Vec<Vec<u8>>,
        damage: Option<(usize, usize)>,
    },
}

#[derive(Debug, PartialEq)]
enum Head {
    /// Missing, cut to nothing, or never written.
    Blank,
    Unused(u32),
    Damaged,
    Unknown(u32),
    Sound {
        generation: u64,
        salt: u64,
        former: u64,
        start: usize,
    },
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn head(file: Option<&[u8]>) -> Head {
    let file = file.unwrap_or_default();
    let block = &file[..HEADER.min(file.len())];
    if block.iter().all(|byte| *byte == 0) {
        return Head::Blank;
    }
    if block.len() < HEADER {
        return Head::Damaged;
    }
    if block[4088..4092] == *b"FREE" {
        return Head::Unused(number(block, 4092, 4) as u32);
    }
    if u64::from(crc32fast::hash(&block[..4092])) != number(block, 4092, 4)
        || block[..8] != *b"NMJOURNL"
    {
        return Head::Damaged;
    }
    let (generation, salt) = (number(block, 16, 8), number(block, 24, 8));
    let (start, middle) = (number(block, 40, 8), 56 + number(block, 12, 2) as usize);
    let end = middle + number(block, 14, 2) as usize;
    let is_text =
        |from, to| block.get(from..to).is_some_and(|text| std::str::from_utf8(text).is_ok());
    match number(block, 8, 4) as u32 {
        0 => Head::Damaged,
        2 if !is_text(56, middle) || !is_text(middle, end) => Head::Damaged,
        2 if !(4096..1 << 30).contains(&start) || generation == u64::MAX => Head::Damaged,
        2 => {
            let former = number(block, 48, 8);
            Head::Sound { generation, salt, former, start: start as usize }
        }
        version => Head::Unknown(version),
    }
}

impl Model {
    fn read(files: &[Option<Vec<u8>>; 2]) -> Model {
        let heads = files.each_ref().map(|file| head(file.as_deref()));
        if let Some(version) = heads.iter().find_map(|head| match head {
            Head::Unknown(version) => Some(*version),
            _ => None,
        }) {
            return Model::Unknown(version);
        }
        let sound = |at: usize| match heads[at] {
            Head::Sound { generation, salt, start, .. } => Some((generation, at, salt, start)),
            _ => None,
        };
        let newest = match (sound(0), sound(1)) {
            (Some(a), Some(b)) if b.0 > a.0 => Some(b),
            (a, b) => a.or(b),
        };
        let is_bad = |head: &Head| *head == Head::Damaged;
        let Some((generation, at, salt, start)) = newest else {
            return if heads.iter().any(is_bad) { Model::Unusable } else { Model::Nothing };
        };
        let bad_head = heads.iter().position(|head| is_bad(head) || *head == Head::Blank);
        let follows = |new: &Head, old: &Head| match (new, old) {
            (
                Head::Sound { generation, former, .. },
                Head::Sound { generation: before, salt, .. },
            ) => *generation == before + 1 && former == salt,
            _ => false,
        };
        let [a, b] = &heads;
        let are_one = follows(a, b) || follows(b, a);
        let stranger =
            heads.iter().position(|head| matches!(head, Head::Unused(tag) if *tag != salt as u32));
        let bad_head = bad_head.or(stranger);
        let are_both_sound = sound(0).is_some() && sound(1).is_some();
        let bad_head = if are_both_sound && !are_one { Some(1) } else { bad_head };
        let file = files[at].as_deref().unwrap_or_default();
        let mut payloads = Vec::new();
        let mut offset = start;
        let mut last = 0;
        let damage = loop {
            match record(file, offset, [generation, salt], last) {
                Some([]) => break None,
                Some(payload) => payloads.push(payload.to_vec()),
                None => break Some((at, offset)),
            }
            last = number(file, offset + 4, 4) as u32;
            offset += 8 + payloads.last().map_or(0, Vec::len);
        };
        let damage = damage.or(bad_head.map(|at| (at, 0)));
        Model::Read { generation, payloads, damage }
    }
}

/// The payload of a sound record behind the one with the checksum `last`; empty for the end mark.
fn record(file: &[u8], at: usize, key: [u64; 2], last: u32) -> Option<&[u8]> {
    let rest = file.get(at..)?;
    let len = number(rest.get(..8)?, 0, 4) as usize;
    let payload = rest[8..].get(..len).filter(|_| len <= PAYLOAD_MAX)?;
    (sum(key, last, payload) == number(rest, 4, 4) as u32).then_some(payload)
}

fn sum(key: [u64; 2], last: u32, payload: &[u8]) -> u32 {
    let mut bytes = key.map(u64::to_le_bytes).concat();
    bytes.extend_from_slice(&last.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(payload);
    crc32fast::hash(&bytes)
}

// ---- what is written

fn seal(block: &mut [u8]) {
    let crc = crc32fast::hash(&block[..4092]);
    block[4092..HEADER].copy_from_slice(&crc.to_le_bytes());
}

/// Adds a record; gives its checksum, for the next one.
fn push(file: &mut Vec<u8>, key: [u64; 2], last: u32, payload: &[u8]) -> u32 {
    let sum = sum(key, last, payload);
    file.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend_from_slice(&sum.to_le_bytes());
    file.extend_from_slice(payload);
    sum
}

/// Two files as the script says: of generations that are near each other.
fn built(kind: u8, script: &mut Bytes<'_>) -> [Option<Vec<u8>>; 2] {
    let mut generation = u64::from(kind & 0x0f);
    let mut before = 0;
    std::array::from_fn(|_| {
        let (shape, salt) = (script.byte(), u64::from(script.byte()));
        // The second file follows the first, unless the script says that it is a stranger.
        let former = if kind & 0x10 == 0 { before } else { salt };
        before = salt;
        generation += u64::from(shape & 3) % 3;
        let mut file = vec![0; HEADER];
        match shape >> 2 & 7 {
            0 => return None,
            1 => return Some(Vec::new()),
            2 => return Some(file),
            _ => {}
        }
        file[..8].copy_from_slice(b"NMJOURNL");
        let fields = [&2u32.to_le_bytes()[..], &[2, 0, 3, 0], &generation.to_le_bytes()].concat();
        file[8..24].copy_from_slice(&fields);
        file[24..32].copy_from_slice(&salt.to_le_bytes());
        file[40..48].copy_from_slice(&4096u64.to_le_bytes());
        file[48..56].copy_from_slice(&former.to_le_bytes());
        file[56..61].copy_from_slice(b"ababc");
        seal(&mut file);
        let (key, mut last) = ([generation, salt], 0);
        for _ in 0..shape >> 5 {
            let len = usize::from(script.byte()) + 1;
            let payload = script.take(len).to_vec();
            let payload = if payload.is_empty() { vec![7; len] } else { payload };
            last = push(&mut file, key, last, &payload);
        }
        push(&mut file, key, last, &[]);
        let rest = usize::from(script.byte()) % 40;
        file.resize(file.len() + rest, 0);
        Some(file)
    })
}

fn damage(files: &mut [Option<Vec<u8>>; 2], script: &mut Bytes<'_>) {
    let what = script.byte();
    let at = script.short();
    if what & 0x0f == 9 {
        return files.swap(0, 1);
    }
    let Some(file) = &mut files[usize::from(what >> 7)] else { return };
    if file.is_empty() {
        return;
    }
    // Most of a header is zeros: half of the damages are near the records.
    let low = if what & 0x40 == 0 { 0 } else { HEADER.min(file.len() - 1) };
    let at = low + at % (file.len() - low);
    match what & 0x0f {
        0 => file[at] ^= 1 << (what >> 4 & 3),
        1 => file.truncate(at),
        2 => file[at] = script.byte(),
        3 => {
            let piece = script.take(8);
            let end = (at + piece.len()).min(file.len());
            file[at..end].copy_from_slice(&piece[..end - at]);
        }
        4 => {
            let end = (at + HEADER).min(file.len());
            file[at..end].fill(0);
        }
        5 => {
            let block = file[at..(at + 64).min(file.len())].to_vec();
            file.splice(at..at, block);
        }
        6 => {
            let end = (at + 1 + script.short() % 64).min(file.len());
            file.drain(at..end);
        }
        // Damage with a checksum that fits: fields that make no sense, newer versions.
        7 if file.len() >= HEADER => {
            let field = [8, 12, 14, 16, 24, 40, 48, 56][at % 8];
            file[field] = script.byte();
            file[field + 1] = script.byte();
            seal(file);
        }
        8 if file.len() >= HEADER => {
            file[4088..HEADER].copy_from_slice(b"FREE\0\0\0\0");
            // The salt of the other file, which the script gave.
            file[4092] = at as u8;
        }
        10 => move_records(file, script),
        _ => file[at] = file[at].wrapping_add(1),
    }
}

/// Takes whole records out, or puts one of them a second time into another place.
fn move_records(file: &mut Vec<u8>, script: &mut Bytes<'_>) {
    let mut borders = vec![HEADER];
    while let Some(end) = borders.last().and_then(|at| {
        let len = number(file.get(*at..*at + 4)?, 0, 4) as usize;
        Some(at + 8 + len).filter(|end| *end <= file.len())
    }) {
        borders.push(end);
    }
    let count = borders.len() - 1;
    if count == 0 {
        return;
    }
    let (first, to) = (usize::from(script.byte()), usize::from(script.byte()));
    let (first, to) = (first % count, to % borders.len());
    let one = borders[first]..borders[first + 1];
    if to < first {
        let piece = file[one].to_vec();
        file.splice(borders[to]..borders[to], piece);
    } else {
        file.drain(borders[first]..borders[to]);
    }
}

/// The real writer's files, after it was asked for what the script says; at each step the reader
/// must find exactly what was written.
fn really_written(script: &mut Bytes<'_>) -> Option<[Option<Vec<u8>>; 2]> {
    let name = format!("nm-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
    let dir = std::env::temp_dir().join(name.replace(['(', ')'], ""));
    std::fs::create_dir_all(&dir).ok()?;
    let written = write_and_read(&dir, script);
    let files = ["journal.a", "journal.b"].map(|name| std::fs::read(dir.join(name)).ok());
    let _ = std::fs::remove_dir_all(&dir);
    written.expect("the journal can be written");
    // What was reserved and never used makes every case slow and shows nothing.
    Some(files.map(|file| file.map(|file| file[..file.len().min(12 << 10)].to_vec())))
}

fn write_and_read(dir: &Path, script: &mut Bytes<'_>) -> std::io::Result<()> {
    let origin =
        || Origin { node: "node".into(), boot_id: "boot".into(), pid_namespace: script_free() };
    let mut held: Vec<Vec<u8>> = Vec::new();
    let mut journal = Journal::create(dir, origin(), 0, &mut held.clone().into_iter())?;
    for _ in 0..script.byte() % 10 {
        let what = script.byte();
        match what % 8 {
            0 => journal.compact(&mut held.clone().into_iter())?,
            1 => {
                held.truncate(usize::from(what >> 4));
                journal.compact(&mut held.clone().into_iter())?;
            }
            2 => {
                drop(journal);
                journal = Journal::create(dir, origin(), 0, &mut held.clone().into_iter())?;
            }
            _ => {
                let payload = vec![what; 1 + usize::from(script.byte()) * usize::from(what >> 5)];
                if journal.append(&payload)? == Appended::Written {
                    held.push(payload);
                }
            }
        }
        let found = read(dir).expect("a sound journal").expect("a journal");
        let Contents { payloads, damage, generation, origin: whose, end } = found;
        assert_eq!((payloads, damage), (held.clone(), None));
        if what % 8 == 3 {
            drop(journal);
            journal = Journal::go_on(dir, origin(), 0, end.expect("an end"))?;
        }
        assert_eq!((generation, whose), (journal.generation(), origin()));
    }
    Ok(())
}

/// The same number each time, for a field of which the reader needs nothing else.
fn script_free() -> u64 {
    4_026_531_836
}

pub fn seeds() -> Vec<Vec<u8>> {
    let records =
        [&[0x2c | 0x60, 1, 3][..], b"abcd", &[0, b'e', 8, 0x2d | 0x40, 2, 5], b"secret", &[0]]
            .concat();
    let with = |damages: &[u8]| [&[3][..], &records, damages].concat();
    vec![
        with(&[]),
        with(&[0x40, 9, 0]),
        with(&[0x41, 20, 0]),
        with(&[0x04, 0, 0]),
        with(&[0x84, 0, 0, 9, 0, 0]),
        with(&[0x45, 2, 0]),
        with(&[0x07, 0, 0, 2, 0]),
        with(&[0x08, 0, 0]),
        with(&[0x08, 2, 0]),
        with(&[0x0a, 0, 0, 0, 1]),
        with(&[0x8a, 0, 0, 1, 0]),
        [&[0x13][..], &records].concat(),
        [&[0xff, 9][..], &[3, 40, 0x23, 9, 0, 0xe4, 90, 2, 0x25, 3, 1], &[0x41, 30, 0]].concat(),
    ]
}
