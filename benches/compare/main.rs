//! This project beside its peers and a supervisor without features, on the same machine and with
//! the same servers: `cargo bench --bench compare`.
//!
//!     cargo bench --bench compare                      1, 100 and 1,000 servers
//!     cargo bench --bench compare -- --quick           1 and 100, in two minutes
//!     cargo bench --bench compare -- --all             10,000 too
//!     cargo bench --bench compare -- --servers 10,500  these numbers of servers (after --quick)
//!     cargo bench --bench compare -- --peers bare,s6   only these
//!     cargo bench --bench compare -- --deaths          only what a kill -9 of the supervisor does
//!     cargo bench --bench compare -- --output          only how fast output comes to log files
//!     cargo bench --bench compare -- --plots DIR       charts over the number of servers, as SVG
//!     cargo bench --bench compare -- --install         installs the peers first (Debian; as root)
//!
//! Prints Markdown; docs/PERFORMANCE.md has the figures and says how they are to be read. Must not
//! fail because of a time, and leaves no process and no file behind.

#[path = "../client.rs"]
mod client;
mod death;
mod growth;
mod install;
mod marks;
mod measure;
mod memory;
mod output;
mod peers;
mod place;
mod plot;
mod report;
mod running;
#[path = "../../tests/support/mod.rs"]
mod support;
mod takeover;

use measure::Effort;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use peers::Kind;
use place::Root;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use takeover::Case;

/// What the command line asks for.
struct Asked {
    kinds: Vec<Kind>,
    servers: Vec<usize>,
    effort: Effort,
    takeovers: usize,
    hangs: usize,
    install: bool,
    deaths: bool,
    /// What the server writes whose output is measured; none: it is not.
    output_bytes: Option<u64>,
    /// Where the charts go.
    plots: Option<PathBuf>,
    limit: Duration,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.iter().any(|word| word == "--bench") {
        let _ = say("only `cargo bench --bench compare` measures");
        return ExitCode::SUCCESS;
    }
    let done = asked(&words).map_err(io::Error::other).and_then(|asked| compare(&asked));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One line (or more) on standard output.
pub fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// What is done now, for who waits; the tables alone are on standard output.
fn progress(text: &str) {
    let _ = writeln!(io::stderr(), "... {text}");
}

impl Default for Asked {
    fn default() -> Asked {
        let effort = Effort {
            crashes: 200,
            rest: Duration::from_secs(2),
            idle: Duration::from_secs(10),
            crashes_limit: Duration::from_secs(15),
        };
        Asked {
            kinds: peers::ALL.to_vec(),
            servers: vec![1, 100, 1_000],
            effort,
            takeovers: 30,
            hangs: 10,
            install: false,
            deaths: true,
            output_bytes: Some(output::BYTES),
            plots: None,
            limit: Duration::from_secs(120),
        }
    }
}

impl Asked {
    fn be_quick(&mut self) {
        self.servers = vec![1, 100];
        self.limit = Duration::from_secs(10);
        (self.takeovers, self.hangs) = (20, 2);
        self.output_bytes = Some(output::QUICK_BYTES);
        self.effort.crashes = 30;
        self.effort.rest = Duration::from_secs(2);
        self.effort.idle = Duration::from_secs(1);
        self.effort.crashes_limit = Duration::from_secs(1);
    }
}

fn asked(words: &[String]) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        match word {
            "--bench" => {}
            "--quick" => asked.be_quick(),
            "--all" => asked.servers.push(10_000),
            "--servers" => asked.servers = numbers(words.next().unwrap_or_default())?,
            "--deaths" => {
                asked.servers.clear();
                asked.output_bytes = None;
            }
            "--output" => {
                asked.servers.clear();
                asked.deaths = false;
            }
            "--plots" => {
                let dir = words.next_if(|word| !word.starts_with('-')).unwrap_or("docs/plots");
                asked.plots = Some(dir.into());
            }
            "--install" => asked.install = true,
            "--peers" => asked.kinds = kinds(words.next().unwrap_or_default())?,
            other => return Err(format!("{other:?} is no option of this bench")),
        }
    }
    Ok(asked)
}

