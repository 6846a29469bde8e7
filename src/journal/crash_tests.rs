//! The journal after a kill at any step, and after writes that fail half-way.

use super::files::Slots;
use super::format::{Decoded, FREE_AT, Header};
use super::reader::look;
use super::tests::{origin, payloads};
use super::writer::Writer;
use super::*;

enum Step {
    Write(Slot, u64, Vec<u8>),
    Reserve(Slot, u64),
}

/// Two files in memory that remember every step.
#[derive(Default)]
struct Memory {
    files: [Vec<u8>; 2],
    steps: Vec<Step>,
    /// After so many whole writes one stops after so many bytes, and the ones behind it fail.
    /// With more bytes than it has, it writes all and says that it failed.
    torn: Option<(usize, usize)>,
    /// So many writes fail.
    failing: u32,
}

fn apply(files: &mut [Vec<u8>; 2], slot: Slot, offset: u64, bytes: &[u8]) {
    let at = offset as usize;
    files[slot as usize][at..at + bytes.len()].copy_from_slice(bytes);
}

fn extend(files: &mut [Vec<u8>; 2], slot: Slot, bytes: u64) {
    let file = &mut files[slot as usize];
    file.resize(file.len().max(bytes as usize), 0);
}

impl Slots for Memory {
    fn write_at(&mut self, slot: Slot, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        if self.failing > 0 && self.torn.is_none() {
            self.failing -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let bytes = match self.torn {
            Some((0, written)) => {
                self.torn = None;
                if written > bytes.len() {
                    apply(&mut self.files, slot, offset, bytes);
                    return Err(io::Error::other("written, but"));
                }
                &bytes[..written]
            }
            _ => bytes,
        };
        self.torn = self.torn.map(|(whole, written)| (whole - 1, written));
        apply(&mut self.files, slot, offset, bytes);
        self.steps.push(Step::Write(slot, offset, bytes.to_vec()));
        Ok(bytes.len())
    }

    fn reserve(&mut self, slot: Slot, bytes: u64) -> io::Result<()> {
        extend(&mut self.files, slot, bytes);
        self.steps.push(Step::Reserve(slot, bytes));
        Ok(())
    }

    fn reserved(&self, slot: Slot) -> u64 {
        self.files[slot as usize].len() as u64
    }

    fn is_sparse(&self) -> bool {
        false
    }
}

fn contents(files: &[Vec<u8>; 2]) -> Option<Contents> {
    let [a, b] = files;
    match look([Some(a.as_slice()), Some(b.as_slice())], Path::new("run"), &|_, _| true).result {
        // The very first header is half written, and there is nothing else.
        Err(ReadError::Unusable(_)) => None,
        other => other.unwrap(),
    }
}

fn found(files: &[Vec<u8>; 2]) -> Vec<Vec<u8>> {
    contents(files).map(|contents| contents.payloads).unwrap_or_default()
}

/// A new active on these files, as `Journal::create` makes one.
fn successor(files: &[Vec<u8>; 2]) -> Writer<Memory> {
    let newest = Slot::BOTH
        .into_iter()
        .zip(files)
        .filter_map(|(slot, file)| match Header::decode(&file[..file.len().min(4096)]) {
            Decoded::Sound(header) => Some((slot, header.key)),
            _ => None,
        })
        .max_by_key(|(_, key)| key.generation);
    let memory = Memory { files: files.clone(), ..Memory::default() };
    Writer::new(memory, origin(), MIN_FILE, newest)
}

/// After so many steps the journal holds this.
type Held = (usize, Vec<Vec<u8>>);

/// A whole journal's life, with what it holds after each operation, by the number of steps.
fn life() -> (Vec<Step>, Vec<Held>) {
    let mut writer = successor(&Default::default());
    let mut holds = Vec::new();
    let mut held: Vec<Vec<u8>> = Vec::new();
    for operation in 0..24u8 {
        if operation % 6 == 0 {
            held = (0..=operation % 4)
                .map(|item| vec![b'a' + operation; 9 + 5 * item as usize])
                .collect();
            writer.compact(&mut held.clone().into_iter()).unwrap();
        } else {
            held.push(vec![b'a' + operation; 30]);
            assert_eq!(writer.append(held.last().unwrap()).unwrap(), Appended::Written);
        }
        holds.push((writer.slots().steps.len(), held.clone()));
    }
    (std::mem::take(&mut writer.slots_mut().steps), holds)
}

#[test]
fn a_kill_after_any_byte_of_any_write_leaves_the_old_or_the_new_content() {
    let (steps, holds) = life();
    let mut files: [Vec<u8>; 2] = Default::default();
    let mut operations = holds.into_iter();
    let (mut old, (mut until, mut new)) = (Vec::new(), operations.next().unwrap());
    let mut states = 0;
    for (count, step) in steps.iter().enumerate() {
        if count == until {
            assert_eq!(found(&files), new, "after an operation only its result counts");
            assert_eq!(contents(&files).unwrap().damage, None);
            old = new;
            (until, new) = operations.next().unwrap();
        }
        match step {
            Step::Reserve(slot, bytes) => extend(&mut files, *slot, *bytes),
            Step::Write(slot, offset, bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    apply(&mut files, *slot, offset + at as u64, &[*byte]);
                    let seen = found(&files);
                    assert!(seen == old || seen == new, "step {count}, byte {at}: {seen:?}");
                    let in_head = bytes.len() <= 8 || at >= FREE_AT;
                    let damage = contents(&files).and_then(|contents| contents.damage);
                    assert!(in_head || damage.is_none(), "step {count}, byte {at}: {damage:?}");
                    states += 1;
                    if states % 61 == 0 {
                        expect_successor_goes_on(&files, seen.clone());
                    }
                    if states % 7 == 0 {
                        expect_the_generation_goes_on(&files, seen);
                    }
                }
            }
        }
    }
    assert!(states > 15_000, "only {states} kills");
}

