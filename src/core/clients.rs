//! Takes requests in, and answers clients when what they wait for is through.
//!
//! Must not touch a server's phase itself: that is `orders.rs`. The mark of a request and its
//! effect are in the same save, and both come before the answer.

use super::ask::{Ask, Ended, Goal, Outcome, Verb};
use super::node::{Node, Pending};
use super::plan::Reload;
use super::record::{Held, Phase, TaskKind};
use super::server::{Step, signal_text};
use super::time::Ms;
use super::{Action, ClientId, Scope, ServerId};
use std::collections::BTreeSet;

const NO_RELOAD: &str = "its configuration does not say how: set reload = { signal = \"SIGHUP\" }";
const NO_DRAIN: &str =
    "its configuration does not say how: set drain = { command = [...], check = [...] }";

impl Node {
    pub(super) fn on_ask(&mut self, now: Ms, ask: Ask) {
        if let Verb::Shutdown { stop_servers, force } = ask.verb {
            return self.ask_to_end(now, ask, stop_servers, force);
        }
        if ask.verb == Verb::Switch {
            return self.ask_to_switch(now, &ask);
        }
        if let Verb::Maintenance { is_on } = ask.verb {
            return self.ask_for_maintenance(&ask, is_on);
        }
        let only_waits = matches!(ask.verb, Verb::WaitUp | Verb::WaitReady | Verb::WaitDown);
        let only_lists = matches!(ask.verb, Verb::Enable | Verb::Disable);
        if !only_waits && !only_lists && self.refuses_while_ending(&ask) {
            return;
        }
        let servers = match self.reach(&ask) {
            Ok(servers) => servers,
            Err(outcomes) => {
                return self.out.push(Action::Answer { client: ask.client, outcomes });
            }
        };
        let mut goals = Vec::new();
        let mut outcomes = Vec::new();
        for id in servers {
            match self.take_in(now, &ask, id) {
                Ok(goal) => goals.push((id, goal)),
                Err(outcome) => outcomes.push(outcome),
            }
        }
        if !ask.wait {
            let accepted = |(id, _): &(ServerId, Goal)| {
                self.servers[id.0].outcome_now(Ended::Well, "accepted")
            };
            outcomes.extend(goals.iter().map(accepted));
            self.out.push(Action::Answer { client: ask.client, outcomes });
            return;
        }
        let left: BTreeSet<ServerId> = goals.iter().map(|(id, _)| *id).collect();
        self.pending.insert(ask.client, Pending { left, outcomes });
        for (id, goal) in goals {
            self.waits.entry(id).or_default().push((ask.client, goal));
            self.look_at_waits(id);
        }
        self.answer_if_through(ask.client);
    }

    /// Does what is asked of one server, once. What can be told at once is an `Err` outcome.
    fn take_in(&mut self, now: Ms, ask: &Ask, id: ServerId) -> Result<Goal, Outcome> {
        let verb = ask.verb;
        let server = &mut self.servers[id.0];
        if let Some(mark) = server.mark(&ask.id) {
            let goal = Goal { verb, since: mark.start_number, id: ask.id.clone() };
            return match (verb, mark.done) {
                (Verb::Reload, true) if mark.failed.is_some() => {
                    let text = mark.failed.clone().unwrap_or_default();
                    Err(server.outcome_now(Ended::Badly, &text))
                }
                (Verb::Reload, false) if server.runs(TaskKind::Reload) => Ok(goal),
                (Verb::Signal(_) | Verb::Reload, true) => {
                    Err(server.outcome_now(Ended::Well, "sent"))
                }
                (Verb::Signal(_) | Verb::Reload, false) => Err(server.outcome_now(
                    Ended::MaybeSent,
                    "may have been sent: the active died in between",
                )),
                _ => Ok(goal),
            };
        }
        if matches!(verb, Verb::WaitUp | Verb::WaitReady | Verb::WaitDown) {
            return Ok(Goal { verb, since: server.rec.start_number, id: ask.id.clone() });
        }
        if matches!(verb, Verb::Enable | Verb::Disable) {
            return Err(server.outcome_of_enabling(verb == Verb::Enable));
        }
        if server.rec.disabled && matches!(verb, Verb::Start | Verb::Restart) {
            return Err(server.outcome_now(Ended::Badly, &server.disabled_text()));
        }
        if verb == Verb::Restart && matches!(server.rec.phase, Phase::Verifying { .. }) {
            let text = "its process is still being told apart from others; try again";
            return Err(server.outcome_now(Ended::Later, text));
        }
        if server.plan.left_over && matches!(verb, Verb::Start | Verb::Restart | Verb::Reset) {
            let text = "not in the configuration any more: it can only be stopped";
            return Err(server.outcome_now(Ended::Badly, text));
        }
        if let Verb::Signal(signal) = verb {
            return Err(self.send_signal(ask, id, signal));
        }
        if verb == Verb::Reload {
            return match server.plan.reload {
                Some(Reload::Signal(signal)) => Err(self.send_signal(ask, id, signal)),
                Some(Reload::Command { .. }) => self.run_reload(now, ask, id),
                None => Err(server.outcome_now(Ended::Badly, NO_RELOAD)),
            };
        }
        if verb == Verb::Drain && server.plan.drain.is_none() {
            return Err(server.outcome_now(Ended::Badly, NO_DRAIN));
        }
        server.add_mark(&ask.id, true);
        let since = server.rec.marks.last().map_or(0, |mark| mark.start_number);
        self.carry_out(now, verb, id);
        Ok(Goal { verb, since, id: ask.id.clone() })
    }

