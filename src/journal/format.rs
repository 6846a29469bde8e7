//! Bytes of the journal: the header block, a record, the end mark.
//!
//! Must not open or write anything: slices and readers go in, values come out.

use super::{MAX_FILE, MAX_NAME, MAX_PAYLOAD, Origin};
use crc32fast::Hasher;
use std::io::{self, Read};

/// The format this program writes, and the only one it reads.
pub(super) const VERSION: u32 = 2;
/// In every version the first block has this size, begins with magic and version, and ends with
/// its checksum.
pub(super) const HEADER_LEN: usize = 4096;
/// Where the header's checksum is.
const CRC_AT: usize = HEADER_LEN - 4;
/// Where `FREE` is in the header of a file that is not used.
pub(super) const FREE_AT: usize = HEADER_LEN - 8;
/// Says, in front of the place of the checksum, that the file is not used. Zeros alone do not say
/// so: they may be all that is left of a header.
const FREE: [u8; 4] = *b"FREE";
/// Length and checksum in front of a payload; an end mark is this with a length of zero.
pub(super) const RECORD_HEAD: usize = 8;

const MAGIC: [u8; 8] = *b"NMJOURNL";
/// The fields of fixed size.
const FIXED_LEN: usize = 56;

/// What one use of a file mixes into every checksum, so that records of another use never
/// validate. The salt tells uses of the same generation apart: one that was broken off leaves
/// records behind, and its generation is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub generation: u64,
    pub salt: u64,
}

impl Key {
    /// What an unused file says of the file that counts, so that one from elsewhere is not taken for
    /// it: the lower half of the salt.
    pub fn tag(self) -> u32 {
        (self.salt & u64::from(u32::MAX)) as u32
    }

    /// The mark of a file that is not used while this one counts; it ends the first block.
    pub fn free_mark(self) -> [u8; 8] {
        let mut mark = [0; 8];
        for (to, from) in mark.iter_mut().zip(FREE.into_iter().chain(self.tag().to_le_bytes())) {
            *to = from;
        }
        mark
    }
}

/// Where the next record belongs: in this use of the file, behind the record with this checksum.
/// Each checksum goes into the next one, so a record that is missing, doubled, moved or from
/// elsewhere does not validate, although it is whole in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    key: Key,
    /// The checksum of the record before; 0 in front of the first.
    last: u32,
}

impl Chain {
    /// In front of the first record.
    pub fn begin(key: Key) -> Chain {
        Chain { key, last: 0 }
    }

    fn checksum(self, len: u32, payload: &[u8]) -> u32 {
        let mut seed = [0; 24];
        let fields = self.key.generation.to_le_bytes().into_iter();
        let fields = fields.chain(self.key.salt.to_le_bytes()).chain(self.last.to_le_bytes());
        for (to, from) in seed.iter_mut().zip(fields.chain(len.to_le_bytes())) {
            *to = from;
        }
        let mut hasher = Hasher::new();
        hasher.update(&seed);
        hasher.update(payload);
        hasher.finalize()
    }

    /// Adds a record to `out` and goes on behind it. An empty or too long payload is an error.
    pub fn push_record(&mut self, payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let len = match u32::try_from(payload.len()) {
            Ok(len) if len > 0 && payload.len() <= MAX_PAYLOAD => len,
            _ => {
                let text = format!(
                    "cannot record {} bytes: a journal record has 1 to {MAX_PAYLOAD}",
                    payload.len()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let checksum = self.checksum(len, payload);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&checksum.to_le_bytes());
        out.extend_from_slice(payload);
        self.last = checksum;
        Ok(())
    }

    /// Adds the end mark to `out`. It is part of the chain, and what is appended takes its place.
    pub fn push_end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.checksum(0, &[]).to_le_bytes());
    }
}

/// A sound header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub key: Key,
    /// The salt of the file that this one took the place of; 0 where there was none.
    pub former: u64,
    pub origin: Origin,
    /// Where the first record is, in bytes from the start of the file.
    pub payload_start: u64,
}

/// What the first block of a file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// Missing, cut to nothing, or zeros: never written, or lost.
    Blank,
    /// Its first or next use was not finished. With the tag of the file that counts meanwhile.
    Unused(u32),
    Damaged(&'static str),
    /// Sound, and in a format that this program does not know.
    Unknown(u32),
    Sound(Header),
}

