//! What servers say of themselves, and what they answer when they are asked.
//!
//! Must not decide anything about a twin. In calm weather every running server is ready and well.

use crate::guard::Guard;
use crate::os::{Uid, What};
use crate::world::{Due, Stream, World};
use nodemanager::core::checks::{Check, Told};
use nodemanager::core::plan::Ready;
use nodemanager::core::{Event, ServerId};

/// What a server says waits in its socket while nobody serves, and is read by whoever does next.
const READ_AGAIN_MS: u64 = 20;

impl World {
    /// A server that has just begun says later that it is ready.
    pub fn will_say_ready(&mut self, uid: Uid, server: usize) {
        if self.plan.servers[server].ready == Some(Ready::Told) {
            let delay_ms = self.rng.delay(50, 600);
            self.at(delay_ms, Due::SaysReady(uid));
        }
    }

    pub fn says_ready(&mut self, uid: Uid) {
        let Some(one) = self.os.get(uid).filter(|one| one.is_running()) else { return };
        let What::Leader { server, number } = one.what else { return };
        let told = Told { ready: true, ..Told::default() };
        match self.active().map(|active| active.uid) {
            Some(active) => {
                let server = ServerId(server);
                self.tell(
                    active,
                    Stream::Servers,
                    Event::Told { server, start_number: number, told },
                );
            }
            None => self.at(READ_AGAIN_MS, Due::SaysReady(uid)),
        }
    }

    /// It has answered badly, or a command beside it failed: it may be stopped for that, and those
    /// that need it with it.
    pub fn may_be_ended(&mut self, server: ServerId) {
        self.guard.bad_ends[server.0] += 1;
        for one in self.os.procs.values_mut().filter(|one| one.server() == Some(server.0)) {
            one.may_be_ended = true;
        }
        Guard::need_ended(&mut self.os, &self.plan.servers, server);
    }

    /// Some answers are bad, and a few never come.
    pub fn probe(&mut self, uid: Uid, server: ServerId, start_number: u64, check: Check) {
        let is_running = self.os.running(server.0).next().is_some();
        let bad_per_mille = if self.weather.on { 150 } else { 0 };
        if self.weather.on && self.rng.per_mille(20) {
            return self.may_be_ended(server);
        }
        let answer = match is_running && !self.rng.per_mille(bad_per_mille) {
            true => Ok(()),
            false => Err("connection refused".to_string()),
        };
        if answer.is_err() {
            self.may_be_ended(server);
        }
        self.tell(uid, Stream::Servers, Event::Probed { server, start_number, check, answer });
    }
}
