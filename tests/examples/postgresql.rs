//! PostgreSQL, with a session that has an open transaction.

use super::*;
use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use tools::{Ended, exits, finish, has};

/// Of the package for Debian 12, where the example looks; `PGBIN` says where else.
fn programs() -> Option<PathBuf> {
    let dir = std::env::var_os("PGBIN").unwrap_or("/usr/lib/postgresql/15/bin".into());
    let dir = PathBuf::from(dir);
    if !dir.join("postgres").exists() || !dir.join("psql").exists() {
        println!("skipped: there is no postgres in {}", dir.display());
        return None;
    }
    Some(dir)
}

/// A session that stays open.
struct Session {
    _psql: Ended,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

fn psql(example: &Example, programs: &Path) -> Command {
    let mut command = Command::new(programs.join("psql"));
    let socket = example.pair.home.join("state/postgresql");
    command.args(["-X", "-q", "-A", "-t", "-U", "postgres", "-h"]).arg(socket);
    command
}

impl Session {
    fn open(example: &Example, programs: &Path) -> Session {
        let mut command = psql(example, programs);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut psql = Ended(child.expect("psql can be run"));
        let input = psql.0.stdin.take().expect("its input");
        let answers = BufReader::new(psql.0.stdout.take().expect("its output")).lines();
        Session { _psql: psql, input, answers }
    }

    /// Statements of which the last one gives one line.
    fn ask(&mut self, statements: &str) -> String {
        writeln!(self.input, "{statements}").expect("psql takes a line");
        self.answers.next().expect("psql goes on").expect("a line")
    }
}

#[test]
fn a_session_with_an_open_transaction_outlives_a_takeover() {
    let Some(programs) = programs() else { return };
    let example = Example::new("postgresql", &[]);
    let pair = &example.pair;
    pair.start();
    for (name, state) in [("directory", "EXITED"), ("initdb", "EXITED"), ("postgresql", "RUNNING")]
    {
        assert_eq!(pair.server(name)["state"], state, "{name}");
    }
    let mut session = Session::open(&example, &programs);
    let backend = session
        .ask("CREATE TABLE t (n int); BEGIN; INSERT INTO t VALUES (1); SELECT pg_backend_pid();");
    example.take_over(|| ());
    let same = session.ask("INSERT INTO t VALUES (2); SELECT pg_backend_pid();");
    assert_eq!(same, backend, "the session has another server process");
    assert_eq!(session.ask("COMMIT; SELECT sum(n) FROM t;"), "3");

    let changed = session.ask("ALTER SYSTEM SET work_mem = '5MB'; SHOW work_mem;");
    assert_ne!(changed, "5MB", "nobody has read it yet");
    exits(pair, &["reload", "postgresql"], 0);
    wait_until("the new setting", || session.ask("SHOW work_mem;") == "5MB");

    // An open session does not hold up the end: SIGINT is the fast shutdown.
    example.stop();
    has(&pair.output_of("postgresql"), &["received fast shutdown request", "is shut down"]);

    // The next start finds the database, and what was committed.
    pair.start();
    wait_until("its word", || pair.output_of("initdb").contains("there is a database"));
    let mut select = psql(&example, &programs);
    select.args(["-c", "SELECT count(*) FROM t"]);
    let output = finish(select, "psql");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n", "{}", support::both(&output));
    example.stop();
}
