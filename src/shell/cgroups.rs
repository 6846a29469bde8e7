//! A cgroup v2 for each server, below one directory: `<root>/<node>:<server>`.
//!
//! Must not touch a cgroup that nobody handed over, and makes no start fail that asked for no limit.
//! The kernel lets a group with processes in it give no controllers to those below it, so the node
//! manager's own processes go to `<root>/supervisor` where they would be in the way.

use crate::config::cgroup::CgroupRoot;
use crate::config::{Config, NodeConfig, ServerConfig};
use crate::sys::{cgroup, process};
use log::warn;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Where the node manager's own processes are, where its cgroup is the root.
const OWN: &str = "supervisor";
/// Where they are when systemd puts them below the root itself (DelegateSubgroup=, systemd 254).
const GIVEN: &str = "pair";
/// Its figure in `status` counts every process, so it is had without being asked for.
const FOR_FIGURES: &str = "memory";

/// The directory below which the groups are, or why there is none.
pub type Root = Result<PathBuf, String>;

/// What there is for a start.
#[derive(Debug, Default)]
pub struct Prepared {
    /// The server's group.
    pub dir: Option<PathBuf>,
    /// Why it can't have the limits that it is to have: its start fails.
    pub refused: Option<String>,
}

/// Where this pair's groups are.
pub fn root(node: &NodeConfig) -> Root {
    match &node.cgroup_root {
        CgroupRoot::Off => Err("cgroupRoot is \"off\"".to_string()),
        CgroupRoot::At(dir) => Ok(dir.clone()),
        CgroupRoot::Auto => {
            let own = cgroup::own().ok_or("no cgroup v2 is mounted in which its own is seen")?;
            own_root(&own).ok_or_else(|| {
                format!(
                    "the node manager's cgroup {} is not delegated to it (systemd: Delegate=yes); \
                     or prepare a directory and name it in cgroupRoot",
                    own.display()
                )
            })
        }
    }
}

/// The own group, or the one above it after `settle`, if it was handed over.
fn own_root(own: &Path) -> Option<PathBuf> {
    let is_leaf = own.file_name().is_some_and(|name| name == OWN || name == GIVEN);
    let above = own.parent().filter(|_| is_leaf);
    let is_ours = |dir: &&Path| {
        let is_root = nix::unistd::geteuid().is_root();
        cgroup::is_marked_as_delegated(dir) || !is_root && cgroup::is_owned(dir)
    };
    [above, Some(own)].into_iter().flatten().find(is_ours).map(Path::to_path_buf)
}

/// Takes this process, and the whole unit where systemd delegated it, out of the root's own group.
/// For the first process of a pair, before the others.
///
/// # Errors
/// Says what could not be done; nothing depends on it but limits.
pub fn settle(config: &Config) -> Result<(), String> {
    let Ok(root) = root(&config.node) else { return Ok(()) };
    if cgroup::own().as_ref() != Some(&root) {
        return Ok(());
    }
    let leaf = root.join(OWN);
    let cannot =
        |error: io::Error| format!("cannot move to the cgroup {}: {error}", leaf.display());
    cgroup::make(&leaf).and_then(|()| cgroup::enter(&leaf, 0)).map_err(cannot)?;
    clear(&root);
    Ok(())
}

/// Who else is in a unit that was handed over goes along: a start script, or a command that waits.
fn clear(root: &Path) {
    if cgroup::is_marked_as_delegated(root) {
        for pid in cgroup::pids(root).unwrap_or_default() {
            // One that is gone meanwhile needs no move.
            let _ = cgroup::enter(&root.join(OWN), pid);
        }
    }
}

/// The name of a server's group. Names of nodes and servers have no colon, and neither have the
/// kernel's files.
fn group_name(node: &str, server: &str) -> String {
    format!("{node}:{server}")
}

/// Would a controller for the servers keep systemd from starting the keeper again? It does so in
/// the root itself, unless it was told otherwise, and the kernel lets nobody in then.
fn keeps_systemd_out(root: &Path) -> bool {
    let own = cgroup::own();
    let is_given = own.is_some_and(|own| own.file_name().is_some_and(|name| name == GIVEN));
    cgroup::is_marked_as_delegated(root) && !is_given
}

/// The group of a process, if it is the one that this server would have wherever the root was.
pub fn found(node: &str, server: &str, pid: i32) -> Option<PathBuf> {
    cgroup::of_named(pid, &group_name(node, server))
}

/// Makes a server's group and writes its limits.
///
/// # Errors
/// The machine lacks something, or somebody lives in the group: not the server's failure.
pub fn prepare(root: &Root, node: &NodeConfig, server: &ServerConfig) -> Result<Prepared, String> {
    let is_limited = !server.cgroup.is_empty();
    let root = match root {
        Ok(root) => root,
        Err(_) if !is_limited => return Ok(Prepared::default()),
        Err(why) => {
            let text = format!("cannot limit it by a cgroup: {why}");
            return Ok(Prepared { dir: None, refused: Some(text) });
        }
    };
    let dir = root.join(group_name(&node.name, &server.name));
    match cgroup::living(&dir) {
        Ok(cgroup::Living::Empty) => {}
        Ok(cgroup::Living::Member(pid, _)) => {
            let comm = process::comm(pid).unwrap_or_default();
            return Err(format!("PID {pid} ({comm}) is still in its cgroup {}", dir.display()));
        }
        Ok(cgroup::Living::Unseen) => {
            return Err(format!("a process is still in its cgroup {}", dir.display()));
        }
        Err(error) => return Err(format!("cannot look into its cgroup: {error}")),
    }
    match make(root, &dir, server) {
        Ok(()) => Ok(Prepared { dir: Some(dir), refused: None }),
        Err(Unmade { text, is_shortage: true }) => Err(text),
        Err(Unmade { text, .. }) if is_limited => Ok(Prepared { dir: None, refused: Some(text) }),
        Err(Unmade { text, .. }) => {
            warn!(target: "0327", "{}: {text}; it starts without a cgroup", server.name);
            Ok(Prepared::default())
        }
    }
}

