//! Groups of the tests' own, below this process's; skipped where none can be made.

use super::*;
use crate::sys::testing::wait_until;
use std::process::{Child, Command};

/// A group that is emptied and removed at the end.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Option<Group> {
        let dir = own()?.join(format!("nm-unit-{name}-{}", std::process::id()));
        match fs::create_dir(&dir) {
            Ok(()) => Some(Group(dir)),
            Err(error) => {
                println!("skipped: cannot make {}: {error}", dir.display());
                None
            }
        }
    }

    fn run(&self, script: &str) -> Child {
        let enter = format!("echo 0 > {}/cgroup.procs; {script}", self.0.display());
        Command::new("/bin/sh").args(["-c", &enter]).spawn().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill(&self.0);
        for _ in 0..1_000 {
            if remove(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn a_mount_is_found_in_mountinfo_with_what_it_shows() {
    let line = "41 31 0:38 /a\\040b /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw";
    assert_eq!(mount(line), Some(("/a b".into(), "/sys/fs/cgroup".into())));
    assert_eq!(mount("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
    assert_eq!(mount(""), None);
    assert_eq!(path_in("9:cpu:/x\n0::/sys/a:b\n").as_deref(), Some("/sys/a:b"));
}

#[test]
fn numbers_are_read_by_their_whole_key() {
    let text = "low 1\noom_kill 3\noom_kill_disable 7\n";
    assert_eq!(value_in(text, "oom_kill"), Some(3));
    assert_eq!(value_in(text, "oom"), None);
    assert_eq!(value_in("oom_kill", "oom_kill"), None);
}

#[test]
fn a_group_that_is_not_there_has_nobody() {
    let dir = Path::new("/nowhere/at/all");
    assert!(!is_populated(dir).unwrap() && usage(dir).is_none() && oom_kills(dir).is_none());
    assert!(matches!(living(dir).unwrap(), Living::Empty));
    assert!(kill(dir).is_ok() && remove(dir).is_ok());
}

#[test]
fn who_left_the_process_group_is_found_and_killed_with_those_below() {
    let Some(group) = Group::new("kill") else { return };
    fs::create_dir(group.0.join("inner")).unwrap();
    let script = format!(
        "setsid sleep 99 & echo 0 > {}/inner/cgroup.procs; exec sleep 98",
        group.0.display()
    );
    for way in [kill, kill_one_by_one] {
        let mut child = group.run(&script);
        wait_until("both are there", || members(&group.0).unwrap().len() == 2);
        assert!(matches!(living(&group.0).unwrap(), Living::Member(..)));
        assert!(remove(&group.0).is_err(), "somebody lives in it");
        fs::create_dir(group.0.join("inner")).unwrap_or_default();
        way(&group.0).unwrap();
        wait_until("nobody is left", || matches!(living(&group.0), Ok(Living::Empty)));
        child.wait().unwrap();
    }
    remove(&group.0).unwrap();
    assert!(!group.0.exists());
}

#[test]
fn a_signal_reaches_those_outside_the_process_group_only() {
    let Some(group) = Group::new("signal") else { return };
    let mut child = group.run("setsid sleep 99 & exec sleep 98");
    let own = i32::try_from(std::process::id()).unwrap();
    wait_until("both are there", || members(&group.0).unwrap().len() == 2);
    wait_until("one of them left", || {
        let members = members(&group.0).unwrap();
        members.iter().any(|(pid, _)| process::group(*pid).is_ok_and(|group| group == *pid))
    });
    let pid = i32::try_from(child.id()).unwrap();
    let their_group = process::group(pid).unwrap();
    assert_eq!(their_group, process::group(own).unwrap());
    signal_outside(&group.0, their_group, libc::SIGTERM).unwrap();
    wait_until("one is left", || {
        let alive = members(&group.0).unwrap().into_iter().filter(|(_, fd)| !pidfd::is_dead(fd));
        alive.map(|(pid, _)| pid).eq([pid])
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_figures_count_every_process_of_the_group() {
    let Some(group) = Group::new("usage") else { return };
    let mut child = group.run("(while :; do :; done) & while :; do :; done");
    wait_until("time was used", || usage(&group.0).is_some_and(|found| found.cpu_ms > 20));
    let all = usage(&group.0).unwrap();
    let one = process::usage(i32::try_from(child.id()).unwrap()).unwrap();
    assert!(all.rss_bytes > one.rss_bytes, "{all:?} {one:?}");
    kill(&group.0).unwrap();
    child.wait().unwrap();
}

#[test]
fn what_a_controller_does_not_take_is_an_error_and_no_word_is_a_delegation() {
    let Some(group) = Group::new("write") else { return };
    assert!(is_group(&group.0) && !is_marked_as_delegated(&group.0) && is_owned(&group.0));
    assert!(!is_group(Path::new("/tmp")));
    assert!(write(&group.0, "nothing.max", "1").is_err());
    assert!(controllers(&group.0).is_ok());
    assert!(enable(&group.0, "nothing").is_err());
}
