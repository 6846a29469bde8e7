//! The figures as Markdown, and the goals.
//!
//! Must not judge beyond `met` and `not met`: a missed goal is no failure of the bench.

use super::death::{COLUMNS, Seen};
use super::marks::quantile;
use super::measure::{Figures, Time};
use super::output::{Logger, Moved, WRITES};
use super::peers::Kind;
use super::say;
use super::takeover::{Case, Takeovers};
use std::fs;
use std::io;

/// The table of one number of servers. A ratio to `bare` is in brackets.
pub fn figures(all: &[Figures]) -> io::Result<()> {
    let Some(first) = all.first() else { return Ok(()) };
    let bare = all.iter().find(|row| row.kind == Kind::Bare);
    say(&format!("\n### {} servers\n", first.servers))?;
    say(
        "| | start of all, ms | crash to restart p50, ms | p99, ms | storm, ms | stop of all, ms | PSS, MiB | idle: CPU, ms/s | wake-ups/s |",
    )?;
    say("|---|---|---|---|---|---|---|---|---|")?;
    for row in all {
        let ratio = |value: f64, of: fn(&Figures) -> f64| number(value, bare.map(of), row.kind);
        let time = |time: &Time, of: fn(&Figures) -> f64| match time {
            Ok(value) => ratio(*value, of),
            Err(why) => why.clone(),
        };
        let plain = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.2}") };
        let p99 = time(&row.restart_p99, |bare| ok(&bare.restart_p99));
        let cells = [
            row.kind.name().to_owned(),
            time(&row.start, |bare| ok(&bare.start)),
            time(&row.restart_p50, |bare| ok(&bare.restart_p50)),
            if p99.is_empty() { p99 } else { format!("{p99}, {} crashes", row.crashes) },
            time(&row.storm, |bare| ok(&bare.storm)),
            time(&row.stop, |bare| ok(&bare.stop)),
            ratio(row.pss_kib / 1024.0, |bare| bare.pss_kib / 1024.0),
            plain(row.idle_cpu),
            plain(row.wake_ups),
        ];
        say(&format!("| {} |", cells.join(" | ")))?;
    }
    Ok(())
}

fn ok(time: &Time) -> f64 {
    time.as_ref().copied().unwrap_or(f64::NAN)
}

fn number(value: f64, bare: Option<f64>, kind: Kind) -> String {
    if value.is_nan() {
        return String::new();
    }
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    match bare {
        Some(bare) if kind != Kind::Bare && bare > 0.0 => {
            format!("{value:.digits$} ({:.1})", value / bare)
        }
        _ => format!("{value:.digits$}"),
    }
}

pub fn takeovers(all: &[Takeovers]) -> io::Result<()> {
    say("\n### Takeover (nodemanager alone has one)\n")?;
    say(
        "| the active gets | servers | times | first answer: p50, p99, max, ms | first act of a server killed at the same time: p50, p99, max, ms | other servers that died | PSS afterwards, MiB |",
    )?;
    say("|---|---|---|---|---|---|---|")?;
    for row in all {
        let what = row.case.name();
        let times = |times: &[f64]| {
            let at = |percent| format!("{:.1}", quantile(times, percent));
            [at(50), at(99), at(100)].join(", ")
        };
        let (answered, restarted) = (times(&row.answered), times(&row.restarted));
        let (servers, count, harmed) = (row.servers, row.answered.len(), row.harmed);
        let pss = row.pss_kib as f64 / 1024.0;
        let all = format!("{what} | {servers} | {count} | {answered} | {restarted} | {harmed}");
        say(&format!("| {all} | {pss:.2} |"))?;
    }
    Ok(())
}

