//! The keeper as PID 1 of a container: it reaps what nobody else does, passes signals on, and with
//! it everything ends.

use crate::support::{Pair, SIGKILL, SIGTERM, binary, is_alive, signal, wait_for, wait_until};
use crate::{has_tool, is_root};
use std::fs;
use std::process::{Child, Command, Stdio};

const SIGHUP: i32 = 1;

/// Leaves orphans behind over and over, each of which ends at once.
const ORPHANS: &str = "[[server]]\nname = \"orphans\"\n\
    command = [\"/bin/sh\", \"-c\", \"for i in 1 2 3 4 5 6 7 8 9; do (setsid sh -c 'sleep 0.1' &); done; echo done; exec sleep 100000\"]\n";
const WEB: &str = "[[server]]\nname = \"web\"\ncommand = [\"/bin/sleep\", \"100000\"]\n";

/// `run` as PID 1 of a namespace; ended when it is dropped.
struct Container(Child);

impl Container {
    fn new(pair: &Pair) -> Option<Container> {
        if !is_root() || !has_tool("unshare") {
            return None;
        }
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(binary());
        command.args(["run", "-c"]).arg(pair.config());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Some(Container(command.spawn().expect("unshare runs")))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // --kill-child: its PID 1 goes with it, and with that all others.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processes of the pair with that name, by their numbers out here.
fn named(pair: &Pair, comm: &str) -> Vec<i32> {
    let is_it = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == comm)
    };
    pair.processes().into_iter().filter(is_it).collect()
}

/// The servers that sleep for long, by their numbers out here.
fn servers(pair: &Pair) -> Vec<i32> {
    let sleeps_long = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.ends_with(b"sleep\x00100000\x00")
    };
    pair.processes().into_iter().filter(sleeps_long).collect()
}

fn zombies_of(parent: i32) -> usize {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().filter(|pid| !is_alive(pid.parse().unwrap_or(0))).count()
}

#[test]
fn as_pid_1_the_keeper_goes_through_a_takeover_reaps_orphans_applies_and_ends_everything() {
    let pair = Pair::new("", &(ORPHANS.to_string() + WEB));
    let Some(mut inside) = Container::new(&pair) else { return };
    let count = |text: &str| pair.log(false).matches(text).count();
    let watching = || count("is WATCHING");
    wait_until("the pair", || watching() == 1 && count("RUNNING, PID") == 2);
    let keeper = named(&pair, "nm-keeper")[0];
    let status = fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap();
    assert_eq!(inner.split_whitespace().last(), Some("1"));
    wait_until("the orphans", || pair.output_of("orphans").contains("done"));
    let before = wait_for("the servers", || Some(servers(&pair)).filter(|all| all.len() == 2));
    wait_until("the orphans are gone", || named(&pair, "sleep").len() == 2);

    signal(named(&pair, "nm-active")[0], SIGKILL);
    wait_until("a takeover", || watching() == 2);
    wait_until("no zombie to be left", || zombies_of(keeper) == 0);
    assert_eq!(servers(&pair), before);

    pair.configure("", &(ORPHANS.to_string() + WEB + &WEB.replace("web", "more")));
    signal(keeper, SIGHUP);
    wait_until("the third server", || servers(&pair).len() == 3);

    wait_until("a whole pair", || named(&pair, "nm-standby").len() == 1);
    signal(keeper, SIGTERM);
    let ended = wait_for("the end", || inside.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    wait_until("no process to be left", || pair.processes().is_empty());
}

#[test]
fn pid_1_refuses_to_keep_servers_when_it_ends() {
    let pair = Pair::new("onTerm = \"keep-servers\"", WEB);
    let Some(mut inside) = Container::new(&pair) else { return };
    let ended = wait_for("the refusal", || inside.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(78));
    let mut said = String::new();
    let stderr = inside.0.stderr.as_mut().expect("its standard error");
    std::io::Read::read_to_string(stderr, &mut said).unwrap();
    assert!(said.contains("keep-servers") && said.contains("PID 1"), "{said}");
}
