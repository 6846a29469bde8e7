//! Disabled servers: nothing starts them, what runs runs on; and their reload.

use super::*;
use crate::core::ask::{Ask, Ended, Reach, Verb};
use crate::core::plan::{Need, OnFailure};
use crate::core::record::Why;
use std::collections::BTreeSet;

fn disabled(names: &[&str]) -> Event {
    Event::Disabled { names: names.iter().map(|name| (*name).to_string()).collect() }
}

fn spawns(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Spawn { .. })).count()
}

fn asked(
    node: &mut Node,
    id: &str,
    verb: Verb,
    server: usize,
) -> (Vec<Action>, Option<(Ended, String)>) {
    let (client, servers) = (ClientId(1), vec![ServerId(server)]);
    let ask = Ask { client, id: id.into(), verb, servers, wait: true, reach: Reach::Only };
    let out = tell(node, Event::Asked(ask));
    let answer = outcome(&out);
    (out, answer)
}

fn outcome(actions: &[Action]) -> Option<(Ended, String)> {
    actions.iter().find_map(|action| match action {
        Action::Answer { outcomes, .. } => Some((outcomes[0].result, outcomes[0].text.clone())),
        _ => None,
    })
}

fn wish(node: &Node, server: usize) -> (Wanted, Phase) {
    (node.servers[server].rec.wanted, node.servers[server].rec.phase.clone())
}

/// Becomes active with these entries, and with this list.
fn active_with_list(
    entries: Vec<Entry>,
    same_boot: bool,
    list: Option<&[&str]>,
) -> (Node, Vec<Action>) {
    let mut node = Node::first(NOW, pair_plan(), vec![plan()], false);
    let mut out = tell(&mut node, Event::Locked);
    let disabled = list.map(|names| names.iter().map(|name| (*name).to_string()).collect());
    let recovered = Recovered { entries, same_boot, disabled, ..Recovered::default() };
    out.extend(tell(&mut node, Event::Recovered(recovered)));
    (node, out)
}

#[test]
fn a_server_that_is_disabled_runs_on_and_is_not_started_again_when_it_ends() {
    let mut node = active_with_server_up(9);
    let out = tell(&mut node, disabled(&["web", "stranger"]));
    assert!(!out.iter().any(|action| matches!(action, Action::Signal { .. })), "{out:?}");
    assert!(out.iter().any(|action| matches!(action, Action::Save { .. })), "{out:?}");
    assert_eq!(wish(&node, 0), (Wanted::Up, up(9)));
    let out = end_whole_group(&mut node, 0, 9, Exit::Code(1));
    assert_eq!((spawns(&out), wish(&node, 0)), (0, (Wanted::Down, Phase::Down)));
    let last = node.servers[0].rec.last_exit.clone();
    assert_eq!(last.map(|last| last.exit), Some(Exit::Code(1)));
    // Being enabled is no start.
    assert_eq!(spawns(&tell(&mut node, disabled(&[]))), 0);
    let (out, _) = asked(&mut node, "s", Verb::Start, 0);
    assert_eq!(spawns(&out), 1);
}

#[test]
fn a_start_or_a_restart_of_a_disabled_server_is_refused_and_says_what_to_do() {
    let mut node = active_with_server_up(9);
    tell(&mut node, disabled(&["web"]));
    for (id, verb) in [("a", Verb::Start), ("b", Verb::Restart)] {
        let (_, answer) = asked(&mut node, id, verb, 0);
        let (result, text) = answer.unwrap();
        assert_eq!(result, Ended::Badly);
        assert!(text.contains("nodemanager enable --now web"), "{text}");
    }
    let (_, answer) = asked(&mut node, "c", Verb::Disable, 0);
    assert_eq!(answer, Some((Ended::Well, "disabled; PID 9 runs on until it ends".into())));
    // The list was not written: that is no success.
    let (_, answer) = asked(&mut node, "d", Verb::Enable, 0);
    assert_eq!(answer.unwrap().0, Ended::Badly);
    let (_, answer) = asked(&mut node, "e", Verb::Stop, 0);
    assert_eq!(answer, None, "a stop is a stop");
}

#[test]
fn what_was_about_to_start_a_server_does_not_start_it_once_it_is_disabled() {
    for phase in [
        Phase::Queued,
        Phase::Backoff { until: NOW.after(9) },
        Phase::Failed,
        Phase::Exited,
        Phase::Down,
        Phase::Spawning { until: NOW.after(9) },
        Phase::AtGate { process: process(9), until: NOW.after(9) },
        Phase::Locking { process: process(9), until: NOW.after(9) },
        Phase::Waiting { pid: 9, until: NOW.after(9) },
        Phase::Stopping {
            process: process(9),
            why: Why::Restart,
            leader_dead: true,
            killed: false,
            until: NOW.after(9),
        },
        Phase::Reaping { process: process(9), until: NOW.after(9), at_gate: true },
    ] {
        let mut server = server_in(phase.clone());
        let mut steps = Vec::new();
        server.disable(NOW, &mut steps);
        for _ in 0..6 {
            let (number, id) = (server.rec.start_number, process(9));
            server.on_spawned(NOW, number, id, &mut steps);
            server.on_died(NOW, id, Some(Exit::Signal(9)), &mut steps);
            server.on_group(NOW, id, None, &mut steps);
            server.on_strays(None, &mut steps);
            server.on_deadline(NOW.after(60_000), &mut steps);
            server.admit(NOW, &mut steps);
        }
        assert_eq!((server.rec.wanted, server.rec.phase), (Wanted::Down, Phase::Down), "{phase:?}");
        let is_spawn = |step: &Step| matches!(step, Step::Do(Action::Spawn { .. }));
        let is_gate = |step: &Step| matches!(step, Step::Do(Action::OpenGate { .. }));
        assert!(!steps.iter().any(|step| is_spawn(step) || is_gate(step)), "{phase:?}: {steps:?}");
    }
}

