//! Readiness, health and what a server says of itself.

use super::*;
use crate::core::checks::{Check, Told};
use crate::core::plan::{Health, Kind, Ready};
use crate::core::record::Why;

const ASKED: Ready = Ready::Asked { interval_ms: 200, timeout_ms: 100 };

fn unready(ready: Ready) -> Server {
    let mut server = server_in(Phase::Execing { process: process(9), until: NOW });
    server.plan.ready = Some(ready);
    server.plan.start_timeout_ms = 60_000;
    steps_of(&mut server, |s, steps| s.on_executed(NOW, 4, steps));
    let until = NOW.after(60_000);
    assert_eq!(server.rec.phase, Phase::Unready { process: process(9), until });
    server
}

fn watched(health: Vec<Health>) -> Server {
    let mut server = unready(Ready::Told);
    server.plan.health = health;
    say(&mut server, Told { ready: true, ..Told::default() });
    assert_eq!(server.rec.phase, up(9));
    server
}

fn say(server: &mut Server, told: Told) -> Steps {
    steps_of(server, |s, steps| s.on_told(NOW, 4, told, steps))
}

fn probe(check: Check) -> Step {
    Step::Do(Action::Probe { server: ServerId(0), start_number: 4, check })
}

/// Asks the check that is due and answers it.
fn answer(server: &mut Server, now: Ms, check: Check, answer: Result<(), &str>) -> Steps {
    let asked = steps_of(server, |s, steps| s.on_check_due(now, steps));
    assert_eq!(asked, [probe(check)]);
    let answer = answer.map_err(str::to_string);
    steps_of(server, |s, steps| s.on_probed(now, 4, check, answer, steps))
}

fn is_failing(server: &Server) -> bool {
    matches!(server.rec.phase, Phase::Stopping { why: Why::Failing, leader_dead: false, .. })
}

fn asked(failures: u32, for_ms: u64) -> Health {
    Health::Asked { interval_ms: 1_000, timeout_ms: 100, failures, for_ms }
}

#[test]
fn a_server_with_a_readiness_check_is_running_when_the_check_says_so_and_not_before() {
    let mut server = unready(ASKED);
    assert_eq!(server.check_deadline(), Some(NOW), "it is asked at once");
    assert_eq!(answer(&mut server, NOW, Check::Ready, Err("refused")), []);
    assert_eq!(server.rec.reason.as_deref(), Some("not ready yet: refused"));
    assert_eq!(server.check_deadline(), Some(NOW.after(200)));
    answer(&mut server, NOW.after(200), Check::Ready, Ok(()));
    assert_eq!((server.rec.phase.clone(), server.rec.reason), (up(9), None));
    assert_eq!(server.rec.ready_at.get(), Some(NOW.after(200)));
}

#[test]
fn an_answer_that_never_comes_is_a_bad_one() {
    let mut server = unready(ASKED);
    steps_of(&mut server, |s, steps| s.on_check_due(NOW, steps));
    let due = server.check_deadline().unwrap();
    assert!(due > NOW.after(100));
    assert_eq!(steps_of(&mut server, |s, steps| s.on_check_due(due, steps)), []);
    assert_eq!(server.rec.reason.as_deref(), Some("not ready yet: no answer"));
    assert_eq!(server.check_deadline(), Some(due.after(200)), "it is asked again");
}

#[test]
fn a_server_that_is_not_ready_in_time_is_stopped_and_counts_as_failed_however_it_ends() {
    let mut server = unready(ASKED);
    answer(&mut server, NOW, Check::Ready, Err("refused"));
    let late = NOW.after(60_000);
    let steps = steps_of(&mut server, |s, steps| s.on_deadline(late, steps));
    assert!(in_order(&steps, &[Step::Save, signal(9, 15, Scope::Group)]), "{steps:?}");
    assert!(is_failing(&server));
    let well = Some(Exit::Code(0));
    steps_of(&mut server, |s, steps| s.on_died(late, process(9), well, steps));
    steps_of(&mut server, |s, steps| s.on_group(late, process(9), None, steps));
    assert!(matches!(server.rec.phase, Phase::Backoff { .. }), "{:?}", server.rec.phase);
    let reason = server.rec.reason.as_deref();
    assert_eq!(reason, Some("not ready after 60 s (last answer: refused)"));
    assert_eq!(server.rec.failures.len(), 1);
}

#[test]
fn an_end_with_a_success_code_before_it_was_ready_is_a_failure() {
    let mut server = unready(Ready::Told);
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), Some(Exit::Code(0)), steps));
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert!(matches!(server.rec.phase, Phase::Backoff { .. }), "{:?}", server.rec.phase);
    assert_eq!(server.rec.reason.as_deref(), Some("exit 0 before it was ready"));
}

#[test]
fn a_oneshot_that_ends_well_is_exited_and_one_that_does_not_end_is_stopped() {
    let oneshot = || {
        let mut server = server_in(Phase::Execing { process: process(9), until: NOW });
        server.plan.kind = Kind::Oneshot;
        steps_of(&mut server, |s, steps| s.on_executed(NOW, 4, steps));
        assert!(!server.is_ready());
        server
    };
    let mut server = oneshot();
    steps_of(&mut server, |s, steps| s.on_died(NOW, process(9), Some(Exit::Code(0)), steps));
    steps_of(&mut server, |s, steps| s.on_group(NOW, process(9), None, steps));
    assert_eq!((server.rec.phase.clone(), server.rec.lost), (Phase::Exited, false));
    assert!(server.is_ready());
    let mut server = oneshot();
    let late = server.deadline().unwrap();
    steps_of(&mut server, |s, steps| s.on_deadline(late, steps));
    assert!(is_failing(&server));
    assert_eq!(server.rec.reason.as_deref(), Some("did not end after 60 s"));
}

