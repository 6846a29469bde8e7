//! The process that reads a configuration for the active.
//!
//! Must not change anything: files, users and groups are looked up here, where nothing waits for
//! it but the request, and the active decides what becomes of the result.

use super::changes;
use crate::api::ApplyAnswer;
use crate::config::Config;
use crate::shell::bequest::{self, Bequest};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What it hands back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Found {
    /// The configuration can't be used: every error with file and line.
    Wrong(String),
    Other {
        config: Box<Config>,
        answer: ApplyAnswer,
    },
}

/// Runs it; gives its exit status. `load` reads and checks a configuration as `run` does.
pub fn run(load: fn(&Path) -> Result<Config, String>) -> u8 {
    let _ = sys::set_name("nm-applier");
    u8::from(look(load).is_err())
}

fn look(load: fn(&Path) -> Result<Config, String>) -> io::Result<()> {
    let bequest = Bequest::unpack()?;
    let mut result = File::from(sys::inherited(bequest::RESULT)?);
    let mut old = bequest::config()?;
    old.applied.retired.retain(|one| !bequest.gone.iter().any(|gone| one.name == *gone));
    let old = &old;
    let merged = load(&old.file).and_then(|new| changes::merge(old, new, &bequest.names)).and_then(
        |(config, answer)| match is_new_inheritance(old, &config) {
            true => {
                Err("output.to = \"inherit\" can't be new while the pair runs: its own standard \
                         output is not there any more; end the pair and start it again"
                    .to_owned())
            }
            false => Ok(Found::Other { config: Box::new(config), answer }),
        },
    );
    let found = merged.unwrap_or_else(Found::Wrong);
    result.write_all(&serde_json::to_vec(&found)?)
}

/// Nobody kept the pair's own standard output for servers.
fn is_new_inheritance(old: &Config, new: &Config) -> bool {
    bequest::is_inherited(new) && !bequest::is_inherited(old)
}
