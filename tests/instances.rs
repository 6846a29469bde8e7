//! Servers of one program and of many files, by name, tag and pattern, with real processes; and the
//! same after a takeover.

#[path = "support/mod.rs"]
mod support;
#[path = "tools/mod.rs"]
mod tools;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use support::{Pair, SIGKILL, is_alive, signal, wait_until};
use tools::{exits, has};

/// Three instances that say who they are. (`{port}` is a word of the tests themselves.)
const WEB: &str = r#"
[[server]]
name = "web"
instances = 3
vars = { door = [8081, 8082, 8083], word = "two words" }
tags = ["shop"]
settleTime = "50ms"
command = ["sh", "-c", 'echo "$NM_INSTANCE $PORT $0"; exec sleep 1000', "${word}"]
env = { PORT = "${door}" }
"#;

const DB: &str = r#"
[[server]]
name = "db"
tags = ["shop", "data"]
settleTime = "50ms"
command = "sleep ${NM_TEST_SECONDS:-1000}"
"#;

/// `web@2=RUNNING` of each server, in their order.
fn states(pair: &Pair) -> Vec<String> {
    let status = pair.status();
    let word = |server: &Value, key: &str| server[key].as_str().unwrap_or_default().to_owned();
    let servers = status["servers"].as_array().cloned().unwrap_or_default();
    servers.iter().map(|one| word(one, "name") + "=" + &word(one, "state")).collect()
}

fn kill_the_active(pair: &Pair) {
    let active = pair.pid_of("active");
    signal(active, SIGKILL);
    wait_until("another active", || pair.twin("active").is_some_and(|pid| pid != active));
    pair.wait_whole();
}

#[test]
fn instances_are_chosen_by_program_number_pattern_and_tag_also_after_a_takeover() {
    let pair = Pair::new("include = [\"conf.d/*.toml\"]", WEB);
    fs::create_dir(pair.home.join("conf.d")).unwrap();
    fs::write(pair.home.join("conf.d/db.toml"), DB).unwrap();
    pair.start();
    assert_eq!(states(&pair), ["web@1=RUNNING", "web@2=RUNNING", "web@3=RUNNING", "db=RUNNING"]);
    for (name, said) in [("web@1", "1 8081"), ("web@2", "2 8082"), ("web@3", "3 8083")] {
        wait_until("its word", || pair.output_of(name) == format!("{said} two words\n"));
    }
    let row = pair.server("web@2");
    assert_eq!(
        (&row["program"], &row["instance"], &row["tags"]),
        (&"web".into(), &2.into(), &vec!["shop"].into())
    );
    assert_eq!(pair.server("db")["instance"], Value::Null);

    has(&exits(&pair, &["stop", "web@2"], 0).0, &["web@2: STOPPED"]);
    let before = pair.pids();
    kill_the_active(&pair);
    assert_eq!(states(&pair), ["web@1=RUNNING", "web@2=STOPPED", "web@3=RUNNING", "db=RUNNING"]);
    assert_eq!(pair.pids(), before, "a takeover leaves every instance as it is");

    has(&exits(&pair, &["start", "web"], 0).0, &["web@1: already", "web@2: RUNNING", "web@3: alr"]);
    has(&exits(&pair, &["stop", "web@[13]"], 0).0, &["web@1: STOPPED", "web@3: STOPPED"]);
    assert_eq!(states(&pair), ["web@1=STOPPED", "web@2=RUNNING", "web@3=STOPPED", "db=RUNNING"]);
    let (out, _) = exits(&pair, &["start", "tag:shop"], 0);
    has(&out, &["web@1: RUNNING", "web@2: already RUNNING", "web@3: RUNNING", "db: already"]);
    kill_the_active(&pair);
    exits(&pair, &["stop", "tag:data"], 0);
    assert_eq!(states(&pair), ["web@1=RUNNING", "web@2=RUNNING", "web@3=RUNNING", "db=STOPPED"]);
    let rows = exits(&pair, &["status", "tag:data", "--no-header"], 0).0;
    assert!(rows.starts_with("db ") && !rows.contains("web@"), "{rows}");
    let (_, err) = exits(&pair, &["stop", "tag:shp"], 4);
    has(&err, &["no server has the tag shp; did you mean tag:shop?"]);
    has(&exits(&pair, &["logs", "web"], 0).0, &["1 8081 two words", "2 8082", "3 8083"]);

    let pids = pair.pids();
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    assert!(pids.values().all(|pid| !is_alive(*pid)));
    let row = pair.server("web@2");
    assert_eq!((&row["program"], &row["instance"]), (&"web".into(), &2.into()), "from the journal");
}

