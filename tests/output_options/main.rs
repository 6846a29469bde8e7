//! Every option of a server's `output`, and of the pair's own logs, with real servers; the active is
//! killed in the middle of each.
//!
//! Must not need a journald or a syslogd: their sockets are played here.

mod files;
mod follow;
mod own_logs;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tools/mod.rs"]
mod tools;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use support::{Pair, SIGKILL, signal};

/// A server that runs this script.
fn shell(name: &str, script: &str, output: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = [\"bash\", \"-c\", '''{script}''']\n\
         settleTime = \"20ms\"\noutput = {{ {output} }}\n"
    )
}

/// Kills the active, and waits until the pair is whole again.
fn take_over(pair: &Pair) {
    let active = pair.pid_of("active");
    signal(active, SIGKILL);
    support::wait_until("a takeover", || pair.twin("active").is_some_and(|pid| pid != active));
    pair.wait_whole();
}

/// Kills actives until that is so; gives how many.
fn take_over_until(pair: &Pair, what: &str, is_done: impl Fn() -> bool) -> usize {
    let mut kills = 0;
    support::wait_until(what, || {
        is_done() || {
            take_over(pair);
            kills += 1;
            false
        }
    });
    kills
}

/// The rotated files of a log, oldest first, and the log itself.
fn files_of(log: &Path) -> Vec<PathBuf> {
    let rotated = nodemanager::output::rotate::rotated_files(log);
    rotated.into_iter().map(|(_, path)| path).chain([log.to_owned()]).collect()
}

/// What is in a log file, unpacked where it is compressed; nothing where it is gone.
fn bytes_of(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap_or_default();
    if path.extension().is_none_or(|ending| ending != "gz") {
        return bytes;
    }
    let mut unpacked = Vec::new();
    let read = flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked);
    read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    unpacked
}

/// All that a log holds, with its rotated files. Not while it is compressed.
fn whole(log: &Path) -> String {
    let bytes = files_of(log).iter().flat_map(|path| bytes_of(path)).collect();
    String::from_utf8(bytes).expect("text")
}

fn log(pair: &Pair, name: &str) -> PathBuf {
    pair.home.join("logs").join(name)
}

/// The numbers of lines `prefix N`, in their order.
fn numbers(text: &str, prefix: &str) -> Vec<u64> {
    let number = |line: &str| line.strip_prefix(prefix)?.trim().parse().ok();
    text.lines().filter_map(number).collect()
}

/// The numbers are 1 to the last one, each once and in order.
fn assert_all(numbers: &[u64], what: &str) {
    for (at, number) in numbers.iter().enumerate() {
        assert_eq!(*number, at as u64 + 1, "{what}: line {} of {}", at + 1, numbers.len());
    }
}
