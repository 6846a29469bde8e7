//! Reading the journal, also while another process writes it.
//!
//! Must not write, lock or create anything: `status` reads the journal of a pair that it is not.

use super::format::{Decoded, HEADER_LEN, Header, Wanted, scan};
use super::{Contents, Damage, End, ReadError, Slot};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How often a journal that changes meanwhile is read again.
const ATTEMPTS: u32 = 10;
/// Damage counts when so many readings in a row found the same: a head of a record or file that
/// is just being written looks like damage for a moment.
const SIGHTINGS: u32 = 3;
/// The writer marks both files before the first header is written.
const BLANK: &str = "the file is missing, or nothing but zeros; it may have been the newer one";

/// Generations rise by one, in turn, and each header names the file before it: two sound files of
/// which none follows the other were never used together.
const STRANGE: &str = "the two files are not of one journal; either may be the true one";

/// What the journal in `run_dir` holds; `None` when there is none, or none that was ever
/// finished. Never writes.
///
/// # Errors
/// See `ReadError`.
pub fn read(run_dir: &Path) -> Result<Option<Contents>, ReadError> {
    read_wanted(run_dir, &|_, _| true)
}

/// As `read`, with the wanted payloads alone; all are checked.
///
/// # Errors
/// See `ReadError`.
pub fn read_wanted(run_dir: &Path, wanted: Wanted) -> Result<Option<Contents>, ReadError> {
    read_settled(run_dir, wanted, || open_both(run_dir))
}

/// Reads until two looks agree. `open` gives both files as they are at that moment.
pub(super) fn read_settled<R: Read>(
    run_dir: &Path,
    wanted: Wanted,
    mut open: impl FnMut() -> Result<[Option<R>; 2], ReadError>,
) -> Result<Option<Contents>, ReadError> {
    let mut suspect = None;
    let mut sightings = 0;
    let mut attempt = 1;
    loop {
        let look = look(open()?, run_dir, wanted);
        let still = read_heads(&mut open()?) == look.heads;
        let damage = match &look.result {
            Ok(contents) => contents.as_ref().and_then(|contents| contents.damage.clone()),
            Err(ReadError::Unusable(damage)) => Some(damage.clone()),
            Err(_) => return look.result,
        };
        sightings = if still && damage == suspect { sightings + 1 } else { 1 };
        let settled = still && (damage.is_none() || sightings >= SIGHTINGS);
        if settled || attempt >= ATTEMPTS {
            return look.result;
        }
        suspect = damage;
        attempt += 1;
        std::thread::yield_now();
    }
}

/// What these two files hold, `journal.a` first, by one look at them; `None` for one that is missing.
///
/// # Errors
/// See `ReadError`.
pub fn read_once<R: Read>(files: [Option<R>; 2]) -> Result<Option<Contents>, ReadError> {
    look(files, Path::new(""), &|_, _| true).result
}

/// The first block of each file, or why it can't be read.
pub(super) type Heads = [Result<Vec<u8>, String>; 2];

/// One reading of both files, with the headers it saw.
pub(super) struct Look {
    heads: Heads,
    pub result: Result<Option<Contents>, ReadError>,
}

/// Reads both files once; `None` for one that is missing.
pub(super) fn look<R: Read>(mut files: [Option<R>; 2], run_dir: &Path, wanted: Wanted) -> Look {
    let heads = read_heads(&mut files);
    let result = choose(&heads, run_dir).and_then(|choice| {
        let Some((slot, header)) = choice.newest else {
            return choice.damage.map_or(Ok(None), |damage| Err(ReadError::Unusable(damage)));
        };
        let [a, b] = files;
        let file = match slot {
            Slot::A => a,
            Slot::B => b,
        };
        Ok(file.map(|file| read_records(file, header, (slot, run_dir), choice.damage, wanted)))
    });
    Look { heads, result }
}

fn read_records(
    mut file: impl Read,
    header: Header,
    (slot, run_dir): (Slot, &Path),
    damage: Option<Damage>,
    wanted: Wanted,
) -> Contents {
    let start = header.payload_start;
    let gap = start.saturating_sub(HEADER_LEN as u64);
    // A file that ends within the gap has no records either, which is what the scan then finds.
    let _ = io::copy(&mut file.by_ref().take(gap), &mut io::sink());
    let found = scan(&mut file, header.key, start, wanted);
    let here = found.damage.map(|(offset, text)| Damage { file: slot.path(run_dir), offset, text });
    let damage = here.or(damage);
    let end = found.end.filter(|_| damage.is_none());
    Contents {
        end: end.map(|(offset, chain)| End { slot, key: header.key, offset, chain }),
        origin: header.origin,
        generation: header.key.generation,
        payloads: found.payloads,
        damage,
    }
}

pub(super) fn read_heads<R: Read>(files: &mut [Option<R>; 2]) -> Heads {
    files.each_mut().map(|file| {
        let mut block = Vec::with_capacity(HEADER_LEN);
        if let Some(file) = file {
            let mut part = file.take(HEADER_LEN as u64);
            part.read_to_end(&mut block).map_err(|error| format!("cannot be read: {error}"))?;
        }
        Ok(block)
    })
}

/// Which file counts.
pub(super) struct Choice {
    pub newest: Option<(Slot, Header)>,
    /// A header can't be believed; it may have been the newest.
    pub damage: Option<Damage>,
}

/// Finds the newest sound header. Another format in either file is an error: this program must
/// not decide by the other file, nor overwrite one of them.
pub(super) fn choose(heads: &Heads, run_dir: &Path) -> Result<Choice, ReadError> {
    let mut choice = Choice { newest: None, damage: None };
    let mut doubt = None;
    let mut unused = None;
    for (slot, head) in Slot::BOTH.into_iter().zip(heads) {
        let file = slot.path(run_dir);
        let text = match head {
            Err(text) => text.clone(),
            Ok(block) => match Header::decode(block) {
                Decoded::Unused(tag) => {
                    unused = Some((file, tag));
                    continue;
                }
                Decoded::Blank => {
                    doubt = Some(Damage { file, offset: 0, text: BLANK.to_string() });
                    continue;
                }
                Decoded::Unknown(version) => {
                    return Err(ReadError::UnknownVersion { file, version });
                }
                Decoded::Damaged(text) => text.to_string(),
                Decoded::Sound(header) => {
                    let other = choice.newest.as_ref().map(|(_, other)| other);
                    if other.is_some_and(|other| !header.follows(other) && !other.follows(&header))
                    {
                        doubt = Some(Damage { file, offset: 0, text: STRANGE.to_string() });
                    }
                    if other.is_none_or(|other| other.key.generation < header.key.generation) {
                        choice.newest = Some((slot, header));
                    }
                    continue;
                }
            },
        };
        choice.damage.get_or_insert(Damage { file, offset: 0, text });
    }
    if let Some((_, newest)) = &choice.newest {
        let strange = unused.filter(|(_, tag)| *tag != newest.key.tag());
        let strange =
            strange.map(|(file, _)| Damage { file, offset: 0, text: STRANGE.to_string() });
        choice.damage = choice.damage.or(doubt).or(strange);
    }
    Ok(choice)
}

fn open_both(run_dir: &Path) -> Result<[Option<BufReader<File>>; 2], ReadError> {
    let [a, b] = Slot::BOTH.map(|slot| {
        let file = slot.path(run_dir);
        open(&file).map_err(|error| ReadError::Io { file, error })
    });
    Ok([a?, b?])
}

fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    // Without O_NONBLOCK a FIFO in the place of the file would block the open.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file; remove it"));
    }
    Ok(Some(BufReader::with_capacity(64 << 10, file)))
}
