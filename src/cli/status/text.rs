//! The status as text: the pair's two lines, the table, the summary, and more about one server.
//!
//! Must not decide anything: the exit status is decided beside it.

use super::View;
use crate::api::{ExitKind, LastExit, Pair, ServerStatus, Standby, StandbyState, State, Status};
use crate::cli::printable;
use crate::core::Wanted;
use jiff::Timestamp;
use std::fmt::Write as _;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// So many names of servers that are not up are in the summary.
const NAMES_SHOWN: usize = 8;
const TITLES: [&str; 8] = ["NAME", "STATE", "PID", "UPTIME", "RST", "CPU", "MEM", "DETAIL"];
/// Columns of numbers, aligned to the right.
const RIGHT: std::ops::Range<usize> = 4..7;
const DETAIL: usize = 7;

/// The whole text. `by_name`: the servers were asked for, so more is said about each.
pub(super) fn render(status: &Status, by_name: bool, view: View, now: Timestamp) -> String {
    let mut text = String::new();
    let with_header = !view.no_header;
    if view.pair_only || (with_header && !by_name) {
        pair_lines(&mut text, status, now);
    }
    if view.pair_only {
        return text;
    }
    write_table(&mut text, &status.servers, view, now);
    if by_name && with_header {
        status.servers.iter().for_each(|server| about_server(&mut text, server, now));
    } else if with_header {
        text.push_str(&summary(&status.servers));
    }
    text
}

/// The two lines about the pair.
pub(in crate::cli) fn pair_lines(text: &mut String, status: &Status, now: Timestamp) {
    let pair = match status.pair {
        Pair::Ok => "pair OK",
        Pair::Degraded => "pair DEGRADED",
        Pair::Single => "pair SINGLE",
        Pair::Takeover => "pair TAKEOVER",
        Pair::Down => "no pair runs; start it with `nodemanager run`",
    };
    let _ = write!(text, "{} {}: {pair}", printable(&status.node), printable(&status.version));
    if status.pair == Pair::Down {
        text.push('\n');
        return;
    }
    let up = status.since.as_deref().and_then(|since| age(since, now));
    let takeovers = counted(status.takeovers, "takeover");
    let _ = write!(text, "; up {}, {takeovers}", up.unwrap_or_else(unknown));
    if let Some(last) = &status.last_takeover {
        let ago = age(&last.at, now).unwrap_or_else(unknown);
        let _ = write!(text, ", last {ago} ago ({} ms)", last.ms);
    }
    if status.switchovers > 0 {
        let _ = write!(text, ", {}", counted(status.switchovers, "switchover"));
    }
    if status.maintenance {
        text.push_str("; maintenance ON");
    }
    let active = status.active.as_ref().map(|active| {
        let up = age(&active.since, now).unwrap_or_else(unknown);
        format!("active {} up {up}", active.pid)
    });
    let keeper = status.keeper.as_ref().map(|keeper| {
        format!("keeper {}{}", keeper.pid, if keeper.joined { " (joined)" } else { "" })
    });
    let active = active.as_deref().unwrap_or("no active");
    let keeper = keeper.as_deref().unwrap_or("no keeper");
    let standby = standby_words(status.standby.as_ref());
    let _ = writeln!(text, "\n  {active}   {standby}   {keeper}");
}

fn standby_words(standby: Option<&Standby>) -> String {
    let Some(standby) = standby else { return "no standby (standbyPort is not set)".to_owned() };
    let state = match standby.state {
        StandbyState::Starting => "STARTING",
        StandbyState::Watching => "WATCHING",
        StandbyState::Down => "DOWN",
    };
    let pid = standby.pid.map(|pid| format!(" {pid}")).unwrap_or_default();
    let heard = standby.heartbeat_age_ms.map(|ms| format!(" {ms} ms")).unwrap_or_default();
    let reason = standby.reason.as_deref().map(|reason| format!(" ({})", printable(reason)));
    format!("standby{pid} {state}{heard}{}", reason.unwrap_or_default())
}

/// The rows of servers, without colours.
pub(in crate::cli) struct Table {
    /// One line each; with titles the first one is theirs.
    pub lines: Vec<String>,
    /// The columns of the terminal that a state takes.
    pub state: std::ops::Range<usize>,
}

/// Rows of which no more than the details are cut to `columns`.
pub(in crate::cli) fn table(
    servers: &[ServerStatus],
    with_titles: bool,
    columns: Option<usize>,
    now: Timestamp,
) -> Table {
    let titles = with_titles.then(|| TITLES.map(str::to_owned));
    let rows: Vec<_> =
        titles.into_iter().chain(servers.iter().map(|server| row(server, now))).collect();
    let widths: [usize; DETAIL] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
    });
    let detail_at = widths.iter().map(|width| width + 2).sum();
    let line_of = |row: &[String; 8]| {
        let mut line = String::new();
        for (column, (cell, wide)) in row.iter().zip(widths).enumerate() {
            let room = " ".repeat(wide.saturating_sub(width(cell)));
            let _ = match RIGHT.contains(&column) {
                true => write!(line, "{room}{cell}  "),
                false => write!(line, "{cell}{room}  "),
            };
        }
        let detail = row.last().map(String::as_str).unwrap_or_default();
        line.push_str(&cut(detail, columns.map(|all| all.saturating_sub(detail_at))));
        line.trim_end().to_owned()
    };
    let [name, state, ..] = widths;
    Table { lines: rows.iter().map(line_of).collect(), state: name + 2..name + 2 + state }
}

