//! A configuration of supervisord (4.x, and what 3.x had) as one of this program.
//!
//! Pure: whoever calls it reads the included files. What one program becomes is in `program`.

use super::ini::{Document, Item, Section};
use super::percent::{self, Scope};
use super::program::{self, Context};
use super::words;
use super::written::{self, comment};
use std::collections::BTreeMap;

/// The port of the link, as in the example configuration.
const STANDBY_PORT: u16 = 7731;

/// Where the file is, and on which machine.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Its name, for the head of the result.
    pub file: String,
    /// Its directory, absolute.
    pub here: String,
    pub host: String,
}

/// The patterns of files that are read too, with the places that name them. `%(ENV_X)s` in them is looked up
/// by `environment`.
pub fn includes(
    document: &Document,
    around: &Surroundings,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let item = document.section("include").and_then(|section| section.get("files"));
    let Some(item) = item else { return Vec::new() };
    let mut scope = scope(around);
    for name in item.value.split("%(ENV_").skip(1).filter_map(|rest| rest.split(')').next()) {
        let value = environment(name).unwrap_or_default();
        scope.texts.insert(format!("ENV_{name}"), value);
    }
    let value = percent::expand(&item.value, &scope).unwrap_or_else(|_| item.value.clone());
    value.split_whitespace().map(|pattern| (pattern.to_owned(), item.place.clone())).collect()
}

fn scope(around: &Surroundings) -> Scope {
    let mut scope = Scope::default();
    scope.texts.insert("here".to_owned(), around.here.clone());
    scope.texts.insert("host_node_name".to_owned(), around.host.clone());
    scope
}

/// The whole file.
pub fn import(document: &Document, around: &Surroundings) -> String {
    let mut text = head(around);
    text += &node(document);
    for (place, line) in &document.strange {
        text += &(comment(&format!("{place}: {line}: not understood; left out")) + "\n");
    }
    let groups = groups(document);
    let mut context = common(document, around);
    let ranks = ranks(document);
    for section in &document.sections {
        let (kind, name) = section.name.split_once(':').unwrap_or((&section.name, ""));
        match kind {
            "program" | "fcgi-program" => {
                context.groups = groups.get(name.trim()).cloned().unwrap_or_default();
                context.before = before(&ranks, name.trim());
                let (name, table) = program::server(section, &context);
                context.taken.insert(name);
                text += &format!("\n{table}");
            }
            "supervisord" | "include" => {}
            "group" => text += &group(section, document),
            _ => text += &other(section, kind),
        }
    }
    text
}

fn head(around: &Surroundings) -> String {
    let lines = [
        format!("Made from {} by `nodemanager import supervisord`.", around.file),
        "Everywhere: a stop signal goes to the whole process group; a restart comes after a pause, \
         also of a server that was up;"
            .to_owned(),
        "logs are rotated at 10 MiB and 7 files are kept, unless the file said otherwise. \
         `nodemanager check` looks at the result."
            .to_owned(),
    ];
    lines.map(|line| comment(&line) + "\n").concat() + "\n"
}

fn common(document: &Document, around: &Surroundings) -> Context {
    let of =
        |key: &str| document.section("supervisord").and_then(|section| section.get(key)).cloned();
    Context {
        here: around.here.clone(),
        host: around.host.clone(),
        directory: of("directory"),
        umask: of("umask"),
        // Running as root is what the node manager does for servers with a user of their own.
        user: of("user").filter(|item| item.value != "root"),
        environment: of("environment"),
        ..Context::default()
    }
}

/// The programs of each group, the other way round.
fn groups(document: &Document) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for section in &document.sections {
        let Some(group) = section.name.strip_prefix("group:") else { continue };
        for program in
            section.get("programs").map(|item| words::list(&item.value)).unwrap_or_default()
        {
            groups.entry(program).or_default().push(group.trim().to_owned());
        }
    }
    groups
}

/// Programs with a priority of their own.
fn ranks(document: &Document) -> Vec<(u32, String)> {
    let rank = |section: &Section| {
        let (kind, name) = section.name.split_once(':')?;
        let priority = section.get("priority")?.value.parse().ok()?;
        kind.ends_with("program").then(|| (priority, name.trim().to_owned()))
    };
    document.sections.iter().filter_map(rank).collect()
}

/// Those of the priority just below that of this program.
fn before(ranks: &[(u32, String)], name: &str) -> Vec<String> {
    let own = ranks.iter().find(|(_, known)| known == name).map_or(0, |(rank, _)| *rank);
    let below = ranks.iter().map(|(rank, _)| *rank).filter(|rank| *rank < own).max();
    let those = ranks.iter().filter(|(rank, _)| Some(*rank) == below);
    those.map(|(_, name)| written::name(name)).collect()
}

