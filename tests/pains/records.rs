//! What is on record, and whose number it is.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::*;

/// The wishes on disk, by name; a torn line fails the test.
fn wishes(pair: &Pair) -> Vec<(String, bool)> {
    let text = fs::read_to_string(pair.home.join("state/wishes")).unwrap_or_default();
    let wish = |line: &str| match line.split_once(' ') {
        Some(("up", name)) => (name.to_string(), true),
        Some(("down", name)) => (name.to_string(), false),
        _ => panic!("a torn line in {text:?}"),
    };
    text.lines().map(wish).collect()
}

#[test]
fn remembered_wishes_are_never_fewer_whoever_is_killed_while_they_are_saved() {
    let remember = "autoStart = \"remember\"";
    let names = ["a", "b", "c", "d"];
    let servers: String = names.iter().map(|name| counted(name, "", remember)).collect();
    let pair = Pair::new("", &servers);
    pair.start();
    exits(&pair, &["start", "all"], 0);
    assert_eq!(wishes(&pair).len(), 4);
    for round in 0..12 {
        let verb = if round % 2 == 0 { "stop" } else { "start" };
        let child = pair.command(&[verb, "b"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = Ended(child.unwrap());
        let end = Instant::now() + Duration::from_millis(5 * round);
        while Instant::now() < end {
            named(&pair, "nm-saver").iter().for_each(|pid| signal(*pid, SIGKILL));
        }
        if round % 3 == 0 {
            signal(pair.pid_of("active"), SIGKILL);
        }
        let all = wishes(&pair);
        assert_eq!(all.len(), 4, "a wish is lost: {all:?}");
        child.0.wait().unwrap();
        pair.wait_whole();
    }
    exits(&pair, &["stop", "b"], 0);
    let up = |name: &str| name != "b";
    assert!(wishes(&pair).iter().all(|(name, is_up)| *is_up == up(name)), "{:?}", wishes(&pair));
}

#[test]
fn a_wish_of_before_a_takeover_is_still_remembered_after_one_of_after_it() {
    let remember = "autoStart = \"remember\"";
    let pair = Pair::new("", &(counted("a", "", remember) + &counted("b", "", remember)));
    pair.start();
    pair.wait_whole();
    exits(&pair, &["start", "a"], 0);
    signal(pair.pid_of("active"), SIGKILL);
    exits(&pair, &["start", "b"], 0);
    assert_eq!(wishes(&pair), [("a".to_string(), true), ("b".to_string(), true)]);
}

#[test]
fn on_a_full_disk_the_old_wishes_stay_and_the_server_is_stopped_all_the_same() {
    if !is_root("a small file system") || !has_tool("mount") {
        return;
    }
    let remember = "autoStart = \"remember\"";
    let pair = Pair::new("", &(counted("a", "", remember) + &counted("b", "", remember)));
    let Some(disk) = SmallDisk::new(pair.home.join("state")) else { return };
    pair.start();
    exits(&pair, &["start", "all"], 0);
    let before = wishes(&pair);
    disk.fill();
    exits(&pair, &["stop", "a"], 0);
    assert_eq!(wishes(&pair), before);
    wait_until("a warning", || pair.log(false).contains("forgotten at a reboot"));
    disk.make_room();
    exits(&pair, &["stop", "b"], 0);
    // With the next one that can be written, those of before are written too.
    assert_eq!(wishes(&pair), [("a".to_string(), false), ("b".to_string(), false)]);
    drop(pair.run(&["shutdown", "--stop-servers"]));
    drop(disk);
}

// ---- 7: two supervisors at once

/// A pair whose processes are all killed, its server too.
const KILLED: &str = r#"
    "$nm" run --detach -c "$config" || exit 1
    until_starts 1
    server=$("$nm" pid a -c "$config")
    all=$(ls /proc | grep -E '^[0-9]+$' | grep -v -e '^1$' -e "^$$\$")
    kill -STOP $all 2>/dev/null; kill -9 $all 2>/dev/null
"#;

/// Then the pair looks at the record, or only `shutdown --stop-servers` does.
const LOOK: &str = r#"
    if [ "$1" = start ]; then
        "$nm" run --detach -c "$config" || exit 1
        until_starts 2
        "$nm" stop a -c "$config" || exit 1
    fi
"#;

fn stranger_with_a_number_on_record(then: &str) {
    if !is_root("a PID namespace") || !has_tool("unshare") {
        return;
    }
    let pair = Pair::new("", &counted("a", "", "stop = { timeout = \"200ms\" }"));
    assert_spared(&pair, KILLED, LOOK, &[then.to_string()]);
    let expected = if then == "start" { 2 } else { 1 };
    assert_eq!(starts(&pair, "a").len(), expected);
}

#[test]
fn a_start_that_finds_a_strangers_number_on_record_leaves_the_stranger_alone() {
    stranger_with_a_number_on_record("start");
}

#[test]
fn a_shutdown_without_a_pair_leaves_a_stranger_with_a_number_on_record_alone() {
    stranger_with_a_number_on_record("shutdown");
}

// ---- 9: "cannot tell" is not "dead"

#[test]
fn a_server_that_can_not_be_looked_at_is_neither_started_again_nor_signalled() {
    let pair = Pair::new("", &(counted("a", "", "") + &counted("b", "", "")));
    pair.start();
    pair.wait_whole();
    let pids = started(&pair, 2);
    kill_at_once(&ROLES.map(|role| pair.pid_of(role)));
    // As if no descriptor were left, but for the one server.
    let mut command = Command::new(example("old_kernel"));
    command.arg(format!("pidfd_open:{}={}", pids["a"], libc::ENFILE)).arg("--").arg(binary());
    command.args(["run", "-c"]).arg(pair.config()).stdout(Stdio::null()).stderr(Stdio::null());
    let blind = Ended(command.spawn().unwrap());
    wait_until("the other server to be found", || pair.server("b")["state"] == "RUNNING");
    // It would have been started by now.
    let row = pair.server("a");
    has(&row["reason"].to_string(), &["cannot tell whether PID", "Too many open files"]);
    assert_eq!(starts(&pair, "a"), [pids["a"]]);
    pair.wait_whole();
    kill_at_once(&ROLES.map(|role| pair.pid_of(role)));
    drop(blind);
    pair.start();
    pair.wait_whole();
    assert_untouched(&pair, &pids);
}

// ---- 13: nobody answers
