//! The FIFOs, who moves what is in them, and the logs.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::*;

#[test]
fn output_is_whole_and_in_order_through_every_change_of_its_mover() {
    let pair = Pair::new("", &shell("n", NUMBERS, "output = { maxSize = \"1GiB\" }"));
    pair.start();
    let server = pair.pids()["n"];
    for _ in 0..2 {
        take_over(&pair);
        exits(&pair, &["shutdown"], 0);
        let length = || fs::metadata(pair.home.join("logs/n.out")).unwrap().len();
        let before = length();
        wait_until("the mover that was left behind to move", || length() > before + 1000);
        pair.start();
        let hung = twins(&pair);
        signal(hung.0, SIGSTOP);
        wait_until("the hung active to be replaced", || !is_alive(hung.0));
        pair.wait_whole();
    }
    assert_eq!(pair.pids()["n"], server);
    exits(&pair, &["stop", "n"], 0);
    let count = assert_in_sequence(&pair.output_of("n"));
    assert!(count > 1000, "only {count} lines");
}

#[test]
fn nothing_is_moved_while_another_mover_lives_and_one_that_hangs_is_killed() {
    let pair = Pair::new("", &shell("n", NUMBERS, "output = { maxSize = \"1GiB\" }"));
    pair.start();
    exits(&pair, &["shutdown"], 0);
    let length = || fs::metadata(pair.home.join("logs/n.out")).unwrap().len();
    let before = length();
    wait_until("the mover that was left behind to move", || length() > before);
    let mover = lock::holder(&pair.home.join("run/mover.lock")).unwrap().unwrap();
    let _ended = EndedPid(mover);
    freeze(mover);
    let before = length();
    pair.start();
    for _ in 0..20 {
        pair.status();
        let now = length();
        assert!(now == before || !is_alive(mover), "two processes move one output");
    }
    wait_until("the mover to be killed", || !is_alive(mover));
    wait_until("the output to go on", || length() > before);
    exits(&pair, &["stop", "n"], 0);
    assert_in_sequence(&pair.output_of("n"));
}

#[test]
fn last_words_are_kept_while_the_active_is_dead_and_the_standby_stopped() {
    let script =
        "while ! [ -e {home}/go ]; do sleep 0.01; done; echo these are my last words; exit 9";
    let restart = "restart = { when = \"never\" }";
    let pair = Pair::new("heartbeatTimeout = \"1m\"", &shell("a", script, restart));
    pair.start();
    let (before, server) = (twins(&pair), pair.pids()["a"]);
    freeze(before.1);
    signal(before.0, SIGKILL);
    wait_until("the active's death", || !is_alive(before.0));
    fs::write(pair.home.join("go"), "").unwrap();
    wait_until("the server's death", || !is_alive(server));
    assert_eq!(pair.output_of("a"), "");
    signal(before.1, SIGCONT);
    wait_until("the last words", || pair.output_of("a") == "these are my last words\n");
    let server = pair.wait_state("a", "FAILED");
    assert_eq!(server["lastExit"]["code"], 9);
}

#[test]
fn a_servers_o_nonblock_stays_its_own_and_dev_stdout_can_be_opened() {
    if !has_tool("perl") {
        return;
    }
    let script = "echo through the path > /dev/stdout
        [ -e {home}/second ] && exec sleep 1000; touch {home}/second
        exec perl -e 'use Fcntl; fcntl(STDOUT, F_SETFL, O_NONBLOCK) or die; sleep 1000'";
    let pair = Pair::new("", &(shell("a", script, "") + &sleeper("b", "")));
    pair.start();
    let is_nonblocking = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{}/fdinfo/1", pair.pids()[name])).unwrap();
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        i32::from_str_radix(flags.trim(), 8).unwrap() & libc::O_NONBLOCK != 0
    };
    wait_until("the path to be written", || pair.output_of("a").contains("through the path"));
    wait_until("the flag to be set", || is_nonblocking("a"));
    assert!(!is_nonblocking("b"));
    exits(&pair, &["restart", "a"], 0);
    assert!(!is_nonblocking("a"), "the next copy of the server has the flag of the one before");
}

// ---- 13: commands never hang

#[test]
fn a_truncated_log_gets_no_hole_and_a_removed_one_is_made_again() {
    let pair = Pair::new("", &shell("talks", "while :; do echo 0123456789; sleep 0.01; done", ""));
    pair.start();
    let path = pair.home.join("logs/talks.out");
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    wait_until("some output", || length(&path) > 500);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    wait_until("more output", || length(&path) > 100);
    let text = fs::read(&path).unwrap();
    assert!(!text.contains(&0), "the log has a hole");
    let inode = fs::metadata(&path).unwrap().ino();
    let held = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    wait_for("the log to be made again", || {
        fs::metadata(&path).ok().filter(|file| file.ino() != inode && file.len() > 0)
    });
    drop(held);
    assert!(fs::read_to_string(&path).unwrap().starts_with("0123456789\n"));
}
