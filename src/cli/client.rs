//! The client's end of the control socket: one request, sent again until somebody answers.
//!
//! Must never hang: every connect, write and read has a deadline, and a long wait is kept only
//! while somebody serves. The request's id makes it safe to send it again. SO_PEERCRED is not
//! asked: on an inherited listener it names the first owner.

mod failure;
mod patience;

use super::{Failure, exit};
use crate::api::{PAIR_ENDED, PING_PATH, PairFile, Twin};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket,
};
use patience::lives;
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a command keeps trying while nobody answers, unless `--timeout` says otherwise.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// After this much silence in a long wait, the client asks on a second connection whether
/// somebody still serves.
pub const PROBE_EVERY: Duration = Duration::from_secs(10);
/// After this much silence a person is told what is waited for.
const NOTICE_AFTER: Duration = Duration::from_secs(3);
/// Between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// The longest answer that is read, in bytes: a status of many thousand servers.
const ANSWER_MAX: usize = 64 * 1024 * 1024;
/// The longest head of an answer, in bytes.
const ANSWER_HEAD_MAX: usize = 16 * 1024;
/// The longest `run/pair.json` that is read, in bytes.
const PAIR_FILE_MAX: u64 = 64 * 1024;

/// How long a caller is ready to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For an answer that comes at once: [`ANSWER_LIMIT`] in all, and longer only while somebody is
    /// about to replace a silent active.
    Question,
    /// For an answer that comes when an action is done: for ever while somebody serves, as long as
    /// a question when nobody does.
    Action,
    /// Until then (`--timeout`), whoever serves.
    Until(Instant),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    pub body: Vec<u8>,
}

/// Why there is no answer. `asked`: the request was sent at least once, so it may be acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// No socket or nobody behind it, and no process of the pair lives.
    NotRunning { asked: bool },
    /// Time is over, and the pair says what it waits for itself.
    WaitsFor(String),
    /// Time is over.
    TimedOut { asked: bool },
    /// The socket may not be used by this user.
    Denied,
    /// What came back is no answer, or the socket can't be used at all.
    Protocol(String),
}

/// What made one try fail.
enum Trouble {
    /// Nobody listens.
    Refused,
    /// The connection broke, or the other side says that it can't serve now (503).
    TryAgain(Option<Response>),
    /// The deadline of the try is over.
    Late,
    Final(CallError),
}

/// Asks the pair over its control socket.
#[derive(Clone, Debug)]
pub struct Client {
    control_socket: PathBuf,
    pair_file: PathBuf,
    lock_file: PathBuf,
    answer_limit: Duration,
    probe_every: Duration,
    notice_after: Duration,
    /// Tells a person something.
    say: fn(&str),
    /// It was said what is waited for.
    noticed: Cell<bool>,
}

/// The life of one call over all its tries.
struct Call<'a> {
    request: &'a [u8],
    patience: Patience,
    /// Nobody is waited for beyond this; moved on by each sign of life under `Patience::Action`.
    deadline: Instant,
    asked: bool,
    /// The last look in this silence found somebody who serves: it is a long action.
    is_served: bool,
    /// How often, and for which active last, the deadline was moved on because somebody decides.
    extensions: u32,
    extended_for: Option<Option<i32>>,
}

impl<'a> Call<'a> {
    fn new(request: &'a [u8], patience: Patience, deadline: Instant) -> Call<'a> {
        let (asked, is_served) = (false, false);
        Call { request, patience, deadline, asked, is_served, extensions: 0, extended_for: None }
    }
}

impl Client {
    /// A client for the pair that owns these files (`run/control.sock`, `run/pair.json`,
    /// `run/nodemanager.lock`); none needs to exist.
    pub fn new(control_socket: PathBuf, pair_file: PathBuf, lock_file: PathBuf) -> Client {
        Client {
            control_socket,
            pair_file,
            lock_file,
            answer_limit: ANSWER_LIMIT,
            probe_every: PROBE_EVERY,
            notice_after: NOTICE_AFTER,
            say: |_| {},
            noticed: Cell::new(false),
        }
    }

    /// Has `say` told, once, what a command waits for when nobody answers for some seconds.
    #[must_use]
    pub fn telling(self, say: fn(&str)) -> Client {
        Client { say, ..self }
    }

    /// The control socket, for error texts.
    pub fn control_socket(&self) -> &Path {
        &self.control_socket
    }

