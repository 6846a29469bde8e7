//! A small, single-threaded supervisor that is itself replicated.

pub mod config;
pub mod core;
pub mod journal;
pub mod wire;
