//! What becomes of each kind of jeusnm.xml.

use super::{has, imported, table};

#[test]
fn a_plain_file_keeps_its_restart_defaults() {
    let text = imported("jeusnm-plain");
    has(
        &text,
        &[
            "serverAutoRestart = true",
            "serverRestartTryCount = 5",
            "serverRestartDurationTime = 120000",
            "serverRetryRestart = false",
            "jeusnm-plain.xml:5: port = 7730: there is no remote port",
            "jeusnm-plain.xml:6: serverMonitoringPeriod = 500: not needed",
        ],
    );
}

#[test]
fn a_replicated_one_keeps_its_port_and_the_names_of_its_logs() {
    let text = imported("jeusnm-replicated");
    has(
        &text,
        &[
            "name = \"JeusNodeManager\"",
            "logDir = \"/opt/jeus/nodemanager/logs\"",
            "standbyPort = 7740\n",
            "serverAutoRestart = false",
            "serverRetryRestart = true",
            "jeusnm-replicated.xml:9: useSSLListener = true",
            "keystorePass = ...",
        ],
    );
    assert!(!text.contains("jeuskeypass"), "{text}");
}

#[test]
fn external_processes_become_servers() {
    let text = imported("jeusnm-processes");
    has(
        table(&text, "rqs-1"),
        &[
            "command = [\"/opt/rqs/bin/rqsd\", \"-c\", \"/opt/rqs/my conf\", \"$${x}\"]",
            "tags = [\"domain1\"]",
            "restart = { tries = 7 }",
            "jeusnm-processes.xml:6: port = 9720",
        ],
    );
    has(&text, &["jeusnm-processes.xml:16: it has no path", "serverRetryRestart = false"]);
    has(&text, &["serverRestartTryCount = many: not a value", "somethingNew = 1: unknown"]);
}
