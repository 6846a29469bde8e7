//! A `jeusnm.xml` of the JEUS node manager as a configuration of this program.
//!
//! Pure. The file of JEUS holds no servers but its external processes: those that its admin server asks
//! for are named by a `[[server]]` table here, for which the result has a pattern to fill in.

use super::written::{self, array, comment, plain};
use roxmltree::{Document, Node};

/// The port of the link, where the file has none.
const STANDBY_PORT: u16 = 7731;

/// Keys that mean the same, with the values that they may have.
const SAME: [&str; 4] = [
    "serverAutoRestart",
    "serverRestartTryCount",
    "serverRestartDurationTime",
    "serverRetryRestart",
];

/// What is written so far.
#[derive(Default)]
struct Result {
    keys: Vec<String>,
    notes: Vec<String>,
    servers: String,
}

/// The whole file; `file` is its name for places.
///
/// # Errors
/// It is no XML; the text says where.
pub fn import(text: &str, file: &str) -> std::result::Result<String, String> {
    let document = Document::parse(text).map_err(|error| format!("cannot read {file}: {error}"))?;
    let root = document.root_element();
    if plain_name(root) != "nodemanager" {
        let name = root.tag_name().name();
        return Err(format!(
            "{file} is no jeusnm.xml: its first element is <{name}>, not <nodeManager>"
        ));
    }
    let mut result = Result::default();
    for node in root.children().filter(Node::is_element) {
        let line = document.text_pos_at(node.range().start).row;
        item(node, &format!("{file}:{line}"), &mut result);
    }
    Ok(written_down(file, result))
}

fn written_down(file: &str, mut result: Result) -> String {
    if !result.keys.iter().any(|line| line.starts_with("name ")) {
        result.keys.insert(0, "name = \"JeusNodeManager\"".to_owned());
    }
    let has_port = result.keys.iter().any(|line| line.starts_with("standbyPort "));
    if !has_port {
        let text = "without standbyPort JEUS has no standby; any free port of this machine";
        result.keys.push(format!("standbyPort = {STANDBY_PORT}  # {text}"));
    }
    if !result.keys.iter().any(|line| line.starts_with("serverRetryRestart ")) {
        result.keys.push(
            "serverRetryRestart = false  # the default of JEUS: give up after the tries".to_owned(),
        );
    }
    let mut text = comment(&format!("Made from {file} by `nodemanager import jeusnm`.")) + "\n";
    for note in &result.notes {
        text += &(comment(note) + "\n");
    }
    text += "\n[nodeManager]\n";
    text += &(result.keys.join("\n") + "\n");
    text += &result.servers;
    text + PATTERN
}

/// Servers that the admin server of JEUS asks for by name are not in its file.
const PATTERN: &str = r#"
# The servers of the domains are not in jeusnm.xml. Each needs a table. Their launcher ends when they are up, unless
# it has -verbose; what is watched is the launcher, so see that it ends with its server. Options for user and
# password as at your site:
# [[server]]
# name = "server1"
# command = ["/opt/jeus/bin/startManagedServer", "-domain", "domain1", "-server", "server1", "-verbose"]
# ready = { tcp = "127.0.0.1:9936" }
# stop = { command = ["/opt/jeus/bin/stopServer", "-host", "localhost:9936"], timeout = "2m" }
"#;

/// The name of an element, however it is written: `standbyPort`, `standby-port`.
fn plain_name(node: Node<'_, '_>) -> String {
    node.tag_name().name().replace(['-', '_'], "").to_ascii_lowercase()
}

fn text_of(node: Node<'_, '_>) -> String {
    written::without_marks(node.text().unwrap_or_default().trim())
}

/// Lists of external processes.
const PROCESSES: [&str; 4] = ["processlist", "rqs", "rqslist", "processes"];

