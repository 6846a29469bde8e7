//! The `[[server]]` tables: what each key means, its default and its limits.
//!
//! Pure, as all of the parsing: must not look at the machine.

use super::cgroup;
use super::checks::{health, readiness};
use super::dependencies::{self, Origin};
use super::document::{Document, Value};
use super::identity::identity;
use super::instances::{Instance, Instances};
use super::policy::policy;
use super::reader::{self, Reader, Refused};
use super::sections::{OUTPUT_KEYS, RESTART_KEYS, SERVER_KEYS, is_name, name};
use super::units::{is_signal, parse_signal, quoted};
use super::{
    AutoStart, Definition, OutputTo, Program, Readiness, ServerConfig, Shared, commands, output,
    sockets,
};
use crate::core::plan::Kind;
use crate::core::restart::Policy;
use std::collections::{BTreeMap, BTreeSet};

/// Variables that mark the processes of a server, so that none is ever started twice.
pub(super) const MARKS: [&str; 2] = ["NM_SERVER", "NM_PAIR"];
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The number of an instance, in its environment.
const INSTANCE_VARIABLE: &str = "NM_INSTANCE";

/// Tags of one server.
const MAX_TAGS: usize = 100;

/// A `[[server]]` table as it was written.
pub struct Written<'a> {
    /// The table with its file; its unknown keys are noted.
    pub keys: Reader<'a>,
    pub table: &'a DeTable<'a>,
    /// Of its header.
    pub line: u32,
    pub program: String,
}

/// All `[[server]]` tables of all files.
pub fn written<'a>(tops: &[Reader<'a>]) -> Vec<Written<'a>> {
    let mut all = Vec::new();
    let mut places: BTreeMap<&str, (&Document<'_>, u32)> = BTreeMap::new();
    for (top, item) in tops.iter().flat_map(|top| tables(top).iter().map(move |item| (top, item))) {
        let document = top.document;
        let line = document.line(item.span().start);
        let DeValue::Table(table) = item.get_ref() else {
            document.error(Some(line), "server must be an array of tables".to_owned());
            continue;
        };
        let name_written = table.get("name").and_then(|name| name.get_ref().as_str());
        let title = match name_written {
            Some(name) if !name.is_empty() => format!("[[server]] {}", unquoted(name)),
            _ => format!("[[server]] number {}", all.len() + 1),
        };
        if let Some((other, first)) =
            name_written.and_then(|name| places.insert(name, (document, line)))
        {
            let first = match std::ptr::eq(other, document) {
                true => format!("line {first}"),
                false => other.place(first),
            };
            let text = format!("{title} is defined twice: here and in {first}");
            document.error(Some(line), text);
        }
        let keys = Reader::new(document, Some(table), SERVER_KEYS, title);
        let program = program(&keys, line);
        all.push(Written { keys, table, line, program });
    }
    all
}

/// The `[[server]]` tables of a file.
fn tables<'a>(top: &Reader<'a>) -> &'a [Value<'a>] {
    match top.value("server").map(Value::get_ref) {
        Some(DeValue::Array(array)) => array,
        Some(_) => {
            let text = "server must be an array of tables: write [[server]]".to_owned();
            top.document.error(top.line_of("server"), text);
            &[]
        }
        None => &[],
    }
}

/// The name of a server before it has instances; empty when it is wrong.
fn program(keys: &Reader<'_>, line: u32) -> String {
    for key in ["name", "command"] {
        if keys.value(key).is_none() {
            keys.document.error(Some(line), format!("{} has no {key}", keys.title));
        }
    }
    let name = name(keys).unwrap_or_default();
    if name == "all" {
        keys.error("name", "can't be \"all\", which commands take as every server".to_owned());
    }
    name.to_owned()
}

