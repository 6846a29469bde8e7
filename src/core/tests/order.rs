//! Servers that need others: who waits, who is started with whom, who goes down first.

use super::*;
use crate::core::ask::{Ask, Ended, Outcome, Reach, Verb};
use crate::core::order::Obstacle;
use crate::core::plan::{Need, OnFailure, Ready};
use crate::core::record::Why;

const NOBODY: [usize; 0] = [];
const DB: usize = 0;
const WEB: usize = 1;

fn named(name: &str) -> ServerPlan {
    ServerPlan { name: name.into(), ..plan() }
}

/// `web` needs `db`.
fn plans(on_failure: OnFailure) -> Vec<ServerPlan> {
    let need = Need { server: ServerId(DB), on_failure };
    vec![named("db"), named("web").with(|web| web.needs = vec![need])]
}

fn both_up(on_failure: OnFailure) -> Node {
    let (mut node, _) = active_after(plans(on_failure), Vec::new());
    bring_up(&mut node, DB, 10);
    bring_up(&mut node, WEB, 11);
    assert_eq!(phases(&node), [up(10), up(11)]);
    node
}

fn phases(node: &Node) -> Vec<Phase> {
    node.servers.iter().map(|server| server.rec.phase.clone()).collect()
}

fn asked(node: &mut Node, verb: Verb, servers: &[usize], reach: Reach) -> Vec<Action> {
    let servers = servers.iter().map(|n| ServerId(*n)).collect();
    let (client, id) = (ClientId(1), format!("{verb:?}"));
    tell(node, Event::Asked(Ask { client, id, verb, servers, wait: true, reach }))
}

fn answer(actions: &[Action]) -> Option<Vec<Outcome>> {
    actions.iter().find_map(|action| match action {
        Action::Answer { outcomes, .. } => Some(outcomes.clone()),
        _ => None,
    })
}

fn spawns(actions: &[Action]) -> Vec<usize> {
    let spawn = |action: &Action| match action {
        Action::Spawn { server, .. } => Some(server.0),
        _ => None,
    };
    actions.iter().filter_map(spawn).collect()
}

fn signals(actions: &[Action]) -> Vec<usize> {
    let signal = |action: &Action| match action {
        Action::Signal { server, .. } => Some(server.0),
        _ => None,
    };
    actions.iter().filter_map(signal).collect()
}

#[test]
fn a_start_waits_until_what_it_needs_is_ready() {
    let (mut node, out) = active_after(plans(OnFailure::Keep), Vec::new());
    assert_eq!(spawns(&out), [DB]);
    assert_eq!(node.servers[WEB].rec.phase, Phase::Queued);
    assert_eq!(node.obstacle(ServerId(WEB)), Some(Obstacle::Need(ServerId(DB))));
    bring_up(&mut node, DB, 10);
    assert!(matches!(node.servers[WEB].rec.phase, Phase::Spawning { .. }));
}

#[test]
fn only_so_many_servers_start_at_the_same_time() {
    let servers: Vec<_> = (0..5).map(|n| named(&format!("s{n}"))).collect();
    let plan = PairPlan { starts_max: 2, ..pair_plan() };
    let mut node = Node::first(NOW, plan, servers, false);
    tell(&mut node, Event::Locked);
    let recovered = Recovered { same_boot: true, ..Recovered::default() };
    let out = tell(&mut node, Event::Recovered(recovered));
    assert_eq!(spawns(&out), [0, 1]);
    assert_eq!(node.obstacle(ServerId(2)), Some(Obstacle::Places));
    // A server without a readiness check gives its place back when its program runs.
    let (server, start_number) = (ServerId(0), 1);
    let out = tell(&mut node, Event::Spawned { server, start_number, process: process(10) });
    save_all(&mut node, &out);
    assert_eq!(spawns(&tell(&mut node, Event::Executed { server, start_number })), [2]);
}

#[test]
fn a_server_that_is_not_ready_yet_keeps_its_place() {
    let slow = |name| named(name).with(|slow| slow.ready = Some(Ready::Told));
    let plan = PairPlan { starts_max: 1, ..pair_plan() };
    let mut node = Node::first(NOW, plan, vec![slow("a"), slow("b")], false);
    tell(&mut node, Event::Locked);
    let recovered = Recovered { same_boot: true, ..Recovered::default() };
    tell(&mut node, Event::Recovered(recovered));
    let (server, start_number) = (ServerId(0), 1);
    let out = tell(&mut node, Event::Spawned { server, start_number, process: process(10) });
    save_all(&mut node, &out);
    assert_eq!(spawns(&tell(&mut node, Event::Executed { server, start_number })), NOBODY);
    let told = crate::core::checks::Told { ready: true, ..Default::default() };
    assert_eq!(spawns(&tell(&mut node, Event::Told { server, start_number, told })), [1]);
}

