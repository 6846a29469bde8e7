//! The configuration: any text is one, or is refused with the lines of all errors. Behind a form
//! feed is the text of a second file, as if it were included.

use nodemanager::config::{
    Config, ConfigError, ConfigErrors, Input, ServerConfig, Source, Unset, effective,
    effective_lines, includes, parse_input,
};
use std::collections::BTreeSet;
use std::path::Path;

/// Between the two files.
const NEXT_FILE: char = '\x0c';

pub const WORDS: &[&str] = &[
    "[nodeManager]\n",
    "[[server]]\n",
    "[server.env]\n",
    "name = ",
    "command = ",
    "stop = ",
    "env = ",
    "\x0c",
    "instances = 2\n",
    "instances = 1000\n",
    "[server.vars]\n",
    "vars = { a = [1, 2], b = \"x\" }\n",
    "tags = [\"t\"]\n",
    "dependsOn = [\"a\"]\n",
    "dependsOn = [\"tag:t\", { name = \"b\", onFailure = \"stop\" }]\n",
    "include = [\"*\"]\n",
    "${",
    "$$",
    "${a}",
    "${instance}",
    "${EMPTY:-x}",
    "${WORDS}",
    "controlGroup = ",
    "maxParallelStarts = ",
    "restart = ",
    "delay = ",
    "standbyPort = ",
    "runDir = ",
    "passEnv = ",
    "user = ",
    "group = ",
    "umask = ",
    "envFile = ",
    "limits = ",
    "nofile = ",
    "nice = ",
    "oomScoreAdjust = ",
    "lock = ",
    "file = ",
    "\"027\"",
    "\"0:unlimited\"",
    "output = ",
    "hooks = ",
    "preStart = ",
    "onFailure = { command = \"x\", timeout = \"1s\" }",
    "reload = ",
    "drain = ",
    "check = ",
    "onTimeout = \"keep\"",
    "on = [\"drain\", \"stop\"]",
    "type = \"forking\"\n",
    "pidFile = ",
    "startTimeout = ",
    "cgroup = ",
    "set = { \"a.b\" = 1 }",
    "cgroupRoot = ",
    "stderr = ",
    "maxAge = ",
    "= ",
    "{ ",
    " }",
    "[",
    "]",
    ",",
    ".",
    "\n",
    "\"",
    "'",
    "\"\"\"",
    "\"web\"",
    "\"10s\"",
    "\"\\u0000\"",
    "65536",
    "-9223372036854775809",
    "0x",
    "1e400",
    "inf",
    "true",
    "1979-05-27",
    "#",
    "\u{e4}",
    "\r\n",
    "\"18446744073709551615d\"",
    "\"0\"",
    "\"..\"",
    "\"/\"",
    "\"10KiB\"",
    "\"SIGKILL\"",
];

/// The two files and an environment.
fn input(text: &str) -> Input {
    let (main, second) = match text.split_once(NEXT_FILE) {
        Some((main, second)) => (main, Some(second)),
        None => (text, None),
    };
    let second = second.map(|text| Source { file: "second.toml".into(), text: text.to_owned() });
    let environment = [("WORDS", "a ${b} 'c"), ("EMPTY", ""), ("HOME", "/h")];
    Input {
        included: second.into_iter().collect(),
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Input::new(main, Path::new("nm.toml"), Path::new("/home"))
    }
}

pub fn run(data: &[u8]) {
    // Other bytes are refused where a file is read.
    let Ok(text) = str::from_utf8(data) else { return };
    let input = input(text);
    for include in includes(&input.main) {
        assert!(!include.pattern.is_empty() && include.line as usize <= lines(&input.main.text));
    }
    let result = parse_input(&input);
    match &result {
        Ok(config) => accepted(&input, config),
        Err(errors) => refused(&input, errors),
    }
    // A command to a running pair forgives a variable that is not set, and nothing else.
    let lenient = parse_input(&Input { unset: Unset::Leave, ..input.clone() });
    match (&result, &lenient) {
        (Ok(config), lenient) => assert_eq!(lenient.as_ref(), Ok(config)),
        (Err(errors), Ok(_)) => assert!(errors.to_string().contains("is not set"), "{errors}"),
        (Err(_), Err(errors)) => refused(&input, errors),
    }
}

