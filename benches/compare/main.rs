//! This project beside its peers and a supervisor without features, on the same machine and with
//! the same servers: `cargo bench --bench compare`.
//!
//!     cargo bench --bench compare                      1, 100 and 1,000 servers
//!     cargo bench --bench compare -- --quick           1 and 100, in two minutes
//!     cargo bench --bench compare -- --all             10,000 too
//!     cargo bench --bench compare -- --servers 10,500  these numbers of servers (after --quick)
//!     cargo bench --bench compare -- --peers bare,s6   only these
//!     cargo bench --bench compare -- --deaths          only what a kill -9 of the supervisor does
//!     cargo bench --bench compare -- --install         installs the peers first (Debian; as root)
//!
//! Prints Markdown; docs/PERFORMANCE.md has the figures and says how they are to be read. Must not
//! fail because of a time, and leaves no process and no file behind.

#[path = "../client.rs"]
mod client;
mod death;
mod install;
mod marks;
mod measure;
mod peers;
mod place;
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
use std::process::ExitCode;
use std::time::Duration;

/// What the command line asks for.
struct Asked {
    kinds: Vec<Kind>,
    servers: Vec<usize>,
    effort: Effort,
    takeovers: usize,
    hangs: usize,
    install: bool,
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

fn asked(words: &[String]) -> Result<Asked, String> {
    let mut asked = Asked {
        kinds: peers::ALL.to_vec(),
        servers: vec![1, 100, 1_000],
        effort: Effort {
            crashes: 200,
            rest: Duration::from_secs(2),
            idle: Duration::from_secs(10),
            crashes_limit: Duration::from_secs(15),
        },
        takeovers: 30,
        hangs: 10,
        install: false,
        limit: Duration::from_secs(120),
    };
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--bench" => {}
            "--quick" => {
                asked.servers = vec![1, 100];
                asked.limit = Duration::from_secs(10);
                (asked.takeovers, asked.hangs) = (5, 2);
                asked.effort.crashes = 30;
                asked.effort.rest = Duration::from_millis(300);
                asked.effort.idle = Duration::from_secs(1);
                asked.effort.crashes_limit = Duration::from_secs(1);
            }
            "--all" => asked.servers.push(10_000),
            "--servers" => {
                let numbers = words.next().unwrap_or_default().split(',').map(str::parse);
                let numbers: Result<Vec<usize>, _> = numbers.collect();
                let is_right = |numbers: &Vec<usize>| {
                    numbers.iter().all(|number| (1..=10_000).contains(number))
                };
                asked.servers = numbers
                    .ok()
                    .filter(is_right)
                    .ok_or("--servers needs numbers from 1 to 10000, such as 1,100")?;
            }
            "--deaths" => asked.servers.clear(),
            "--install" => asked.install = true,
            "--peers" => {
                let find = |name: &str| {
                    let found = peers::ALL.into_iter().find(|kind| kind.name() == name);
                    let names = peers::ALL.map(Kind::name).join(",");
                    found.ok_or_else(|| format!("no peer is called {name:?}; there are {names}"))
                };
                let names = words.next().unwrap_or_default();
                asked.kinds = names.split(',').map(find).collect::<Result<_, _>>()?;
            }
            other => return Err(format!("{other:?} is no option of this bench")),
        }
    }
    Ok(asked)
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
    let mut all = Vec::new();
    for servers in &asked.servers {
        let mut rows = Vec::new();
        for kind in &asked.kinds {
            progress(&format!("{} with {servers}", kind.name()));
            rows.push(measure::measure(*kind, &root, *servers, asked.effort));
        }
        report::figures(&rows)?;
        all.extend(rows);
    }
    let mut takeovers = Vec::new();
    if asked.kinds.contains(&Kind::Own) && !all.is_empty() {
        takeovers = measure_takeovers(asked, &root)?;
        report::takeovers(&takeovers)?;
    }
    progress("deaths of the supervisors");
    let deaths = look_at_deaths(asked, &root);
    report::deaths(&deaths)?;
    if !all.is_empty() {
        report::goals(&all, &takeovers)?;
    }
    report::notes(&asked.kinds, &root)?;
    say("")?;
    report::machine()
}

/// One that fails is told, and the others are measured.
fn measure_takeovers(asked: &Asked, root: &Root) -> io::Result<Vec<takeover::Takeovers>> {
    let mut all = Vec::new();
    for servers in &asked.servers {
        for (is_hang, rounds) in [(false, asked.takeovers), (true, asked.hangs)] {
            progress(&format!("takeovers with {servers}, hang: {is_hang}"));
            match takeover::takeovers(root, *servers, is_hang, rounds) {
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