pub fn deaths(all: &[Seen]) -> io::Result<()> {
    say("\n### kill -9 of the supervisor, with 3 servers that write 100 lines a second\n")?;
    say(&format!("| killed | {} |", COLUMNS.join(" | ")))?;
    say(&format!("|---|{}", "---|".repeat(COLUMNS.len())))?;
    for row in all {
        let mut cells = row.cells.clone();
        cells.resize(COLUMNS.len(), String::new());
        say(&format!("| {} | {} |", row.who, cells.join(" | ")))?;
    }
    Ok(())
}

/// MiB/s of each logger, and what it costs.
pub fn output(all: &[Moved], bytes: u64) -> io::Result<()> {
    say(&format!("\n### Output: one server writes {:.0} MB of lines\n", bytes as f64 / 1e6))?;
    let columns = WRITES.map(|size| {
        format!("writes of {size} bytes: MiB/s | ratio to cat | CPU of the logger, s/GiB")
    });
    say(&format!("| | {} |\n|---{}|", columns.join(" | "), "|---".repeat(WRITES.len() * 3)))?;
    let loggers = all.iter().filter(|row| row.write == WRITES[0]).map(|row| row.logger);
    for logger in loggers {
        let cells = WRITES.map(|write| match moved(all, logger, write) {
            Some(Moved { speed: Ok(speed), cpu, .. }) => {
                let ratio = output_ratio(all, logger, write).map(|ratio| format!("{ratio:.2}"));
                format!("{speed:.0} | {} | {cpu:.3}", ratio.unwrap_or_default())
            }
            Some(Moved { speed: Err(why), .. }) => format!("{why} |  | "),
            None => " |  | ".to_owned(),
        });
        say(&format!("| {} | {} |", logger.name(), cells.join(" | ")))?;
    }
    Ok(())
}

fn moved(all: &[Moved], logger: Logger, write: usize) -> Option<&Moved> {
    all.iter().find(|row| row.logger == logger && row.write == write)
}

fn output_ratio(all: &[Moved], logger: Logger, write: usize) -> Option<f64> {
    let of = |logger| moved(all, logger, write)?.speed.as_ref().ok();
    Some(of(logger)? / of(Logger::Cat)?)
}

/// What this project wants to reach, and whether this run shows it.
pub fn goals(all: &[Figures], takeovers: &[Takeovers], output: &[Moved]) -> io::Result<()> {
    say("\n### Goals\n\n| goal | measured | |\n|---|---|---|")?;
    if !all.is_empty() {
        supervision_goals(all)?;
        takeover_goals(takeovers)?;
        size_goals(all, takeovers)?;
    }
    output_goals(output)
}

fn find(all: &[Figures], kind: Kind, servers: usize) -> Option<&Figures> {
    all.iter().find(|row| row.kind == kind && row.servers == servers)
}

/// The largest number of servers that goals are about.
fn largest(all: &[Figures]) -> usize {
    let counts = all.iter().map(|row| row.servers);
    counts.filter(|count| *count <= 1_000).max().unwrap_or_default()
}

fn supervision_goals(all: &[Figures]) -> io::Result<()> {
    let ratio = |servers, of: fn(&Figures) -> f64| {
        let (own, bare) = (find(all, Kind::Own, servers)?, find(all, Kind::Bare, servers)?);
        Some(of(own) / of(bare))
    };
    let most = largest(all);
    goal("start of 1,000: at most 1.5 × bare", ratio(1_000, |row| ok(&row.start)), 1.5)?;
    goal("storm of 1,000: at most 2 × bare", ratio(1_000, |row| ok(&row.storm)), 2.0)?;
    let p50 = format!("crash to restart with {most}, p50: at most 1.3 × bare");
    goal(&p50, ratio(most, |row| ok(&row.restart_p50)), 1.3)?;
    let p99 = format!("crash to restart with {most}, p99: at most 2 × bare");
    goal(&p99, ratio(most, |row| ok(&row.restart_p99)), 2.0)?;
    let peers = all.iter().filter(|row| row.servers == most);
    let peers = peers.filter(|row| !matches!(row.kind, Kind::Bare | Kind::Own));
    let quickest = peers.map(|row| ok(&row.restart_p50)).fold(f64::NAN, f64::min);
    let own = find(all, Kind::Own, most).map(|own| ok(&own.restart_p50) / quickest);
    let text = format!("crash to restart with {most}, p50: below 1.0 × the quickest peer");
    goal(&text, own, 1.0)
}