fn write_table(text: &mut String, servers: &[ServerStatus], view: View, now: Timestamp) {
    let with_titles = !view.no_header;
    let table = table(servers, with_titles, view.columns, now);
    let states = servers.iter().map(|server| Some(server.state));
    let states = with_titles.then_some(None).into_iter().chain(states);
    for (line, state) in table.lines.iter().zip(states) {
        let _ = match state.filter(|_| view.has_colours) {
            Some(state) => {
                let [before, shown, behind] = parts(line, &table.state);
                let colour = colour(state);
                writeln!(text, "{before}\x1b[{colour}m{shown}\x1b[0m{behind}")
            }
            None => writeln!(text, "{line}"),
        };
    }
}

/// What is before, in, and behind these columns of the terminal.
pub(in crate::cli) fn parts<'a>(line: &'a str, columns: &std::ops::Range<usize>) -> [&'a str; 3] {
    let (start, end) = (byte_at(line, columns.start), byte_at(line, columns.end));
    let (before, rest) = line.split_at_checked(start).unwrap_or((line, ""));
    let (shown, behind) = rest.split_at_checked(end.saturating_sub(start)).unwrap_or((rest, ""));
    [before, shown, behind]
}

/// Where the letters end that fit into so many columns.
pub(in crate::cli) fn byte_at(line: &str, columns: usize) -> usize {
    let mut used = 0;
    let fits = |letter: &char| {
        used += letter.width().unwrap_or(0);
        used <= columns
    };
    line.chars().take_while(fits).map(char::len_utf8).sum()
}

/// Green for what is well, yellow for what is on its way, red for what was given up, dim for the
/// rest: the number of a terminal's attribute.
pub(in crate::cli) fn colour(state: State) -> u8 {
    match state {
        State::Running => 32,
        State::Starting
        | State::Stopping
        | State::Waiting
        | State::Backoff
        | State::Draining
        | State::Unmanaged => 33,
        State::Failed => 31,
        State::Stopped | State::Exited => 2,
    }
}

fn row(server: &ServerStatus, now: Timestamp) -> [String; 8] {
    let process = server.pid.map(|pid| (pid, server.started_at.as_deref()));
    let ran_ms = process.and_then(|(_, at)| at).and_then(|at| age_ms(at, now));
    let cpu = server.cpu_seconds.zip(ran_ms).filter(|(_, ran_ms)| *ran_ms > 0);
    [
        printable(&server.name),
        server.state.to_string(),
        process.map_or_else(unknown, |(pid, _)| pid.to_string()),
        ran_ms.map_or_else(unknown, words),
        server.restarts.to_string(),
        cpu.map_or_else(unknown, |(used, ran)| format!("{:.0}%", used * 100_000.0 / ran as f64)),
        server.rss_bytes.map_or_else(unknown, size),
        printable(&server.detail),
    ]
}

/// How many servers are how.
pub(in crate::cli) fn summary(servers: &[ServerStatus]) -> String {
    if servers.is_empty() {
        return "no servers configured\n".to_owned();
    }
    let (fine, not_up): (Vec<_>, Vec<_>) = servers.iter().partition(|one| one.is_as_wanted());
    let count = |test: fn(&ServerStatus) -> bool| fine.iter().filter(|one| test(one)).count();
    let up = count(|one| one.state == State::Running);
    let unmanaged = count(|one| one.state == State::Unmanaged);
    let exited = count(|one| one.enabled && one.state == State::Exited);
    let disabled = count(|one| !one.enabled && !has_own_count(one.state));
    let down = count(|one| one.enabled && one.state != State::Exited && !has_own_count(one.state));
    let mut text = format!("{}: {up} up", counted(servers.len() as u64, "server"));
    if !not_up.is_empty() {
        let verb = if not_up.len() == 1 { "is" } else { "are" };
        let mut names: Vec<_> =
            not_up.iter().take(NAMES_SHOWN).map(|one| printable(&one.name)).collect();
        if let Some(more) = not_up.len().checked_sub(NAMES_SHOWN).filter(|more| *more > 0) {
            names.push(format!("{more} more"));
        }
        let count = not_up.len();
        let _ = write!(text, ", {count} wanted up but {verb} not ({})", names.join(", "));
    }
    let rest =
        [(unmanaged, "unmanaged"), (exited, "ended well"), (down, "down"), (disabled, "disabled")];
    for (count, what) in rest.into_iter().filter(|(count, _)| *count > 0) {
        let _ = write!(text, ", {count} {what}");
    }
    text.push('\n');
    text
}

