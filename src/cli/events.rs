//! The `events` command: prints what happened, from the history in `stateDir`, and follows it. It reads
//! the file itself, so it works without a running pair.
//!
//! Must not write to it. It may block: it is no part of the pair's loop.

mod follow;

use super::logs::reader_is_gone;
use super::{Failure, exit, printable};
use crate::config::{Config, ServerConfig};
use crate::events::{Record, path_in};
use crate::names::{self, Known};
use follow::Follower;
use glob::Pattern;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// Events shown when no number is asked for.
const DEFAULT_EVENTS: usize = 20;
/// More than any history may have.
const BYTES_MAX: u64 = 128 << 20;

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub follow: bool,
    /// So many from the end; where nothing is said all with `since`, else 20.
    pub lines: Option<usize>,
    pub since: Option<Timestamp>,
    /// Patterns of kinds.
    pub kinds: Vec<String>,
    /// Of these servers only.
    pub names: Vec<String>,
    pub json: bool,
    pub has_colours: bool,
}

/// Shows them; gives the exit status.
pub fn show(config: &Config, options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let path = path_in(&config.node.state_dir);
    let unreadable = |error: io::Error| {
        Failure::new(exit::FAILED, format!("cannot read {}: {error}", path.display()))
    };
    let (mut follower, records) = match follow::begin(&path, BYTES_MAX) {
        Ok(begun) => begun,
        Err(error) => return unreadable(error).print(err),
    };
    let filter = match Filter::new(config, options, &records) {
        Ok(filter) => filter,
        Err(failure) => return failure.print(err),
    };
    let chosen: Vec<&Record> = records.iter().filter(|record| filter.takes(record)).collect();
    let most = options.lines.unwrap_or(match options.since {
        Some(_) => usize::MAX,
        None => DEFAULT_EVENTS,
    });
    let shown = chosen.iter().skip(chosen.len().saturating_sub(most));
    let printed = shown.into_iter().try_for_each(|record| print(record, options, out));
    let followed = printed.and_then(|()| out.flush()).and_then(|()| match options.follow {
        true => go_on(&mut follower, &filter, options, out),
        false => Ok(()),
    });
    match followed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => unreadable(error).print(err),
        _ => exit::DONE,
    }
}

fn go_on(
    follower: &mut Follower,
    filter: &Filter,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    while !reader_is_gone() {
        for record in follower.look()? {
            if filter.takes(&record) {
                print(&record, options, out)?;
            }
        }
        out.flush()?;
    }
    Ok(())
}

fn print(record: &Record, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    if options.json {
        return out.write_all(record.line().as_bytes());
    }
    let time = record.time.parse::<Timestamp>().map(|time| {
        let local = time.to_zoned(TimeZone::system());
        local.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
    });
    let time = time.unwrap_or_else(|_| record.time.clone());
    let server = record.server.as_deref().unwrap_or("-");
    let (kind, text) = (printable(&record.kind), printable(&record.text));
    let (colour, plain) = match (options.has_colours, colour(&record.kind)) {
        (true, Some(colour)) => (format!("\x1b[{colour}m"), "\x1b[0m"),
        _ => (String::new(), ""),
    };
    let (time, server) = (printable(&time), printable(server));
    writeln!(out, "{time}  {colour}{kind:<22}{plain}  {server:<12}  {text}")
}

/// Red for what is bad, yellow for what may become so, green for what is well again.
fn colour(kind: &str) -> Option<u8> {
    match kind {
        "server-running" | "server-recovered" | "standby-watching" | "pair-started" => Some(32),
        "takeover" | "server-backoff" | "server-need-lost" | "server-ended" => Some(33),
        kind => ["fail", "down", "lost", "hung", "hangs", "unhealthy", "dropped", "not-"]
            .iter()
            .any(|word| kind.contains(word))
            .then_some(31),
    }
}

/// Which events are meant.
struct Filter {
    since: Option<Timestamp>,
    kinds: Vec<Pattern>,
    /// `None`: of all servers, and of the pair.
    servers: Option<BTreeSet<String>>,
    /// For servers that are in neither the configuration nor the history yet.
    patterns: Vec<Pattern>,
}