/// All servers. `instances` makes them of their tables; `is_whole`: no file is missing.
pub fn servers(
    written: &[Written<'_>],
    instances: &Instances<'_>,
    policy: &Policy,
    is_whole: bool,
    run_dir: &Path,
) -> Vec<ServerConfig> {
    let mut servers = Vec::new();
    let mut origins = Vec::new();
    for one in written {
        instances.each(&one.keys, one.table, &one.program, one.line, |instance| {
            let document = one.keys.document;
            let title = one.keys.title.clone();
            let keys = Reader::new(document, Some(&instance.table), SERVER_KEYS, title.clone());
            servers.push(server(&keys, one, &instance, policy));
            origins.push(Origin { document, line: keys.line_of("dependsOn"), title });
        });
    }
    output::refuse_same_fifos(&servers, &origins);
    refuse_same_pid_files(&servers, &origins);
    sockets::check(&servers, &origins, run_dir);
    // what could not be read is not unknown
    if is_whole && !instances.is_cut_short() {
        dependencies::resolve(&mut servers, &origins);
    }
    servers
}

/// Two that write one file can't be told apart.
fn refuse_same_pid_files(servers: &[ServerConfig], origins: &[Origin<'_>]) {
    let mut seen = BTreeMap::new();
    for (server, origin) in servers.iter().zip(origins) {
        let Some(file) = &server.pid_file else { continue };
        let Some(other) = seen.insert(file, &server.name) else { continue };
        let text = format!(
            "pidFile of {} is the file of {other}, too: {}; each needs one of its own (of \
             instances, with ${{instance}} in its name)",
            origin.title,
            file.display()
        );
        origin.document.error(Some(server.line), text);
        // Once is enough for a thousand instances.
        return;
    }
}

/// The text as in quotes, without them.
fn unquoted(text: &str) -> String {
    quoted(text).trim_matches('"').to_owned()
}

const KINDS: &[(&str, Kind)] =
    &[("simple", Kind::Simple), ("forking", Kind::Forking), ("oneshot", Kind::Oneshot)];

/// One server, from its expanded table.
fn server(
    keys: &Reader<'_>,
    written: &Written<'_>,
    instance: &Instance<'_>,
    default: &Policy,
) -> ServerConfig {
    let every = || vec!["*".to_owned()];
    let mut definition = Definition {
        file: keys.document.file.to_owned().into(),
        line: written.line,
        program: Program { name: written.program.as_str().into(), tags: tags(keys).into() },
        command: reader::command(keys, "command").unwrap_or_default().into(),
        kind: keys.choice("type", KINDS, Kind::Simple),
        cwd: keys.path("cwd", ".").into(),
        env: env(keys).into(),
        pass_env: keys
            .strings("passEnv", "an array of names such as [\"*\"]")
            .unwrap_or_else(every)
            .into(),
        auto_start: keys
            .get("autoStart", "true, false or \"remember\"", auto_start)
            .unwrap_or(AutoStart::Yes),
        depends_on: dependencies::read(keys),
        essential: keys.boolean("essential", false),
        settle_ms: keys.duration("settleTime", "1s", 1_000),
        ready: readiness(keys).into(),
        start_timeout_ms: keys.duration("startTimeout", "1m", 60_000),
        health: health(keys).into(),
        restart: policy(&keys.inner("restart", RESTART_KEYS), default).into(),
        stop: commands::stop(keys).into(),
        reload: commands::reload(keys),
        pid_file: keys.value("pidFile").map(|_| keys.path("pidFile", ".")),
        hooks: Shared::default(),
        drain: commands::drain(keys).into(),
        output: output::output(&keys.inner("output", OUTPUT_KEYS)),
        identity: identity(keys).into(),
        cgroup: cgroup::limits(keys),
        sockets: sockets::sockets(keys, &instance.name),
    };
    definition.hooks = commands::hooks(keys, definition.kind).into();
    match (definition.kind, &definition.pid_file) {
        (Kind::Forking, None) => {
            let text =
                "is \"forking\", which needs pidFile: the file that says which process stays";
            keys.error("type", text.to_owned());
        }
        (Kind::Simple | Kind::Oneshot, Some(_)) => {
            keys.error("pidFile", "is for type = \"forking\" only".to_owned());
        }
        _ => {}
    }
    let is_logged = matches!(definition.output.to, OutputTo::Pipe | OutputTo::Direct);
    if matches!(*definition.ready, Some(Readiness::Log(_))) && !is_logged {
        let text = "can't be log: only with output.to = \"pipe\" or \"direct\" there is one";
        keys.error("ready", text.to_owned());
    }
    if definition.pass_env.iter().any(|name| name.is_empty() || name.contains('=')) {
        keys.error("passEnv", "must hold names, not empty and without \"=\"".to_owned());
    }
    ServerConfig::new(instance.name.as_str().into(), instance.number, definition)
}

/// Each once.
fn tags(keys: &Reader<'_>) -> Vec<String> {
    let tags = keys.strings("tags", "an array of names such as [\"shop\"]").unwrap_or_default();
    if let Some(wrong) = tags.iter().find(|tag| !is_name(tag)) {
        let allowed = "letters, digits, \".\", \"_\" and \"-\", at most 100";
        keys.error("tags", format!("must hold names of {allowed}, not {}", quoted(wrong)));
    }
    if tags.len() > MAX_TAGS {
        keys.error("tags", format!("has more than {MAX_TAGS} names"));
        return Vec::new();
    }
    let mut known = BTreeSet::new();
    tags.into_iter().filter(|tag| known.insert(tag.clone())).collect()
}

pub fn env(keys: &Reader<'_>) -> BTreeMap<String, String> {
    let table = keys.inner("env", &[]);
    let mut env = BTreeMap::new();
    for (key, value) in table.entries() {
        let name: &str = key.get_ref();
        let slipped = table.slipped(name);
        let problem = match value.get_ref() {
            _ if name.is_empty() || name.contains('=') => {
                Some("is no name of a variable: it must not be empty or contain \"=\"".to_owned())
            }
            _ if name == INSTANCE_VARIABLE || MARKS.contains(&name) => {
                Some("is set by the node manager itself".to_owned())
            }
            DeValue::String(text) => {
                env.insert(name.to_owned(), text.clone().into_owned());
                None
            }
            other => Some(format!("must be a string, not {}", reader::shown(other))),
        };
        match (problem, slipped) {
            (Some(problem), Some(hint)) => table.error(name, format!("{problem}; {hint}")),
            (Some(problem), None) => table.error(name, problem),
            (None, Some(hint)) => {
                let text =
                    format!("{} has a variable {name:?}; if the key is meant, {hint}", keys.title);
                keys.document.warn(table.line_of(name), text);
            }
            (None, None) => {}
        }
    }
    env
}

fn auto_start(value: &DeValue<'_>) -> Result<AutoStart, Refused> {
    match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Ok(AutoStart::Yes),
        (Some(false), _) => Ok(AutoStart::No),
        (_, Some("remember")) => Ok(AutoStart::Remember),
        _ => Err(Refused::NotWanted),
    }
}

/// A signal by its name or number.
pub fn signal(value: &DeValue<'_>) -> Result<i32, Refused> {
    match (value.as_str(), reader::integer(value)) {
        (Some(text), _) => parse_signal(text).map_err(reader::is_refused),
        (_, number) => number
            .and_then(|number| i32::try_from(number).ok())
            .filter(|number| is_signal(*number))
            .ok_or(Refused::NotWanted),
    }
}
