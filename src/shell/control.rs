//! The control socket: clients, their requests and answers.
//!
//! Must not know what a request means for a server: it turns requests into what the core can be
//! asked, and what the core answers into bytes. A client that sends or reads too slowly is
//! dropped; one that sends garbage gets a refusal.

use super::ctx::Ctx;
use super::spare::{Spare, is_shortage, is_waiting};
use super::token::Source;
use crate::api::ErrorAnswer;
use crate::config::{ControlGroup, NodeConfig};
use crate::core::{ClientId, Event, Ms};
use crate::http::{CLIENT_TIMEOUT_MS, Connection, JSON, Request};
use crate::sys;
use log::{debug, info, warn};
use mio::Interest;
use mio::net::{UnixListener, UnixStream};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Clients at once; for the next ones the oldest that has asked nothing yet has to go.
const CLIENTS_MAX: usize = 512;
/// Reads of one client before the others have their turn; a whole request needs fewer.
const READS_MAX: usize = 16;
/// After an error of accept (no descriptor left) it is tried again.
const ACCEPT_AGAIN_MS: u64 = 100;
/// A connection in the place of the spare descriptor lets the next one in after this.
const LENT_MS: u64 = 1_000;
/// Bad requests, and a lack of descriptors, are logged once in this time.
const BAD_EVERY_MS: u64 = 60_000;

struct Client {
    stream: UnixStream,
    http: Connection,
    /// While it sends or is sent to, it must be through by then.
    until: Option<Ms>,
}

/// The socket and who is connected.
pub struct Control {
    listener: Option<UnixListener>,
    clients: BTreeMap<usize, Client>,
    next: usize,
    accept_at: Option<Ms>,
    bad: u64,
    bad_log_at: Ms,
    spare: Spare,
    /// Who has the place of the spare descriptor, and until when it is safe from the next one.
    lent: Option<(usize, Ms)>,
    short_log_at: Ms,
}

/// Binds the control socket. Only who holds the lock calls this, so what is there is left over.
///
/// # Errors
/// The path is too long, the directory can't be written, or the socket can't be given to the group.
pub fn bind(path: &Path, node: &NodeConfig) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    if let Some(group) = &node.control_group {
        give_to(path, group)?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(node.control_mode))?;
    Ok(listener)
}

/// Who is not root can give a file only to a group of its own (chown(2)).
fn give_to(path: &Path, group: &ControlGroup) -> io::Result<()> {
    std::os::unix::fs::chown(path, None, group.gid).map_err(|error| {
        let text = format!(
            "it can't be given to controlGroup {}: {error}; run as root or as a member of it, or \
             leave it out",
            group.name
        );
        io::Error::new(error.kind(), text)
    })
}

impl Control {
    pub fn new(listener: Option<UnixListener>) -> Control {
        Control {
            listener,
            clients: BTreeMap::new(),
            next: 0,
            accept_at: None,
            bad: 0,
            bad_log_at: Ms(0),
            spare: Spare::new(),
            lent: None,
            short_log_at: Ms(0),
        }
    }

