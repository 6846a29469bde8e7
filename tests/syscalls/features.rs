//! Situations of what a server can be given: another configuration, a readiness check, a
//! dependency, a place among the disabled ones, a notify socket and a listening one.
//!
//! As in `scenarios`, what was asked for must be there when an act returns.

use crate::scenarios::{Traced, World, once_more, two, wait_down, wait_up};
use crate::support::counted::counted;
use crate::support::{Pair, both, example, free_port};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

/// So often an operator asks again for a configuration that did not come into force.
const ASKED_AGAIN_MAX: usize = 5;
pub const QUICK: &str = "restart = { delay = \"20ms\", tries = 1000 }";

/// One to be changed, and one that must not notice.
pub fn changeable() -> String {
    two().replacen("settleTime", "env = { V = \"1\" }\nsettleTime", 1)
}

/// The configuration without what the act changes is in force.
pub fn apply_old(pair: &Pair) {
    let old = pair.home.join("conf/old");
    if old.exists() {
        fs::copy(&old, pair.config()).expect("the old configuration");
        pair.ok(&["apply"]);
    } else {
        fs::copy(pair.config(), &old).expect("the old configuration");
    }
}

/// One server is changed, one is new, one is left alone.
pub fn act_apply(world: &World) {
    let (pair, home) = (world.pair, world.pair.home.display().to_string());
    let text = fs::read_to_string(pair.config()).expect("the configuration");
    let new = counted("n", "", QUICK).replace("{home}", &home);
    let text = text.replacen("V = \"1\"", "V = \"2\"", 1) + &new;
    fs::write(pair.config(), text).expect("the new configuration");
    once_more(world, "n", || once_more(world, "t", || apply(world)));
    assert_eq!(variable(pair, "t", "V").as_deref(), Some("2"));
    // The fault may come as late as that.
    let said = until_done(world, &["diff"]);
    assert_eq!(said.trim(), "nothing differs from the configuration in force");
}

/// Asks until the answer is that it is in force: whoever died on the way may have taken it along.
fn apply(world: &World) {
    let mut said = String::new();
    for _ in 0..ASKED_AGAIN_MAX {
        let output = world.pair.run(&["apply"]);
        match output.status.code() {
            Some(0) => return,
            Some(75) => {}
            Some(1) if world.has_error || world.traced == Traced::Applier => {}
            // The file could not be read.
            Some(78) if world.has_error && world.traced == Traced::Applier => {}
            _ => panic!("apply: {}", both(&output)),
        }
        said += &both(&output);
    }
    panic!("asked for {ASKED_AGAIN_MAX} times, and it is not in force: {said}");
}

fn variable(pair: &Pair, server: &str, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{}/environ", pair.pids().get(server)?)).ok()?;
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let prefix = format!("{name}=");
    environ.split('\0').find_map(|one| one.strip_prefix(&prefix).map(str::to_owned))
}

/// Asks until it is said to be done: with nobody WATCHING it is refused. Whoever died on the way was
/// replaced as after any death.
pub fn act_switch_over(world: &World) {
    let mut said = String::new();
    for _ in 0..ASKED_AGAIN_MAX {
        world.pair.wait_whole();
        let output = world.pair.run(&["switchover"]);
        match output.status.code() {
            Some(0) => return assert!(world.pair.status()["switchovers"].as_u64() >= Some(1)),
            Some(1 | 75) => said += &both(&output),
            _ => panic!("switchover: {}", both(&output)),
        }
    }
    panic!("asked for {ASKED_AGAIN_MAX} times: {said}");
}

/// Switched on, it is on whoever is the active then, and off again.
pub fn act_maintain(world: &World) {
    for (word, is_on) in [("on", true), ("off", false)] {
        world.command(&["maintenance", word]);
        let is_so = || world.pair.status()["maintenance"] == is_on;
        assert!(is_so() || world.has_error, "maintenance is not {word}");
    }
    world.command(&["maintenance", "off"]);
}

/// It is asked by HTTP, and answers after a moment.
pub fn asked_by_http() -> String {
    let (port, program) = (free_port(), example("http_server"));
    let script = format!(
        "echo \\\"start $$$$\\\" >> {{home}}/t.starts; exec {} {port} 30",
        program.display()
    );
    format!(
        "[[server]]\nname = \"t\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\n{QUICK}\n\
         ready = {{ http = \"http://127.0.0.1:{port}/\", interval = \"20ms\" }}\n{}",
        counted("steady", "", QUICK)
    )
}

