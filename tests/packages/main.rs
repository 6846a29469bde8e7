//! The packages: the Debian package on a machine of its own with a real systemd, and the static program
//! in a directory with nothing else.
//!
//! Must not install anything on this machine, nor leave a mount, a cgroup or a process behind. A clean
//! Debian root is made once (debootstrap, from the network) and kept below the target directory. What is
//! missing (root, cargo-deb, debootstrap, systemd-nspawn, the musl target) skips a test with a printed
//! reason.

mod debian;
mod installed;
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/next_version.rs"]
mod next_version;
mod removed;
mod static_program;
#[path = "../support/mod.rs"]
mod support;
mod upgraded;
mod without_systemd;
