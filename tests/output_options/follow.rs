//! `logs -f` over everything that happens to a log.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::support::{Pair, wait_until};
use crate::tools::{Ended, exits};
use crate::*;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

/// A `logs` that goes on, and the lines that came from it.
struct Following {
    _process: Ended,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Following {
    fn new(pair: &Pair, words: &[&str]) -> Following {
        let child = pair.command(words).stdout(Stdio::piped()).spawn();
        let mut process = Ended(child.expect("logs can be run"));
        let out = process.0.stdout.take().expect("its output");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.for_each(|line| drop(send.send(line)));
        });
        Following { _process: process, lines, seen: Vec::new() }
    }

    fn wait_for(&mut self, what: &str, is_last: impl Fn(&str) -> bool) {
        wait_until(what, || {
            self.seen.extend(self.lines.try_iter());
            self.seen.iter().any(|line| is_last(line))
        });
    }
}

#[test]
fn every_line_is_shown_once_over_three_takeovers_five_rotations_compression_and_a_restart() {
    let script = "n=0; while :; do n=$((n+1)); echo $$$$ $n; \
                  [ $((n % 50)) -eq 0 ] && sleep 0.01; done";
    let output = "maxSize = \"60KiB\", maxFiles = 1000, compress = true";
    let pair = Pair::new("", &(shell("w", script, output) + "autoStart = false\n"));
    // There is no log yet.
    let mut follow = Following::new(&pair, &["logs", "-f", "-n", "300000", "w"]);
    pair.start();
    exits(&pair, &["start", "w"], 0);
    let mut pids = vec![pair.pids()["w"]];
    let path = log(&pair, "w.out");
    let rotated = || nodemanager::output::rotate::rotated_files(&path).len();
    for round in 1..=3 {
        wait_until("two rotations", || rotated() >= round * 2);
        take_over(&pair);
        if round == 2 {
            exits(&pair, &["restart", "w"], 0);
            pids.push(pair.pids()["w"]);
        }
    }
    exits(&pair, &["stop", "w"], 0);
    let text = whole_when_compressed(&path);
    let last = text.lines().last().expect("a line").to_owned();
    follow.wait_for("the last line", |line| line == last);
    assert!(rotated() >= 5, "{} rotations", rotated());
    assert_eq!(pair.status()["takeovers"], 3);
    let expected: Vec<&str> = text.lines().collect();
    assert_eq!(follow.seen.len(), expected.len());
    assert!(follow.seen.iter().zip(expected).all(|(seen, line)| seen == line));
    for pid in pids {
        assert_all(&numbers(&text, &format!("{pid} ")), "the lines");
    }
}

/// All that is in the log, when nobody compresses it any more.
fn whole_when_compressed(path: &Path) -> String {
    wait_until("all to be compressed", || {
        let rotated = nodemanager::output::rotate::rotated_files(path);
        rotated.iter().all(|(_, path)| path.extension().is_some_and(|ending| ending == "gz"))
    });
    whole(path)
}

#[test]
fn several_logs_are_followed_with_their_names_in_front_and_without_colours_in_a_pipe() {
    let script = |name: &str| {
        format!("for n in 1 2 3; do echo {name} $n; sleep 0.05; done; exec sleep 1000")
    };
    let servers = shell("web", &script("a"), "to = \"pipe\"")
        + &shell("worker", &script("b"), "to = \"direct\"")
        + &shell("other", &script("c"), "to = \"pipe\"");
    let pair = Pair::new("", &servers);
    let mut follow = Following::new(&pair, &["logs", "-f", "w*"]);
    pair.start();
    follow.wait_for("the one", |line| line == "[web] a 3");
    follow.wait_for("the other", |line| line == "[worker] b 3");
    for (prefix, what) in [("[web] a ", "web"), ("[worker] b ", "worker")] {
        let found = numbers(&follow.seen.join("\n"), prefix);
        assert_eq!(found, [1, 2, 3], "{what}");
    }
    assert_eq!(follow.seen.len(), 6, "{:?}", follow.seen);
}

#[test]
fn as_json_lines_of_several_servers_are_followed_over_a_takeover_each_with_its_time() {
    let script = "n=0; while :; do n=$((n+1)); echo $n; echo $n >&2; sleep 0.01; done";
    let pair = Pair::new(
        "",
        &(shell("web", script, "timestamps = true, stderr = \"separate\"")
            + &shell("bare", script, "stderr = \"null\"")),
    );
    pair.start();
    let mut follow = Following::new(&pair, &["logs", "--json", "-f", "-n", "1000", "all"]);
    take_over(&pair);
    let last = |stream: &str| {
        let path = log(&pair, &format!("web.{stream}"));
        let text = fs::read_to_string(path).expect("a log");
        let number =
            text.lines().last().and_then(|line| line.rsplit(' ').next()).map(str::to_owned);
        number.expect("a line")
    };
    exits(&pair, &["stop", "all"], 0);
    let (out, err) = (last("out"), last("err"));
    let parse = |line: &str| -> serde_json::Value { serde_json::from_str(line).expect(line) };
    for (stream, line) in [("stdout", out), ("stderr", err)] {
        follow.wait_for("the last line", |text| {
            let found = parse(text);
            found["server"] == "web" && found["stream"] == stream && found["line"] == line
        });
    }
    let lines: Vec<serde_json::Value> = follow.seen.iter().map(|line| parse(line)).collect();
    for (server, stream) in [("web", "stdout"), ("web", "stderr"), ("bare", "stdout")] {
        let of = |line: &&serde_json::Value| line["server"] == server && line["stream"] == stream;
        let found: Vec<&serde_json::Value> = lines.iter().filter(of).collect();
        let number = |line: &&serde_json::Value| line["line"].as_str()?.parse::<u64>().ok();
        let numbers: Vec<u64> = found.iter().filter_map(number).collect();
        assert!(numbers.len() == found.len() && numbers.len() > 1, "{server} {stream}: {found:?}");
        assert_all(&numbers, stream);
        let has_time = |line: &&serde_json::Value| line["time"].is_string();
        assert_eq!(found.iter().all(has_time), server == "web", "{found:?}");
    }
    let (own, _) = exits(&pair, &["logs", "--json", "--self", "--since", "1h", "-n", "1"], 0);
    let own = parse(own.trim());
    assert_eq!((&own["node"], &own["stream"]), (&pair.name().into(), &"active".into()));
    assert!(own["time"].is_string() && own.get("server").is_none(), "{own}");
}