    pub fn listener_fd(&self) -> Option<i32> {
        self.listener.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Replaces the listener, whose file was removed.
    pub fn set_listener(&mut self, listener: UnixListener) {
        self.listener = Some(listener);
    }

    /// Opens the doors: clients that wait in the backlog are served now.
    ///
    /// # Errors
    /// It can't be watched.
    pub fn begin(&mut self, ctx: &mut Ctx) -> io::Result<()> {
        if let Some(listener) = &mut self.listener {
            let token = Source::ControlListener.token();
            let registry = ctx.poll.registry();
            if let Err(error) = registry.register(listener, token, Interest::READABLE) {
                // mio may count it as registered all the same, and would refuse the next try.
                let _ = registry.deregister(listener);
                return Err(error);
            }
            self.accept_at = Some(ctx.now());
        }
        Ok(())
    }

    /// Connections are waiting.
    pub fn accept(&mut self, ctx: &mut Ctx) {
        self.accept_at = None;
        self.spare.refill();
        loop {
            if self.clients.len() >= CLIENTS_MAX && !self.drop_oldest_silent(ctx) {
                self.accept_at = Some(ctx.now().after(ACCEPT_AGAIN_MS));
                return;
            }
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => self.take_in(ctx, stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.spare.refill(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_shortage(&error) && !is_waiting(listener) => return,
                Err(error) if is_shortage(&error) && self.make_room(ctx) => {}
                Err(error) => {
                    debug!(target: "0199", "cannot take a connection on the control socket: {error}");
                    self.accept_at = Some(ctx.now().after(ACCEPT_AGAIN_MS));
                    return;
                }
            }
        }
    }

    /// No descriptor is left, and a connection waits: it is taken in the place of the spare one,
    /// unless that is lent.
    fn make_room(&mut self, ctx: &mut Ctx) -> bool {
        let now = ctx.now();
        if let Some((number, until)) = self.lent
            && now >= until
        {
            // A long wait must not keep the others out. Its client asks again by itself.
            self.drop_client(ctx, number);
        }
        let has_room = self.spare.lend();
        if has_room && now >= self.short_log_at {
            self.short_log_at = now.after(BAD_EVERY_MS);
            let limit = sys::nofile().map_or(0, |(soft, _)| soft);
            warn!(target: "0135", "no descriptor is left (limit {limit}): requests are taken one at a time; raise the limit (ulimit -n), or give servers output.to = \"direct\" or \"null\"");
        }
        has_room
    }

    /// A crowd that says nothing must not keep out those who have something to ask.
    fn drop_oldest_silent(&mut self, ctx: &mut Ctx) -> bool {
        let is_silent =
            |client: &Client| !client.http.is_asked() && client.http.pending().is_empty();
        let oldest = self.clients.iter().find(|(_, client)| is_silent(client));
        let oldest = oldest.map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.drop_client(ctx, number);
        }
        oldest.is_some()
    }

    fn take_in(&mut self, ctx: &mut Ctx, mut stream: UnixStream) {
        if !may_connect(&stream, ctx.config.node.control_mode) {
            // Without an answer: the mode of the socket's file says the same.
            return self.note_bad(ctx.now(), "the client's user may not use the socket");
        }
        let number = self.next;
        self.next += 1;
        let token = Source::Client(number).token();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if ctx.poll.registry().register(&mut stream, token, interest).is_ok() {
            let until = Some(ctx.now().after(CLIENT_TIMEOUT_MS));
            self.clients.insert(number, Client { stream, http: Connection::default(), until });
            self.spare.refill();
            if !self.spare.is_there() {
                self.lent = Some((number, ctx.now().after(LENT_MS)));
            }
        }
    }

    /// A client is ready for something; gives its request, once it is whole.
    pub fn on_ready(&mut self, ctx: &mut Ctx, number: usize) -> Option<Request> {
        match self.read(ctx, number) {
            Ok(request) => {
                if request.is_none() {
                    self.write(ctx, number);
                }
                request
            }
            Err(_) => {
                self.drop_client(ctx, number);
                None
            }
        }
    }

    fn read(&mut self, ctx: &mut Ctx, number: usize) -> io::Result<Option<Request>> {
        let mut buffer = [0; 8 << 10];
        for _ in 0..READS_MAX {
            let Some(client) = self.clients.get_mut(&number) else { return Ok(None) };
            match client.stream.read(&mut buffer) {
                // It may have closed only its writing end, and still wait for the answer.
                Ok(0) if client.http.is_asked() => return Err(ErrorKind::ConnectionAborted.into()),
                Ok(0) if client.http.pending().is_empty() => {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Ok(0) => return Ok(None),
                Ok(count) => match client.http.receive(&buffer[..count]) {
                    Ok(None) => {}
                    Ok(Some(request)) => {
                        client.until = None;
                        return Ok(Some(request));
                    }
                    Err(refusal) => {
                        client.http.refuse(&refusal);
                        self.note_bad(ctx.now(), &refusal.text);
                        return Ok(None);
                    }
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // More is waiting, and edges come only once: ask to be woken again.
        if let Some(client) = self.clients.get_mut(&number) {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Source::Client(number).token();
            ctx.poll.registry().reregister(&mut client.stream, token, interest)?;
        }
        Ok(None)
    }

    fn note_bad(&mut self, now: Ms, text: &str) {
        self.bad += 1;
        if now >= self.bad_log_at {
            self.bad_log_at = now.after(BAD_EVERY_MS);
            let count = self.bad;
            warn!(target: "0116", "refused a request on the control socket: {text} ({count} so far; said once a minute)");
        }
    }

    /// Sends an answer.
    pub fn answer(&mut self, ctx: &mut Ctx, client: ClientId, status: u16, body: &impl Serialize) {
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.send(ctx, client, status, JSON, &body);
    }

    /// Sends what is no JSON.
    pub fn answer_text(
        &mut self,
        ctx: &mut Ctx,
        client: ClientId,
        content_type: &'static str,
        body: &str,
    ) {
        self.send(ctx, client, 200, content_type, body.as_bytes());
    }

    fn send(
        &mut self,
        ctx: &mut Ctx,
        client: ClientId,
        status: u16,
        content_type: &'static str,
        body: &[u8],
    ) {
        let number = usize::try_from(client.0).unwrap_or(usize::MAX);
        let now = ctx.now();
        if let Some(one) = self.clients.get_mut(&number) {
            one.http.respond(status, content_type, body);
            one.until = Some(now.after(CLIENT_TIMEOUT_MS));
            self.write(ctx, number);
        }
    }

    /// Sends a refusal.
    pub fn refuse(
        &mut self,
        ctx: &mut Ctx,
        client: ClientId,
        status: u16,
        exit: u8,
        error: String,
    ) {
        info!(target: "0117", "refused a request: {error}");
        self.answer(ctx, client, status, &ErrorAnswer { exit, error });
    }

    fn write(&mut self, ctx: &mut Ctx, number: usize) {
        let now = ctx.now();
        let Some(client) = self.clients.get_mut(&number) else { return };
        while !client.http.pending().is_empty() {
            match client.stream.write(client.http.pending()) {
                Ok(0) => return self.drop_client(ctx, number),
                Ok(count) => {
                    client.http.advance(count);
                    client.until = Some(now.after(CLIENT_TIMEOUT_MS));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.drop_client(ctx, number),
            }
        }
        if client.http.is_done() {
            self.drop_client(ctx, number);
        }
    }

    fn drop_client(&mut self, ctx: &mut Ctx, number: usize) {
        if let Some(mut client) = self.clients.remove(&number) {
            let _ = ctx.poll.registry().deregister(&mut client.stream);
            ctx.tell(Event::ClientGone { client: ClientId(number as u64) });
            drop(client);
            // Before anything else takes the place.
            self.spare.refill();
            self.lent.take_if(|(lent, _)| *lent == number);
        }
    }

    pub fn deadline(&self) -> Option<Ms> {
        let until = self.clients.values().filter_map(|client| client.until).min();
        until.into_iter().chain(self.accept_at).min()
    }

    /// Drops clients that are too slow, and takes in those that had to wait.
    pub fn tick(&mut self, ctx: &mut Ctx) {
        let now = ctx.now();
        let late: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| client.until.is_some_and(|at| at <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            self.drop_client(ctx, number);
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(ctx);
        }
    }

    /// Answers are still on their way out.
    pub fn is_sending(&self) -> bool {
        self.clients.values().any(|client| !client.http.pending().is_empty())
    }
}

/// The file's mode guards the way in, but not a descriptor that was passed on: where the mode lets
/// only its owner in, the process at the other end must be the owner's, or root's.
fn may_connect(stream: &UnixStream, mode: u32) -> bool {
    const OTHERS: u32 = 0o077;
    let own = nix::unistd::geteuid().as_raw();
    mode & OTHERS != 0
        || getsockopt(stream, PeerCredentials)
            .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}