    /// Its mark is in the same save.
    fn carry_out(&mut self, now: Ms, verb: Verb, id: ServerId) {
        match verb {
            Verb::Start => {
                // Their records come first: the mark of this one says that all of it is on record.
                self.start_needs(id);
                self.with_server(id, |server, steps| server.start(steps));
            }
            Verb::Stop => self.bring_down_in_order(now, id, Held::Stop),
            Verb::Drain => self.bring_down_in_order(now, id, Held::Drain),
            Verb::Restart => {
                // As above.
                self.start_needs(id);
                self.bring_down_in_order(now, id, Held::Restart);
            }
            Verb::Kill => self.with_server(id, |server, steps| server.kill(now, steps)),
            Verb::Reset => self.with_server(id, |server, steps| server.reset(steps)),
            Verb::Signal(_)
            | Verb::Reload
            | Verb::Enable
            | Verb::Disable
            | Verb::WaitUp
            | Verb::WaitReady
            | Verb::WaitDown
            | Verb::Shutdown { .. }
            | Verb::Switch
            | Verb::Maintenance { .. } => {}
        }
    }

    /// Runs its reload command, which is on record as long as it runs.
    fn run_reload(&mut self, now: Ms, ask: &Ask, id: ServerId) -> Result<Goal, Outcome> {
        let server = &self.servers[id.0];
        if !matches!(server.rec.phase, Phase::Up { .. }) {
            return Err(server.outcome_now(Ended::Badly, "not RUNNING"));
        }
        if let Some(task) = server.running_task() {
            let text = format!("its {} runs; try again", task.kind.title());
            return Err(server.outcome_now(Ended::Later, &text));
        }
        self.with_server(id, |server, steps| {
            server.add_mark(&ask.id, false);
            server.begin_task(now, TaskKind::Reload, steps);
            steps.push(Step::Save);
        });
        let since = self.servers[id.0].rec.start_number;
        Ok(Goal { verb: Verb::Reload, since, id: ask.id.clone() })
    }

    /// The intent is on record before the signal, its doing after: in between nobody can know.
    fn send_signal(&mut self, ask: &Ask, id: ServerId, signal: i32) -> Outcome {
        let process = match &self.servers[id.0].rec.phase {
            Phase::Execing { process, .. }
            | Phase::Settling { process, .. }
            | Phase::Unready { process, .. }
            | Phase::Up { process }
            | Phase::Draining { process, .. }
            | Phase::Stopping { process, leader_dead: false, .. } => *process,
            _ => return self.servers[id.0].outcome_now(Ended::Badly, "not running"),
        };
        self.with_server(id, |server, steps| {
            server.add_mark(&ask.id, false);
            steps.push(Step::Save);
            server.signal(process, signal, Scope::Leader, steps);
        });
        self.with_server(id, |server, steps| {
            if let Some(mark) = server.rec.marks.last_mut() {
                mark.done = true;
            }
            steps.push(Step::Save);
        });
        let text = format!("{} sent to PID {}", signal_text(signal), process.pid);
        self.servers[id.0].outcome_now(Ended::Well, &text)
    }

    /// A server changed: who waits for it?
    pub(super) fn look_at_waits(&mut self, id: ServerId) {
        let Some(waits) = self.waits.remove(&id) else { return };
        let server = &self.servers[id.0];
        let mut through = Vec::new();
        let mut still = Vec::new();
        for (client, goal) in waits {
            match server.outcome(&goal).or_else(|| self.hopeless_start(id, &goal)) {
                Some(outcome) => through.push((client, outcome)),
                None => still.push((client, goal)),
            }
        }
        if !still.is_empty() {
            self.waits.insert(id, still);
        }
        for (client, outcome) in through {
            if let Some(pending) = self.pending.get_mut(&client) {
                pending.left.remove(&id);
                pending.outcomes.push(outcome);
                self.answer_if_through(client);
            }
        }
    }

    /// What a start that waits for a server in vain is told.
    fn hopeless_start(&self, id: ServerId, goal: &Goal) -> Option<Outcome> {
        match goal.verb {
            Verb::Start | Verb::Restart | Verb::WaitUp | Verb::WaitReady => self.hopeless_wait(id),
            _ => None,
        }
    }

    fn answer_if_through(&mut self, client: ClientId) {
        if self.pending.get(&client).is_none_or(|pending| !pending.left.is_empty()) {
            return;
        }
        if let Some(mut pending) = self.pending.remove(&client) {
            pending.outcomes.sort_by_key(|outcome| outcome.server);
            self.out.push(Action::Answer { client, outcomes: pending.outcomes });
        }
    }

    /// The connection is gone; what was asked for goes on.
    pub(super) fn forget_client(&mut self, client: ClientId) {
        if let Some(pending) = self.pending.remove(&client) {
            for id in pending.left {
                if let Some(waits) = self.waits.get_mut(&id) {
                    waits.retain(|(waiting, _)| *waiting != client);
                }
            }
        }
        if let Some(progress) = &mut self.ending {
            progress.clients.retain(|waiting| *waiting != client);
        }
        self.whole_waits.remove(&client);
    }
}
