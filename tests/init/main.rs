//! The node manager under what starts it: a real systemd, an LSB init script, and as PID 1 of a
//! container.
//!
//! Must not need the machine's own init system, nor leave a mount, a cgroup or a process behind. What
//! is missing (root, systemd-nspawn, unshare) skips a test with a printed reason.

#[path = "../support/mod.rs"]
mod support;

mod lsb;
#[path = "../support/machine.rs"]
mod machine;
mod pid1;
mod systemd;

use machine::is_root;
use std::path::{Path, PathBuf};
use support::has_tool;

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
