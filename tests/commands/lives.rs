//! Lives of the pair: what a new one takes over from the one before; the scripts.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::*;

#[test]
fn a_server_that_died_while_no_pair_ran_is_not_shown_as_up() {
    let pair = Pair::new("", &sleeper("a", ""));
    pair.start();
    let pids = pair.pids();
    exits(&pair, &["shutdown"], 0);
    signal(pids["a"], SIGKILL);
    wait_until("its death", || !is_alive(pids["a"]));
    assert_eq!(pair.server("a")["state"], "STOPPED");
    // The same life goes on: it was wanted up.
    pair.start();
    let server = pair.wait_state("a", "RUNNING");
    assert_ne!(pid(&server), pids["a"]);
}

#[test]
fn shutdown_without_a_pair_kills_a_deaf_server_and_its_children() {
    let script = "trap '' TERM
        sh -c 'trap \"\" TERM; echo $$$$ > {home}/child; exec sleep 1000' & 
        echo ready; while :; do sleep 1; done";
    let pair = Pair::new("", &shell("deaf", script, "stop = { timeout = \"300ms\" }"));
    pair.start();
    let child = pid_in(&pair.home.join("child"));
    wait_until("the trap to be set", || pair.output_of("deaf").contains("ready"));
    let leader = pair.pids()["deaf"];
    exits(&pair, &["shutdown"], 0);
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    assert!(!is_alive(leader) && !is_alive(child));
}

// ---- logs

#[test]
fn in_a_new_life_auto_start_decides_and_in_the_same_life_nothing_changes() {
    let servers: String = THREE_WAYS.iter().map(|(name, more)| sleeper(name, more)).collect();
    let pair = Pair::new("", &servers);
    pair.start();
    let states = || THREE_WAYS.map(|(name, _)| pair.server(name)["wanted"].as_str() == Some("up"));
    assert_eq!(states(), [true, false, false, false]);
    exits(&pair, &["start", "all"], 0);
    exits(&pair, &["stop", "gone"], 0);
    let same = pair.pids();
    exits(&pair, &["shutdown"], 0);
    pair.start();
    assert_eq!((states(), pair.pids()), ([true, true, true, false], same));
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    pair.start();
    assert_eq!(states(), [true, false, true, false]);
}

#[test]
fn after_a_reboot_auto_start_decides_and_no_process_on_record_is_believed() {
    if !is_root("a mount namespace") || !has_tool("unshare") {
        return;
    }
    // No mark: a survivor with the mark would be no reboot.
    let servers: String = THREE_WAYS.iter().map(|(name, more)| sleeper(name, more)).collect();
    let pair = Pair::new("", &servers);
    pair.start();
    exits(&pair, &["start", "all"], 0);
    exits(&pair, &["stop", "gone"], 0);
    let old = pair.pids();
    power_cut(&pair);
    let id = pair.home.join("boot_id");
    fs::write(&id, "11111111-2222-3333-4444-555555555555\n").unwrap();
    let output = finish(rebooted(&pair, &id), "run after a reboot");
    assert!(output.status.success(), "{}", support::both(&output));
    let server = |name: &str| pair.server(name);
    let up = THREE_WAYS.map(|(name, _)| server(name)["state"] == "RUNNING");
    assert_eq!(up, [true, false, true, false]);
    let now = pair.pids();
    assert!(now.iter().all(|(name, pid)| old.get(name) != Some(pid)), "{old:?} {now:?}");
    assert_eq!(pair.status()["takeovers"], 0);
    assert_eq!(server("always")["restarts"], 0);
}

// ---- the scripts

#[test]
fn the_scripts_start_and_stop_a_pair() {
    let demo =
        format!("command = [\"{}\", \"--port\", \"{{port}}\"]", example("demo_server").display());
    let other = support::free_port().to_string();
    let server = format!("[[server]]\nname = \"demo\"\n{}\n", demo.replace("{port}", &other));
    let pair = Pair::new("", &server);
    let bin = scripts(&pair);
    let config = pair.config().display().to_string();
    // conf/ beside bin/ is the default; -c names another.
    has(&script(&bin, "startNodeManager", &[], 0), &["active ", "WATCHING", "demo RUNNING"]);
    let before = twins(&pair);
    has(&script(&bin, "startNodeManager", &["-c", &config], 0), &["already running"]);
    assert_eq!(twins(&pair), before);
    for option in ["-host", "-port"] {
        has(&script(&bin, "stopNodeManager", &[option, "elsewhere"], 64), &["no remote port"]);
    }
    script(&bin, "stopNodeManager", &["-nonsense"], 64);
    assert_eq!(twins(&pair), before);
    let server = pair.pids()["demo"];
    has(
        &script(&bin, "stopNodeManager", &["-verbose", "-c", &config], 0),
        &["demo", &server.to_string()],
    );
    assert!(is_alive(server));
    script(&bin, "startNodeManager", &["-c", &config], 0);
    assert_eq!(pair.pids()["demo"], server);
    script(&bin, "stopNodeManager", &["-stopServer"], 0);
    wait_until("no process to be left", || pair.processes().is_empty());
    script(&bin, "stopNodeManager", &[], 69);
    script(&bin, "startNodeManager", &["-c", "/nonexistent.toml"], 78);
}

#[test]
fn the_start_script_stays_in_the_foreground_when_told_to() {
    let pair = Pair::new("", &sleeper("a", ""));
    let bin = scripts(&pair);
    let mut command = Command::new(bin.join("startNodeManager"));
    command.args(["--foreground", "-c"]).arg(pair.config()).stdin(Stdio::null());
    let mut child = Ended(command.spawn().unwrap());
    pair.wait_whole();
    let keeper = pair.pid_of("keeper");
    assert_eq!(keeper, child.0.id() as i32);
    signal(keeper, SIGTERM);
    assert!(child.0.wait().unwrap().success());
    wait_for("no process to be left", || pair.processes().is_empty().then_some(()));
}
