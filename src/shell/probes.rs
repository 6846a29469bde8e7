//! Asks servers whether they are ready and well: a connection, an HTTP request, a program, memory.
//!
//! Must not decide what an answer means, and must not wait: each question is a non-blocking exchange
//! with a time of its own, and an answer always comes (`Event::Probed`).

mod exchange;

use super::ctx::Ctx;
use super::jobs::{End, Jobs};
use super::servers::Servers;
use super::token::Source;
use crate::config::{HealthCheck, Probe, Readiness, ServerConfig};
use crate::core::checks::{Check, DRAIN_ANSWER_MS};
use crate::core::server::exit_text;
use crate::core::{Event, Exit, Ms, ServerId};
use crate::sys::process;
use exchange::{Exchange, Progress};
use std::collections::BTreeMap;

/// What is asked of whom.
#[derive(Clone, Copy)]
struct Question {
    server: ServerId,
    start_number: u64,
    check: Check,
}

struct Running {
    question: Question,
    exchange: Exchange,
    until: Ms,
}

/// All questions that wait for an answer.
#[derive(Default)]
pub struct Probes {
    running: BTreeMap<usize, Running>,
    next: usize,
    /// Programs that run, by the number of the job.
    programs: BTreeMap<usize, Question>,
    pub jobs: Jobs,
}

impl Probes {
    /// Asks. A question that was asked before and has no answer yet is forgotten: the core has given
    /// it up.
    pub fn ask(
        &mut self,
        ctx: &mut Ctx,
        servers: &Servers,
        server: ServerId,
        start_number: u64,
        check: Check,
    ) {
        self.forget(ctx, server, check);
        let question = Question { server, start_number, check };
        let Some(config) = ctx.server_or_retired(servers.name(server)).cloned() else {
            return tell(ctx, question, Err("it is not in the configuration any more".to_string()));
        };
        if let (Check::Drain, Some(drain)) = (check, &*config.drain) {
            let command = drain.check.clone().unwrap_or_default();
            return self.run_program(ctx, question, &config, &command, DRAIN_ANSWER_MS);
        }
        let Some((probe, timeout_ms)) = probe_of(&config, check) else {
            return tell(ctx, question, Err("there is no such check".to_string()));
        };
        match probe {
            Probe::Rss(most) => tell(ctx, question, rss(servers, server, *most)),
            Probe::Exec(command) => {
                self.run_program(ctx, question, &config, command, timeout_ms);
            }
            Probe::Tcp(target) => self.begin(ctx, question, Exchange::connect(target), timeout_ms),
            Probe::Http(http) => self.begin(ctx, question, Exchange::request(http), timeout_ms),
        }
    }

    fn forget(&mut self, ctx: &mut Ctx, server: ServerId, check: Check) {
        let is_it = |question: &Question| question.server == server && question.check == check;
        let old = self.running.iter().find(|(_, one)| is_it(&one.question)).map(|(n, _)| *n);
        if let Some(mut old) = old.and_then(|number| self.running.remove(&number)) {
            old.exchange.unwatch(ctx);
        }
        self.programs.retain(|_, question| !is_it(question));
    }

    fn begin(
        &mut self,
        ctx: &mut Ctx,
        question: Question,
        begun: Result<Exchange, String>,
        timeout_ms: u64,
    ) {
        let number = self.next;
        self.next += 1;
        let watched = begun.and_then(|mut exchange| {
            exchange.watch(ctx, Source::Probe(number).token())?;
            Ok(exchange)
        });
        match watched {
            Ok(exchange) => {
                let until = ctx.now().after(timeout_ms);
                self.running.insert(number, Running { question, exchange, until });
                // A socket that is connected at once gives no event for it.
                self.on_ready(ctx, number);
            }
            Err(text) => tell(ctx, question, Err(text)),
        }
    }

    /// Something may have happened to a connection.
    pub fn on_ready(&mut self, ctx: &mut Ctx, number: usize) {
        let Some(running) = self.running.get_mut(&number) else { return };
        let answer = match running.exchange.go_on() {
            Progress::Waits => return,
            Progress::Answered(answer) => answer,
        };
        if let Some(mut running) = self.running.remove(&number) {
            running.exchange.unwatch(ctx);
            tell(ctx, running.question, answer);
        }
    }

    fn run_program(
        &mut self,
        ctx: &mut Ctx,
        question: Question,
        config: &ServerConfig,
        command: &[String],
        timeout_ms: u64,
    ) {
        match self.jobs.start(ctx, config, command, timeout_ms) {
            Ok(number) => {
                self.programs.insert(number, question);
            }
            Err(text) => tell(ctx, question, Err(text)),
        }
    }

    /// A job's pidfd is readable.
    pub fn on_job(&mut self, ctx: &mut Ctx, number: usize) {
        let Some(end) = self.jobs.on_ready(ctx, number) else { return };
        let Some(question) = self.programs.remove(&number) else { return };
        let answer = match end {
            End::Exited(Exit::Code(0), _) => Ok(()),
            End::Exited(exit, said) if said.is_empty() => Err(exit_text(exit)),
            // What it says of the work that is left tells more than its status.
            End::Exited(Exit::Code(_), said) if question.check == Check::Drain => Err(said),
            End::Exited(exit, said) => Err(format!("{}: {said}", exit_text(exit))),
            End::NotBegun(text) => Err(text),
            End::TimedOut => Err("took too long".to_string()),
        };
        tell(ctx, question, answer);
    }

    /// When `tick` is due.
    pub fn deadline(&self) -> Option<Ms> {
        self.running.values().map(|one| one.until).chain(self.jobs.deadline()).min()
    }

    /// Answers for those that took too long.
    pub fn tick(&mut self, ctx: &mut Ctx) {
        let now = ctx.now();
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        let late = |(number, one): (&usize, &Running)| (one.until <= now).then_some(*number);
        for number in self.running.iter().filter_map(late).collect::<Vec<_>>() {
            if let Some(mut running) = self.running.remove(&number) {
                running.exchange.unwatch(ctx);
                let text = running.exchange.waits_for();
                tell(ctx, running.question, Err(text.to_string()));
            }
        }
        for number in self.jobs.kill_late(now) {
            self.on_job(ctx, number);
        }
    }
}

fn tell(ctx: &mut Ctx, question: Question, answer: Result<(), String>) {
    let Question { server, start_number, check } = question;
    ctx.tell(Event::Probed { server, start_number, check, answer });
}

fn probe_of(config: &ServerConfig, check: Check) -> Option<(&Probe, u64)> {
    match check {
        Check::Ready => match &*config.ready {
            Some(Readiness::Asked { probe, timeout_ms, .. }) => Some((probe, *timeout_ms)),
            _ => None,
        },
        Check::Drain => None,
        Check::Health(at) => match config.health.get(at) {
            Some(HealthCheck::Asked { probe, timeout_ms, .. }) => Some((probe, *timeout_ms)),
            _ => None,
        },
    }
}

/// The memory of its first process and of all that descend from it.
fn rss(servers: &Servers, server: ServerId, most: u64) -> Result<(), String> {
    let process = servers.process(server).ok_or("it does not run")?;
    let usage = process::usage_of_tree(process.pid)
        .map_err(|error| format!("cannot look at its memory: {error}"))?;
    match usage.rss_bytes > most {
        true => Err(format!("RSS {} MiB is above {} MiB", usage.rss_bytes >> 20, most >> 20)),
        false => Ok(()),
    }
}
