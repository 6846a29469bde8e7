//! What the configuration promises: defaults, and complete errors with their lines.

use super::effective::default_in;
use super::sections::{
    DEPENDENCY_KEYS, NODE_KEYS, OUTPUT_KEYS, RESTART_KEYS, SERVER_KEYS, STOP_KEYS,
};
use super::*;
use crate::core::plan::Kind;
use crate::core::restart::{Policy, Then, When};
use std::path::Path;

pub const SAMPLE: &str = include_str!("../../conf/nodemanager.toml");
pub const FILE: &str = "conf/nodemanager.toml";

pub fn parsed(text: &str) -> Result<Config, ConfigErrors> {
    parse(text, Path::new(FILE), Path::new("/srv/nm"))
}

pub fn errors_of(text: &str) -> String {
    parsed(text).expect_err(text).to_string()
}

fn server_with(keys: &str) -> String {
    format!("[[server]]\nname = \"web\"\ncommand = \"web\"\n{keys}\n")
}

fn node_with(keys: &str) -> String {
    format!("[nodeManager]\nstandbyPort = 1\n{keys}\n")
}

/// Asserts that the text has exactly one error, on that line and with that text.
fn assert_refused(text: &str, line: u32, wanted: &str) {
    let errors = parsed(text).expect_err(text).0;
    assert_eq!(errors.len(), 1, "{text}\n{errors:?}");
    assert_eq!(errors[0].line, Some(line), "{text}\n{errors:?}");
    assert!(errors[0].text.contains(wanted), "{text}\n{errors:?}");
}

/// The sample with every commented key taken in.
fn sample_with_all_keys() -> String {
    SAMPLE
        .lines()
        .map(|line| default_in(line).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_sample_is_a_configuration_without_errors_and_warnings() {
    let config = parsed(SAMPLE).unwrap();
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.node.standby_port, Some(7731));
    let names: Vec<_> = config.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["demo-1", "demo-2"]);
    assert_eq!(
        *config.servers[1].command,
        ["/srv/nm/target/release/examples/demo_server", "--port", "8102"]
    );
}

#[test]
fn what_the_sample_shows_in_comments_are_the_defaults() {
    let all = sample_with_all_keys();
    assert_ne!(all, SAMPLE);
    assert_eq!(parsed(&all), parsed(SAMPLE));
}

#[test]
fn the_sample_shows_every_key() {
    let all = sample_with_all_keys();
    let lists = [NODE_KEYS, SERVER_KEYS, RESTART_KEYS, STOP_KEYS, OUTPUT_KEYS, DEPENDENCY_KEYS];
    for key in lists.concat() {
        let found = all.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            line.starts_with(&format!("{key} = ")) || line.contains(&format!(" {key} = "))
        });
        assert!(found, "{key}");
    }
}

#[test]
fn an_empty_file_is_all_defaults_with_a_warning_for_what_is_missing() {
    let config = parsed("").unwrap();
    assert_eq!(config.node.name, "nodemanager-1");
    assert_eq!(config.node.run_dir, Path::new("/srv/nm/run"));
    assert_eq!(config.node.control_socket(), Path::new("/srv/nm/run/control.sock"));
    assert_eq!(config.node.control_mode, 0o600);
    assert_eq!(config.node.standby_port, None);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("standbyPort"));
    assert!(config.warnings[1].contains("[[server]]"));
}

