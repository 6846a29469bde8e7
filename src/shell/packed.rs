//! The configuration of the pair as bytes in memory that nobody can change: each process hands on
//! what it was handed, and only who works with it reads it.
//!
//! Must not be written to after it was made: other processes have the same memory.

use super::bequest::{CONFIG, at};
use crate::config::Config;
use crate::sys;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// A configuration may not be larger (10,000 servers need about 10 MB).
pub const BYTES_MAX: u64 = 64 << 20;

/// The bytes; clones share them.
#[derive(Clone, Debug)]
pub struct PackedConfig(Rc<File>);

impl PackedConfig {
    /// # Errors
    /// No descriptor or no memory was left; a path is not UTF-8.
    pub fn new(config: &Config) -> io::Result<PackedConfig> {
        PackedConfig::from_bytes(&serde_json::to_vec(config)?)
    }

    /// # Errors
    /// No descriptor or no memory was left.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<PackedConfig> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"nodemanager-config", flags)?);
        file.write_all(bytes)?;
        let seals = SealFlag::F_SEAL_WRITE
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(PackedConfig(Rc::new(file)))
    }

    /// What this process was handed, at this number.
    ///
    /// # Errors
    /// There is none: the command was not started by the node manager itself.
    pub fn inherited(number: RawFd) -> io::Result<PackedConfig> {
        Ok(PackedConfig(Rc::new(File::from(sys::inherited(number)?))))
    }

    /// # Errors
    /// They can't be read.
    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        let size = self.0.metadata()?.len();
        if size > BYTES_MAX {
            return Err(io::Error::other("the configuration is too large"));
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        // Not from where the descriptor stands: other processes have the same one.
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// # Errors
    /// They are no configuration.
    pub fn unpack(&self) -> io::Result<Config> {
        Ok(serde_json::from_slice(&self.bytes()?)?)
    }

    /// The descriptor, and its number in a child.
    pub fn handed(&self) -> (RawFd, RawFd) {
        at(&*self.0, CONFIG)
    }
}

impl AsFd for PackedConfig {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
