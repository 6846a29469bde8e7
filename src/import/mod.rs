//! Other programs' configuration files, written anew as this program's.
//!
//! Pure: texts go in, a text comes out. Must not read a file or look at the machine. What has no
//! equivalent is a comment in the result, with the place that it is from: nothing is lost silently.

pub mod ini;
pub mod jeusnm;
mod output;
mod percent;
mod program;
pub mod supervisord;
mod words;
mod written;