impl Filter {
    fn new(config: &Config, options: &Options, records: &[Record]) -> Result<Filter, Failure> {
        let pattern = |text: &String| {
            Pattern::new(text).map_err(|error| {
                Failure::new(exit::USAGE, format!("{text:?} is no pattern: {error}"))
            })
        };
        let kinds = options.kinds.iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
        let mut filter =
            Filter { since: options.since, kinds, servers: None, patterns: Vec::new() };
        if options.names.is_empty() {
            return Ok(filter);
        }
        // Those that are not there any more have a history all the same.
        let mut known: Vec<Known<'_>> = config.servers.iter().map(ServerConfig::known).collect();
        let configured: BTreeSet<&str> = known.iter().map(|one| one.name).collect();
        let told: BTreeSet<&str> = records.iter().filter_map(|one| one.server.as_deref()).collect();
        known.extend(told.difference(&configured).map(|name| Known::by_name(name)));
        let chosen = names::select(&options.names, &known)
            .map_err(|text| Failure::new(exit::UNKNOWN_NAME, text))?;
        let names = chosen.into_iter().filter_map(|at| Some(known.get(at)?.name.to_owned()));
        filter.servers = Some(names.collect());
        let patterns = options.names.iter().filter(|name| name.contains('*'));
        filter.patterns = patterns.map(pattern).collect::<Result<Vec<_>, _>>()?;
        Ok(filter)
    }

    fn takes(&self, record: &Record) -> bool {
        let is_kind =
            self.kinds.is_empty() || self.kinds.iter().any(|kind| kind.matches(&record.kind));
        let is_new = self
            .since
            .is_none_or(|since| record.time.parse::<Timestamp>().is_ok_and(|time| time >= since));
        let is_of = self.servers.as_ref().is_none_or(|servers| {
            record.server.as_ref().is_some_and(|name| {
                servers.contains(name) || self.patterns.iter().any(|one| one.matches(name))
            })
        });
        is_kind && is_new && is_of
    }
}

/// The newest events without a pair; for tests of what is shown.
#[cfg(test)]
fn shown(config: &Config, options: &Options) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(show(config, options, &mut out, &mut err), exit::DONE);
    String::from_utf8(out).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Draft, Kind};
    use crate::output::test_dir::TestDir;
    use std::fs;

    #[test]
    fn events_are_chosen_by_time_kind_number_and_server() {
        let dir = TestDir::new();
        let text = "[nodeManager]\nstandbyPort = 7731\n[[server]]\nname = \"web\"\ncommand = \"x\"\ninstances = 2\n";
        let config = crate::config::parse(text, &dir.path("c.toml"), &dir.path("")).unwrap();
        let path = path_in(&config.node.state_dir);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let line = |seq: u64, kind, server: &str| {
            let time = format!("2026-11-21T19:44:0{seq}.000Z");
            Record::new(seq, time, Draft::new(kind, "x").of(server)).line()
        };
        let all = line(1, Kind::ServerRunning, "web@1")
            + &line(2, Kind::ServerFailed, "web@2")
            + &line(3, Kind::ServerFailed, "gone");
        fs::write(&path, all + "{\"seq\":4,").unwrap();
        let json = Options { json: true, ..Options::default() };
        let seqs = |options: &Options| -> Vec<u64> {
            shown(&config, options)
                .lines()
                .map(|line| serde_json::from_str::<Record>(line).unwrap().seq)
                .collect()
        };
        let names = |names: &[&str]| Options {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..json.clone()
        };
        assert_eq!(seqs(&json), [1, 2, 3]);
        assert_eq!(seqs(&Options { lines: Some(1), ..json.clone() }), [3]);
        let since = Some("2026-11-21T19:44:02Z".parse().unwrap());
        assert_eq!(seqs(&Options { since, ..json.clone() }), [2, 3]);
        assert_eq!(seqs(&Options { kinds: vec!["*-failed".into()], ..json.clone() }), [2, 3]);
        assert_eq!(seqs(&names(&["web"])), [1, 2]);
        assert_eq!(seqs(&names(&["gone", "web@1"])), [1, 3]);
        let text = shown(&config, &Options { lines: Some(1), ..Options::default() });
        assert!(text.contains("  server-failed           gone          x\n"), "{text:?}");
        let mut err = Vec::new();
        assert_eq!(
            show(&config, &names(&["nobody"]), &mut Vec::new(), &mut err),
            exit::UNKNOWN_NAME
        );
    }
}
