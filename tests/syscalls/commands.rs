//! Situations of what runs beside a server, and of servers that are more than one process: hooks,
//! stop, reload and drain commands, daemons that fork, cgroups.
//!
//! Each command says itself that it began and that it ended. As in `scenarios`, what was asked for
//! must be there when an act returns; a command ran once, whoever was killed meanwhile.

use crate::features::{QUICK, until_done};
use crate::scenarios::*;
use crate::support::cgroup_root::{Root, members};
use crate::support::counted::counted;
use crate::support::{Pair, is_alive, wait_for, wait_until};
use std::collections::BTreeSet;
use std::fs;

/// What commands ran, in a pair's home.
pub const RAN: &str = "ran";
/// Whoever is to wait in the middle waits for this file.
const GO: &str = "go";
/// Where calls fail, a command may fail with them, and is run again with what it belongs to.
const AGAIN_MAX: usize = 3;

/// A command that says what it is; in between it does this.
fn command(does: &str) -> String {
    let says = |word: &str| format!("echo {word} $$NM_TASK >> {{home}}/{RAN}");
    format!("[\"sh\", \"-c\", \"{}; {does}; {}\"]", says("begin"), says("end"))
}

fn hooks(names: &[&str]) -> String {
    let one = |name: &&str| format!("{name} = {}", command(":"));
    format!("hooks = {{ {} }}", names.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// All commands that a start, a reload and a stop may have.
fn hooked() -> String {
    let keys = [
        hooks(&["preStart", "postStart", "preStop", "postStop"]),
        format!("stop = {{ command = {}, timeout = \"50s\" }}", command("kill $$NM_MAIN_PID")),
        format!("reload = {{ command = {} }}", command(":")),
        QUICK.to_owned(),
    ];
    counted("t", "", &keys.join("\n")) + &counted("steady", "", QUICK)
}

fn drained() -> String {
    let check = "test -e {home}/asked || { touch {home}/asked; echo one is left; exit 1; }";
    let check = format!("check = [\"sh\", \"-c\", \"{check}\"], interval = \"20ms\"");
    let drain = format!("drain = {{ command = {}, {check} }}\n{QUICK}", command(":"));
    counted("t", "", &drain) + &counted("steady", "", QUICK)
}

/// A daemon: the child of a process that ends. `first`: what that one does before the daemon's
/// number is in its file.
fn daemon(first: &str) -> String {
    let script = format!(
        "echo start $$$$ >> {{home}}/t.starts; setsid sleep 600 & pid=$!; {first}; \
         echo $pid > {{home}}/t.pid"
    );
    format!(
        "[[server]]\nname = \"t\"\ntype = \"forking\"\npidFile = \"{{home}}/t.pid\"\n{QUICK}\n\
         startTimeout = \"50s\"\ncommand = [\"sh\", \"-c\", \"{}\"]\n{}",
        script.replace("$!", "$$!").replace("$pid", "$$pid"),
        counted("steady", "", QUICK)
    )
}

fn forking() -> String {
    daemon(":")
}

/// Its starter ends at once, and its file is there when the test says so.
fn forking_late() -> String {
    let first = format!("(while ! test -e {{home}}/{GO}; do sleep 0.02; done; :");
    let late = "t.pid) >/dev/null 2>&1 &\"]\nautoStart = false\n";
    daemon(&first).replace("t.pid\"]\n", late)
}

/// Its first hook waits until the test lets it go on.
fn waiting() -> String {
    let waits = command(&format!("while ! test -e {{home}}/{GO}; do sleep 0.02; done"));
    let hook = format!("hooks = {{ preStart = {{ command = {waits}, timeout = \"50s\" }} }}");
    let keys = format!("autoStart = false\n{hook}\n{QUICK}");
    counted("t", "", &keys) + &counted("steady", "", QUICK)
}

fn forget(pair: &Pair) {
    for file in [RAN, GO, "asked"] {
        let _ = fs::remove_file(pair.home.join(file));
    }
}

fn stopped(pair: &Pair) {
    let_go(pair);
    stop_t(pair);
    forget(pair);
}

fn started(pair: &Pair) {
    let_go(pair);
    start_t(pair);
    forget(pair);
}

fn let_go(pair: &Pair) {
    fs::write(pair.home.join(GO), "").expect("a file in the home");
}

/// These commands ran once each, in this order, and were not cut short; no other ran.
fn ran_once(world: &World, names: &[&str]) {
    let read = || {
        let text = fs::read_to_string(world.pair.home.join(RAN)).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<String>>()
    };
    if !world.has_error {
        let one = |name: &&str| [format!("begin {name}"), format!("end {name}")];
        return assert_eq!(read(), names.iter().flat_map(one).collect::<Vec<_>>());
    }
    for name in names {
        let count =
            |word: &str| read().iter().filter(|line| **line == format!("{word} {name}")).count();
        let (begun, ended) = (count("begin"), count("end"));
        assert!(begun <= AGAIN_MAX && ended <= begun, "{name}: {:?}", read());
    }
}

/// All processes of `t` of which a log says that they started, or ended.
fn children(pair: &Pair) -> BTreeSet<String> {
    let logs = pair.log(false) + &pair.log(true);
    let pid = |line: &str| {
        let (_, rest) =
            [" t: starting, PID ", " t: ended, PID "].iter().find_map(|is| line.split_once(is))?;
        Some(rest.chars().take_while(char::is_ascii_digit).collect())
    };
    logs.lines().filter_map(pid).collect()
}

/// A child whose active died between its record and its gate never was a server; the next one has
/// its own preStart.
fn ran_once_for_each_child(world: &World, others: &[&str], act: impl FnOnce()) {
    let before = children(world.pair);
    act();
    let new = children(world.pair).difference(&before).count();
    let mut names = vec!["preStart"; new.clamp(1, 2)];
    names.extend(others);
    ran_once(world, &names);
}

fn act_start_hooked(world: &World) {
    ran_once_for_each_child(world, &["postStart"], || act_start(world));
}

fn act_stop_hooked(world: &World) {
    act_stop(world);
    ran_once(world, &["preStop", "stop", "postStop"]);
}

fn act_reload(world: &World) {
    let pid = world.pair.pids().get("t").copied();
    until_done(world, &["reload", "t"]);
    ran_once(world, &["reload"]);
    assert_eq!(world.pair.pids().get("t").copied(), pid, "a reload starts nothing");
}

fn act_drain(world: &World) {
    world.command(&["drain", "t"]);
    wait_down(world.pair, "t");
    ran_once(world, &["drain"]);
    assert!(world.has_error || world.pair.home.join("asked").exists(), "its check was asked");
}

/// What its file says is what is shown.
fn has_its_daemon(world: &World) {
    let named = fs::read_to_string(world.pair.home.join("t.pid")).unwrap_or_default();
    let shown = world.pair.pids().get("t").copied();
    assert_eq!(named.trim().parse().ok(), shown, "the daemon");
}

fn act_start_forking(world: &World) {
    act_start(world);
    has_its_daemon(world);
}

fn act_stop_forking(world: &World) {
    let daemon = world.pair.pids().get("t").copied().expect("a daemon");
    act_stop(world);
    assert!(!is_alive(daemon), "the daemon");
}

fn group_of(pair: &Pair) -> std::path::PathBuf {
    let text = fs::read_to_string(pair.config()).expect("the configuration");
    let root = text.split("cgroupRoot = \"").nth(1).and_then(|rest| rest.split('"').next());
    Root::group(std::path::Path::new(root.expect("the key")), pair, "t")
}

/// Where a call fails it may run without one, which the log says.
fn act_start_in_cgroup(world: &World) {
    act_start(world);
    let pid = world.pair.pids()["t"];
    assert!(world.has_error || members(&group_of(world.pair)) == [pid], "it is in its cgroup");
}

fn act_stop_in_cgroup(world: &World) {
    act_stop(world);
    let group = group_of(world.pair);
    assert!(members(&group).is_empty(), "nobody is left");
    assert!(world.has_error || !group.exists(), "an empty group is removed");
}

fn ask_for_start(world: &World) {
    world.pair.ok(&["start", "--no-wait", "t"]);
}

fn act_take_over_hook(world: &World) {
    let takes_over = || {
        ask_for_start(world);
        let ran = world.pair.home.join(RAN);
        wait_for("the hook to begin", || fs::read_to_string(&ran).ok());
        act_kill_active(world);
        let_go(world.pair);
    };
    ran_once_for_each_child(world, &[], || once_more(world, "t", takes_over));
}

fn act_take_over_forking(world: &World) {
    let log = || world.pair.log(false) + &world.pair.log(true);
    let told = || log().matches("its main process is looked for").count();
    let before = told();
    once_more(world, "t", || {
        ask_for_start(world);
        wait_until("its daemon to be looked for", || told() > before);
        act_kill_active(world);
        let_go(world.pair);
    });
    has_its_daemon(world);
}

const T: &[&str] = &["t"];

const fn with(servers: fn() -> String, scenario: Scenario) -> Scenario {
    Scenario { servers, ..scenario }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    with(hooked, scenario("start with hooks", Traced::Active, T, stopped, act_start_hooked)),
    with(hooked, scenario("stop with hooks", Traced::Active, T, started, act_stop_hooked)),
    with(hooked, scenario("reload by command", Traced::Active, T, started, act_reload)),
    with(drained, scenario("drain", Traced::Active, T, started, act_drain)),
    with(forking, scenario("start forking", Traced::Active, T, stopped, act_start_forking)),
    with(forking, scenario("stop forking", Traced::Active, T, started, act_stop_forking)),
    scenario("start in a cgroup", Traced::Active, T, stopped, act_start_in_cgroup),
    scenario("stop in a cgroup", Traced::Active, T, started, act_stop_in_cgroup),
    with(waiting, scenario("take over in a hook", Traced::Standby, T, stopped, act_take_over_hook)),
    with(
        forking_late,
        scenario("take over, no daemon yet", Traced::Standby, T, stopped, act_take_over_forking),
    ),
];
