//! The configuration: any bytes are one, or are refused with the lines of all errors.

use nodemanager::config::{Config, ConfigErrors, effective_lines, parse_bytes};
use std::path::Path;

pub const WORDS: &[&str] = &[
    "[nodeManager]\n",
    "[[server]]\n",
    "[server.env]\n",
    "name = ",
    "command = ",
    "stop = ",
    "env = ",
    "restart = ",
    "delay = ",
    "standbyPort = ",
    "runDir = ",
    "passEnv = ",
    "output = ",
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

fn read(data: &[u8]) -> Result<Config, ConfigErrors> {
    parse_bytes(data.to_vec(), Path::new("nm.toml"), Path::new("/home"))
}

pub fn run(data: &[u8]) {
    let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
    match read(data) {
        Ok(config) => accepted(data, &config),
        Err(errors) => {
            assert!(!errors.0.is_empty(), "refused without a reason");
            assert!(errors.0.len() <= 101, "{} errors", errors.0.len());
            for (at, error) in errors.0.iter().enumerate() {
                let is_rest = at == 100 && error.text.ends_with("more errors");
                let line = error.line.map_or(0, |line| line as usize);
                assert!(is_rest || (1..=lines).contains(&line), "{lines} lines: {error}");
                assert!(!error.text.trim().is_empty());
                assert!(!error.to_string().contains(char::is_control), "{error:?}");
            }
            let in_order = errors.0.iter().filter(|error| error.line.is_some());
            assert!(in_order.map(|error| error.line).is_sorted(), "{errors}");
            assert_eq!(errors.to_string().lines().count(), errors.0.len());
        }
    }
}

fn accepted(data: &[u8], config: &Config) {
    assert_eq!(read(data).as_ref(), Ok(config), "read twice, it is the same");
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
        let words = server.command.iter().chain(server.env.keys()).chain(server.env.values());
        assert!(words.clone().all(|word| !word.contains('\0')), "{words:?}");
        assert!(server.env.keys().all(|key| !key.is_empty() && !key.contains('=')));
        assert!((1..=64).contains(&server.stop.signal));
    }
    let shown = effective_lines(config);
    assert_eq!(shown.lines().count(), 7 + config.servers.len(), "{shown}");
    // Timers are sums of these: none may reach the end of a u64 (multiplied by the doublings).
    assert!(node.heartbeat_timeout_ms.checked_mul(1 << 8).is_some());
}

pub fn seeds() -> Vec<Vec<u8>> {
    let small = "[nodeManager]\nstandbyPort = 7\nheartbeatTimeout = \"3s\"\n[[server]]\nname = \"a\"\n\
         command = \"x 'y'\"\nstop = { signal = 15 }\n[server.env]\nA = \"b\"\n";
    let full = "[nodeManager]\nname = \"n\"\nrunDir = \"r\"\nonTerm = \"keep-servers\"\n[[server]]\n\
         name = \"b\"\ncommand = [\"/x\", \"y\"]\npassEnv = [\"LC_*\"]\nautoStart = \"remember\"\n\
         restart = { when = \"on-failure\", tries = 5, window = \"2m\", delay = \"1s\", delayMax = \"30s\" }\n\
         output = { to = \"pipe\", stderr = \"separate\", maxSize = \"10MiB\", maxFiles = 7, maxAge = \"7d\" }\n";
    let damaged = "[nodeManager\nname = \"n\n[[server]]\nnmae = 1\n\0";
    vec![small.into(), full.into(), damaged.into(), b"# 1\n# \xe4\n".to_vec()]
}
