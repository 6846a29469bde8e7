//! The fake machine: processes with reused numbers, groups, zombies and exit statuses.
//!
//! Must not know the core's decisions; it only keeps what is true. A world-wide number (`Uid`)
//! names a process for ever, so that the checks see through reused PIDs.

use crate::rng::Rng;
use nodemanager::core::record::TaskKind;
use nodemanager::core::{Exit, Identity, Ms};
use std::collections::BTreeMap;

/// Names a process in this world for ever; 0 is init.
pub type Uid = u64;

/// PIDs come from this small range, so that they are reused all the time.
const PID_FIRST: i32 = 100;
const PID_COUNT: u64 = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Twin,
    Keeper,
    /// The first process of a server.
    Leader {
        server: usize,
        number: u64,
    },
    /// A helper that the leader forked; it stays in its group.
    Member {
        server: usize,
        leader: Uid,
        /// The leader's PID, which is the group's number.
        group: i32,
        /// The start number in its mark.
        number: u64,
    },
    /// A command beside a server, and the start that it belongs to.
    Task {
        server: usize,
        kind: TaskKind,
        start: u64,
    },
    /// Somebody else's process, that got a PID that was ours.
    Stranger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    AtGate,
    Running,
    Zombie,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Shut,
    /// The byte is on its way.
    Open,
    /// It came; before its exec the child waits for a lock.
    Waits,
}

#[derive(Clone, Debug)]
pub struct Proc {
    pub id: Identity,
    pub parent: Uid,
    pub what: What,
    pub state: State,
    pub gate: Gate,
    /// Ignores SIGTERM.
    pub deaf: bool,
    /// Its parent gave it up and reaps it without a word.
    pub discarded: bool,
    /// Somebody looked at it while it waited at its gate, and may end it for that.
    pub seen_at_gate: bool,
    /// It had to wait for a lock, and may be given up at the moment when it gets it.
    pub has_waited: bool,
    /// After it came to be somebody asked for its end, it answered badly, or one that it needs ended.
    pub may_be_ended: bool,
    /// When it came to be.
    pub born: Ms,
}

impl Proc {
    pub fn lives(&self) -> bool {
        self.state != State::Zombie
    }

    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub fn server(&self) -> Option<usize> {
        match self.what {
            What::Leader { server, .. } | What::Member { server, .. } => Some(server),
            _ => None,
        }
    }
}

#[derive(Default)]
pub struct Os {
    pub procs: BTreeMap<Uid, Proc>,
    next_uid: Uid,
    /// The kernel has pidfs: a pidfd's inode is unique in a boot.
    pub has_inodes: bool,
    /// Every server's process that ever was, for the checks.
    pub history: BTreeMap<Identity, (Uid, usize)>,
    /// How processes really ended.
    pub exits: BTreeMap<Identity, Exit>,
    taken: std::collections::BTreeSet<(i32, u64)>,
}

impl Os {
    pub fn new(has_inodes: bool) -> Os {
        Os { has_inodes, ..Os::default() }
    }

    pub fn fork(&mut self, rng: &mut Rng, now: Ms, parent: Uid, what: What) -> Option<Uid> {
        (0..8).find_map(|_| {
            let pid = PID_FIRST + rng.below(PID_COUNT) as i32;
            self.fork_as(pid, now, parent, what)
        })
    }

    /// A process with this number, if it is free.
    pub fn fork_as(&mut self, pid: i32, now: Ms, parent: Uid, what: What) -> Option<Uid> {
        let ticks = now.0 / 10 + 1;
        if self.is_pid_taken(pid) || self.taken.contains(&(pid, ticks)) {
            return None;
        }
        self.next_uid += 1;
        let uid = self.next_uid;
        self.taken.insert((pid, ticks));
        let inode = if self.has_inodes { uid + 5_000 } else { 0 };
        let id = Identity { pid, start_ticks: ticks, inode };
        let state = match what {
            What::Leader { .. } | What::Task { .. } => State::AtGate,
            _ => State::Running,
        };
        if let What::Leader { server, .. } = what {
            self.history.insert(id, (uid, server));
        }
        self.procs.insert(
            uid,
            Proc {
                id,
                parent,
                what,
                state,
                gate: Gate::Shut,
                deaf: false,
                discarded: false,
                seen_at_gate: false,
                has_waited: false,
                may_be_ended: false,
                born: now,
            },
        );
        Some(uid)
    }

    /// A number is in use as long as a process, a zombie or a group has it.
    fn is_pid_taken(&self, pid: i32) -> bool {
        self.procs.values().any(|one| {
            one.id.pid == pid || matches!(one.what, What::Member { group, .. } if group == pid)
        })
    }

    pub fn get(&self, uid: Uid) -> Option<&Proc> {
        self.procs.get(&uid)
    }

    pub fn lives(&self, uid: Uid) -> bool {
        self.procs.get(&uid).is_some_and(Proc::lives)
    }

    /// The process with exactly this identity, zombies included.
    pub fn by_identity(&self, id: Identity) -> Option<Uid> {
        self.procs.iter().find(|(_, one)| one.id == id).map(|(uid, _)| *uid)
    }

    /// Living processes of this leader's group, itself included.
    pub fn group(&self, leader: Uid) -> Vec<Uid> {
        let is_of = |uid: &Uid, one: &Proc| {
            *uid == leader || matches!(one.what, What::Member { leader: of, .. } if of == leader)
        };
        let alive = self.procs.iter().filter(|(uid, one)| one.lives() && is_of(uid, one));
        alive.map(|(uid, _)| *uid).collect()
    }

    /// Running processes of a server, whatever their group; a child at its gate is none yet.
    pub fn running(&self, server: usize) -> impl Iterator<Item = (Uid, &Proc)> {
        let mine = move |one: &Proc| one.server() == Some(server) && one.is_running();
        self.procs.iter().filter(move |(_, one)| mine(one)).map(|(uid, one)| (*uid, one))
    }

    pub fn child_at_gate(&self, parent: Uid, server: usize, number: u64) -> Option<Uid> {
        let what = What::Leader { server, number };
        let is_it = |one: &Proc| one.parent == parent && one.what == what && one.lives();
        self.procs.iter().find(|(_, one)| is_it(one)).map(|(uid, _)| *uid)
    }
}
