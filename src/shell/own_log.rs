//! Where and how a process of the pair writes its own log.
//!
//! Must not open or write it.

use super::notes;
use crate::config::{Config, LogFormat, LogTarget};
use crate::output::logger;
use std::io;
use std::path::PathBuf;

/// The file of a twin's log.
pub fn log_path(config: &Config, is_standby: bool) -> PathBuf {
    let suffix = if is_standby { "_standby" } else { "" };
    config.node.log_dir.join(format!("{}{suffix}.log", config.node.name))
}

/// The settings of a process's log.
pub fn log_settings(config: &Config, is_standby: bool) -> logger::Settings {
    logger::Settings {
        name: config.node.name.clone(),
        target: match config.node.log_target {
            LogTarget::File => logger::Target::File(log_path(config, is_standby)),
            LogTarget::Stderr => logger::Target::Stderr,
            LogTarget::Journal => logger::Target::Journal(config.node.journal_socket.clone()),
        },
        format: match config.node.log_format {
            LogFormat::Text => logger::Format::Text,
            LogFormat::Json => logger::Format::Json,
        },
        level: notes::level_filter(config.node.log_level),
        max_size: config.node.log_max_size,
        max_files: config.node.log_max_files,
        may_wait: false,
    }
}

/// Why a log can't be written.
pub(super) fn log_error(config: &Config, error: &io::Error) -> io::Error {
    let node = &config.node;
    io::Error::other(match node.log_target {
        LogTarget::Journal => format!(
            "cannot write the log to the journal at {}: {error}; logTarget = \"journal\" needs \
             systemd-journald",
            node.journal_socket.display()
        ),
        LogTarget::File | LogTarget::Stderr => {
            format!("cannot write the log in {}: {error}", node.log_dir.display())
        }
    })
}
