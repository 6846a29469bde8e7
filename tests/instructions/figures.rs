//! The figures that are written down: read, written anew, and as the table of docs/PERFORMANCE.md.
//!
//! Must not measure.

use crate::callgrind::Counted;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In percent. Counts of the same program in the same environment are the same; what a change elsewhere moves
/// (the place of the stack) was less than 1; what another split of the crate by the compiler moves is not known.
const TOLERANCE: f64 = 10.0;
/// Made with anything else.
const TOLERANCE_ELSEWHERE: f64 = 25.0;
/// Between these lines of the manual is the table.
const BEGIN: &str = "<!-- figures: NM_RENEW=1 cargo test --test instructions -->\n";
const END: &str = "<!-- end of figures -->\n";

/// What is written down.
#[derive(Debug, Deserialize)]
pub struct Figures {
    /// See [`made_with`].
    pub made_with: String,
    path: Vec<Figure>,
}

/// The instructions of one path.
#[derive(Debug, Deserialize)]
struct Figure {
    name: String,
    with_100_servers: u64,
    with_1000_servers: u64,
    /// Where it is not `TOLERANCE`.
    tolerance_percent: Option<f64>,
}

fn below_home(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn file() -> PathBuf {
    below_home("tests/instructions/figures.toml")
}

impl Figures {
    pub fn read() -> Figures {
        let text = fs::read_to_string(file()).expect("tests/instructions/figures.toml");
        toml::from_str(&text).expect("tests/instructions/figures.toml is as this test writes it")
    }

    /// What is wrong with the counts, one line each.
    pub fn differing(&self, counts: &BTreeMap<String, [Counted; 2]>) -> Vec<String> {
        let is_elsewhere = self.made_with != made_with();
        let written: Vec<&String> = self.path.iter().map(|figure| &figure.name).collect();
        let missing = counts.keys().filter(|name| !written.contains(name));
        let mut wrong: Vec<String> = missing.map(|name| format!("{name}: no figure")).collect();
        for figure in &self.path {
            let Some([few, many]) = counts.get(&figure.name) else {
                wrong.push(format!("{}: there is no such path any more", figure.name));
                continue;
            };
            let own = figure.tolerance_percent.unwrap_or(TOLERANCE);
            let tolerance = if is_elsewhere { own.max(TOLERANCE_ELSEWHERE) } else { own };
            let pairs =
                [(100, figure.with_100_servers, few), (1_000, figure.with_1000_servers, many)];
            wrong.extend(pairs.into_iter().filter_map(|(servers, expected, found)| {
                let text = judge(expected, found, tolerance)?;
                Some(format!("{} with {servers} servers: {text}", figure.name))
            }));
        }
        wrong
    }
}

/// `None`: as expected.
pub fn judge(expected: u64, found: &Counted, tolerance: f64) -> Option<String> {
    let percent = (found.instructions as f64 / expected as f64 - 1.0) * 100.0;
    let what = match percent {
        _ if percent.abs() <= tolerance + 1e-9 => return None,
        _ if percent > 0.0 => format!("look where they are: {}", found.annotate()),
        _ => "renew the figures: NM_RENEW=1 cargo test --test instructions".to_string(),
    };
    let found = found.instructions;
    Some(format!(
        "{found} instructions instead of {expected} ({percent:+.1} %, {tolerance} % allowed); {what}"
    ))
}

/// Compiler, C library, and what that chooses its copying by: what the counts depend on.
pub fn made_with() -> String {
    let first_line = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
    };
    let [rustc, ldd] = ["rustc", "ldd"].map(|program| first_line(program).unwrap_or_default());
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &&str| flags.split_whitespace().any(|own| own == *flag);
    let flags: Vec<&str> = ["avx2", "erms", "pclmulqdq"].into_iter().filter(has).collect();
    format!("{rustc}; {ldd}; a processor with {}", flags.join(", "))
}

/// Writes the counts down, here and in the manual.
pub fn renew(counts: &BTreeMap<String, [Counted; 2]>) {
    let old: BTreeMap<String, f64> = fs::read_to_string(file())
        .ok()
        .and_then(|text| toml::from_str::<Figures>(&text).ok())
        .map(|old| old.path.into_iter().filter_map(|one| Some((one.name, one.tolerance_percent?))))
        .into_iter()
        .flatten()
        .collect();
    let mut text = format!(
        "# Instructions of one walk of each path. `NM_RENEW=1 cargo test --test instructions` writes them anew.\n\
         made_with = {:?}\n",
        made_with()
    );
    for (name, [few, many]) in counts {
        let (few, many) = (few.instructions, many.instructions);
        let _ = write!(
            text,
            "\n[[path]]\nname = {name:?}\nwith_100_servers = {few}\nwith_1000_servers = {many}\n"
        );
        if let Some(percent) = old.get(name) {
            let _ = writeln!(text, "tolerance_percent = {percent:?}");
        }
    }
    fs::write(file(), text).expect("the figures can be written");
    let (page, [before, _, after]) = (manual(), parts(&manual()).map(str::to_owned));
    let table = table(&Figures::read());
    let renewed = format!("{before}{BEGIN}{table}{END}{after}");
    if renewed != page {
        fs::write(below_home("docs/PERFORMANCE.md"), renewed).expect("the manual can be written");
    }
}

fn manual() -> String {
    fs::read_to_string(below_home("docs/PERFORMANCE.md")).expect("docs/PERFORMANCE.md")
}

/// What is before, in and behind the table.
fn parts(page: &str) -> [&str; 3] {
    let (before, rest) = page.split_once(BEGIN).expect("docs/PERFORMANCE.md has the figures");
    let (table, after) = rest.split_once(END).expect("the figures in docs/PERFORMANCE.md end");
    [before, table, after]
}

/// The table in the manual says what the figures say.
pub fn is_in_manual(figures: &Figures) -> bool {
    parts(&manual())[1] == table(figures)
}

fn table(figures: &Figures) -> String {
    let mut text = format!(
        "With {}; the profile of `cargo test`:\n\n| path | with 100 servers | with 1,000 servers | for each server more |\n|---|---|---|---|\n",
        figures.made_with
    );
    for one in &figures.path {
        let (few, many) = (one.with_100_servers, one.with_1000_servers);
        let each = grouped(many.saturating_sub(few) / 900);
        let _ = writeln!(text, "| {} | {} | {} | {each} |", one.name, grouped(few), grouped(many));
    }
    text
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