fn item(node: Node<'_, '_>, place: &str, result: &mut Result) {
    let (name, value) = (plain_name(node), text_of(node));
    let title = node.tag_name().name();
    let shown = if name.ends_with("pass") { "..." } else { &value };
    let mut note = |why: &str| result.notes.push(format!("{place}: {title} = {shown}: {why}"));
    let is_same = |one: Node<'_, '_>| one.is_element() && plain_name(one) == name;
    let is_first = !node.prev_siblings().skip(1).any(is_same);
    if !is_first && !PROCESSES.contains(&name.as_str()) {
        return note("it is there twice; the first one counts");
    }
    if let Some(key) = SAME.iter().find(|key| key.to_ascii_lowercase() == name) {
        match same(key, &value) {
            Some(value) => result.keys.push(format!("{key} = {value}")),
            None => note("not a value that it can have; left out"),
        }
        return;
    }
    match name.as_str() {
        "standbyport" => match value.parse::<u16>() {
            Ok(port @ 1..) => result.keys.push(format!("standbyPort = {port}")),
            _ => note("no port; left out"),
        },
        "logfilename" => log_file(&value, place, result),
        "usenodemanager" => match value.as_str() {
            "false" => note("JEUS does not use its node manager; this one runs when it is started"),
            _ => note("this one runs when it is started"),
        },
        "host" | "port" => note(
            "there is no remote port: commands go over <runDir>/control.sock of the machine; nodes.xml \
             and the admin server of JEUS can't reach this program",
        ),
        "servermonitoringperiod" => note(
            "not needed: the death of a server is seen at once through its pidfd; `ready` and `health` \
             have an interval of their own",
        ),
        "usessllistener" | "keystorefile" | "keystorepass" | "truststorefile"
        | "truststorepass" => note("there is no remote port, so nothing to encrypt"),
        list if PROCESSES.contains(&list) => {
            for process in node.children().filter(Node::is_element) {
                let row = node.document().text_pos_at(process.range().start).row;
                let file = place.rsplit_once(':').map_or(place, |(file, _)| file);
                let text = external(
                    process,
                    &format!("{file}:{row}"),
                    result.servers.matches("[[server]]").count(),
                );
                result.servers += &text;
            }
        }
        _ => note("unknown; left out"),
    }
}

/// A key that both have, with its value as TOML.
fn same(key: &str, value: &str) -> Option<String> {
    match key {
        "serverRestartTryCount" => {
            value.parse().ok().filter(|tries: &u32| *tries <= 1_000).map(|tries| tries.to_string())
        }
        "serverRestartDurationTime" => value.parse().ok().map(|ms: u32| ms.to_string()),
        _ => value.parse().ok().map(|is_true: bool| is_true.to_string()),
    }
}

/// JEUS names the file, this program its directory and the node.
fn log_file(value: &str, place: &str, result: &mut Result) {
    let (dir, file) = value.rsplit_once('/').unwrap_or(("", value));
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    result.keys.insert(0, format!("name = \"{}\"", written::name(stem)));
    if value.starts_with('/') {
        result.keys.push(format!("logDir = {}", plain(if dir.is_empty() { "/" } else { dir })));
        if !file.ends_with(".log") {
            result
                .notes
                .push(format!("{place}: logFileName = {value}: the log is {dir}/{stem}.log here"));
        }
    } else {
        result
            .notes
            .push(format!("{place}: logFileName = {value}: the log is <logDir>/{stem}.log here"));
    }
}

/// An external process: its program, and what JEUS does for it.
fn external(process: Node<'_, '_>, place: &str, number: usize) -> String {
    let get = |wanted: &[&str]| {
        let found = process
            .children()
            .find(|one| wanted.contains(&plain_name(*one).trim_start_matches("rqs")));
        found.map(text_of).filter(|text| !text.is_empty())
    };
    let mut text = format!("\n{}\n", comment(&format!("{place}: an external process")));
    let Some(path) = get(&["path", "processpath"]) else {
        return text + &comment(&format!("{place}: it has no path; left out")) + "\n";
    };
    if let Some(port) = get(&["port"]) {
        let why = "JEUS asks the process there by messages of its own; if it takes connections: ready = { tcp = \"127.0.0.1:PORT\" }";
        text += &(comment(&format!("{place}: port = {port}: {why}")) + "\n");
    }
    if let Some(period) = get(&["monitoringperiod"]) {
        text +=
            &(comment(&format!("{place}: monitoringPeriod = {period}: its death is seen at once"))
                + "\n");
    }
    text += &(comment(&format!(
        "{place}: JEUS adds -r when it starts it again after a failure; here the command is always the same"
    )) + "\n");
    let name = get(&["processname", "name"]).unwrap_or_else(|| format!("process-{}", number + 1));
    let mut words = vec![path];
    if let Some(option) = get(&["option", "options"]) {
        match shlex::split(&option) {
            Some(more) => words.extend(more),
            None => {
                text += &(comment(&format!(
                    "{place}: option = {option}: a quote is not closed; left out"
                )) + "\n")
            }
        }
    }
    text +=
        &format!("[[server]]\nname = \"{}\"\ncommand = {}\n", written::name(&name), array(&words));
    if let Some(domain) = get(&["domainname"]) {
        text += &format!("tags = {}\n", array(&[written::name(&domain)]));
    }
    if let Some(dir) = get(&["dir", "rqsdir"]) {
        text += &format!("env = {{ RQSDIR = {} }}\n", written::string(&dir));
    }
    if let Some(tries) = get(&["retrycount"]).and_then(|tries| tries.parse::<u32>().ok()) {
        text += &format!("restart = {{ tries = {} }}\n", tries.min(1_000));
    }
    text
}
