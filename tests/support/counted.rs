//! Servers that report each start in a file of their own, so that a test can count them.
//!
//! Must not believe the node manager about starts: what a server wrote itself is what counts.

use super::{Pair, example, is_alive, wait_until};
use std::collections::BTreeMap;
use std::fs;

/// The table of a server that runs the test server with these options. `keys`: more lines of TOML
/// for the table.
pub fn counted(name: &str, options: &str, keys: &str) -> String {
    let program = example("test_server");
    let program = program.display();
    format!(
        "[[server]]\nname = \"{name}\"\nsettleTime = \"20ms\"\n\
         command = \"{program} --starts {{home}}/{name}.starts {options}\"\n{keys}\n"
    )
}

/// The PIDs of all starts of this server, in their order.
pub fn starts(pair: &Pair, name: &str) -> Vec<i32> {
    let path = pair.home.join(format!("{name}.starts"));
    let text = fs::read_to_string(path).unwrap_or_default();
    let pid = |line: &str| line.strip_prefix("start ").and_then(|pid| pid.parse().ok());
    text.lines().map(|line| pid(line).unwrap_or_else(|| panic!("a torn line: {text}"))).collect()
}

/// Waits until a server has reported so many starts, and no more than that; gives their PIDs. It
/// counts as running before it has reported anything.
pub fn reported(pair: &Pair, name: &str, count: usize) -> Vec<i32> {
    wait_until(&format!("start {count} of {name} to be reported"), || {
        starts(pair, name).len() >= count
    });
    let pids = starts(pair, name);
    assert_eq!(pids.len(), count, "{name} was started too often: {pids:?}");
    pids
}

/// Waits until every server has reported its first start; gives the PIDs.
pub fn started(pair: &Pair, count: usize) -> BTreeMap<String, i32> {
    wait_until("every server to report its start", || {
        let pids = pair.pids();
        pids.len() == count && pids.keys().all(|name| !starts(pair, name).is_empty())
    });
    pair.pids()
}

/// Nothing was done to the servers: the same processes live, and none was started again.
pub fn assert_untouched(pair: &Pair, pids: &BTreeMap<String, i32>) {
    assert_eq!(&pair.pids(), pids, "status shows other processes");
    for (name, pid) in pids {
        assert_eq!(starts(pair, name), [*pid], "{name} was started again");
        assert!(is_alive(*pid), "{name} (PID {pid}) is dead");
    }
}
