//! Unit tests of the hooks and mail of a configuration. Must not read a file.

use crate::config::{Config, MailWay, parse};
use crate::events::{Draft, Kind, Record};
use std::path::Path;

fn parsed(more: &str) -> Result<Config, String> {
    let text = format!("[nodeManager]\nstandbyPort = 7731\n{more}\n");
    parse(&text, Path::new("/c.toml"), Path::new("/h")).map_err(|errors| errors.to_string())
}

fn record(kind: Kind, server: Option<&str>) -> Record {
    let draft = Draft::new(kind, "x");
    Record::new(1, String::new(), server.map_or(draft.clone(), |name| draft.of(name)))
}

#[test]
fn what_is_wrong_with_hooks_and_mail_is_said_once_and_with_its_line() {
    let hook = "[[hook]]\nname = \"h\"\ncommand = \"x\"\n";
    let mail = "[mail]\nto = [\"a@b\"]\nfrom = \"c@d\"\n";
    for (wrong, line, text) in [
        ("eventsMaxSize = \"1KiB\"".to_owned(), 3, "must be from \"64KiB\""),
        ("[hook]\nname = \"h\"".to_owned(), 3, "write [[hook]]"),
        (hook.to_owned(), 3, "[[hook]] h has no on"),
        (format!("{hook}on = []"), 6, "is empty"),
        (format!("{hook}on = [\"server-faild\"]"), 6, "did you mean \"server-failed\"?"),
        (format!("{hook}on = [\"*\"]\ntimeout = 5"), 7, "timeout of [[hook]] h must be a duration"),
        (format!("{hook}on = [\"*\"]\nserver = \"[\""), 7, "is no pattern"),
        (
            format!("{hook}on = [\"*\"]\nenv = {{ NM_SERVER = \"x\" }}"),
            7,
            "set by the node manager",
        ),
        (format!("{hook}on = [\"*\"]\ncomand = \"x\""), 7, "did you mean \"command\"?"),
        (format!("{hook}on = [\"*\"]\n{hook}on = [\"*\"]"), 7, "defined twice"),
        ("[mail]\nfrom = \"a@b\"".to_owned(), 3, "[mail] has no to"),
        ("[mail]\nto = [\"a@b\"]".to_owned(), 3, "[mail] has no from"),
        ("[mail]\nto = [\"a b\"]\nfrom = \"a@b\"".to_owned(), 4, "which is no address"),
        ("[mail]\nto = []\nfrom = \"a@b\"".to_owned(), 4, "must have 1 to 100"),
        (format!("{mail}smtp = \"host\""), 6, "must be a host and a port"),
        (format!("{mail}smtp = \"h:25\"\nsendmail = \"/x\""), 6, "mail goes one way"),
        (format!("{mail}on = [\"x\"]"), 6, "no kind of event"),
        (format!("{mail}group = \"2d\""), 6, "at most \"1d\""),
    ] {
        let errors = parsed(&wrong).expect_err(&wrong);
        let is_said = errors.contains(&format!("c.toml:{line}")) && errors.contains(text);
        assert!(is_said && errors.lines().count() == 1, "{wrong}: {errors}");
    }
}

#[test]
fn a_hook_is_for_the_kinds_and_servers_that_it_names_and_never_for_its_own_failure() {
    let hook = "[[hook]]\nname = \"h\"\ncommand = \"bin/x\"\non = [\"takeover\", \"server-*\", \"hook-*\"]\n";
    let config = parsed(&format!(
        "{hook}[[hook]]\nname = \"i\"\ncommand = \"x\"\non = [\"*\"]\nserver = \"web*\""
    ))
    .unwrap();
    let [all, web] = config.alerts.hooks.as_slice() else { panic!("{config:?}") };
    assert_eq!((all.command[0].as_str(), all.timeout_ms), ("/h/bin/x", 10_000));
    assert!(all.is_for(&record(Kind::Takeover, None)));
    assert!(all.is_for(&record(Kind::ServerFailed, Some("db"))));
    assert!(!all.is_for(&record(Kind::StandbyDown, None)));
    assert!(!all.is_for(&record(Kind::HookFailed, None)));
    assert!(web.is_for(&record(Kind::ServerFailed, Some("web@2"))));
    assert!(!web.is_for(&record(Kind::ServerFailed, Some("db"))));
    assert!(!web.is_for(&record(Kind::Takeover, None)));
}

#[test]
fn mail_has_defaults_that_tell_what_needs_somebody() {
    let config = parsed("[mail]\nto = [\"a@b\"]\nfrom = \"c@d\"").unwrap();
    let mail = config.alerts.mail.unwrap();
    assert_eq!(
        (mail.group_ms, mail.way.clone()),
        (30_000, MailWay::Sendmail("/usr/sbin/sendmail".into()))
    );
    assert!(mail.is_for(&record(Kind::ServerFailing, Some("x"))));
    assert!(!mail.is_for(&record(Kind::ServerRunning, Some("x"))));
    let smtp = parsed("[mail]\nto = [\"a@b\"]\nfrom = \"c@d\"\nsmtp = \"[::1]:25\"").unwrap();
    assert_eq!(smtp.alerts.mail.unwrap().way, MailWay::Smtp("[::1]:25".to_owned()));
}