fn expect_successor_goes_on(files: &[Vec<u8>; 2], mut held: Vec<Vec<u8>>) {
    let before = contents(files).map_or(0, |contents| contents.generation);
    let mut writer = successor(files);
    writer.compact(&mut held.clone().into_iter()).unwrap();
    held.push(b"one more".to_vec());
    assert_eq!(writer.append(b"one more").unwrap(), Appended::Written);
    let after = contents(&writer.slots().files).unwrap();
    assert_eq!(after.generation, before + 1);
    assert_eq!((after.payloads, after.damage), (held, None));
}

/// Behind the last record of what broke off, and through the compactions that follow.
fn expect_the_generation_goes_on(files: &[Vec<u8>; 2], mut held: Vec<Vec<u8>>) {
    let Some(before) = contents(files) else { return };
    let Some(end) = before.end else {
        return assert!(before.damage.is_some(), "a sound journal has an end");
    };
    let memory = Memory { files: files.clone(), ..Memory::default() };
    let mut writer = Writer::behind(memory, origin(), MIN_FILE, end);
    for payload in [&b"one more"[..], b"and another one"] {
        held.push(payload.to_vec());
        assert_eq!(writer.append(payload).unwrap(), Appended::Written);
        let after = contents(&writer.slots().files).unwrap();
        assert_eq!(after.generation, before.generation);
        assert_eq!((&after.payloads, after.damage), (&held, None));
    }
    for _ in 0..2 {
        writer.compact(&mut held.clone().into_iter()).unwrap();
        assert_eq!(found(&writer.slots().files), held);
    }
}

/// A writer that holds "kept", and whose write after `whole` others stops after `written` bytes,
/// with so many failures behind it.
fn failing_writer((whole, written): (usize, usize), failing: u32) -> Writer<Memory> {
    let mut writer = successor(&Default::default());
    writer.compact(&mut payloads(&["kept"]).into_iter()).unwrap();
    writer.slots_mut().torn = Some((whole, written));
    writer.slots_mut().failing = failing;
    writer
}

#[test]
fn a_compaction_that_fails_at_any_write_leaves_the_journal_in_use() {
    let in_mark = (1..4).map(|written| (0, written));
    let in_records = [1, 9, 19].map(|written| (1, written));
    let in_header = [1, 9, 4091, 4092, 4093, 4094, 4095].map(|written| (2, written));
    for place in in_mark.chain(in_records).chain(in_header) {
        let mut writer = failing_writer(place, 1);
        assert!(writer.compact(&mut payloads(&["lost"]).into_iter()).is_err());
        assert_eq!(writer.append(b"more").unwrap(), Appended::Written);
        assert_eq!(found(&writer.slots().files), payloads(&["kept", "more"]), "{place:?}");
        writer.compact(&mut payloads(&["anew"]).into_iter()).unwrap();
        assert_eq!(found(&writer.slots().files), payloads(&["anew"]));
    }
}