#[test]
fn every_key_of_a_server_is_taken() {
    let text = server_with(
        r#"instances = 1
vars = { a = 1 }
tags = ["shop", "eu", "shop"]
dependsOn = ["db", { name = "web2", onFailure = "restart" }]
essential = true
cwd = "data"
env = { MODE = "live" }
passEnv = ["PATH"]
autoStart = "remember"
settleTime = "2s"
restart = { when = "always", tries = 7, window = "3m", delay = "2s", delayMax = "1m", jitter = "10%", resetAfter = "5m", then = "fail", successCodes = [0, 3], noRestartCodes = [78] }
type = "oneshot"
ready = { delay = "3s" }
startTimeout = "5m"
health = { watchdog = "30s" }
stop = { signal = "INT", timeout = "20s" }
reload = { signal = "USR1" }
output = { to = "pipe", stderr = "separate", maxSize = "64K", maxFiles = 3, maxAge = "7d", compress = true, timestamps = true }"#,
    );
    let others = "[[server]]\nname = \"db\"\ncommand = \"x\"\n\
                  [[server]]\nname = \"web2\"\ncommand = \"x\"\n";
    let server = parsed(&(text + others)).unwrap().servers.remove(0);
    let expected = Definition {
        file: PathBuf::from(FILE).into(),
        line: 1,
        program: Program { name: "web".into(), tags: vec!["shop".into(), "eu".into()].into() },
        command: vec!["web".into()].into(),
        cwd: PathBuf::from("/srv/nm/data").into(),
        env: BTreeMap::from([("MODE".into(), "live".into())]).into(),
        pass_env: vec!["PATH".into()].into(),
        kind: Kind::Oneshot,
        auto_start: AutoStart::Remember,
        depends_on: vec![
            Dependency { name: "db".into(), on_failure: OnFailure::Keep },
            Dependency { name: "web2".into(), on_failure: OnFailure::Restart },
        ],
        essential: true,
        settle_ms: 2_000,
        ready: Some(Readiness::Delay(3_000)).into(),
        start_timeout_ms: 300_000,
        health: vec![HealthCheck::Watchdog { timeout_ms: 30_000 }].into(),
        restart: Shared::from(Policy {
            when: When::Always,
            tries: 7,
            window_ms: 180_000,
            delay_ms: 2_000,
            delay_max_ms: 60_000,
            reset_after_ms: 300_000,
            then: Then::Fail,
            jitter_percent: 10,
            success_codes: vec![0, 3],
            no_restart_codes: vec![78],
        }),
        stop: Stop { signal: libc::SIGINT, timeout_ms: 20_000, command: None }.into(),
        reload: Some(Reload::Signal(libc::SIGUSR1)),
        pid_file: None,
        hooks: Shared::default(),
        drain: Shared::default(),
        output: Output {
            to: OutputTo::Pipe,
            stderr: Stderr::Separate,
            max_size: 65_536,
            max_files: 3,
            max_age_ms: 7 * 86_400_000,
            compress: true,
            timestamps: true,
        },
        identity: Shared::default(),
        cgroup: Vec::new(),
        sockets: Vec::new(),
    };
    assert_eq!(server, ServerConfig::new("web@1".into(), Some(1), expected));
}

#[test]
fn every_key_of_the_node_is_taken() {
    let text = r#"[nodeManager]
name = "n"
standbyPort = 7
runDir = "/run/nm"
stateDir = "s"
logDir = "l"
heartbeatInterval = "20ms"
heartbeatTimeout = "40ms"
onTerm = "keep-servers"
shutdownTimeout = "1m"
logLevel = "trace"
logTarget = "stderr"
logFormat = "json"
logMaxSize = 4096
logMaxFiles = 2
logCompress = true
journalSocket = "/j"
syslogSocket = "sys/log"
controlMode = "0660"
controlGroup = 7
maxParallelStarts = 3
include = []"#;
    let expected = NodeConfig {
        name: "n".into(),
        standby_port: Some(7),
        standby_port_line: Some(3),
        run_dir: "/run/nm".into(),
        state_dir: "/srv/nm/s".into(),
        log_dir: "/srv/nm/l".into(),
        heartbeat_interval_ms: 20,
        heartbeat_timeout_ms: 40,
        on_term: OnTerm::KeepServers,
        shutdown_timeout_ms: 60_000,
        log_level: LogLevel::Trace,
        log_target: LogTarget::Stderr,
        log_format: LogFormat::Json,
        log_max_size: 4_096,
        log_max_files: 2,
        log_compress: true,
        events_max_size: 4 << 20,
        journal_socket: "/j".into(),
        syslog_socket: "/srv/nm/sys/log".into(),
        control_mode: 0o660,
        control_group: Some(ControlGroup { name: "7".into(), line: 20, gid: Some(7) }),
        cgroup_root: Default::default(),
        max_parallel_starts: 3,
        server_user: None,
    };
    assert_eq!(parsed(text).unwrap().node, expected);
}

#[test]
fn the_jeus_names_give_the_defaults_of_every_restart_table() {
    let node = "[nodeManager]\nserverAutoRestart = false\nserverRestartTryCount = 9\n\
                serverRestartDurationTime = 5000\nserverRetryRestart = false\n";
    let text = node.to_owned() + &server_with("restart = { tries = 2 }");
    let policy = parsed(&text).unwrap().servers[0].restart.clone();
    assert_eq!((policy.when, policy.then), (When::Never, Then::Fail));
    assert_eq!((policy.tries, policy.window_ms), (2, 5_000));
    let text = node_with("serverRestartDurationTime = \"5s\"") + &server_with("");
    assert_eq!(parsed(&text).unwrap().servers[0].restart.window_ms, 5_000);
}