/// Up and unmanaged servers are counted as such, enabled or not.
fn has_own_count(state: State) -> bool {
    matches!(state, State::Running | State::Unmanaged)
}

/// More than the row of a server.
pub(in crate::cli) fn about_server(text: &mut String, server: &ServerStatus, now: Timestamp) {
    let wanted = match server.wanted {
        Wanted::Up => "up",
        Wanted::Down => "down",
    };
    let disabled = if server.enabled { "" } else { ", disabled" };
    let _ = writeln!(
        text,
        "\n{}: wanted {wanted}{disabled}; {}, {} in the current window",
        printable(&server.name),
        counted(server.restarts, "restart"),
        counted(server.fail_count, "failure"),
    );
    let adopted = (server.adopted && server.pid.is_some())
        .then(|| "it runs since before the last takeover".to_owned());
    let command = (!server.command.is_empty()).then(|| command_line(&server.command));
    let lines = [
        ("reason", server.reason.clone()),
        ("waits for", server.waits_for.clone()),
        ("next try", server.next_try_at.clone()),
        ("says", server.status_text.clone()),
        ("adopted", adopted),
        ("command", command),
        ("last exit", server.last_exit.as_ref().map(|exit| exit_words(exit, now))),
    ];
    for (what, value) in lines {
        if let Some(value) = value {
            let _ = writeln!(text, "  {what}: {}", printable(&value));
        }
    }
    if !server.last_lines.is_empty() {
        text.push_str("  last output:\n");
    }
    for line in &server.last_lines {
        let _ = writeln!(text, "    {}", printable(line));
    }
    let _ = writeln!(text, "  next: {}", next_command(server));
}

/// As it can be typed into a shell.
fn command_line(command: &[String]) -> String {
    let words = command.iter().map(String::as_str);
    shlex::try_join(words).unwrap_or_else(|_| command.join(" "))
}

fn exit_words(exit: &LastExit, now: Timestamp) -> String {
    let what = match (exit.kind, exit.code, exit.signal.as_deref()) {
        (ExitKind::Code, Some(code), _) => format!("code {code}"),
        (ExitKind::Signal, _, Some(signal)) => signal.to_owned(),
        (ExitKind::Code | ExitKind::Signal | ExitKind::Unknown, _, _) => "unknown".to_owned(),
    };
    let ago = age(&exit.at, now).map(|age| format!("{age} ago, ")).unwrap_or_default();
    format!("{what} after {}; {ago}{}", short(exit.ran_ms), exit.at)
}

/// The command that makes most sense in this state.
fn next_command(server: &ServerStatus) -> String {
    let name = printable(&server.name);
    match server.state {
        State::Stopped if !server.enabled => format!("nodemanager enable --now {name}"),
        State::Stopped | State::Exited => format!("nodemanager start {name}"),
        State::Running => format!("nodemanager logs -f {name}"),
        State::Starting | State::Waiting => format!("nodemanager wait --ready {name}"),
        State::Stopping | State::Draining => format!("nodemanager wait --down {name}"),
        State::Backoff => format!("nodemanager logs -n 50 {name}"),
        State::Failed => {
            format!(
                "nodemanager logs -n 50 {name}, and when it is mended: nodemanager reset {name}"
            )
        }
        State::Unmanaged => "nodemanager run".to_owned(),
    }
}

fn unknown() -> String {
    "-".to_owned()
}

/// In columns of a terminal.
fn width(text: &str) -> usize {
    text.width()
}

/// At most `room` columns of `text`, which then ends in dots.
pub(in crate::cli) fn cut(text: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if width(text) > room => {
            let kept = text.get(..byte_at(text, room.saturating_sub(3))).unwrap_or_default();
            let dots = ".".repeat(room.min(3));
            format!("{kept}{dots}")
        }
        Some(_) | None => text.to_owned(),
    }
}

fn counted(count: u64, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Milliseconds from `since` (RFC 3339) to `now`; a clock that was set back counts as 0.
fn age_ms(since: &str, now: Timestamp) -> Option<u64> {
    let since: Timestamp = since.parse().ok()?;
    Some(u64::try_from(now.as_millisecond().saturating_sub(since.as_millisecond())).unwrap_or(0))
}

fn age(since: &str, now: Timestamp) -> Option<String> {
    age_ms(since, now).map(words)
}

/// The two largest units: `12d04h`, `4h05m`, `3m20s`, `8s`.
fn words(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        (_, _, _) => format!("{days}d{:02}h", hours % 24),
    }
}

/// A length of time that may be less than a second.
fn short(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { words(ms) }
}

/// Bytes in units of 1024: `84M`, `1.2G`.
fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut unit = "B";
    for larger in ["K", "M", "G", "T"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    match unit {
        "G" | "T" if amount < 10.0 => format!("{amount:.1}{unit}"),
        _ => format!("{amount:.0}{unit}"),
    }
}
