//! The sockets to which servers send what they say of themselves (sd_notify(3)).
//!
//! Must not understand it. Descriptors that come with a message are closed here.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials,
    bind, recvmsg, setsockopt, socket, sockopt,
};
use std::fs::Permissions;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
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
    // No room for descriptors: the kernel closes them when the message is taken, which is what
    // BARRIER=1 waits for.
    let mut room = cmsg_space!(UnixCredentials);
    let mut flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    if !takes {
        flags |= MsgFlags::MSG_PEEK;
    }
    let mut parts = [IoSliceMut::new(buffer)];
    let message = match recvmsg::<()>(fd.as_raw_fd(), &mut parts, Some(&mut room), flags) {
        Err(Errno::EAGAIN) => return Ok(None),
        other => other?,
    };
    let mut sender = None;
    for one in message.cmsgs().into_iter().flatten() {
        match one {
            ControlMessageOwned::ScmCredentials(from) => sender = Some((from.pid(), from.uid())),
            ControlMessageOwned::ScmRights(fds) => {
                for fd in fds {
                    // SAFETY: the kernel made this descriptor for this call, and nobody else
                    // knows of it.
                    drop(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
            _ => {}
        }
    }
    let is_cut = message.flags.contains(MsgFlags::MSG_TRUNC);
    Ok(Some(Received { length: message.bytes, is_cut, sender }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Scratch;
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::{IoSlice, Read};
    use std::os::unix::net::UnixDatagram;

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
    fn a_socket_that_was_left_over_is_replaced() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        drop(bind_at(&path).unwrap());
        let fd = bind_at(&path).unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"x", &path).unwrap();
        assert!(receive(&fd, &mut [0; 9], true).unwrap().is_some());
    }
}
