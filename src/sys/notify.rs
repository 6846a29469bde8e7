//! The sockets to which servers send what they say of themselves (sd_notify(3)), and the other
//! side: the socket on which an init system hears the keeper.
//!
//! Must not understand what is said, nor wait. Descriptors that come with a message are never taken.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt,
};
use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// A message as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// So many bytes of the buffer are filled.
    pub length: usize,
    /// It was longer than the buffer.
    pub is_cut: bool,
    /// PID (0: of another PID namespace) and user of the sender, as the kernel saw them.
    pub sender: Option<(i32, u32)>,
}

/// A way to whoever started this process.
#[derive(Debug)]
pub struct Sender {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Sender {
    /// `address` as in $NOTIFY_SOCKET: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// It is neither or too long, or there is no descriptor left.
    pub fn new(address: &OsStr) -> io::Result<Sender> {
        let to = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Sender { socket, to })
    }

    /// Sends one message.
    ///
    /// # Errors
    /// WouldBlock: its queue is full, and nothing was sent. Others: nobody is there (any more).
    pub fn send(&self, text: &str) -> io::Result<()> {
        self.socket.send_to_addr(text.as_bytes(), &self.to).map(drop)
    }
}

/// Binds a socket at `path`; what is there is replaced. Everybody may send: who did is told with
/// each message.
///
/// # Errors
/// Those of socket(2), bind(2) and chmod(2); EINVAL for a path that does not fit.
pub fn bind_at(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::PassCred, &true)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(fd)
}

/// Looks at the next message without taking it, or takes it. `None`: there is none.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(fd: &OwnedFd, buffer: &mut [u8], takes: bool) -> io::Result<Option<Received>> {
    let mut flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    if !takes {
        flags |= libc::MSG_PEEK;
    }
    // No room for descriptors: the kernel closes them when the message is taken, which is what
    // BARRIER=1 waits for. (With nix's recvmsg the credentials would be lost then.)
    let mut room = Room([0; ROOM_BYTES]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr consists of integers and pointers; all zeroes is a valid value of it.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = room.0.as_mut_ptr().cast();
    header.msg_controllen = room.0.len() as _;
    // SAFETY: `header` leads to `buffer` and `room` with their own lengths; all of them live
    // through the call.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
    let length = match Errno::result(length) {
        Err(Errno::EAGAIN) => return Ok(None),
        other => usize::try_from(other?).map_err(io::Error::other)?,
    };
    let is_cut = header.msg_flags & libc::MSG_TRUNC != 0;
    Ok(Some(Received { length, is_cut, sender: sender_of(&header) }))
}

/// PID and user that came with a message.
fn sender_of(header: &libc::msghdr) -> Option<(i32, u32)> {
    // SAFETY: the kernel has filled `header`, whose control buffer is still there and aligned as a
    // cmsghdr has to be; the pointer is null when it holds none.
    let first = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() }?;
    let is_credentials = (first.cmsg_level, first.cmsg_type)
        == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS)
        && first.cmsg_len as usize >= size_of::<libc::ucred>() + size_of::<libc::cmsghdr>();
    if !is_credentials {
        return None;
    }
    // SAFETY: as its length says, a ucred follows the header within the control buffer.
    let from: libc::ucred =
        unsafe { libc::CMSG_DATA(first).cast::<libc::ucred>().read_unaligned() };
    Some((from.pid, from.uid))
}

/// Room for credentials and nothing more.
const ROOM_BYTES: usize = size_of::<libc::cmsghdr>() + size_of::<libc::ucred>().next_multiple_of(8);

#[repr(align(8))]
struct Room([u8; ROOM_BYTES]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{Scratch, wait_until};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::io::{IoSlice, Read};

    #[test]
    fn a_message_is_seen_with_its_sender_before_it_is_taken_and_its_descriptors_are_closed() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let fd = bind_at(&path).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.connect(&path).unwrap();
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let fds = [theirs.as_raw_fd()];
        let parts = [IoSlice::new(b"BARRIER=1")];
        let rights = [ControlMessage::ScmRights(&fds)];
        let flags = MsgFlags::empty();
        sendmsg::<()>(client.as_raw_fd(), &parts, &rights, flags, None).unwrap();
        drop(theirs);
        let mut buffer = [0; 7];
        let own = (std::process::id() as i32, nix::unistd::geteuid().as_raw());
        for takes in [false, true] {
            let received = receive(&fd, &mut buffer, takes).unwrap().unwrap();
            assert_eq!(received, Received { length: 7, is_cut: true, sender: Some(own) });
        }
        assert_eq!(receive(&fd, &mut buffer, true).unwrap(), None);
        // The end of the file: nobody has the other end any more.
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_message_reaches_a_path_and_an_abstract_name_and_never_waits() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let name = format!("nm-test-notify-{}", std::process::id());
        let abstract_to = SocketAddr::from_abstract_name(&name).unwrap();
        let at_path = UnixDatagram::bind(&path).unwrap();
        let at_name = UnixDatagram::bind_addr(&abstract_to).unwrap();
        for (address, hearer) in
            [(path.to_str().unwrap(), at_path), (format!("@{name}").as_str(), at_name)]
        {
            let sender = Sender::new(OsStr::new(address)).unwrap();
            let mut told = 0;
            let full = loop {
                match sender.send("READY=1") {
                    Ok(()) => told += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!((full.kind(), told > 1), (io::ErrorKind::WouldBlock, true));
            let mut buffer = [0; 9];
            let length = hearer.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
            drop(hearer);
            // A child that another test has just forked has a copy until its first act.
            wait_until("nobody to hear it", || {
                sender
                    .send("READY=1")
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
            });
        }
        for wrong in ["", "relative", "vsock:2:1"] {
            let error = Sender::new(OsStr::new(wrong)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_socket_that_was_left_over_is_replaced() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        drop(bind_at(&path).unwrap());
        let fd = bind_at(&path).unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
        assert!(receive(&fd, &mut [0; 9], true).unwrap().is_some());
    }
}
