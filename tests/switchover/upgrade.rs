//! `upgrade`: the pair moves to the program on disk, or nothing changes.

use super::SLEEPERS;
use super::next_version::{self, FIELD, NEXT};
use super::support::{Pair, SIGKILL, SIGTERM, binary, both, signal, wait_until};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const OWN: &str = env!("CARGO_PKG_VERSION");

/// A pair that runs a program of its own, which can be replaced.
struct Installed {
    pair: Pair,
    program: PathBuf,
}

impl Installed {
    fn new() -> Installed {
        let pair = Pair::new("", SLEEPERS);
        let program = pair.config().with_file_name("nodemanager");
        let installed = Installed { pair, program };
        installed.install(Path::new(binary()));
        let started = installed.run(&["run", "--detach"]);
        assert!(started.status.success(), "{}", both(&started));
        installed
    }

    /// As a package does it: the new file is written beside the old one and takes its name.
    fn install(&self, from: &Path) {
        let new = self.program.with_extension("new");
        fs::copy(from, &new).expect("a copy of the program");
        fs::rename(new, &self.program).expect("the program");
    }

    fn install_text(&self, text: &str, mode: u32) {
        let new = self.program.with_extension("new");
        fs::write(&new, text).expect("a program");
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("its mode");
        fs::rename(new, &self.program).expect("the program");
    }

    /// The commands are those of the tested program, whatever is installed.
    fn command(&self, words: &[&str]) -> Command {
        let own = self.pair.config().with_file_name("command");
        if !own.exists() {
            fs::copy(binary(), &own).expect("a copy of the program");
        }
        let is_run = words.first() == Some(&"run");
        let mut command = Command::new(if is_run { &self.program } else { &own });
        command.args(words).arg("-c").arg(self.pair.config()).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the program can be run")
    }

    fn versions(&self) -> (String, String) {
        let status = self.pair.status();
        let of = |role: &str| status[role]["version"].as_str().unwrap_or("none").to_owned();
        (of("active"), of("standby"))
    }

    fn wait_keeper_runs(&self, program: &Path) {
        let inode = |path: &Path| fs::metadata(path).map(|one| (one.dev(), one.ino())).ok();
        wait_until("the keeper to run the program", || {
            let keeper = format!("/proc/{}/exe", self.pair.pid_of("keeper"));
            inode(Path::new(&keeper)) == inode(program)
        });
    }

    fn journal(&self) -> String {
        let run = self.pair.config().parent().and_then(Path::parent).expect("its home").join("run");
        let files = fs::read_dir(run).expect("the run directory").flatten();
        let journals =
            files.filter(|file| file.file_name().to_string_lossy().starts_with("journal"));
        let read = |path: PathBuf| {
            String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
        };
        journals.map(|file| read(file.path())).collect()
    }
}

#[test]
fn the_keeper_follows_and_stays_the_process_that_it_is() {
    let Some(next) = next_version::program() else { return };
    let one = Installed::new();
    let (servers, keeper) = (one.pair.pids(), one.pair.pid_of("keeper"));
    one.install(&next);
    assert!(one.run(&["upgrade"]).status.success());
    one.wait_keeper_runs(&one.program);
    assert_eq!(one.pair.pid_of("keeper"), keeper);
    let second = one.run(&["run"]);
    assert_eq!(second.status.code(), Some(75), "its lock is held: {}", both(&second));
    for role in ["standby", "active"] {
        signal(one.pair.pid_of(role), SIGKILL);
    }
    one.pair.wait_whole();
    assert_eq!((one.versions(), one.pair.pids()), (both_are(NEXT), servers));
    // Its status comes by the keeper: the active that started it is gone.
    signal(one.pair.pids()["a"], SIGKILL);
    wait_until("the exit status", || one.pair.server("a")["lastExit"]["signal"] == "SIGKILL");
    one.pair.wait_state("a", "RUNNING");
    signal(keeper, SIGTERM);
    wait_until("the end of all", || one.pair.processes().is_empty());
    assert!(one.pair.log(false).contains("0033] the keeper goes on with the program"));
}

fn both_are(version: &str) -> (String, String) {
    (version.to_owned(), version.to_owned())
}

