//! The node manager under what starts it: a real systemd, an LSB init script, and as PID 1 of a
//! container.
//!
//! Must not need the machine's own init system, nor leave a mount, a cgroup or a process behind. What
//! is missing (root, systemd-nspawn, unshare) skips a test with a printed reason.

#[path = "../support/mod.rs"]
mod support;

mod lsb;
mod machine;
mod pid1;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the project.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Is there such a program? Says that the test is skipped where there is none.
fn has_tool(name: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    let has = found.is_ok_and(|output| output.status.success());
    if !has {
        println!("skipped: needs {name}");
    }
    has
}

/// Is this root? Says that the test is skipped for anybody else.
fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("skipped: needs root");
    }
    is_root
}
