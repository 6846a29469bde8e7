//! What a process of the pair is handed by the one that starts it.
//!
//! Must not travel by arguments or environment, which others can read: it is a memfd that the
//! child inherits and reads once. The descriptors have fixed numbers.

use super::packed::PackedConfig;
use crate::config::{Config, Listen, OutputTo};
use crate::core::{Identity, Name};
use crate::events::Record;
use crate::state::disabled::Change;
use crate::sys;
use crate::wire::Secret;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

/// The bequest itself.
pub const BEQUEST: RawFd = 3;
/// The shared memory page of the pulse.
pub const PULSE: RawFd = 4;
/// The end from which the keeper's reports are read.
pub const REPORTS: RawFd = 5;
/// The listening control socket (standby only).
pub const CONTROL: RawFd = 6;
/// The listening standbyPort (standby only).
pub const LINK: RawFd = 7;
/// A pidfd of the active (standby only).
pub const ACTIVE: RawFd = 8;

/// Standard output and error of whoever started the pair; only where a server inherits them.
pub const STDOUT: RawFd = 9;
pub const STDERR: RawFd = 10;
/// The configuration of the pair.
pub const CONFIG: RawFd = 11;
/// Memory for what an applier found, or a mailer says (these only).
pub const RESULT: RawFd = 12;

/// The first of what is kept for servers (standby only).
pub const ENDPOINTS: RawFd = 12;

/// A bequest may not be larger.
const BYTES_MAX: u64 = 64 << 20;

/// Which slot of the pulse a twin writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Twin {
    A,
    B,
}

impl Twin {
    /// The other one.
    pub fn other(self) -> Twin {
        match self {
            Twin::A => Twin::B,
            Twin::B => Twin::A,
        }
    }

    /// Its slot in the pulse.
    pub fn slot(self) -> sys::pulse::Slot {
        match self {
            Twin::A => sys::pulse::Slot::TwinA,
            Twin::B => sys::pulse::Slot::TwinB,
        }
    }
}

/// What the node manager raised for itself, as it was: servers get it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Originals {
    /// RLIMIT_NOFILE, soft and hard.
    pub nofile: (u64, u64),
    pub umask: u32,
    /// /proc/self/oom_score_adj, where it can be read.
    pub oom_score_adj: Option<i32>,
}

/// A descriptor that the pair keeps for a server, over its restarts and over takeovers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub server: String,
    /// `None`: its notify socket.
    pub listen: Option<Listen>,
}

/// All that a child of the pair needs to know, but for the configuration, which comes beside it: it is
/// read once, by the keeper or an applier, so that no takeover changes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bequest {
    pub twin: Twin,
    /// What a standby proves itself with; empty for others.
    pub secret: Secret,
    /// The keeper starts the pair because nobody served any more.
    pub revives: bool,
    pub originals: Originals,
    /// There is a keeper that is an ancestor and reports exit statuses.
    pub has_reports: bool,
    /// The active, for a standby.
    pub active: Option<Identity>,
    /// For a mover: the servers that stay up.
    pub left: Vec<(Name, Identity)>,
    /// Whose the descriptors from `ENDPOINTS` on are; for a standby.
    pub endpoints: Vec<Endpoint>,
    /// For a saver: the text of the remembered wishes.
    pub wishes: String,
    /// For a saver: what is to change in the list of disabled servers.
    #[serde(default)]
    pub enabling: Vec<Change>,
    /// For an applier: the servers that it is about; none: everything.
    #[serde(default)]
    pub names: Vec<String>,
    /// For an applier: the servers that were taken out of the configuration, and are gone by now.
    #[serde(default)]
    pub gone: Vec<String>,
    /// The file of the program that the pair was started with; an upgrade takes what it is by then.
    #[serde(default)]
    pub image: PathBuf,
    /// For a mailer: what the mail is about, and how much more there was.
    #[serde(default)]
    pub mail: Vec<Record>,
    #[serde(default)]
    pub mail_left_out: u64,
    /// Behind the last of the endpoints is the listener for metrics; for a standby.
    #[serde(default)]
    pub has_metrics: bool,
    /// Behind these is its end of the active's lifeline; for a standby.
    #[serde(default)]
    pub has_lifeline: bool,
}

impl Bequest {
    /// For a process in this slot; nothing else is said.
    pub fn new(twin: Twin, originals: Originals) -> Bequest {
        Bequest {
            twin,
            secret: Secret(String::new()),
            revives: false,
            originals,
            has_reports: false,
            active: None,
            left: Vec::new(),
            endpoints: Vec::new(),
            wishes: String::new(),
            enabling: Vec::new(),
            names: Vec::new(),
            gone: Vec::new(),
            image: PathBuf::new(),
            mail: Vec::new(),
            mail_left_out: 0,
            has_metrics: false,
            has_lifeline: false,
        }
    }

    /// The number of the listener for metrics.
    pub fn metrics_number(&self) -> RawFd {
        let kept = RawFd::try_from(self.endpoints.len()).unwrap_or(RawFd::MAX);
        ENDPOINTS.saturating_add(kept)
    }

    /// The number of a standby's end of the active's lifeline.
    pub fn lifeline_number(&self) -> RawFd {
        self.metrics_number().saturating_add(RawFd::from(self.has_metrics))
    }

    /// Writes it into memory that a child can inherit.
    ///
    /// # Errors
    /// No descriptor or no memory was left.
    pub fn pack(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create(c"nodemanager-bequest", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&self.to_bytes()?)?;
        file.rewind()?;
        Ok(file.into())
    }

    /// Reads what this process was handed.
    ///
    /// # Errors
    /// There is none: the command was not started by the node manager itself.
    pub fn unpack() -> io::Result<Bequest> {
        let file = File::from(sys::inherited(BEQUEST)?);
        let mut text = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut text)?;
        Bequest::from_bytes(&text)
    }

    /// What is in the memory that is handed on.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    /// The bequest that these bytes are.
    ///
    /// # Errors
    /// They are none.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Bequest> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// The configuration of the pair that this process is a child of.
///
/// # Errors
/// There is none: the command was not started by the node manager itself.
pub fn config() -> io::Result<Config> {
    PackedConfig::inherited(CONFIG)?.unpack()
}

/// What whoever started the keeper says to the keeper alone (sd_notify(3)).
const FOR_THE_KEEPER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The arguments and the environment of a process of the pair.
///
/// # Errors
/// An argument or a variable contains a NUL byte.
pub fn command(role: &str, config: &Config) -> io::Result<(Vec<CString>, Vec<CString>)> {
    let file = config.file.display().to_string();
    let argv = ["nodemanager", role, "-c", &file]
        .into_iter()
        .map(|word| CString::new(word).map_err(io::Error::other))
        .collect::<io::Result<_>>()?;
    let env = std::env::vars_os()
        .filter(|(name, _)| !FOR_THE_KEEPER.iter().any(|other| name == other))
        .filter_map(|(name, value)| {
            let mut text = name.into_encoded_bytes();
            text.push(b'=');
            text.extend_from_slice(&value.into_encoded_bytes());
            CString::new(text).ok()
        })
        .collect();
    Ok((argv, env))
}

/// Does a server write where whoever started the pair does?
pub fn is_inherited(config: &Config) -> bool {
    config.servers.iter().any(|server| server.output.to == OutputTo::Inherit)
}

/// The descriptor to hand over, and its number over there.
pub fn at(fd: &impl AsRawFd, number: RawFd) -> (RawFd, RawFd) {
    (fd.as_raw_fd(), number)
}
