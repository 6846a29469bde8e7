//! Requests of clients, signals and the link, turned into what the core can be asked.
//!
//! Must not act on servers or the pair itself.

use super::Shell;
use super::peer::News;
use crate::api::routes::{self, Nothing, Route};
use crate::api::{self, Answer, Goal, Left, ServerResult, ShutdownAnswer, ShutdownAsk};
use crate::config::{OnTerm, ServerConfig, units};
use crate::core::ask::{Ask, Ended, Outcome, Reach, Verb};
use crate::core::node::Role;
use crate::core::{ClientId, Event, Phase, ServerId};
use crate::http::Request;
use crate::names::{self, Known};
use crate::wire::Message;
use log::{Level, info, log};

/// The client of requests that no connection waits for.
const NOBODY: ClientId = ClientId(u64::MAX);
/// Last lines of a server's output in an answer.
const LAST_LINES: usize = 5;
const LAST_LINES_BYTES: usize = 4096;

/// Why a request can't be taken: HTTP status, exit status, text.
pub type Refused = (u16, u8, String);

impl Shell {
    pub(super) fn on_request(&mut self, client: ClientId, request: Request) {
        // Questions are asked by every look at the pair; who reads the log looks for acts.
        let level = if request.method == "GET" { Level::Debug } else { Level::Info };
        log!(target: "0109", level, "handling {} {}", request.method, request.path);
        let found = routes::find(routes::CONTROL, &request.method, &request.path);
        let result = match found.map_err(|nothing| nothing_there(nothing, &request)) {
            Ok(route) => self.on_route(client, route, &request),
            Err(refused) => Err(refused),
        };
        if let Err((status, exit, text)) = result {
            self.control.refuse(&mut self.ctx, client, status, exit, text);
        }
    }

    fn on_route(
        &mut self,
        client: ClientId,
        route: Route,
        request: &Request,
    ) -> Result<(), Refused> {
        let body = &request.body;
        match route {
            Route::Ping => {
                self.control.answer(&mut self.ctx, client, 200, &serde_json::json!({}));
                Ok(())
            }
            Route::Status => self.on_status(client, request),
            Route::Events => self.on_events(client, request),
            Route::Metrics => {
                self.on_metrics(client);
                Ok(())
            }
            Route::Servers(verb) => self.on_servers(client, verb, body),
            Route::Apply => parse_apply(body).and_then(|ask| self.on_apply(client, ask)),
            Route::Switchover => self.on_switchover(client, body),
            Route::Upgrade => self.on_upgrade(client, body),
            Route::Maintenance => self.on_maintenance(client, body),
            Route::Shutdown => self.on_shutdown(client, body),
        }
    }

    fn on_status(&mut self, client: ClientId, request: &Request) -> Result<(), Refused> {
        let mut status = self.whole_status();
        let wanted = request.query_values("name");
        // An unknown name is the client's to report: it has all names now.
        for at in names::select(&wanted, &self.known()).unwrap_or_default() {
            let Some(one) = status.servers.get_mut(at) else { continue };
            if let Some(config) = self.ctx.server(&one.name) {
                one.command = config.command.to_vec();
            }
            one.last_lines = self.ctx.last_output(&one.name, LAST_LINES * 2, LAST_LINES_BYTES);
        }
        self.without_removed(&mut status);
        self.control.answer(&mut self.ctx, client, 200, &status);
        Ok(())
    }

