//! A small, single-threaded supervisor that is itself replicated.
//!
//! The code map; imports go from the top of this list to its end, never back (tests/tidy.rs):
//!
//! * `main`, `launch`, `offline`, `doctor`: words to commands; how `run` comes to a keeper; what can be told
//!   and done without a pair.
//! * `cli`: the commands that ask the pair or read what is on disk; they may block.
//! * `shell`: the processes of the pair: the twins' loop, the keeper, the mover.
//! * `api`, `events`, `exit`, `http`, `mail`, `metrics`, `names`, `sd_notify`, `wire`, `journal`, `output`, `state`, `config`, `sys`:
//!   leaves. Formats, files and system calls; `sys` is the only place with `unsafe`.
//! * `core`: the decisions. No clock, no I/O, no log.

pub mod api;
pub mod cli;
pub mod config;
pub mod core;
pub mod doctor;
pub mod events;
pub mod exit;
pub mod http;
pub mod import;
pub mod journal;
pub mod launch;
pub mod mail;
pub mod metrics;
pub mod names;
pub mod offline;
pub mod output;
pub mod sd_notify;
pub mod shell;
pub mod state;
pub mod sys;
pub mod wire;
