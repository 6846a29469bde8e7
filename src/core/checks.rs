//! Readiness and health of one server: when it is asked, and what its answers make of it.
//!
//! Must not ask anything itself (the shell does), and must not keep anything on record: who takes
//! over counts anew, so a takeover can delay a restart by a check's patience, and never cause one.

use super::plan::{Drain, Health, Kind, Ready};
use super::rare::Blank;
use super::record::{LogPlace, Phase, TaskKind, Why};
use super::server::{Server, Step, Steps};
use super::time::Ms;
use super::{Action, Note};

/// An answer that is later than its timeout by so much will never come.
const ANSWER_GRACE_MS: u64 = 1_000;
/// The answer whether work is left takes at most so long.
pub const DRAIN_ANSWER_MS: u64 = 60_000;
/// A text that a server tells of itself is put on record at most so often.
const STATUS_EVERY_MS: u64 = 1_000;

/// Which check of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    Ready,
    /// Its place in the list of health checks.
    Health(usize),
    /// Whether work is left.
    Drain,
}

/// What a server said of itself (sd_notify(3)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Told {
    pub ready: bool,
    pub stopping: bool,
    pub status: Option<String>,
    /// It needs so much more time for what it does now.
    pub extend_ms: Option<u64>,
    pub watchdog: bool,
    /// It asks to be restarted as if its watchdog had fired.
    pub watchdog_trigger: bool,
    /// It changes the time of its watchdog.
    pub watchdog_ms: Option<u64>,
}

/// Where one check is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// When it is asked next, or given up waiting for.
    pub due: Option<Ms>,
    /// An answer is owed.
    pub is_asked: bool,
    /// Bad answers in a row.
    pub failures: u32,
    pub failing_since: Option<Ms>,
    pub last: Option<Result<(), String>>,
    pub last_at: Option<Ms>,
}

/// The checks of one server in its present run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checks {
    pub ready: Progress,
    pub health: Vec<Progress>,
    pub drain: Progress,
    /// When a status text was put on record last.
    status_at: Option<Ms>,
    /// The server changed the time of its watchdog.
    watchdog_ms: Option<u64>,
}

impl Progress {
    const NONE: Progress = Progress {
        due: None,
        is_asked: false,
        failures: 0,
        failing_since: None,
        last: None,
        last_at: None,
    };
}

impl Blank for Checks {
    const BLANK: &'static Checks = &Checks {
        ready: Progress::NONE,
        health: Vec::new(),
        drain: Progress::NONE,
        status_at: None,
        watchdog_ms: None,
    };
}

impl Server {
    /// It runs: from now on it has to show that it is ready.
    pub(super) fn begin_readiness(&mut self, now: Ms) {
        self.checks.clear();
        if let Some(Ready::Asked { .. }) = self.plan.ready
            && !self.awaits_main()
        {
            self.checks.ready.due = Some(now);
        }
    }

    /// It is RUNNING: from now on its health is looked at.
    pub(super) fn begin_health(&mut self, now: Ms) {
        if self.plan.health.is_empty() && self.checks.health.is_empty() {
            return;
        }
        let due = |check: &Health| match *check {
            Health::Watchdog { timeout_ms } => {
                now.after(self.checks.watchdog_ms.unwrap_or(timeout_ms))
            }
            Health::Asked { interval_ms, .. } => now.after(interval_ms),
        };
        let progress = |check| Progress { due: Some(due(check)), ..Progress::default() };
        let health = self.plan.health.iter().map(progress).collect();
        self.checks.health = health;
    }

    /// After a takeover the looks begin anew.
    pub(super) fn begin_checks_again(&mut self, now: Ms, steps: &mut Steps) {
        match self.rec.phase {
            // It has shown that.
            Phase::Unready { .. } if self.runs(TaskKind::PostStart) => {}
            Phase::Unready { .. } => self.begin_readiness(now),
            Phase::Up { .. } => self.begin_health(now),
            Phase::Draining { .. } if self.running_task().is_none() => self.is_quiesced(now, steps),
            _ => {}
        }
    }

    fn progress(&mut self, check: Check) -> Option<&mut Progress> {
        match check {
            Check::Ready => Some(&mut self.checks.ready),
            Check::Drain => Some(&mut self.checks.drain),
            Check::Health(at) => self.checks.health.get_mut(at),
        }
    }

    fn is_asked(&self, check: Check) -> bool {
        match check {
            Check::Ready => self.checks.ready.is_asked,
            Check::Drain => self.checks.drain.is_asked,
            Check::Health(at) => self.checks.health.get(at).is_some_and(|one| one.is_asked),
        }
    }

