//! What people and scripts may type, and what they are told when it is wrong.

use super::*;

fn parsed(line: &str) -> Args {
    parse(line.split(' ')).unwrap_or_else(|failure| panic!("{line}: {}", failure.text))
}

fn refused(line: &str) -> Failure {
    parse(line.split(' ')).expect_err(line)
}

fn names(list: &[&str]) -> Names {
    Names { names: list.iter().map(|name| (*name).to_owned()).collect() }
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    use clap::CommandFactory;
    Args::command().debug_assert();
}

#[test]
fn common_options_may_stand_before_and_behind_the_command() {
    let args = parsed("nodemanager -c a.toml start web --timeout 1500ms --no-wait --json");
    assert_eq!(args.common.config, Some(PathBuf::from("a.toml")));
    assert_eq!(args.common.timeout, Some(Duration::from_millis(1500)));
    assert!(args.common.no_wait && args.common.json);
    assert_eq!(args.command, Command::Start(names(&["web"])));
    let args = parsed("nodemanager stop web@2 db --config a.toml");
    assert_eq!(args.common.config, Some(PathBuf::from("a.toml")));
    let Command::Stop(down) = args.command else { panic!("{args:?}") };
    assert_eq!((down.dependants(), down.names), (None, names(&["web@2", "db"])));
}

#[test]
fn a_wrong_command_line_exits_with_64_and_help_with_0() {
    for line in [
        "nodemanager",
        "nodemanager nothing",
        "nodemanager start",
        "nodemanager logs",
        "nodemanager logs web --self",
        "nodemanager wait web",
        "nodemanager wait --up --down web",
        "nodemanager shutdown --keep-servers --stop-servers",
        "nodemanager signal NOTHING web",
        "nodemanager start web --timeout 10",
    ] {
        assert_eq!(refused(line).exit, exit::USAGE, "{line}");
    }
    let help = refused("nodemanager --help");
    assert_eq!(help.exit, exit::DONE);
    assert!(!help.text.contains("maintail") && !help.text.contains("mover"), "{}", help.text);
    let version = refused("nodemanager --version");
    let expected = format!("nodemanager {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.exit, version.text), (exit::DONE, expected));
}

#[test]
fn a_duration_without_a_unit_is_refused_with_the_unit_named() {
    let text = refused("nodemanager start web --timeout 10").text;
    assert!(text.contains("a unit is missing: 10s or 10ms?"), "{text}");
    assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
    assert!(duration("").is_err() && duration("s").is_err() && duration("1w").is_err());
    assert!(
        duration("99999999999999999999s").is_err() && duration("9999999999999999999d").is_err()
    );
}

#[test]
fn a_signal_is_taken_by_short_name_full_name_and_number() {
    for line in ["nodemanager signal HUP web", "nodemanager signal sighup web"] {
        let signal = "SIGHUP".to_owned();
        assert_eq!(parsed(line).command, Command::Signal { signal, names: names(&["web"]) });
    }
    assert_eq!(signal_name("1").as_deref(), Ok("SIGHUP"));
    assert!(signal_name("0").is_err() && signal_name("").is_err());
}

#[test]
fn names_of_other_supervisors_are_understood() {
    let self_log = |line| match parsed(line).command {
        Command::Logs(logs) => (logs.self_log, logs.follow, logs.names),
        other => panic!("{other:?}"),
    };
    assert_eq!(self_log("nodemanager maintail -f"), (true, true, vec![]));
    assert_eq!(self_log("nodemanager tail web"), (false, false, vec!["web".to_owned()]));
    assert_eq!(parsed("nodemanager reset-failed web").command, Command::Reset(names(&["web"])));
    assert_eq!(parsed("nodemanager pid web").command, Command::Pid(names(&["web"])));
}

#[test]
fn what_wait_waits_for_is_one_of_three() {
    let goal = |line| match parsed(line).command {
        Command::Wait(wait) => wait.goal(),
        other => panic!("{other:?}"),
    };
    assert_eq!(goal("nodemanager wait --up web"), Goal::Up);
    assert_eq!(goal("nodemanager wait --ready web"), Goal::Ready);
    assert_eq!(goal("nodemanager wait web --down"), Goal::Down);
}
