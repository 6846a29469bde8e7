//! What servers say of themselves: read, held against who may say it, and handed to the core.
//!
//! Must not take a message before what follows from it is on record: who takes over in between
//! finds it still there.

use super::super::Shell;
use super::super::servers::PairPids;
use super::super::token::Source;
use crate::core::checks::Told;
use crate::core::{Event, Identity, Phase, ServerId};
use crate::sd_notify::{self, MESSAGE_MAX, Notice};
use crate::sys::notify::{self, Received};
use crate::sys::{fifo, process};
use log::{info, warn};

/// Messages of one server before the others have their turn.
const MESSAGES_PER_TURN: usize = 64;
/// Of a readiness FIFO as much is read at once.
const READY_BYTES: usize = 4_096;
/// What is said in vain is logged once in this time.
const VAIN_EVERY_MS: u64 = 60_000;

impl Shell {
    /// A server said something.
    pub(in crate::shell) fn on_told(&mut self, number: usize) {
        // Who speaks has passed its exec, and the gate says so.
        self.servers.on_gate(&mut self.ctx, number);
        self.empty_inbox();
        let phase = self.node.servers.get(number).map(|one| &one.rec.phase);
        let is_unclear = phase.is_some_and(|phase| {
            phase.is_before_exec() || matches!(phase, Phase::Verifying { .. })
        });
        if is_unclear {
            return self.ctx.look_again(Source::Told(number));
        }
        let name = self.servers.name(ServerId(number)).to_string();
        self.read_ready(number, &name);
        for _ in 0..MESSAGES_PER_TURN {
            if !self.read_message(number, &name) {
                return;
            }
        }
        self.ctx.look_again(Source::Told(number));
    }

    /// The next message; whether there was one.
    fn read_message(&mut self, number: usize, name: &str) -> bool {
        let Some(fd) = self.endpoints.notify_fd(name) else { return false };
        let mut buffer = [0; MESSAGE_MAX];
        let received = match notify::receive(fd, &mut buffer, false) {
            Ok(Some(received)) => received,
            Ok(None) => return false,
            Err(_) => {
                self.ctx.look_again(Source::Told(number));
                return false;
            }
        };
        match self.judge(number, name, received) {
            Ok(leader) => {
                let notice = sd_notify::parse(buffer.get(..received.length).unwrap_or_default());
                self.tell_notice(number, name, leader, notice);
            }
            Err(why) => self.say_in_vain(&format!("{name}: a message to its NOTIFY_SOCKET {why}")),
        }
        if let Some(fd) = self.endpoints.notify_fd(name) {
            let _ = notify::receive(fd, &mut buffer, true);
        }
        true
    }

    /// Whether the sender may speak for the server's present process; why not.
    fn judge(&self, number: usize, name: &str, received: Received) -> Result<Identity, String> {
        let record = self.node.servers.get(number).map(|one| &one.rec);
        let leader = record.and_then(|record| record.phase.process());
        let leader = leader.ok_or("came while it is not up")?;
        if received.is_cut {
            return Err(format!("is longer than {MESSAGE_MAX} bytes and not taken"));
        }
        let (pid, uid) = received.sender.ok_or("does not say who sent it")?;
        let account = self.ctx.server(name).and_then(|server| server.identity.account.as_ref());
        let own = account.map(|account| account.uid).filter(|_| nix::unistd::geteuid().is_root());
        let own = own.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
        // A server may change its user by itself.
        let is_user = uid == 0 || uid == own || process::uid(leader.pid).ok() == Some(uid);
        if !is_user {
            return Err(format!("is of user {uid} (PID {pid}), who is neither its own nor root"));
        }
        // Of another PID namespace, or gone by now: its user has to be enough.
        let Ok(session) = process::session(pid) else { return Ok(leader) };
        let number = record.map_or(0, |record| record.start_number);
        let mark = self.ctx.owner.mark(name, number);
        let is_own = pid == leader.pid || session == leader.pid;
        if is_own || process::mark_of(pid).ok().flatten() == Some(mark) {
            return Ok(leader);
        }
        Err(format!("is of PID {pid}, which is no process of its present start"))
    }

    fn tell_notice(&mut self, number: usize, name: &str, leader: Identity, notice: Notice) {
        if let Some(pid) = notice.main_pid.filter(|pid| *pid != leader.pid) {
            let server = ServerId(number);
            let start_number = self.node.servers.get(number).map_or(0, |one| one.rec.start_number);
            let pair = PairPids::of(self.keeper.keeper(), self.node.standby.process());
            let named = (pid, leader);
            let ctx = &mut self.ctx;
            if let Err(text) = self.servers.name_main(ctx, server, start_number, named, pair) {
                self.say_in_vain(&format!("{name}: says MAINPID={pid}: {text}"));
            }
        }
        self.tell_core(number, notice.told);
    }

    fn tell_core(&mut self, number: usize, told: Told) {
        let Some(one) = self.node.servers.get(number) else { return };
        let (server, start_number) = (ServerId(number), one.rec.start_number);
        self.ctx.tell(Event::Told { server, start_number, told });
        self.empty_inbox();
    }

    fn say_in_vain(&mut self, text: &str) {
        let now = self.ctx.now();
        if now >= self.endpoints.vain_log_at {
            self.endpoints.vain_log_at = now.after(VAIN_EVERY_MS);
            warn!(target: "0382", "{text}; more of this kind is not logged for a minute");
        }
    }

    /// A newline in its FIFO: it is ready.
    fn read_ready(&mut self, number: usize, name: &str) {
        let Some(fd) = self.endpoints.ready.get(name) else { return };
        let mut buffer = [0; READY_BYTES];
        match fifo::look(fd, &mut buffer) {
            Ok(length) if buffer.iter().take(length).any(|byte| *byte == b'\n') => {
                info!(target: "0383", "{name}: says that it is ready");
                self.tell_core(number, Told { ready: true, ..Told::default() });
            }
            Ok(_) => {}
            Err(_) => return self.ctx.look_again(Source::Told(number)),
        }
        if let Some(fd) = self.endpoints.ready.get(name) {
            fifo::discard(fd);
        }
    }

    /// A server is about to be started, and none of it is up: what is there is of the one before.
    pub(super) fn forget_told(&mut self, name: &str) {
        if let Some(fd) = self.endpoints.ready.get(name) {
            fifo::discard(fd);
        }
        if let Some(fd) = self.endpoints.notify_fd(name) {
            for _ in 0..MESSAGES_PER_TURN {
                if !matches!(notify::receive(fd, &mut [0], true), Ok(Some(_))) {
                    return;
                }
            }
        }
    }
}
