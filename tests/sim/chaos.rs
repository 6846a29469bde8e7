//! The faults that come from outside: kills, stops, cuts, a full disk, a lost journal.
//!
//! Must not touch the core's values.

use crate::os::Uid;
use crate::world::{Due, World};
use nodemanager::core::Exit;
use nodemanager::core::ask::Verb;

/// Whether faults still happen.
pub struct Weathers {
    pub on: bool,
}

impl World {
    pub fn fault(&mut self) {
        if !self.weather.on {
            return;
        }
        let every_ms = self.plan.weather.fault_every_ms;
        let delay_ms = self.rng.range(1, every_ms * 2);
        self.at(delay_ms, Due::Fault);
        let weather = self.plan.weather.clone();
        let weights = [
            weather.kill_both,
            weather.stop,
            weather.cut,
            weather.disk_full,
            weather.lose_journal,
            weather.kill_server,
            weather.fork_refused,
            weather.starve,
            weather.run,
            weather.kill_active,
        ];
        self.edit_list();
        let mut number = self.rng.below(weights.iter().sum());
        let Some(fault) = weights.iter().position(|weight| {
            let is_it = number < *weight;
            number = number.saturating_sub(*weight);
            is_it
        }) else {
            return;
        };
        self.note(|| format!("fault {fault}"));
        match fault {
            0 => self.kill_all_twins(),
            1 => self.stop_somebody(),
            2 => self.cut_links(),
            3 => {
                self.disk.is_full = true;
                let delay_ms = self.rng.range(100, 5_000);
                self.at(delay_ms, Due::DiskHasRoom);
            }
            4 => self.lose_journal(),
            5 => self.kill_a_server(),
            6 => {
                self.fork_refused = true;
                let delay_ms = self.rng.range(100, 3_000);
                self.at(delay_ms, Due::ForkWorks);
            }
            7 => self.starve_somebody(),
            8 => {
                if self.keeper.is_none() && !self.ended {
                    self.run_command();
                }
            }
            _ => {
                if let Some(uid) = self.active().map(|active| active.uid) {
                    self.dies(uid, Exit::Signal(9));
                }
            }
        }
    }

    pub fn kill_all_twins(&mut self) {
        let twins: Vec<Uid> = self.twins.keys().copied().collect();
        for uid in twins {
            self.dies(uid, Exit::Signal(9));
        }
    }

    fn somebody(&mut self) -> Option<Uid> {
        let twins: Vec<Uid> = self.twins.keys().copied().collect();
        (!twins.is_empty()).then(|| self.rng.pick(&twins))
    }

    fn stop_somebody(&mut self) {
        let delay_ms = self.rng.pick(&[50, 400, 2_000, 10_000]);
        if self.rng.per_mille(100)
            && let Some(keeper) = &mut self.keeper
        {
            keeper.stopped = true;
            let uid = keeper.uid;
            return self.at(delay_ms, Due::Continues(uid));
        }
        let Some(uid) = self.somebody() else { return };
        if let Some(twin) = self.twins.get_mut(&uid).filter(|twin| !twin.stopped) {
            twin.stopped = true;
            self.at(delay_ms, Due::Continues(uid));
        }
    }

    fn starve_somebody(&mut self) {
        let delay_ms = self.rng.range(20, 3_000);
        let Some(uid) = self.somebody() else { return };
        if let Some(twin) = self.twins.get_mut(&uid) {
            twin.busy_until = twin.busy_until.max(self.now + delay_ms);
        }
    }

    pub fn lose_journal(&mut self) {
        self.disk.lose();
        self.guard.disk_troubles += 1;
    }

    fn kill_a_server(&mut self) {
        let leaders: Vec<(Uid, usize)> = (0..self.plan.servers.len())
            .flat_map(|server| self.os.running(server).map(move |(uid, _)| (uid, server)))
            .collect();
        if leaders.is_empty() {
            return;
        }
        let (uid, server) = self.rng.pick(&leaders);
        self.guard.bad_ends[server] += 1;
        self.dies(uid, Exit::Signal(9));
    }

    pub fn ask_to_end(&mut self, stop_servers: bool) {
        if stop_servers && self.keeper.is_some() && self.rng.per_mille(500) {
            self.ask_keeper_to_end();
        } else {
            self.ask(Verb::Shutdown { stop_servers, force: false }, 0);
        }
    }
}
