//! A small, single-threaded supervisor that is itself replicated.

pub mod core;