    /// What names each server of the core, in its order. One that is left over has its name only.
    fn known(&self) -> Vec<Known<'_>> {
        let of = |name| self.ctx.server(name).map_or(Known::by_name(name), ServerConfig::known);
        self.node.servers.iter().map(|server| of(server.rec.name.as_str())).collect()
    }

    fn on_servers(&mut self, client: ClientId, verb: &str, body: &[u8]) -> Result<(), Refused> {
        let (ask, verb) = parse_ask(verb, body)?;
        let chosen = names::select(&ask.names, &self.known()).map_err(|text| (404, 4, text))?;
        self.asked.insert(client, verb);
        let servers: Vec<ServerId> = chosen.into_iter().map(ServerId).collect();
        self.servers.look_at_asked(&mut self.ctx, &servers);
        let (id, wait, reach) = (ask.id, ask.wait, reach(ask.dependants));
        self.ask_core(Ask { client, id, verb, servers, wait, reach });
        Ok(())
    }

    fn on_shutdown(&mut self, client: ClientId, body: &[u8]) -> Result<(), Refused> {
        let ask = parse_shutdown(body)?;
        let verb = Verb::Shutdown { stop_servers: ask.stop_servers, force: ask.force };
        self.asked.insert(client, verb);
        let (wait, servers, reach) = (ask.wait, Vec::new(), Reach::Refuse);
        self.ctx.tell(Event::Asked(Ask { client, id: ask.id, verb, servers, wait, reach }));
        Ok(())
    }

    /// The core's answer to a client.
    pub(super) fn answer(&mut self, client: ClientId, outcomes: Vec<Outcome>) {
        let Some(verb) = self.asked.remove(&client) else { return };
        if let Verb::Shutdown { stop_servers, .. } = verb {
            // Who does not wait is answered while they are being stopped.
            let left = self.node.servers.iter().filter(|_| !stop_servers).filter_map(|one| {
                let pid = one.rec.phase.process()?.pid;
                Some(Left { name: one.rec.name.to_string(), pid })
            });
            let answer = ShutdownAnswer { left: left.collect(), mover: self.mover };
            return self.control.answer(&mut self.ctx, client, 200, &answer);
        }
        let results: Vec<ServerResult> =
            outcomes.into_iter().map(|outcome| self.result(verb, outcome)).collect();
        let exit = crate::exit::worst(results.iter().map(|result| result.exit));
        self.control.answer(&mut self.ctx, client, 200, &Answer { exit, results });
    }

    fn result(&mut self, verb: Verb, outcome: Outcome) -> ServerResult {
        let name = self.servers.name(outcome.server).to_string();
        let exit = match outcome.result {
            Ended::Well => 0,
            Ended::Badly => 1,
            Ended::MaybeSent | Ended::Later => 75,
        };
        // What is refused leaves a server as it was: its output has nothing to say about that.
        let is_untouched = self
            .node
            .servers
            .get(outcome.server.0)
            .is_some_and(|server| matches!(server.rec.phase, Phase::Up { .. } | Phase::Down));
        let is_failed_start = exit == 1
            && !is_untouched
            && matches!(verb, Verb::Start | Verb::Restart | Verb::WaitReady);
        let last_lines = match is_failed_start {
            true => {
                // Its end may be seen a moment before its last words.
                self.outputs.settle(&self.ctx, &name);
                self.ctx.last_output(&name, LAST_LINES, LAST_LINES_BYTES)
            }
            false => Vec::new(),
        };
        ServerResult { name, ok: exit == 0, exit, text: outcome.text, last_lines }
    }

    // ---- signals

    pub(super) fn on_signals(&mut self) {
        for signal in self.signals.take() {
            if signal == libc::SIGUSR1 {
                let _ = self.log.reopen();
                self.outputs.check_paths(&self.ctx, true);
                info!(target: "0123", "the logs were opened again");
                continue;
            }
            if self.node.role != Role::Active {
                info!(target: "0214", "signal {signal} came; a standby only ends when its active tells it to");
                continue;
            }
            match signal {
                libc::SIGTERM | libc::SIGINT => self.on_term(),
                libc::SIGHUP => self.apply_by_signal(),
                _ => {}
            }
        }
    }

    fn on_term(&mut self) {
        let stop_servers = self.ctx.config.node.on_term == OnTerm::StopServers;
        let force = self.node.record.ending.is_some();
        info!(target: "0124", "told by a signal to end the pair{}", if force { ", again: what is still up is killed" } else { "" });
        let verb = Verb::Shutdown { stop_servers, force };
        let (client, id, servers, reach) =
            (NOBODY, "signal".to_string(), Vec::new(), Reach::Refuse);
        self.ctx.tell(Event::Asked(Ask { client, id, verb, servers, wait: false, reach }));
    }

    // ---- the link

    pub(super) fn on_peer(&mut self, number: usize) {
        let mut news = Vec::new();
        self.peers.on_ready(&mut self.ctx, number, &mut news);
        let is_active = self.node.role == Role::Active;
        for one in news {
            let event = match one {
                News::Connected => Event::StandbyConnected,
                News::Welcomed => Event::LinkUp,
                News::Lost if is_active => Event::StandbyLinkLost,
                News::Lost => Event::LinkDown,
                News::Message(message) => match message_event(*message, is_active) {
                    Some(event) => event,
                    None => continue,
                },
            };
            self.ctx.tell(event);
        }
    }
}

