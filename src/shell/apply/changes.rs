//! What differs between the configuration in force and another one, and what comes of it.
//!
//! Must not look at the machine or change anything. Every key is put into one class here; the
//! structures are taken apart without `..`, so that a new field does not compile before it has one.

use crate::api::{ApplyAnswer, Change, What};
use crate::config::identity::{Identity, Named};
use crate::config::{
    Alerts, Applied, AutoStart, Config, ControlGroup, Definition, HealthCheck, NodeConfig, Output,
    Readiness, ServerConfig,
};
use crate::core::Name;
use crate::names;
use std::collections::{BTreeMap, BTreeSet};

/// The keys of a server that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differing {
    /// The process was started with these.
    pub restart: Vec<&'static str>,
    /// These count from now on.
    pub in_place: Vec<&'static str>,
}

/// Collects the keys of a pair of structures whose values differ.
macro_rules! keys_that_differ {
    ($list:expr, $($key:literal: $old:expr, $new:expr;)*) => {
        $(if $old != $new { $list.push($key); })*
    };
}

/// The configuration that is in force after an `apply` of `new`, and what differs from `old`.
///
/// # Errors
/// A name means no server of either, or what is named does not go together with the rest.
pub fn merge(
    old: &Config,
    new: Config,
    wanted: &[String],
) -> Result<(Config, ApplyAnswer), String> {
    let new = if wanted.is_empty() { new } else { only(old, new, wanted)? };
    let (mut node, refused) = node_keys(&old.node, &new.node);
    node.extend(alert_keys(&old.alerts, &new.alerts));
    // Another address is bound before anything else is done.
    let listen = |config: &Config| config.metrics.map(|metrics| metrics.listen);
    node.extend((listen(old) != listen(&new)).then_some("metrics.listen"));
    let mut answer = ApplyAnswer {
        generation: old.applied.generation,
        node: node.into_iter().map(str::to_owned).collect(),
        refused: refused.into_iter().map(str::to_owned).collect(),
        servers: Vec::new(),
    };
    let mut applied = Applied { revisions: BTreeMap::new(), ..old.applied.clone() };
    let next = old.applied.revisions.values().max().map_or(1, |last| last.saturating_add(1));
    let before: BTreeMap<&str, &ServerConfig> =
        old.servers.iter().map(|one| (one.name.as_str(), one)).collect();
    for server in &new.servers {
        let (change, revision) = match before.get(server.name.as_str()) {
            Some(before) => {
                let differing = differing(before, server);
                let is_same = differing.restart.is_empty();
                let revision = if is_same { old.revision(&server.name) } else { next };
                (change(server, differing), revision)
            }
            None => (Some(added(server)), next),
        };
        answer.servers.extend(change);
        applied.revisions.insert(server.name.to_string(), revision);
    }
    let named: BTreeSet<&str> = new.servers.iter().map(|one| one.name.as_str()).collect();
    applied.retired.retain(|one| !named.contains(one.name.as_str()));
    for server in old.servers.iter().filter(|one| !named.contains(one.name.as_str())) {
        let (name, what, keys) = (server.name.to_string(), What::Stop, Vec::new());
        answer.servers.push(Change { name, what, keys });
        applied.retired.retain(|one| one.name != server.name);
        applied.retired.push(server.clone());
        // So that it never gets a revision again that a process of it had.
        applied.revisions.insert(server.name.to_string(), old.revision(&server.name));
    }
    for (name, revision) in &old.applied.revisions {
        applied.revisions.entry(name.clone()).or_insert(*revision);
    }
    if !answer.is_empty() {
        applied.generation = applied.generation.saturating_add(1);
        answer.generation = applied.generation;
    }
    Ok((Config { applied, ..new }, answer))
}

/// Which of `[[hook]]` and `[mail]` differ; the next active works with the new ones.
fn alert_keys(old: &Alerts, new: &Alerts) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let without_lines = |alerts: &Alerts| {
        let mut hooks = alerts.hooks.clone();
        for hook in &mut hooks {
            let identity = &mut hook.identity;
            identity.user.iter_mut().chain(&mut identity.groups).for_each(|one| one.line = None);
        }
        hooks
    };
    keys_that_differ! { keys,
        "hook": without_lines(old), without_lines(new);
        "mail": old.mail, new.mail;
    }
    keys
}