    /// Sends a request until it is answered. A request that changes something must carry an id
    /// in its body, since it may be sent more than once. A 503 is the answer only when nothing
    /// better came in time.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Patience,
    ) -> Result<Response, CallError> {
        let request = request_bytes(method, path, body.as_deref());
        let deadline = match patience {
            Patience::Until(deadline) => deadline,
            Patience::Question | Patience::Action => Instant::now() + self.answer_limit,
        };
        let mut call = Call::new(&request, patience, deadline);
        let notice_at = Instant::now() + self.notice_after;
        let mut last_503 = None;
        loop {
            match self.attempt(&mut call) {
                Ok(response) => return Ok(response),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Refused) if !self.pair_lives() => {
                    return Err(CallError::NotRunning { asked: call.asked });
                }
                Err(Trouble::TryAgain(response)) => last_503 = response.or(last_503),
                Err(Trouble::Refused | Trouble::Late) => {}
            }
            if last_503.is_none() && !call.is_served && Instant::now() >= notice_at {
                self.notice();
            }
            let mut left = call.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && last_503.is_none() {
                left = self.extension(&mut call).unwrap_or_default();
                call.deadline += left;
            }
            if left.is_zero() {
                return last_503.ok_or_else(|| self.time_over(call.asked));
            }
            // A command may wait; nothing else runs in this process.
            thread::sleep(left.min(RETRY_EVERY));
        }
    }

    /// The processes of the pair that live now, by `run/pair.json`.
    pub fn living(&self) -> Vec<Twin> {
        let Some(pair) = self.read_pair_file() else { return Vec::new() };
        [pair.active, pair.standby, pair.keeper].into_iter().flatten().filter(lives).collect()
    }

    /// The twins that live now, by `run/pair.json`, of a pair that has not ended.
    pub fn living_twins(&self) -> Vec<Twin> {
        match self.read_pair_file() {
            Some(pair) if pair.state != PAIR_ENDED => {
                [pair.active, pair.standby].into_iter().flatten().filter(lives).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Waits until all of `twins` are gone, at most until `deadline` (else [`ANSWER_LIMIT`]);
    /// whether they are.
    pub fn wait_until_gone(&self, twins: &[Twin], deadline: Option<Instant>) -> bool {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + self.answer_limit);
        while twins.iter().any(lives) {
            if Instant::now() >= deadline {
                return false;
            }
            // A command may wait; nothing else runs in this process.
            thread::sleep(RETRY_EVERY);
        }
        true
    }

    fn attempt(&self, call: &mut Call<'_>) -> Result<Response, Trouble> {
        call.is_served = false;
        let socket = self.connect(call.deadline)?;
        send_all(&socket, call.request, call.deadline)?;
        call.asked = true;
        let response = self.read_answer(&socket, call)?;
        if response.status == 503 {
            return Err(Trouble::TryAgain(Some(response)));
        }
        Ok(response)
    }

    fn connect(&self, deadline: Instant) -> Result<OwnedFd, Trouble> {
        let address = UnixAddr::new(&self.control_socket).map_err(|error| self.broken(error))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(|error| self.broken(error))?;
        loop {
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => return Ok(socket),
                // The backlog is full, and the kernel has nothing to poll for (unix(7)).
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(Errno::ENOENT | Errno::ECONNREFUSED) => return Err(Trouble::Refused),
                Err(Errno::EACCES | Errno::EPERM) => return Err(Trouble::Final(CallError::Denied)),
                Err(error) => return Err(self.broken(error)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::Late);
            }
            // A command may wait; nothing else runs in this process.
            thread::sleep(left.min(RETRY_EVERY));
        }
    }

    fn broken(&self, error: Errno) -> Trouble {
        let path = self.control_socket.display();
        Trouble::Final(CallError::Protocol(format!("cannot use {path}: {}", error.desc())))
    }

    fn read_answer(&self, socket: &OwnedFd, call: &mut Call<'_>) -> Result<Response, Trouble> {
        let mut answer = Vec::new();
        let mut piece = [0; 16 * 1024];
        let first = self.notice_after.min(self.probe_every);
        let mut look_at = Some(Instant::now() + first);
        loop {
            let until = look_at.map_or(call.deadline, |at| at.min(call.deadline));
            if !wait_for(socket, PollFlags::POLLIN, until)? {
                if Instant::now() >= call.deadline {
                    return Err(Trouble::Late);
                }
                look_at = self.look_after(call);
                continue;
            }
            match recv(socket.as_raw_fd(), &mut piece, MsgFlags::empty()) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(Trouble::TryAgain(None)),
                Ok(count) => answer.extend(piece.iter().take(count)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(error) => return Err(self.broken(error)),
            }
            let protocol = |text| Trouble::Final(CallError::Protocol(text));
            if let Some(response) = parse_answer(&answer).map_err(protocol)? {
                return Ok(response);
            }
        }
    }

    /// The silence lasts: is it a long action, or does nobody serve? When to look again.
    fn look_after(&self, call: &mut Call<'_>) -> Option<Instant> {
        if call.patience == Patience::Question {
            self.notice();
            return None;
        }
        let is_fixed = call.patience != Patience::Action;
        // Where the end is fixed this is asked for the words alone: a short while is enough.
        let until = if is_fixed { Instant::now() + self.notice_after } else { call.deadline };
        let serves = self.somebody_serves(until.min(call.deadline));
        if is_fixed && Instant::now() >= call.deadline {
            // That look had no time left, and proves nothing.
            return None;
        }
        call.is_served = serves;
        if !serves {
            self.notice();
        } else if !is_fixed {
            call.deadline = Instant::now() + self.answer_limit;
            call.extended_for = None;
        }
        Some(Instant::now() + self.probe_every)
    }

    /// Whether any answer comes on a connection of its own: the silence is then an action that
    /// takes its time, not a node manager that hangs.
    fn somebody_serves(&self, deadline: Instant) -> bool {
        let request = request_bytes("GET", PING_PATH, None);
        let deadline = deadline.min(Instant::now() + self.probe_every);
        let patience = Patience::Until(deadline);
        let mut probe = Call::new(&request, patience, deadline);
        matches!(self.attempt(&mut probe), Ok(_) | Err(Trouble::TryAgain(Some(_))))
    }

    fn time_over(&self, asked: bool) -> CallError {
        match self.read_pair_file().and_then(|pair| pair.waits_for) {
            Some(what) => CallError::WaitsFor(what),
            None => CallError::TimedOut { asked },
        }
    }

    /// Whether a process of the pair lives that serves or will see to it that somebody does.
    /// The lock counts too: it is held also when somebody removed `run/pair.json`.
    fn pair_lives(&self) -> bool {
        let has_ended = self.read_pair_file().is_some_and(|pair| pair.state == PAIR_ENDED);
        self.lock_is_held() || (!has_ended && !self.living().is_empty())
    }

    /// Asks for the active's lock, byte 0, without touching it; closing the file loses only
    /// locks of our own.
    fn lock_is_held(&self) -> bool {
        let Ok(file) = File::open(&self.lock_file) else { return false };
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_GETLK(&mut lock)).is_ok()
            && lock.l_type != libc::F_UNLCK as libc::c_short
    }

    fn read_pair_file(&self) -> Option<PairFile> {
        let mut bytes = Vec::new();
        File::open(&self.pair_file).ok()?.take(PAIR_FILE_MAX).read_to_end(&mut bytes).ok()?;
        parse_pair_file(&bytes)
    }
}

