//! The metrics of a pair in the text format of Prometheus, version 0.0.4.
//!
//! Pure: the status and some counts go in, text comes out. Must not ask anybody. Base units; what
//! only grows ends in `_total`. Each metric is in docs/METRICS.md.

use crate::api::{Pair, ServerStatus, State, Status};
use crate::core::Wanted;
use crate::core::counts::{DURATION_BOUNDS_MS, Durations, ExitCounts};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Those that a server can be in while an active tells it.
const STATES: [State; 9] = [
    State::Stopped,
    State::Waiting,
    State::Starting,
    State::Running,
    State::Stopping,
    State::Draining,
    State::Backoff,
    State::Failed,
    State::Exited,
];

/// Names that a refusal of `/readyz` tells at most.
const NAMES_MAX: usize = 100;

/// What is not in the status of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounts {
    pub exits: ExitCounts,
    /// Bytes that the active moved; `None` when the output does not go through it.
    pub output_bytes: Option<u64>,
}

/// Everything that is shown.
#[derive(Clone, Copy, Debug)]
pub struct Figures<'a> {
    pub status: &'a Status,
    pub takeover_times: &'a Durations,
    /// By the name of the server.
    pub servers: &'a BTreeMap<String, ServerCounts>,
}

/// The whole text.
pub fn render(figures: &Figures<'_>) -> String {
    let mut text = Text::default();
    pair(&mut text, figures);
    takeovers(&mut text, figures);
    let labelled: Vec<(&ServerStatus, String)> =
        figures.status.servers.iter().map(|one| (one, labels(one))).collect();
    server_states(&mut text, &labelled);
    server_counts(&mut text, &labelled, figures.servers);
    text.0
}

/// What of the servers is not as it is wanted, for people; `None`: nothing.
pub fn not_ready(status: &Status) -> Option<String> {
    let late: Vec<&ServerStatus> =
        status.servers.iter().filter(|one| !one.is_as_wanted()).collect();
    if late.is_empty() {
        return None;
    }
    let mut text = String::from("not ready\n");
    for one in late.iter().take(NAMES_MAX) {
        line(&mut text, format_args!("{} {}", one.name, one.state));
    }
    if let Some(more) = late.len().checked_sub(NAMES_MAX).filter(|more| *more > 0) {
        line(&mut text, format_args!("{more} more"));
    }
    Some(text)
}

fn pair(text: &mut Text, figures: &Figures<'_>) {
    let status = figures.status;
    text.head("nodemanager_build_info", "gauge", "The version of the active; always 1.");
    let version = format!("version=\"{}\"", escaped(&status.version));
    text.sample("nodemanager_build_info", &version, 1);
    text.head(
        "nodemanager_pair_ok",
        "gauge",
        "1 when there are an active, a WATCHING standby and a keeper.",
    );
    text.sample("nodemanager_pair_ok", "", u8::from(status.pair == Pair::Ok));
    text.head("nodemanager_maintenance", "gauge", "1 while nothing is restarted by itself.");
    text.sample("nodemanager_maintenance", "", u8::from(status.maintenance));
    let age_ms = status.standby.as_ref().and_then(|standby| standby.heartbeat_age_ms);
    if let Some(age_ms) = age_ms {
        text.head(
            "nodemanager_heartbeat_age_seconds",
            "gauge",
            "How long ago the standby was heard; missing while none is WATCHING.",
        );
        text.sample("nodemanager_heartbeat_age_seconds", "", seconds(age_ms));
    }
}

fn takeovers(text: &mut Text, figures: &Figures<'_>) {
    let status = figures.status;
    text.head(
        "nodemanager_takeovers_total",
        "counter",
        "Takeovers after a death or a hang since the life of the pair began.",
    );
    text.sample("nodemanager_takeovers_total", "", status.takeovers);
    text.head(
        "nodemanager_switchovers_total",
        "counter",
        "Handovers that were asked for, by switchover, apply or upgrade.",
    );
    text.sample("nodemanager_switchovers_total", "", status.switchovers);
    let name = "nodemanager_takeover_duration_seconds";
    text.head(
        name,
        "histogram",
        "From the moment a death or hang was seen to the moment the new active served.",
    );
    let times = figures.takeover_times;
    let bounds = DURATION_BOUNDS_MS.map(seconds).into_iter().chain([String::from("+Inf")]);
    let counts = times.buckets.iter().copied().chain(std::iter::repeat(0));
    let mut sum: u64 = 0;
    for (bound, count) in bounds.zip(counts) {
        sum = sum.saturating_add(count);
        text.sample(&format!("{name}_bucket"), &format!("le=\"{bound}\""), sum);
    }
    text.sample(&format!("{name}_sum"), "", seconds(times.sum_ms));
    text.sample(&format!("{name}_count"), "", sum);
}