/// Why a group was not made.
struct Unmade {
    text: String,
    is_shortage: bool,
}

fn make(root: &Path, dir: &Path, server: &ServerConfig) -> Result<(), Unmade> {
    let unmade = |what: String, error: io::Error| Unmade {
        is_shortage: cgroup::is_shortage(&error),
        text: format!("{what}: {error}"),
    };
    if !cgroup::is_group(root) {
        let text = format!("{} is no directory of a cgroup v2 file system", root.display());
        return Err(Unmade { text, is_shortage: false });
    }
    let needed: BTreeSet<&str> = server.cgroup.iter().map(|limit| limit.controller()).collect();
    for controller in needed {
        enable(root, controller).map_err(|error| {
            let what = format!("cannot limit its {controller} in {}", root.display());
            unmade(format!("{what}{}", enable_hint(root, controller)), error)
        })?;
    }
    if !keeps_systemd_out(root) {
        let _ = enable(root, FOR_FIGURES);
    }
    // What an earlier start left has its limits and its counts.
    let _ = cgroup::remove(dir);
    cgroup::make(dir)
        .map_err(|error| unmade(format!("cannot make its cgroup {}", dir.display()), error))?;
    for limit in &server.cgroup {
        cgroup::write(dir, &limit.file, &limit.value).map_err(|error| {
            let file = dir.join(&limit.file);
            let (key, value) = (&limit.key, &limit.value);
            unmade(format!("cannot set {key}: cannot write {value} to {}", file.display()), error)
        })?;
    }
    Ok(())
}

fn enable(root: &Path, controller: &str) -> io::Result<()> {
    match cgroup::enable(root, controller) {
        // Somebody came into it since.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            clear(root);
            cgroup::enable(root, controller)
        }
        other => other,
    }
}

/// Why a controller can't be had, where that is seen.
fn enable_hint(root: &Path, controller: &str) -> String {
    let there = cgroup::controllers(root).unwrap_or_default();
    if !there.iter().any(|one| one == controller) {
        let there = if there.is_empty() { "none".to_string() } else { there.join(", ") };
        return format!(
            ", which has the controllers: {there} (one that is mounted as cgroup v1 is not there)"
        );
    }
    match cgroup::pids(root).unwrap_or_default().first() {
        Some(pid) => format!(", as PID {pid} is in it: move it to a group below"),
        None => String::new(),
    }
}

/// Limits that nothing would enforce, seen from here.
pub fn warnings(config: &Config) -> Vec<String> {
    let limited: Vec<_> = config.servers.iter().filter(|one| !one.cgroup.is_empty()).collect();
    if limited.is_empty() {
        return Vec::new();
    }
    let root = root(&config.node);
    let there = root.as_ref().ok().and_then(|root| cgroup::controllers(root).ok());
    let mut warnings = Vec::new();
    for server in limited {
        let is_there = |name: &str| there.iter().flatten().any(|one| one == name);
        let controllers = server.cgroup.iter().map(|limit| limit.controller());
        let missing: BTreeSet<&str> = controllers.filter(|one| !is_there(one)).collect();
        let why = match &root {
            Err(why) => why.clone(),
            Ok(root) if !cgroup::is_group(root) => {
                format!("{} is no directory of a cgroup v2 file system", root.display())
            }
            Ok(_) if missing.is_empty() => continue,
            Ok(root) => {
                let missing: Vec<&str> = missing.into_iter().collect();
                format!("{} has no controller {}", root.display(), missing.join(", "))
            }
        };
        let (file, line, name) = (server.file.display(), server.line, &server.name);
        warnings.push(format!("{file}:{line}: cgroup of [[server]] {name} can't be had: {why}"));
    }
    warnings
}

/// Said by a keeper at its start, where systemd could not start the next one.
pub fn warning_of_systemd(config: &Config) -> Option<String> {
    let is_limited = config.servers.iter().any(|server| !server.cgroup.is_empty());
    let is_shut = is_limited && root(&config.node).is_ok_and(|root| keeps_systemd_out(&root));
    is_shut.then(|| {
        format!(
            "{}: servers have limits by cgroups, so that systemd can't start a keeper again that was killed: \
             give the unit DelegateSubgroup={GIVEN} (systemd 254), or name another cgroupRoot",
            config.file.display()
        )
    })
}

/// At the end of the pair: the groups that nobody lives in.
pub fn remove_empty(root: &Root, config: &Config) {
    let Ok(root) = root else { return };
    for server in config.all_servers() {
        // One that is in use can't be removed.
        let _ = cgroup::remove(&root.join(group_name(&config.node.name, &server.name)));
    }
}
