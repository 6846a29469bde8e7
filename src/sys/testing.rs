//! Help for the tests of this layer: scratch directories, waiting with a limit, and processes of
//! our own that do one thing (`probe`), because locks and parents are a matter of processes.

use super::rights::Rights;
use super::spawn::{News, ServerSpec, Stdout, open_gate, read_news, spawn_server};
use super::{lock, pidfd, process};
use crate::core::Exit;
use std::ffi::CString;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory of one test, removed at its end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nodemanager-sys-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path.canonicalize().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn cstring(text: &str) -> CString {
    CString::new(text).unwrap()
}

pub fn path_cstring(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

pub fn pidfd_of(pid: i32) -> OwnedFd {
    pidfd::open(pid).unwrap()
}

pub fn end(fd: &OwnedFd) {
    let _ = pidfd::signal(fd, libc::SIGKILL);
}

/// Waits for the end of a child and reaps it.
pub fn reaped(fd: &OwnedFd) -> Exit {
    let mut exit = None;
    wait_until("the child has ended", || {
        exit = pidfd::reap(fd).unwrap();
        exit.is_some()
    });
    exit.unwrap()
}

/// A child that is killed, group and all, and reaped at the end of the test.
pub struct Server {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub gate: OwnedFd,
}

impl Server {
    pub fn at_gate(spec: &ServerSpec) -> Server {
        let gated = spawn_server(spec.clone()).unwrap();
        Server { pid: gated.pid, pidfd: gated.pidfd, gate: gated.gate }
    }

    /// A shell that runs `script`, past its exec.
    pub fn shell(script: &str) -> Server {
        Server::running(&shell_spec(script))
    }

    pub fn running(spec: &ServerSpec) -> Server {
        let server = Server::at_gate(spec);
        assert_eq!(server.news(), News::Ready);
        open_gate(&server.gate).unwrap();
        assert_eq!(server.news(), News::Closed);
        server
    }

    pub fn news(&self) -> News {
        let mut news = None;
        wait_until("there is news", || {
            news = read_news(&self.gate).unwrap();
            news.is_some()
        });
        news.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = pidfd::signal_group(&self.pidfd, self.pid, libc::SIGKILL, true);
        end(&self.pidfd);
        if pidfd::exit_of_child(&self.pidfd).is_ok() && !std::thread::panicking() {
            reaped(&self.pidfd);
        }
    }
}

pub fn shell_spec(script: &str) -> ServerSpec {
    ServerSpec {
        stdin: None,
        argv: ["sh", "-c", script].map(cstring).to_vec(),
        programs: vec![cstring("/bin/sh")],
        env: vec![cstring("PATH=/usr/sbin:/usr/bin:/sbin:/bin")],
        cwd: cstring("/"),
        stdout: Stdout::Null,
        stderr: None,
        umask: 0o22,
        rights: Rights::default(),
        lock: None,
        dies_with_parent: false,
        sockets: Vec::new(),
        ready: None,
        pid_variables: Vec::new(),
        cgroup: None,
        is_unprepared: false,
    }
}

/// This test program itself, doing one thing.
pub struct Probe {
    child: Child,
    out: BufReader<ChildStdout>,
}

const PROBE: [&str; 5] =
    ["sys::testing::probes", "--exact", "--ignored", "--nocapture", "--test-threads=1"];

pub fn probe_argv() -> Vec<CString> {
    std::iter::once("probe").chain(PROBE).map(cstring).collect()
}

pub fn probe_env(kind: &str, argument: &str) -> Vec<CString> {
    vec![
        cstring(&format!("NM_TEST_PROBE={kind}")),
        cstring(&format!("NM_TEST_ARGUMENT={argument}")),
    ]
}

pub fn probe(kind: &str, argument: &str) -> Probe {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(PROBE)
        .env("NM_TEST_PROBE", kind)
        .env("NM_TEST_ARGUMENT", argument)
        .env("NM_SERVER", argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    Probe { child, out }
}

impl Probe {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The next line that the probe says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        while self.out.read_line(&mut line).unwrap() > 0 {
            if let Some(said) = line.strip_prefix("probe says ") {
                return said.trim_end().to_owned();
            }
            line.clear();
        }
        panic!("the probe ended without a word");
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.kill();
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout();
    write!(out, "\nprobe says {text}\n").unwrap();
    out.flush().unwrap();
}

/// Until the test kills the probe, or is dead itself.
fn wait_for_the_end() {
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
#[ignore = "not a test: the helper process of other tests"]
fn probes() {
    let argument = std::env::var("NM_TEST_ARGUMENT").unwrap_or_default();
    match std::env::var("NM_TEST_PROBE").as_deref() {
        Ok("wait") => see_and_reap_a_child(),
        Ok("lock") => {
            let _lock = lock::Lock::try_take(Path::new(&argument)).unwrap();
            say("taken");
            wait_for_the_end();
        }
        Ok("lock-and-child") => hand_the_locks_description_to_a_child(Path::new(&argument)),
        Ok("gate") => {
            let server = Server::at_gate(&shell_spec(&format!("echo ran > {argument}")));
            assert_eq!(server.news(), News::Ready);
            say(&server.pid.to_string());
            wait_for_the_end();
        }
        Ok("without-main-thread") => end_the_main_thread(),
        Ok("twin") => report_what_a_twin_has(Path::new(&argument)),
        _ => {}
    }
}

fn see_and_reap_a_child() {
    let pid = Command::new("sh").args(["-c", "exit 5"]).spawn().unwrap().id() as i32;
    let mut seen = None;
    wait_until("the child is seen", || {
        seen = super::waitid_any_nowait().unwrap();
        seen.is_some()
    });
    let seen = seen.filter(|(found, _)| *found == pid).map(|(_, exit)| exit);
    let reaped = super::reap_pid(pid).unwrap();
    say(&format!("{seen:?} {reaped:?} {:?}", super::waitid_any_nowait().unwrap()));
}

fn hand_the_locks_description_to_a_child(path: &Path) {
    let _lock = lock::Lock::try_take(path).unwrap();
    let held = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .find(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path));
    let fd: i32 = held.unwrap().file_name().to_str().unwrap().parse().unwrap();
    // As descriptor 1 of the child: what an inherited description is, whatever the kind of lock.
    // The command owns the copy; dropping it here would drop the lock.
    let mut command = Command::new("sleep");
    command.arg("60").stdout(process_descriptor(fd)).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    say(&child.id().to_string());
    wait_for_the_end();
    let _ = child.kill();
    let _ = child.wait();
}

extern "C" fn end_this_thread(_: libc::c_int) {
    // SAFETY: takes an integer; the thread that it ends waits for this one and owns nothing
    // that this one uses.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// The harness runs a test on a thread of its own, while the main one waits for it.
fn end_the_main_thread() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    let main = nix::unistd::getpid();
    assert_ne!(nix::unistd::gettid(), main);
    // SAFETY: the handler makes one system call, which is async-signal-safe.
    unsafe { signal(Signal::SIGUSR1, SigHandler::Handler(end_this_thread)) }.unwrap();
    // SAFETY: integers only; the main thread has the process's number.
    let sent =
        unsafe { libc::syscall(libc::SYS_tgkill, main.as_raw(), main.as_raw(), libc::SIGUSR1) };
    assert_eq!(sent, 0);
    say("goes on");
    wait_for_the_end();
}

/// A copy of one of this process's own descriptors.
fn process_descriptor(fd: i32) -> OwnedFd {
    // SAFETY: the caller has just found `fd` open, and holds it open.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fd.try_clone_to_owned().unwrap()
}

fn report_what_a_twin_has(report: &Path) {
    let mut text = String::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if let Ok(target) = std::fs::read_link(entry.path()) {
            text += &format!("fd {name} {}\n", target.display());
        }
    }
    let session = nix::unistd::getsid(None).unwrap();
    text += &format!("session {session}\n");
    std::fs::write(report, text).unwrap();
}

/// The line `field` of /proc/PID/status.
pub fn status_field(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().trim().to_owned()
}

/// The name of the program that a process runs.
pub fn runs(pid: i32, program: &str) -> bool {
    process::comm(pid).is_ok_and(|comm| comm == program)
}
