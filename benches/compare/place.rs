//! Where a run of the comparison lives: one directory below the temporary one, with the built
//! programs, and every process that was started from there.
//!
//! Must leave nothing behind: what belongs to a directory is found by /proc (its command line or
//! environment names the directory) and ended by PID, on errors and on Ctrl-C too.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The directory of the whole comparison.
pub struct Root {
    pub dir: PathBuf,
    /// What a supervisor does not reach in this time gets no figure.
    pub limit: Duration,
}

impl Root {
    /// Makes the directory and builds the C programs into it.
    pub fn new(limit: Duration) -> io::Result<Root> {
        let dir = std::env::temp_dir().join(format!("nm-compare-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let root = Root { dir, limit };
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/programs");
        for name in ["first_act", "bare", "writer"] {
            let mut cc = Command::new("cc");
            cc.args(["-O2", "-static", "-o"]).arg(root.dir.join(name));
            let built = cc.arg(sources.join(format!("{name}.c"))).status()?;
            if !built.success() {
                return Err(io::Error::other(format!("cannot build {name}.c with cc -static")));
            }
        }
        Ok(root)
    }

    /// Ctrl-C and SIGTERM end what was started and remove the directory.
    pub fn clean_on_signals(&self) -> io::Result<()> {
        let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
        let mut signals = signal_hook::iterator::Signals::new(signals)?;
        let dir = self.dir.clone();
        std::thread::spawn(move || {
            if signals.forever().next().is_some() {
                clean(&dir);
                std::process::exit(130);
            }
        });
        Ok(())
    }

    pub fn server(&self) -> PathBuf {
        self.dir.join("first_act")
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        clean(&self.dir);
    }
}

/// Ends every process that belongs to `dir`, and removes it.
pub fn clean(dir: &Path) {
    for _ in 0..100 {
        let found = processes(dir);
        if found.is_empty() {
            break;
        }
        // Nobody may start a new one while they are ended one by one.
        for number in [Signal::SIGSTOP, Signal::SIGKILL] {
            found.iter().for_each(|pid| send(*pid, number));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = fs::remove_dir_all(dir);
}

/// Who is gone already is what was wanted.
pub fn send(pid: i32, number: Signal) {
    if pid > 1 {
        let _ = kill(Pid::from_raw(pid), number);
    }
}

/// Every living process that belongs to `dir`, but this one.
pub fn processes(dir: &Path) -> Vec<i32> {
    // The slash: a directory whose name begins alike is another one.
    let words = format!("{}/", dir.display()).into_bytes();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let entries = fs::read_dir("/proc").map(|entries| entries.flatten().collect::<Vec<_>>());
    let pids = entries.unwrap_or_default().into_iter();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let belongs = |pid: &i32| {
        ["cmdline", "environ"].iter().any(|file| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.windows(words.len()).any(|part| part == words)
        })
    };
    pids.filter(|pid| *pid != own).filter(belongs).collect()
}

/// Is it a server (and not a supervisor)?
pub fn is_server(pid: i32, server: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == server)
}

/// The PID of its parent.
pub fn parent(pid: i32) -> i32 {
    i32::try_from(field(&format!("/proc/{pid}/status"), "PPid:")).unwrap_or_default()
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Kibibytes; pages that several processes use count in parts.
pub fn pss_kib(pids: &[i32]) -> u64 {
    pids.iter().map(|pid| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")).sum()
}

/// Nanoseconds on a processor and voluntary context switches of all threads so far.
pub fn used(pids: &[i32]) -> (u64, u64) {
    let tasks = pids.iter().flat_map(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).map(|dir| dir.flatten().collect());
        let tasks: Vec<fs::DirEntry> = tasks.unwrap_or_default();
        tasks.into_iter().map(|task| task.path().display().to_string())
    });
    tasks.fold((0, 0), |(cpu, wakes), task| {
        let woken = field(&format!("{task}/status"), "voluntary_ctxt_switches:");
        (cpu + field(&format!("{task}/schedstat"), ""), wakes + woken)
    })
}
