//! What differs, and what comes of it.

use super::*;
use crate::config::parse;
use std::path::Path;

fn config(servers: &str) -> Config {
    let text = format!("[nodeManager]\nstandbyPort = 7731\n{servers}");
    parse(&text, Path::new("/c.toml"), Path::new("/h")).expect("a configuration")
}

fn server(more: &str) -> Config {
    config(&format!("[[server]]\nname = \"a\"\ncommand = \"x\"\n{more}\n"))
}

fn keys(old: &str, new: &str) -> (Vec<&'static str>, Vec<&'static str>) {
    let Differing { restart, in_place } =
        differing(&server(old).servers[0], &server(new).servers[0]);
    (restart, in_place)
}

#[test]
fn what_a_process_is_started_with_needs_a_restart_and_the_rest_does_not() {
    for (key, more) in [
        ("cwd", "cwd = \"/tmp\""),
        ("env", "env = { A = \"1\" }"),
        ("passEnv", "passEnv = []"),
        ("type", "type = \"oneshot\""),
        ("user", "user = \"7\""),
        ("group", "group = \"7\""),
        ("umask", "umask = \"027\""),
        ("envFile", "envFile = [\"/e\"]"),
        ("limits", "limits = { nofile = 7 }"),
        ("nice", "nice = 7"),
        ("cgroup", "cgroup = { pidsMax = 7 }"),
        ("oomScoreAdjust", "oomScoreAdjust = 7"),
        ("noNewPrivileges", "noNewPrivileges = true"),
        ("lock", "lock = { file = \"/l\" }"),
        ("output", "output = { to = \"null\" }"),
        ("output", "output = { stderr = \"separate\" }"),
        ("ready", "ready = { notify = true }"),
        ("health", "health = [{ watchdog = \"9s\" }]"),
    ] {
        assert_eq!(keys("", more), (vec![key], vec![]), "{more}");
        assert_eq!(keys(more, ""), (vec![key], vec![]), "without {more}");
    }
    for (key, more) in [
        ("tags", "tags = [\"x\"]"),
        ("autoStart", "autoStart = false"),
        ("essential", "essential = true"),
        ("settleTime", "settleTime = \"7s\""),
        ("startTimeout", "startTimeout = \"7s\""),
        ("restart", "restart = { tries = 7 }"),
        ("stop", "stop = { timeout = \"7s\" }"),
        ("output", "output = { maxFiles = 3 }"),
        ("ready", "ready = { delay = \"7s\" }"),
        ("health", "health = [{ rss = \"9MiB\" }]"),
    ] {
        assert_eq!(keys("", more), (vec![], vec![key]), "{more}");
    }
    let lower =
        "[[server]]\nname = \"z\"\ncommand = \"x\"\n[[server]]\nname = \"a\"\ncommand = \"x\"\n";
    let moved = differing(&server("").servers[0], &config(lower).servers[1]);
    assert_eq!(moved, Differing::default(), "another line is no difference");
}

#[test]
fn a_server_that_comes_back_gets_a_revision_that_none_of_its_processes_had() {
    let old = server("");
    let (gone, answer) = merge(&old, config(""), &[]).expect("it merges");
    assert_eq!((answer.servers[0].what, answer.generation), (What::Stop, 1));
    assert_eq!(gone.applied.retired.len(), 1);
    let (back, answer) = merge(&gone, server(""), &[]).expect("it merges");
    assert_eq!((answer.servers[0].what, answer.generation), (What::Start, 2));
    assert!(back.revision("a") > gone.revision("a") && back.applied.retired.is_empty());
    let (changed, _) = merge(&back, server("nice = 1"), &[]).expect("it merges");
    assert!(changed.revision("a") > back.revision("a"));
    let (same, answer) = merge(&changed, server("nice = 1"), &[]).expect("it merges");
    assert!(answer.is_empty() && same.applied == changed.applied);
}

#[test]
fn names_take_nothing_else_along_and_leave_no_need_unmet() {
    let two = |a: &str, b: &str| {
        config(&format!(
            "[[server]]\nname = \"a\"\ncommand = \"x\"\n{a}\n[[server]]\nname = \"b\"\ncommand = \"x\"\n{b}\n"
        ))
    };
    let (old, new) = (two("", ""), two("nice = 1", "nice = 1"));
    let (merged, answer) = merge(&old, new.clone(), &["a".to_owned()]).expect("it merges");
    assert_eq!(answer.servers.len(), 1);
    assert_eq!((&merged.servers[0], &merged.servers[1]), (&new.servers[0], &old.servers[1]));
    let needs = two("dependsOn = [\"b\"]", "");
    let error = merge(&server(""), needs, &["a".to_owned()]).expect_err("b is not there");
    assert!(error.contains("a needs b"), "{error}");
    let (one, other) = (two("dependsOn = [\"b\"]", ""), two("", "dependsOn = [\"a\"]"));
    let error = merge(&one, other, &["b".to_owned()]).expect_err("a circle");
    assert!(error.contains("a, b would need each other"), "{error}");
}
