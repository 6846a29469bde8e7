//! Strangers on standbyPort, bad requests on the control socket.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::*;

#[test]
fn strangers_on_standby_port_are_dropped_and_logged_once_and_the_pair_does_not_notice() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let noise: Vec<u8> =
        (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let half = hello("x");
    let mut claims_much = Vec::from(u32::MAX.to_le_bytes());
    claims_much.extend([0; 100]);
    let inputs: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &hello("0123456789abcdef"),
        &hello(""),
        &half[..half.len() / 2],
        &noise,
        &claims_much,
    ];
    for bytes in inputs {
        assert_eq!(exchange(&mut link(&pair), bytes), "", "a stranger was answered");
    }
    let mut crowd: Vec<TcpStream> = (0..100).map(|_| link(&pair)).collect();
    crowd.iter_mut().for_each(|stream| assert_eq!(until_closed(stream), ""));
    assert_undisturbed(&pair, before);
    let said = pair.log(false).matches("-0111]").count();
    assert!((1..=2).contains(&said), "said {said} times");
}

#[test]
fn a_fresh_standby_gets_through_a_crowd_of_silent_strangers() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let (end, port) = (Arc::new(AtomicBool::new(false)), pair.port);
    let crowd = std::thread::spawn({
        let end = end.clone();
        move || {
            let mut held = std::collections::VecDeque::new();
            while !end.load(Ordering::SeqCst) {
                held.extend(TcpStream::connect(("127.0.0.1", port)));
                if held.len() > 40 {
                    held.pop_front();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    signal(before.1, SIGKILL);
    wait_until("a fresh standby", || {
        let status = pair.status();
        status["standby"]["pid"] != before.1 && status["standby"]["state"] == "WATCHING"
    });
    end.store(true, Ordering::SeqCst);
    crowd.join().unwrap();
    assert_eq!(pair.pid_of("active"), before.0);
}

// ---- the control socket

#[test]
fn bad_requests_get_an_answer_that_says_what_is_wrong() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    let body = |text: &str| {
        let length = text.len();
        format!("POST /v1/servers/stop HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{text}")
    };
    let cases: Vec<(String, &str)> = vec![
        ("\u{1}\u{2}\u{3} garbage\r\n\r\n".into(), " 400 "),
        ("GET /v1/nothing HTTP/1.1\r\n\r\n".into(), " 404 "),
        ("DELETE /v1/status HTTP/1.1\r\n\r\n".into(), " 405 "),
        (long, " 431 "),
        ("POST /v1/shutdown HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".into(), " 413 "),
        ("POST /v1/shutdown HTTP/1.1\r\nContent-Length: -1\r\n\r\n".into(), " 400 "),
        (
            "POST /v1/shutdown HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            " 501 ",
        ),
        (body("{}"), " 400 "),
        (body("not json"), " 400 "),
        (body(r#"{"id":"../../x","names":["a"],"wait":true}"#), " 400 "),
        (body(r#"{"id":"x1","names":["nobody"],"wait":true}"#), " 404 "),
    ];
    for (bytes, status) in cases {
        let answer = exchange(&mut control(&pair), bytes.as_bytes());
        let first = answer.lines().next().unwrap_or_default().to_string();
        assert!(first.contains(status), "{bytes:.60?} was answered with {first:?}");
    }
    // Endless bytes without a line end, and a body that never comes.
    let noise = vec![b'x'; 1 << 20];
    has(&exchange(&mut control(&pair), &noise), &["HTTP/1.1 4"]);
    let mut half = control(&pair);
    half.write_all(b"POST /v1/shutdown HTTP/1.1\r\nContent-Length: 50\r\n\r\n{").unwrap();
    assert_eq!(until_closed(&mut half), "", "half a request was answered");
    assert_undisturbed(&pair, before);
    assert_eq!(pair.server("a")["state"], "RUNNING");
    let said = pair.log(false).matches("-0116]").count();
    assert!((1..=2).contains(&said), "said {said} times");
}

#[test]
fn clients_that_stop_reading_do_not_keep_others_waiting_and_are_dropped() {
    let many: String = (0..1200)
        .map(|n| {
            format!("[[server]]\nname = \"s{n}\"\ncommand = \"sleep 1000\"\nautoStart = false\n")
        })
        .collect();
    let pair = Pair::new("heartbeatTimeout = \"3s\"", &many);
    pair.start();
    let before = twins(&pair);
    let clients = || fs::read_dir(format!("/proc/{}/fd", before.0)).unwrap().count();
    let idle = clients();
    let request = b"GET /v1/status HTTP/1.1\r\n\r\n".repeat(200);
    let mut deaf: Vec<_> = (0..20).map(|_| control(&pair)).collect();
    for stream in &mut deaf {
        let _ = stream.write_all(&request);
    }
    assert_eq!(pair.status()["servers"].as_array().unwrap().len(), 1200);
    wait_until("the clients to be dropped", || clients() <= idle + 2);
    for stream in &mut deaf {
        let answer = until_closed(stream);
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "more than one answer");
    }
    assert_undisturbed(&pair, before);
}

#[test]
fn six_hundred_idle_clients_do_not_keep_others_from_being_served() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let mut idle: Vec<_> = (0..600)
        .map(|_| {
            let stream = control(&pair);
            stream.set_nonblocking(false).unwrap();
            stream
        })
        .collect();
    pair.ok(&["restart", "a"]);
    assert_undisturbed(&pair, before);
    for stream in &mut idle {
        assert_eq!(until_closed(stream), "");
    }
}

#[test]
fn a_client_that_never_stops_sending_does_not_stop_the_loop() {
    let pair = Pair::new("", SLEEPER);
    pair.start();
    let before = twins(&pair);
    let end = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..2)
        .map(|number| {
            let (end, path, port) = (end.clone(), pair.home.join("run/control.sock"), pair.port);
            std::thread::spawn(move || {
                let noise = vec![b'\r'; 1 << 20];
                while !end.load(Ordering::SeqCst) {
                    if number == 0 {
                        let stream = std::os::unix::net::UnixStream::connect(&path);
                        let _ = stream.and_then(|mut stream| stream.write_all(&noise));
                    } else {
                        let stream = TcpStream::connect(("127.0.0.1", port));
                        let _ = stream.and_then(|mut stream| stream.write_all(&noise));
                    }
                }
            })
        })
        .collect();
    for _ in 0..5 {
        pair.ok(&["restart", "a"]);
    }
    end.store(true, Ordering::SeqCst);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    assert_undisturbed(&pair, before);
}

// ---- signals
