//! Runs the paths under callgrind and reads what it counted.
//!
//! Must not know what is counted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Tells the process under valgrind how many servers there are.
pub const SERVERS: &str = "NM_PATHS_SERVERS";
/// The function from whose call to whose return is counted.
const COUNTED: &str = "*::counted_walk";

/// One path that was walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Of one walk.
    pub instructions: u64,
    pub profile: PathBuf,
}

impl Counted {
    /// The command that shows where the instructions are.
    pub fn annotate(&self) -> String {
        let file = self.profile.display();
        format!("callgrind_annotate --inclusive=yes --threshold=99.9 {file} | less -S")
    }
}

pub fn is_there() -> bool {
    let asked = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// The paths in their order, with so many servers.
pub fn count(servers: usize) -> Vec<(String, Counted)> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("instructions-{servers}"));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory for the profiles");
    let out = dir.join("profile");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().expect("the path of this test"))
        .args(["--exact", "the_paths_do_what_they_are_called", "--nocapture", "--test-threads=1"])
        .env(SERVERS, servers.to_string())
        .stdin(Stdio::null())
        .output()
        .expect("valgrind can be run");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the paths failed under valgrind:\n{said}\n{errors}");
    let walked: Vec<(&str, u64)> = said.lines().filter_map(walked).collect();
    assert!(!walked.is_empty(), "no path was walked:\n{said}");
    let counted = |(at, (name, times)): (usize, &(&str, u64))| {
        let profile = dir.join(format!("{}.profile", name.replace(' ', "-")));
        let from = dir.join(format!("profile.{}", at + 1));
        fs::rename(&from, &profile)
            .unwrap_or_else(|error| panic!("no profile {}: {error}\n{errors}", from.display()));
        let instructions = total(&profile) / times;
        (name.to_string(), Counted { instructions, profile })
    };
    walked.iter().enumerate().map(counted).collect()
}

/// A line that tells of a path: how often it was walked, and its name. The test harness may have begun the line.
fn walked(line: &str) -> Option<(&str, u64)> {
    let (_, told) = line.split_once("walked ")?;
    let (times, name) = told.split_once(' ')?;
    Some((name, times.parse().ok()?))
}

fn total(profile: &Path) -> u64 {
    let text = fs::read_to_string(profile).expect("a profile");
    let line = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    let number = line.and_then(|line| line.trim().parse().ok());
    number.unwrap_or_else(|| panic!("{} has no totals", profile.display()))
}
