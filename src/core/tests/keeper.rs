//! The keeper: is anybody serving, and what if nobody is?

use super::{Ms, NOW};
use crate::core::keeper::{
    ASK_AGAIN_MS, Action, Event, KILL_AGAIN_MS, Keeper, RETRY_MAX_MS, RETRY_MS, TIMEOUTS, TwinRole,
    TwinSeen,
};
use crate::core::watch::{HANGS_DOUBLINGS_MAX, HANGS_WINDOW_MS};

const INTERVAL_MS: u64 = 100;
const TIMEOUT_MS: u64 = 1_000;
/// Nobody served for so long: the keeper acts.
const OVERDUE_MS: u64 = TIMEOUTS * TIMEOUT_MS;

const NONE: TwinSeen = TwinSeen { role: TwinRole::None, counter: 0, alive: false };

fn twin(role: TwinRole, counter: u64) -> TwinSeen {
    TwinSeen { role, counter, alive: true }
}

fn dead(role: TwinRole, counter: u64) -> TwinSeen {
    TwinSeen { role, counter, alive: false }
}

/// A keeper with the time it looks at.
struct Watched {
    keeper: Keeper,
    now: Ms,
}

impl Watched {
    /// One that has just started the pair.
    fn starting() -> Watched {
        let mut out = Vec::new();
        let keeper = Keeper::start(NOW, INTERVAL_MS, TIMEOUT_MS, &mut out);
        assert_eq!(out, [Action::Start { revives: false }]);
        Watched { keeper, now: NOW }
    }

    /// One whose pair serves.
    fn serving() -> Watched {
        let mut watched = Watched::starting();
        watched.look([twin(TwinRole::Serving, 1), twin(TwinRole::Standby, 1)]);
        watched
    }

    fn hear(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.keeper.handle(self.now, event, &mut out);
        out.retain(|action| !matches!(action, Action::Note(_)));
        out
    }

    fn look(&mut self, twins: [TwinSeen; 2]) -> Vec<Action> {
        self.now = self.now.after(INTERVAL_MS);
        self.hear(Event::Look(twins))
    }

    /// Looks at the same for so long, always in time; what came of it.
    fn look_for(&mut self, ms: u64, twins: [TwinSeen; 2]) -> Vec<Action> {
        (0..ms / INTERVAL_MS).flat_map(|_| self.look(twins)).collect()
    }

    /// Both twins are seen dead, then the end of the one that was started is reported.
    fn lose_both(&mut self) {
        let out = self.look([dead(TwinRole::Serving, 1), dead(TwinRole::Standby, 1)]);
        assert_eq!(out, [Action::Start { revives: true }]);
        assert_eq!(self.hear(Event::StartedExited { code: 137 }), []);
    }

    /// Goes on to the next moment at which more than a look is due.
    fn look_until_due(&mut self) {
        for _ in 0..1_000 {
            if !self.keeper.wants_look(self.keeper.deadline()) {
                self.now = self.keeper.deadline();
                return;
            }
            assert_eq!(self.look([NONE; 2]), []);
        }
        panic!("nothing but looks is due");
    }

    fn tick_after(&mut self, ms: u64) -> Vec<Action> {
        self.now = self.now.after(ms);
        let mut out = Vec::new();
        self.keeper.tick(self.now, &mut out);
        out.retain(|action| !matches!(action, Action::Note(_)));
        out
    }
}

#[test]
fn a_pair_that_ended_for_an_essential_server_ends_the_keeper_with_1() {
    let mut watched = Watched::serving();
    let ended = [dead(TwinRole::EndedForFailure, 2), dead(TwinRole::Standby, 1)];
    assert_eq!(watched.look(ended), [Action::Exit { code: 1 }]);
}

#[test]
fn when_both_are_dead_the_pair_is_started_at_once() {
    let mut watched = Watched::serving();
    let out = watched.look([dead(TwinRole::Serving, 1), dead(TwinRole::Standby, 1)]);
    assert_eq!(out, [Action::Start { revives: true }]);
}

