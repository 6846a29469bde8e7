//! Tests of the core's parts; the whole is searched in `tests/search` and simulated in `tests/sim`.
//!
//! This file makes the values that the tests use; must not decide anything.

mod watch;

use super::restart::{Policy, Then, When};
use super::*;

pub const NOW: Ms = Ms(1_000_000);

pub fn process(pid: i32) -> Identity {
    Identity { pid, start_ticks: 70, inode: 7 }
}

pub fn policy() -> Policy {
    Policy {
        when: When::OnFailure,
        tries: 2,
        window_ms: 60_000,
        delay_ms: 100,
        delay_max_ms: 1_000,
        reset_after_ms: 10_000,
        then: Then::Fail,
    }
}

pub fn plan() -> ServerPlan {
    ServerPlan {
        name: "web".to_string(),
        auto_start: true,
        settle_ms: 50,
        policy: policy(),
        stop_signal: 15,
        stop_timeout_ms: 5_000,
        left_over: false,
    }
}

pub fn pair_plan() -> PairPlan {
    PairPlan {
        has_standby: true,
        heartbeat_interval_ms: 100,
        heartbeat_timeout_ms: 1_000,
        shutdown_timeout_ms: 8_000,
    }
}

/// A record of the server with this number.
pub fn entry(seq: u64, phase: Phase) -> Entry {
    let mut record = ServerRecord::new("web", Wanted::Up);
    record.phase = phase;
    Entry { seq, record: Record::Server(record) }
}
