//! `socket` of a `[[server]]`: what the node manager listens at for it. And what else of a server
//! has descriptors that outlive an active: its notify socket, and the FIFO of its readiness.
//!
//! Pure, as all of the parsing: must not look at the machine, and so takes no names of hosts.

use super::dependencies::Origin;
use super::reader::{self, Reader, Refused};
use super::sections::{MAX_SOCKET_PATH, SOCKET_KEYS, is_name, mode};
use super::units::quoted;
use super::{HealthCheck, Readiness, ServerConfig};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// More sockets of one server than that have no use.
const SOCKETS_MAX: usize = 64;
/// The number of the first one in the server (sd_listen_fds(3)).
const FIRST: usize = 3;

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Socket {
    /// For LISTEN_FDNAMES.
    pub name: String,
    pub listen: Listen,
    /// Permission bits of a socket that is a file.
    pub mode: u32,
    /// Connections that wait to be taken; the kernel's own limit is net.core.somaxconn.
    pub backlog: u32,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Listen {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "tcp:{address}"),
            Listen::Udp(address) => write!(f, "udp:{address}"),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ServerConfig {
    /// Does it say of itself how it is?
    pub fn notifies(&self) -> bool {
        self.ready == Some(Readiness::Notify) || self.watchdog_ms().is_some()
    }

    /// The time of its watchdog; the shortest of several.
    pub fn watchdog_ms(&self) -> Option<u64> {
        let times = self.health.iter().filter_map(|check| match check {
            HealthCheck::Watchdog { timeout_ms } => Some(*timeout_ms),
            HealthCheck::Asked { .. } => None,
        });
        times.min()
    }

    /// Its $NOTIFY_SOCKET.
    pub fn notify_path(&self, run_dir: &Path) -> PathBuf {
        run_dir.join("notify").join(format!("{}.sock", self.name))
    }

    /// The descriptor to which it writes a newline when it is ready.
    pub fn ready_fd(&self) -> Option<i32> {
        match *self.ready {
            Some(Readiness::Fd(number)) => Some(number),
            _ => None,
        }
    }

    /// The FIFO behind that descriptor.
    pub fn ready_path(&self, run_dir: &Path) -> PathBuf {
        run_dir.join("ready").join(format!("{}.fifo", self.name))
    }

    /// Descriptors that the pair keeps for it, beside its output.
    pub fn kept_descriptors(&self) -> usize {
        self.sockets.len() + usize::from(self.notifies()) + usize::from(self.ready_fd().is_some())
    }
}

/// The `socket` tables.
pub fn sockets(server: &Reader<'_>, server_name: &str) -> Vec<Socket> {
    let all = server.inners("socket", SOCKET_KEYS);
    if all.len() > SOCKETS_MAX {
        server.error("socket", format!("has more than {SOCKETS_MAX} entries"));
        return Vec::new();
    }
    all.iter().filter_map(|keys| socket(keys, server_name)).collect()
}

fn socket(keys: &Reader<'_>, server_name: &str) -> Option<Socket> {
    if keys.value("listen").is_none() {
        keys.error_here("has no listen: write listen = \"tcp:127.0.0.1:8080\"".to_owned());
        return None;
    }
    let home = keys.document.home;
    let wanted = "an address such as \"tcp:127.0.0.1:8080\"";
    let listen = keys.get("listen", wanted, |value| {
        let text = value.as_str().ok_or(Refused::NotWanted)?;
        listen(text, home).map_err(Refused::Because)
    })?;
    let name = keys.get("name", "a name", |value: &DeValue<'_>| {
        let name = value.as_str().ok_or(Refused::NotWanted)?;
        let cause = "may have letters, digits, \".\", \"_\" and \"-\" only, at most 100";
        match is_name(name) {
            true => Ok(name.to_owned()),
            false => Err(Refused::Because(format!("{cause}, not {}", quoted(name)))),
        }
    });
    if keys.value("mode").is_some() && !matches!(listen, Listen::Unix(_)) {
        keys.error("mode", "is for unix: sockets, which are files".to_owned());
    }
    Some(Socket {
        name: name.unwrap_or_else(|| server_name.to_owned()),
        listen,
        mode: keys.get("mode", "an octal string such as \"0666\"", mode).unwrap_or(0o666),
        backlog: keys.number("backlog", "a number", 1..=65_535).unwrap_or(4_096),
    })
}

fn listen(text: &str, home: &Path) -> Result<Listen, String> {
    let Some((kind, place)) = text.split_once(':') else {
        return Err("must begin with tcp:, udp: or unix:".to_owned());
    };
    let address = || {
        let place = place.replace("localhost:", "127.0.0.1:");
        let address: SocketAddr = place.parse().map_err(|_| {
            format!(
                "has {}, which is no IP address with a port: names are not looked up; write \
                 {kind}:127.0.0.1:PORT or {kind}:[::1]:PORT",
                quoted(&place)
            )
        })?;
        match address.port() {
            0 => Err("has port 0, which would be another one each time".to_owned()),
            _ => Ok(address),
        }
    };
    match kind {
        "tcp" => Ok(Listen::Tcp(address()?)),
        "udp" => Ok(Listen::Udp(address()?)),
        "unix" if place.is_empty() => Err("has no path behind unix:".to_owned()),
        "unix" => {
            let path = reader::from_home(home, place);
            match path.as_os_str().len() {
                length if length > MAX_SOCKET_PATH => Err(format!(
                    "is too long: {length} bytes with the home, and only {MAX_SOCKET_PATH} fit"
                )),
                _ => Ok(Listen::Unix(path)),
            }
        }
        other => Err(format!("can't be {}: it is tcp:, udp: or unix:", quoted(other))),
    }
}

