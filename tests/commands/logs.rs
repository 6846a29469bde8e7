//! `logs`.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::support::SIGCONT;
use crate::tools::{finish_child, freeze};
use crate::*;

#[test]
fn logs_shows_the_last_lines_and_the_pairs_own_logs() {
    let pair = Pair::new(
        "",
        &shell("count", "for n in 1 2 3 4 5 6 7 8; do echo line-$n; done; exec sleep 1000", ""),
    );
    pair.start();
    wait_until("the output", || pair.output_of("count").contains("line-8"));
    assert_eq!(exits(&pair, &["logs", "-n", "2", "count"], 0).0, "line-7\nline-8\n");
    assert_eq!(exits(&pair, &["logs", "-n", "0", "count"], 0).0, "");
    assert_eq!(exits(&pair, &["logs", "-n", "100", "count"], 0).0.lines().count(), 8);
    has(&exits(&pair, &["logs", "--self"], 0).0, &["NodeManager-0"]);
    has(&exits(&pair, &["logs", "--standby"], 0).0, &["NodeManager-02"]);
    exits(&pair, &["logs"], 64);
}

#[test]
fn a_start_that_failed_is_answered_with_its_last_lines_also_when_all_came_at_once() {
    let script = "while ! [ -e {home}/go ]; do sleep 0.01; done; echo last words; exit 7";
    let server = settling("bad", script, "autoStart = false");
    let pair = Pair::new("heartbeatTimeout = \"1m\"", &server);
    pair.start();
    let mut start = pair.command(&["start", "bad"]);
    let start = start.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let server = wait_for("its process", || pair.pids().get("bad").copied());
    let active = pair.pid_of("active");
    // Its words and its end wait for the active together.
    freeze(active);
    fs::write(pair.home.join("go"), "").unwrap();
    wait_until("its end", || !is_alive(server));
    signal(active, SIGCONT);
    let output = finish_child(start, "start");
    assert_eq!(output.status.code(), Some(1));
    has(&String::from_utf8_lossy(&output.stderr), &["bad: exit 7 after ", "    last words"]);
}

#[test]
fn logs_follows_through_a_restart_and_a_takeover() {
    let script = "echo begin $$$$; n=0; while :; do n=$((n+1)); echo $$$$-$n; sleep 0.02; done";
    let pair = Pair::new("", &shell("talks", script, ""));
    pair.start();
    let mut command = pair.command(&["logs", "-f", "-n", "0", "talks"]);
    let mut follow = Ended(command.stdout(Stdio::piped()).spawn().unwrap());
    let lines = follow.0.stdout.take().map(|out| BufReader::new(out).lines()).unwrap();
    let (send, lines_of) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        lines.map_while(Result::ok).for_each(|line| drop(send.send(line)));
    });
    let mut seen: Vec<String> = Vec::new();
    let mut see = |what: &str, prefix: &str, count: usize| {
        let mut left = count;
        wait_until(what, || {
            for line in lines_of.try_iter() {
                left = left.saturating_sub(usize::from(line.starts_with(prefix)));
                seen.push(line);
            }
            left == 0
        });
    };
    let first = format!("{}-", pid(&pair.server("talks")));
    see("output", &first, 3);
    signal(pair.pid_of("active"), SIGKILL);
    pair.wait_whole();
    see("output after the takeover", &first, 20);
    exits(&pair, &["restart", "talks"], 0);
    let second = format!("{}-", pid(&pair.server("talks")));
    see("output after the restart", &second, 3);
    drop(follow);
    reader.join().unwrap();
    // No line was lost or doubled on the way.
    for prefix in [&first, &second] {
        let numbers: Vec<u64> = seen
            .iter()
            .filter_map(|line| line.strip_prefix(prefix.as_str())?.parse().ok())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{prefix}: {numbers:?}");
    }
}

// ---- autoStart
