//! Sockets that servers are handed, with clients that must not notice anything.

use crate::support::{Pair, both, free_port, wait_until};
use crate::{begin, descriptors, lose_both, pid, server, take_over, variable};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

const AT_ONCE: &str = "restart = { when = \"always\", delay = \"0ms\" }";

fn answering(name: &str, port: u16, keys: &str) -> String {
    let socket = format!("socket = [{{ name = \"http\", listen = \"tcp:127.0.0.1:{port}\" }}]");
    server(name, "--answer yes", &format!("{socket}\n{keys}"))
}

/// Asks the server for its PID.
fn ask(port: u16) -> std::io::Result<i32> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"?")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    text.trim().parse().map_err(|_| std::io::Error::other(format!("answered {text:?}")))
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn a_client_sees_no_error_while_its_server_is_restarted_and_actives_are_killed() {
    let port = free_port();
    let pair = Pair::new("", &answering("web", port, AT_ONCE));
    pair.start();
    pair.wait_whole();
    let (restarts, takeovers) = (number("NM_RESTARTS", 20), number("NM_TAKEOVERS", 5));
    let (is_over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                ask(port).unwrap_or_else(|error| panic!("after {answers:?} answers: {error}"));
                answers.fetch_add(1, Ordering::SeqCst);
            }
        });
        for round in 0..restarts.max(takeovers) {
            if round < restarts {
                pair.ok(&["restart", "web"]);
            }
            if round < takeovers {
                take_over(&pair);
            }
            let before = answers.load(Ordering::SeqCst);
            wait_until("another answer", || {
                client.is_finished() || answers.load(Ordering::SeqCst) > before
            });
            if client.is_finished() {
                break;
            }
        }
        is_over.store(true, Ordering::SeqCst);
        client.join().expect("no request fails");
    });
    assert!(pair.status()["takeovers"].as_u64() >= Some(takeovers as u64));
}

#[test]
fn a_server_has_its_own_sockets_and_no_others() {
    let (one, two, udp) = (free_port(), free_port(), free_port());
    let sockets = format!(
        "socket = [{{ name = \"http\", listen = \"tcp:127.0.0.1:{one}\" }}, \
         {{ name = \"log\", listen = \"udp:127.0.0.1:{udp}\" }}, \
         {{ listen = \"unix:run/web.sock\", mode = \"0600\" }}]\nready = {{ fd = 9 }}"
    );
    let web = server("web", "--life 600", &sockets);
    let other = answering("other", two, "ready = \"notify\"");
    let pair = Pair::new("", &(web + &other + &server("none", "--life 600", "")));
    begin(&pair);
    let web = pid(&pair, "web", "STARTING");
    assert_eq!(variable(web, "LISTEN_FDS").as_deref(), Some("3"));
    assert_eq!(variable(web, "LISTEN_PID"), Some(web.to_string()));
    assert_eq!(variable(web, "LISTEN_FDNAMES").as_deref(), Some("http:log:web"));
    let has = |pid, wanted: &[i32]| {
        wait_until(&format!("{wanted:?}, not {:?}", descriptors(pid)), || {
            descriptors(pid).iter().map(|(number, _)| *number).eq(wanted.iter().copied())
        });
    };
    has(web, &[3, 4, 5, 9]);
    let other = pid(&pair, "other", "STARTING");
    has(other, &[3]);
    let none = pid(&pair, "none", "RUNNING");
    has(none, &[]);
    assert_eq!(variable(none, "LISTEN_PID"), None);
    let theirs = descriptors(other);
    assert!(!descriptors(web).iter().any(|(_, target)| *target == theirs[0].1));
}

#[test]
fn a_socket_of_a_server_that_was_started_later_outlives_its_active_too() {
    let port = free_port();
    let pair = Pair::new("", &answering("web", port, "autoStart = false"));
    pair.start();
    pair.wait_whole();
    let standby = pair.pid_of("standby");
    pair.ok(&["start", "web"]);
    wait_until("a standby that has the socket", || {
        pair.twin("standby").is_some_and(|pid| pid != standby)
    });
    take_over(&pair);
    pair.wait_whole();
    let before = ask(port).expect("it answers");
    pair.ok(&["restart", "web"]);
    assert_ne!(ask(port).expect("it answers"), before);
}

#[test]
fn when_both_twins_died_the_socket_is_taken_back_from_the_server_that_has_it() {
    let port = free_port();
    let pair = Pair::new("", &answering("web", port, AT_ONCE));
    pair.start();
    let web = pid(&pair, "web", "RUNNING");
    lose_both(&pair);
    assert_eq!(pid(&pair, "web", "RUNNING"), web);
    assert_eq!(ask(port).expect("it answers"), web);
    if pair.log(false).contains("NodeManager-0385") {
        return println!("skipped: a process may not be traced here");
    }
    assert!(pair.log(false).contains(&format!("taken back from PID {web}")));
    pair.ok(&["restart", "web"]);
    assert_ne!(ask(port).expect("it answers"), web);
    take_over(&pair);
    pair.ok(&["restart", "web"]);
    ask(port).expect("it answers");
}

#[test]
fn a_port_that_somebody_else_has_is_an_error_of_that_server_alone_until_it_is_free() {
    let (port, other) = (free_port(), free_port());
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let servers = answering("web", port, "") + &answering("other", other, "");
    let pair = Pair::new("", &servers);
    begin(&pair);
    let row = pair.wait_state("web", "BACKOFF");
    let wanted = format!("tcp:127.0.0.1:{port}: in use by PID {}", std::process::id());
    assert!(row["reason"].as_str().is_some_and(|text| text.contains(&wanted)), "{row}");
    pid(&pair, "other", "RUNNING");
    drop(taken);
    let web = pid(&pair, "web", "RUNNING");
    assert_eq!(ask(port).expect("it answers"), web);
}

/// A second program that knows the protocol: Python's socketserver, with descriptor 3.
#[test]
fn a_server_in_python_answers_at_the_socket_it_is_handed() {
    let script = "import socket, socketserver\n\
                  class H(socketserver.BaseRequestHandler):\n    \
                  def handle(self): import os; self.request.recv(1); self.request.sendall(b\"%d\" % os.getpid())\n\
                  s = socketserver.TCPServer((\"127.0.0.1\", 0), H, False)\n\
                  s.socket = socket.socket(fileno=3)\n\
                  s.serve_forever()\n";
    if !std::process::Command::new("python3").arg("-V").output().is_ok_and(|o| o.status.success()) {
        return println!("skipped: there is no python3");
    }
    let port = free_port();
    let keys = format!("socket = [{{ listen = \"tcp:127.0.0.1:{port}\" }}]\nsettleTime = \"1ms\"");
    let text = format!(
        "[[server]]\nname = \"web\"\ncommand = ['python3', '-c', '''{script}''']\n{keys}\n"
    );
    let pair = Pair::new("", &text);
    let started = pair.run(&["run", "--detach"]);
    assert!(started.status.success(), "{}", both(&started));
    let web = pid(&pair, "web", "RUNNING");
    assert_eq!(ask(port).expect("it answers"), web);
    take_over(&pair);
    pair.ok(&["restart", "web"]);
    assert_ne!(ask(port).expect("it answers"), web);
}