impl Header {
    /// The block to write. Names that are too long are an error.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let (node, boot) = (self.origin.node.as_bytes(), self.origin.boot_id.as_bytes());
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&name_len(node)?.to_le_bytes());
        out.extend_from_slice(&name_len(boot)?.to_le_bytes());
        out.extend_from_slice(&self.key.generation.to_le_bytes());
        out.extend_from_slice(&self.key.salt.to_le_bytes());
        out.extend_from_slice(&self.origin.pid_namespace.to_le_bytes());
        out.extend_from_slice(&self.payload_start.to_le_bytes());
        out.extend_from_slice(&self.former.to_le_bytes());
        out.extend_from_slice(node);
        out.extend_from_slice(boot);
        out.resize(CRC_AT, 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(out)
    }

    /// Reads the first block of a file; a file that is shorter gives what it has.
    pub fn decode(block: &[u8]) -> Decoded {
        if block.iter().all(|byte| *byte == 0) {
            return Decoded::Blank;
        }
        if block.len() < HEADER_LEN {
            return Decoded::Damaged("the file ends within its header");
        }
        if block.get(FREE_AT..CRC_AT) == Some(&FREE) {
            return Decoded::Unused(u32_at(block, CRC_AT).unwrap_or(0));
        }
        if block.get(..CRC_AT).map(crc32fast::hash) != u32_at(block, CRC_AT) {
            return Decoded::Damaged("the header does not match its checksum");
        }
        if !block.starts_with(&MAGIC) {
            return Decoded::Damaged("the header does not begin like a journal");
        }
        match u32_at(block, 8) {
            Some(VERSION) => Header::fields(block)
                .map_or(Decoded::Damaged("the header makes no sense"), Decoded::Sound),
            Some(version) if version > 0 => Decoded::Unknown(version),
            _ => Decoded::Damaged("the header has no version"),
        }
    }

    /// This file was begun when `older` counted.
    pub fn follows(&self, older: &Header) -> bool {
        Some(self.key.generation) == older.key.generation.checked_add(1)
            && self.former == older.key.salt
    }

    fn fields(block: &[u8]) -> Option<Header> {
        let node_end = FIXED_LEN + usize::from(u16_at(block, 12)?);
        let boot_end = node_end + usize::from(u16_at(block, 14)?);
        let text = |from, to| String::from_utf8(block.get(from..to)?.to_vec()).ok();
        let header = Header {
            key: Key { generation: u64_at(block, 16)?, salt: u64_at(block, 24)? },
            former: u64_at(block, 48)?,
            origin: Origin {
                node: text(FIXED_LEN, node_end)?,
                boot_id: text(node_end, boot_end)?,
                pid_namespace: u64_at(block, 32)?,
            },
            payload_start: u64_at(block, 40)?,
        };
        let sane = (HEADER_LEN as u64..MAX_FILE).contains(&header.payload_start)
            && header.key.generation < u64::MAX;
        sane.then_some(header)
    }
}

/// The records of one file, as far as they can be believed.
pub(super) struct Scan {
    pub payloads: Vec<Vec<u8>>,
    /// Where the end mark is, and what it follows.
    pub end: Option<(u64, Chain)>,
    /// Offset of the first record that can't be believed, and why.
    pub damage: Option<(u64, String)>,
}

/// Which payloads are wanted: those for which this is true. With the place of each, from 0 on in each look at
/// the file, of which there may be several.
pub type Wanted<'a> = &'a dyn Fn(usize, &[u8]) -> bool;

/// Reads records up to the end mark. `reader` stands at `offset`, the first record.
pub(super) fn scan(reader: &mut impl Read, key: Key, mut offset: u64, wanted: Wanted) -> Scan {
    let mut payloads = Vec::new();
    let mut chain = Chain::begin(key);
    // One for all: a takeover wants few of thousands.
    let mut payload = Vec::new();
    let mut place = 0;
    loop {
        let before = chain;
        match next_record(reader, &mut chain, offset, &mut payload) {
            Ok(true) => {
                offset = offset.saturating_add((RECORD_HEAD + payload.len()) as u64);
                if wanted(place, &payload) {
                    payloads.push(payload.clone());
                }
                place += 1;
            }
            Ok(false) => {
                return Scan { payloads, end: Some((offset, before)), damage: None };
            }
            Err(text) => return Scan { payloads, end: None, damage: Some((offset, text)) },
        }
    }
}

/// Reads one payload; `false` at the end mark.
fn next_record(
    reader: &mut impl Read,
    chain: &mut Chain,
    offset: u64,
    payload: &mut Vec<u8>,
) -> Result<bool, String> {
    if offset >= MAX_FILE {
        return Err("the file is longer than a journal can be".to_string());
    }
    let mut head = [0; RECORD_HEAD];
    reader.read_exact(&mut head).map_err(cause)?;
    let (len, crc) = (u32_at(&head, 0).unwrap_or(0), u32_at(&head, 4).unwrap_or(0));
    let size = usize::try_from(len).unwrap_or(usize::MAX);
    if size > MAX_PAYLOAD {
        return Err(format!("a record of {len} bytes is not possible"));
    }
    payload.resize(size, 0);
    reader.read_exact(payload).map_err(cause)?;
    if chain.checksum(len, payload) != crc {
        return Err("the record does not match its checksum, or its place".to_string());
    }
    chain.last = crc;
    Ok(size > 0)
}

fn cause(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file ends before its end mark".to_string(),
        _ => format!("cannot be read: {error}"),
    }
}

fn name_len(name: &[u8]) -> io::Result<u16> {
    match u16::try_from(name.len()) {
        Ok(len) if name.len() <= MAX_NAME => Ok(len),
        _ => {
            let text = format!("cannot record a name of more than {MAX_NAME} bytes");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}
