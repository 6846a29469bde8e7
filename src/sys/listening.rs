//! Sockets that are bound for servers, and taken back from a server that has the last copy.
//!
//! Must not accept or read: the servers do. They are blocking, as servers expect what they are
//! handed; nothing of them is changed later, because a server shares the flags.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, UnixAddr, bind, connect,
    getsockname, getsockopt, listen, setsockopt, socket, sockopt,
};
use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Binds a TCP socket and listens.
///
/// # Errors
/// EADDRINUSE above all; EACCES for a port below 1024.
pub fn bind_tcp(address: SocketAddr, backlog: u32) -> io::Result<OwnedFd> {
    let fd = inet(address, SockType::Stream)?;
    // A port in TIME_WAIT is no obstacle.
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    start_listening(&fd, backlog)?;
    Ok(fd)
}

/// Binds a UDP socket.
///
/// # Errors
/// As [`bind_tcp`].
pub fn bind_udp(address: SocketAddr) -> io::Result<OwnedFd> {
    let fd = inet(address, SockType::Datagram)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(fd)
}

fn inet(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    Ok(socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?)
}

/// Binds a stream socket that is a file, and listens. One that nobody listens at any more is
/// replaced. `owner`: whose it becomes.
///
/// # Errors
/// EADDRINUSE where somebody listens, EEXIST where something else is; those of bind(2), chown(2).
pub fn bind_unix(path: &Path, mode: u32, backlog: u32, owner: Option<u32>) -> io::Result<OwnedFd> {
    let stream = |flags| socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let fd = stream(SockFlag::SOCK_CLOEXEC)?;
    let address = UnixAddr::new(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let text = "something that is no socket is there; remove it";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => {
            let probe = stream(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
            match connect(probe.as_raw_fd(), &address) {
                Err(Errno::ECONNREFUSED) => std::fs::remove_file(path)?,
                _ => return Err(Errno::EADDRINUSE.into()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    bind(fd.as_raw_fd(), &address)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    if owner.is_some() {
        std::os::unix::fs::chown(path, owner, None)?;
    }
    start_listening(&fd, backlog)?;
    Ok(fd)
}

fn start_listening(fd: &OwnedFd, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // What this type refuses is more than the kernel takes: it cuts the number itself.
    let backlog = Backlog::new(backlog).unwrap_or(Backlog::MAXCONN);
    Ok(listen(fd, backlog)?)
}

/// A copy of a descriptor of another process (pidfd_getfd(2), Linux 5.6).
///
/// # Errors
/// EPERM without the right to trace it; EBADF when it has none of that number; ENOSYS.
pub fn copy_from(process: &OwnedFd, number: RawFd) -> io::Result<OwnedFd> {
    let pidfd = process.as_raw_fd();
    // SAFETY: integers only; touches no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, 0) };
    let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call just returned this descriptor (close-on-exec), so it is open and nobody
    // else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Is it a socket that listens at this address, or for UDP is bound to it?
pub fn is_inet(fd: &impl AsFd, address: SocketAddr, is_udp: bool) -> bool {
    is_bound(fd, is_udp, |bound| *bound == SockaddrStorage::from(address))
}

/// Is it a socket that listens at this path?
pub fn is_unix(fd: &impl AsFd, path: &Path) -> bool {
    is_bound(fd, false, |bound| {
        bound.as_unix_addr().and_then(UnixAddr::path).is_some_and(|bound| bound == path)
    })
}

fn is_bound(fd: &impl AsFd, is_udp: bool, is_there: impl Fn(&SockaddrStorage) -> bool) -> bool {
    let fd = fd.as_fd();
    let (kind, listens) =
        (getsockopt(&fd, sockopt::SockType), getsockopt(&fd, sockopt::AcceptConn));
    let fits = match is_udp {
        true => kind == Ok(SockType::Datagram),
        false => kind == Ok(SockType::Stream) && listens == Ok(true),
    };
    fits && getsockname::<SockaddrStorage>(fd.as_raw_fd()).is_ok_and(|bound| is_there(&bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pidfd;
    use crate::sys::testing::Scratch;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_bound_socket_is_known_by_its_address_also_as_a_copy_and_in_use_for_others() {
        let (address, other) = (free(), free());
        let fd = bind_tcp(address, 16).unwrap();
        TcpStream::connect(address).unwrap();
        assert_eq!(bind_tcp(address, 16).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        let own = pidfd::open(std::process::id() as i32).unwrap();
        let copy = copy_from(&own, fd.as_raw_fd()).unwrap();
        assert!(is_inet(&copy, address, false));
        assert!(!is_inet(&copy, other, false) && !is_inet(&copy, address, true));
        let udp = bind_udp(address).unwrap();
        assert!(is_inet(&udp, address, true) && !is_inet(&udp, address, false));
    }

    #[test]
    fn a_socket_file_is_replaced_only_when_nobody_listens_there() {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        let fd = bind_unix(&path, 0o640, 16, None).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(is_unix(&fd, &path));
        let refused = bind_unix(&path, 0o640, 16, None).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EADDRINUSE));
        drop(fd);
        let _fd = bind_unix(&path, 0o640, 16, None).unwrap();
        UnixStream::connect(&path).unwrap();
        let file = scratch.path("file");
        std::fs::write(&file, "kept").unwrap();
        assert!(bind_unix(&file, 0o640, 16, None).is_err() && file.exists());
    }
}