#[test]
fn an_instance_that_dies_is_restarted_alone_and_as_itself() {
    let pair = Pair::new("", WEB);
    pair.start();
    let before = pair.pids();
    kill_the_active(&pair);
    wait_until("its first word", || pair.output_of("web@2") == "2 8082 two words\n");
    signal(before["web@2"], SIGKILL);
    wait_until("the restart", || {
        let row = pair.server("web@2");
        row["state"] == "RUNNING" && row["restarts"] == 1
    });
    let after = pair.pids();
    assert_eq!((after["web@1"], after["web@3"]), (before["web@1"], before["web@3"]));
    assert_ne!(after["web@2"], before["web@2"]);
    wait_until("its second word", || pair.output_of("web@2") == "2 8082 two words\n".repeat(2));
}

#[test]
fn a_variable_is_needed_where_the_pair_is_started_and_nowhere_else() {
    let server = "[[server]]\nname = \"a\"\ncommand = \"sleep ${NM_TEST_TIME}\"\n\
                  settleTime = \"50ms\"\n";
    let pair = Pair::new("", server);
    let (_, err) = exits(&pair, &["run", "--detach"], 78);
    has(&err, &["conf/nodemanager.toml:", "${NM_TEST_TIME} is not set"]);
    let (_, err) = exits(&pair, &["check"], 78);
    has(&err, &["${NM_TEST_TIME} is not set"]);
    let output = pair.command(&["run", "--detach"]).env("NM_TEST_TIME", "1000").output().unwrap();
    assert!(output.status.success(), "{}", support::both(&output));
    assert_eq!(states(&pair), ["a=RUNNING"]);
    kill_the_active(&pair);
    // What is started by the new active has the value of the first start.
    has(&exits(&pair, &["restart", "a"], 0).0, &["a: RUNNING"]);
    let words = fs::read(format!("/proc/{}/cmdline", pair.pids()["a"])).unwrap();
    assert_eq!(words, b"sleep\x001000\0");
    exits(&pair, &["stop", "a"], 0);
}

#[test]
fn check_shows_every_value_with_where_it_is_from() {
    let pair = Pair::new("", WEB);
    let config = pair.config();
    let shown = pair.ok(&["check", "--effective"]);
    has(&shown, &["name = \"web@3\"  # ", "env.PORT = \"8083\"  # ", "logMaxFiles = 7  # default"]);
    has(&shown, &[&format!("standbyPort = {}  # {}:", pair.port, config.display())]);
    let table: toml::Table = shown.parse().expect("it is TOML");
    assert_eq!(table["server"].as_array().map(Vec::len), Some(3));
    let json: Value = serde_json::from_str(&pair.ok(&["check", "--json"])).expect("JSON");
    assert_eq!(json["servers"][2]["values"]["env.PORT"]["value"], "8083");
}

#[test]
fn the_control_socket_is_given_to_its_group_and_again_when_it_was_removed() {
    // Who is not root can give it to a group of its own only.
    let is_root = nix::unistd::geteuid().is_root();
    let group = if is_root { 54_321 } else { nix::unistd::getegid().as_raw() };
    let node = format!("controlGroup = {group}\ncontrolMode = \"0660\"");
    let pair = Pair::new(&node, WEB);
    pair.start();
    let socket = pair.home.join("run/control.sock");
    let is_right = || {
        fs::metadata(&socket).is_ok_and(|file| file.gid() == group && file.mode() & 0o777 == 0o660)
    };
    assert!(is_right());
    fs::remove_file(&socket).unwrap();
    wait_until("the socket again", is_right);
    kill_the_active(&pair);
    assert!(is_right());
}
