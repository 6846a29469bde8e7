//! A directory for the cgroups of a test's servers, below the test's own cgroup v2.
//!
//! Must leave none behind: it is emptied and removed when it is dropped.

use super::Pair;
use std::fs;
use std::path::{Path, PathBuf};

/// A prepared directory for `cgroupRoot`, emptied and removed at the end.
pub struct Root(pub PathBuf);

impl Root {
    /// `None`: none can be made here; the test is skipped.
    pub fn new(name: &str) -> Option<Root> {
        let dir = own_group()?.join(format!("nm-test-{}-{name}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => Some(Root(dir)),
            Err(error) => {
                println!("skipped: cannot make the cgroup {}: {error}", dir.display());
                None
            }
        }
    }

    /// The key of `[nodeManager]` that names it.
    pub fn key(&self) -> String {
        format!("cgroupRoot = \"{}\"", self.0.display())
    }

    /// The group of a server.
    pub fn of(&self, pair: &Pair, server: &str) -> PathBuf {
        Root::group(&self.0, pair, server)
    }

    /// The group of a server below this root.
    pub fn group(root: &Path, pair: &Pair, server: &str) -> PathBuf {
        root.join(format!("{}:{server}", pair.name()))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for _ in 0..200 {
            let groups = fs::read_dir(&self.0).into_iter().flatten().flatten();
            for group in groups.filter(|one| one.path().is_dir()) {
                let _ = fs::write(group.path().join("cgroup.kill"), "1");
                let _ = fs::remove_dir(group.path());
            }
            if fs::remove_dir(&self.0).is_ok() || !self.0.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        println!("left behind: {}", self.0.display());
    }
}

/// The directory of this process's cgroup v2.
pub fn own_group() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let point = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(point) = point.and_then(|line| line.split(' ').nth(4)) else {
        println!("skipped: no cgroup v2 is mounted");
        return None;
    };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
    Some(Path::new(point).join(own.trim_start_matches('/')))
}

/// The PIDs of those who are in a cgroup itself.
pub fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