/// What a message of the link tells the core; `None`: nothing to this twin.
pub fn message_event(message: Message, is_active: bool) -> Option<Event> {
    Some(match (message, is_active) {
        (Message::Beat { .. }, true) => Event::StandbyHeard,
        (Message::Beat { .. }, false) => Event::ActiveHeard,
        (Message::Ack { seq }, true) => Event::Acked { seq },
        (Message::Watching, true) => Event::StandbyWatching,
        (Message::Entry(entry), false) => Event::Copied(entry),
        (Message::SnapshotEnd { seq, .. }, false) => Event::CopyComplete { seq },
        (Message::Stop, false) => Event::ToldToStop,
        // Said in the hello, or by a later version.
        _ => return None,
    })
}

/// The body of a request about servers, with what it asks of the core.
///
/// # Errors
/// It is none, or names no signal or goal where one is needed.
pub fn parse_ask(verb: &str, body: &[u8]) -> Result<(api::Ask, Verb), Refused> {
    let ask: api::Ask = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    check_id(&ask.id)?;
    let verb = core_verb(verb, &ask)?;
    Ok((ask, verb))
}

/// The body of a request to end the pair.
///
/// # Errors
/// It is none.
pub fn parse_shutdown(body: &[u8]) -> Result<ShutdownAsk, Refused> {
    let ask: ShutdownAsk = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    check_id(&ask.id)?;
    Ok(ask)
}

/// The body of a request to apply the configuration, or to show what differs.
///
/// # Errors
/// It is none.
pub fn parse_apply(body: &[u8]) -> Result<api::ApplyAsk, Refused> {
    let ask: api::ApplyAsk = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    check_id(&ask.id)?;
    Ok(ask)
}

/// Nothing is behind the method and path of a request.
fn nothing_there(nothing: Nothing, request: &Request) -> Refused {
    let Request { method, path, .. } = request;
    match nothing {
        Nothing::Path => (404, 64, format!("there is no {path}")),
        Nothing::Method(wanted) => (405, 64, format!("{path} takes {wanted}, not {method}")),
    }
}

/// What a stop or a restart does with those that need the servers.
fn reach(dependants: Option<api::Dependants>) -> Reach {
    match dependants {
        None => Reach::Refuse,
        Some(api::Dependants::Too) => Reach::Dependants,
        Some(api::Dependants::Leave) => Reach::Only,
    }
}

pub(super) fn unreadable(error: &serde_json::Error) -> Refused {
    (400, 64, format!("cannot read the request: {error}"))
}

pub(super) fn check_id(id: &str) -> Result<(), Refused> {
    match api::is_request_id(id) {
        true => Ok(()),
        false => Err((400, 64, "the id must be 1 to 64 letters, digits or dashes".to_string())),
    }
}

fn core_verb(verb: &str, ask: &api::Ask) -> Result<Verb, Refused> {
    Ok(match verb {
        "start" => Verb::Start,
        "stop" => Verb::Stop,
        "restart" => Verb::Restart,
        "kill" => Verb::Kill,
        "reset" => Verb::Reset,
        "reload" => Verb::Reload,
        "drain" => Verb::Drain,
        "enable" => Verb::Enable,
        "disable" => Verb::Disable,
        "signal" => {
            let name = ask.signal.as_deref().ok_or((400, 64, "no signal was named".to_string()))?;
            Verb::Signal(units::parse_signal(name).map_err(|text| (400, 64, text))?)
        }
        "wait" => match ask.goal {
            Some(Goal::Up) => Verb::WaitUp,
            Some(Goal::Ready) => Verb::WaitReady,
            Some(Goal::Down) => Verb::WaitDown,
            None => return Err((400, 64, "no goal was named".to_string())),
        },
        other => return Err((404, 64, format!("there is no verb {other}"))),
    })
}
