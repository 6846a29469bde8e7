//! This project beside its peers and a supervisor without features, on the same machine and with
//! the same servers: `cargo bench --bench compare`.
//!
//!     cargo bench --bench compare                      1, 100 and 1,000 servers
//!     cargo bench --bench compare -- --quick           1 and 100, in about a minute
//!     cargo bench --bench compare -- --all             10,000 too
//!     cargo bench --bench compare -- --peers bare,s6   only these
//!     cargo bench --bench compare -- --install         installs the peers first (Debian; as root)
//!
//! Prints Markdown; docs/PERFORMANCE.md has the figures and says how they are to be read. Must not
//! fail because of a time, and leaves no process and no file behind.

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
            idle: Duration::from_secs(10),
            crashes_limit: Duration::from_secs(30),
        },
        takeovers: 30,
        hangs: 10,
        install: false,
    };
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--bench" => {}
            "--quick" => {
                asked.servers = vec![1, 100];
                (asked.takeovers, asked.hangs) = (5, 2);
                asked.effort.crashes = 30;
                asked.effort.idle = Duration::from_secs(1);
                asked.effort.crashes_limit = Duration::from_secs(3);
            }
            "--all" => asked.servers.push(10_000),
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
    let root = Root::new()?;
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
    if asked.kinds.contains(&Kind::Own) {
        takeovers = measure_takeovers(asked, &root)?;
        report::takeovers(&takeovers)?;
    }
    let mut deaths = Vec::new();
    for kind in &asked.kinds {
        for victim in death::victims(*kind) {
            progress(&format!("death of {} ({victim:?})", kind.name()));
            deaths.push(death::look(*kind, *victim, &root));
        }
    }
    report::deaths(&deaths)?;
    report::goals(&all, &takeovers)?;
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