/// A new request id: 16 random bytes in hexadecimal.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn request_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(exit::FAILED, format!("cannot make a request id: {error}"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn request_bytes(method: &str, path: &str, body: Option<&[u8]>) -> Vec<u8> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let mut bytes = head.into_bytes();
    if let Some(body) = body {
        let kind = "Content-Type: application/json";
        bytes.extend(format!("{kind}\r\nContent-Length: {}\r\n", body.len()).into_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// Waits for `flags`; false when `until` comes first.
fn wait_for(socket: &OwnedFd, flags: PollFlags, until: Instant) -> Result<bool, Trouble> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // One more millisecond than the rest, so that the last round does not spin.
        let ms = left.as_millis().saturating_add(1).min(60_000);
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(socket.as_fd(), flags)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => {
                let text = format!("cannot wait for the answer: {}", error.desc());
                return Err(Trouble::Final(CallError::Protocol(text)));
            }
        }
    }
}

fn send_all(socket: &OwnedFd, bytes: &[u8], deadline: Instant) -> Result<(), Trouble> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match send(socket.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => sent += count,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                if !wait_for(socket, PollFlags::POLLOUT, deadline)? {
                    return Err(Trouble::Late);
                }
            }
            // It may have answered before it closed: reading tells.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// What `run/pair.json` says; `None` for what is no such file.
pub fn parse_pair_file(bytes: &[u8]) -> Option<PairFile> {
    serde_json::from_slice(bytes).ok()
}

/// The answer, as soon as it is whole.
///
/// # Errors
/// These bytes can't become one.
pub fn parse_answer(answer: &[u8]) -> Result<Option<Response>, String> {
    let wrong = str::to_owned;
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let head_part = answer.get(..ANSWER_HEAD_MAX.min(answer.len())).unwrap_or_default();
    let head_length = match head.parse(head_part) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if answer.len() < ANSWER_HEAD_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => {
            return Err(wrong("what came from the control socket is not HTTP"));
        }
    };
    let length = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok())
        .filter(|length| *length <= ANSWER_MAX)
        .ok_or_else(|| wrong("the answer has no length, or is too long"))?;
    let body = answer.get(head_length..head_length.saturating_add(length));
    let status = head.code.unwrap_or_default();
    Ok(body.map(|body| Response { status, body: body.to_vec() }))
}

#[cfg(test)]
mod tests;
