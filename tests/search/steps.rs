//! What can happen next: a twin does its next action or hears something, or the world acts.
//!
//! Must not choose: every way that the kernel, the disk, the link or a person could take is one
//! step.

use crate::acts::{SERVER, act, note_end};
use crate::explore::{Next, World};
use crate::links::{break_or_deliver, do_what_is_only_said, send_to_standby};
use crate::world::{Life, Message, NOW, Pair, Request, SIGKILL, Twin};
use nodemanager::core::ask::{Ask, Reach, Verb};
use nodemanager::core::node::{Role, Timer};
use nodemanager::core::promotion;
use nodemanager::core::standby::State;
use nodemanager::core::{Action, ClientId, Event, Exit, Phase};
use std::fmt::Arguments;
use std::rc::Rc;

/// Collects the steps from one state.
pub struct Ways<'a> {
    from: &'a Pair,
    tells: bool,
    all: Vec<Next<Pair>>,
}

impl Ways<'_> {
    pub fn add(&mut self, label: Arguments, is_fault: bool, change: impl FnOnce(&mut Pair)) {
        let label = if self.tells { label.to_string() } else { String::new() };
        let mut world = self.from.clone();
        change(&mut world);
        do_what_is_only_said(&mut world);
        self.all.push(Next { label, is_fault, world });
    }
}

fn steps(pair: &Pair, tells: bool) -> Vec<Next<Pair>> {
    let mut ways = Ways { from: pair, tells, all: Vec::new() };
    if pair.broken.is_some() {
        return ways.all;
    }
    for twin in &pair.twins {
        let generation = twin.generation;
        if twin.is_dying {
            ways.add(format_args!("twin {generation} is dead at last"), false, |next| {
                next.end_twin(generation);
            });
            continue;
        }
        match twin.queue.front() {
            Some(action) => carry_out(pair, generation, action, &mut ways),
            None => {
                hear(pair, generation, &mut ways);
                fire(pair, generation, &mut ways);
            }
        }
        if pair.budget.kills > 0 {
            ways.add(format_args!("kill -9 of twin {generation}"), true, |next| {
                next.budget.kills -= 1;
                next.end_twin(generation);
            });
        }
    }
    live(pair, &mut ways);
    crate::commands::live(pair, &mut ways);
    break_or_deliver(pair, &mut ways);
    people(pair, &mut ways);
    ways.all
}

// ---- a twin hears something

fn hear(pair: &Pair, generation: i32, ways: &mut Ways) {
    let Some(twin) = pair.twins.iter().find(|twin| twin.generation == generation) else { return };
    for (index, event) in twin.inbox.iter().enumerate().filter(|(_, event)| twin.may_hear(event)) {
        ways.add(format_args!("twin {generation} hears {event:?}"), false, |next| {
            let Some(twin) = next.twin(generation) else { return };
            let event = twin.inbox.remove(index);
            if event == Event::LinkDown {
                twin.link = None;
            }
            twin.hear(event);
        });
    }
    if twin.node.role == Role::Active {
        for (index, (pid, exit)) in pair.statuses.iter().enumerate() {
            ways.add(
                format_args!("twin {generation} reads {exit:?} of PID {pid}"),
                false,
                |next| {
                    let (pid, exit) = next.statuses.remove(index);
                    next.process(pid)
                        .into_iter()
                        .for_each(|process| process.told = Some(generation));
                    if let Some(twin) = next.twin(generation) {
                        twin.hear(Event::Status { pid, start_ticks: 7, exit });
                    }
                },
            );
        }
    }
}

/// What a timer that fires stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Firing {
    /// Something goes on that would not go on without it.
    Plain,
    /// An answer that it guards is on its way. Without a budget for these the numbers of the
    /// records would grow for ever.
    Early,
    ActiveHangs,
    StandbyHangs,
    /// Nothing but the next time.
    Idle,
}

