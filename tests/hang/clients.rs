//! What a command does while the active hangs.

use crate::support::{SIGSTOP, both, is_alive, signal, wait_until};
use crate::{Calm, is_long};

#[test]
fn a_command_says_what_it_waits_for_and_is_answered_after_the_takeover() {
    let calm = Calm::with("heartbeatInterval = \"500ms\"\nheartbeatTimeout = \"6s\"", 2);
    signal(calm.active, SIGSTOP);
    let output = calm.pair.run(&["status", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    let told = format!(
        "waiting: the active (PID {}) does not answer; the standby decides within 6 s\n",
        calm.active
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), told);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["active"]["pid"], calm.standby);
    calm.assert_servers_untouched();
}

#[test]
fn a_request_outlasts_a_hang_whose_timeout_has_grown_beyond_half_a_minute() {
    if !is_long() {
        return println!("skipped: NM_HANG=long takes it (65 s)");
    }
    let calm = Calm::with("heartbeatInterval = \"100ms\"\nheartbeatTimeout = \"1s\"", 2);
    for times in 0..6 {
        let active = calm.pair.pid_of("active");
        signal(active, SIGSTOP);
        // The sixth is noticed after 32 s; a request that comes then is not refused.
        let words: &[&str] = if times < 5 { &["status"] } else { &["stop", "s0"] };
        let output = calm.pair.run(words);
        assert_eq!(output.status.code(), Some(0), "{}", both(&output));
        wait_until("the hung active to be killed", || !is_alive(active));
        calm.pair.wait_whole();
    }
    assert_eq!(calm.pair.server("s0")["state"], "STOPPED");
    assert_eq!(calm.pair.status()["takeovers"], 6);
}