fn server_states(text: &mut Text, servers: &[(&ServerStatus, String)]) {
    let name = "nodemanager_server_up";
    text.head(name, "gauge", "1 while the server is RUNNING.");
    for (one, labels) in servers {
        text.sample(name, labels, u8::from(one.state == State::Running));
    }
    let name = "nodemanager_server_wanted";
    text.head(name, "gauge", "1 when the server is wanted up and is not disabled.");
    for (one, labels) in servers {
        text.sample(name, labels, u8::from(one.wanted == Wanted::Up && one.enabled));
    }
    let name = "nodemanager_server_state";
    text.head(name, "gauge", "1 for the state that the server is in, 0 for the others.");
    for (one, labels) in servers {
        for state in STATES {
            let labels = format!("{labels},state=\"{state}\"");
            text.sample(name, &labels, u8::from(one.state == state));
        }
    }
}

fn server_counts(
    text: &mut Text,
    servers: &[(&ServerStatus, String)],
    counts: &BTreeMap<String, ServerCounts>,
) {
    let name = "nodemanager_server_restarts_total";
    text.head(name, "counter", "Restarts since the life of the pair began.");
    for (one, labels) in servers {
        text.sample(name, labels, one.restarts);
    }
    let name = "nodemanager_server_exits_total";
    text.head(
        name,
        "counter",
        "Ends of its process: success (returned 0), code (another number), signal, unknown.",
    );
    for (one, labels) in servers {
        let exits = counts.get(&one.name).map(|counts| counts.exits).unwrap_or_default();
        let kinds = [
            ("success", exits.success),
            ("code", exits.code),
            ("signal", exits.signal),
            ("unknown", exits.unknown),
        ];
        for (kind, count) in kinds {
            text.sample(name, &format!("{labels},kind=\"{kind}\""), count);
        }
    }
    text.some(
        "nodemanager_server_cpu_seconds_total",
        "counter",
        "Processor time of the present run; begins anew with each start.",
        servers.iter().filter_map(|(one, labels)| Some((labels, one.cpu_seconds?))),
    );
    text.some(
        "nodemanager_server_resident_memory_bytes",
        "gauge",
        "Resident memory of its processes.",
        servers.iter().filter_map(|(one, labels)| Some((labels, one.rss_bytes?))),
    );
    text.some(
        "nodemanager_server_output_bytes_total",
        "counter",
        "Bytes moved from its FIFOs by the present active; begins anew with each active.",
        servers.iter().filter_map(|(one, labels)| {
            Some((labels, counts.get(&one.name).and_then(|counts| counts.output_bytes)?))
        }),
    );
}

/// Prometheus gives every series a label `instance` of its own, so the number has another name.
fn labels(one: &ServerStatus) -> String {
    let mut labels = format!("server=\"{}\"", escaped(&one.name));
    if !one.program.is_empty() {
        labels += &format!(",program=\"{}\"", escaped(&one.program));
    }
    if let Some(number) = one.instance {
        labels += &format!(",instance_number=\"{number}\"");
    }
    labels
}

/// A label's value, as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn seconds(ms: u64) -> String {
    format!("{}", ms as f64 / 1000.0)
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // writing to a String can't fail
    let _ = writeln!(text, "{line}");
}

/// The text as it grows.
#[derive(Default)]
struct Text(String);

impl Text {
    /// `help` has no backslash and no end of a line.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        line(&mut self.0, format_args!("# HELP {name} {help}"));
        line(&mut self.0, format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        match labels {
            "" => line(&mut self.0, format_args!("{name} {value}")),
            labels => line(&mut self.0, format_args!("{name}{{{labels}}} {value}")),
        }
    }

    /// A metric that not every server has.
    fn some<'a, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl Iterator<Item = (&'a String, V)>,
    ) {
        self.head(name, kind, help);
        for (labels, value) in samples {
            self.sample(name, labels, value);
        }
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
