//! Reads what the chatty servers wrote, through rotation, and counts loss and doubling.
//!
//! Must not believe the node manager: a line carries the number of its start and its own. Files
//! that were read are removed, all but the newest rotated one, whose number the next one follows.

use crate::Held;
use crate::world::World;
use nodemanager::output::rotate::rotated_files;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a line of `test_server --chat`.
const LINE: usize = 40;

/// How far one server's output was read.
#[derive(Debug, Default)]
pub struct Reader {
    /// The file that was read last, and how much of it.
    inode: u64,
    offset: u64,
    /// What followed the last newline.
    rest: Vec<u8>,
    /// The last line's start and number.
    last: (u64, u64),
    pub lines: u64,
    pub lost: u64,
}

impl Reader {
    /// Reads what is new. `may_lose`: the disk was full since the last time.
    pub fn read(&mut self, path: &Path, may_lose: bool) -> Held {
        let files = open_all(path)?;
        let from = files.iter().position(|(_, inode, _)| *inode == self.inode);
        if from.is_none() && self.inode != 0 {
            return Err(format!("{}: the file read last is gone", path.display()));
        }
        let mut read = Vec::new();
        for (mut file, inode, name) in files.into_iter().skip(from.unwrap_or(0)) {
            if inode != self.inode {
                (self.inode, self.offset) = (inode, 0);
            }
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(self.offset))
                .and_then(|_| file.read_to_end(&mut bytes))
                .map_err(|error| format!("{}: {error}", name.display()))?;
            self.offset += bytes.len() as u64;
            self.take(&bytes, may_lose).map_err(|what| format!("{}: {what}", name.display()))?;
            read.push(name);
        }
        // The present file and the newest rotated one stay.
        read.iter().rev().skip(2).for_each(|old| {
            let _ = fs::remove_file(old);
        });
        Ok(())
    }

    /// The last line is not whole.
    pub fn is_cut(&self) -> bool {
        !self.rest.is_empty()
    }

    fn take(&mut self, bytes: &[u8], may_lose: bool) -> Held {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut lines = rest.split_inclusive(|byte| *byte == b'\n');
        for line in &mut lines {
            if !line.ends_with(b"\n") {
                self.rest = line.to_vec();
                break;
            }
            self.line(line, may_lose)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], may_lose: bool) -> Held {
        let text = String::from_utf8_lossy(line);
        let words: Vec<&str> = text.split_whitespace().collect();
        let numbers = match words[..] {
            ["line", start, number] if line.len() == LINE => {
                start.parse::<u64>().ok().zip(number.parse::<u64>().ok())
            }
            _ => None,
        };
        let Some((start, number)) = numbers else {
            self.lost += 1;
            let torn = format!("a torn line after {:?}: {text:?}", self.last);
            return if may_lose { Ok(()) } else { Err(torn) };
        };
        self.lines += 1;
        let (last_start, last_number) = self.last;
        let is_next = (start == last_start && number == last_number + 1)
            || (start > last_start && number == 1);
        if !is_next {
            let is_old = start < last_start || (start == last_start && number <= last_number);
            if is_old || !may_lose {
                return Err(format!("line {start}/{number} follows {last_start}/{last_number}"));
            }
            self.lost += number.saturating_sub(if start == last_start { last_number } else { 1 });
        }
        self.last = (start, number);
        Ok(())
    }
}

/// All files of one log, oldest first, opened at one moment between two rotations.
fn open_all(path: &Path) -> Held<Vec<(File, u64, PathBuf)>> {
    for _ in 0..100 {
        let names = || rotated_files(path).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        let before = names();
        let open = |name: &PathBuf| {
            let file = File::open(name).ok()?;
            let inode = file.metadata().ok()?.ino();
            Some((file, inode, name.clone()))
        };
        let present = path.to_path_buf();
        let files: Option<Vec<_>> = before.iter().chain([&present]).map(open).collect();
        if let Some(files) = files.filter(|_| names() == before) {
            return Ok(files);
        }
        // Between a rotation and the next open there is no present file.
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("{} is rotated all the time", path.display()))
}

impl World {
    /// Reads all that the chatty servers wrote since the last time.
    pub fn read_chatter(&mut self) -> Held {
        let may_lose = self.faults.take_loss();
        let names: Vec<String> = self.chatty().collect();
        for name in names {
            let path = self.home.join(format!("logs/{name}.out"));
            if path.exists() {
                self.chatter.entry(name).or_default().read(&path, may_lose)?;
            }
        }
        self.report.chatter_lines = self.chatter.values().map(|one| one.lines).sum();
        self.report.chatter_lost = self.chatter.values().map(|one| one.lost).sum();
        Ok(())
    }

    fn chatty(&self) -> impl Iterator<Item = String> + '_ {
        let is_chatty = |name: &&String| name.starts_with("chatty");
        self.servers.iter().map(|server| &server.name).filter(is_chatty).cloned()
    }
}