/// `old`, and of `new` only what `wanted` names.
fn only(old: &Config, new: Config, wanted: &[String]) -> Result<Config, String> {
    let gone = |one: &&ServerConfig| !new.servers.iter().any(|other| other.name == one.name);
    let all: Vec<&ServerConfig> =
        new.servers.iter().chain(old.servers.iter().filter(gone)).collect();
    let known: Vec<_> = all.iter().map(|one| one.known()).collect();
    let chosen = names::select(wanted, &known)?;
    let chosen: BTreeSet<Name> = chosen.iter().map(|at| all[*at].name.clone()).collect();
    let is_chosen = |one: &&ServerConfig| chosen.contains(&one.name);
    let mut servers: Vec<ServerConfig> =
        old.servers.iter().filter(|one| !is_chosen(one)).cloned().collect();
    servers.extend(new.servers.iter().filter(is_chosen).cloned());
    check_needs(&servers)?;
    // In the order of the file.
    let places: BTreeMap<&str, usize> =
        new.servers.iter().enumerate().map(|(at, one)| (one.name.as_str(), at)).collect();
    servers.sort_by_key(|one| places.get(one.name.as_str()).copied().unwrap_or(usize::MAX));
    Ok(Config {
        servers,
        node: old.node.clone(),
        alerts: old.alerts.clone(),
        metrics: old.metrics,
        ..new
    })
}

/// What is needed is there, and no server needs itself in the end.
fn check_needs(servers: &[ServerConfig]) -> Result<(), String> {
    let mut left: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for server in servers {
        let needs = server.depends_on.iter().map(|need| need.name.as_str()).collect();
        left.insert(&server.name, needs);
    }
    for (name, needs) in &left {
        if let Some(need) = needs.iter().find(|need| !left.contains_key(*need)) {
            return Err(format!("{name} needs {need}, which is not there then: name {need} too"));
        }
    }
    // One that needs nobody any more is taken out, until none is left or all of them need another.
    while !left.is_empty() {
        let free: Vec<&str> =
            left.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| *name).collect();
        if free.is_empty() {
            let names: Vec<&str> = left.keys().copied().collect();
            return Err(format!(
                "{} would need each other in a circle: name them all",
                names.join(", ")
            ));
        }
        for name in &free {
            left.remove(name);
        }
        let free: BTreeSet<&str> = free.into_iter().collect();
        left.values_mut().for_each(|needs| needs.retain(|need| !free.contains(need)));
    }
    Ok(())
}

fn added(server: &ServerConfig) -> Change {
    let what = if server.auto_start == AutoStart::Yes { What::Start } else { What::Add };
    Change { name: server.name.to_string(), what, keys: Vec::new() }
}

fn change(server: &ServerConfig, differing: Differing) -> Option<Change> {
    let Differing { restart, in_place } = differing;
    let what = match (restart.is_empty(), in_place.is_empty()) {
        (true, true) => return None,
        (true, false) => What::Change,
        (false, _) => What::Restart,
    };
    let keys = restart.into_iter().chain(in_place).map(str::to_owned).collect();
    Some(Change { name: server.name.to_string(), what, keys })
}

/// What differs between two definitions of a server.
pub fn differing(old: &ServerConfig, new: &ServerConfig) -> Differing {
    let Definition {
        file: _,
        line: _,
        program,
        command,
        cwd,
        env,
        pass_env,
        kind,
        auto_start,
        depends_on,
        essential,
        settle_ms,
        ready,
        start_timeout_ms,
        health,
        restart,
        stop,
        reload,
        pid_file,
        hooks,
        drain,
        output,
        identity,
        cgroup,
        sockets,
    } = &**old;
    let mut keys = Differing::default();
    keys_that_differ! { keys.restart,
        "command": *command, new.command;
        "cwd": *cwd, new.cwd;
        "env": *env, new.env;
        "passEnv": *pass_env, new.pass_env;
        "type": *kind, new.kind;
        "pidFile": *pid_file, new.pid_file;
        "socket": *sockets, new.sockets;
        "cgroup": *cgroup, new.cgroup;
    }
    differing_identity(identity, &new.identity, &mut keys);
    differing_output(output, &new.output, &mut keys);
    match asks_by_environment(ready) != asks_by_environment(&new.ready) {
        true => keys.restart.push("ready"),
        false if *ready != new.ready => keys.in_place.push("ready"),
        false => {}
    }
    match watchdog_ms(health) != watchdog_ms(&new.health) {
        true => keys.restart.push("health"),
        false if *health != new.health => keys.in_place.push("health"),
        false => {}
    }
    keys_that_differ! { keys.in_place,
        "tags": program.tags, new.program.tags;
        "autoStart": *auto_start, new.auto_start;
        "dependsOn": *depends_on, new.depends_on;
        "essential": *essential, new.essential;
        "settleTime": *settle_ms, new.settle_ms;
        "startTimeout": *start_timeout_ms, new.start_timeout_ms;
        "restart": *restart, new.restart;
        "stop": *stop, new.stop;
        "reload": *reload, new.reload;
        "hooks": *hooks, new.hooks;
        "drain": *drain, new.drain;
    }
    keys
}

/// Where a child was told at its start how to say that it is ready.
fn asks_by_environment(ready: &Option<Readiness>) -> Option<&Readiness> {
    ready.as_ref().filter(|ready| matches!(ready, Readiness::Notify | Readiness::Fd(_)))
}

