//! The link: connections on standbyPort, from both ends.
//!
//! Must not trust a byte before the hello. What an unknown connection may cost is bounded: a few
//! at a time, a few kilobytes and seconds each, one log line a minute.

use super::ctx::Ctx;
use super::spare::{Spare, is_shortage, is_waiting};
use super::token::Source;
use crate::core::{Event, Ms};
use crate::wire::{self, Decoder, FrameError, Message, PROTOCOL, Secret, secret_matches};
use log::{debug, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

/// Connections that have not proved the secret yet; for one more the oldest is dropped, because
/// a true standby speaks at once.
const STRANGERS_MAX: usize = 8;
/// Connections taken before the others have their turn.
const ACCEPTS_MAX: usize = 64;
/// How long one may take to prove it.
const HELLO_MS: u64 = 3_000;
/// How long one is safe from the next when no descriptor is left.
const HELLO_SHORT_MS: u64 = 100;
/// Bytes that may wait for a slow peer; more, and the link is rebuilt.
const OUT_MAX: usize = 64 << 20;
/// So much is not kept until the end of a turn.
const FLUSH_BYTES: usize = 64 << 10;
/// Refusals are logged once in this time.
const REFUSALS_EVERY_MS: u64 = 60_000;
/// What is left in the backlog after a turn is taken after this.
const ACCEPT_AGAIN_MS: u64 = 5;
/// With no descriptor left, it is tried again after this.
const ACCEPT_SHORT_MS: u64 = 100;
/// Reads of one connection before the others have their turn.
const READS_MAX: usize = 64;

/// One connection.
struct Conn {
    stream: TcpStream,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    is_proved: bool,
    until: Option<Ms>,
    /// A connection that this end began is up when it becomes writable.
    is_connecting: bool,
}

/// The link of this process: to its standby, or to its active.
pub struct Peers {
    listener: Option<TcpListener>,
    conns: BTreeMap<usize, Conn>,
    next: usize,
    /// The one connection that counts.
    main: Option<usize>,
    /// What the other end must prove, or this end proves.
    pub secret: Secret,
    /// A standby's breaks when its active ends; the active's is held for its standby.
    pub lifeline: Option<OwnedFd>,
    own: (i32, u64),
    /// The version of the standby that proved itself last.
    pub version: Option<String>,
    refused: u64,
    refused_log_at: Ms,
    /// Connections may still wait in the backlog.
    accept_at: Option<Ms>,
    spare: Spare,
}

/// What came over the link and concerns the loop.
#[derive(Debug)]
pub enum News {
    /// The standby proved the secret.
    Connected,
    /// The active answered the hello.
    Welcomed,
    Message(Box<Message>),
    /// The connection that counts is gone.
    Lost,
}

/// What a message is worth on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Worth {
    /// A hello with the secret: from now on the connection is believed.
    Proof { version: String },
    /// The active believes us.
    Welcome,
    /// Something to be acted on, from who proved the secret.
    Said(Box<Message>),
}

/// Nothing counts before the hello, and the hello only with the secret.
///
/// # Errors
/// Why the connection is to be dropped.
pub fn judge(message: Message, is_proved: bool, expected: &Secret) -> Result<Worth, String> {
    match message {
        Message::Hello { protocol, secret, pid, version, .. } if !is_proved => {
            if protocol != PROTOCOL {
                return Err(format!("it speaks protocol {protocol}, not {PROTOCOL}"));
            }
            match secret_matches(&secret, expected) {
                true => Ok(Worth::Proof { version }),
                false => Err(format!("wrong secret (it says it is PID {pid})")),
            }
        }
        _ if !is_proved => Err("it did not say hello first".to_string()),
        Message::Welcome { .. } => Ok(Worth::Welcome),
        Message::Refused { reason } => Err(reason),
        message => Ok(Worth::Said(Box::new(message))),
    }
}

impl Peers {
    pub fn new(own: (i32, u64), listener: Option<TcpListener>) -> Peers {
        Peers {
            listener,
            conns: BTreeMap::new(),
            next: 0,
            main: None,
            secret: Secret(String::new()),
            lifeline: None,
            own,
            version: None,
            refused: 0,
            refused_log_at: Ms(0),
            accept_at: None,
            spare: Spare::new(),
        }
    }

