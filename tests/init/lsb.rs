//! The LSB init script: its words and its exit statuses.

use crate::support::{Pair, both};
use crate::{has_tool, project};
use std::fs;
use std::process::{Command, Output, Stdio};

const SCRIPT: &str = "conf/init.d/nodemanager";

const WEB: &str = "[[server]]\nname = \"web\"\ncommand = [\"/bin/sleep\", \"100000\"]\n";

/// The script for one pair: it reads its settings from a file of this test's instead of /etc/default.
struct Script {
    path: std::path::PathBuf,
}

impl Script {
    fn new(pair: &Pair, daemon: &str) -> Script {
        let settings = pair.home.join("settings");
        let config = pair.config().display().to_string();
        fs::write(&settings, format!("DAEMON={daemon}\nCONFIG={config}\n")).unwrap();
        let text = fs::read_to_string(project(SCRIPT)).unwrap();
        let path = pair.home.join("script");
        let text = text.replace("/etc/default/nodemanager", &settings.display().to_string());
        fs::write(&path, text).unwrap();
        Script { path }
    }

    fn run(&self, word: &str) -> Output {
        let mut command = Command::new("sh");
        command.arg(&self.path).arg(word).stdin(Stdio::null()).output().expect("sh runs")
    }

    fn gives(&self, word: &str, status: i32) {
        let output = self.run(word);
        assert_eq!(output.status.code(), Some(status), "{word}: {}", both(&output));
    }
}

#[test]
fn the_init_script_starts_reloads_and_stops_and_its_exit_statuses_are_those_of_the_lsb() {
    let pair = Pair::new("", WEB);
    let script = Script::new(&pair, crate::support::binary());
    for (word, status) in
        [("status", 3), ("reload", 7), ("stop", 0), ("try-restart", 0), ("status", 3), ("dance", 2)]
    {
        script.gives(word, status);
    }
    script.gives("start", 0);
    pair.wait_whole();
    let first = pair.pids();
    script.gives("status", 0);
    script.gives("start", 0);
    pair.configure("", &(WEB.to_string() + &WEB.replace("web", "more")));
    script.gives("force-reload", 0);
    assert_eq!((pair.pids()["web"], pair.pids().len()), (first["web"], 2));
    script.gives("restart", 0);
    assert!(pair.pids()["web"] != first["web"]);
    script.gives("try-restart", 0);
    pair.configure("", "nonsense");
    script.gives("reload", 6);
    script.gives("stop", 0);
    script.gives("status", 4);
    script.gives("start", 6);
    assert_eq!(pair.processes(), Vec::<i32>::new());
}

#[test]
fn what_is_not_installed_or_not_configured_has_its_own_exit_status() {
    let pair = Pair::new("", WEB);
    let missing = Script::new(&pair, "/nowhere/nodemanager");
    for (word, status) in [("start", 5), ("reload", 5), ("stop", 0), ("status", 4)] {
        missing.gives(word, status);
    }
    let script = Script::new(&pair, crate::support::binary());
    fs::remove_file(pair.config()).unwrap();
    script.gives("start", 6);
}

#[test]
fn shellcheck_has_nothing_to_say_about_the_init_script() {
    if !has_tool("shellcheck") {
        return;
    }
    let output = Command::new("shellcheck").arg(project(SCRIPT)).output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
}