fn meaning(pair: &Pair, twin: &Twin, timer: Timer) -> Firing {
    let is_calm = twin.is_quiet() && pair.statuses.is_empty();
    let unless_early = |is_due: bool| if is_due { Firing::Plain } else { Firing::Early };
    match timer {
        Timer::Beat if twin.node.role == Role::Standby => Firing::ActiveHangs,
        Timer::Beat if twin.node.role == Role::Active && twin.node.standby.is_watching() => {
            Firing::StandbyHangs
        }
        Timer::Beat => Firing::Idle,
        Timer::Standby if matches!(twin.node.standby.state, State::Starting { .. }) => {
            Firing::StandbyHangs
        }
        // Asked for again while it is held, the lock makes nothing but longer delays.
        Timer::Promotion if awaits_lock(twin) && pair.lock.is_some() => Firing::Idle,
        Timer::Standby | Timer::Promotion | Timer::Connect => Firing::Plain,
        Timer::Ending => unless_early(is_calm),
        // Its record is written, or not, at once.
        Timer::Handover => unless_early(is_calm),
        Timer::Server(id) => match twin.node.servers.get(id.0).map(|server| &server.rec.phase) {
            Some(Phase::Spawning { .. } | Phase::Execing { .. } | Phase::Unready { .. }) => {
                Firing::Early
            }
            Some(Phase::AtGate { .. }) => unless_early(is_calm),
            Some(Phase::Stopping { killed, .. }) => unless_early(!killed || is_calm),
            _ => Firing::Plain,
        },
        Timer::Checks(_) => unless_early(!twin.has(|event| matches!(event, Event::Probed { .. }))),
        Timer::Status(_) => Firing::Plain,
        // Every command ends in the end.
        Timer::Task(_) => Firing::Early,
    }
}

fn fire(pair: &Pair, generation: i32, ways: &mut Ways) {
    let Some(twin) = pair.twins.iter().find(|twin| twin.generation == generation) else { return };
    for timer in twin.node.armed() {
        let meaning = meaning(pair, twin, timer);
        let mut budget = pair.budget;
        let is_paid = match meaning {
            Firing::Plain => true,
            Firing::Early => take_one(&mut budget.early_timers),
            Firing::ActiveHangs => take_one(&mut budget.hangs),
            Firing::StandbyHangs => take_one(&mut budget.standby_hangs),
            Firing::Idle => false,
        };
        if !is_paid {
            continue;
        }
        let label = format_args!("twin {generation}: the timer {timer:?} fires");
        ways.add(label, meaning != Firing::Plain, |next| {
            next.budget = budget;
            if let Some(twin) = next.twin(generation) {
                let mut out = Vec::new();
                twin.node.fire_armed(NOW, timer, &mut out);
                twin.take(out);
            }
        });
    }
}

fn take_one(count: &mut u8) -> bool {
    let is_there = *count > 0;
    *count = count.saturating_sub(1);
    is_there
}

fn awaits_lock(twin: &Twin) -> bool {
    let step = twin.node.promotion.as_ref().map(|promotion| promotion.step);
    matches!(step, Some(promotion::Step::Lock { .. }))
}

// ---- a twin does its next action