#[test]
fn each_time_that_twins_hang_on_their_way_the_next_ones_get_twice_the_time() {
    let mut watched = Watched::serving();
    let waits = (0..8).map(|_| {
        let still = [twin(TwinRole::Starting, 1), NONE];
        let mut looks = 1;
        while watched.look(still) != [Action::KillTwins] {
            looks += 1;
            assert!(looks < 10_000, "never killed");
        }
        assert_eq!(watched.look([NONE; 2]), [Action::Start { revives: true }]);
        looks * INTERVAL_MS / OVERDUE_MS
    });
    let waits: Vec<u64> = waits.collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 32, 32]);
    watched.look([twin(TwinRole::Serving, 2), NONE]);
    watched.now = watched.now.after(HANGS_WINDOW_MS);
    watched.look([twin(TwinRole::Serving, 3), NONE]);
    let still = [twin(TwinRole::Serving, 3), NONE];
    assert_eq!(watched.look_for(OVERDUE_MS, still), [Action::KillTwins], "it is forgotten");
}

#[test]
fn when_both_hang_they_are_killed_and_the_pair_is_started_after_their_death() {
    let mut watched = Watched::serving();
    let still = [twin(TwinRole::Serving, 1), twin(TwinRole::Standby, 1)];
    assert_eq!(watched.look_for(OVERDUE_MS - INTERVAL_MS, still), [], "not too early");
    assert_eq!(watched.look(still), [Action::KillTwins]);
    assert_eq!(watched.look(still), [], "none is started while one lives");
    assert_eq!(watched.tick_after(KILL_AGAIN_MS), [Action::KillTwins]);
    let one_dead = [dead(TwinRole::Serving, 1), twin(TwinRole::Standby, 1)];
    assert_eq!(watched.look(one_dead), []);
    let both_dead = [dead(TwinRole::Serving, 1), dead(TwinRole::Standby, 1)];
    assert_eq!(watched.look(both_dead), [Action::Start { revives: true }]);
}

#[test]
fn one_dead_and_one_hung_is_nobody_too() {
    let mut watched = Watched::serving();
    let seen = [dead(TwinRole::Serving, 1), twin(TwinRole::Standby, 1)];
    assert_eq!(watched.look_for(OVERDUE_MS, seen), [Action::KillTwins]);
}

#[test]
fn a_standby_that_is_on_its_way_to_serve_is_left_alone() {
    let mut watched = Watched::serving();
    for counter in 2..200 {
        let seen = [twin(TwinRole::Serving, 1), twin(TwinRole::Promoting, counter)];
        assert_eq!(watched.look(seen), [], "the active is frozen, its standby waits for its death");
    }
}

#[test]
fn a_standby_that_beats_gets_as_long_as_its_own_timeout_can_grow_and_no_longer() {
    let mut watched = Watched::serving();
    let began = watched.now;
    let acted = (2..1_000_000).find(|counter| {
        let twins = [twin(TwinRole::Serving, 1), twin(TwinRole::Standby, *counter)];
        watched.look(twins) == [Action::KillTwins]
    });
    assert!(acted.is_some(), "a standby that never promotes is not enough");
    assert_eq!(watched.now.since(began), OVERDUE_MS << HANGS_DOUBLINGS_MAX);
}

#[test]
fn a_pair_that_served_and_died_before_it_was_looked_at_is_started_again() {
    let mut watched = Watched::starting();
    let out = watched.look([dead(TwinRole::Serving, 1), dead(TwinRole::Standby, 1)]);
    assert_eq!(out, [Action::Start { revives: true }]);
    assert_eq!(watched.hear(Event::StartedExited { code: 1 }), [], "that was the one before");
}

#[test]
fn a_keeper_that_was_late_itself_does_not_judge() {
    let mut watched = Watched::serving();
    let still = [twin(TwinRole::Serving, 1), twin(TwinRole::Standby, 1)];
    watched.now = watched.now.after(60_000);
    assert_eq!(watched.look(still), []);
    assert_eq!(watched.look_for(OVERDUE_MS - INTERVAL_MS, still), []);
    assert_eq!(watched.look(still), [Action::KillTwins]);
}

#[test]
fn the_end_of_an_earlier_start_is_not_taken_for_that_of_the_last_one() {
    let mut watched = Watched::serving();
    watched.lose_both();
    assert_eq!(watched.tick_after(RETRY_MAX_MS), [], "the last one is on its way");
    assert_eq!(watched.hear(Event::StartFailed), []);
    watched.look_until_due();
    assert_eq!(watched.tick_after(0), [Action::Start { revives: true }]);
}

