//! Where metrics are told over TCP: the listener, its clients, their requests and answers.
//!
//! Must not know what a metric is, nor let anybody write: whatever comes is a question or is
//! refused. Who is slow is dropped, and a crowd keeps nobody out for long. The listener goes on to
//! the next active as the control socket does, so that who asks meanwhile waits.

use super::bequest::Bequest;
use super::ctx::Ctx;
use super::token::Source;
use crate::config::Config;
use crate::core::Ms;
use crate::http::{CLIENT_TIMEOUT_MS, Connection, Request};
use crate::sys::{self, ports};
use log::{debug, info};
use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

/// Clients at once; for the next one the oldest that has asked nothing yet has to go.
const CLIENTS_MAX: usize = 64;
/// Connections taken before the others have their turn.
const ACCEPTS_MAX: usize = 64;
/// Reads of one client before the others have their turn; a question needs one.
const READS_MAX: usize = 16;
/// What could not be taken in is tried again after this.
const ACCEPT_AGAIN_MS: u64 = 100;

struct Client {
    stream: TcpStream,
    http: Connection,
    /// It has sent its question, or taken its answer, by then.
    until: Ms,
}

/// The listener and who is connected.
#[derive(Default)]
pub struct Scrapes {
    listener: Option<TcpListener>,
    clients: BTreeMap<usize, Client>,
    next: usize,
    accept_at: Option<Ms>,
    /// Questions that are owed an answer.
    asked: Vec<(usize, Request)>,
}

/// Binds the address (with SO_REUSEADDR, so that a port in TIME_WAIT is no obstacle).
///
/// # Errors
/// The text names who has the port.
fn bind(config: &Config) -> Result<Option<TcpListener>, String> {
    let Some(metrics) = config.metrics else { return Ok(None) };
    let listener = TcpListener::bind(metrics.listen).map_err(|error| {
        let cause = match ports::holder_of_tcp_port(metrics.listen.port()) {
            Some((pid, name)) if error.kind() == ErrorKind::AddrInUse => {
                format!("in use by PID {pid} ({name})")
            }
            _ => error.to_string(),
        };
        let (file, line) = (config.file.display(), metrics.line);
        format!(
            "cannot bind listen of [metrics], {}: {cause}; choose another address in {file}:{line}",
            metrics.listen
        )
    })?;
    Ok(Some(listener))
}

impl Scrapes {
    /// What the active hands over.
    ///
    /// # Errors
    /// The descriptor is missing: the process was not started by an active.
    pub fn inherit(bequest: &Bequest) -> io::Result<Scrapes> {
        let mut scrapes = Scrapes::default();
        if bequest.has_metrics {
            let listener = std::net::TcpListener::from(sys::inherited(bequest.metrics_number())?);
            scrapes.listener = Some(TcpListener::from_std(listener));
        }
        Ok(scrapes)
    }

    /// Its number in the standby.
    pub fn hand_over(&self, bequest: &Bequest) -> Option<(RawFd, RawFd)> {
        Some((self.listener.as_ref()?.as_raw_fd(), bequest.metrics_number()))
    }

    /// There is a listener to hand over.
    pub fn is_bound(&self) -> bool {
        self.listener.is_some()
    }

    /// Binds what the configuration says. One that is bound already stays as it is.
    ///
    /// # Errors
    /// As the text says; what was bound before still is.
    pub fn rebind(&mut self, ctx: &Ctx, config: &Config) -> Result<(), String> {
        let wanted = config.metrics.map(|metrics| metrics.listen);
        if wanted != self.address() {
            let fresh = bind(config)?;
            if let Some(mut old) = std::mem::replace(&mut self.listener, fresh) {
                let _ = ctx.poll.registry().deregister(&mut old);
            }
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    /// Opens the doors: clients that wait in the backlog are served now.
    ///
    /// # Errors
    /// The address can't be bound, or not be watched.
    pub fn begin(&mut self, ctx: &mut Ctx) -> io::Result<()> {
        if self.listener.is_none() {
            self.listener = bind(&ctx.config).map_err(io::Error::other)?;
        }
        let Some(listener) = &mut self.listener else { return Ok(()) };
        let registry = ctx.poll.registry();
        let token = Source::ScrapeListener.token();
        if let Err(error) = registry.register(listener, token, Interest::READABLE) {
            // mio may count it as registered all the same, and would refuse the next try.
            let _ = registry.deregister(listener);
            return Err(error);
        }
        self.accept_at = Some(ctx.now());
        if let Some(address) = self.address() {
            info!(target: "0170", "metrics are told at http://{address}/metrics");
        }
        Ok(())
    }

    /// Connections are waiting. What they ask is in `take_asked` then.
    pub fn accept(&mut self, ctx: &mut Ctx) {
        self.accept_at = None;
        for _ in 0..ACCEPTS_MAX {
            if self.clients.len() >= CLIENTS_MAX && !self.drop_oldest_silent(ctx) {
                break;
            }
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => self.take_in(ctx, stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    debug!(target: "0199", "cannot take a connection for metrics: {error}");
                    break;
                }
            }
        }
        self.accept_at = Some(ctx.now().after(ACCEPT_AGAIN_MS));
    }

    /// A crowd that says nothing must not keep out those who have something to ask.
    fn drop_oldest_silent(&mut self, ctx: &Ctx) -> bool {
        let is_silent = |client: &Client| !client.http.is_asked();
        let oldest = self.clients.iter().find(|(_, client)| is_silent(client));
        let oldest = oldest.map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.drop_client(ctx, number);
        }
        oldest.is_some()
    }

