//! Small tools for the tests of the real program: limits on commands, processes, open sockets.
//!
//! Must leave nothing behind: what is started here is ended by its PID.
#![allow(dead_code, reason = "every test file uses its own part of this")]

pub mod stranger;

use crate::support::{LIMIT, Pair, is_alive, signal, wait_for, wait_until};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A command that must end by itself within the limit; it is killed and the test fails otherwise.
pub fn finish(mut command: Command, what: &str) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    finish_child(child.unwrap_or_else(|error| panic!("cannot run {what}: {error}")), what)
}

/// As `finish`, for a child with piped output that runs already.
pub fn finish_child(mut child: Child, what: &str) -> Output {
    let end = Instant::now() + LIMIT;
    while child.try_wait().expect("a child of this test").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            panic!("{what} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("the output of a child")
}

/// Runs a command that must end with this exit status; gives stdout and stderr.
pub fn exits(pair: &Pair, words: &[&str], status: i32) -> (String, String) {
    let output = finish(pair.command(words), &words.join(" "));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{words:?}: stdout {out:?} stderr {err:?}");
    (out, err)
}

/// Asserts that all of `parts` are in `text`.
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

/// Nothing of the pair runs, and no socket is left in its run directory.
pub fn assert_nothing_left(pair: &Pair) {
    wait_until("no process to be left", || pair.processes().is_empty());
    let left: Vec<_> = fs::read_dir(pair.home.join("run"))
        .map(|dir| dir.flatten().map(|entry| entry.file_name()).collect())
        .unwrap_or_default();
    let is_socket = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".sock");
    assert!(!left.iter().any(is_socket), "a socket is left: {left:?}");
}

/// The PIDs of active and standby of a whole pair.
pub fn twins(pair: &Pair) -> (i32, i32) {
    pair.wait_whole();
    (pair.pid_of("active"), pair.pid_of("standby"))
}

/// Both twins are the same as before, the pair is whole, and nobody took over.
pub fn assert_undisturbed(pair: &Pair, before: (i32, i32)) {
    let status = pair.status();
    assert_eq!(status["active"]["pid"], before.0, "{status}");
    assert_eq!(status["standby"]["pid"], before.1, "{status}");
    assert_eq!(status["standby"]["state"], "WATCHING", "{status}");
    assert_eq!(status["takeovers"], 0, "{status}");
}

/// A connection to the control socket, with a limit on each read and write.
pub fn control(pair: &Pair) -> UnixStream {
    let stream = UnixStream::connect(pair.home.join("run/control.sock")).expect("control.sock");
    stream.set_read_timeout(Some(LIMIT)).expect("a read limit");
    stream.set_write_timeout(Some(LIMIT)).expect("a write limit");
    stream
}

/// Sends bytes, and gives all that comes until the other end closes. A broken pipe is an end.
pub fn exchange(stream: &mut (impl Read + Write), bytes: &[u8]) -> String {
    // The other end may have closed in the middle of it.
    let _ = stream.write_all(bytes);
    until_closed(stream)
}

/// All that comes until the other end closes; fails when it does not.
pub fn until_closed(stream: &mut impl Read) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 65536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the connection was not closed: {error}"),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The number in a file that a server writes its PID into, once it is there.
pub fn pid_in(path: &Path) -> i32 {
    wait_for(&format!("a PID in {}", path.display()), || {
        let text = fs::read_to_string(path).ok()?;
        text.strip_suffix('\n')?.trim().parse().ok()
    })
}

/// A field of /proc/PID/status.
pub fn status_field(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_string()
}

/// The state letter of a process, or `None` when it is gone.
pub fn state_letter(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Stops a process and waits until it is stopped.
pub fn freeze(pid: i32) {
    signal(pid, crate::support::SIGSTOP);
    wait_until("a process to be stopped", || matches!(state_letter(pid), Some('T' | 't')));
}

/// Ends all processes of the pair and its servers at once, without a word, as a power cut does.
pub fn power_cut(pair: &Pair) {
    // Stopped first, nobody can start another.
    let mut stopped = Vec::new();
    while stopped != pair.processes() {
        stopped = pair.processes();
        stopped.iter().for_each(|pid| freeze(*pid));
    }
    stopped.iter().for_each(|pid| signal(*pid, crate::support::SIGKILL));
    wait_until("all to be dead", || pair.processes().is_empty());
}

/// Makes the machine look rebooted to a command: another boot id, bound over the true one in a
/// mount namespace of its own. The true PIDs stay, so what the journal says of them must not be
/// believed.
pub fn rebooted(pair: &Pair, id: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(id).arg(crate::support::binary());
    command.args(["run", "--detach", "-c"]).arg(pair.config());
    command
}

/// Root is needed: says why a test is skipped otherwise.
pub fn is_root(test: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("skipped: {test} needs root");
    }
    is_root
}

/// A process that is ended, with its children in its group, when this is dropped.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ends a process by its number when dropped.
pub struct EndedPid(pub i32);

impl Drop for EndedPid {
    fn drop(&mut self) {
        if is_alive(self.0) {
            signal(self.0, crate::support::SIGKILL);
            signal(self.0, crate::support::SIGCONT);
        }
    }
}