#[test]
fn a_stop_of_what_others_need_is_refused_with_their_names() {
    let mut node = both_up(OnFailure::Keep);
    for verb in [Verb::Stop, Verb::Restart] {
        let outcomes = answer(&asked(&mut node, verb, &[DB], Reach::Refuse)).unwrap();
        assert_eq!(outcomes[0].result, Ended::Badly);
        assert!(outcomes[0].text.starts_with("needed by web; --dependants"), "{outcomes:?}");
    }
    assert_eq!(phases(&node), [up(10), up(11)]);
    asked(&mut node, Verb::Stop, &[DB, WEB], Reach::Refuse);
    assert_eq!(node.servers[DB].rec.wanted, Wanted::Down, "both were asked for");
}

#[test]
fn a_drain_of_what_others_need_is_refused_while_one_of_them_can_not_be_drained() {
    let mut all = plans(OnFailure::Keep);
    all[DB].drain = plan_with_tasks().drain;
    let up = |all: &[ServerPlan]| {
        let (mut node, _) = active_after(all.to_vec(), Vec::new());
        bring_up(&mut node, DB, 10);
        bring_up(&mut node, WEB, 11);
        node
    };
    for (servers, reach) in [(vec![DB, WEB], Reach::Refuse), (vec![DB], Reach::Dependants)] {
        let mut node = up(&all);
        let outcomes = answer(&asked(&mut node, Verb::Drain, &servers, reach)).unwrap();
        assert!(
            outcomes[0].text.starts_with("needed by web; a drain does not end"),
            "{outcomes:?}"
        );
        assert_eq!(phases(&node), [super::up(10), super::up(11)]);
    }
    all[WEB].drain = all[DB].drain;
    let mut node = up(&all);
    asked(&mut node, Verb::Drain, &[DB], Reach::Dependants);
    assert!(matches!(node.servers[WEB].rec.phase, Phase::Draining { .. }));
}

#[test]
fn with_only_those_that_need_it_are_left_as_they_are() {
    let mut node = both_up(OnFailure::Stop);
    assert_eq!(signals(&asked(&mut node, Verb::Stop, &[DB], Reach::Only)), [DB]);
    end_whole_group(&mut node, DB, 10, Exit::Code(0));
    assert_eq!(phases(&node), [Phase::Down, up(11)]);
}

#[test]
fn those_that_need_it_go_down_first_and_come_back_last() {
    let mut node = both_up(OnFailure::Keep);
    let out = asked(&mut node, Verb::Restart, &[DB], Reach::Dependants);
    assert_eq!(signals(&out), [WEB]);
    let out = end_whole_group(&mut node, WEB, 11, Exit::Code(0));
    assert_eq!((signals(&out), spawns(&out)), (vec![DB], vec![]));
    let out = end_whole_group(&mut node, DB, 10, Exit::Code(0));
    assert_eq!(spawns(&out), [DB]);
    bring_up(&mut node, DB, 20);
    bring_up(&mut node, WEB, 21);
    assert_eq!(phases(&node), [up(20), up(21)]);
}

#[test]
fn the_order_of_a_stop_is_kept_by_whoever_takes_over() {
    let mut node = both_up(OnFailure::Keep);
    asked(&mut node, Verb::Stop, &[DB, WEB], Reach::Refuse);
    let (mut heir, out) = active_after(plans(OnFailure::Keep), node.entries());
    assert_eq!(signals(&out), NOBODY);
    let found = |node: &mut Node, server: usize, pid: i32| {
        let (server, process) = (ServerId(server), process(pid));
        tell(node, Event::Verified { server, process, found: Found::Alive })
    };
    assert_eq!(signals(&found(&mut heir, DB, 10)), NOBODY, "web still lives");
    assert_eq!(signals(&found(&mut heir, WEB, 11)), [WEB]);
    assert_eq!(signals(&end_whole_group(&mut heir, WEB, 11, Exit::Code(0))), [DB]);
    end_whole_group(&mut heir, DB, 10, Exit::Code(0));
    assert_eq!(phases(&heir), [Phase::Down, Phase::Down]);
}

#[test]
fn when_a_need_is_lost_its_setting_decides() {
    let lose = |on_failure| {
        let mut node = both_up(on_failure);
        let out = end_whole_group(&mut node, DB, 10, Exit::Code(1));
        (node, signals(&out))
    };
    assert_eq!(lose(OnFailure::Keep).1, NOBODY);
    assert_eq!(lose(OnFailure::Restart).1, NOBODY, "not before it is back");
    let (mut node, signalled) = lose(OnFailure::Stop);
    assert_eq!(signalled, [WEB]);
    end_whole_group(&mut node, WEB, 11, Exit::Signal(15));
    assert_eq!(node.servers[WEB].rec.phase, Phase::Queued);
    assert_eq!(node.servers[WEB].rec.reason.as_deref(), Some("db, which it needs, ended"));
}

