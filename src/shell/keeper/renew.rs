//! The keeper moves to the program that the active runs, after an upgrade, and stays the process that it
//! is: whoever waits for it, its children and its lock notice nothing.
//!
//! Must not look for a program itself: what the active runs has proven that it works. As PID 1 it stays
//! what it is, for a failure on the way would end every process of a container.

use super::{KeeperShell, Pair};
use crate::config::Config;
use crate::core::Identity;
use crate::shell::bequest::Originals;
use crate::shell::notes;
use crate::shell::packed::PackedConfig;
use crate::sys::lock::Lock;
use crate::sys::pulse::{Pulse, Role, Slot};
use crate::sys::{self, kernel, pidfd, process};
use log::{info, warn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// More than this is none of ours.
const BYTES_MAX: u64 = 64 << 20;

/// What the program before hands to the one after; the descriptors stay open.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Legacy {
    config: RawFd,
    image: PathBuf,
    originals: Originals,
    started: Vec<i32>,
    is_background: bool,
    pulse: RawFd,
    reports: Option<(RawFd, RawFd)>,
    lock: RawFd,
    inheritance: Option<(RawFd, RawFd)>,
}

/// What a keeper goes on with.
pub struct Kept {
    /// `None`: it is made of the configuration.
    pub packed: Option<PackedConfig>,
    pub pulse: Pulse,
    pub reports: Option<(OwnedFd, OwnedFd)>,
    pub originals: Originals,
    pub image: PathBuf,
    pub started: Vec<i32>,
    pub inheritance: Option<[OwnedFd; 2]>,
}

/// Signals that come in between wait for the program after.
fn signals() -> SigSet {
    let mut set = SigSet::empty();
    use Signal::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
    [SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2].into_iter().for_each(|one| set.add(one));
    set
}

/// Goes on as the keeper with what is in this descriptor; gives the exit status.
pub fn resume(from: RawFd) -> u8 {
    let _ = sys::set_name("nm-keeper");
    match take_over(from) {
        Ok((config, lock, kept, is_background)) => {
            let missing = kernel::missing();
            super::run(config, lock, Pair::Kept(Box::new(kept)), missing, is_background)
        }
        Err(error) => {
            notes::say(&format!("nodemanager: cannot go on as the keeper: {error}"));
            1
        }
    }
}

fn take_over(from: RawFd) -> io::Result<(Config, Lock, Kept, bool)> {
    let mut bytes = Vec::new();
    File::from(sys::inherited(from)?).take(BYTES_MAX).read_to_end(&mut bytes)?;
    let legacy: Legacy = serde_json::from_slice(&bytes)?;
    let pair = |pair: Option<(RawFd, RawFd)>| -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        pair.map(|(one, two)| Ok((sys::inherited(one)?, sys::inherited(two)?))).transpose()
    };
    let packed = PackedConfig::inherited(legacy.config)?;
    let config = packed.unpack()?;
    let kept = Kept {
        packed: Some(packed),
        pulse: Pulse::from_fd(sys::inherited(legacy.pulse)?)?,
        reports: pair(legacy.reports)?,
        originals: legacy.originals,
        image: legacy.image,
        started: legacy.started,
        inheritance: pair(legacy.inheritance)?.map(|(out, err)| [out, err]),
    };
    let lock = Lock::inherited(sys::inherited(legacy.lock)?)?;
    Ok((config, lock, kept, legacy.is_background))
}

/// From here on signals are heard again.
pub(super) fn hear_signals() {
    // Nothing is blocked then that was not blocked before: this can't fail.
    let _ = signals().thread_unblock();
}

impl KeeperShell {
    /// SIGUSR2 came: the active runs another program.
    pub(super) fn renew(&mut self) {
        if std::process::id() == 1 {
            return info!(target: "0034", "as PID 1 the keeper goes on with its own program");
        }
        if let Err(error) = self.try_renew() {
            warn!(target: "0034", "the keeper goes on with its own program: {error}");
        }
    }

