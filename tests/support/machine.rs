//! A machine of its own with a real systemd: systemd-nspawn boots an overlay of a root directory, by
//! default of this machine's.
//!
//! Must not write to that directory, and must leave nothing behind: processes are ended by PID, cgroups and mounts removed when it is dropped.

#![allow(dead_code, reason = "every test program uses its own part of this")]

use crate::support::{SIGKILL, SIGTERM, both, has_tool, is_alive, signal, wait_for, wait_until};
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Names in nsenter(1) of all that the machine has for itself.
const NAMESPACES: &str = "-m -u -i -n -p -C -r -w";

pub struct Machine {
    name: String,
    dir: PathBuf,
    groups: Vec<PathBuf>,
    nspawn: Option<Child>,
    leader: i32,
}

impl Machine {
    /// A machine with the programs of this one, not booted yet. `None`: it can't be had here, as was
    /// printed.
    pub fn new() -> Option<Machine> {
        Machine::over(Path::new("/"))
    }

    /// The same with what is in that directory.
    pub fn over(lower: &Path) -> Option<Machine> {
        let tools = ["systemd-nspawn", "nsenter", "mount", "systemctl"];
        if !is_root() || !tools.into_iter().all(has_tool) {
            return None;
        }
        let Some(v2) = cgroup_mount(|kind, _| kind == "cgroup2") else {
            println!("skipped: no cgroup v2 is mounted");
            return None;
        };
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("nm-machine-{}-{number}", std::process::id());
        let v1 = cgroup_mount(|kind, options| kind == "cgroup" && options.contains("name=systemd"));
        let groups: Vec<PathBuf> =
            [Some(v2), v1].into_iter().flatten().map(|mount| mount.join(&name)).collect();
        let dir = std::env::temp_dir().join(&name);
        let machine = Machine { name, dir, groups, nspawn: None, leader: 0 };
        match machine.prepare(lower) {
            Ok(()) => Some(machine),
            Err(text) => {
                println!("skipped: {text}");
                None
            }
        }
    }