fn lines(text: &str) -> usize {
    1 + text.matches('\n').count()
}

fn refused(input: &Input, errors: &ConfigErrors) {
    assert!(!errors.0.is_empty(), "refused without a reason");
    assert!(errors.0.len() <= 101, "{} errors", errors.0.len());
    let file_of = |error: &ConfigError| {
        input.sources().position(|source| source.file == error.file).expect("one of the files")
    };
    for (at, error) in errors.0.iter().enumerate() {
        let is_rest = at == 100 && error.text.ends_with("more errors");
        let line = error.line.map_or(0, |line| line as usize);
        let lines = input.sources().nth(file_of(error)).map_or(0, |source| lines(&source.text));
        assert!(is_rest || (1..=lines).contains(&line), "{lines} lines: {error}");
        assert!(!error.text.trim().is_empty());
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
    let in_order = errors.0.iter().filter(|error| error.line.is_some());
    assert!(in_order.map(|error| (file_of(error), error.line)).is_sorted(), "{errors}");
    assert_eq!(errors.to_string().lines().count(), errors.0.len());
}

fn accepted(input: &Input, config: &Config) {
    assert_eq!(parse_input(input).as_ref(), Ok(config), "read twice, it is the same");
    // It goes as JSON to the processes of the pair.
    super::comes_back(config);
    let node = &config.node;
    assert!(node.standby_port != Some(0));
    assert!(node.heartbeat_timeout_ms >= 2 * node.heartbeat_interval_ms);
    for dir in [&node.run_dir, &node.state_dir, &node.log_dir] {
        assert!(dir.is_absolute(), "{}", dir.display());
    }
    assert!(node.control_socket().as_os_str().len() <= 107);
    let mut names: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    for server in &config.servers {
        assert!(!server.command.is_empty() && server.cwd.is_absolute());
        assert!(!server.name.contains(['/', '\0']) && server.name != "." && server.name != "..");
        assert_eq!(server.name.split('@').next(), Some(server.program.name.as_str()));
        assert_eq!(server.name.contains('@'), server.instance.is_some());
        let words = server.command.iter().chain(server.env.keys()).chain(server.env.values());
        assert!(words.clone().all(|word| !word.contains('\0')), "{words:?}");
        assert!(server.env.keys().all(|key| !key.is_empty() && !key.contains('=')));
        assert!((1..=64).contains(&server.stop.signal));
        let identity = &server.identity;
        assert!(identity.limits.iter().all(|limit| limit.soft <= limit.hard));
        assert!(identity.nice.is_none_or(|nice| (-20..=19).contains(&nice)));
        assert!(identity.oom_score_adjust.is_none_or(|score| (-1000..=1000).contains(&score)));
        assert!(identity.env_files.iter().all(|file| file.path.is_absolute()));
        assert!(identity.lock.as_ref().is_none_or(|lock| lock.file.is_absolute()));
        assert!(identity.umask.is_none_or(|umask| umask <= 0o777));
    }
    let shown = effective_lines(config);
    let rows = 7 + config.included.len() + config.servers.len();
    assert_eq!(shown.lines().count(), rows, "{shown}");
    needs(config);
    comes_to_itself(input, config);
    // Timers are sums of these: none may reach the end of a u64 (multiplied by the doublings).
    assert!(node.heartbeat_timeout_ms.checked_mul(1 << 8).is_some());
}

/// Every server that is needed is one, and there is no circle: they can be put in an order.
fn needs(config: &Config) {
    assert!(config.servers.len() <= 10_000);
    let mut left: Vec<_> = config.servers.iter().filter(|one| !one.depends_on.is_empty()).collect();
    let waits: BTreeSet<&str> = left.iter().map(|server| server.name.as_str()).collect();
    let names: BTreeSet<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    let mut ready: BTreeSet<&str> = names.difference(&waits).copied().collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|server| {
            let is_ready = server.depends_on.iter().all(|one| ready.contains(one.name.as_str()));
            if is_ready {
                ready.insert(&server.name);
            }
            !is_ready
        });
        assert!(left.len() < before, "a circle, or an unknown name: {left:?}");
    }
}

