//! Every libFuzzer binary: the name that it is built with says which target it runs.
#![no_main]

#[allow(dead_code, reason = "words and seeds are for cargo test")]
#[path = "../targets/mod.rs"]
mod targets;

use std::sync::LazyLock;

static RUN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env!("CARGO_BIN_NAME");
    let target = targets::TARGETS.iter().find(|target| target.name == name);
    target.expect("a binary has the name of a target").run
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| RUN(data));
