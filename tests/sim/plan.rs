//! What one seed decides before its run: the pair, the servers, and how bad the weather is.
//!
//! Must not hold anything that changes during the run.

use crate::rng::Rng;
use crate::tasks::add_tasks;
use nodemanager::core::plan::{Health, Need, OnFailure, Ready, Rules};
use nodemanager::core::restart::{Policy, Then, When};
use nodemanager::core::{PairPlan, ServerId, ServerPlan};

/// How a server's program behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// It ends by itself after about so long, with code 1.
    pub crashes_after_ms: Option<u64>,
    /// It ends by itself after about so long, with code 0.
    pub exits_after_ms: Option<u64>,
    /// exec fails (so many times in a thousand).
    pub exec_fails: u64,
    /// Before its exec it has to wait for a lock (so many times in a thousand).
    pub locks: u64,
    pub deaf: bool,
    /// Helpers it forks into its group; the last one is deaf, if any is.
    pub members: u64,
    pub has_deaf_member: bool,
}

impl Behaviour {
    pub const WELL: Behaviour = Behaviour {
        crashes_after_ms: None,
        exits_after_ms: None,
        exec_fails: 0,
        locks: 0,
        deaf: false,
        members: 0,
        has_deaf_member: false,
    };

    /// It never ends unless somebody ends it.
    pub fn is_well(&self) -> bool {
        self.crashes_after_ms.is_none() && self.exits_after_ms.is_none() && self.exec_fails == 0
    }
}

/// The weather: chances in a thousand, per action or per fault.
#[derive(Clone, Debug)]
pub struct Weather {
    /// A twin is killed before its next action.
    pub kill_at_action: u64,
    /// The keeper is killed before its next action.
    pub kill_keeper: u64,
    /// Mean time between two faults.
    pub fault_every_ms: u64,
    /// Weights of the faults; see `chaos.rs`.
    pub kill_active: u64,
    pub kill_both: u64,
    pub stop: u64,
    pub cut: u64,
    pub disk_full: u64,
    pub lose_journal: u64,
    pub kill_server: u64,
    pub fork_refused: u64,
    pub starve: u64,
    pub run: u64,
    /// A killed twin dies only later.
    pub frozen: u64,
    /// A look at a process cannot tell.
    pub unclear: u64,
    pub chaos_ms: u64,
}

impl Weather {
    /// Nothing happens by itself: for scripted stories.
    pub fn calm() -> Weather {
        Weather {
            kill_at_action: 0,
            kill_keeper: 0,
            fault_every_ms: 1_000_000,
            kill_active: 0,
            kill_both: 0,
            stop: 0,
            cut: 0,
            disk_full: 0,
            lose_journal: 0,
            kill_server: 0,
            fork_refused: 0,
            starve: 0,
            run: 0,
            frozen: 0,
            unclear: 0,
            chaos_ms: 0,
        }
    }