/// What only shows once all servers are there: paths that do not fit, and places that two want.
pub fn check(servers: &[ServerConfig], origins: &[Origin<'_>], run_dir: &Path) {
    let mut places: BTreeMap<&Listen, &str> = BTreeMap::new();
    for (server, origin) in servers.iter().zip(origins) {
        let error = |text: String| {
            let text = format!("{} {text}", origin.title);
            origin.document.error(Some(server.line), text);
        };
        let path = server.notify_path(run_dir);
        let length = path.as_os_str().len();
        if server.notifies() && length > MAX_SOCKET_PATH {
            error(format!(
                "can't be told of by sd_notify: the path of its socket, {}, has {length} bytes, \
                 and only {MAX_SOCKET_PATH} fit; choose a shorter runDir or name",
                path.display()
            ));
        }
        let last = FIRST + server.sockets.len();
        if let Some(number) = server.ready_fd()
            && usize::try_from(number).is_ok_and(|number| number < last)
        {
            let sockets = server.sockets.len();
            error(format!(
                "has ready.fd {number}, and its sockets ({sockets}) have the descriptors from \
                 {FIRST} on; choose {last} or more"
            ));
        }
        for socket in &server.sockets {
            if let Some(other) = places.insert(&socket.listen, &server.name) {
                let (name, listen) = (&server.name, &socket.listen);
                error(format!(
                    "has a socket at {listen} twice (servers {other} and {name}); instances \
                     have places of their own with ${{port}}"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::parsed;
    use super::*;

    fn server(name: &str, keys: &str) -> String {
        format!("[[server]]\nname = \"{name}\"\ncommand = \"x\"\n{keys}\n")
    }

    fn errors_of(text: &str) -> String {
        parsed(text).unwrap_err().to_string()
    }

    #[test]
    fn a_socket_has_defaults_and_each_instance_its_own_port() {
        let keys = "instances = 2\nvars = { port = [81, 82] }\n\
                    socket = [{ listen = \"tcp:127.0.0.1:${port}\" }]";
        let config = parsed(&server("web", keys)).unwrap();
        let listen = |at: usize| config.servers[at].sockets[0].listen.to_string();
        assert_eq!([listen(0), listen(1)], ["tcp:127.0.0.1:81", "tcp:127.0.0.1:82"]);
        let socket = &config.servers[1].sockets[0];
        assert_eq!((socket.name.as_str(), socket.mode, socket.backlog), ("web@2", 0o666, 4_096));
        let keys = "socket = [{ name = \"s\", listen = \"unix:run/s\", mode = \"0600\" }, \
                    { name = \"d\", listen = \"udp:[::1]:53\", backlog = 1 }]";
        let config = parsed(&server("dns", keys)).unwrap();
        assert!(
            matches!(&config.servers[0].sockets[0].listen, Listen::Unix(path) if path.is_absolute())
        );
        assert_eq!(config.servers[0].sockets[1].listen.to_string(), "udp:[::1]:53");
    }

    #[test]
    fn what_is_no_place_to_listen_at_is_refused_with_what_would_be_right() {
        for (keys, wanted) in [
            ("socket = [{ name = \"a\" }]", "has no listen"),
            ("socket = [{ listen = \"127.0.0.1:80\" }]", "it is tcp:, udp: or unix:"),
            ("socket = [{ listen = \"tcp:web:80\" }]", "names are not looked up"),
            ("socket = [{ listen = \"tcp:127.0.0.1:0\" }]", "port 0"),
            ("socket = [{ listen = \"unix:\" }]", "no path"),
            ("socket = [{ listen = \"tcp:127.0.0.1:80\", mode = \"0600\" }]", "unix: sockets"),
            ("socket = [{ listen = \"tcp:127.0.0.1:80\", backlog = 0 }]", "from 1 to 65535"),
            ("socket = [{ name = \"a:b\", listen = \"tcp:127.0.0.1:80\" }]", "letters, digits"),
            ("socket = [{ listen = \"udp:127.0.0.1:80\", lisen = 1 }]", "listen"),
            ("ready = { fd = 3 }\nsocket = [{ listen = \"udp:127.0.0.1:80\" }]", "choose 4"),
        ] {
            let errors = errors_of(&server("a", keys));
            assert!(errors.contains(wanted), "{keys}: {errors}");
        }
    }

    #[test]
    fn a_place_that_two_servers_want_is_refused() {
        let keys = "socket = [{ listen = \"tcp:127.0.0.1:80\" }]";
        let errors = errors_of(&(server("a", keys) + &server("b", keys)));
        assert!(errors.contains("twice (servers a and b)"), "{errors}");
    }

    #[test]
    fn a_notify_socket_whose_path_does_not_fit_is_an_error() {
        let text = format!("[nodeManager]\nrunDir = \"/{}\"\n", "r".repeat(70));
        let name = "n".repeat(40);
        let whole = |keys: &str| text.clone() + &server(&name, keys);
        let errors = errors_of(&whole("ready = \"notify\""));
        assert!(errors.contains("only 107 fit"), "{errors}");
        parsed(&whole("")).unwrap();
    }
}