/// A server learns from its environment how often it has to give a sign of life.
fn watchdog_ms(health: &[HealthCheck]) -> Vec<u64> {
    let of = |check: &HealthCheck| match check {
        HealthCheck::Watchdog { timeout_ms } => Some(*timeout_ms),
        HealthCheck::Asked { .. } => None,
    };
    health.iter().filter_map(of).collect()
}

fn differing_output(old: &Output, new: &Output, keys: &mut Differing) {
    let Output { to, stderr, max_size, max_files, max_age_ms, compress, timestamps } = old;
    if *to != new.to || *stderr != new.stderr {
        keys.restart.push("output");
        return;
    }
    let before = (max_size, max_files, max_age_ms, compress, timestamps);
    let after = (&new.max_size, &new.max_files, &new.max_age_ms, &new.compress, &new.timestamps);
    if before != after {
        keys.in_place.push("output");
    }
}

fn differing_identity(old: &Identity, new: &Identity, keys: &mut Differing) {
    let Identity {
        user,
        groups,
        account,
        umask,
        env_files,
        limits,
        nice,
        oom_score_adjust,
        no_new_privileges,
        lock,
    } = old;
    fn name(named: &Named) -> &str {
        &named.name
    }
    let is_other_user = user.as_ref().map(name) != new.user.as_ref().map(name);
    let is_other_group = !groups.iter().map(name).eq(new.groups.iter().map(name));
    if is_other_group {
        keys.restart.push("group");
    }
    // The same name can stand for something else by now.
    if is_other_user || *account != new.account && !is_other_group {
        keys.restart.push("user");
    }
    keys_that_differ! { keys.restart,
        "umask": *umask, new.umask;
        "envFile": *env_files, new.env_files;
        "limits": *limits, new.limits;
        "nice": *nice, new.nice;
        "oomScoreAdjust": *oom_score_adjust, new.oom_score_adjust;
        "noNewPrivileges": *no_new_privileges, new.no_new_privileges;
        "lock": *lock, new.lock;
    }
}

/// The keys of `[nodeManager]` that differ: those that change in place, and those that can't be
/// changed while the pair runs.
pub fn node_keys(old: &NodeConfig, new: &NodeConfig) -> (Vec<&'static str>, Vec<&'static str>) {
    let NodeConfig {
        name,
        standby_port,
        standby_port_line: _,
        run_dir,
        state_dir,
        log_dir,
        heartbeat_interval_ms,
        heartbeat_timeout_ms,
        on_term,
        shutdown_timeout_ms,
        log_level,
        log_target,
        log_format,
        log_max_size,
        log_max_files,
        log_compress,
        events_max_size,
        journal_socket,
        syslog_socket,
        control_mode,
        // What came of it is in the servers.
        server_user: _,
        control_group,
        cgroup_root,
        max_parallel_starts,
    } = old;
    let (mut in_place, mut refused) = (Vec::new(), Vec::new());
    keys_that_differ! { in_place,
        "onTerm": *on_term, new.on_term;
        "shutdownTimeout": *shutdown_timeout_ms, new.shutdown_timeout_ms;
        "logLevel": *log_level, new.log_level;
        "logFormat": *log_format, new.log_format;
        "logMaxSize": *log_max_size, new.log_max_size;
        "logMaxFiles": *log_max_files, new.log_max_files;
        "logCompress": *log_compress, new.log_compress;
        "eventsMaxSize": *events_max_size, new.events_max_size;
        "journalSocket": *journal_socket, new.journal_socket;
        "syslogSocket": *syslog_socket, new.syslog_socket;
        "maxParallelStarts": *max_parallel_starts, new.max_parallel_starts;
    }
    fn group(group: &Option<ControlGroup>) -> Option<Option<u32>> {
        group.as_ref().map(|group| group.gid)
    }
    // Another port is bound before anything else is done; with or without a standby is another pair.
    if *standby_port != new.standby_port {
        let is_moved = standby_port.is_some() && new.standby_port.is_some();
        if is_moved { &mut in_place } else { &mut refused }.push("standbyPort");
    }
    keys_that_differ! { refused,
        "name": *name, new.name;
        "runDir": *run_dir, new.run_dir;
        "stateDir": *state_dir, new.state_dir;
        "logDir": *log_dir, new.log_dir;
        "heartbeatInterval": *heartbeat_interval_ms, new.heartbeat_interval_ms;
        "heartbeatTimeout": *heartbeat_timeout_ms, new.heartbeat_timeout_ms;
        "logTarget": *log_target, new.log_target;
        "controlMode": *control_mode, new.control_mode;
        "cgroupRoot": *cgroup_root, new.cgroup_root;
        "controlGroup": group(control_group), group(&new.control_group);
    }
    (in_place, refused)
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