/// A program says whether it is ready; the first time it is not.
pub fn asked_by_program() -> String {
    let check = "test -e {home}/t.asked || { touch {home}/t.asked; exit 1; }";
    let ready = format!("ready = {{ exec = [\"sh\", \"-c\", \"{check}\"], interval = \"20ms\" }}");
    counted("t", "", &format!("{ready}\n{QUICK}")) + &counted("steady", "", QUICK)
}

pub fn not_yet_asked(pair: &Pair) {
    pair.ok(&["stop", "t"]);
    let _ = fs::remove_file(pair.home.join("t.asked"));
}

pub fn act_ready(world: &World) {
    once_more(world, "t", || world.command(&["start", "t"]));
    let server = world.pair.server("t");
    assert!(server["readyAt"].is_string(), "{server}");
    assert_eq!(server["checks"][0]["kind"], "ready", "{server}");
}

/// One that needs another one.
pub fn dependent() -> String {
    let needs = counted("t", "", &format!("dependsOn = [\"db\"]\n{QUICK}"));
    needs + &counted("db", "", QUICK) + &counted("steady", "", QUICK)
}

pub fn stop_both(pair: &Pair) {
    pair.ok(&["stop", "db", "--dependants"]);
}

pub fn act_start_dependent(world: &World) {
    once_more(world, "db", || once_more(world, "t", || world.command(&["start", "t"])));
    let (needed, dependent) = (world.pair.server("db"), world.pair.server("t"));
    let at = |row: &serde_json::Value| row["startedAt"].as_str().map(str::to_owned);
    // One whose start failed with a call is started once more.
    let is_later = at(&needed) < at(&dependent);
    assert!(is_later || world.has_error, "{dependent} was started before {needed}");
}

pub fn act_stop_needed(world: &World) {
    world.command(&["stop", "db", "--dependants"]);
    wait_down(world.pair, "t");
    wait_down(world.pair, "db");
}

pub fn enable_t(pair: &Pair) {
    pair.ok(&["enable", "--now", "t"]);
}

pub fn disable_t(pair: &Pair) {
    pair.ok(&["disable", "--now", "t"]);
}

fn is_disabled(pair: &Pair) -> (bool, bool) {
    let list = fs::read_to_string(pair.home.join("state/disabled")).unwrap_or_default();
    (pair.server("t")["enabled"] == false, list.lines().any(|line| line == "t"))
}

/// Asks again where a call failed: nothing, or all of it, was done.
pub fn until_done(world: &World, words: &[&str]) -> String {
    let mut said = String::new();
    for _ in 0..ASKED_AGAIN_MAX {
        let output = world.pair.run(words);
        match output.status.code() {
            Some(0) => return String::from_utf8_lossy(&output.stdout).into_owned(),
            Some(1 | 75) if world.has_error => {}
            _ => panic!("{words:?}: {}", both(&output)),
        }
        said += &both(&output);
    }
    panic!("asked for {words:?} {ASKED_AGAIN_MAX} times: {said}");
}

pub fn act_disable(world: &World) {
    until_done(world, &["disable", "--now", "t"]);
    wait_down(world.pair, "t");
    assert_eq!(is_disabled(world.pair), (true, true), "shown and on disk");
}

pub fn act_enable(world: &World) {
    once_more(world, "t", || drop(until_done(world, &["enable", "--now", "t"])));
    assert_eq!(is_disabled(world.pair), (false, false), "shown and on disk");
}

/// It says by itself that it is ready, and answers at a socket that it is handed.
pub fn handed() -> String {
    let port = free_port();
    let socket = format!("socket = [{{ name = \"ask\", listen = \"tcp:127.0.0.1:{port}\" }}]");
    let keys = format!("ready = \"notify\"\n{socket}\n{QUICK}");
    counted("t", "--notify READY=1 --answer yes", &keys) + &counted("steady", "", QUICK)
}

pub fn act_start_handed(world: &World) {
    once_more(world, "t", || world.command(&["start", "t"]));
    let text = fs::read_to_string(world.pair.config()).expect("the configuration");
    let port = text.split("tcp:127.0.0.1:").nth(1).and_then(|rest| rest.split('"').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("the socket's port");
    let answer = ask(port).expect("an answer at its socket");
    let pid = world.pair.pids().get("t").copied();
    assert_eq!(answer.trim().parse().ok(), pid, "who answers");
    wait_up(world.pair, "t");
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(crate::support::LIMIT))?;
    stream.write_all(b"?")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
