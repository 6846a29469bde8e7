//! `dependsOn`: which servers a server needs, by name, with all instances and tags resolved.
//!
//! Must not decide what becomes of it: that is the core's.

use super::document::Document;
use super::order::circles;
use super::reader::{Reader, shown};
use super::sections::DEPENDENCY_KEYS;
use super::units::quoted;
use super::{Dependency, OnFailure, ServerConfig};
use crate::core::Name;
use crate::names::{self, Known};
use std::collections::BTreeMap;
use toml::de::DeValue;

/// Names in one `dependsOn`.
const MAX_NAMES: usize = 1_000;

/// Dependencies of all servers, instances counted one by one.
const MAX_DEPENDENCIES: usize = 100_000;

/// Servers of a circle that an error names.
const MAX_SHOWN: usize = 20;

const ON_FAILURE: &[(&str, OnFailure)] =
    &[("keep", OnFailure::Keep), ("stop", OnFailure::Stop), ("restart", OnFailure::Restart)];

/// Where a server's `dependsOn` is.
pub struct Origin<'a> {
    pub document: &'a Document<'a>,
    pub line: Option<u32>,
    /// As people call the server: `[[server]] web`.
    pub title: String,
}

/// The names as they were written.
pub fn read(keys: &Reader<'_>) -> Vec<Dependency> {
    let wanted = "an array of names such as [\"redis\", { name = \"db\", onFailure = \"stop\" }]";
    let list = match keys.value("dependsOn").map(|value| value.get_ref()) {
        Some(DeValue::Array(list)) => list,
        Some(other) => {
            keys.error("dependsOn", format!("must be {wanted}, not {}", shown(other)));
            return Vec::new();
        }
        None => return Vec::new(),
    };
    if list.len() > MAX_NAMES {
        keys.error("dependsOn", format!("has more than {MAX_NAMES} names: use a tag"));
        return Vec::new();
    }
    let mut names = Vec::new();
    for item in list.iter() {
        match item.get_ref() {
            DeValue::String(name) => {
                names.push(Dependency { name: Name::from(&**name), on_failure: OnFailure::Keep });
            }
            DeValue::Table(table) => {
                let title = format!("dependsOn of {}", keys.title);
                let inner = Reader::new(keys.document, Some(table), DEPENDENCY_KEYS, title);
                let name = inner.get("name", "a string", |value| {
                    value.as_str().map(Name::from).ok_or(super::reader::Refused::NotWanted)
                });
                let on_failure = inner.choice("onFailure", ON_FAILURE, OnFailure::Keep);
                match name {
                    Some(name) => names.push(Dependency { name, on_failure }),
                    None if inner.value("name").is_none() => {
                        keys.error("dependsOn", "has a table without name".to_owned());
                    }
                    None => {}
                }
            }
            other => {
                keys.error("dependsOn", format!("must be {wanted}, not one with {}", shown(other)));
            }
        }
    }
    names
}

/// Whom a name means.
struct Index {
    servers: BTreeMap<Name, usize>,
    programs: BTreeMap<Name, Vec<usize>>,
    tags: BTreeMap<String, Vec<usize>>,
}

impl Index {
    fn new(servers: &[ServerConfig]) -> Index {
        let mut index =
            Index { servers: BTreeMap::new(), programs: BTreeMap::new(), tags: BTreeMap::new() };
        for (at, server) in servers.iter().enumerate() {
            index.servers.insert(server.name.clone(), at);
            index.programs.entry(server.program.name.clone()).or_default().push(at);
            for tag in &server.program.tags {
                index.tags.entry(tag.clone()).or_default().push(at);
            }
        }
        index
    }

    fn find(&self, name: &str) -> &[usize] {
        let found = match name.strip_prefix(names::TAG) {
            Some(tag) => self.tags.get(tag),
            None => match self.servers.get(name) {
                Some(server) => return std::slice::from_ref(server),
                None => self.programs.get(name),
            },
        };
        found.map(Vec::as_slice).unwrap_or_default()
    }
}

/// Replaces what was written by the names of servers, in the order of the configuration; of what is
/// meant twice the last one counts. `origins` has one for each server.
pub fn resolve(servers: &mut [ServerConfig], origins: &[Origin<'_>]) {
    let index = Index::new(servers);
    let mut count = 0;
    let mut all = Vec::new();
    for (at, (server, origin)) in servers.iter().zip(origins).enumerate() {
        let mut needed: BTreeMap<usize, OnFailure> = BTreeMap::new();
        for written in &server.depends_on {
            let found = index.find(&written.name);
            if found.is_empty() {
                origin.unknown(servers, &written.name);
            } else if found.contains(&at) {
                let how = if written.name == server.name { "" } else { ", and is one of those" };
                origin.error(format!(
                    "names {}{how}: it can't wait for itself",
                    quoted(&written.name)
                ));
            } else {
                needed.extend(found.iter().map(|found| (*found, written.on_failure)));
            }
        }
        count += needed.len();
        if count > MAX_DEPENDENCIES {
            let text = format!("makes more than {MAX_DEPENDENCIES} dependencies of all servers");
            return origin.error(text);
        }
        all.push(needed);
    }
    let needs: Vec<Vec<usize>> =
        all.iter().map(|needed| needed.keys().copied().collect()).collect();
    for circle in circles(&needs) {
        refuse(&circle, servers, origins);
    }
    let names: Vec<Name> = servers.iter().map(|server| server.name.clone()).collect();
    for (server, needed) in servers.iter_mut().zip(all) {
        let concrete = needed.into_iter().filter_map(|(at, on_failure)| {
            Some(Dependency { name: names.get(at)?.clone(), on_failure })
        });
        server.depends_on = concrete.collect();
    }
}

fn refuse(circle: &[usize], servers: &[ServerConfig], origins: &[Origin<'_>]) {
    let name = |at: &usize| servers.get(*at).map(|server| server.name.as_str()).unwrap_or_default();
    let mut shown: Vec<&str> = circle.iter().take(MAX_SHOWN).map(name).collect();
    if circle.len() > MAX_SHOWN {
        shown.push("...");
    }
    shown.extend(circle.first().map(name));
    if let Some(origin) = circle.first().and_then(|at| origins.get(*at)) {
        origin.error(format!("goes in a circle: {}; break it at one of them", shown.join(" -> ")));
    }
}

impl Origin<'_> {
    fn error(&self, text: String) {
        self.document.error(self.line, format!("dependsOn of {} {text}", self.title));
    }

    fn unknown(&self, servers: &[ServerConfig], name: &str) {
        // the search for what was meant looks at every server
        let hint = match self.document.notes.is_full() {
            true => String::new(),
            false => {
                let known: Vec<Known<'_>> = servers.iter().map(ServerConfig::known).collect();
                names::hint(name, &known)
            }
        };
        self.error(format!("names {}, which is no server{hint}", quoted(name)));
    }
}