fn carry_out(pair: &Pair, generation: i32, action: &Action, ways: &mut Ways) {
    let budget = &pair.budget;
    let mut plain = |suffix: &str, is_fault: bool, how: &dyn Fn(&mut Pair, Action)| {
        let label = format_args!("twin {generation} does {action:?}{suffix}");
        ways.add(label, is_fault, |next| {
            let Some(twin) = next.twin(generation) else { return };
            if let Some(action) = twin.queue.pop_front() {
                how(next, action);
            }
        });
    };
    plain("", false, &|next, action| act(next, generation, action));
    match action {
        Action::Save { .. } if budget.disk_fails > 0 => {
            plain(", but the disk fails", true, &|next, action| {
                next.budget.disk_fails -= 1;
                if let Action::Save { entry, answer } = action {
                    next.disk_is_whole = false;
                    note_end(next, &entry);
                    send_to_standby(next, generation, Message::Copied(Rc::new(*entry.clone())));
                    if answer {
                        let error = "no space".to_string();
                        next.owe(generation, Event::NotSaved { seq: entry.seq, error });
                    }
                }
            });
        }
        Action::Signal { signal, .. } if *signal != SIGKILL && budget.deaf > 0 => {
            plain(", and nobody obeys", true, &|next, _| next.budget.deaf -= 1);
        }
        Action::Fence | Action::KillStandby { .. } if budget.undying > 0 => {
            plain(", but it does not die yet", true, &|next, action| {
                let victim = match action {
                    Action::KillStandby { process } => Some(process.pid),
                    _ => next.twin(generation).and_then(|twin| twin.parent),
                };
                next.budget.undying -= 1;
                if let Some(twin) = victim.and_then(|victim| next.twin(victim)) {
                    twin.is_dying = true;
                }
            });
        }
        Action::Spawn { start_number, .. } if budget.fork_fails > 0 => {
            let start_number = *start_number;
            plain(", but fork fails", true, &move |next, _| {
                next.budget.fork_fails -= 1;
                let (server, error) = (SERVER, "no memory".to_string());
                next.owe(generation, Event::SpawnFailed { server, start_number, error });
            });
        }
        Action::Probe { server, start_number, check } => {
            let (server, start_number, check) = (*server, *start_number, *check);
            if budget.bad_answers > 0 {
                plain(", and the answer is bad", true, &move |next, _| {
                    next.budget.bad_answers -= 1;
                    let answer = Err("refused".to_string());
                    next.owe(generation, Event::Probed { server, start_number, check, answer });
                });
            }
            if budget.no_answers > 0 {
                plain(", and no answer comes", true, &|next, _| next.budget.no_answers -= 1);
            }
        }
        Action::WatchTask { number, process, .. } => {
            let (number, process) = (*number, *process);
            plain(", and nobody knows how it ended", true, &move |next, _| {
                crate::commands::watch(next, generation, number, process, false);
            });
        }
        Action::SpawnStandby if budget.fork_fails > 0 => {
            plain(", but fork fails", true, &|next, _| {
                next.budget.fork_fails -= 1;
                let error = "no memory".to_string();
                next.owe(generation, Event::StandbySpawnFailed { error });
            });
        }
        _ => {}
    }
}

// ---- the server's processes

fn live(pair: &Pair, ways: &mut Ways) {
    let living: Vec<i32> = pair.twins.iter().map(|twin| twin.generation).collect();
    for process in &pair.processes {
        let (pid, budget) = (process.pid, &pair.budget);
        let is_orphan = !living.contains(&process.parent);
        match process.life {
            Life::AtGate { discarded } if discarded || is_orphan => {
                ways.add(format_args!("PID {pid} ends at its gate"), false, |next| {
                    next.end_process(pid, Exit::Signal(SIGKILL));
                });
            }
            // Its death signal is sent before anybody can see that its parent is dead.
            Life::Locking if is_orphan => {
                ways.add(format_args!("PID {pid} ends with its parent"), false, |next| {
                    next.end_process(pid, Exit::Signal(SIGKILL));
                });
            }
            Life::Locking => {
                ways.add(format_args!("PID {pid} gets its lock"), false, |next| {
                    next.process(pid).into_iter().for_each(|process| process.life = Life::Passing);
                });
            }
            Life::Passing => pass_gate(pair, pid, process.parent, process.start_number, ways),
            Life::Running if budget.exits > 0 => {
                for exit in [Exit::Code(0), Exit::Code(1)] {
                    ways.add(format_args!("PID {pid} ends with {exit:?}"), true, |next| {
                        next.budget.exits -= 1;
                        next.end_process(pid, exit);
                    });
                }
                if budget.members > 0 {
                    ways.add(format_args!("PID {pid} leaves a member behind"), true, |next| {
                        (next.budget.exits, next.budget.members) =
                            (next.budget.exits - 1, next.budget.members - 1);
                        next.end_process(pid, Exit::Code(1));
                        next.process(pid).into_iter().for_each(|p| p.has_member = true);
                    });
                }
            }
            _ => {}
        }
    }
}

