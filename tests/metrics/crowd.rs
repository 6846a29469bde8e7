//! Garbage, silence, slowness and crowds: nobody else notices.

use crate::*;

#[test]
fn garbage_gets_a_refusal_and_disturbs_nobody() {
    let (pair, port) = pair_with_metrics(LIVES);
    let before = pair.pids();
    let noise: Vec<u8> =
        (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let inputs: [&[u8]; 5] = [
        &noise,
        long.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /metrics\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ];
    for bytes in inputs {
        let answer = exchange(&mut connect(port), bytes);
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let refused = exchange(&mut connect(port), b"GET /metrics HTTP/1.1\r\nX\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    // Half a question and a closed end.
    for bytes in [&b""[..], b"G", b"GET /metrics HTTP/1.1\r\n"] {
        let mut stream = connect(port);
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(exchange(&mut stream, b""), "");
    }
    assert_eq!(ask(port, "GET /healthz").0, 200);
    assert_eq!((pair.pids(), pair.status()["pair"].clone()), (before, "ok".into()));
}

#[test]
fn a_question_in_pieces_is_answered_and_so_is_who_closes_its_end_behind_it() {
    let (_pair, port) = pair_with_metrics(LIVES);
    let mut stream = connect(port);
    for piece in [&b"GET /hea"[..], b"lthz HTTP", b"/1.1\r\nHost: x\r\n", b"\r\n"] {
        stream.write_all(piece).unwrap();
        std::thread::sleep(PAUSE);
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(split(&exchange(&mut stream, b"")), (200, "ok\n".to_owned()));
    // Two questions at once: one is answered, and the end says so.
    let both = b"GET /healthz HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n";
    let answer = exchange(&mut connect(port), both);
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(answer.contains("Connection: close"), "{answer}");
}

#[test]
fn a_crowd_of_silent_and_of_slow_clients_keeps_nobody_out() {
    let (pair, port) = pair_with_metrics(LIVES);
    let silent: Vec<TcpStream> = (0..300).map(|_| connect(port)).collect();
    assert_eq!(ask(port, "GET /healthz").0, 200);
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(port);
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(ask(port, "GET /metrics").0, 200);
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", pair.pid_of("active"))).unwrap();
    let is_socket = |entry: &std::fs::DirEntry| {
        let path = std::fs::read_link(entry.path());
        path.is_ok_and(|path| path.to_string_lossy().starts_with("socket:"))
    };
    let sockets = open.flatten().filter(is_socket).count();
    assert!((64..64 + 40).contains(&sockets), "{sockets}: more than its clients are kept");
    // A takeover in the middle of it.
    take_over(&pair);
    assert_eq!(ask(port, "GET /metrics").0, 200);
    drop((silent, slow));
    assert_eq!(pair.status()["takeovers"], 1);
}
