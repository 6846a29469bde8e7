//! Hooks and mail.

use super::support::{Pair, SIGKILL, free_port, is_alive, signal, wait_for, wait_until};
use super::{LIVES, count, events, kill, script, wait_event};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

/// A hook with a script of its own.
fn hook(name: &str, on: &str, script: &str, more: &str) -> String {
    format!(
        "[[hook]]\nname = \"{name}\"\non = [{on}]\n\
         command = [\"/bin/sh\", \"-c\", '''{script}''']\n{more}\n"
    )
}

fn text(pair: &Pair, file: &str) -> String {
    fs::read_to_string(pair.home.join(file)).unwrap_or_default()
}

#[test]
fn a_hook_gets_the_event_as_json_and_in_its_environment() {
    let tells = "cat > {home}/told; echo $NM_EVENT $NM_EVENT_SEQ $NM_SERVER_NAME $NM_HOOK $MINE > {home}/env.new; mv {home}/env.new {home}/env";
    let more = "env = { MINE = \"x\" }\nserver = \"we*\"";
    let pair =
        Pair::new("", &(LIVES.to_owned() + &hook("tells", "\"server-stopped\"", tells, more)));
    pair.start();
    pair.ok(&["stop", "web"]);
    wait_until("the hook ran", || !text(&pair, "env").is_empty());
    let told: Value = serde_json::from_str(&text(&pair, "told")).unwrap();
    let event = wait_event(&pair, "server-stopped");
    assert_eq!(told, event);
    assert_eq!(text(&pair, "env"), format!("server-stopped {} web tells x\n", event["seq"]));
}

#[test]
fn a_takeovers_hook_is_run_by_the_new_active_and_what_was_not_through_is_run_again() {
    let waits = "echo $NM_EVENT >> {home}/ran; while ! test -e {home}/go; do sleep 0.05; done";
    let hooks = hook("waits", "\"server-stopped\", \"takeover\"", waits, "timeout = \"1m\"");
    let pair = Pair::new("", &(LIVES.to_owned() + &hooks));
    pair.start();
    pair.ok(&["stop", "web"]);
    wait_until("it runs", || text(&pair, "ran").contains("server-stopped"));
    kill(&pair, "active");
    wait_until("both ran at the new active", || {
        let ran = text(&pair, "ran");
        ran.matches("server-stopped").count() == 2 && ran.contains("takeover")
    });
    fs::write(pair.home.join("go"), "").unwrap();
    let last = events(&pair).iter().filter_map(|one| one["seq"].as_u64()).max();
    wait_until("all is through", || {
        let done: Value =
            serde_json::from_str(&text(&pair, "state/alerts.json")).unwrap_or_default();
        done["hooks"].as_u64() >= last
    });
    pair.wait_whole();
    kill(&pair, "active");
    wait_until("the second takeover", || text(&pair, "ran").matches("takeover").count() == 2);
    assert_eq!(text(&pair, "ran").matches("server-stopped").count(), 2, "it was through");
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_group_and_failures_are_told_once() {
    let hangs = "echo $$ >> {home}/pids; sleep 1000 & echo $! >> {home}/pids; wait";
    let hooks = hook("hangs", "\"server-stopped\"", hangs, "timeout = \"3s\"")
        + &hook("fails", "\"server-stopped\", \"*-failed\"", "echo no disk; exit 7", "");
    let pair = Pair::new("", &(LIVES.to_owned() + &hooks));
    pair.start();
    pair.ok(&["stop", "web"]);
    wait_until("both have failed", || count(&pair, "hook-failed") == 2);
    let pids: Vec<i32> = text(&pair, "pids").lines().filter_map(|pid| pid.parse().ok()).collect();
    assert_eq!(pids.len(), 2);
    wait_until("nobody is left", || pids.iter().all(|pid| !is_alive(*pid)));
    let texts: Vec<String> = events(&pair).iter().map(|one| one["text"].to_string()).collect();
    assert!(texts.iter().any(|text| text.contains("exit 7: no disk")), "{texts:?}");
    pair.ok(&["start", "web"]);
    assert_eq!(count(&pair, "hook-failed"), 2, "a failed hook is no reason to run a hook");
}

#[test]
fn a_storm_of_events_is_bounded_and_hurts_no_server() {
    let slow = hook("slow", "\"server-*\"", "sleep 0.2", "");
    let quick =
        "instances = 20\nrestart = { delay = \"10ms\", delayMax = \"100ms\", tries = 1000 }";
    let servers = LIVES.to_owned() + &script("bad", "exit 3", quick) + &slow;
    let pair = Pair::new("", &servers);
    pair.run(&["run", "--detach", "--no-wait"]);
    wait_until("hooks are dropped", || pair.log(false).contains("NodeManager-0152"));
    pair.ok(&["stop", "bad"]);
    wait_event(&pair, "hook-dropped");
    pair.ok(&["restart", "web"]);
    assert_eq!(count(&pair, "takeover"), 0);
}

/// A `sendmail` that keeps what it is given.
fn fake_sendmail(pair: &Pair) {
    let path = pair.home.join("sendmail");
    let home = pair.home.display();
    let script = format!(
        "#!/bin/sh\ntest -e {home}/broken && {{ echo >&2 queue is full; exit 75; }}\n\
         f={home}/mail.$$\necho \"$@\" > $f.new; cat >> $f.new; mv $f.new $f\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn mails(pair: &Pair) -> Vec<String> {
    let files = fs::read_dir(&pair.home).unwrap().flatten().map(|entry| entry.path());
    let is_mail = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("mail.") && !name.ends_with(".new")
    };
    files.filter(is_mail).map(|path| fs::read_to_string(path).unwrap()).collect()
}

const MAIL: &str = "[mail]\nto = [\"ops@example.org\"]\nfrom = \"nm@example.org\"\n";

#[test]
fn many_failures_at_once_are_one_mail_and_a_failed_one_is_sent_again() {
    let fails = "restart = { when = \"never\" }\ninstances = 20";
    let mail = format!("{MAIL}group = \"1s\"\nsendmail = \"{{home}}/sendmail\"\n");
    let pair = Pair::new("", &(script("bad", "exit 3", fails) + &mail));
    fake_sendmail(&pair);
    fs::write(pair.home.join("broken"), "").unwrap();
    pair.run(&["run", "--detach", "--no-wait"]);
    wait_until("the first try has failed", || pair.log(false).contains("NodeManager-0155"));
    assert!(pair.log(false).contains("queue is full"));
    wait_until("all have failed", || count(&pair, "server-failed") == 20);
    fs::remove_file(pair.home.join("broken")).unwrap();
    wait_until("a mail came", || !mails(&pair).is_empty());
    let [mail] = mails(&pair).try_into().expect("one mail");
    assert!(mail.starts_with("-t -i\n"), "{mail}");
    assert!(mail.contains("20 events: 20 server-failed\n"), "{mail}");
    assert!(mail.contains("bad@7\n    FAILED: exit 3"), "{mail}");
    wait_until("it is said", || pair.log(false).contains("a mail about 20 events was sent"));
}

#[test]
fn mail_that_waits_when_the_active_dies_is_sent_by_the_next() {
    let mail = format!(
        "{MAIL}group = \"5s\"\non = [\"server-stopped\", \"takeover\"]\nsendmail = \"{{home}}/sendmail\"\n"
    );
    let pair = Pair::new("", &(LIVES.to_owned() + &mail));
    fake_sendmail(&pair);
    pair.start();
    pair.ok(&["stop", "web"]);
    kill(&pair, "active");
    wait_until("a mail came", || !mails(&pair).is_empty());
    let mail = mails(&pair).concat();
    assert!(mail.contains("server-stopped  web\n") && mail.contains("1 takeover"), "{mail}");
}

/// Speaks SMTP, refuses one recipient, and gives what it was told for each connection.
fn smtp_sink(listener: TcpListener, told: Arc<Mutex<Vec<String>>>) {
    for stream in listener.incoming().flatten() {
        let mut out = stream.try_clone().unwrap();
        let mut session = String::new();
        let mut is_data = false;
        let _ = out.write_all(b"220-hello\r\n220 sink\r\n");
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            session += &format!("{line}\n");
            let answer = match line.get(..4) {
                _ if is_data && line != "." => continue,
                _ if is_data => "250 taken\r\n",
                Some("EHLO") => "250-sink\r\n250 SIZE\r\n",
                Some("RCPT") if line.contains("nobody") => "550 no such user\r\n",
                Some("DATA") => "354 go on\r\n",
                Some("QUIT") => "221 bye\r\n",
                _ => "250 ok\r\n",
            };
            is_data = line == "DATA";
            let _ = out.write_all(answer.as_bytes());
        }
        told.lock().unwrap().push(session);
    }
}

