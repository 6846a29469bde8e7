//! The keeper's decisions: is anybody serving, and what if nobody is?
//!
//! Must not know a server's policy, nor anything of the journal. It sees the pulse of the twins
//! and whether they live; it starts the pair again only after every twin was seen dead.

use super::time::Ms;
use super::watch::{HANGS_DOUBLINGS_MAX, HANGS_WINDOW_MS};

/// So many heartbeat timeouts without a serving active, and the keeper acts. While a standby
/// watches, that is its task: its own timeout grows when hangs repeat, and the keeper's with it.
/// It doubles with each time that the keeper had to act, so that a disk that stops every active on its
/// way is no storm either.
pub const TIMEOUTS: u64 = 3;
/// A pair that could not be started again is tried again after this, doubled each time.
pub const RETRY_MS: u64 = 500;
pub const RETRY_MAX_MS: u64 = 30_000;
/// SIGKILL is sent again so often to twins that do not die.
pub const KILL_AGAIN_MS: u64 = 1_000;
/// A request to end the pair that nobody answered is sent again so often.
pub const ASK_AGAIN_MS: u64 = 1_000;

/// What a twin says of itself in shared memory, and whether its process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TwinSeen {
    pub role: TwinRole,
    pub counter: u64,
    pub alive: bool,
}

/// A twin's role in the pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TwinRole {
    None,
    Starting,
    Serving,
    Standby,
    Promoting,
    /// The pair was stopped, and all that was to be done is done.
    Ended,
    /// As `Ended`, because an essential server was given up.
    EndedForFailure,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A look at both slots of the pulse.
    Look([TwinSeen; 2]),
    /// The active that this keeper started has ended, with that exit code. A `Look` comes first.
    StartedExited {
        code: u8,
    },
    StartFailed,
    /// SIGTERM or SIGINT.
    AskedToEnd,
    /// The request to end was answered: the pair is ending.
    EndAnswered,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Start the active. `revives`: nobody served any more; no person asked for it.
    Start {
        revives: bool,
    },
    KillTwins,
    /// Ask the active to end the pair; `force`: kill what is still up.
    AskToEnd {
        force: bool,
    },
    Exit {
        code: u8,
    },
    Note(Note),
}

/// What people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    NobodyServes {
        both_dead: bool,
    },
    /// Twins that do not serve were killed so often lately; they get more time from now on.
    KillsRepeat {
        times: u32,
        patience_ms: u64,
    },
    StartAgainFailed {
        retry_ms: u64,
    },
    StillAlive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    /// An active was started and has not served yet.
    Starting,
    Watching,
    /// What is left is killed; its death is waited for.
    Killing {
        again: Ms,
    },
    /// The last start failed.
    Retry {
        at: Ms,
    },
    Exited,
}

/// The keeper.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keeper {
    interval_ms: u64,
    timeout_ms: u64,
    state: State,
    has_served: bool,
    seen: [TwinSeen; 2],
    moved: [Ms; 2],
    /// When an active served last, or a twin was on its way to it.
    served: Ms,
    next_look: Ms,
    failures: u32,
    /// How often twins were killed lately, and when last.
    kills: u32,
    killed_at: Ms,
    /// Starts whose end (or failure) has not been reported yet. Only the last one's counts: the
    /// look that comes before a report may already have led to the next start.
    starts_owed: u32,
    /// When the wish to end is sent (again), and how often it was asked for.
    end_again: Option<Ms>,
    end_asked: u32,
}

impl Keeper {
    /// A keeper that starts the pair.
    pub fn start(now: Ms, interval_ms: u64, timeout_ms: u64, out: &mut Vec<Action>) -> Keeper {
        out.push(Action::Start { revives: false });
        Keeper { starts_owed: 1, ..Keeper::new(now, interval_ms, timeout_ms, State::Starting) }
    }

    /// A keeper that joins a pair whose keeper is gone.
    pub fn join(now: Ms, interval_ms: u64, timeout_ms: u64) -> Keeper {
        let mut keeper = Keeper::new(now, interval_ms, timeout_ms, State::Watching);
        keeper.has_served = true;
        keeper
    }

    fn new(now: Ms, interval_ms: u64, timeout_ms: u64, state: State) -> Keeper {
        let none = TwinSeen { role: TwinRole::None, counter: 0, alive: false };
        Keeper {
            interval_ms,
            timeout_ms,
            state,
            has_served: false,
            seen: [none; 2],
            moved: [now; 2],
            served: now,
            next_look: now,
            failures: 0,
            kills: 0,
            killed_at: now,
            starts_owed: 0,
            end_again: None,
            end_asked: 0,
        }
    }

    /// The next moment at which something is due: a look, at the latest.
    pub fn deadline(&self) -> Ms {
        let mut next = self.next_look;
        if let State::Killing { again: at } | State::Retry { at } = self.state {
            next = next.min(at);
        }
        self.end_again.map_or(next, |at| next.min(at))
    }

    /// Is a look at the pulse due? The shell looks and hands it in as an event.
    pub fn wants_look(&self, now: Ms) -> bool {
        now >= self.next_look
    }

    /// Does what is due besides the look.
    pub fn tick(&mut self, now: Ms, out: &mut Vec<Action>) {
        match self.state {
            State::Killing { again } if again <= now => {
                out.push(Action::Note(Note::StillAlive));
                out.push(Action::KillTwins);
                self.state = State::Killing { again: now.after(KILL_AGAIN_MS) };
            }
            State::Retry { at } if at <= now => self.start_again(now, out),
            _ => {}
        }
        if self.end_again.is_some_and(|at| at <= now) {
            self.end_again = Some(now.after(ASK_AGAIN_MS));
            out.push(Action::AskToEnd { force: self.end_asked > 1 });
        }
    }