#[test]
fn a_need_that_came_back_restarts_those_that_ask_for_it() {
    let mut node = both_up(OnFailure::Restart);
    end_whole_group(&mut node, DB, 10, Exit::Code(1));
    node.fire_armed(NOW, node::Timer::Server(ServerId(DB)), &mut Vec::new());
    let (server, start_number) = (ServerId(DB), node.servers[DB].rec.start_number);
    let process = Identity { start_ticks: 71, ..process(20) };
    let out = tell(&mut node, Event::Spawned { server, start_number, process });
    save_all(&mut node, &out);
    tell(&mut node, Event::Executed { server, start_number });
    node.fire_armed(NOW, node::Timer::Server(server), &mut Vec::new());
    let is_going = matches!(node.servers[WEB].rec.phase, Phase::Stopping { why: Why::Need, .. });
    assert!(is_going, "{:?}", node.servers[WEB].rec.phase);
    assert_eq!(spawns(&end_whole_group(&mut node, WEB, 11, Exit::Signal(15))), [WEB]);
}

#[test]
fn a_start_starts_what_is_needed_too() {
    let mut node = both_up(OnFailure::Keep);
    asked(&mut node, Verb::Stop, &[DB, WEB], Reach::Refuse);
    end_whole_group(&mut node, WEB, 11, Exit::Code(0));
    end_whole_group(&mut node, DB, 10, Exit::Code(0));
    assert_eq!(spawns(&asked(&mut node, Verb::Start, &[WEB], Reach::Refuse)), [DB]);
    assert_eq!(node.servers[DB].rec.wanted, Wanted::Up);
}

#[test]
fn a_start_that_waits_in_vain_is_told_so() {
    let mut db = named("db");
    db.policy.when = When::Never;
    let (mut node, _) = active_after(vec![db, plans(OnFailure::Keep).remove(1)], Vec::new());
    bring_up(&mut node, DB, 10);
    bring_up(&mut node, WEB, 11);
    assert!(answer(&asked(&mut node, Verb::Restart, &[WEB], Reach::Refuse)).is_none());
    end_whole_group(&mut node, DB, 10, Exit::Code(1));
    let out = end_whole_group(&mut node, WEB, 11, Exit::Code(0));
    let outcomes = answer(&out).unwrap();
    assert_eq!(outcomes[0].result, Ended::Badly);
    assert_eq!(outcomes[0].text, "waits for db, which is FAILED; it starts when db is ready");
}

#[test]
fn an_essential_server_that_was_given_up_ends_the_pair_whoever_is_active() {
    let essential = || {
        let mut plan = named("db");
        plan.essential = true;
        plan.policy.when = When::Never;
        plan
    };
    let (mut node, _) = active_after(vec![essential()], Vec::new());
    bring_up(&mut node, DB, 10);
    let died = |node: &mut Node| end_whole_group(node, DB, 10, Exit::Code(1));
    assert!(died(&mut node).contains(&Action::Note(Note::EssentialFailed(ServerId(DB)))));
    let ending = node.record.ending.clone().unwrap();
    assert_eq!((ending.stop_servers, ending.failed.as_deref()), (true, Some("db")));
    let mut failed = ServerRecord::new("db", Wanted::Up);
    failed.phase = Phase::Failed;
    let entry = Entry { seq: 3, record: Record::Server(failed.into()) };
    let (heir, _) = active_after(vec![essential()], vec![entry]);
    assert!(heir.record.ending.is_some(), "the active died right after it was given up");
}

#[test]
fn an_order_that_waited_while_its_server_was_told_apart_is_carried_out_after_that() {
    let mut held = server_in(up(10)).rec;
    (held.name, held.held) = ("db".into(), Some(crate::core::record::Held::Restart));
    let entries = vec![Entry { seq: 1, record: Record::Server(held) }];
    let mut plans = plans(OnFailure::Keep);
    // Nothing else happens that would have the order looked at again.
    plans[WEB].auto_start = false;
    let (mut node, _) = active_after(plans, entries);
    let (server, process) = (ServerId(DB), process(10));
    let out = tell(&mut node, Event::Verified { server, process, found: Found::Alive });
    assert_eq!(signals(&out), [DB]);
}

#[test]
fn what_is_needed_is_on_record_before_the_server_that_was_asked_for() {
    let down = |mut plan: ServerPlan| {
        plan.auto_start = false;
        plan
    };
    for verb in [Verb::Start, Verb::Restart] {
        let plans = plans(OnFailure::Keep).into_iter().map(down).collect();
        let (mut node, _) = active_after(plans, Vec::new());
        let out = asked(&mut node, verb, &[WEB], Reach::Refuse);
        let saved = |name: &str| {
            place(&out, |action| {
                matches!(action, Action::Save { entry, .. }
                    if matches!(&entry.record, Record::Server(one) if one.name == name))
            })
        };
        // The mark in the record of web says that all of the request is on record.
        assert!(saved("db") < saved("web"), "{out:#?}");
    }
}