#[test]
fn an_smtp_server_that_is_away_is_tried_again_and_then_gets_a_mail_in_form() {
    let port = free_port();
    let mail = format!(
        "[mail]\nto = [\"ops@example.org\", \"nobody@example.org\"]\nfrom = \"nm@example.org\"\n\
         group = \"10ms\"\non = [\"server-stopped\"]\nsmtp = \"127.0.0.1:{port}\"\n"
    );
    let pair = Pair::new("", &(LIVES.to_owned() + &mail));
    pair.start();
    pair.ok(&["stop", "web"]);
    wait_until("the first try has failed", || pair.log(false).contains("NodeManager-0155"));
    assert!(pair.log(false).contains("Connection refused"));
    pair.ok(&["start", "web"]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let sink = told.clone();
    std::thread::spawn(move || smtp_sink(listener, sink));
    let session = wait_for("a mail", || told.lock().unwrap().first().cloned());
    for line in [
        "MAIL FROM:<nm@example.org>\n",
        "RCPT TO:<ops@example.org>\n",
        "To: ops@example.org,\n nobody@example.org\n",
        "Auto-Submitted: auto-generated\n",
        "stopped as asked",
        "\n.\nQUIT\n",
    ] {
        assert!(session.contains(line), "{line:?}: {session}");
    }
    wait_until("it is said", || {
        pair.log(false).contains("but nobody@example.org was refused: 550")
    });
    assert_eq!(count(&pair, "takeover"), 0);
}

#[test]
fn the_end_of_the_pair_is_told_before_it_is_gone() {
    let hooks = hook("ends", "\"pair-ended\"", "cat > {home}/ended", "");
    let pair = Pair::new("", &(LIVES.to_owned() + &hooks));
    pair.start();
    pair.ok(&["shutdown", "--stop-servers"]);
    wait_until("it is told", || text(&pair, "ended").contains("pair-ended"));
    // Nothing is left to be ended by the test but what it started.
    pair.processes().into_iter().for_each(|pid| signal(pid, SIGKILL));
}