#[test]
fn a_start_that_never_served_ends_the_keeper_with_its_code() {
    let mut watched = Watched::starting();
    watched.look([NONE; 2]);
    assert_eq!(watched.hear(Event::StartedExited { code: 78 }), [Action::Exit { code: 78 }]);
    let mut watched = Watched::starting();
    assert_eq!(watched.hear(Event::StartFailed), [Action::Exit { code: 1 }]);
}

#[test]
fn a_start_that_fails_later_is_tried_again_ever_later() {
    let mut watched = Watched::serving();
    watched.lose_both();
    let mut delays = Vec::new();
    for _ in 0..10 {
        assert_eq!(watched.hear(Event::StartFailed), []);
        let before = watched.now;
        watched.look_until_due();
        delays.push(watched.now.since(before));
        assert_eq!(watched.tick_after(0), [Action::Start { revives: true }]);
    }
    assert_eq!(delays[..3], [RETRY_MS, 2 * RETRY_MS, 4 * RETRY_MS]);
    assert_eq!(delays.last(), Some(&RETRY_MAX_MS));
}

#[test]
fn serving_again_makes_the_next_failure_the_first() {
    let mut watched = Watched::serving();
    watched.lose_both();
    watched.hear(Event::StartFailed);
    watched.look_until_due();
    watched.tick_after(0);
    watched.look([twin(TwinRole::Serving, 5), NONE]);
    watched.lose_both();
    watched.hear(Event::StartFailed);
    let before = watched.now;
    watched.look_until_due();
    assert_eq!(watched.now.since(before), RETRY_MS);
}

#[test]
fn a_start_that_hangs_on_its_way_is_killed() {
    let mut watched = Watched::starting();
    let seen = [twin(TwinRole::Starting, 1), NONE];
    assert_eq!(watched.look_for(OVERDUE_MS, seen), [Action::KillTwins]);
}

#[test]
fn an_active_that_dies_after_it_started_its_standby_is_taken_over_and_not_started_again() {
    let mut watched = Watched::starting();
    watched.look([dead(TwinRole::Starting, 1), twin(TwinRole::Standby, 1)]);
    assert_eq!(watched.hear(Event::StartedExited { code: 1 }), []);
    assert_eq!(watched.look([dead(TwinRole::Starting, 1), twin(TwinRole::Promoting, 2)]), []);
}

#[test]
fn a_clean_end_ends_the_keeper_when_the_last_twin_is_gone() {
    let mut watched = Watched::serving();
    let ending = [twin(TwinRole::Ended, 2), dead(TwinRole::Standby, 1)];
    assert_eq!(watched.look(ending), []);
    let ended = [dead(TwinRole::Ended, 2), dead(TwinRole::Standby, 1)];
    assert_eq!(watched.look(ended), [Action::Exit { code: 0 }]);
    assert_eq!(watched.look(ended), [], "it ends once");
}

#[test]
fn a_wish_to_end_is_sent_until_it_is_answered_and_the_second_one_kills() {
    let mut watched = Watched::serving();
    assert_eq!(watched.hear(Event::AskedToEnd), [Action::AskToEnd { force: false }]);
    assert_eq!(watched.tick_after(ASK_AGAIN_MS), [Action::AskToEnd { force: false }]);
    assert_eq!(watched.hear(Event::AskedToEnd), [Action::AskToEnd { force: true }]);
    assert_eq!(watched.tick_after(ASK_AGAIN_MS), [Action::AskToEnd { force: true }]);
    watched.hear(Event::EndAnswered);
    assert_eq!(watched.tick_after(ASK_AGAIN_MS), []);
}

#[test]
fn a_keeper_that_joins_starts_nothing_beside_a_living_pair_and_revives_a_dead_one() {
    let keeper = Keeper::join(NOW, INTERVAL_MS, TIMEOUT_MS);
    let mut watched = Watched { keeper, now: NOW };
    assert_eq!(watched.look([twin(TwinRole::Serving, 7), twin(TwinRole::Standby, 7)]), []);
    assert_eq!(watched.look([NONE; 2]), [Action::Start { revives: true }]);
}
