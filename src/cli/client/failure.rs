//! What a command says, and exits with, when there is no answer.
//!
//! Must not try again: that is over by then.

use super::CallError;
use crate::cli::{Failure, exit};
use std::path::Path;
use std::time::Duration;

impl CallError {
    /// What the command says and exits with. `timeout`: what `--timeout` was given.
    pub fn failure(&self, control_socket: &Path, timeout: Option<Duration>) -> Failure {
        let path = control_socket.display();
        match self {
            CallError::NotRunning { .. } => Failure::new(
                exit::NOT_RUNNING,
                format!("no node manager runs at {path}; start it with `nodemanager run`"),
            ),
            CallError::WaitsFor(what) => Failure::new(
                exit::TRY_LATER,
                format!("the node manager cannot answer now, it waits: {what}; try again later"),
            ),
            CallError::TimedOut { asked } => {
                let limit =
                    timeout.map_or("in time".to_string(), |limit| format!("within {limit:?}"));
                let rest = match asked {
                    true => "what was asked for goes on; see `nodemanager status`",
                    false => "try again later",
                };
                Failure::new(exit::TIME_OVER, format!("no answer {limit}; {rest}"))
            }
            CallError::Denied => Failure::new(
                exit::NOT_PERMITTED,
                format!(
                    "cannot use {path}: permission denied; run this as the node manager's user \
                     or as root, or see controlMode and controlGroup"
                ),
            ),
            CallError::Protocol(text) => Failure::new(exit::FAILED, text.clone()),
        }
    }
}