fn takeover_goals(takeovers: &[Takeovers]) -> io::Result<()> {
    for (servers, limit_ms) in [(1_000, 10.0), (10_000, 100.0)] {
        for (case, and) in [(Case::Kill, ""), (Case::KillPiped, ", output through FIFOs")] {
            let row = takeovers.iter().find(|row| row.servers == servers && row.case == case);
            let text = format!("takeover with {servers}{and}, p99: at most {limit_ms} ms");
            goal(&text, row.map(|row| quantile(&row.answered, 99)), limit_ms)?;
        }
    }
    Ok(())
}

fn size_goals(all: &[Figures], takeovers: &[Takeovers]) -> io::Result<()> {
    let (own, most) = (find(all, Kind::Own, 1_000), largest(all));
    goal("PSS with 1,000: at most 6 MiB", own.map(|own| own.pss_kib / 1024.0), 6.0)?;
    let is_piped = |row: &&Takeovers| row.servers == 1_000 && row.case == Case::KillPiped;
    let piped = takeovers.iter().find(is_piped).map(|row| row.pss_kib as f64 / 1024.0);
    goal("the same, output through FIFOs, after takeovers", piped, 6.0)?;
    let idle = find(all, Kind::Own, most).map(|own| own.wake_ups);
    goal(&format!("idle with {most}: at most 10 wake-ups/s"), idle, 10.0)
}

fn output_goals(all: &[Moved]) -> io::Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    for write in WRITES {
        let text = format!("output through the FIFO in writes of {write}: at least 80 % of cat");
        let ratio = output_ratio(all, Logger::Own, write);
        judged(&text, ratio.map(|ratio| ratio * 100.0), |percent| percent >= 80.0)?;
        let peers = all.iter().filter(|row| row.write == write);
        let peers = peers
            .filter(|row| !matches!(row.logger, Logger::Cat | Logger::CatOfFifo | Logger::Own));
        let least = peers.map(|row| row.cpu).fold(f64::NAN, f64::min);
        let own = moved(all, Logger::Own, write).map(|own| own.cpu / least);
        let text = format!("the same, CPU: below 1.0 × any peer's logger (writes of {write})");
        judged(&text, own, |ratio| ratio < 1.0)?;
    }
    Ok(())
}

fn goal(text: &str, measured: Option<f64>, limit: f64) -> io::Result<()> {
    judged(text, measured, |value| value <= limit)
}

fn judged(text: &str, measured: Option<f64>, is_met: impl Fn(f64) -> bool) -> io::Result<()> {
    let (value, met) = match measured.filter(|value| !value.is_nan()) {
        None => ("not measured".to_owned(), ""),
        Some(value) => (format!("{value:.2}"), if is_met(value) { "met" } else { "not met" }),
    };
    say(&format!("| {text} | {value} | {met} |"))
}

pub fn notes(kinds: &[Kind], root: &super::place::Root) -> io::Result<()> {
    say("\n### Settings and versions\n")?;
    for kind in kinds {
        let version = match kind.path(root) {
            None => "not installed".to_owned(),
            Some(_) => kind.version(root),
        };
        say(&format!("* {} ({version}): {}", kind.name(), kind.note()))?;
    }
    Ok(())
}

pub fn machine() -> io::Result<()> {
    let first = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let (kernel, load) = (first("/proc/sys/kernel/osrelease"), first("/proc/loadavg"));
    let user = if nix::unistd::geteuid().is_root() { "root" } else { "a user" };
    say(&format!("{cores} cores, Linux {kernel}, {build} build, as {user}; load average {load}"))
}
