//! The decisions: events and the time go in, actions come out.
//!
//! Must not read a clock, do I/O, log, or fail: a failure outside is an event. Uses nothing but
//! `std` collections and serde's derives. This file is the whole vocabulary on one screen.

pub mod record;
pub mod restart;
pub mod time;

pub use record::{Entry, Exit, Identity, NodeRecord, Phase, Record, ServerRecord, Wanted};
pub use time::Ms;
