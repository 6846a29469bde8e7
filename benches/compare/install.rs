//! `-- --install`: the peers from Debian and crates.io.
//!
//! Must start no daemon, and must not be needed: what is not installed is a row that says so.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const PACKAGES: [&str; 4] = ["supervisor", "runit", "s6", "monit"];
/// Debian's invoke-rc.d asks this program; 101 forbids every start.
const POLICY: &str = "/usr/sbin/policy-rc.d";

pub fn install() -> io::Result<()> {
    match nix::unistd::geteuid().is_root() {
        true => debian()?,
        false => super::say(&format!(
            "not root: install these with apt yourself: {}",
            PACKAGES.join(" ")
        ))?,
    }
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("horust");
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["install", "horust", "--locked", "--root"]).arg(root);
    run(cargo)
}

fn debian() -> io::Result<()> {
    let is_ours = !Path::new(POLICY).exists();
    if is_ours {
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
    }
    let mut apt = Command::new("apt-get");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(PACKAGES);
    let installed = run(apt);
    if is_ours {
        fs::remove_file(POLICY)?;
    }
    installed
}

/// A package that can't be had is told, and the others are compared.
fn run(mut command: Command) -> io::Result<()> {
    command.env("DEBIAN_FRONTEND", "noninteractive");
    let told = match command.status() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    super::say(&format!("{:?} failed: {told}", command.get_program()))
}
