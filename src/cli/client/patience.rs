//! How long silence is borne: as long as somebody is there who will end it, and never for ever.
//!
//! Must not ask the silent active. `run/pair.json` says who is who and how long a hang may last;
//! /proc says who of them can still act.

use super::{Call, Client, Patience};
use crate::api::{PAIR_ENDED, PairFile, Twin};
use std::fs;
use std::time::Duration;

/// A longer decision is not waited for. (With the standard `heartbeatTimeout` the longest takes 96 s.)
const DECISION_MAX: Duration = Duration::from_secs(3_600);
/// So many actives that hang, one after the other, are waited for.
const EXTENSIONS_MAX: u32 = 8;
/// Without a standby the keeper acts, after three times what a standby needs.
const KEEPER_TIMES: u32 = 3;

impl Client {
    /// Nobody answered in time. How much longer is waited: until who watches the active has
    /// decided. Once for each active.
    pub(super) fn extension(&self, call: &mut Call<'_>) -> Option<Duration> {
        let (pair, more, _) = self.decision()?;
        let pid = pair.active.as_ref().map(|twin| twin.pid);
        let is_bounded = matches!(call.patience, Patience::Until(_));
        if is_bounded || call.extensions >= EXTENSIONS_MAX || call.extended_for == Some(pid) {
            return None;
        }
        call.extensions += 1;
        call.extended_for = Some(pid);
        Some(more)
    }

    /// Says once what is waited for.
    pub(super) fn notice(&self) {
        if self.noticed.replace(true) {
            return;
        }
        if let Some((pair, within, who)) = self.decision() {
            let pid = pair.active.as_ref().map(|twin| format!(" (PID {})", twin.pid));
            let (pid, within) = (pid.unwrap_or_default(), within.as_secs_f64().ceil());
            (self.say)(&format!(
                "waiting: the active{pid} does not answer; the {who} decides within {within} s"
            ));
        } else if let Some(what) = self.read_pair_file().and_then(|pair| pair.waits_for) {
            (self.say)(&format!("waiting: {what}"));
        }
    }

    /// Who decides what becomes of a silent active, and how long that takes at most. `None`: there
    /// is nobody, or it is decided and something else is waited for.
    fn decision(&self) -> Option<(PairFile, Duration, &'static str)> {
        let pair = self.read_pair_file()?;
        if pair.state == PAIR_ENDED || pair.waits_for.is_some() {
            return None;
        }
        let within = Duration::from_millis(pair.decides_within_ms?);
        let can_act = |twin: &Option<Twin>| twin.as_ref().is_some_and(can_act);
        let (within, who) = match (can_act(&pair.standby), can_act(&pair.keeper)) {
            (true, _) => (within, "standby"),
            (false, true) => (within.saturating_mul(KEEPER_TIMES), "keeper"),
            (false, false) => return None,
        };
        Some((pair, within.min(DECISION_MAX), who))
    }
}

/// It lives and is not stopped.
fn can_act(twin: &Twin) -> bool {
    lives(twin) && !matches!(state_of(twin).as_deref(), Some("T" | "t"))
}

/// Whether `twin` is still the process that it was. Our own processes have one thread, so a
/// zombie of theirs is dead; that is not so for others.
pub(super) fn lives(twin: &Twin) -> bool {
    state_of(twin).is_some_and(|state| !matches!(state.as_str(), "Z" | "X" | "x"))
}

/// The state letter of `twin`, while it is the process that it was.
pub(super) fn state_of(twin: &Twin) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", twin.pid)).ok()?;
    // The name may hold spaces and parentheses: fields count from behind the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.to_string();
    let start_ticks = fields.nth(18).and_then(|field| field.parse().ok());
    (start_ticks == Some(twin.start_ticks)).then_some(state)
}