#[test]
fn a_header_that_is_whole_although_its_write_failed_is_taken_back() {
    let mut writer = failing_writer((2, 5000), 0);
    assert!(writer.compact(&mut payloads(&["lost"]).into_iter()).is_err());
    assert_eq!(writer.append(b"more").unwrap(), Appended::Written);
    assert_eq!(found(&writer.slots().files), payloads(&["kept", "more"]));
}

#[test]
fn nothing_is_appended_while_a_header_may_or_may_not_be_written() {
    let mut writer = failing_writer((2, 5000), 1);
    assert!(writer.compact(&mut payloads(&["perhaps"]).into_iter()).is_err());
    assert!(writer.append(b"readers might not see this").is_err());
    writer.compact(&mut payloads(&["anew"]).into_iter()).unwrap();
    assert_eq!(writer.append(b"more").unwrap(), Appended::Written);
    assert_eq!(found(&writer.slots().files), payloads(&["anew", "more"]));
}

#[test]
fn an_append_that_fails_half_way_is_overwritten_by_the_next() {
    let in_payload = (1..19).map(|written| (0, written));
    let in_head = (1..8).map(|written| (1, written));
    for place in in_payload.chain(in_head) {
        let mut writer = failing_writer(place, 1);
        assert!(writer.append(b"torn record").is_err());
        let seen = contents(&writer.slots().files).unwrap();
        // The missing bytes of the head may by chance be those that are there.
        let sound = seen.payloads == payloads(&["kept"]) && seen.damage.is_none();
        assert!(sound || place.0 == 1 && seen.payloads.starts_with(&payloads(&["kept"])));
        assert_eq!(writer.append(b"next").unwrap(), Appended::Written);
        let seen = contents(&writer.slots().files).unwrap();
        assert_eq!((seen.payloads, seen.damage), (payloads(&["kept", "next"]), None));
    }
}

#[test]
fn a_short_write_is_gone_on_with_where_it_stopped() {
    struct OneByOne(Memory);
    impl Slots for OneByOne {
        fn write_at(&mut self, slot: Slot, offset: u64, bytes: &[u8]) -> io::Result<usize> {
            self.0.write_at(slot, offset, &bytes[..bytes.len().min(3)])
        }
        fn reserve(&mut self, slot: Slot, bytes: u64) -> io::Result<()> {
            self.0.reserve(slot, bytes)
        }
        fn reserved(&self, slot: Slot) -> u64 {
            self.0.reserved(slot)
        }
        fn is_sparse(&self) -> bool {
            false
        }
    }
    let mut writer = Writer::new(OneByOne(Memory::default()), origin(), MIN_FILE, None);
    writer.compact(&mut payloads(&["snapshot"]).into_iter()).unwrap();
    assert_eq!(writer.append(b"a record in pieces").unwrap(), Appended::Written);
    let seen = contents(&writer.slots().0.files).unwrap();
    assert_eq!(seen.payloads, payloads(&["snapshot", "a record in pieces"]));
}

#[test]
fn a_file_system_that_reserves_nothing_is_used_with_a_warning() {
    struct Sparse(Memory);
    impl Slots for Sparse {
        fn write_at(&mut self, slot: Slot, offset: u64, bytes: &[u8]) -> io::Result<usize> {
            self.0.write_at(slot, offset, bytes)
        }
        fn reserve(&mut self, slot: Slot, bytes: u64) -> io::Result<()> {
            self.0.reserve(slot, bytes)
        }
        fn reserved(&self, slot: Slot) -> u64 {
            self.0.reserved(slot)
        }
        fn is_sparse(&self) -> bool {
            true
        }
    }
    let mut writer = Writer::new(Sparse(Memory::default()), origin(), MIN_FILE, None);
    writer.compact(&mut payloads(&["snapshot"]).into_iter()).unwrap();
    assert!(writer.warning().is_some_and(|text| text.contains("cannot reserve space")));
}
