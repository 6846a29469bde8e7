//! Removal, installation again, purge.

use crate::debian::{Debian, UNIT, package};

#[test]
fn a_removal_ends_all_in_order_a_new_installation_starts_it_again_and_a_purge_leaves_nothing() {
    let Some(package) = package() else { return };
    let Some((debian, servers)) = Debian::with_servers() else { return };
    let machine = &debian.0;
    let keeper = debian.whole()["keeper"]["pid"].as_i64().expect("a keeper");
    machine.ok(&["dpkg", "--remove", "nodemanager"]);
    assert!(servers.values().all(|pid| !debian.is_alive(*pid)) && !debian.is_alive(keeper));
    debian.wait_for_no_process();
    // Or systemd would make a unit of the init script, which is configuration and stays.
    assert_eq!(machine.property(UNIT, "LoadState"), "masked");
    assert!(!debian.has("/usr/bin/nodemanager") && !debian.has("/usr/lib/nodemanager"));
    for kept in [
        "/etc/nodemanager/nodemanager.toml",
        "/etc/nodemanager/conf.d/two.toml",
        "/var/lib/nodemanager",
        "/var/log/nodemanager/web.out",
    ] {
        assert!(debian.has(kept), "{kept}");
    }
    // In the order of a stop: who needs another one first.
    let log = machine.ok(&["sh", "-c", "cat /var/log/nodemanager/*.log"]);
    let gone = |name: &str| {
        log.rfind(&format!("{name}: STOPPED")).unwrap_or_else(|| panic!("{name}: {log}"))
    };
    assert!(gone("web") < gone("db"), "{log}");

    debian.install(&package);
    debian.whole();
    assert_eq!(debian.servers().keys().collect::<Vec<_>>(), ["db", "web"]);

    let shop = "[nodeManager]\nname = \"shop\"\nstandbyPort = 7732\nrunDir = \"/run/nodemanager-shop\"\n\
                stateDir = \"/var/lib/nodemanager-shop\"\nlogDir = \"/var/log/nodemanager-shop\"\nonTerm = \"keep-servers\"\n\
                [[server]]\nname = \"till\"\ncommand = [\"/bin/sleep\", \"100000\"]\n";
    machine.write("/etc/nodemanager/shop.toml", shop);
    machine.ok(&["systemctl", "enable", "--now", "nodemanager@shop"]);
    machine.ok(&["dpkg", "--purge", "nodemanager"]);
    // Also what onTerm would keep.
    debian.wait_for_no_process();
    let find = "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /srv -prune -o -name '*nodemanager*' -print; \
                ls -d /run/*nodemanager* 2>/dev/null";
    let left = machine.run(&["sh", "-c", find]);
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert_eq!(left, "");
    let unit = machine.run(&["systemctl", "is-enabled", UNIT]);
    assert!(!unit.status.success());
    assert_eq!(
        machine.ok(&["systemctl", "list-units", "--all", "--no-legend", "nodemanager*"]),
        ""
    );
}
