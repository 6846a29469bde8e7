//! New lives and the same life: what each of them keeps of wishes and of the list.

use crate::support::{Pair, SIGKILL, SIGTERM, has_tool, is_alive, signal, wait_until};
use crate::tools::{exits, finish, is_root, power_cut, rebooted, twins};
use crate::{list, sleeper, take_over};
use std::collections::BTreeMap;
use std::fs;

/// Servers whose wish is another one than `autoStart` would have.
const SERVERS: [(&str, &str); 6] = [
    ("auto", "autoStart = true"),
    ("auto-stopped", "autoStart = true"),
    ("manual", "autoStart = false"),
    ("kept", "autoStart = \"remember\""),
    ("kept-stopped", "autoStart = \"remember\""),
    ("off", "autoStart = true"),
];

/// All are up but those that were stopped; `off` runs, and is disabled.
fn world(node: &str) -> Pair {
    let servers: String = SERVERS.iter().map(|(name, more)| sleeper(name, more)).collect();
    let pair = Pair::new(node, &servers);
    pair.start();
    exits(&pair, &["start", "all"], 0);
    exits(&pair, &["stop", "auto-stopped", "kept-stopped"], 0);
    exits(&pair, &["disable", "off"], 0);
    pair
}

const SAME_LIFE: [&str; 4] = ["auto", "kept", "manual", "off"];
const NEW_LIFE: [&str; 3] = ["auto", "auto-stopped", "kept"];

fn up(pids: &BTreeMap<String, i32>) -> Vec<&str> {
    pids.keys().map(String::as_str).collect()
}

fn assert_new_life(pair: &Pair) {
    let pids = pair.pids();
    assert_eq!(up(&pids), NEW_LIFE);
    let off = pair.server("off");
    assert_eq!((&off["enabled"], &off["wanted"]), (&false.into(), &"down".into()));
    assert_eq!(list(pair), "off\n");
    assert_eq!(pair.status()["takeovers"], 0);
}

#[test]
fn a_takeover_and_the_death_of_both_are_the_same_life() {
    let pair = world("");
    let pids = pair.pids();
    assert_eq!(up(&pids), SAME_LIFE);
    take_over(&pair);
    assert_eq!(pair.pids(), pids);
    let (active, standby) = twins(&pair);
    signal(standby, SIGKILL);
    signal(active, SIGKILL);
    let is_new = |role: &str, old: i32| pair.twin(role).is_some_and(|pid| pid != old);
    wait_until("a new pair", || is_new("active", active) && pair.status()["pair"] == "ok");
    assert_eq!(pair.pids(), pids);
    let off = pair.server("off");
    assert_eq!((&off["enabled"], &off["wanted"]), (&false.into(), &"up".into()));
}

#[test]
fn a_shutdown_that_keeps_servers_is_the_same_life_and_what_ended_meanwhile_is_started_again() {
    let pair = world("");
    let pids = pair.pids();
    exits(&pair, &["shutdown"], 0);
    pair.start();
    assert_eq!(pair.pids(), pids);
    exits(&pair, &["shutdown"], 0);
    signal(pids["manual"], SIGKILL);
    signal(pids["off"], SIGKILL);
    wait_until("their death", || !is_alive(pids["manual"]) && !is_alive(pids["off"]));
    pair.start();
    pair.wait_state("manual", "RUNNING");
    pair.wait_state("off", "STOPPED");
    let now = pair.pids();
    assert_eq!(up(&now), ["auto", "kept", "manual"]);
    assert!(now["auto"] == pids["auto"] && now["manual"] != pids["manual"]);
}

#[test]
fn a_shutdown_with_servers_begins_a_new_life() {
    let pair = world("");
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    wait_until("no process to be left", || pair.processes().is_empty());
    pair.start();
    assert_new_life(&pair);
}

#[test]
fn sigterm_begins_a_new_life_unless_it_keeps_the_servers() {
    for (node, states) in [("", &NEW_LIFE[..]), ("onTerm = \"keep-servers\"", &SAME_LIFE[..])] {
        let pair = world(node);
        signal(pair.pid_of("keeper"), SIGTERM);
        wait_until("the end of the pair", || pair.status()["pair"] == "down");
        wait_until("the keeper's end", || {
            pair.run(&["status", "--pair"]).status.code() == Some(3)
                || pair.run(&["status"]).status.code() == Some(69)
        });
        pair.start();
        assert_eq!(up(&pair.pids()), states, "{node}");
    }
}

#[test]
fn a_reboot_begins_a_new_life_in_which_the_remembered_are_as_they_were_and_disabled_stay_down() {
    if !is_root("a mount namespace") || !has_tool("unshare") {
        return;
    }
    let pair = world("");
    // Whoever was active last: its memory is not what outlives the reboot.
    take_over(&pair);
    power_cut(&pair);
    let id = pair.home.join("boot_id");
    fs::write(&id, "11111111-2222-3333-4444-555555555555\n").unwrap();
    let output = finish(rebooted(&pair, &id), "run after a reboot");
    assert!(output.status.success(), "{}", crate::support::both(&output));
    assert_new_life(&pair);
    // And once more, with nothing but the list: the run directory is worth nothing after a reboot.
    power_cut(&pair);
    fs::remove_dir_all(pair.home.join("run")).unwrap();
    fs::write(&id, "22222222-2222-3333-4444-555555555555\n").unwrap();
    let output = finish(rebooted(&pair, &id), "run after a reboot");
    assert!(output.status.success(), "{}", crate::support::both(&output));
    assert_new_life(&pair);
}

#[test]
fn after_a_reboot_nothing_is_started_when_nobody_can_say_what_is_disabled() {
    let pair = Pair::new("", &sleeper("web", ""));
    fs::create_dir_all(pair.home.join("state/disabled")).unwrap();
    let output = finish(pair.command(&["run", "--detach"]), "run");
    assert!(!output.status.success());
    let text = crate::support::both(&output);
    assert!(text.contains("state/disabled, so nobody knows which servers are disabled"), "{text}");
    wait_until("no process to be left", || pair.processes().is_empty());
    fs::remove_dir(pair.home.join("state/disabled")).unwrap();
    pair.start();
}
