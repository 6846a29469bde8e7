//! A small, single-threaded supervisor that is itself replicated.

pub mod api;
pub mod cli;
pub mod config;
pub mod core;
pub mod http;
pub mod journal;
pub mod names;
pub mod output;
pub mod sys;
pub mod wire;
