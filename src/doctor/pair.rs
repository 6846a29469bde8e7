//! Checks of a pair that runs, or of what one has left: locks, sockets, the port, versions, the journal.
//!
//! Must not take a lock, and must not open the lock file in a process that may have the lock.

use super::Finding;
use crate::api::Status;
use crate::cli::status;
use crate::config::Config;
use crate::journal;
use crate::launch;
use crate::shell;
use crate::sys::{lock, ports, process};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long the pair has for its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Locks, sockets, port and versions.
pub fn pair(config: &Config) -> Vec<Finding> {
    let path = shell::lock_path(config);
    let holder = match lock::holder(&path) {
        Ok(holder) => holder,
        Err(error) => {
            let text = format!("cannot look at the lock {}: {error}", path.display());
            return vec![Finding::fail(
                "pair",
                text,
                "run this as the user of the pair, or as root",
            )];
        }
    };
    let Some(pid) = holder else { return without_a_pair(config) };
    match status::fetch(&launch::client(config), &[], Some(ANSWER_LIMIT)) {
        Ok(status) => of_a_pair(config, &status),
        Err(failure) => {
            let text = format!("PID {pid} has the lock {}, and {}", path.display(), failure.text);
            let todo = "the standby or the keeper replaces an active that hangs; see `nodemanager logs --standby`";
            vec![Finding::fail("pair", text, todo)]
        }
    }
}

fn without_a_pair(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let keeper = shell::keeper::lock_path(config);
    match lock::holder(&keeper).ok().flatten() {
        Some(pid) => {
            let text =
                format!("nobody is active, and the keeper PID {pid} has {}", keeper.display());
            findings.push(Finding::warn("pair", text, "it starts the pair, or ends it: ask again"));
        }
        None => findings.push(Finding::ok("pair", "none runs, and nobody has its locks")),
    }
    findings.push(control_socket(config));
    findings.push(port(config));
    findings
}

fn control_socket(config: &Config) -> Finding {
    let path = config.node.control_socket();
    let shown = path.display();
    match UnixStream::connect(&path) {
        Ok(_) => {
            let text = format!("somebody listens at {shown} without the lock of this pair");
            Finding::fail("control socket", text, "see who it is: ss -xlp")
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::ok("control socket", format!("{shown} is free"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            let text = format!("{shown} was left by a pair that is gone");
            Finding::warn(
                "control socket",
                text,
                "nothing has to be done: the next start replaces it",
            )
        }
        Err(error) => {
            let text = format!("cannot look at {shown}: {error}");
            Finding::fail("control socket", text, "remove it, or choose another runDir")
        }
    }
}

/// Without a pair it must be free.
fn port(config: &Config) -> Finding {
    let check = "standbyPort";
    // That there is none is a warning of the configuration.
    let Some(port) = config.node.standby_port else { return Finding::ok(check, "none") };
    let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
        return Finding::ok(check, format!("{port} is free"));
    };
    let who = ports::holder_of_tcp_port(port);
    let who = who
        .map_or_else(|| error.to_string(), |(pid, name)| format!("in use by PID {pid} ({name})"));
    let place = config.node.standby_port_line.map_or_else(String::new, |line| format!(":{line}"));
    let todo = format!("choose another port in {}{place}", config.file.display());
    Finding::fail(check, format!("cannot bind {port}: {who}"), todo)
}

fn of_a_pair(config: &Config, status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    let check = "pair";
    match status::exit_status(status, true) {
        crate::exit::DONE => findings.push(Finding::ok(check, "it runs, and is whole")),
        _ => {
            let why = status.standby.as_ref().and_then(|standby| standby.reason.clone());
            let text = format!(
                "it runs, and is not whole: {}",
                why.unwrap_or_else(|| "a standby or a keeper is missing".to_owned())
            );
            findings.push(Finding::warn(
                check,
                text,
                "see `nodemanager status --pair` and `nodemanager logs --self`",
            ));
        }
    }
    if let Some(port) = config.node.standby_port {
        findings.push(Finding::ok("standbyPort", format!("{port} is the pair's")));
    }
    findings.push(versions(status));
    findings
}

/// The running processes against the program that asks.
fn versions(status: &Status) -> Finding {
    let own = env!("CARGO_PKG_VERSION");
    let active = status.active.as_ref().map(|one| ("active", one.pid, one.version.as_str()));
    let standby = status.standby.as_ref();
    let standby = standby.and_then(|one| Some(("standby", one.pid?, one.version.as_deref()?)));
    let inode = |path: &str| std::fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let ours = inode("/proc/self/exe");
    for (role, pid, version) in [active, standby].into_iter().flatten() {
        let theirs = inode(&format!("/proc/{pid}/exe"));
        let is_other = theirs.is_some() && theirs != ours;
        if version != own || is_other {
            let text = format!(
                "the {role} PID {pid} is {version} from another file, and this program is {own}"
            );
            let todo =
                "nodemanager upgrade, if the pair is to run what is on disk (servers stay up)";
            return Finding::warn("version", text, todo);
        }
    }
    Finding::ok("version", format!("the pair and this program are {own}, the same file"))
}

/// Is the record of this machine, this boot and these process numbers?
pub fn journal(config: &Config) -> Vec<Finding> {
    let check = "journal";
    let contents = match journal::read(&config.node.run_dir) {
        Ok(None) => return vec![Finding::ok(check, "there is none yet")],
        Ok(Some(contents)) => contents,
        Err(error) => {
            return vec![Finding::fail(check, error.to_string(), "see docs/JOURNAL.md")];
        }
    };
    let mut findings = Vec::new();
    if let Some(damage) = &contents.damage {
        let todo = "the copy of the standby and the marks of the servers are used beside it";
        findings.push(Finding::warn(check, damage.to_string(), todo));
    }
    let origin = &contents.origin;
    let is_boot = process::boot_id().is_ok_and(|boot| boot == origin.boot_id);
    let is_namespace =
        process::pid_namespace_inode().is_ok_and(|inode| inode == origin.pid_namespace);
    let node = &config.node;
    if origin.node != node.name {
        let text = format!("it is of the node {}, and this one is {}", origin.node, node.name);
        findings.push(Finding::fail(check, text, "give each node a runDir of its own"));
    } else if is_boot && !is_namespace {
        let text =
            "it was written in another PID namespace (a container), where numbers mean others";
        findings.push(Finding::fail(check, text, "give each container a runDir of its own"));
    } else if !is_boot {
        findings.push(Finding::ok(check, "it is of an earlier boot: the next start is a new life"));
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok(check, format!("{} records of this boot", contents.payloads.len())));
    }
    findings
}
