//! The process in which another program shows that it could go on.
//!
//! Must not change anything: it reads what an active would be handed, and the journal, and says what it
//! found.

use crate::config::Config;
use crate::core::Entry;
use crate::journal;
use crate::shell::bequest::{self, Bequest};
use crate::sys;
use crate::wire::PROTOCOL;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};

/// What it hands back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    pub version: String,
    /// Of the link.
    pub protocol: u32,
}

/// Runs it; gives its exit status.
pub fn run() -> u8 {
    let _ = sys::set_name("nm-prover");
    u8::from(look().is_err())
}

fn look() -> io::Result<()> {
    let bequest = Bequest::unpack();
    let mut result = File::from(sys::inherited(bequest::RESULT)?);
    let proof = bequest.map_err(|error| format!("cannot read what it is handed: {error}"));
    let config =
        bequest::config().map_err(|error| format!("cannot read the configuration: {error}"));
    let proof = proof.and(config).and_then(|config| prove(&config));
    result.write_all(&serde_json::to_vec(&proof)?)
}

fn prove(config: &Config) -> Result<Proof, String> {
    let dir = &config.node.run_dir;
    let contents =
        journal::read(dir).map_err(|error| format!("cannot read the journal: {error}"))?;
    for payload in contents.iter().flat_map(|contents| &contents.payloads) {
        serde_json::from_slice::<Entry>(payload)
            .map_err(|error| format!("cannot read a record of the journal: {error}"))?;
    }
    Ok(Proof { version: env!("CARGO_PKG_VERSION").to_string(), protocol: PROTOCOL })
}