    /// The check that is due next. Only the phase that needs a check has one.
    fn next_check(&self) -> Option<(Ms, Check)> {
        match self.rec.phase {
            Phase::Unready { .. } => self.checks.ready.due.map(|at| (at, Check::Ready)),
            Phase::Draining { quiesced: true, .. } => {
                self.checks.drain.due.map(|at| (at, Check::Drain))
            }
            Phase::Up { .. } => {
                let health = self.checks.health.iter().enumerate();
                health.filter_map(|(n, one)| Some((one.due?, Check::Health(n)))).min()
            }
            _ => None,
        }
    }

    /// When a check is due.
    pub fn check_deadline(&self) -> Option<Ms> {
        self.next_check().map(|(at, _)| at)
    }

    /// The check that is due is asked, or was never answered.
    pub fn on_check_due(&mut self, now: Ms, steps: &mut Steps) {
        let Some((_, check)) = self.next_check() else { return };
        let timeout_ms = match self.timing(check) {
            Timing::Watchdog { timeout_ms } => {
                let text = format!("no sign of life for {} s", timeout_ms.div_ceil(1_000));
                return self.on_bad_answer(now, check, text, steps);
            }
            Timing::Asked { timeout_ms, .. } => timeout_ms,
        };
        let Some(progress) = self.progress(check) else { return };
        if progress.is_asked {
            return self.on_bad_answer(now, check, "no answer".to_string(), steps);
        }
        progress.is_asked = true;
        progress.due = Some(now.after(timeout_ms).after(ANSWER_GRACE_MS));
        let start_number = self.rec.start_number;
        steps.push(Step::Do(Action::Probe { server: self.id, start_number, check }));
    }

    /// The answer to a check.
    pub fn on_probed(
        &mut self,
        now: Ms,
        start_number: u64,
        check: Check,
        answer: Result<(), String>,
        steps: &mut Steps,
    ) {
        let is_due = match check {
            Check::Ready => matches!(self.rec.phase, Phase::Unready { .. }),
            Check::Health(_) => matches!(self.rec.phase, Phase::Up { .. }),
            Check::Drain => matches!(self.rec.phase, Phase::Draining { quiesced: true, .. }),
        };
        if !is_due || !self.is_asked(check) || self.rec.start_number != start_number {
            return;
        }
        match (answer, check, self.rec.phase.process()) {
            (Ok(()), Check::Ready, Some(process)) => self.become_up(now, process, steps),
            (Ok(()), Check::Drain, _) => self.is_drained(now, steps),
            (Ok(()), ..) => self.on_good_answer(now, check),
            (Err(text), ..) => self.on_bad_answer(now, check, text, steps),
        }
    }

    fn on_good_answer(&mut self, now: Ms, check: Check) {
        let next_ms = self.timing(check).next_ms();
        let Some(progress) = self.progress(check) else { return };
        let due = Some(now.after(next_ms));
        let (last, last_at) = (Some(Ok(())), Some(now));
        *progress = Progress { due, last, last_at, ..Progress::default() };
    }

    fn on_bad_answer(&mut self, now: Ms, check: Check, text: String, steps: &mut Steps) {
        let timing = self.timing(check);
        let Some(progress) = self.progress(check) else { return };
        progress.is_asked = false;
        progress.due = Some(now.after(timing.next_ms()));
        progress.failures = progress.failures.saturating_add(1);
        let since = *progress.failing_since.get_or_insert(now);
        (progress.last, progress.last_at) = (Some(Err(text.clone())), Some(now));
        let failures = progress.failures;
        let at = match check {
            Check::Health(at) => at,
            Check::Ready => return self.rec.reason = Some(format!("not ready yet: {text}").into()),
            Check::Drain => return self.rec.reason = Some(format!("work is left: {text}").into()),
        };
        let Timing::Asked { failures: allowed, for_ms, .. } = timing else {
            if !self.maintenance {
                self.fail(now, format!("health check {}: {text}", at + 1), steps);
            }
            return;
        };
        if failures >= allowed && now.since(since) >= for_ms && !self.maintenance {
            let times = if failures == 1 { String::new() } else { format!(" ({failures} times)") };
            self.fail(now, format!("health check {}: {text}{times}", at + 1), steps);
        }
    }

    /// It runs, and is of no use: stopped as in any stop, then its policy decides.
    pub(super) fn fail(&mut self, now: Ms, reason: String, steps: &mut Steps) {
        let Some(process) = self.rec.phase.process() else { return };
        self.rec.lost = true;
        self.bring_to_stop(now, process, Why::Failing, steps);
        // Saved with what is entered there: a record is written when the steps are through.
        self.rec.reason = Some(reason.into());
    }