#[test]
fn a_health_check_restarts_after_so_many_bad_answers_in_a_row() {
    let mut server = watched(vec![asked(3, 0)]);
    let check = Check::Health(0);
    for (n, is_good) in [false, false, true, false, false].into_iter().enumerate() {
        let now = NOW.after(n as u64 * 1_000);
        answer(&mut server, now, check, if is_good { Ok(()) } else { Err("HTTP 503") });
        assert_eq!(server.rec.phase, up(9), "answer {n}");
    }
    let steps = answer(&mut server, NOW.after(9_000), check, Err("HTTP 503"));
    assert!(in_order(&steps, &[Step::Save, signal(9, 15, Scope::Group)]), "{steps:?}");
    assert!(is_failing(&server) && server.rec.lost);
    assert_eq!(server.rec.reason.as_deref(), Some("health check 1: HTTP 503 (3 times)"));
}

#[test]
fn a_bound_for_a_time_is_broken_only_after_that_time() {
    let mut server = watched(vec![asked(1, 5_000)]);
    for seconds in 0..5 {
        answer(&mut server, NOW.after(seconds * 1_000), Check::Health(0), Err("RSS 901M"));
        assert_eq!(server.rec.phase, up(9), "after {seconds} s");
    }
    answer(&mut server, NOW.after(5_000), Check::Health(0), Err("RSS 901M"));
    assert!(is_failing(&server));
}

#[test]
fn a_watchdog_that_is_not_fed_restarts_and_one_that_is_fed_does_not() {
    let mut server = watched(vec![Health::Watchdog { timeout_ms: 30_000 }]);
    assert_eq!(server.check_deadline(), Some(NOW.after(30_000)));
    let told = Told { watchdog: true, ..Told::default() };
    steps_of(&mut server, |s, steps| s.on_told(NOW.after(20_000), 4, told, steps));
    assert_eq!(server.check_deadline(), Some(NOW.after(50_000)));
    let late = NOW.after(50_000);
    steps_of(&mut server, |s, steps| s.on_check_due(late, steps));
    assert!(is_failing(&server));
    assert_eq!(server.rec.reason.as_deref(), Some("health check 1: no sign of life for 30 s"));
}

#[test]
fn a_server_can_ask_for_more_time_to_start() {
    let mut server = unready(Ready::Told);
    let steps = say(&mut server, Told { extend_ms: Some(90_000), ..Told::default() });
    assert_eq!((steps, server.deadline()), (vec![Step::Save], Some(NOW.after(90_000))));
    say(&mut server, Told { extend_ms: Some(1), ..Told::default() });
    assert_eq!(server.deadline(), Some(NOW.after(90_000)), "never less");
}

#[test]
fn what_it_says_of_itself_is_shown_and_not_written_for_each_word() {
    let mut server = unready(Ready::Told);
    let status = |text: &str| Told { status: Some(text.to_string()), ..Told::default() };
    assert_eq!(say(&mut server, status("loading 1 %")), [Step::Save]);
    assert_eq!(say(&mut server, status("loading 2 %")), []);
    assert_eq!(server.rec.status_text.as_deref(), Some("loading 2 %"));
}

#[test]
fn a_new_active_counts_bad_answers_anew_and_goes_on_asking() {
    let mut server = watched(vec![asked(2, 0)]);
    answer(&mut server, NOW, Check::Health(0), Err("HTTP 503"));
    let mut heir = Server { checks: Default::default(), ..server.clone() };
    steps_of(&mut heir, |s, steps| s.adopt(NOW, steps));
    steps_of(&mut heir, |s, steps| s.on_verified(NOW, process(9), Found::Alive, steps));
    assert_eq!((heir.rec.phase.clone(), heir.check_deadline()), (up(9), Some(NOW.after(1_000))));
    answer(&mut heir, NOW.after(1_000), Check::Health(0), Err("HTTP 503"));
    assert_eq!(heir.rec.phase, up(9));
}

#[test]
fn a_server_that_is_not_ready_yet_is_asked_by_the_next_active() {
    let mut server = unready(ASKED);
    server.rec.phase = Phase::Unready { process: process(9), until: NOW };
    let mut heir = Server { checks: Default::default(), ..server };
    steps_of(&mut heir, |s, steps| s.adopt(NOW, steps));
    steps_of(&mut heir, |s, steps| s.on_verified(NOW, process(9), Found::Alive, steps));
    assert_eq!(heir.check_deadline(), Some(NOW));
    assert!(heir.deadline() > Some(NOW), "what it said in between is heard first");
    answer(&mut heir, NOW, Check::Ready, Ok(()));
    assert_eq!(heir.rec.phase, up(9));
}

#[test]
fn in_maintenance_a_check_that_fails_stops_nobody() {
    let mut server = watched(vec![asked(1, 0)]);
    server.maintenance = true;
    let now = server.check_deadline().unwrap();
    answer(&mut server, now, Check::Health(0), Err("refused"));
    assert_eq!(server.rec.phase, up(9));
    server.maintenance = false;
    let now = server.check_deadline().unwrap();
    answer(&mut server, now, Check::Health(0), Err("refused"));
    assert!(is_failing(&server), "the next bad answer counts");
}