#[test]
fn a_new_active_believes_the_list_and_without_one_its_records() {
    let mut record = ServerRecord::new("web", Wanted::Up);
    record.disabled = true;
    let entries = |record: &ServerRecord| {
        let node = Record::Node(NodeRecord::default().into());
        vec![
            Entry { seq: 1, record: node },
            Entry { seq: 2, record: Record::Server(record.clone().into()) },
        ]
    };
    for (list, is_enabled) in [(None, false), (Some(&["web"][..]), false), (Some(&[][..]), true)] {
        for same_boot in [true, false] {
            let (node, out) = active_with_list(entries(&record), same_boot, list);
            assert_eq!(spawns(&out), usize::from(is_enabled), "{list:?} {same_boot}");
            assert_eq!(node.servers[0].rec.disabled, !is_enabled);
        }
    }
    // It was written while nobody was active.
    record.disabled = false;
    let (node, out) = active_with_list(entries(&record), true, Some(&["web"]));
    assert_eq!((spawns(&out), wish(&node, 0)), (0, (Wanted::Down, Phase::Down)));
    record.phase = up(9);
    let (mut node, _) = active_with_list(entries(&record), true, Some(&["web"]));
    let (server, process) = (ServerId(0), process(9));
    let out = tell(&mut node, Event::Verified { server, process, found: Found::Alive });
    assert!(!out.iter().any(|action| matches!(action, Action::Signal { .. })), "{out:?}");
    assert_eq!(wish(&node, 0), (Wanted::Up, up(9)));
}

#[test]
fn a_server_that_needs_a_disabled_one_waits_and_its_start_says_for_whom() {
    let named = |name: &str| ServerPlan { name: name.into(), ..plan() };
    let need = Need { server: ServerId(0), on_failure: OnFailure::Restart };
    let plans = vec![named("db"), named("web").with(|web| web.needs = vec![need])];
    let mut node = Node::first(NOW, pair_plan(), plans, false);
    tell(&mut node, Event::Locked);
    let disabled_set = Some(BTreeSet::from(["db".to_string()]));
    let out = tell(
        &mut node,
        Event::Recovered(Recovered { disabled: disabled_set, ..Recovered::default() }),
    );
    assert_eq!((spawns(&out), wish(&node, 1)), (0, (Wanted::Up, Phase::Queued)));
    let (out, answer) = asked(&mut node, "a", Verb::Start, 1);
    let (result, text) = answer.unwrap();
    assert_eq!((spawns(&out), result), (0, Ended::Badly));
    assert!(
        text.contains("waits for db, which is disabled; `nodemanager enable --now db`"),
        "{text}"
    );
    // Enabled and started, it brings the other up.
    tell(&mut node, disabled(&[]));
    asked(&mut node, "b", Verb::Start, 0);
    bring_up(&mut node, 0, 10);
    bring_up(&mut node, 1, 11);
    // A disabled one is not brought down for a restart that would not come.
    tell(&mut node, disabled(&["web"]));
    end_whole_group(&mut node, 0, 10, Exit::Code(1));
    node.fire_armed(NOW.after(9_000), node::Timer::Server(ServerId(0)), &mut Vec::new());
    bring_up(&mut node, 0, 12);
    assert_eq!([wish(&node, 0).1, wish(&node, 1).1], [up(12), up(11)]);
}

#[test]
fn a_reload_is_the_signal_that_the_configuration_names_and_is_sent_once() {
    let mut node = active_with_server_up(9);
    let (out, answer) = asked(&mut node, "a", Verb::Reload, 0);
    let (result, text) = answer.unwrap();
    assert!(result == Ended::Badly && text.contains("reload = {"), "{text}");
    assert!(!out.iter().any(|action| matches!(action, Action::Signal { .. })));
    node.servers[0].plan.reload = Some(crate::core::plan::Reload::Signal(1));
    let sent = |out: &[Action]| {
        let is_it = |action: &&Action| {
            matches!(action, Action::Signal { signal: 1, scope: Scope::Leader, .. })
        };
        out.iter().filter(is_it).count()
    };
    let (out, answer) = asked(&mut node, "b", Verb::Reload, 0);
    assert_eq!((sent(&out), answer.unwrap().0), (1, Ended::Well));
    let (out, answer) = asked(&mut node, "b", Verb::Reload, 0);
    assert_eq!((sent(&out), answer.unwrap().0), (0, Ended::Well));
    // The active died between the record and the signal: nobody knows.
    node.servers[0].rec.marks.last_mut().unwrap().done = false;
    let (out, answer) = asked(&mut node, "b", Verb::Reload, 0);
    assert_eq!((sent(&out), answer.unwrap().0), (0, Ended::MaybeSent));
}