    fn take_in(&mut self, ctx: &Ctx, mut stream: TcpStream) {
        let number = self.next;
        self.next += 1;
        let token = Source::Scraper(number).token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if ctx.poll.registry().register(&mut stream, token, interest).is_ok() {
            let until = ctx.now().after(CLIENT_TIMEOUT_MS);
            self.clients.insert(number, Client { stream, http: Connection::default(), until });
            // Most have asked by now. What a dying active has taken in is lost, so it answers soon.
            self.on_ready(ctx, number);
        }
    }

    /// A client is ready for something. What it asks is in `take_asked` then.
    pub fn on_ready(&mut self, ctx: &Ctx, number: usize) {
        match self.read(ctx, number) {
            Ok(Some(request)) => self.asked.push((number, request)),
            Ok(None) => self.write(ctx, number),
            Err(_) => self.drop_client(ctx, number),
        }
    }

    fn read(&mut self, ctx: &Ctx, number: usize) -> io::Result<Option<Request>> {
        let Some(client) = self.clients.get_mut(&number) else { return Ok(None) };
        let mut buffer = [0; 4 << 10];
        for _ in 0..READS_MAX {
            match client.stream.read(&mut buffer) {
                // It may have closed only its writing end, and still wait for the answer.
                Ok(0) if client.http.is_asked() => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => match client.http.receive(&buffer[..count]) {
                    Ok(None) => {}
                    Ok(Some(request)) => {
                        client.until = ctx.now().after(CLIENT_TIMEOUT_MS);
                        return Ok(Some(request));
                    }
                    Err(refusal) => {
                        let text = format!("{}\n", refusal.text);
                        client.http.respond(refusal.status, PLAIN, text.as_bytes());
                        return Ok(None);
                    }
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // More is waiting, and edges come only once: ask to be woken again.
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Source::Scraper(number).token();
        ctx.poll.registry().reregister(&mut client.stream, token, interest)?;
        Ok(None)
    }

    /// Who is owed an answer, with what was asked.
    pub fn take_asked(&mut self) -> Vec<(usize, Request)> {
        std::mem::take(&mut self.asked)
    }

    /// Sends an answer.
    pub fn answer(
        &mut self,
        ctx: &Ctx,
        number: usize,
        status: u16,
        content_type: &'static str,
        body: &str,
    ) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.http.respond(status, content_type, body.as_bytes());
            self.write(ctx, number);
        }
    }

    fn write(&mut self, ctx: &Ctx, number: usize) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        while !client.http.pending().is_empty() {
            match client.stream.write(client.http.pending()) {
                Ok(0) => return self.drop_client(ctx, number),
                Ok(count) => client.http.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.drop_client(ctx, number),
            }
        }
        if client.http.is_done() {
            self.drop_client(ctx, number);
        }
    }

    fn drop_client(&mut self, ctx: &Ctx, number: usize) {
        if let Some(mut client) = self.clients.remove(&number) {
            let _ = ctx.poll.registry().deregister(&mut client.stream);
        }
    }

    pub fn deadline(&self) -> Option<Ms> {
        let until = self.clients.values().map(|client| client.until).min();
        until.into_iter().chain(self.accept_at).min()
    }

    /// Drops clients that are too slow, and takes in those that had to wait.
    pub fn tick(&mut self, ctx: &mut Ctx) {
        let now = ctx.now();
        let is_late = |client: &Client| client.until <= now;
        let late = self.clients.iter().filter(|(_, client)| is_late(client));
        let late: Vec<usize> = late.map(|(number, _)| *number).collect();
        for number in late {
            self.drop_client(ctx, number);
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(ctx);
        }
    }
}

/// The content type of everything that is no metrics.
pub const PLAIN: &str = "text/plain; charset=utf-8";