    /// The overlay and the cgroups.
    fn prepare(&self, lower: &Path) -> Result<(), String> {
        let dir = self.dir.display().to_string();
        fs::create_dir(&self.dir).map_err(|error| format!("cannot make {dir}: {error}"))?;
        done(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "nm-test", &dir]))?;
        for part in ["upper", "work", "root"] {
            fs::create_dir(self.dir.join(part)).map_err(|error| error.to_string())?;
        }
        let lower = lower.display();
        let options = format!("lowerdir={lower},upperdir={dir}/upper,workdir={dir}/work");
        let root = self.root().display().to_string();
        done(Command::new("mount").args(["-t", "overlay", "-o", &options, "nm-test", &root]))?;
        // Nothing is started but what the test installs.
        let clear = format!(
            "rm -rf {root}/etc/systemd/system/*.wants {root}/etc/rc?.d/* {root}/etc/nodemanager; : >{root}/etc/machine-id"
        );
        done(Command::new("sh").args(["-c", &clear]))?;
        for group in &self.groups {
            fs::create_dir(group)
                .map_err(|error| format!("cannot make the cgroup {}: {error}", group.display()))?;
        }
        Ok(())
    }

    /// Its root directory, as it is seen from here. What systemd mounts over it (/run, /tmp) is not.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Writes a file into it.
    pub fn write(&self, path: &str, text: &str) {
        self.place(path, |to| fs::write(to, text).expect("a file of the machine"));
    }

    /// Copies a file into it, with its mode.
    pub fn copy(&self, from: &Path, path: &str) {
        self.place(path, |to| {
            fs::copy(from, to).expect("a copy in the machine");
        });
    }

    fn place(&self, path: &str, put: impl FnOnce(&Path)) {
        let to = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a directory")).expect("a directory of the machine");
        put(&to);
    }

    /// Boots it, and waits until its systemd is up.
    pub fn boot(&mut self) {
        let log = fs::File::create(self.dir.join("console")).expect("the console's file");
        // Into the machine's cgroups first.
        let procs: Vec<String> =
            self.groups.iter().map(|group| format!("{}/cgroup.procs", group.display())).collect();
        let enter = format!("for to in {}; do echo $$ >$to; done; exec \"$@\"", procs.join(" "));
        let mut command = Command::new("sh");
        command
            .args(["-c", &enter, "sh", "systemd-nspawn"])
            .args(["-b", "-D"])
            .arg(self.root())
            .args(["--register=no", "--keep-unit", "--private-network", "--console=pipe"])
            .args(["--link-journal=no", "--resolv-conf=off", "--timezone=off"])
            .arg(format!("--machine={}", self.name))
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a second descriptor"))
            .stdout(log);
        command.process_group(0);
        let child = command.spawn().expect("systemd-nspawn starts");
        let nspawn = child.id();
        self.nspawn = Some(child);
        self.leader = wait_for("the machine's PID 1", || {
            let ended =
                self.nspawn.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(!ended, "systemd-nspawn ended: {}", self.console());
            child_of(nspawn, "systemd")
        });
        wait_until("a booted machine", || {
            let state = self.run(&["systemctl", "is-system-running"]);
            let state = String::from_utf8_lossy(&state.stdout).into_owned();
            matches!(state.trim(), "running" | "degraded")
        });
    }

    /// The plug is pulled.
    pub fn cut_power(&mut self) {
        signal(self.leader, SIGKILL);
        if let Some(mut child) = self.nspawn.take() {
            child.wait().expect("systemd-nspawn has ended");
        }
        self.leader = 0;
    }

    fn console(&self) -> String {
        fs::read_to_string(self.dir.join("console")).unwrap_or_default()
    }

    /// Runs a command in it.
    pub fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.leader.to_string()]).args(NAMESPACES.split(' '));
        command.args(words).stdin(Stdio::null()).output().expect("nsenter runs")
    }

    /// Runs a command in it that must succeed; gives what it printed.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let journal = || {
            let lines = self.run(&["journalctl", "-n", "30", "-o", "short-monotonic"]);
            String::from_utf8_lossy(&lines.stdout).into_owned()
        };
        assert!(output.status.success(), "{words:?}: {}\n{}", both(&output), journal());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Kills processes of it, by their PIDs over there.
    pub fn kill(&self, pids: &[i64]) {
        let pids: Vec<String> = pids.iter().map(i64::to_string).collect();
        let words: Vec<&str> =
            ["kill", "-9"].into_iter().chain(pids.iter().map(String::as_str)).collect();
        self.ok(&words);
    }

    /// One property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.ok(&["systemctl", "show", "-P", name, unit]).trim().to_string()
    }

    /// `status --json` over there; null when there is none.
    pub fn status(&self) -> Value {
        let output = self.run(&["nodemanager", "status", "--json", "--timeout", "20s"]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.leader > 0 {
            let lines = self.run(&["journalctl", "-n", "60", "-o", "short-monotonic"]);
            println!("--- its journal ends with\n{}", both(&lines));
        }
        if let Some(mut child) = self.nspawn.take() {
            if self.leader > 0 {
                signal(self.leader, SIGKILL);
            }
            signal(child.id() as i32, SIGTERM);
            let _ = child.wait();
        }
        for group in &self.groups {
            empty(group);
        }
        for mount in [self.root(), self.dir.clone()] {
            let _ = Command::new("umount").arg(&mount).output();
        }
        if fs::remove_dir(&self.dir).is_err() && self.dir.exists() {
            println!("left behind: {}", self.dir.display());
        }
    }
}

/// Ends what is in a cgroup, and removes it with all below it.
fn empty(group: &Path) {
    for _ in 0..200 {
        let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| is_alive(*pid)) {
            signal(pid, SIGKILL);
        }
        let _ = Command::new("find")
            .arg(group)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
            .output();
        if !group.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    println!("left behind: {}", group.display());
}

/// Where the first such cgroup file system is mounted.
fn cgroup_mount(is_it: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        is_it(name, options).then(|| place.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// The child of a process with that name.
fn child_of(parent: u32, comm: &str) -> Option<i32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let mut children = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
    children.find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == comm)
    })
}

/// Is this root? Says that the test is skipped for anybody else.
pub fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        println!("skipped: needs root");
    }
    is_root
}

fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", both(&output))),
    }
}
