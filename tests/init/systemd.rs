//! The units below a real systemd: whatever is killed, servers keep their PIDs and the unit is active.

use crate::machine::Machine;
use crate::project;
use crate::support::{binary, both, wait_for, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;

const UNIT: &str = "nodemanager.service";
const CONFIG: &str = "/etc/nodemanager/nodemanager.toml";

/// What the units expect of a configuration, and two servers.
fn config(node: &str) -> String {
    format!(
        "[nodeManager]\nname = \"unit\"\nstandbyPort = 7731\nheartbeatInterval = \"100ms\"\nheartbeatTimeout = \"1s\"\n\
         runDir = \"/run/nodemanager\"\nstateDir = \"/var/lib/nodemanager\"\nlogDir = \"/var/log/nodemanager\"\n{node}\n\
         [[server]]\nname = \"web\"\ncommand = [\"/bin/sh\", \"-c\", \"env; exec sleep 100000\"]\n\
         [[server]]\nname = \"idle\"\ncommand = [\"/bin/sleep\", \"100000\"]\nautoStart = false\n"
    )
}

/// A machine with the unit and this configuration, booted, the unit started.
fn started(node: &str) -> Option<Machine> {
    let mut machine = Machine::new()?;
    machine.copy(binary().as_ref(), "/usr/bin/nodemanager");
    machine.copy(
        &project("conf/systemd/nodemanager.service"),
        "/etc/systemd/system/nodemanager.service",
    );
    machine.write(CONFIG, &config(node));
    machine.boot();
    machine.ok(&["systemctl", "enable", "--now", UNIT]);
    Some(machine)
}

fn pid_of(status: &Value, role: &str) -> Option<i64> {
    status[role]["pid"].as_i64()
}

/// The PIDs of the servers by name.
fn servers(status: &Value) -> BTreeMap<String, i64> {
    let all = status["servers"].as_array().cloned().unwrap_or_default();
    let named = all.iter().filter_map(|one| Some((one["name"].as_str()?, one["pid"].as_i64()?)));
    named.map(|(name, pid)| (name.to_string(), pid)).collect()
}

/// The status of a whole pair whose unit is active with the pair's keeper as its main process, and
/// none of these processes in it.
fn whole_without(machine: &Machine, killed: &[i64]) -> Value {
    wait_for("an active unit with a whole pair", || {
        let status = machine.status();
        let keeper = pid_of(&status, "keeper")?;
        let roles = ["active", "standby", "keeper"].map(|role| pid_of(&status, role));
        let is_new = roles.iter().flatten().all(|pid| !killed.contains(pid));
        let is_active = machine.property(UNIT, "ActiveState") == "active"
            && machine.property(UNIT, "SubState") == "running";
        let is_main = machine.property(UNIT, "MainPID") == keeper.to_string();
        (status["pair"] == "ok" && is_new && is_active && is_main).then_some(status)
    })
}

#[test]
fn whoever_is_killed_below_systemd_servers_keep_their_pids_and_the_unit_is_active_again() {
    let Some(machine) = started("") else { return };
    let mut status = whole_without(&machine, &[]);
    let before = servers(&status);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["web"]);
    for roles in [
        &["active"][..],
        &["standby"],
        &["active", "standby"],
        &["keeper"],
        &["keeper", "active"],
        &["keeper", "standby"],
        &["keeper", "active", "standby"],
        &["active"],
    ] {
        let killed: Vec<i64> = roles.iter().filter_map(|role| pid_of(&status, role)).collect();
        machine.kill(&killed);
        status = whole_without(&machine, &killed);
        assert_eq!(servers(&status), before, "after the kill of {roles:?}");
        let active = pid_of(&status, "active").expect("an active");
        let standby = pid_of(&status, "standby").expect("a standby");
        let text = format!("active {active}, standby {standby}");
        wait_until("STATUS= with the roles", || machine.property(UNIT, "StatusText") == text);
    }
    // What systemd says to the keeper is for nobody else.
    let said = machine.ok(&["cat", "/var/log/nodemanager/web.out"]);
    assert!(said.contains("NM_SERVER=") && !said.contains("NOTIFY_SOCKET"), "{said}");
    let heard = machine.ok(&["journalctl", "-u", UNIT, "-o", "cat"]);
    assert!(!heard.contains("Got notification message from PID"), "{heard}");
}

#[test]
fn a_stop_ends_all_in_order_and_shutdown_is_not_revived_but_a_start_afterwards_works() {
    let Some(machine) = started("") else { return };
    let before = servers(&whole_without(&machine, &[]));
    machine.ok(&["systemctl", "stop", UNIT]);
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(machine.property(UNIT, "Result"), "success");
    let is_alive = |pids: &BTreeMap<String, i64>| {
        pids.values()
            .any(|pid| machine.run(&["test", "-d", &format!("/proc/{pid}")]).status.success())
    };
    assert!(!is_alive(&before));

    machine.ok(&["systemctl", "start", UNIT]);
    let before = servers(&whole_without(&machine, &[]));
    machine.ok(&["systemctl", "restart", UNIT]);
    let after = servers(&whole_without(&machine, &[]));
    assert!(before["web"] != after["web"], "restart stops and starts");

    // An operator's command is no failure.
    let starts = machine.property(UNIT, "NRestarts");
    machine.ok(&["nodemanager", "shutdown", "--keep-servers", "-c", CONFIG]);
    wait_until("the unit is down", || machine.property(UNIT, "ActiveState") == "inactive");
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    assert_eq!(machine.property(UNIT, "NRestarts"), starts);
    assert!(is_alive(&after));
    machine.ok(&["systemctl", "start", UNIT]);
    assert_eq!(
        servers(&whole_without(&machine, &[])),
        after,
        "found again beside left-over processes"
    );
}

