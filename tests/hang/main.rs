//! A hang without false alarm: no takeover that was not needed, no two actives, no storm.
//!
//! Real pairs, starved of the processor, suspended and woken in every order, on a slow disk, under a
//! wall clock that jumps. Where something is a hang by definition, there is one takeover, and the
//! next ones come ever later. Must not set the machine's clock, nor stop processes of others.
//!
//! `cargo test --test hang` takes the short form, with short timeouts. `NM_HANG=long` takes the long
//! one: the standard heartbeats (500 ms, 3 s), pauses of 10 s, a minute of starvation. What needs root,
//! strace or libfaketime says so where that is missing.

mod clients;
mod disk;
mod starved;
#[path = "../support/mod.rs"]
mod support;
mod suspended;
#[path = "../tools/mod.rs"]
mod tools;
mod wall_clock;

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::Pair;
use support::counted::{assert_untouched, counted, started};

/// How long everything takes.
pub struct Scale {
    pub interval_ms: u64,
    pub timeout_ms: u64,
    /// How often what is done again and again is done.
    pub times: u64,
    pub starved_ms: u64,
    pub suspended_ms: u64,
}

/// The short form, or the long one.
pub fn scale() -> Scale {
    match is_long() {
        true => Scale {
            interval_ms: 500,
            timeout_ms: 3_000,
            times: 30,
            starved_ms: 60_000,
            suspended_ms: 10_000,
        },
        false => Scale {
            interval_ms: 50,
            timeout_ms: 1_000,
            times: 8,
            starved_ms: 3_000,
            suspended_ms: 2_500,
        },
    }
}

pub fn is_long() -> bool {
    std::env::var_os("NM_HANG").is_some_and(|form| form == "long")
}

/// For faults that have a length, which is no condition to wait for.
pub fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Does `act` again and again for so long, at least once.
pub fn during(ms: u64, mut act: impl FnMut()) {
    let end = Instant::now() + Duration::from_millis(ms);
    loop {
        act();
        if Instant::now() >= end {
            return;
        }
    }
}

/// A calm pair, and how long what is done to it takes.
pub fn calm(servers: usize) -> (Scale, Calm) {
    let scale = scale();
    let calm = Calm::new(&scale, servers);
    (scale, calm)
}

/// A whole pair, as it was before something was done to it.
pub struct Calm {
    pub pair: Pair,
    pub keeper: i32,
    pub active: i32,
    pub standby: i32,
    pub pids: BTreeMap<String, i32>,
}

impl Calm {
    pub fn new(scale: &Scale, servers: usize) -> Calm {
        let node = format!(
            "heartbeatInterval = \"{}ms\"\nheartbeatTimeout = \"{}ms\"",
            scale.interval_ms, scale.timeout_ms
        );
        Calm::with(&node, servers)
    }

    pub fn with(node: &str, servers: usize) -> Calm {
        let tables: Vec<String> =
            (0..servers).map(|number| counted(&format!("s{number}"), "", "")).collect();
        let pair = Pair::new(node, &tables.concat());
        pair.start();
        pair.wait_whole();
        let pids = started(&pair, servers);
        let [keeper, active, standby] =
            ["keeper", "active", "standby"].map(|role| pair.pid_of(role));
        Calm { pair, keeper, active, standby, pids }
    }

    pub fn all(&self) -> [i32; 3] {
        [self.keeper, self.active, self.standby]
    }

    /// Nobody was taken for hung, nobody was killed or started, and no server noticed.
    pub fn assert_undisturbed(&self, what: &str) {
        let status = self.assert_active_undisturbed(what);
        assert_eq!(status["standby"]["pid"], self.standby, "{what}: {status}");
    }

    /// As above, but the standby may be another one.
    pub fn assert_active_undisturbed(&self, what: &str) -> Value {
        self.pair.wait_whole();
        let status = self.pair.status();
        assert_eq!(status["takeovers"], 0, "{what}: {status}");
        assert_eq!(status["active"]["pid"], self.active, "{what}: {status}");
        assert_eq!(status["keeper"]["pid"], self.keeper, "{what}: {status}");
        self.assert_servers_untouched();
        status
    }

    pub fn assert_servers_untouched(&self) {
        assert_untouched(&self.pair, &self.pids);
    }

    /// How often a line with this code is in either log.
    pub fn lines_with(&self, code: &str) -> usize {
        let code = format!("[NodeManager-{code}]");
        [false, true].iter().map(|log| self.pair.log(*log).matches(&code).count()).sum()
    }
}
