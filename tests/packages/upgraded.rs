//! An upgrade of the package: the pair moves, no server notices, and what fails changes nothing.

use crate::debian::{Debian, OWN, UNIT, next_package, package, put_script, repackaged};
use crate::next_version::NEXT;
use crate::support::{both, wait_until};

fn both_are(version: &str) -> (String, String) {
    (version.to_owned(), version.to_owned())
}

/// dpkg has it as installed and configured.
fn is_configured(debian: &Debian, version: &str) -> bool {
    let words = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", "nodemanager"];
    debian.0.ok(&words) == format!("ii {version}")
}

#[test]
fn an_upgrade_moves_pair_and_keeper_and_one_that_does_not_work_leaves_them_as_they_are() {
    let (Some(package), Some(next)) = (package(), next_package()) else { return };
    let Some((debian, servers)) = Debian::with_servers() else { return };
    let keeper = debian.whole()["keeper"]["pid"].clone();
    assert_eq!(debian.versions(), both_are(OWN));

    let said = debian.install(&next);
    assert!(said.contains(&format!("{OWN} -> {NEXT}")), "{said}");
    assert_eq!((debian.versions(), debian.servers()), (both_are(NEXT), servers.clone()));
    assert_eq!(debian.whole()["keeper"]["pid"], keeper, "the same process");
    let exe = format!("/proc/{keeper}/exe");
    wait_until("the keeper to run the new program", || {
        debian.0.ok(&["readlink", &exe]).trim() == "/usr/bin/nodemanager"
    });

    let broken = repackaged(&package, "0.999.1-1", |tree| {
        put_script(tree, "usr/bin/nodemanager", "#!/bin/sh\necho no such luck >&2\nexit 70\n");
    });
    let before = debian.whole();
    let said = debian.install(&broken);
    assert!(is_configured(&debian, "0.999.1-1"));
    for text in ["WARNING", "was not upgraded (exit status 70)", "no such luck", "goes on"] {
        assert!(said.contains(text), "{said}");
    }
    // What is installed can't tell the status: a program that works does.
    let good = repackaged(&package, "0.999.2-1", |_| {});
    let working = "/srv/working/usr/bin/nodemanager";
    debian.0.copy(&good, "/srv/good.deb");
    debian.0.ok(&["dpkg-deb", "--extract", "/srv/good.deb", "/srv/working"]);
    let words = [working, "status", "--json", "-c", "/etc/nodemanager/nodemanager.toml"];
    let status: serde_json::Value = serde_json::from_str(&debian.0.ok(&words)).unwrap();
    for role in ["active", "standby", "keeper"] {
        assert_eq!(status[role]["pid"], before[role]["pid"], "{role}");
    }
    assert_eq!(debian.0.property(UNIT, "ActiveState"), "active");
    assert!(servers.values().all(|pid| debian.is_alive(*pid)));

    let said = debian.install(&good);
    assert!(said.contains(&format!("{NEXT} -> {OWN}")), "{said}");
    assert_eq!((debian.versions(), debian.servers()), (both_are(OWN), servers));
    assert_eq!(debian.0.property(UNIT, "NRestarts"), "0");
}

#[test]
fn an_upgrade_that_fails_in_the_middle_leaves_the_pair_running() {
    let Some(package) = package() else { return };
    let Some((debian, servers)) = Debian::with_servers() else { return };
    let before = debian.whole();
    let is_as_before = |what: &str| {
        let now = debian.whole();
        for role in ["active", "standby", "keeper"] {
            assert_eq!(now[role]["pid"], before[role]["pid"], "{what}: {role}");
        }
        assert_eq!(debian.servers(), servers, "{what}");
    };
    // dpkg takes back what it has begun, and calls the old postinst with abort-upgrade.
    let refused = repackaged(&package, "0.2.0-1", |tree| {
        put_script(tree, "DEBIAN/preinst", "#!/bin/sh\nexit 1\n");
    });
    let output = debian.dpkg(&refused);
    assert!(!output.status.success(), "{}", both(&output));
    assert!(is_configured(&debian, &format!("{OWN}-1")));
    is_as_before("preinst failed");

    let unconfigured = repackaged(&package, "0.3.0-1", |tree| {
        put_script(tree, "DEBIAN/postinst", "#!/bin/sh\nexit 1\n");
    });
    let output = debian.dpkg(&unconfigured);
    assert!(!output.status.success(), "{}", both(&output));
    is_as_before("postinst failed");
    // The next version makes it good.
    debian.install(&repackaged(&package, "0.4.0-1", |_| {}));
    assert_eq!(debian.servers(), servers);
    assert_eq!(debian.0.ok(&["dpkg", "--audit"]), "");
}

#[test]
fn a_pair_that_was_stopped_or_disabled_stays_so_and_instances_move_too() {
    let (Some(package), Some(next)) = (package(), next_package()) else { return };
    let Some((debian, _)) = Debian::with_servers() else { return };
    let machine = &debian.0;
    machine.ok(&["systemctl", "disable", "--now", UNIT]);
    let shop = "[nodeManager]\nname = \"shop\"\nstandbyPort = 7732\nrunDir = \"/run/nodemanager-shop\"\n\
                stateDir = \"/var/lib/nodemanager-shop\"\nlogDir = \"/var/log/nodemanager-shop\"\n\
                [[server]]\nname = \"till\"\ncommand = [\"/bin/sleep\", \"100000\"]\n";
    machine.write("/etc/nodemanager/shop.toml", shop);
    machine.ok(&["systemctl", "enable", "--now", "nodemanager@shop"]);
    let status = || {
        let words = ["nodemanager", "status", "--json", "-c", "/etc/nodemanager/shop.toml"];
        serde_json::from_str::<serde_json::Value>(&machine.ok(&words)).unwrap()
    };
    let till = status()["servers"][0]["pid"].clone();
    let said = debian.install(&next);
    assert!(said.contains("shop.toml: ") && !said.contains("WARNING"), "{said}");
    let after = status();
    assert_eq!(
        (after["active"]["version"].as_str(), &after["servers"][0]["pid"]),
        (Some(NEXT), &till)
    );
    assert_eq!(machine.property(UNIT, "ActiveState"), "inactive");
    let is_enabled = machine.run(&["systemctl", "is-enabled", UNIT]);
    assert_eq!(String::from_utf8_lossy(&is_enabled.stdout).trim(), "disabled");
    debian.install(&package);
    assert_eq!(status()["servers"][0]["pid"], till);
}
