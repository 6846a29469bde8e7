//! Servers whose first process is not the one that stays.

use super::takeover::take_over;
use super::*;
use support::{SIGCONT, SIGKILL, SIGSTOP, signal, wait_for};

/// A daemon with a worker in a session of its own, started as daemons start themselves: the second
/// child of a child. It can be signalled once its worker's number is in the file. `late`: what happens
/// before its own number is in its file.
fn daemon(late: &str, more: &str) -> String {
    let work =
        "trap \"exit 4\" USR1; sleep 1000 & echo $$! > {home}/worker; while :; do wait $$!; done";
    let script = format!(
        "echo start >> {{home}}/ran; ( setsid sh -c '{work}' & {late} echo $$! > {{home}}/d.pid ) "
    );
    format!(
        "[[server]]\nname = \"d\"\ntype = \"forking\"\npidFile = \"{{home}}/d.pid\"\n\
         command = [\"/bin/sh\", \"-c\", \"\"\"{script}\"\"\"]\nrestart = {{ delay = \"50ms\" }}\n{more}\n"
    )
}

fn number(pair: &Pair, file: &str) -> i32 {
    wait_for(file, || fs::read_to_string(pair.home.join(file)).ok()?.trim().parse().ok())
}

fn pid(pair: &Pair) -> i32 {
    pair.server("d")["pid"].as_i64().unwrap() as i32
}

#[test]
fn a_daemon_is_its_server_and_is_stopped_with_its_workers() {
    let pair = Pair::new("", &daemon("", ""));
    pair.start();
    pair.wait_state("d", "RUNNING");
    let (first, worker) = (pid(&pair), number(&pair, "worker"));
    assert_eq!(first, number(&pair, "d.pid"));
    pair.ok(&["restart", "d"]);
    assert!(!is_alive(first) && !is_alive(worker), "the one before is gone");
    assert_eq!(pid(&pair), number(&pair, "d.pid"));
    pair.ok(&["stop", "d"]);
    assert!(!is_alive(number(&pair, "d.pid")) && !is_alive(number(&pair, "worker")));
    assert_eq!(ran(&pair), ["start", "start"]);
}

#[test]
fn a_daemon_that_ends_is_restarted_and_how_it_ended_is_known_also_after_a_takeover() {
    let pair = Pair::new("", &daemon("", ""));
    pair.start();
    pair.wait_state("d", "RUNNING");
    for _ in 0..2 {
        let before = pid(&pair);
        // Its trap is set by then; the next one writes the file anew.
        number(&pair, "worker");
        fs::remove_file(pair.home.join("worker")).unwrap();
        signal(before, 10);
        wait_until("another daemon", || {
            let d = pair.server("d");
            d["state"] == "RUNNING" && d["pid"] != before
        });
        let last = pair.server("d")["lastExit"].clone();
        assert_eq!(last["code"], 4, "{last}");
        let now = pid(&pair);
        take_over(&pair);
        assert_eq!(pid(&pair), now);
    }
    pair.ok(&["stop", "d"]);
    assert!(!is_alive(number(&pair, "worker")));
}

#[test]
fn the_active_dies_while_the_starter_runs_and_while_the_daemon_is_looked_for() {
    let pair = Pair::new("", &daemon("while ! test -e {home}/go; do sleep 0.02; done;", ""));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    wait_ran(&pair, "start");
    take_over(&pair);
    let_go(&pair);
    pair.wait_state("d", "RUNNING");
    assert_eq!(pid(&pair), number(&pair, "d.pid"));
    pair.ok(&["stop", "d"]);
    // Now the starter ends at once, and the file comes later.
    let late = Pair::new(
        "",
        &daemon("mkfifo {home}/f; ( read go < {home}/f; echo $$! > {home}/d.pid ) & exit 0;", ""),
    );
    late.run(&["run", "--detach", "--timeout", "1s"]);
    wait_until("it is looked for", || late.log(false).contains("its main process is looked for"));
    take_over(&late);
    fs::write(late.home.join("f"), "go\n").unwrap();
    late.wait_state("d", "RUNNING");
    assert_eq!(ran(&late), ["start"]);
    late.ok(&["stop", "d"]);
    assert!(!is_alive(number(&late, "worker")));
}

#[test]
fn a_starter_that_ends_while_nobody_is_active_leaves_a_daemon_that_the_next_one_can_stop() {
    let late = "echo $$! > {home}/d.pid; while ! test -e {home}/go; do sleep 0.02; done; exit 0;";
    let pair = Pair::new("heartbeatTimeout = \"20s\"", &daemon(late, ""));
    pair.run(&["run", "--detach", "--timeout", "1s"]);
    let (daemon, starter) = (number(&pair, "d.pid"), pid(&pair));
    let standby = pair.pid_of("standby");
    signal(standby, SIGSTOP);
    signal(pair.pid_of("active"), SIGKILL);
    fs::write(pair.home.join("go"), "").unwrap();
    // Its keeper tells its death before the next active has looked at any process.
    let starter = format!("/proc/{starter}");
    wait_until("the starter to be reaped", || !std::path::Path::new(&starter).exists());
    signal(standby, SIGCONT);
    pair.wait_state("d", "RUNNING");
    assert_eq!(pid(&pair), daemon);
    pair.ok(&["stop", "d", "--timeout", "20s"]);
    assert!(!is_alive(daemon) && !is_alive(number(&pair, "worker")));
}