fn pass_gate(pair: &Pair, pid: i32, parent: i32, start_number: u64, ways: &mut Ways) {
    ways.add(format_args!("PID {pid} passes exec"), false, |next| {
        next.process(pid).into_iter().for_each(|process| process.life = Life::Running);
        next.owe(parent, Event::Executed { server: SERVER, start_number });
    });
    if pair.budget.locks > 0 {
        ways.add(format_args!("PID {pid} waits for a lock"), true, |next| {
            next.budget.locks -= 1;
            next.process(pid).into_iter().for_each(|process| process.life = Life::Locking);
            let text = "a lock".to_string();
            let event = Event::ChildWaits { server: SERVER, start_number, text, timeout_ms: 1 };
            next.owe(parent, event);
        });
    }
    if pair.budget.exec_fails > 0 {
        ways.add(format_args!("the exec of PID {pid} fails"), true, |next| {
            next.budget.exec_fails -= 1;
            let error = "no such file".to_string();
            next.owe(parent, Event::ChildFailed { server: SERVER, start_number, error });
            next.end_process(pid, Exit::Code(70));
        });
    }
}

// ---- people, and the keeper

fn people(pair: &Pair, ways: &mut Ways) {
    if pair.twins.is_empty() && !pair.has_ended {
        ways.add(format_args!("the keeper starts the pair again"), false, |next| {
            next.start_active(true);
        });
    }
    // While the lock is held, it would end at once (75) and leave nothing behind.
    if pair.budget.rivals > 0 && !pair.twins.is_empty() && pair.lock.is_none() {
        ways.add(format_args!("somebody starts the pair once more"), true, |next| {
            next.budget.rivals -= 1;
            next.start_active(false);
        });
    }
    let mut verbs = Vec::new();
    if pair.budget.asks > 0 {
        verbs.extend([Verb::Start, Verb::Stop, Verb::Restart]);
    }
    if pair.budget.switches > 0 {
        verbs.push(Verb::Switch);
    }
    if pair.budget.maintenances > 0 {
        verbs.push(Verb::Maintenance { is_on: true });
    }
    if pair.budget.shutdowns > 0 {
        verbs.extend(
            [true, false].map(|stop_servers| Verb::Shutdown { stop_servers, force: false }),
        );
    }
    let Some(active) = pair.active().filter(|active| active.is_free()) else { return };
    let generation = active.generation;
    for verb in verbs {
        ways.add(format_args!("twin {generation} is asked for {verb:?}"), true, |next| {
            match verb {
                Verb::Shutdown { .. } => next.budget.shutdowns -= 1,
                Verb::Switch => next.budget.switches -= 1,
                Verb::Maintenance { .. } => next.budget.maintenances -= 1,
                _ => next.budget.asks -= 1,
            }
            next.requests.push(Request { verb, asked: None, is_answered: false });
            ask(next, generation, next.requests.len() - 1);
        });
    }
    if active.node.record.maintenance {
        ways.add(
            format_args!("twin {generation} is told that maintenance is over"),
            false,
            |next| {
                let verb = Verb::Maintenance { is_on: false };
                next.requests.push(Request { verb, asked: None, is_answered: false });
                ask(next, generation, next.requests.len() - 1);
            },
        );
    }
    let living: Vec<i32> = pair.twins.iter().map(|twin| twin.generation).collect();
    for (index, request) in pair.requests.iter().enumerate() {
        let is_lost = request.asked.is_none_or(|asked| !living.contains(&asked));
        if is_lost && !request.is_answered {
            ways.add(
                format_args!("request {index} is asked again of twin {generation}"),
                false,
                |next| {
                    ask(next, generation, index);
                },
            );
        }
    }
}

fn ask(pair: &mut Pair, generation: i32, index: usize) {
    let Some(request) = pair.requests.get_mut(index) else { return };
    request.asked = Some(generation);
    let ask = Ask {
        client: ClientId(index as u64),
        id: format!("request {index}"),
        verb: request.verb,
        servers: vec![SERVER],
        wait: true,
        reach: Reach::Refuse,
    };
    if let Some(twin) = pair.twin(generation) {
        twin.hear(Event::Asked(ask));
    }
}

// ---- what must hold

impl World for Pair {
    fn steps(&self, tells: bool) -> Vec<Next<Pair>> {
        steps(self, tells)
    }

    fn check(&self) -> Result<(), String> {
        crate::rules::check(self)
    }

    fn is_good(&self) -> bool {
        crate::rules::is_good(self)
    }

    fn sights(&self) -> Vec<&'static str> {
        crate::rules::sights(self)
    }
}