    fn try_renew(&mut self) -> io::Result<()> {
        self.look(process::monotonic_ms());
        let (active, _) =
            self.serving().ok_or_else(|| io::Error::other("there is no active to follow"))?;
        let image = File::open(format!("/proc/{}/exe", active.pid))?;
        let (own, found) = (std::fs::metadata("/proc/self/exe")?, image.metadata()?);
        if (own.dev(), own.ino()) == (found.dev(), found.ino()) {
            return Ok(());
        }
        // The number was the active's while the file was opened.
        if self.serving().is_none_or(|(_, fd)| pidfd::is_dead(fd)) {
            return Err(io::Error::other("the active has just ended"));
        }
        let legacy = self.pack()?;
        let kept = self.kept(&legacy);
        info!(target: "0033", "the keeper goes on with the program of the active, PID {}", active.pid);
        let file = self.config.file.display().to_string();
        let failed = exec(&file, &image, &legacy, &kept);
        kept.iter().for_each(|fd| drop(sys::set_close_on_exec(fd, true)));
        hear_signals();
        Err(failed)
    }

    fn serving(&self) -> Option<&(Identity, OwnedFd)> {
        let slots = [Slot::TwinA, Slot::TwinB].into_iter().zip(&self.twins);
        let mut serving = slots.filter(|(slot, _)| self.pulse.read(*slot).role == Role::Serving);
        serving.find_map(|(_, twin)| twin.as_ref())
    }

    fn pack(&self) -> io::Result<OwnedFd> {
        let raw = |(one, two): (&OwnedFd, &OwnedFd)| (one.as_raw_fd(), two.as_raw_fd());
        let legacy = Legacy {
            config: self.packed.as_fd().as_raw_fd(),
            image: self.image.clone(),
            originals: self.originals,
            started: self.started.clone(),
            is_background: self.is_background,
            pulse: self.pulse.fd().as_raw_fd(),
            reports: self.reports.as_ref().map(|(read, write)| raw((read, write))),
            lock: self.lock.as_fd().as_raw_fd(),
            inheritance: self.inheritance.as_ref().map(|[out, err]| raw((out, err))),
        };
        let mut file = File::from(memfd_create(c"nodemanager-keeper", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(&legacy)?)?;
        file.rewind()?;
        Ok(file.into())
    }

    /// The descriptors that stay open.
    fn kept<'a>(&'a self, legacy: &'a OwnedFd) -> Vec<BorrowedFd<'a>> {
        let pairs = self.reports.iter().flat_map(|(read, write)| [read, write]);
        let pairs = pairs.chain(self.inheritance.iter().flatten());
        let own = [legacy.as_fd(), self.packed.as_fd(), self.pulse.fd(), self.lock.as_fd()];
        own.into_iter().chain(pairs.map(AsFd::as_fd)).collect()
    }
}

/// Only comes back when it failed.
fn exec(file: &str, image: &File, legacy: &OwnedFd, kept: &[BorrowedFd<'_>]) -> io::Error {
    // The file shows whose keeper it is.
    let from = legacy.as_raw_fd().to_string();
    let words = ["nodemanager", "keeper", "-c", file, "--from", &from]
        .map(|word| CString::new(word).unwrap_or_default());
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut text = name.into_vec();
            text.push(b'=');
            text.extend(value.into_vec());
            CString::new(text).ok()
        })
        .collect();
    let path = CString::new(format!("/proc/self/fd/{}", image.as_raw_fd())).unwrap_or_default();
    let open = kept.iter().try_for_each(|fd| sys::set_close_on_exec(fd, false));
    if let Err(error) = open.and_then(|()| Ok(signals().thread_block()?)) {
        return error;
    }
    match nix::unistd::execve(&path, &words, &env) {
        Err(errno) => errno.into(),
        Ok(never) => match never {},
    }
}