    /// The one connection that counts.
    pub fn main(&self) -> Option<usize> {
        self.main
    }

    /// Takes connections from now on.
    ///
    /// # Errors
    /// The listener can't be watched.
    pub fn listen(&mut self, registry: &Registry) -> io::Result<()> {
        let Some(listener) = &mut self.listener else { return Ok(()) };
        let token = Source::LinkListener.token();
        let watched = registry.register(listener, token, Interest::READABLE);
        if watched.is_err() {
            // mio may count it as registered all the same, and would refuse the next try.
            let _ = registry.deregister(listener);
        }
        watched
    }

    /// The one before is closed; a standby may still hold a copy of it.
    pub fn set_listener(&mut self, registry: &Registry, listener: TcpListener) {
        if let Some(mut old) = self.listener.replace(listener) {
            let _ = registry.deregister(&mut old);
        }
    }

    /// Where a standby connects: the port that this listener has, whatever the configuration says by
    /// now.
    pub fn port(&self) -> Option<u16> {
        Some(self.listener.as_ref()?.local_addr().ok()?.port())
    }

    /// Connections are waiting.
    pub fn accept(&mut self, ctx: &mut Ctx) {
        self.accept_at = None;
        self.spare.refill();
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, _)) => self.take_in(ctx, stream),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.spare.refill(),
                Err(error) if is_shortage(&error) && !is_waiting(listener) => return,
                Err(error) if is_shortage(&error) && self.make_room(ctx) => {}
                Err(error) => {
                    debug!(target: "0199", "cannot take a connection on standbyPort: {error}");
                    self.accept_at = Some(ctx.now().after(ACCEPT_SHORT_MS));
                    return;
                }
            }
        }
        self.accept_at = Some(ctx.now().after(ACCEPT_AGAIN_MS));
    }

    /// No descriptor is left: the connection takes the place of the spare one, or of the oldest that
    /// has not proved the secret, although it had time to. So a standby gets through.
    fn make_room(&mut self, ctx: &mut Ctx) -> bool {
        if self.spare.lend() {
            return true;
        }
        let latest = ctx.now().after(HELLO_MS - HELLO_SHORT_MS);
        let is_late = |conn: &Conn| !conn.is_proved && conn.until.is_some_and(|at| at <= latest);
        let stranger = self.conns.iter().find(|(_, conn)| is_late(conn));
        if let Some(number) = stranger.map(|(number, _)| *number) {
            self.drop_conn(ctx, number, "no descriptor is left", &mut Vec::new());
        }
        self.spare.lend()
    }

    fn take_in(&mut self, ctx: &mut Ctx, mut stream: TcpStream) {
        let strangers: Vec<usize> = self
            .conns
            .iter()
            .filter(|(_, conn)| !conn.is_proved)
            .map(|(number, _)| *number)
            .collect();
        if let (true, Some(oldest)) = (strangers.len() >= STRANGERS_MAX, strangers.first()) {
            self.drop_conn(ctx, *oldest, "too many unproved connections", &mut Vec::new());
        }
        let number = self.next;
        self.next += 1;
        let _ = stream.set_nodelay(true);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Source::Peer(number).token();
        if ctx.poll.registry().register(&mut stream, token, interest).is_ok() {
            let until = Some(ctx.now().after(HELLO_MS));
            let decoder = Decoder::new(wire::MAX_HELLO);
            let (out, sent) = (Vec::new(), 0);
            let conn =
                Conn { stream, decoder, out, sent, is_proved: false, until, is_connecting: false };
            self.conns.insert(number, conn);
        }
    }

    /// Begins a connection to the active.
    pub fn connect(&mut self, ctx: &mut Ctx, port: u16) {
        self.close_main(ctx);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect(address).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Source::Peer(self.next).token();
            ctx.poll.registry().register(&mut stream, token, interest)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => {
                let conn = Conn {
                    stream,
                    decoder: Decoder::new(wire::MAX_FRAME),
                    out: Vec::new(),
                    sent: 0,
                    is_proved: true,
                    until: None,
                    is_connecting: true,
                };
                self.conns.insert(self.next, conn);
                self.main = Some(self.next);
                self.next += 1;
            }
            Err(error) => {
                debug!(target: "0299", "cannot connect to standbyPort {port}: {error}");
                ctx.tell(Event::LinkDown);
            }
        }
    }

    /// A connection is ready for something.
    pub fn on_ready(&mut self, ctx: &mut Ctx, number: usize, news: &mut Vec<News>) {
        if let Err(reason) = self.serve(ctx, number, news) {
            self.drop_conn(ctx, number, &reason, news);
        }
    }

    fn serve(&mut self, ctx: &mut Ctx, number: usize, news: &mut Vec<News>) -> Result<(), String> {
        let Some(conn) = self.conns.get_mut(&number) else { return Ok(()) };
        if conn.is_connecting {
            match conn.stream.take_error() {
                Ok(None) if conn.stream.peer_addr().is_ok() => {
                    conn.is_connecting = false;
                    let _ = conn.stream.set_nodelay(true);
                    let (pid, start_ticks) = self.own;
                    let secret = self.secret.clone();
                    let version = env!("CARGO_PKG_VERSION").to_string();
                    let protocol = PROTOCOL;
                    self.send(&Message::Hello { protocol, version, pid, start_ticks, secret });
                }
                Ok(None) => return Ok(()),
                Ok(Some(error)) | Err(error) => return Err(error.to_string()),
            }
        }
        self.read(ctx, number, news)?;
        self.flush(number)
    }

    fn read(&mut self, ctx: &mut Ctx, number: usize, news: &mut Vec<News>) -> Result<(), String> {
        let mut buffer = [0; 16 << 10];
        for _ in 0..READS_MAX {
            let Some(conn) = self.conns.get_mut(&number) else { return Ok(()) };
            match conn.stream.read(&mut buffer) {
                Ok(0) => return Err("the other end closed it".to_string()),
                Ok(count) => {
                    conn.decoder.push(&buffer[..count]).map_err(|error| error.to_string())?;
                    self.decode(ctx, number, news)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        // More is waiting, and edges come only once: ask to be woken again.
        if let Some(conn) = self.conns.get_mut(&number) {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Source::Peer(number).token();
            let again = ctx.poll.registry().reregister(&mut conn.stream, token, interest);
            again.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn decode(&mut self, ctx: &mut Ctx, number: usize, news: &mut Vec<News>) -> Result<(), String> {
        loop {
            let Some(conn) = self.conns.get_mut(&number) else { return Ok(()) };
            let Some(message) = conn.decoder.next().map_err(|error| error.to_string())? else {
                return Ok(());
            };
            match judge(message, conn.is_proved, &self.secret)? {
                Worth::Proof { version } => {
                    self.version = Some(version);
                    conn.is_proved = true;
                    conn.until = None;
                    conn.decoder.set_limit(wire::MAX_FRAME);
                    self.close_main(ctx);
                    self.main = Some(number);
                    let (pid, start_ticks) = self.own;
                    let version = env!("CARGO_PKG_VERSION").to_string();
                    let protocol = PROTOCOL;
                    self.send(&Message::Welcome { protocol, version, pid, start_ticks });
                    news.push(News::Connected);
                }
                Worth::Welcome => news.push(News::Welcomed),
                Worth::Said(message) if self.main == Some(number) => {
                    news.push(News::Message(message));
                }
                // An older connection of the same standby.
                Worth::Said(_) => {}
            }
        }
    }

    /// Sends to the other twin; nothing happens when there is no link.
    pub fn send(&mut self, message: &Message) {
        let Some(number) = self.main else { return };
        let Some(conn) = self.conns.get_mut(&number) else { return };
        // Hello comes first: a beat before it would be refused.
        if conn.is_connecting {
            return;
        }
        let encoded = wire::encode(message, &mut conn.out);
        self.put(number, encoded);
    }

    /// The same with the text of a record.
    pub fn send_entry(&mut self, record: &[u8]) {
        let Some(number) = self.main else { return };
        let Some(conn) = self.conns.get_mut(&number).filter(|conn| !conn.is_connecting) else {
            return;
        };
        let encoded = wire::encode_entry(record, &mut conn.out);
        self.put(number, encoded);
    }

    fn put(&mut self, number: usize, encoded: Result<(), FrameError>) {
        if let Err(error) = encoded {
            warn!(target: "0199", "cannot send a record over the link: {error}");
        }
        if self.conns.get(&number).is_some_and(|conn| conn.out.len() - conn.sent >= FLUSH_BYTES) {
            // A failure shows at the next event of this connection.
            let _ = self.flush(number);
        }
    }

    /// What was sent in a turn goes out together: a system call for each record is dear, and what
    /// the disk has already need not be in the copy before a gate opens.
    pub fn flush_main(&mut self) {
        if let Some(number) = self.main {
            let _ = self.flush(number);
        }
    }

    fn flush(&mut self, number: usize) -> Result<(), String> {
        let Some(conn) = self.conns.get_mut(&number) else { return Ok(()) };
        while conn.sent < conn.out.len() && !conn.is_connecting {
            match conn.stream.write(&conn.out[conn.sent..]) {
                Ok(0) => return Err("it takes no bytes".to_string()),
                Ok(count) => conn.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if conn.sent == conn.out.len() {
            conn.out.clear();
            conn.sent = 0;
        } else if conn.out.len() - conn.sent > OUT_MAX {
            return Err(format!("it does not read: {} bytes wait", conn.out.len() - conn.sent));
        }
        Ok(())
    }

    /// Ends the connection that counts, from this end.
    pub fn close_main(&mut self, ctx: &mut Ctx) {
        self.flush_main();
        if let Some(number) = self.main.take() {
            self.close(ctx, number);
        }
    }

    fn close(&mut self, ctx: &mut Ctx, number: usize) {
        if let Some(mut conn) = self.conns.remove(&number) {
            let _ = ctx.poll.registry().deregister(&mut conn.stream);
            drop(conn);
            // Before anything else takes the place.
            self.spare.refill();
        }
    }

    fn drop_conn(&mut self, ctx: &mut Ctx, number: usize, reason: &str, news: &mut Vec<News>) {
        if self.main == Some(number) {
            debug!(target: "0199", "the link is gone: {reason}");
            self.main = None;
            news.push(News::Lost);
        } else if self.conns.get(&number).is_some_and(|conn| !conn.is_proved) {
            let from = self.conns.get(&number).and_then(|conn| conn.stream.peer_addr().ok());
            let from = from.map_or("somebody".to_string(), |address| address.to_string());
            self.note_refusal(ctx.now(), &format!("{from}: {reason}"));
        }
        self.close(ctx, number);
    }

    fn note_refusal(&mut self, now: Ms, text: &str) {
        self.refused += 1;
        if now >= self.refused_log_at {
            self.refused_log_at = now.after(REFUSALS_EVERY_MS);
            let count = self.refused;
            warn!(target: "0111", "refused a connection on standbyPort from {text} ({count} so far; said once a minute)");
        }
    }

    /// When the next unproved connection is to be dropped, or the next ones taken.
    pub fn deadline(&self) -> Option<Ms> {
        self.conns.values().filter_map(|conn| conn.until).chain(self.accept_at).min()
    }

    /// Drops connections that took too long to prove the secret, and takes those that had to wait.
    pub fn tick(&mut self, ctx: &mut Ctx) {
        let now = ctx.now();
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept(ctx);
        }
        let late = self.conns.iter().filter(|(_, conn)| conn.until.is_some_and(|at| at <= now));
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.drop_conn(ctx, number, "it said nothing in time", &mut Vec::new());
        }
    }

    /// The number of the listening descriptor.
    pub fn listener_fd(&self) -> Option<i32> {
        self.listener.as_ref().map(AsRawFd::as_raw_fd)
    }
}