#[test]
fn the_whole_pair_moves_to_the_program_on_disk_and_back_and_no_server_notices() {
    let Some(next) = next_version::program() else { return };
    let one = Installed::new();
    let servers = one.pair.pids();
    assert_eq!(one.versions(), both_are(OWN));
    let nothing = one.run(&["upgrade"]);
    assert!(both(&nothing).contains("as it is on disk; nothing to do"), "{}", both(&nothing));
    one.install(&next);
    let said = one.run(&["upgrade"]);
    assert!(said.status.success(), "{}", both(&said));
    assert!(both(&said).contains(&format!("{OWN} -> {NEXT}: PID ")), "{}", both(&said));
    assert_eq!((one.versions(), one.pair.pids()), (both_are(NEXT), servers.clone()));
    assert_eq!(one.pair.status()["lastSwitchover"]["cause"], "upgrade");
    assert!(one.journal().contains(FIELD));
    one.wait_keeper_runs(&one.program);
    one.install(Path::new(binary()));
    signal(one.pair.pid_of("active"), SIGKILL);
    one.pair.wait_whole();
    assert_eq!(one.versions(), both_are(NEXT), "a takeover never changes the version");
    let said = one.run(&["upgrade"]);
    assert!(said.status.success(), "{}", both(&said));
    assert_eq!((one.versions(), one.pair.pids()), (both_are(OWN), servers));
}

#[test]
fn an_active_killed_in_the_middle_of_an_upgrade_leaves_a_pair_of_one_version_or_the_other() {
    let Some(next) = next_version::program() else { return };
    let one = Installed::new();
    let servers = one.pair.pids();
    for round in 0..8_u64 {
        one.pair.wait_whole();
        let is_back = one.versions() == both_are(NEXT);
        one.install(if is_back { Path::new(binary()) } else { &next });
        let active = one.pair.pid_of("active");
        let mut upgrade = one.command(&["upgrade"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 25));
        signal(active, SIGKILL);
        let code = upgrade.wait().unwrap().code();
        assert!(matches!(code, Some(0 | 1 | 75)), "{round}: {code:?}");
        one.pair.wait_whole();
        let (active, standby) = one.versions();
        assert!(active == standby && [OWN, NEXT].contains(&active.as_str()), "{active} {standby}");
        assert_eq!(one.pair.pids(), servers);
    }
}

#[test]
fn a_program_that_does_not_work_changes_nothing() {
    let one = Installed::new();
    let home = one.pair.config().with_file_name("good");
    fs::copy(binary(), &home).unwrap();
    let good = home.display();
    // Each proves less than it must: the last one only fails when it is to be the standby.
    let programs = [
        ("", 0o755),
        ("no program", 0o644),
        ("#!/bin/sh\nexit 0\n", 0o755),
        ("#!/bin/sh\nexit 70\n", 0o755),
        ("#!/nowhere\n", 0o755),
        ("#!/bin/sh\nkill -SEGV $$\n", 0o755),
        ("#!/bin/sh\nexec sleep 0.1\n", 0o755),
    ];
    let half = format!("#!/bin/sh\n[ \"$1\" = prover ] && exec {good} \"$@\"\nexit 70\n");
    let (servers, active) = (one.pair.pids(), one.pair.pid_of("active"));
    for (text, mode) in programs.into_iter().chain([(half.as_str(), 0o755)]) {
        one.install_text(text, mode);
        let said = one.run(&["upgrade"]);
        assert_eq!(said.status.code(), Some(1), "{text:?}: {}", both(&said));
        assert!(both(&said).contains("upgrade"), "{text:?}: {}", both(&said));
        one.pair.wait_whole();
        assert_eq!(one.pair.pid_of("active"), active, "{text:?}");
        assert_eq!((one.versions(), one.pair.pids()), (both_are(OWN), servers.clone()), "{text:?}");
    }
    fs::remove_file(&one.program).unwrap();
    let said = one.run(&["upgrade"]);
    assert!(both(&said).contains("No such file"), "{}", both(&said));
    let log = one.pair.log(false);
    assert!(log.contains("0164]"), "{log}");
    signal(active, SIGKILL);
    one.pair.wait_whole();
    assert_eq!(one.pair.pids(), servers, "the pair needs no file to go on");
}

#[test]
fn a_program_that_proves_nothing_for_a_long_time_is_given_up() {
    let one = Installed::new();
    let active = one.pair.pid_of("active");
    one.install_text("#!/bin/sh\nexec sleep 1000\n", 0o755);
    let said = one.run(&["upgrade"]);
    assert_eq!(said.status.code(), Some(1), "{}", both(&said));
    assert_eq!(one.pair.pid_of("active"), active);
    wait_until("the end of the prover", || one.pair.processes().len() == 3 + 2);
}

#[test]
fn without_standby_port_an_upgrade_is_refused_with_the_way_to_do_it() {
    let pair = Pair::new("none-standbyPort", SLEEPERS);
    pair.run(&["run", "--detach"]);
    let said = pair.run(&["upgrade"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(both(&said).contains("nodemanager shutdown"), "{}", both(&said));
}
