//! The ways that servers' output takes through FIFOs, as the configuration has them.
//!
//! Must not open or move anything: it makes drains of what is open.

use crate::config::{Config, OutputTo, ServerConfig, Stream};
use crate::core::Name;
use crate::output::{Drain, Limits, Syslog};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// One way.
#[derive(Clone, Debug)]
pub struct Way {
    /// Of its FIFO and of its counts.
    pub key: Name,
    pub server: Name,
    pub is_stderr: bool,
    pub fifo: PathBuf,
}

impl Way {
    fn new(config: &Config, stream: &Stream<'_>) -> Way {
        Way {
            key: stream.key(),
            server: stream.server.name.clone(),
            is_stderr: stream.is_stderr,
            fifo: stream.fifo_path(&config.node.run_dir),
        }
    }

    /// Joins the open FIFO with where its bytes go.
    pub fn drain(&self, config: &Config, server: &ServerConfig, fifo: OwnedFd) -> Drain {
        let (node, output) = (&config.node, &server.output);
        if output.to == OutputTo::Syslog {
            let syslog = Syslog::new(&node.syslog_socket, &self.server, self.is_stderr);
            return Drain::to_syslog(fifo, syslog);
        }
        let limits = Limits {
            max_size: output.max_size,
            max_files: output.max_files,
            max_age_ms: output.max_age_ms,
        };
        let stream = Stream { server, is_stderr: self.is_stderr };
        let drain = Drain::new(fifo, stream.log_path(&node.log_dir), limits);
        if output.timestamps { drain.with_timestamps() } else { drain }
    }
}

/// All of them.
pub fn all(config: &Config) -> Vec<Way> {
    let piped = config.all_servers().flat_map(ServerConfig::piped);
    piped.map(|stream| Way::new(config, &stream)).collect()
}

/// Those of one server.
pub fn of(config: &Config, server: &ServerConfig) -> Vec<Way> {
    server.piped().map(|stream| Way::new(config, &stream)).collect()
}