#[test]
fn a_program_with_a_slash_is_relative_to_the_home_and_a_bare_name_stays() {
    let program = |command: &str| {
        let text = format!("[[server]]\nname = \"a\"\ncwd = \"/x\"\ncommand = {command}");
        parsed(&text).unwrap().servers.remove(0).command.clone()
    };
    assert_eq!(*program(r#""./bin/a 'b c' d""#), ["/srv/nm/bin/a", "b c", "d"]);
    assert_eq!(*program(r#"["/bin/a", "b c", ""]"#), ["/bin/a", "b c", ""]);
    assert_eq!(*program(r#"["sleep", "./9"]"#), ["sleep", "./9"]);
}

#[test]
fn all_errors_come_at_once_in_the_order_of_their_lines() {
    let text = "[[server]]\nname = \"web\"\ncomand = [\"x\"]\n\n[nodeManager]\nlogDri = 1\n";
    assert_eq!(
        errors_of(text),
        "conf/nodemanager.toml:1: [[server]] web has no command\n\
         conf/nodemanager.toml:3: unknown key \"comand\" in [[server]] web; \
         did you mean \"command\"?\n\
         conf/nodemanager.toml:6: unknown key \"logDri\" in [nodeManager]; \
         did you mean \"logDir\"?"
    );
}

#[test]
fn a_key_below_the_wrong_header_is_told_where_it_belongs() {
    let slipped = server_with("[server.stop]\ncwd = \"/x\"");
    assert_refused(
        &slipped,
        5,
        "\"cwd\" belongs to [[server]] web itself: put it above [server.stop]",
    );
    assert_refused("standbyPort = 1", 1, "it is a key of [nodeManager]");
    assert_refused(&server_with("logDir = \"x\""), 4, "it is a key of [nodeManager]");
    assert_refused(&server_with("timeout = \"1s\""), 4, "it is a key of stop of a [[server]]");
    assert_refused(&server_with("[server.env]\nautoStart = false"), 5, "put it above [server.env]");
    let warnings = parsed(&server_with("[server.env]\ncwd = \"/x\"")).unwrap().warnings;
    assert!(warnings[1].starts_with("conf/nodemanager.toml:5: "), "{warnings:?}");
    assert!(warnings[1].contains("put it above [server.env]"), "{warnings:?}");
}

#[test]
fn a_table_that_is_unknown_is_an_error() {
    assert_refused("[nodemanager]", 1, "did you mean \"nodeManager\"?");
    assert_refused("\n[standby]\nport = 1", 2, "unknown table \"standby\"");
    assert_refused(&server_with("[server.redy]\nhttp = \"x\""), 4, "unknown table \"redy\"");
    assert_refused("[server]\nname = \"a\"", 1, "write [[server]]");
    assert_refused("server = [1]", 1, "array of tables");
    assert_refused("nodeManager = 1", 1, "must be a table");
    assert_refused(&server_with("stop = 1"), 4, "stop of [[server]] web must be a table");
}

#[test]
fn a_wrong_value_is_told_what_would_be_right() {
    for (keys, wanted) in [
        (
            "heartbeatTimeout = 3",
            "heartbeatTimeout must be a duration such as \"3s\", not the number 3",
        ),
        ("heartbeatTimeout = \"3\"", "\"3\" is not a duration"),
        ("heartbeatInterval = \"9ms\"", "at least \"10ms\""),
        ("heartbeatTimeout = \"999ms\"", "at least twice"),
        ("heartbeatInterval = \"2s\"", "at least twice"),
        ("serverRestartDurationTime = -1", "number of milliseconds or a duration"),
        ("logMaxSize = \"10MB\"", "write \"MiB\""),
        ("logMaxSize = 10", "at least \"1KiB\""),
        ("logMaxSize = -1", "a size such as"),
        ("logMaxFiles = 0", "from 1 to 1000"),
        (
            "logLevel = \"loud\"",
            "\"error\", \"warn\", \"info\", \"debug\", \"trace\", not \"loud\"",
        ),
        ("logTarget = \"syslog\"", "one of \"file\", \"stderr\", \"journal\""),
        ("logFormat = \"xml\"", "one of \"text\", \"json\""),
        ("logCompress = 1", "true or false"),
        ("onTerm = true", "not true"),
        ("controlMode = 600", "an octal string such as \"0600\", not the number 600"),
        ("controlMode = \"0680\"", "an octal string"),
        ("controlMode = \"+600\"", "an octal string"),
        ("controlMode = \"1777\"", "an octal string"),
        ("serverAutoRestart = \"yes\"", "true or false, not \"yes\""),
        ("serverRestartTryCount = 99999999999999999999", "not the number 9999"),
        ("runDir = \"\"", "must be a path"),
        ("maxParallelStarts = 0", "a number from 1 to 1000, not the number 0"),
        ("controlGroup = -1", "the name or number of a group, not the number -1"),
        ("controlGroup = [\"a\"]", "the name or number of a group, not an array"),
        ("controlGroup = 4294967295", "can't be 4294967295, which is no group"),
        ("include = \"a.toml\"", "an array of paths such as [\"conf.d/*.toml\"], not \"a.toml\""),
        ("include = [\"\"]", "must not be empty"),
        ("include = [\"/**/a.toml\"]", "name each directory"),
        ("include = [\"a[b\"]", "the pattern is wrong at character 2"),
        ("name = \"a b\"", "letters, digits"),
        ("name = 0x1F", "must be a string, not the number 0x1"),
    ] {
        assert_refused(&node_with(keys), 3, wanted);
    }
    for port in ["0", "65536", "-1", "\"7731\"", "7731.5"] {
        assert_refused(&format!("[nodeManager]\nstandbyPort = {port}"), 2, "from 1 to 65535, not ");
    }
}

#[test]
fn a_wrong_value_of_a_server_names_the_server() {
    for (keys, wanted) in [
        ("autoStart = \"yes\"", "true, false or \"remember\", not \"yes\""),
        ("settleTime = 1", "settleTime of [[server]] web must be a duration such as \"1s\""),
        ("passEnv = \"*\"", "an array of names"),
        ("passEnv = [\"A=B\"]", "without \"=\""),
        ("env = { \"A=B\" = \"x\" }", "no name of a variable"),
        ("env = { \"\" = \"x\" }", "no name of a variable"),
        ("env = { PORT = 1 }", "env.PORT of [[server]] web must be a string, not the number 1"),
        ("env = { NM_SERVER = \"x\" }", "set by the node manager"),
        ("env = { NM_PAIR = \"x\" }", "set by the node manager"),
        ("env = { NM_INSTANCE = \"x\" }", "set by the node manager"),
        ("essential = 1", "essential of [[server]] web must be true or false"),
        ("tags = \"shop\"", "an array of names such as [\"shop\"]"),
        ("tags = [\"a b\"]", "must hold names of letters, digits"),
        ("instances = 0", "a number from 1 to 1000, not the number 0"),
        ("instances = 1001", "a number from 1 to 1000, not the number 1001"),
        ("dependsOn = \"db\"", "an array of names such as [\"redis\", { name"),
        ("dependsOn = [1]", "not one with the number 1"),
        ("dependsOn = [{ onFailure = \"stop\" }]", "has a table without name"),
        ("dependsOn = [{ name = 1 }]", "name of dependsOn of [[server]] web must be a string"),
        (
            "restart.when = \"sometimes\"",
            "restart.when of [[server]] web must be one of \"always\"",
        ),
        ("restart.delay = \"1m\"", "(60000 ms) must not be more than delayMax (30000 ms)"),
        ("restart = { delay = \"1ms\", delayMax = \"1ms\" }", "at least \"100ms\""),
        ("restart.tries = 1001", "from 0 to 1000"),
        ("stop.signal = \"SIGFOO\"", "\"SIGFOO\" is not a signal"),
        ("stop.signal = 0", "must be a signal such as \"SIGTERM\", not the number 0"),
        ("output.to = \"file\"", "output.to of [[server]] web must be one of \"pipe\", \"direct\""),
        ("output.stderr = \"both\"", "one of \"merge\", \"separate\", \"null\""),
        ("output.maxAge = 7", "a duration such as \"7d\""),
        ("output.maxAge = \"10ms\"", "at least \"1s\", or \"0s\" for none"),
        ("output.compress = \"gzip\"", "true or false"),
        ("output.timestamps = \"yes\"", "true or false"),
        ("cwd = \"a\\u0000\"", "NUL"),
        ("env = { \"a\\u0000\" = \"\" }", "NUL"),
    ] {
        assert_refused(&server_with(keys), 4, wanted);
    }
}

#[test]
fn a_server_needs_a_name_and_a_command_that_can_be_run() {
    for command in ["\"\"", "[]", "[\"\"]", "[\"\", \"a\"]", "\"'\"", "1", "[\"a\", 1]"] {
        let text = format!("[[server]]\nname = \"web\"\ncommand = {command}");
        assert_refused(&text, 3, "command of [[server]] web ");
    }
    for name in ["", ".", "..", "-a", "all", "a/b", "a b", "web@1", "ä", &"a".repeat(101)] {
        let text = format!("[[server]]\ncommand = \"x\"\nname = \"{name}\"");
        assert_refused(&text, 3, "name of [[server]] ");
    }
    assert_refused("\n[[server]]\ncommand = \"x\"", 2, "[[server]] number 1 has no name");
    assert_refused("\n[[server]]\nname = \"x\"", 2, "[[server]] x has no command");
}

#[test]
fn a_server_that_is_defined_twice_is_refused_with_both_lines() {
    let text = server_with("") + &server_with("");
    assert_refused(&text, 5, "[[server]] web is defined twice: here and in line 1");
}

#[test]
fn a_control_socket_path_that_does_not_fit_is_refused_with_its_length() {
    let run_dir = |length: usize| node_with(&format!("runDir = \"/{}\"", "r".repeat(length - 1)));
    let name = "/control.sock".len();
    assert!(parsed(&run_dir(107 - name)).is_ok());
    assert_refused(&run_dir(108 - name), 3, "has 108 bytes");
    let home = format!("/{}", "h".repeat(120));
    let errors = parse("", Path::new(FILE), Path::new(&home)).unwrap_err().to_string();
    assert!(errors.contains("choose a shorter runDir"), "{errors}");
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    assert_refused("[nodeManager]\nname = web", 2, "not valid TOML");
    assert_refused("[nodeManager]\n\nname = \"web", 3, "not valid TOML");
    assert_refused("[nodeManager]\nname = \"a\"\nname = \"b\"", 3, "at \"name\": duplicate key");
    assert_refused("[nodeManager]\n[nodeManager]", 2, "duplicate key");
    let errors = parsed("a = \nb = \n").unwrap_err().0;
    assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert!(parsed(&"[".repeat(100_000)).is_err());
    assert!(parsed(&format!("a = {}", "[".repeat(100_000))).is_err());
    assert!(parsed(&format!("a{} = 1", ".a".repeat(100_000))).is_err());
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_taken() {
    let text = "\u{feff}[nodeManager]\r\nstandbyPort = 1\r\nlogDri = 1\r\n";
    assert_refused(text, 3, "logDri");
}

#[test]
fn of_endless_errors_a_hundred_are_shown_and_the_others_counted() {
    let text = "[[server]]\nname = \"x\"\n".repeat(150);
    let errors = parsed(&text).unwrap_err().0;
    assert_eq!(errors.len(), 101);
    assert!(errors[100].text.contains("and 199 more errors"), "{errors:?}");
}

#[test]
fn a_configuration_survives_the_way_through_json() {
    let config = parsed(SAMPLE).unwrap();
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
}

#[test]
fn the_effective_lines_show_the_resolved_paths_and_each_server() {
    let lines = effective_lines(&parsed(SAMPLE).unwrap());
    for line in [
        "home            /srv/nm",
        "runDir          /srv/nm/run",
        "control socket  /srv/nm/run/control.sock",
        "standbyPort     7731",
        "server demo-1   /srv/nm/target/release/examples/demo_server --port 8101 (in /srv/nm)",
    ] {
        assert!(lines.lines().any(|found| found == line), "{line}\n{lines}");
    }
    let text = "[[server]]\nname = \"a\"\ncommand = [\"x\", \"1\\n2\"]";
    assert_eq!(effective_lines(&parsed(text).unwrap()).lines().count(), 8);
}

#[test]
fn what_is_nested_too_deep_is_refused_with_its_line() {
    let keys = "a.".repeat(200);
    let text = format!("# 1\n[nodeManager]\n{keys}b = 1\nstandbyPort = 1\n");
    assert_refused(&text, 3, "recursion limit");
    let lists = format!("[nodeManager]\nname = {}1{}\n", "[".repeat(200), "]".repeat(200));
    assert_eq!(parsed(&lists).unwrap_err().0[0].line, Some(2));
}