    pub fn handle(&mut self, now: Ms, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Look(twins) => self.look(now, twins, out),
            Event::StartedExited { code } => self.on_started_exited(now, code, out),
            Event::StartFailed => self.on_started_exited(now, 1, out),
            Event::AskedToEnd => {
                self.end_asked = self.end_asked.saturating_add(1);
                self.end_again = Some(now.after(ASK_AGAIN_MS));
                out.push(Action::AskToEnd { force: self.end_asked > 1 });
            }
            Event::EndAnswered => self.end_again = None,
        }
    }

    fn look(&mut self, now: Ms, twins: [TwinSeen; 2], out: &mut Vec<Action>) {
        let late = now.since(self.next_look) > self.timeout_ms;
        self.next_look = now.after(self.interval_ms);
        for (index, twin) in twins.iter().enumerate() {
            let moves = twin.counter != self.seen[index].counter;
            if moves || late {
                self.moved[index] = now;
            }
            let acts = matches!(twin.role, TwinRole::Serving | TwinRole::Promoting);
            if twin.alive && acts && (moves || late) {
                self.served = now;
            }
            if twin.role == TwinRole::Serving {
                // Also when it is dead by now: the slots are cleared at every start, so it was the
                // last one, and this keeper was late to see it serve.
                self.has_served = true;
                if self.state == State::Starting {
                    self.state = State::Watching;
                }
                if twin.alive && moves {
                    self.failures = 0;
                }
            }
        }
        self.seen = twins;
        self.judge(now, out);
    }

    fn judge(&mut self, now: Ms, out: &mut Vec<Action>) {
        let is_any_alive = self.seen.iter().any(|twin| twin.alive);
        match self.state {
            // The one that was started hangs on its way.
            State::Starting if is_any_alive && self.is_overdue(now) => self.kill(now, out),
            // Nothing is started beside a twin: it serves, or is killed when it is overdue.
            State::Retry { .. } if is_any_alive => self.state = State::Watching,
            State::Starting | State::Retry { .. } | State::Exited => {}
            State::Watching if self.ended().is_some() => {
                if let (false, Some(code)) = (is_any_alive, self.ended()) {
                    self.exit(code, out);
                }
            }
            State::Watching if !is_any_alive => {
                out.push(Action::Note(Note::NobodyServes { both_dead: true }));
                self.start_again(now, out);
            }
            State::Watching if self.is_overdue(now) => self.kill(now, out),
            State::Watching => {}
            // Every twin was seen dead: now, and not before, a new one.
            State::Killing { .. } if !is_any_alive => self.start_again(now, out),
            State::Killing { .. } => {}
        }
    }

    fn is_overdue(&self, now: Ms) -> bool {
        let patience_ms = self.timeout_ms * TIMEOUTS;
        let is_watched = self.seen.iter().zip(self.moved).any(|(twin, moved)| {
            twin.alive && twin.role == TwinRole::Standby && now.since(moved) < patience_ms
        });
        let doublings = if is_watched { HANGS_DOUBLINGS_MAX } else { self.doublings(now) };
        now.since(self.served) >= patience_ms << doublings
    }

    fn doublings(&self, now: Ms) -> usize {
        let is_recent = now.since(self.killed_at) < HANGS_WINDOW_MS;
        if is_recent { (self.kills as usize).min(HANGS_DOUBLINGS_MAX) } else { 0 }
    }

    fn kill(&mut self, now: Ms, out: &mut Vec<Action>) {
        out.push(Action::Note(Note::NobodyServes { both_dead: false }));
        out.push(Action::KillTwins);
        self.state = State::Killing { again: now.after(KILL_AGAIN_MS) };
        let earlier = if self.doublings(now) > 0 { self.kills } else { 0 };
        (self.kills, self.killed_at) = (earlier.saturating_add(1), now);
        if earlier > 0 {
            let patience_ms = (self.timeout_ms * TIMEOUTS) << self.doublings(now);
            out.push(Action::Note(Note::KillsRepeat { times: self.kills, patience_ms }));
        }
    }

    fn start_again(&mut self, now: Ms, out: &mut Vec<Action>) {
        self.state = State::Starting;
        self.served = now;
        self.starts_owed = self.starts_owed.saturating_add(1);
        out.push(Action::Start { revives: self.has_served });
    }

    /// It ended before it served, or the pulse says why it ended.
    fn on_started_exited(&mut self, now: Ms, code: u8, out: &mut Vec<Action>) {
        self.starts_owed = self.starts_owed.saturating_sub(1);
        if self.state != State::Starting || self.starts_owed > 0 {
            return;
        }
        if self.seen.iter().any(|twin| twin.alive) {
            // It died after it had started its standby, which takes over.
            self.state = State::Watching;
            return;
        }
        if let Some(code) = self.ended() {
            // Its standby took over and ended the pair, unseen (this process was stopped).
            return self.exit(code, out);
        }
        if !self.has_served || code == 0 {
            return self.exit(code, out);
        }
        let doublings = self.failures.min(16);
        let retry_ms = (RETRY_MS << doublings).min(RETRY_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Retry { at: now.after(retry_ms) };
        out.push(Action::Note(Note::StartAgainFailed { retry_ms }));
    }

    /// The exit status of a pair that has ended as it was asked to.
    fn ended(&self) -> Option<u8> {
        self.seen.iter().find_map(|twin| match twin.role {
            TwinRole::Ended => Some(0),
            TwinRole::EndedForFailure => Some(1),
            _ => None,
        })
    }

    fn exit(&mut self, code: u8, out: &mut Vec<Action>) {
        self.state = State::Exited;
        self.end_again = None;
        out.push(Action::Exit { code });
    }
}