/// What `check --effective` shows is TOML of the same servers; and without instances and variables
/// it is the same configuration.
fn comes_to_itself(input: &Input, config: &Config) {
    let shown = effective(input).expect("what is accepted can be shown").to_toml();
    let has_instances = config.servers.iter().any(|server| server.instance.is_some());
    if has_instances || shown.contains('$') {
        return;
    }
    let again = parse_input(&Input::new(&shown, &input.main.file, &input.home));
    let again = again.unwrap_or_else(|errors| panic!("{errors}\n{shown}"));
    let plain = |servers: &[ServerConfig]| {
        let without_place = |server: &ServerConfig| {
            let mut server = server.clone();
            (server.file, server.line) = (std::path::PathBuf::new().into(), 0);
            let mut identity = (*server.identity).clone();
            identity.user.iter_mut().chain(&mut identity.groups).for_each(|one| one.line = None);
            server.identity = identity.into();
            server
        };
        servers.iter().map(without_place).collect::<Vec<_>>()
    };
    assert_eq!(plain(&again.servers), plain(&config.servers), "{shown}");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let small = "[nodeManager]\nstandbyPort = 7\nheartbeatTimeout = \"3s\"\n[[server]]\nname = \"a\"\n\
         command = \"x 'y'\"\nstop = { signal = 15 }\n[server.env]\nA = \"b\"\n";
    let full = "[nodeManager]\nname = \"n\"\nrunDir = \"r\"\nonTerm = \"keep-servers\"\n[[server]]\n\
         name = \"b\"\ncommand = [\"/x\", \"y\"]\npassEnv = [\"LC_*\"]\nautoStart = \"remember\"\n\
         restart = { when = \"on-failure\", tries = 5, window = \"2m\", delay = \"1s\", delayMax = \"30s\" }\n\
         output = { to = \"pipe\", stderr = \"separate\", maxSize = \"10MiB\", maxFiles = 7, maxAge = \"7d\" }\n\
         user = \"web\"\ngroup = [\"a\", 7]\numask = \"027\"\nenvFile = [\"-x\"]\nnice = 5\n\
         limits = { nofile = 9, core = \"0:unlimited\", as = \"1GiB\" }\n\
         lock = { file = \"/l\", timeout = \"1m\" }\n";
    let many = "[nodeManager]\ninclude = [\"a.toml\", \"conf.d/*.toml\"]\ncontrolGroup = \"g\"\n\
         maxParallelStarts = 3\n[[server]]\nname = \"a\"\ncommand = \"x ${p} ${E:-1} '${WORDS}'\"\n\
         instances = 2\nvars = { p = [1, 2] }\ntags = [\"t\"]\nessential = true\n\x0c[[server]]\n\
         name = \"b\"\ncommand = [\"${HOME}\", \"$$\"]\nenv = { A = \"${name}\" }\n\
         dependsOn = [\"a@1\", { name = \"tag:t\", onFailure = \"stop\" }]\n";
    let beside = "[nodeManager]\ncgroupRoot = \"/c\"\n[[server]]\nname = \"a\"\ncommand = \"x\"\n\
         hooks = { preStart = \"y 'z'\", preStop = [\"y\"], onFailure = { command = \"y\", timeout = \"3s\" } }\n\
         stop = { command = [\"s\"], timeout = \"9s\" }\nreload = { command = \"r\" }\n\
         drain = { command = \"q\", check = [\"t\"], interval = \"1s\", timeout = \"5m\", onTimeout = \"keep\", \
         on = [\"drain\", \"stop\", \"restart\"] }\ncgroup = { memoryMax = \"1GiB\", set = { \"pids.max\" = 9 } }\n\
         [[server]]\nname = \"d\"\ncommand = \"x\"\ntype = \"forking\"\npidFile = \"d.pid\"\n\
         startTimeout = \"20s\"\nreload = { signal = \"SIGHUP\" }\n";
    let damaged = "[nodeManager\nname = \"n\n[[server]]\nnmae = 1\n\0";
    vec![
        small.into(),
        full.into(),
        damaged.into(),
        b"# 1\n# \xe4\n".to_vec(),
        many.into(),
        beside.into(),
    ]
}
