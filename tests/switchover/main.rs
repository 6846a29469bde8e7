//! The planned ways: switchover, upgrade to another program, maintenance.
//!
//! The program of another version is the present one, built from a copy of its sources with another
//! version number and one more field in the journal. Must not touch the program that other tests run.

mod maintenance;
#[path = "../support/next_version.rs"]
mod next_version;
#[path = "../support/mod.rs"]
mod support;
mod switch;
mod upgrade;

/// Two servers that only run.
const SLEEPERS: &str = "[[server]]\nname = \"a\"\ncommand = [\"sleep\", \"1000\"]\nsettleTime = \"100ms\"\n\
                        [[server]]\nname = \"b\"\ncommand = [\"sleep\", \"1000\"]\nsettleTime = \"100ms\"\n";
