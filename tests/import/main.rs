//! `import`: files of the kind that people really have become configurations that are right, and that run.
//! `doctor`, the examples of `--help`, man pages and completions beside it.
//!
//! Must not need the programs that the files name: only one imported configuration is started, with
//! programs of its own.

#[path = "../support/mod.rs"]
mod support;

mod doctor;
mod help;
mod jeus;
mod supervisor;

use nodemanager::import::{ini, jeusnm, supervisord};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use support::{Pair, binary, both, is_alive, signal};

static NEXT: AtomicU32 = AtomicU32::new(0);

const SUPERVISORD: [&str; 5] = ["django", "laravel", "docker", "groups", "odd"];
const JEUSNM: [&str; 3] = ["jeusnm-plain", "jeusnm-replicated", "jeusnm-processes"];

/// A directory that goes away with the test.
struct Home(PathBuf);

impl Home {
    fn new() -> Home {
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("nm-import-{}-{number}", std::process::id()));
        fs::create_dir_all(dir.join("supervisor.d")).expect("a directory");
        Home(dir)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// The samples in a directory of their own; who is not root can't start servers as somebody else.
fn copied() -> Home {
    let home = Home::new();
    let is_root = nix::unistd::geteuid().is_root();
    for name in SUPERVISORD
        .map(|name| format!("{name}.conf"))
        .iter()
        .chain(&JEUSNM.map(|name| format!("{name}.xml")))
        .chain(&["supervisor.d/cache.ini".to_owned()])
    {
        let text = fs::read_to_string(samples().join(name)).expect("a sample");
        let keep = |line: &&str| is_root || !line.starts_with("user=");
        let text: Vec<&str> = text.lines().filter(keep).collect();
        fs::write(home.0.join(name), text.join("\n") + "\n").expect("a copy");
    }
    home
}

fn run(words: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(binary());
    command.args(words).current_dir(dir).env("HOME", "/root").env("NODEMANAGER_HOME", dir);
    command.output().expect("the program can be run")
}

/// What a sample becomes; it has passed `check`.
fn imported(name: &str) -> String {
    let home = copied();
    let (from, file) = match name.starts_with("jeusnm") {
        true => ("jeusnm", format!("{name}.xml")),
        false => ("supervisord", format!("{name}.conf")),
    };
    let output = run(&["import", from, &file], &home.0);
    assert!(output.status.success() && output.stderr.is_empty(), "{name}: {}", both(&output));
    let written = run(&["import", from, &file, "-o", "new.toml"], &home.0);
    assert!(written.status.success() && written.stdout.is_empty(), "{name}: {}", both(&written));
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(fs::read_to_string(home.0.join("new.toml")).expect("the file"), text);
    let checked = run(&["check", "-c", "new.toml"], &home.0);
    assert!(checked.status.success(), "{name}: {}\n{text}", both(&checked));
    text
}

/// The table of one server, with the comments before it.
fn table<'a>(text: &'a str, name: &str) -> &'a str {
    let wanted = format!("\nname = \"{name}\"\n");
    let found = text.split("\n\n").find(|part| part.contains(&wanted));
    found.unwrap_or_else(|| panic!("no server {name} in\n{text}"))
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn a_file_that_is_there_is_not_written_over_unless_it_is_asked_for() {
    let home = copied();
    fs::write(home.0.join("kept.toml"), "mine").expect("a file");
    let words = ["import", "supervisord", "laravel.conf", "-o", "kept.toml"];
    let output = run(&words, &home.0);
    assert_eq!(output.status.code(), Some(1));
    has(&both(&output), &["kept.toml is there already", "--force"]);
    assert_eq!(fs::read_to_string(home.0.join("kept.toml")).unwrap(), "mine");
    let mut forced = words.to_vec();
    forced.push("--force");
    assert!(run(&forced, &home.0).status.success());
    has(&fs::read_to_string(home.0.join("kept.toml")).unwrap(), &["[[server]]"]);
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let home = copied();
    let output = run(&["import", "supervisord", "nowhere.conf"], &home.0);
    assert_eq!(output.status.code(), Some(1));
    has(&both(&output), &["cannot read nowhere.conf", "No such file"]);
    let output = run(&["import", "jeusnm", "django.conf"], &home.0);
    has(&both(&output), &["cannot read django.conf"]);
    assert_eq!(run(&["import", "monit", "x"], &home.0).status.code(), Some(64));
}

/// A file may end anywhere, and hold anything: the result is always a configuration that can be read.
#[test]
fn wherever_a_file_is_cut_its_import_is_still_a_configuration() {
    let around = supervisord::Surroundings {
        file: "x.conf".to_owned(),
        here: "/srv".to_owned(),
        host: "host".to_owned(),
    };
    let is_toml = |text: &str| text.parse::<toml::Table>().map(drop);
    for name in SUPERVISORD {
        let whole = fs::read_to_string(samples().join(format!("{name}.conf"))).expect("a sample");
        for end in (0..whole.len()).step_by(3).filter(|end| whole.is_char_boundary(*end)) {
            let text = supervisord::import(&ini::parse(&whole[..end], "x.conf"), &around);
            is_toml(&text).unwrap_or_else(|error| panic!("{name} up to {end}: {error}\n{text}"));
        }
    }
    for name in JEUSNM {
        let whole = fs::read_to_string(samples().join(format!("{name}.xml"))).expect("a sample");
        for end in (0..whole.len()).step_by(3).filter(|end| whole.is_char_boundary(*end)) {
            assert!(
                jeusnm::import(&whole[..end], "x.xml").is_err() || end + 2 > whole.trim_end().len()
            );
        }
        is_toml(&jeusnm::import(&whole, "x.xml").expect("a whole file")).expect("TOML");
    }
}

#[test]
fn what_is_imported_runs_with_its_numbers_its_variables_and_its_restarts() {
    let pair = Pair::new("", "");
    let conf = pair.home.join("conf/supervisord.conf");
    let text = "[program:talk]\n\
        command=/bin/sh -c\n    \"echo %(process_num)02d $WORD %(here)s; exec sleep 1000\"\n\
        process_name=%(program_name)s_%(process_num)02d\n\
        numprocs=2\nnumprocs_start=7\nenvironment=WORD=\"two words\"\nredirect_stderr=true\n\
        startsecs=0\nautorestart=true\nstopsignal=KILL\n\
        [program:never]\ncommand=/bin/false\nautostart=false\n";
    fs::write(&conf, text).expect("a file");
    let text = pair.ok(&["import", "supervisord", conf.to_str().expect("a path")]);
    let node = format!("name = \"{}\"", pair.name());
    let text = text
        .replace("standbyPort = 7731", &format!("standbyPort = {}", pair.port))
        .replace("name = \"nodemanager-1\"", &node);
    fs::write(pair.config(), text).expect("the configuration");
    pair.start();
    let words = format!("two words {}", pair.home.join("conf").display());
    for (server, number) in [("talk@1", "07"), ("talk@2", "08")] {
        let wanted = format!("{number} {words}\n");
        support::wait_until("its words", || pair.output_of(server) == wanted);
    }
    let pid = pair.pids()["talk@2"];
    signal(pid, support::SIGKILL);
    support::wait_until("its restart", || {
        pair.server("talk@2")["pid"].as_i64().is_some_and(|now| now != i64::from(pid))
    });
    assert!(!is_alive(pid));
    assert_eq!(pair.server("never")["state"], "STOPPED");
    pair.ok(&["shutdown", "--stop-servers"]);
}
