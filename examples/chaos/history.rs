//! The history of events beside what the run knows: numbers rise, no process and no takeover is told
//! twice, every takeover is told, and a hook is run for it.
//!
//! Must not ask while the disk is full or descriptors are taken: events wait in memory then.

use crate::Held;
use crate::world::World;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// What was read of the history.
#[derive(Default)]
pub struct History {
    last: u64,
    /// Server, PID and start of each process that was told.
    told: BTreeSet<String>,
    /// Takeovers and switchovers in the history.
    pub takeovers: u64,
    /// Numbers of takeovers whose hook was not seen yet.
    awaited: BTreeSet<u64>,
}

/// The hook of the run's configuration: it writes down the number of the event.
pub fn hook(home: &std::path::Path) -> String {
    let keep = format!("echo $NM_EVENT_SEQ >> {}/hooked", home.display());
    format!(
        "[[hook]]\nname = \"kept\"\non = [\"takeover\", \"switchover\"]\n\
         command = [\"sh\", \"-c\", \"{keep}\"]\n"
    )
}

impl World {
    /// Reads what is new. Gives what is not there yet; fails when something is there twice.
    pub fn read_history(&mut self) -> Held<Vec<String>> {
        let path = self.home.join("state/events.jsonl");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path:?}: {error}"))?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut before = 0;
        for line in whole.lines() {
            let record: Value =
                serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
            let seq = record["seq"].as_u64().unwrap_or(0);
            if seq <= before {
                return Err(format!("event {seq} is behind {before} in the history"));
            }
            before = seq;
            if seq > self.history.last {
                self.history.last = seq;
                self.learn(seq, &record)?;
            }
        }
        let hooked = fs::read_to_string(self.home.join("hooked")).unwrap_or_default();
        for seq in hooked.lines().filter_map(|line| line.parse::<u64>().ok()) {
            self.history.awaited.remove(&seq);
        }
        let missing = &self.history.awaited;
        Ok(match missing.is_empty() {
            true => vec![],
            false => vec![format!("no hook was run for the takeovers {missing:?}")],
        })
    }

    fn learn(&mut self, seq: u64, record: &Value) -> Held {
        match record["kind"].as_str().unwrap_or_default() {
            "takeover" | "switchover" => {
                self.history.takeovers += 1;
                self.history.awaited.insert(seq);
            }
            "hook-failed" => {
                let event = record["fields"]["event"].as_u64().unwrap_or(0);
                self.history.awaited.remove(&event);
            }
            "server-running" => {
                let fields = &record["fields"];
                let what =
                    format!("{} {} {}", record["server"], fields["pid"], fields["startTicks"]);
                if !self.history.told.insert(what.clone()) {
                    return Err(format!("it was told twice that {what} runs: {record}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