fn group(section: &Section, document: &Document) -> String {
    let name = section.name.strip_prefix("group:").unwrap_or_default().trim();
    let tag = written::name(name);
    let mut text = comment(&format!(
        "{}: [{}]: the tag {tag}; `supervisorctl restart {name}:*` is `nodemanager restart tag:{tag}`",
        section.place, section.name
    ));
    for item in &section.items {
        let programs = if item.key == "programs" { words::list(&item.value) } else { Vec::new() };
        let is_known = |name: &&String| {
            document
                .sections
                .iter()
                .any(|one| one.name.split_once(':').is_some_and(|(_, own)| own == **name))
        };
        for missing in programs.iter().filter(|name| !is_known(name)) {
            text += &("\n".to_owned()
                + &comment(&format!("{}: there is no program {missing}", item.place)));
        }
        if item.key == "priority" {
            let line = format!(
                "{}: priority = {}: the order is made by dependsOn here",
                item.place, item.value
            );
            text += &("\n".to_owned() + &comment(&line));
        }
    }
    format!("\n{text}\n")
}

/// What has no equivalent.
fn other(section: &Section, kind: &str) -> String {
    let why = match kind {
        "eventlistener" => {
            "there are no event listeners; `hooks` of a server (onFailure, postStart, postStop) run a \
             command when something happens, `ready` and `health` replace listeners that watch"
        }
        "unix_http_server" => {
            "the control socket is <runDir>/control.sock, for root and the node manager's user; \
             others with controlMode and controlGroup"
        }
        "inet_http_server" => {
            "there is no remote port: the control socket is local (curl --unix-socket); use ssh"
        }
        "supervisorctl" => "`nodemanager` itself is the client, and needs no settings",
        "rpcinterface" | "ctlplugin" => {
            "there are no plugins; the control socket speaks HTTP and JSON"
        }
        _ => "unknown section; left out",
    };
    let mut text =
        format!("\n{}\n", comment(&format!("{}: [{}]: {why}", section.place, section.name)));
    for item in &section.items {
        let is_secret = item.key.contains("password");
        let value = if is_secret { "..." } else { item.value.as_str() };
        text += &(comment(&format!("{}: {} = {value}", item.place, item.key)) + "\n");
    }
    text
}

/// `[supervisord]` as `[nodeManager]`.
fn node(document: &Document) -> String {
    let mut lines = Vec::new();
    let mut notes = Vec::new();
    let none = Vec::new();
    let items = document.section("supervisord").map_or(&none, |section| &section.items);
    for item in items {
        match key(item) {
            Ok(Some(line)) => lines.push(line),
            Ok(None) => {}
            Err(why) => notes.push(format!("{}: {} = {}: {why}", item.place, item.key, item.value)),
        }
    }
    let mut text = notes.iter().map(|note| comment(note) + "\n").collect::<String>();
    text += "[nodeManager]\n";
    if !lines.iter().any(|line| line.starts_with("name ")) {
        lines.insert(0, "name = \"nodemanager-1\"".to_owned());
    }
    text += &(lines.join("\n") + "\n");
    text + &format!(
        "standbyPort = {STANDBY_PORT}  # supervisord has no standby; any free port of this machine\n"
    )
}

/// The line of a key, nothing where servers have it, or why there is none.
fn key(item: &Item) -> Result<Option<String>, &'static str> {
    match item.key.as_str() {
        "identifier" => Ok(Some(format!("name = \"{}\"", written::name(&item.value)))),
        "loglevel" => {
            let level = match item.value.to_ascii_lowercase().as_str() {
                "critical" | "error" => "error",
                "warn" => "warn",
                "info" => "info",
                "debug" => "debug",
                "trace" | "blather" => "trace",
                _ => return Err("no level that is known"),
            };
            Ok(Some(format!("logLevel = \"{level}\"")))
        }
        "logfile"
            if matches!(
                item.value.as_str(),
                "/dev/stderr" | "/dev/stdout" | "/dev/fd/1" | "/dev/fd/2"
            ) =>
        {
            Ok(Some("logTarget = \"stderr\"".to_owned()))
        }
        "logfile" => Err("the logs are <logDir>/NAME.log and <logDir>/NAME_standby.log"),
        "logfile_maxbytes" => match words::size(&item.value) {
            Some(size) if size != "0" => Ok(Some(format!("logMaxSize = \"{size}\""))),
            _ => Err("a log of the pair always has a limit here, logMaxSize"),
        },
        "logfile_backups" => match item.value.parse() {
            Ok(number @ 1..=1_000_u32) => Ok(Some(format!("logMaxFiles = {number}"))),
            _ => Err("logMaxFiles is from 1 to 1000"),
        },
        "directory" | "umask" | "environment" => Ok(None),
        "user" if item.value == "root" => Ok(None),
        "user" => Err(
            "the servers have it as `user`; to run the pair as that user, start it as that user",
        ),
        "nodaemon" => Err("`run` stays in the foreground, `run --detach` does not"),
        "pidfile" => Err("there is none: `nodemanager status` tells the PIDs, the lock who runs"),
        "childlogdir" => Err("the logs of servers are in logDir"),
        "minfds" | "minprocs" => Err(
            "the node manager raises its own limit; for a server write limits = { nofile = ... }",
        ),
        "nocleanup" => Err("logs are never removed at a start"),
        "strip_ansi" => Err("logs are kept byte for byte"),
        "silent" => Err("nothing is written to standard output unless logTarget says so"),
        _ => Err("unknown key"),
    }
}
