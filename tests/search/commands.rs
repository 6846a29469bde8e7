//! The commands beside the server in the search: their processes, and what is wrong with them.
//!
//! Must not decide what the core decides. A command that passed its gate runs at once.

use crate::acts::SERVER;
use crate::steps::Ways;
use crate::world::{Life, Pair, SIGKILL};
use nodemanager::core::record::TaskKind;
use nodemanager::core::task::TaskEnd;
use nodemanager::core::{Action, Event, Exit, Identity};

/// A process of a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    pub pid: i32,
    pub kind: TaskKind,
    /// The twin that forked it, and its number there.
    parent: (i32, u64),
    /// The twin that watches it without being its parent, and its number there.
    watcher: Option<(i32, u64)>,
    pub was_recorded: bool,
    is_at_gate: bool,
    exit: Option<Exit>,
}

impl Command {
    fn identity(&self) -> Identity {
        Identity { pid: self.pid, start_ticks: 7, inode: 0 }
    }

    pub fn runs(&self) -> bool {
        self.exit.is_none() && !self.is_at_gate
    }
}

fn of(pair: &mut Pair, generation: i32, number: u64) -> Option<&mut Command> {
    let key = (generation, number);
    let is_it = |one: &&mut Command| one.parent == key || one.watcher == Some(key);
    pair.commands.iter_mut().find(is_it)
}

pub fn act(pair: &mut Pair, generation: i32, action: Action) {
    match action {
        Action::SpawnTask { number, kind, .. } => {
            let pid = 5000 + 100 * generation + i32::try_from(number).unwrap_or(99);
            let command = Command {
                pid,
                kind,
                parent: (generation, number),
                watcher: None,
                was_recorded: false,
                is_at_gate: true,
                exit: None,
            };
            let process = command.identity();
            pair.commands.push(command);
            pair.owe(generation, Event::TaskSpawned { server: SERVER, number, process });
        }
        Action::OpenTaskGate { number, .. } => open_gate(pair, generation, number),
        Action::KillTask { number, .. } => {
            if let Some(command) = of(pair, generation, number) {
                (command.parent, command.watcher) = ((0, 0), None);
                command.exit.get_or_insert(Exit::Signal(SIGKILL));
            }
        }
        Action::WatchTask { number, process, .. } => {
            watch(pair, generation, number, process, true);
        }
        _ => {}
    }
}

fn open_gate(pair: &mut Pair, generation: i32, number: u64) {
    let running = pair.commands.iter().find(|one| one.runs()).map(|one| one.pid);
    let copy = pair.processes.iter().find(|one| one.is_a_copy()).map(|one| one.pid);
    let Some(command) = of(pair, generation, number) else { return };
    if command.exit.is_some() {
        return;
    }
    command.is_at_gate = false;
    let (kind, was_recorded) = (command.kind, command.was_recorded);
    if !was_recorded {
        pair.fail(format!("the gate of the {kind:?} command opened without a record"));
    }
    if let Some(other) = running {
        pair.fail(format!("the {kind:?} command runs beside the command with PID {other}"));
    }
    if let (TaskKind::PreStart, Some(copy)) = (kind, copy) {
        pair.fail(format!("the preStart hook runs while PID {copy} lives"));
    }
}

/// `is_known`: how a dead one ended can be learnt.
pub fn watch(pair: &mut Pair, generation: i32, number: u64, process: Identity, is_known: bool) {
    let command = pair.commands.iter_mut().find(|one| one.identity() == process);
    let exit = match command {
        Some(Command { exit: Some(exit), .. }) if is_known => *exit,
        Some(command) if command.exit.is_none() => {
            command.watcher = Some((generation, number));
            return;
        }
        _ => Exit::Unknown,
    };
    let end = TaskEnd::Exited(exit);
    pair.owe(generation, Event::TaskEnded { server: SERVER, number, end });
}

fn end(pair: &mut Pair, pid: i32, exit: Exit) {
    let living: Vec<i32> = pair.twins.iter().map(|twin| twin.generation).collect();
    let Some(command) = pair.commands.iter_mut().find(|one| one.pid == pid) else { return };
    command.exit = Some(exit);
    let kind = command.kind;
    let listener = Some(command.parent).filter(|(twin, _)| living.contains(twin));
    if let Some((twin, number)) = listener.or(command.watcher) {
        let end = TaskEnd::Exited(exit);
        pair.owe(twin, Event::TaskEnded { server: SERVER, number, end });
    }
    if exit == Exit::Code(0) && kind == TaskKind::PreStart {
        pair.is_prepared = true;
    }
}

/// What commands do by themselves.
pub fn live(pair: &Pair, ways: &mut Ways) {
    let living: Vec<i32> = pair.twins.iter().map(|twin| twin.generation).collect();
    for command in pair.commands.iter().filter(|one| one.exit.is_none()) {
        let (pid, kind) = (command.pid, command.kind);
        if command.is_at_gate {
            if !living.contains(&command.parent.0) {
                ways.add(format_args!("the command {pid} ends at its gate"), false, |next| {
                    end(next, pid, Exit::Signal(SIGKILL));
                });
            }
            continue;
        }
        ways.add(format_args!("{kind:?} {pid} ends well"), false, |next| {
            end(next, pid, Exit::Code(0));
            if kind == TaskKind::Stop {
                let runs = next.processes.iter().find(|one| one.life == Life::Running);
                if let Some(server) = runs.map(|one| one.pid) {
                    next.end_process(server, Exit::Code(0));
                }
            }
        });
        if pair.budget.exits > 0 {
            ways.add(format_args!("{kind:?} {pid} fails"), true, |next| {
                next.budget.exits -= 1;
                end(next, pid, Exit::Code(1));
            });
        }
    }
}

/// The server passes its gate: its hook must have ended well for it, and no command runs.
pub fn check_start(pair: &mut Pair) {
    if let Some(command) = pair.commands.iter().find(|one| one.runs()) {
        let text = format!("the server starts while the command {} runs", command.pid);
        pair.fail(text);
    }
    if pair.setting.has_commands && !std::mem::take(&mut pair.is_prepared) {
        pair.fail("the server starts without its preStart hook".to_string());
    }
}
