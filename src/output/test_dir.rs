//! A directory for one test, removed at its end. Must not be used outside tests.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A fresh directory below the system's one for temporary files.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    pub(crate) fn new() -> TestDir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("nodemanager-output-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        TestDir(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until `done` holds, and fails the test when it does not within a generous limit.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < limit, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// All bytes of a log: its rotated files in their order, then the file itself.
pub(crate) fn whole_log(path: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for (_, rotated) in super::rotate::rotated_files(path) {
        all.extend(std::fs::read(rotated).unwrap());
    }
    all.extend(std::fs::read(path).unwrap_or_default());
    all
}
