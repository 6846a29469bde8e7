//! Output that leaves through sockets and inherited descriptors: syslog, the journal, the terminal.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::support::{Pair, SIGTERM, binary, signal, wait_until};
use crate::tools::{Ended, exits, has};
use crate::*;
use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOCKETS: &str = "syslogSocket = \"{home}/syslog\"\njournalSocket = \"{home}/journal\"";

/// Texts that came, in their order.
type Came = Arc<Mutex<Vec<String>>>;

/// Plays syslogd: reads datagrams until the test is over.
fn syslogd(path: &Path) -> Came {
    let socket = UnixDatagram::bind(path).expect("syslog's socket");
    socket.set_read_timeout(Some(Duration::from_secs(120))).expect("a limit");
    let came = Came::default();
    let into = came.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(count) = socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            into.lock().expect("nobody panics").push(text);
        }
    });
    came
}

/// Plays journald: the first seven lines of each stream, and what follows on it.
fn journald(path: &Path) -> Came {
    let listener = UnixListener::bind(path).expect("journald's socket");
    let came = Came::default();
    let into = came.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let into = into.clone();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
                let header: Vec<String> = lines.by_ref().take(7).collect();
                for line in lines {
                    let text = format!("{}/{}: {line}", header[0], header[2]);
                    into.lock().expect("nobody panics").push(text);
                }
            });
        }
    });
    came
}

fn texts(came: &Came) -> Vec<String> {
    came.lock().expect("nobody panics").clone()
}

#[test]
fn each_line_reaches_syslog_with_tag_and_pid_over_takeovers_and_at_most_one_twice_for_each() {
    const LINES: u64 = 40_000;
    let script = "for n in {1..40000}; do echo line $n; done; echo bad >&2; printf unended; \
                  exec sleep 1000";
    let output = "to = \"syslog\", stderr = \"separate\"";
    let pair = Pair::new(SOCKETS, &shell("w", script, output));
    let came = syslogd(&pair.home.join("syslog"));
    pair.start();
    let head = format!(" w[{}]: ", pair.pids()["w"]);
    let is_last = |text: &String| text.ends_with(&format!("line {LINES}"));
    let kills = take_over_until(&pair, "the last line", || texts(&came).iter().any(is_last));
    wait_until("standard error", || texts(&came).iter().any(|text| text.ends_with(": bad")));
    // A line without its end is sent when its writer is dead.
    assert!(!texts(&came).iter().any(|text| text.ends_with("unended")));
    exits(&pair, &["stop", "w"], 0);
    wait_until("the rest", || {
        texts(&came).iter().any(|text| text.ends_with(&format!("{head}unended")))
    });
    let all = texts(&came);
    let mut before = 0;
    let mut doubled = 0;
    for text in all.iter().filter(|text| text.contains("line ")) {
        assert!(text.starts_with("<30>") && text.contains(&head), "{text}");
        let number: u64 = text.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        match number {
            _ if number == before + 1 => before = number,
            _ if number == before => doubled += 1,
            _ => panic!("line {number} came behind {before}"),
        }
    }
    assert_eq!(before, LINES);
    println!("{kills} takeovers, {doubled} lines sent twice");
    assert!(kills > 0 && doubled <= kills);
    let bad: Vec<_> = all.iter().filter(|text| text.ends_with(": bad")).collect();
    assert!(bad.len() == 1 && bad[0].starts_with("<27>") && bad[0].contains(&head), "{bad:?}");
    has(&exits(&pair, &["logs", "w"], 1).1, &["w: its output goes to syslog"]);
}

#[test]
fn a_syslog_that_is_gone_for_a_while_gets_the_lines_when_it_is_back_and_a_loss_is_counted() {
    let script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.005; done";
    let flood = "sleep 1; for n in {1..20000}; do echo flood $n; done; exec sleep 1000";
    let servers = shell("w", script, "to = \"syslog\"") + &shell("f", flood, "to = \"syslog\"");
    let pair = Pair::new(SOCKETS, &servers);
    pair.start();
    // Nobody listens yet.
    wait_until("the trouble to be told", || pair.log(false).contains("cannot send to syslog"));
    take_over(&pair);
    // More than a FIFO holds is dropped after some seconds.
    let dropped = || fs::read(pair.home.join("run/dropped")).unwrap_or_default();
    let count_of_f = || {
        let record = dropped();
        record
            .chunks(32)
            .filter(|slot| slot.len() == 32)
            .any(|slot| u64::from_le_bytes(slot[8..16].try_into().expect("eight bytes")) > 0)
    };
    wait_until("a loss", count_of_f);
    let came = syslogd(&pair.home.join("syslog"));
    wait_until("the loss to be told", || {
        pair.log(false).contains("bytes of its output were dropped while syslog took nothing")
    });
    wait_until("lines", || texts(&came).iter().filter(|text| text.contains("line ")).count() > 100);
    let all = texts(&came);
    let lines: Vec<u64> =
        all.iter().filter_map(|text| text.split(": line ").nth(1)?.parse().ok()).collect();
    assert!(lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "{lines:?}");
    assert!(all.iter().all(|text| text.contains(": line ") || text.contains(": flood ")));
    wait_until("the end of the flood", || {
        texts(&came).iter().any(|text| text.ends_with("flood 20000"))
    });
}