#[test]
fn a_pid_file_that_names_a_stranger_is_not_believed_and_what_was_started_is_ended() {
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let late = format!(
        "while ! test -s {{home}}/worker; do sleep 0.02; done; echo {} > {{home}}/d.pid; exit 0;",
        stranger.id()
    );
    let more = "startTimeout = \"3s\"\nstop = { timeout = \"1s\" }";
    let text = daemon(&late, more).replace("delay = \"50ms\"", "tries = 0, then = \"fail\"");
    let pair = Pair::new("", &text);
    pair.run(&["run", "--detach", "--timeout", "20s"]);
    let d = pair.wait_state("d", "FAILED");
    let reason = text_of(&d);
    assert!(reason.contains("is not one of its processes"), "{reason}");
    assert!(stranger.try_wait().unwrap().is_none(), "nobody touched the stranger");
    assert!(!is_alive(number(&pair, "worker")), "what it started is ended by its mark");
    signal(stranger.id() as i32, SIGKILL);
    stranger.wait().unwrap();
}

#[test]
fn a_pid_file_that_names_another_server_or_the_standby_is_not_believed() {
    let more = "startTimeout = \"10m\"\nstop = { timeout = \"1s\" }\nautoStart = false";
    let late = "while ! test -e {home}/go; do sleep 0.02; done; exit 0;";
    let text = daemon(late, more).replace("delay = \"50ms\"", "tries = 0, then = \"fail\"");
    let pair = Pair::new("", &format!("{text}{}", lives("other", "")));
    pair.start();
    for role in ["other", "standby"] {
        let _ = fs::remove_file(pair.home.join("go"));
        pair.ok(&["start", "d", "--no-wait"]);
        wait_ran(&pair, "start");
        // Both are younger than the starter, and children of the active.
        let named = match role {
            "other" => {
                pair.ok(&["restart", "other"]);
                pair.server("other")["pid"].as_i64().unwrap() as i32
            }
            _ => {
                let before = pair.pid_of("standby");
                signal(before, SIGKILL);
                wait_until("another standby", || {
                    pair.twin("standby").is_some_and(|pid| pid != before)
                });
                pair.wait_whole();
                pair.pid_of("standby")
            }
        };
        fs::write(pair.home.join("d.pid"), named.to_string()).unwrap();
        let_go(&pair);
        wait_until("that it is not believed", || {
            super::text(&pair.server("d"), "detail").contains("not one of its processes")
        });
        pair.ok(&["kill", "d"]);
        assert!(is_alive(named), "{role} was touched");
        fs::remove_file(pair.home.join("ran")).unwrap();
    }
}

fn text_of(server: &Value) -> String {
    text(server, "reason")
}

#[test]
fn a_real_redis_that_makes_itself_a_daemon_is_managed_and_lives_through_a_takeover() {
    if !support::has_tool("redis-server") {
        return;
    }
    let port = support::free_port();
    let pair = Pair::new(
        "",
        &format!(
            "[[server]]\nname = \"d\"\ntype = \"forking\"\npidFile = \"{{home}}/redis.pid\"\n\
             command = \"redis-server --port {port} --bind 127.0.0.1 --daemonize yes --dir {{home}} \
             --pidfile {{home}}/redis.pid --save ''\"\nready = {{ tcp = \"127.0.0.1:{port}\" }}\n"
        ),
    );
    pair.start();
    pair.wait_state("d", "RUNNING");
    let before = pid(&pair);
    assert_eq!(before, number(&pair, "redis.pid"));
    take_over(&pair);
    assert_eq!(pid(&pair), before);
    signal(before, SIGKILL);
    wait_until("another redis", || {
        let d = pair.server("d");
        d["state"] == "RUNNING" && d["pid"] != before
    });
    assert_eq!(pair.server("d")["lastExit"]["signal"], "SIGKILL");
    pair.ok(&["stop", "d"]);
}

#[test]
fn a_server_that_names_another_main_process_is_followed_to_it() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        eprintln!("skipped: no python3");
        return;
    }
    let script = "import os, socket, time, signal\n\
                  said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
                  say = lambda text: said.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])\n\
                  say('READY=1')\n\
                  signal.signal(signal.SIGUSR1, lambda *_: os._exit(6))\n\
                  while not os.path.exists('{home}/go'): time.sleep(0.02)\n\
                  child = os.fork()\n\
                  if child: say(f'MAINPID={child}'); time.sleep(1); os._exit(0)\n\
                  while True: time.sleep(0.1)\n";
    let more = "ready = \"notify\"\nrestart = { tries = 0, then = \"fail\" }";
    let pair = Pair::new("", "");
    fs::write(
        pair.home.join("server.py"),
        script.replace("{home}", &pair.home.display().to_string()),
    )
    .unwrap();
    pair.configure(
        "",
        &format!(
            "[[server]]\nname = \"d\"\ncommand = \"/usr/bin/python3 {{home}}/server.py\"\n{more}\n"
        ),
    );
    pair.start();
    pair.wait_state("d", "RUNNING");
    let first = pid(&pair);
    let_go(&pair);
    wait_until("the new main process", || pid(&pair) != first);
    let second = pid(&pair);
    wait_until("the end of the old one", || !is_alive(first));
    take_over(&pair);
    assert_eq!((pid(&pair), &pair.server("d")["state"]), (second, &"RUNNING".into()));
    signal(second, 10);
    let d = pair.wait_state("d", "FAILED");
    assert_eq!(d["lastExit"]["code"], 6, "{d}");
}
