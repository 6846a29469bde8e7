//! How the figures grow with the number of servers, as charts (`--plots`).
//!
//! Must draw what the tables are printed from, and measure nothing itself.

use super::marks::quantile;
use super::measure::{Figures, Time};
use super::peers::{self, Kind};
use super::plot::{Line, Plot, svg};
use super::takeover::{Case, Takeovers};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ACROSS: &str = "servers";

/// Writes the files into `dir`, which is made where it is missing, and gives their names.
///
/// # Errors
/// The directory or a file cannot be written.
pub fn write(dir: &Path, all: &[Figures], takeovers: &[Takeovers]) -> io::Result<Vec<PathBuf>> {
    let unwritable =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(unwritable)?;
    let plots = [
        ("start", "Start of all servers", "ms", lines(all, |row| plain(&row.start))),
        ("pss", "Memory of the supervisor", "PSS, MiB", lines(all, |row| row.pss_kib / 1024.0)),
        ("restart", "Crash to restart, median", "ms", lines(all, |row| plain(&row.restart_p50))),
        ("takeover", "kill -9 of the active to the first answer", "ms", answers(takeovers)),
    ];
    let mut files = Vec::new();
    for (name, title, up, lines) in plots {
        // Nobody was measured: what an earlier run drew stays.
        if lines.is_empty() {
            continue;
        }
        let plot =
            Plot { title: title.to_owned(), across: ACROSS.to_owned(), up: up.to_owned(), lines };
        let path = dir.join(format!("{name}.svg"));
        fs::write(&path, svg(&plot)).map_err(unwritable)?;
        files.push(path);
    }
    Ok(files)
}

/// One for each supervisor that has a figure.
fn lines(all: &[Figures], of: fn(&Figures) -> f64) -> Vec<Line> {
    let line = |(look, kind): (usize, Kind)| {
        let rows = all.iter().filter(|row| row.kind == kind);
        let points = rows.map(|row| (row.servers as f64, of(row)));
        let mut points: Vec<_> = points.filter(|(_, value)| value.is_finite()).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name: kind.name().to_owned(), look, is_thick: kind == Kind::Own, points }
    };
    let lines = peers::ALL.into_iter().enumerate().map(line);
    lines.filter(|line| !line.points.is_empty()).collect()
}

/// Median and p99 of the takeovers after a death; hangs only show the heartbeatTimeout.
fn answers(all: &[Takeovers]) -> Vec<Line> {
    let line = |(look, name, percent, is_thick): (usize, &str, usize, bool)| {
        let rows = all.iter().filter(|row| row.case == Case::Kill && !row.answered.is_empty());
        let mut points: Vec<_> =
            rows.map(|row| (row.servers as f64, quantile(&row.answered, percent))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Line { name: name.to_owned(), look, is_thick, points }
    };
    let lines = [(1, "median", 50, true), (2, "p99", 99, false)].into_iter().map(line);
    lines.filter(|line| !line.points.is_empty()).collect()
}

fn plain(time: &Time) -> f64 {
    time.as_ref().copied().unwrap_or(f64::NAN)
}
