//! The keys of a server's identity: what is taken, and what is refused with its line.

use super::super::tests::parsed;
use super::*;

fn server(keys: &str) -> String {
    format!("[[server]]\nname = \"web\"\ncommand = \"web\"\n{keys}\n")
}

fn taken(keys: &str) -> Identity {
    (*parsed(&server(keys)).expect(keys).servers.remove(0).identity).clone()
}

fn refused(keys: &str, wanted: &str) {
    let errors = parsed(&server(keys)).expect_err(keys).0;
    assert_eq!(errors.len(), 1, "{keys}\n{errors:?}");
    assert_eq!(errors[0].line, Some(4), "{keys}\n{errors:?}");
    assert!(errors[0].text.contains(wanted), "{keys}\n{errors:?}");
}

fn limit(text: &str) -> (u64, u64) {
    let limit = taken(&format!("limits = {{ {text} }}")).limits.remove(0);
    (limit.soft, limit.hard)
}

#[test]
fn every_key_of_an_identity_is_taken() {
    let identity = taken(
        "user = \"web\"\ngroup = [\"web\", 54321]\numask = \"027\"\nenvFile = [\"-/etc/x\", \"e\"]\n\
         limits = { nofile = 9, core = 0 }\nnice = -20\noomScoreAdjust = 1000\n\
         noNewPrivileges = true\nlock = { file = \"run/web.lock\", timeout = \"5s\" }",
    );
    let named = |name: &str, line| Named { name: name.to_owned(), line: Some(line) };
    let limit = |name: &str, number| Limit { name: name.to_owned(), soft: number, hard: number };
    let expected = Identity {
        user: Some(named("web", 4)),
        groups: vec![named("web", 5), named("54321", 5)],
        account: None,
        umask: Some(0o27),
        env_files: vec![
            EnvFile { path: "/etc/x".into(), may_be_missing: true },
            EnvFile { path: "/srv/nm/e".into(), may_be_missing: false },
        ],
        limits: vec![limit("core", 0), limit("nofile", 9)],
        nice: Some(-20),
        oom_score_adjust: Some(1000),
        no_new_privileges: true,
        lock: Some(LockFile { file: "/srv/nm/run/web.lock".into(), timeout_ms: 5_000 }),
    };
    assert_eq!(identity, expected);
    assert_eq!(taken("lock = { file = \"/l\" }").lock.unwrap().timeout_ms, 60_000);
    assert_eq!(taken("user = 33").user, Some(named("33", 4)));
    let own = Identity { user: Some(named("", 4)), ..Identity::default() };
    assert_eq!(taken("user = \"\"\ngroup = \"\""), own);
}

#[test]
fn a_limit_is_a_number_an_amount_of_its_kind_unlimited_or_both_ends() {
    assert_eq!(limit("nofile = 65536"), (65_536, 65_536));
    assert_eq!(limit("nofile = \"1024:4096\""), (1_024, 4_096));
    assert_eq!(limit("core = \"0:unlimited\""), (0, UNLIMITED));
    assert_eq!(limit("as = \"1GiB\""), (1 << 30, 1 << 30));
    assert_eq!(limit("stack = \"64K:infinity\""), (65_536, UNLIMITED));
    assert_eq!(limit("cpu = \"10m\""), (600, 600));
    assert_eq!(limit("rttime = \"500ms:1000000\""), (500_000, 1_000_000));
    assert_eq!(limit("nice = \"-5\""), (25, 25));
    assert_eq!(limit("nice = \"+10:-20\""), (10, 40));
    assert_eq!(limit("nice = 30"), (30, 30));
    for name in LIMIT_KEYS {
        assert_eq!(limit(&format!("{name} = 7")), (7, 7), "{name}");
        assert!(crate::sys::rights::resource(name).is_some(), "{name}");
    }
}

#[test]
fn what_can_not_be_is_refused_with_its_line() {
    let cases = [
        ("user = 1.5", "must be a user's name or number"),
        ("user = -1", "must be a user's name"),
        ("user = 4294967295", "must be a user's name"),
        ("user = \"a:b\"", "must be a user's name"),
        ("group = []", "a group's name or number, or an array"),
        ("group = [true]", "a group's name or number, or an array"),
        ("umask = 27", "an octal string"),
        ("umask = \"0999\"", "an octal string"),
        ("envFile = \"x\"", "an array of paths"),
        ("envFile = [\"-\"]", "empty path"),
        ("nice = 20", "a number from -20 to 19"),
        ("oomScoreAdjust = \"0\"", "a number from -1000 to 1000"),
        ("noNewPrivileges = \"yes\"", "true or false"),
        ("lock = \"/l\"", "must be a table"),
        ("lock = { timeout = \"1s\" }", "has no file"),
        ("lock = { file = \"/l\", timeout = \"0s\" }", "at least \"1ms\""),
        ("lock = { flie = \"/l\", file = \"x\" }", "did you mean \"file\""),
        ("limits = { nofiles = 1 }", "did you mean \"nofile\""),
        ("limits = { nofile = \"many\" }", "limits.nofile of [[server]] web must be a number"),
        ("limits = { nofile = -1 }", "must be a number"),
        ("limits = { nofile = \"\" }", "must be a number"),
        ("limits = { nofile = \"1:2:3\" }", "must be a number"),
        ("limits = { nofile = \"2:1\" }", "soft limit above the hard one"),
        ("limits = { core = \"unlimited:0\" }", "soft limit above the hard one"),
        ("limits = { as = \"1GB\" }", "write \"GiB\""),
        ("limits = { cpu = \"1500ms\" }", "whole seconds"),
        ("limits = { nice = -5 }", "0 to 40"),
        ("limits = { nice = \"-21\" }", "0 to 40"),
        ("limits = { nice = \"unlimited\" }", "0 to 40"),
    ];
    for (keys, wanted) in cases {
        refused(keys, wanted);
    }
    let text = "lock = { }\nlimits = { core = true }";
    assert_eq!(parsed(&server(text)).unwrap_err().0.len(), 2, "both at once");
}

#[test]
fn a_user_of_all_servers_is_a_key_of_the_node() {
    let config = parsed("[nodeManager]\nserverUser = \"www-data\"").unwrap();
    let user = Named { name: "www-data".to_owned(), line: Some(2) };
    assert_eq!(config.node.server_user, Some(user));
}