#[test]
fn a_restart_of_the_unit_keeps_servers_that_on_term_keeps() {
    let Some(machine) = started("onTerm = \"keep-servers\"") else { return };
    let status = whole_without(&machine, &[]);
    let keeper = pid_of(&status, "keeper").expect("a keeper");
    machine.ok(&["systemctl", "restart", UNIT]);
    assert_eq!(servers(&whole_without(&machine, &[keeper])), servers(&status));
}

#[test]
fn a_stop_that_takes_longer_than_systemd_would_wait_is_given_more_time() {
    let slow = "[[server]]\nname = \"slow\"\nstop = { timeout = \"4s\" }\n\
                command = [\"/bin/sh\", \"-c\", \"trap '' TERM; while :; do sleep 1; done\"]\n";
    let Some(machine) = started("") else { return };
    machine.write(
        "/etc/systemd/system/nodemanager.service.d/s.conf",
        "[Service]\nTimeoutStopSec=1s\n",
    );
    machine.write(CONFIG, &(config("") + slow));
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.ok(&["systemctl", "reload", UNIT]);
    machine.ok(&["systemctl", "stop", UNIT]);
    assert_eq!(machine.property(UNIT, "Result"), "success");
    assert!(!machine.run(&["pgrep", "-f", "trap '' TERM"]).status.success());
}

#[test]
fn a_reload_applies_the_file_or_says_why_not_and_a_sighup_is_told_as_reloading() {
    let Some(machine) = started("") else { return };
    let before = servers(&whole_without(&machine, &[]));
    let more = config("") + "[[server]]\nname = \"more\"\ncommand = [\"/bin/sleep\", \"100000\"]\n";
    machine.write(CONFIG, &more);
    machine.ok(&["systemctl", "reload", UNIT]);
    let after = servers(&machine.status());
    assert!(after["web"] == before["web"] && after.contains_key("more"), "{after:?}");

    machine.write(CONFIG, &(more.clone() + "nonsense = 1\n"));
    let output = machine.run(&["systemctl", "reload", UNIT]);
    assert!(!output.status.success(), "{}", both(&output));
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    assert!(machine.ok(&["journalctl", "-u", UNIT, "-o", "cat"]).contains("nonsense"));

    machine.write(CONFIG, &config(""));
    machine.ok(&["systemctl", "kill", "-s", "HUP", "--kill-who=main", UNIT]);
    wait_until("the server is gone again", || servers(&machine.status()) == before);
    let status = whole_without(&machine, &[]);
    let active = pid_of(&status, "active").expect("an active");
    wait_until("STATUS= after the reload", || {
        machine.property(UNIT, "StatusText").starts_with(&format!("active {active}"))
    });
}

#[test]
fn a_wrong_configuration_is_not_tried_again_and_the_unit_says_why() {
    let Some(machine) = started("") else { return };
    machine.ok(&["systemctl", "stop", UNIT]);
    machine.write(CONFIG, &config("nonsense = 1"));
    let output = machine.run(&["systemctl", "start", UNIT]);
    assert!(!output.status.success(), "{}", both(&output));
    assert_eq!(machine.property(UNIT, "ActiveState"), "failed");
    assert_eq!(machine.property(UNIT, "ExecMainStatus"), "78");
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
    assert!(machine.ok(&["journalctl", "-u", UNIT, "-o", "cat"]).contains("nonsense"));
}

#[test]
fn after_a_power_cut_the_unit_comes_up_and_auto_start_decides() {
    let Some(mut machine) = started("") else { return };
    whole_without(&machine, &[]);
    machine.ok(&["nodemanager", "start", "idle", "-c", CONFIG]);
    machine.ok(&["nodemanager", "disable", "web", "-c", CONFIG]);
    machine.cut_power();
    machine.boot();
    let status = whole_without(&machine, &[]);
    assert_eq!(servers(&status), BTreeMap::new(), "web is disabled, idle has autoStart = false");
    machine.ok(&["nodemanager", "enable", "--now", "web", "-c", CONFIG]);
    machine.cut_power();
    machine.boot();
    let status = whole_without(&machine, &[]);
    assert_eq!(servers(&status).keys().collect::<Vec<_>>(), ["web"]);
}

#[test]
fn the_units_are_right_in_the_eyes_of_systemd_analyze() {
    let Some(mut machine) = Machine::new() else { return };
    machine.copy(binary().as_ref(), "/usr/bin/nodemanager");
    machine.write("/usr/share/doc/nodemanager/INIT.md", "");
    let units = ["nodemanager.service", "nodemanager@.service", "user/nodemanager.service"];
    for unit in units {
        machine.copy(&project(&format!("conf/systemd/{unit}")), &format!("/units/{unit}"));
    }
    machine.boot();
    for unit in units {
        let path = format!("/units/{unit}").replace("@.", "@one.");
        let from = format!("/units/{unit}");
        machine.run(&["cp", "-n", &from, &path]);
        let mut words =
            vec!["env", "XDG_RUNTIME_DIR=/run", "systemd-analyze", "verify", "--man=no"];
        words.extend(unit.starts_with("user/").then_some("--user"));
        let output = machine.run(&[&words[..], &[path.as_str()]].concat());
        assert!(output.status.success() && output.stderr.is_empty(), "{unit}: {}", both(&output));
    }
    for unit in ["nodemanager.service", "nodemanager@one.service"] {
        let path = format!("/units/{unit}");
        let words = ["systemd-analyze", "security", "--offline=true", "--no-pager"];
        let output = machine.run(&[&words[..], &["--threshold=52", path.as_str()]].concat());
        assert!(output.status.success(), "{unit}: {}", both(&output));
    }
}