    fn draw(rng: &mut Rng) -> Weather {
        let kill_at_action = rng.pick(&[2, 5, 10, 20]);
        Weather {
            kill_at_action,
            kill_keeper: rng.pick(&[0, 1, 5]),
            fault_every_ms: rng.pick(&[150, 400, 1_500]),
            kill_active: rng.pick(&[20, 100, 200]),
            kill_both: rng.pick(&[0, 5]),
            stop: rng.pick(&[0, 10, 30]),
            cut: rng.pick(&[0, 10, 30]),
            disk_full: rng.pick(&[0, 0, 10]),
            lose_journal: rng.pick(&[0, 0, 0, 5]),
            kill_server: rng.pick(&[0, 10]),
            fork_refused: rng.pick(&[0, 0, 10]),
            starve: rng.pick(&[0, 10, 30]),
            run: 20,
            frozen: rng.pick(&[0, 0, 50]),
            unclear: rng.pick(&[0, 0, 20]),
            chaos_ms: 30_000,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub pair: PairPlan,
    pub servers: Vec<ServerPlan>,
    pub behaviours: Vec<Behaviour>,
    pub weather: Weather,
    pub clients: usize,
    pub has_inodes: bool,
    /// The pair is ended when the chaos is over (`Some(true)`: with its servers).
    pub shutdown: Option<bool>,
    /// It is ended in the middle of the chaos instead.
    pub shutdown_early: bool,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Plan {
        let count = rng.range(1, 4) as usize;
        let behaviours: Vec<_> = (0..count).map(|_| behaviour(rng)).collect();
        let mut servers: Vec<_> = (0..count).map(|n| server(rng, n)).collect();
        servers.iter_mut().enumerate().for_each(|(n, one)| add_checks_and_needs(rng, n, one));
        if rng.per_mille(400) {
            servers.iter_mut().for_each(|one| add_tasks(rng, one));
        }
        let heartbeat_interval_ms = rng.pick(&[50, 100, 200]);
        let heartbeat_timeout_ms = heartbeat_interval_ms * rng.range(4, 10);
        Plan {
            pair: PairPlan {
                has_standby: !rng.per_mille(50),
                heartbeat_interval_ms,
                heartbeat_timeout_ms,
                shutdown_timeout_ms: 3_000,
                starts_max: rng.pick(&[1, 2, 16]) as usize,
            },
            servers,
            behaviours,
            weather: Weather::draw(rng),
            clients: rng.below(4) as usize,
            has_inodes: rng.per_mille(500),
            shutdown: rng.pick(&[None, None, None, Some(true), Some(false)]),
            shutdown_early: rng.per_mille(300),
        }
    }

    /// A pair with one well-behaved server, in calm weather.
    pub fn simple() -> Plan {
        let mut rng = Rng::new(1);
        Plan {
            pair: PairPlan {
                has_standby: true,
                heartbeat_interval_ms: 100,
                heartbeat_timeout_ms: 500,
                shutdown_timeout_ms: 3_000,
                starts_max: 16,
            },
            servers: vec![server(&mut rng, 0)],
            behaviours: vec![Behaviour::WELL],
            weather: Weather::calm(),
            clients: 0,
            has_inodes: true,
            shutdown: None,
            shutdown_early: false,
        }
    }
}

fn behaviour(rng: &mut Rng) -> Behaviour {
    let well = Behaviour::WELL;
    let with_members = |rng: &mut Rng, base: Behaviour| Behaviour {
        members: rng.below(3),
        has_deaf_member: rng.per_mille(300),
        deaf: rng.per_mille(100),
        locks: rng.pick(&[0, 0, 300]),
        ..base
    };
    let base = match rng.below(10) {
        0..5 => well,
        5..7 => Behaviour { crashes_after_ms: Some(rng.pick(&[50, 500, 5_000])), ..well },
        7 | 8 => Behaviour { exits_after_ms: Some(rng.pick(&[100, 3_000])), ..well },
        _ => Behaviour { exec_fails: rng.pick(&[300, 1000]), ..well },
    };
    with_members(rng, base)
}

fn add_checks_and_needs(rng: &mut Rng, n: usize, server: &mut ServerPlan) {
    server.start_timeout_ms = 5_000;
    server.ready = match rng.below(10) {
        0..6 => None,
        6 | 7 => Some(Ready::Told),
        _ => Some(Ready::Asked { interval_ms: 200, timeout_ms: 500 }),
    };
    if rng.per_mille(200) {
        let (interval_ms, timeout_ms) = (700, 500);
        server.health.push(Health::Asked { interval_ms, timeout_ms, failures: 3, for_ms: 0 });
    }
    for other in 0..n {
        if rng.per_mille(300) {
            let kinds = [OnFailure::Keep, OnFailure::Stop, OnFailure::Restart];
            let on_failure = kinds[rng.below(3) as usize];
            server.needs.push(Need { server: ServerId(other), on_failure });
        }
    }
}

fn server(rng: &mut Rng, n: usize) -> ServerPlan {
    let rules = Rules {
        settle_ms: rng.pick(&[0, 100, 1_000]),
        policy: Policy {
            when: rng.pick(&[When::Always, When::OnFailure, When::OnFailure, When::Never]),
            tries: rng.pick(&[0, 3, 10]) as u32,
            window_ms: 60_000,
            delay_ms: rng.pick(&[0, 100, 1_000]),
            delay_max_ms: 10_000,
            reset_after_ms: 20_000,
            then: rng.pick(&[Then::Slow, Then::Fail]),
            ..Policy::never()
        },
        stop_signal: 15,
        stop_timeout_ms: rng.pick(&[200, 2_000]),
        ..Rules::default()
    };
    ServerPlan { auto_start: true, ..ServerPlan::of(format!("s{n}"), rules) }
}
