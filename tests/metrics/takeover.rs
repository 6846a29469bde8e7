//! Counts and the address outlive the active.

use crate::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const TAKEOVERS: usize = 20;

/// Of one client that asks all the time.
#[derive(Default)]
struct Asked {
    answered: usize,
    /// A connection that a dying active had taken in; it was asked again.
    reset: usize,
}

#[test]
fn counts_outlive_takeovers_switchovers_and_the_death_of_both_twins() {
    let (pair, port) = pair_with_metrics(LIVES);
    let web = "{server=\"web\",program=\"web\"";
    let signals = format!("nodemanager_server_exits_total{web},kind=\"signal\"}}");
    let restarts = format!("nodemanager_server_restarts_total{web}}}");
    signal(pair.pids()["web"], SIGKILL);
    wait_value(port, &signals, |value| value == 1.0);
    wait_value(port, &format!("nodemanager_server_up{web}}}"), |value| value == 1.0);
    take_over(&pair);
    take_over(&pair);
    // Not a child of this active.
    signal(pair.pids()["web"], SIGKILL);
    wait_value(port, &restarts, |value| value == 2.0);
    wait_value(port, &signals, |value| value == 2.0);
    pair.ok(&["switchover"]);
    pair.wait_whole();
    let text = scrape(port);
    for (series, wanted) in [
        (signals.as_str(), 2.0),
        (&restarts, 2.0),
        ("nodemanager_takeovers_total", 2.0),
        ("nodemanager_switchovers_total", 1.0),
        ("nodemanager_takeover_duration_seconds_count", 2.0),
        ("nodemanager_takeover_duration_seconds_bucket{le=\"+Inf\"}", 2.0),
    ] {
        assert_eq!(value(&text, series), Some(wanted), "{series} in\n{text}");
    }
    let took_s = pair.status()["lastTakeover"]["ms"].as_f64().unwrap() / 1000.0;
    assert!(value(&text, "nodemanager_takeover_duration_seconds_sum") >= Some(took_s), "{text}");
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    signal(standby, SIGKILL);
    signal(active, SIGKILL);
    wait_until("the keeper's new active", || {
        pair.twin("active").is_some_and(|pid| pid != active && pid != standby)
    });
    pair.wait_whole();
    assert_eq!(value(&scrape(port), &signals), Some(2.0));
}

#[test]
fn every_request_is_answered_while_the_active_is_killed_again_and_again() {
    let (pair, port) = pair_with_metrics(LIVES);
    let end = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let end = end.clone();
            std::thread::spawn(move || ask_on(port, &end))
        })
        .collect();
    for _ in 0..TAKEOVERS {
        take_over(&pair);
    }
    end.store(true, Ordering::SeqCst);
    let all: Vec<Asked> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let answered: usize = all.iter().map(|one| one.answered).sum();
    let reset: usize = all.iter().map(|one| one.reset).sum();
    println!("{answered} answered, {reset} of them at the another try");
    assert!(answered > TAKEOVERS, "{answered} answered");
    assert!(reset <= TAKEOVERS * 3, "{reset} resets in {TAKEOVERS} takeovers");
    assert_eq!(value(&scrape(port), "nodemanager_takeovers_total"), Some(TAKEOVERS as f64));
}

/// A connection is never refused, and each question answered; with another try where a dead active
/// had it in its hands already.
fn ask_on(port: u16, end: &AtomicBool) -> Asked {
    let mut asked = Asked::default();
    while !end.load(Ordering::SeqCst) {
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut answer = exchange(&mut connect(port), request);
        for _ in 0..TAKEOVERS {
            if !answer.is_empty() {
                break;
            }
            asked.reset += 1;
            answer = exchange(&mut connect(port), request);
        }
        let (status, body) = split(&answer);
        assert!(status == 200 && body.contains("nodemanager_server_up"), "{answer:?}");
        asked.answered += 1;
    }
    asked
}