    /// The time in which it had to become ready is over.
    pub(super) fn on_start_timeout(&mut self, now: Ms, steps: &mut Steps) {
        let seconds = self.plan.start_timeout_ms.div_ceil(1_000);
        let what = match self.plan.kind {
            Kind::Oneshot => "did not end",
            Kind::Forking if self.awaits_main() => "its starter did not end",
            Kind::Simple | Kind::Forking => "not ready",
        };
        let last = match &self.checks.ready.last {
            Some(Err(text)) => format!(" (last answer: {text})"),
            _ => String::new(),
        };
        self.fail(now, format!("{what} after {seconds} s{last}"), steps);
    }

    /// Where the output of the child that is owed begins; saved with its identity.
    pub fn on_output_at(&mut self, start_number: u64, place: LogPlace) {
        let is_owed = matches!(self.rec.phase, Phase::Spawning { .. });
        if is_owed && self.rec.start_number == start_number {
            self.rec.output_at = Some(place.into());
        }
    }

    /// It said something of itself.
    pub fn on_told(&mut self, now: Ms, start_number: u64, told: Told, steps: &mut Steps) {
        if self.rec.start_number != start_number {
            return;
        }
        if let Some(text) = told.status
            && self.rec.status_text.as_deref() != Some(&*text)
        {
            self.rec.status_text = Some(text.into());
            if self.checks.status_at.is_none_or(|at| now.since(at) >= STATUS_EVERY_MS) {
                self.checks.status_at = Some(now);
                steps.push(Step::Save);
            }
        }
        if told.watchdog_ms.is_some() {
            self.checks.watchdog_ms = told.watchdog_ms;
        }
        if let Some(more_ms) = told.extend_ms {
            self.extend(now.after(more_ms), steps);
        }
        let is_unready = matches!(self.rec.phase, Phase::Unready { .. });
        if told.ready
            && is_unready
            && self.plan.ready == Some(Ready::Told)
            && let Some(process) = self.rec.phase.process()
        {
            self.become_up(now, process, steps);
        }
        if !matches!(self.rec.phase, Phase::Up { .. }) {
            return;
        }
        if told.stopping {
            self.rec.reason = Some("it says that it is stopping".into());
            steps.push(Step::Do(Action::Note(Note::Server(self.id))));
        }
        let watchdogs = (0..self.plan.health.len()).map(Check::Health);
        for check in watchdogs
            .filter(|check| matches!(self.timing(*check), Timing::Watchdog { .. }))
            .collect::<Vec<_>>()
        {
            if told.watchdog_trigger {
                return self.on_bad_answer(
                    now,
                    check,
                    "it asked to be restarted".to_string(),
                    steps,
                );
            }
            if told.watchdog || told.watchdog_ms.is_some() {
                self.on_good_answer(now, check);
            }
        }
    }

    /// What it does now may take until then.
    fn extend(&mut self, to: Ms, steps: &mut Steps) {
        match &mut self.rec.phase {
            Phase::Unready { until, .. }
            | Phase::Stopping { until, killed: false, leader_dead: false, .. } => {
                *until = (*until).max(to);
                steps.push(Step::Save);
            }
            _ => {}
        }
    }

    /// The process that said of itself that it is ready, or was found so.
    pub(super) fn has_readiness(&self) -> bool {
        self.plan.ready.is_some() || matches!(self.plan.kind, Kind::Oneshot | Kind::Forking)
    }

    fn timing(&self, check: Check) -> Timing {
        let never = Timing::Watchdog { timeout_ms: u64::MAX };
        match check {
            Check::Ready => match self.plan.ready {
                Some(Ready::Asked { interval_ms, timeout_ms }) => {
                    Timing::Asked { interval_ms, timeout_ms, failures: u32::MAX, for_ms: 0 }
                }
                _ => never,
            },
            Check::Drain => match self.plan.drain {
                Some(Drain { interval_ms, .. }) => Timing::Asked {
                    interval_ms,
                    timeout_ms: DRAIN_ANSWER_MS,
                    failures: u32::MAX,
                    for_ms: 0,
                },
                None => never,
            },
            Check::Health(at) => match self.plan.health.get(at) {
                Some(Health::Watchdog { timeout_ms }) => {
                    Timing::Watchdog { timeout_ms: self.checks.watchdog_ms.unwrap_or(*timeout_ms) }
                }
                Some(&Health::Asked { interval_ms, timeout_ms, failures, for_ms }) => {
                    Timing::Asked { interval_ms, timeout_ms, failures, for_ms }
                }
                None => never,
            },
        }
    }
}

/// The times of one check as they are now.
#[derive(Clone, Copy)]
enum Timing {
    Watchdog { timeout_ms: u64 },
    Asked { interval_ms: u64, timeout_ms: u64, failures: u32, for_ms: u64 },
}

impl Timing {
    fn next_ms(self) -> u64 {
        match self {
            Timing::Watchdog { timeout_ms } => timeout_ms,
            Timing::Asked { interval_ms, .. } => interval_ms,
        }
    }
}
