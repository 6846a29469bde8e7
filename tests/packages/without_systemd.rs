//! A machine without systemd: the init script has the part of the unit.
//!
//! The root is a directory in namespaces of its own, with a runlevel that is made up.

use crate::debian::{next_package, package, root};
use crate::support::both;
use crate::support::has_tool;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs in the root as its PID 1; each line of the answer begins with what is asked.
const SCRIPT: &str = r#"
mount -t proc proc /proc || exit 1
rm -f /sbin/runlevel
printf '#!/bin/sh\necho N 2\n' >/sbin/runlevel
chmod 755 /sbin/runlevel
pid() { nodemanager pid one; }
running() { ls -l /proc/[0-9]*/exe 2>/dev/null | grep -c -e nodemanager -e sleep; }
dpkg --install /srv/own.deb || exit 1
printf '[[server]]\nname = "one"\ncommand = "sleep 100000"\n' >/etc/nodemanager/conf.d/one.toml
/etc/init.d/nodemanager reload || exit 1
before=$(pid)
dpkg --install /srv/next.deb || exit 1
echo "upgraded: $(nodemanager status | head -n 1 | cut -d : -f 1)"
[ "$(pid)" = "$before" ] && echo "upgraded: the same server"
dpkg --remove nodemanager || exit 1
echo "removed: $(running) processes"
dpkg --install /srv/own.deb || exit 1
echo "installed again: $(nodemanager status | tail -n 1)"
dpkg --purge nodemanager || exit 1
echo "purged: $(running) processes, $(find /etc /run /usr /var -name '*nodemanager*' | wc -l) files"
"#;

/// An overlay of the root; taken away when it is dropped.
struct Overlay(PathBuf);

impl Overlay {
    fn new(lower: &Path) -> Result<Overlay, String> {
        let dir = std::env::temp_dir().join(format!("nm-overlay-{}", std::process::id()));
        let overlay = Overlay(dir);
        let (dir, lower) = (overlay.0.display(), lower.display());
        let script = format!(
            "mkdir {dir} && mount -t tmpfs -o mode=755 nm-test {dir} && mkdir {dir}/upper {dir}/work {dir}/root && \
             mount -t overlay -o lowerdir={lower},upperdir={dir}/upper,workdir={dir}/work nm-test {dir}/root"
        );
        let made = Command::new("sh").args(["-c", &script]).output().expect("sh runs");
        if made.status.success() { Ok(overlay) } else { Err(both(&made)) }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        for mount in [self.0.join("root"), self.0.clone()] {
            let _ = Command::new("umount").arg(&mount).output();
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn without_systemd_the_init_script_starts_the_pair_and_an_upgrade_keeps_the_server() {
    let (Some(own), Some(next)) = (package(), next_package()) else { return };
    let Some(lower) = root() else { return };
    if !["unshare", "chroot", "mount", "ip"].into_iter().all(has_tool) {
        return;
    }
    let overlay = match Overlay::new(lower) {
        Ok(overlay) => overlay,
        Err(text) => return println!("skipped: no overlay can be mounted: {text}"),
    };
    let root = overlay.0.join("root");
    fs::copy(own, root.join("srv/own.deb")).expect("a copy of the package");
    fs::copy(next, root.join("srv/next.deb")).expect("a copy of the package");
    fs::write(root.join("srv/script"), SCRIPT).expect("the script");
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c"])
        .args(["ip link set lo up && exec chroot \"$0\" sh /srv/script"])
        .arg(&root)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    let said = both(&output);
    assert!(output.status.success(), "{said}");
    for line in [
        "upgraded: nodemanager-1 0.999.0",
        "upgraded: the same server",
        "removed: 0 processes",
        "installed again: 1 server: 1 up",
        "purged: 0 processes, 0 files",
    ] {
        assert!(said.lines().any(|one| one == line), "{line}: {said}");
    }
}