fn numbers(text: &str) -> Result<Vec<usize>, String> {
    let numbers = text.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>().ok();
    let is_right =
        |numbers: &Vec<usize>| numbers.iter().all(|number| (1..=10_000).contains(number));
    let why = "--servers needs numbers from 1 to 10000, such as 1,100";
    numbers.filter(is_right).ok_or_else(|| why.to_owned())
}

fn kinds(text: &str) -> Result<Vec<Kind>, String> {
    let find = |name: &str| {
        let found = peers::ALL.into_iter().find(|kind| kind.name() == name);
        let names = peers::ALL.map(Kind::name).join(",");
        found.ok_or_else(|| format!("no peer is called {name:?}; there are {names}"))
    };
    text.split(',').map(find).collect()
}

fn compare(asked: &Asked) -> io::Result<()> {
    if asked.install {
        install::install()?;
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let root = Root::new(asked.limit)?;
    root.clean_on_signals()?;
    say("Measured by `cargo bench --bench compare`; what is in brackets is the ratio to bare.\n")?;
    report::machine()?;
    let all = measure_figures(asked, &root)?;
    let mut takeovers = Vec::new();
    if asked.kinds.contains(&Kind::Own) && !all.is_empty() {
        takeovers = measure_takeovers(asked, &root)?;
        report::takeovers(&takeovers)?;
    }
    let mut moved = Vec::new();
    if let Some(bytes) = asked.output_bytes {
        moved = output::measure(&asked.kinds, &root, bytes);
        report::output(&moved, bytes)?;
    }
    if asked.deaths {
        progress("deaths of the supervisors");
        report::deaths(&look_at_deaths(asked, &root))?;
    }
    if !all.is_empty() || !moved.is_empty() {
        report::goals(&all, &takeovers, &moved)?;
    }
    if let Some(dir) = &asked.plots {
        for path in growth::write(dir, &all, &takeovers)? {
            progress(&format!("wrote {}", path.display()));
        }
    }
    report::notes(&asked.kinds, &root)?;
    say("")?;
    report::machine()
}

/// The table of each number of servers.
fn measure_figures(asked: &Asked, root: &Root) -> io::Result<Vec<measure::Figures>> {
    let mut all = Vec::new();
    for servers in &asked.servers {
        let mut rows = Vec::new();
        for kind in &asked.kinds {
            progress(&format!("{} with {servers}", kind.name()));
            rows.push(measure::measure(*kind, root, *servers, asked.effort));
        }
        report::figures(&rows)?;
        all.extend(rows);
    }
    Ok(all)
}

/// One that fails is told, and the others are measured.
fn measure_takeovers(asked: &Asked, root: &Root) -> io::Result<Vec<takeover::Takeovers>> {
    let mut all = Vec::new();
    for servers in &asked.servers {
        let (kills, hangs) = (asked.takeovers, asked.hangs);
        for (case, rounds) in [(Case::Kill, kills), (Case::KillPiped, kills), (Case::Hang, hangs)] {
            progress(&format!("takeovers with {servers}, {}", case.name()));
            match takeover::takeovers(root, *servers, case, (rounds, asked.effort.rest)) {
                Ok(found) => all.push(found),
                Err(error) => say(&format!("takeover with {servers} servers: {error}"))?,
            }
        }
    }
    Ok(all)
}

/// All at the same time: nothing is measured here, and much of it is waiting.
fn look_at_deaths(asked: &Asked, root: &Root) -> Vec<death::Seen> {
    std::thread::scope(|scope| {
        let victims = |kind: Kind| death::victims(kind).iter().map(move |victim| (kind, *victim));
        let all = asked.kinds.iter().flat_map(|kind| victims(*kind));
        let look = |(kind, victim)| scope.spawn(move || death::look(kind, victim, root));
        let looking: Vec<_> = all.map(look).collect();
        looking.into_iter().filter_map(|seen| seen.join().ok()).collect()
    })
}