#[test]
fn output_goes_straight_to_the_journal_and_no_takeover_is_noticed() {
    let script = "n=0; echo bad >&2; while :; do n=$((n+1)); echo line $n; sleep 0.01; done";
    let output = "to = \"journal\", stderr = \"separate\"";
    let pair = Pair::new(SOCKETS, &shell("w", script, output));
    let came = journald(&pair.home.join("journal"));
    pair.start();
    let has_line =
        |number: u64| texts(&came).iter().any(|text| *text == format!("w/6: line {number}"));
    wait_until("some lines", || has_line(10));
    take_over(&pair);
    let count = texts(&came).len() as u64;
    wait_until("more lines", || has_line(count + 50));
    let lines = texts(&came);
    assert!(lines.iter().any(|text| text == "w/3: bad"), "{lines:?}");
    assert_all(&numbers(&lines.join("\n"), "w/6: line "), "the lines");
    has(&exits(&pair, &["logs", "w"], 1).1, &["journalctl -t w"]);
}

#[test]
fn without_a_journald_a_start_fails_with_the_reason_and_the_way_out() {
    let server = shell("w", "exec sleep 1000", "to = \"journal\"") + "autoStart = false\n";
    let pair = Pair::new(SOCKETS, &server);
    pair.start();
    let (_, err) = exits(&pair, &["start", "w"], 1);
    let socket = pair.home.join("journal").display().to_string();
    has(&err, &["cannot connect to the journal at", &socket, "systemd-journald"]);
    has(&pair.server("w")["reason"].to_string(), &["systemd-journald"]);
}

/// `run` in the foreground, with these files as standard output and error.
fn foreground(pair: &Pair) -> Ended {
    let open = |name: &str| fs::File::create(pair.home.join(name)).expect("a file");
    let mut command = std::process::Command::new(binary());
    command.arg("run").arg("-c").arg(pair.config()).stdin(Stdio::null());
    let child = command.stdout(open("own.out")).stderr(open("own.err")).spawn();
    Ended(child.expect("the node manager can be run"))
}

#[test]
fn what_is_inherited_is_the_keepers_own_output_for_every_start_after_every_takeover() {
    let script =
        "n=0; while :; do n=$((n+1)); echo $$$$ out $n; echo $$$$ err $n >&2; sleep 0.01; done";
    let servers = shell("two", script, "to = \"inherit\"")
        + &shell("one", "echo merged >&2; exec sleep 1000", "to = \"inherit\", stderr = \"merge\"");
    let pair = Pair::new("", &servers);
    let keeper = foreground(&pair);
    pair.wait_whole();
    let text = |name: &str| fs::read_to_string(pair.home.join(name)).unwrap_or_default();
    wait_until("the merged line", || text("own.out").lines().any(|line| line == "merged"));
    let mut first = pair.pids()["two"];
    for _ in 0..3 {
        take_over(&pair);
        assert_eq!(pair.pids()["two"], first, "it was started again");
        let count = |name: &str| numbers(&text(name), &format!("{first} {} ", &name[4..])).len();
        let before = count("own.out");
        wait_until("more of both", || count("own.out") > before && count("own.err") > before);
        exits(&pair, &["restart", "two"], 0);
        let second = pair.pids()["two"];
        let is_second = |name: &str| text(name).contains(&format!("{second} {} 3\n", &name[4..]));
        wait_until("the next one's output", || is_second("own.out") && is_second("own.err"));
        for name in ["own.out", "own.err"] {
            let prefix = format!("{first} {} ", &name[4..]);
            assert_all(&numbers(&text(name), &prefix), &prefix);
        }
        first = second;
    }
    has(&exits(&pair, &["logs", "two"], 1).1, &["where the node manager's own goes"]);
    signal(keeper.0.id() as i32, SIGTERM);
    wait_until("the end", || pair.processes().is_empty());
}

#[test]
fn in_the_background_what_is_inherited_goes_nowhere_and_the_log_says_so() {
    let script = "while echo x && echo y >&2; do sleep 0.01; done";
    let pair = Pair::new("", &shell("w", script, "to = \"inherit\""));
    pair.start();
    let pid = pair.pids()["w"];
    has(&pair.log(false), &["NodeManager-0029", "goes nowhere"]);
    for number in [1, 2] {
        let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("a descriptor");
        assert_eq!(target, Path::new("/dev/null"));
    }
    take_over(&pair);
    assert_eq!(pair.pids()["w"], pid);
}
