//! What is there after the installation.

use crate::debian::{Debian, OWN, SERVERS, UNIT, package};
use crate::support::{both, wait_until};
use std::path::Path;

#[test]
fn the_installed_package_runs_a_pair_and_a_file_in_conf_d_brings_servers() {
    let Some(package) = package() else { return };
    let Some(debian) = Debian::boot() else { return };
    let machine = &debian.0;
    machine.copy(&package, "/srv/nodemanager.deb");
    let words = ["apt-get", "install", "--yes", "/srv/nodemanager.deb"];
    machine.ok(&[&["env", "DEBIAN_FRONTEND=noninteractive"], &words[..]].concat());
    assert_eq!(machine.ok(&["dpkg", "--verify", "nodemanager"]), "");
    assert_eq!(machine.ok(&["systemctl", "is-enabled", UNIT]).trim(), "enabled");
    let status = debian.whole();
    assert_eq!((&status["pair"], &status["servers"]), (&"ok".into(), &serde_json::json!([])));
    machine.ok(&["nodemanager", "status"]);
    machine.ok(&["nodemanager", "doctor"]);

    machine.write("/etc/nodemanager/conf.d/two.toml", SERVERS);
    machine.ok(&["nodemanager", "check"]);
    machine.ok(&["systemctl", "reload", UNIT]);
    let servers = debian.servers();
    assert_eq!(servers.keys().collect::<Vec<_>>(), ["db", "web"]);
    // The user of servers that name none.
    wait_until("its word", || machine.ok(&["nodemanager", "logs", "web"]).trim() == "nodemanager");

    let active = debian.whole()["active"]["pid"].as_i64().expect("an active");
    machine.ok(&["sh", "-c", &format!("kill -9 {active}")]);
    let after = debian.whole();
    assert!(after["active"]["pid"] != active && debian.servers() == servers, "{after}");

    files_are_in_their_places(&debian);
    start_scripts_find_everything(&debian);
}

fn files_are_in_their_places(debian: &Debian) {
    let machine = &debian.0;
    for page in ["man1/nodemanager.1.gz", "man5/nodemanager.toml.5.gz"] {
        let page = format!("/usr/share/man/{page}");
        let text = machine.ok(&["gzip", "-cd", &page]);
        assert!(text.contains(".TH"), "{page}");
    }
    machine.ok(&["bash", "-n", "/usr/share/bash-completion/completions/nodemanager"]);
    for file in [
        "/usr/share/zsh/vendor-completions/_nodemanager",
        "/usr/share/fish/vendor_completions.d/nodemanager.fish",
        "/usr/share/doc/nodemanager/examples/logrotate",
        "/usr/share/doc/nodemanager/copyright",
        "/usr/share/doc/nodemanager/changelog.gz",
        // The unit's Documentation=
        "/usr/share/doc/nodemanager/INIT.md",
        "/usr/lib/systemd/user/nodemanager.service",
        "/etc/needrestart/conf.d/nodemanager.conf",
    ] {
        assert!(debian.has(file), "{file}");
    }
    let template = machine.run(&["systemctl", "cat", "nodemanager@one.service"]);
    assert!(template.status.success(), "{}", both(&template));
}

/// They are for machines without systemd; beside the unit they find its pair.
fn start_scripts_find_everything(debian: &Debian) {
    let start = debian.0.ok(&["/usr/lib/nodemanager/startNodeManager"]);
    let active = debian.whole()["active"]["pid"].as_i64().expect("an active");
    assert!(start.contains(&active.to_string()), "{start}");
}

#[test]
fn the_init_script_is_the_unit_where_systemd_runs() {
    let Some((debian, servers)) = Debian::with_servers() else { return };
    let script = "/etc/init.d/nodemanager";
    debian.0.ok(&[script, "status"]);
    debian.0.ok(&[script, "restart"]);
    let after = debian.servers();
    assert!(after.len() == 2 && after["db"] != servers["db"], "{after:?}");
    debian.0.ok(&[script, "stop"]);
    assert_eq!(debian.0.property(UNIT, "ActiveState"), "inactive");
    debian.wait_for_no_process();
}

#[test]
fn the_scripts_of_the_package_please_shellcheck_and_no_file_is_empty() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let scripts = ["build-deb", "deb/preinst", "deb/postinst", "deb/prerm", "deb/postrm"];
    if crate::support::has_tool("shellcheck") {
        let mut command = std::process::Command::new("shellcheck");
        let output = command.args(scripts.map(|name| home.join(name))).output().unwrap();
        assert!(output.status.success(), "{}", both(&output));
    }
    let Some(package) = package() else { return };
    let listed = std::process::Command::new("dpkg-deb").arg("-c").arg(&package).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for line in listed.lines().filter(|line| line.starts_with('-')) {
        let size = line.split_whitespace().nth(2);
        assert!(line.contains("root/root") || line.contains("0/0"), "{line}");
        assert!(size != Some("0"), "{line}");
    }
    assert!(package.to_string_lossy().contains(OWN));
}
