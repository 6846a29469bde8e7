//! How the keeper passes on the wish to end the pair: as a request, asked until it is answered.
//!
//! Must not wait for the answer. The id stays the same, so that asking again, also after a
//! takeover, is the same wish.

use super::{KeeperShell, REQUEST};
use crate::api::{SHUTDOWN_PATH, ShutdownAsk};
use crate::config::OnTerm;
use crate::core::keeper::Event;
use log::warn;
use mio::Interest;
use mio::net::UnixStream;
use std::io::{self, Read, Write};

impl KeeperShell {
    /// A signal becomes a request, asked until it is answered: it survives a takeover.
    pub(super) fn ask_to_end(&mut self, force: bool) {
        self.take_config_in_force();
        let ask = ShutdownAsk {
            id: format!("keeper-{}{}", std::process::id(), if force { "-force" } else { "" }),
            stop_servers: self.config.node.on_term == OnTerm::StopServers,
            force,
            wait: true,
        };
        let body = serde_json::to_string(&ask).unwrap_or_default();
        let text = format!(
            "POST {SHUTDOWN_PATH} HTTP/1.1\r\nHost: nodemanager\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.drop_request();
        let stream = UnixStream::connect(self.config.node.control_socket());
        let connected = stream.and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, REQUEST, interest)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => self.request = Some((stream, text.into_bytes())),
            // Nobody is there to hear it. It is asked again.
            Err(error) => warn!(target: "0022", "cannot ask the active to end: {error}"),
        }
    }

    pub(super) fn on_request(&mut self) {
        let Some((stream, out)) = &mut self.request else { return };
        while !out.is_empty() {
            match stream.write(out) {
                Ok(count) => drop(out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.drop_request(),
            }
        }
        let mut answer = [0; 1024];
        match stream.read(&mut answer) {
            Ok(0) => self.drop_request(),
            Ok(_) => {
                self.drop_request();
                self.tell(Event::EndAnswered);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.drop_request(),
        }
    }

    pub(super) fn drop_request(&mut self) {
        if let Some((mut stream, _)) = self.request.take() {
            let _ = self.poll.registry().deregister(&mut stream);
        }
    }
}
