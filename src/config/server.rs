//! A `[[server]]` table as the pair works with it: its name, and its definition, which others may have
//! too.
//!
//! Must not read a table (`servers.rs` does), nor change what is written: it is one object with all keys,
//! as if each server had a definition of its own.

use super::{
    AutoStart, Drain, HealthCheck, Hooks, OnFailure, Output, Readiness, Reload, Shared, Stop,
    cgroup, identity, sockets,
};
use crate::core::Name;
use crate::core::plan::Kind;
use crate::core::restart::Policy;
use crate::names::Known;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

/// A `[[server]]` table. A thousand instances differ in their name and number and have one definition,
/// so a server costs little more than its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct ServerConfig {
    /// `web`, or `web@2` of a program with instances.
    pub name: Name,
    /// From 1; `None` when its program has no `instances`.
    pub instance: Option<u32>,
    definition: Shared<Definition>,
}

/// What a table says, but for the name. Parts that differ between servers seldom are shared for
/// themselves, so that a definition with another command is not all new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The file that it is in.
    pub file: Shared<PathBuf>,
    /// Of its header.
    pub line: u32,
    pub program: Program,
    /// The program and its arguments, never empty. A program with a `/` in it is an absolute path
    /// here; a bare name is to be looked up in the server's PATH.
    pub command: Shared<Vec<String>>,
    /// Absolute.
    pub cwd: Shared<PathBuf>,
    pub env: Shared<BTreeMap<String, String>>,
    /// Names, or patterns of names with `*`, of variables that the server gets from its manager.
    pub pass_env: Shared<Vec<String>>,
    pub kind: Kind,
    pub auto_start: AutoStart,
    /// Servers that it needs, each once, in the order of the configuration and without circles.
    pub depends_on: Vec<Dependency>,
    /// When it is FAILED the pair ends.
    pub essential: bool,
    /// Up for so long, a server without a readiness check counts as started.
    pub settle_ms: u64,
    pub ready: Shared<Option<Readiness>>,
    /// Not ready after that, it failed to start.
    pub start_timeout_ms: u64,
    pub health: Shared<Vec<HealthCheck>>,
    pub restart: Shared<Policy>,
    pub stop: Shared<Stop>,
    /// How it is told to read its own configuration again.
    pub reload: Option<Reload>,
    /// Where a forking one says which of its processes stays.
    pub pid_file: Option<PathBuf>,
    pub hooks: Shared<Hooks>,
    pub drain: Shared<Option<Drain>>,
    pub output: Output,
    pub identity: Shared<identity::Identity>,
    /// What its cgroup is limited to.
    pub cgroup: Vec<cgroup::CgroupLimit>,
    /// What the node manager listens at for it, in the order of its descriptors.
    pub sockets: Vec<sockets::Socket>,
}

/// What names a server beside its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The name in its table: that of the server, or of all its instances.
    pub name: Name,
    /// Commands take `tag:` and one of these.
    pub tags: Shared<Vec<String>>,
}

/// A server that another one needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    pub name: Name,
    pub on_failure: OnFailure,
}

impl ServerConfig {
    /// A server with a definition of its own.
    pub fn new(name: Name, instance: Option<u32>, definition: Definition) -> ServerConfig {
        ServerConfig { name, instance, definition: definition.into() }
    }

    /// What names of commands are compared with.
    pub fn known(&self) -> Known<'_> {
        Known { name: &self.name, program: &self.program.name, tags: &self.program.tags }
    }

    /// Keeps what this one has like the other one only once.
    pub(super) fn share_with(&mut self, other: &ServerConfig) {
        if self.definition != other.definition {
            self.definition.make_mut().share_with(&other.definition);
        } else {
            self.definition.share_with(&other.definition);
        }
    }
}

/// Its definition is what most of the program asks a server for.
impl Deref for ServerConfig {
    type Target = Definition;

    fn deref(&self) -> &Definition {
        &self.definition
    }
}

/// Who changes a definition has it alone from then on.
impl DerefMut for ServerConfig {
    fn deref_mut(&mut self) -> &mut Definition {
        self.definition.make_mut()
    }
}

impl Definition {
    fn share_with(&mut self, other: &Definition) {
        self.file.share_with(&other.file);
        self.program.name.share_with(&other.program.name);
        self.program.tags.share_with(&other.program.tags);
        self.command.share_with(&other.command);
        self.cwd.share_with(&other.cwd);
        self.env.share_with(&other.env);
        self.pass_env.share_with(&other.pass_env);
        self.ready.share_with(&other.ready);
        self.health.share_with(&other.health);
        self.restart.share_with(&other.restart);
        self.stop.share_with(&other.stop);
        self.hooks.share_with(&other.hooks);
        self.drain.share_with(&other.drain);
        self.identity.share_with(&other.identity);
    }
}

/// A server as it is written for the processes of the pair.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    name: Name,
    file: Shared<PathBuf>,
    line: u32,
    program: WrittenProgram,
    command: Shared<Vec<String>>,
    cwd: Shared<PathBuf>,
    env: Shared<BTreeMap<String, String>>,
    pass_env: Shared<Vec<String>>,
    kind: Kind,
    auto_start: AutoStart,
    depends_on: Vec<Dependency>,
    essential: bool,
    settle_ms: u64,
    ready: Shared<Option<Readiness>>,
    start_timeout_ms: u64,
    health: Shared<Vec<HealthCheck>>,
    restart: Shared<Policy>,
    stop: Shared<Stop>,
    reload: Option<Reload>,
    pid_file: Option<PathBuf>,
    hooks: Shared<Hooks>,
    drain: Shared<Option<Drain>>,
    output: Output,
    identity: Shared<identity::Identity>,
    cgroup: Vec<cgroup::CgroupLimit>,
    sockets: Vec<sockets::Socket>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenProgram {
    name: Name,
    instance: Option<u32>,
    tags: Shared<Vec<String>>,
}

/// Field by field: one that is added to a definition and not here does not compile.
macro_rules! moved {
    ($from:ident => $to:ident { $($own:ident: $value:expr),* $(,)? }) => {
        $to {
            $($own: $value,)*
            file: $from.file,
            line: $from.line,
            command: $from.command,
            cwd: $from.cwd,
            env: $from.env,
            pass_env: $from.pass_env,
            kind: $from.kind,
            auto_start: $from.auto_start,
            depends_on: $from.depends_on,
            essential: $from.essential,
            settle_ms: $from.settle_ms,
            ready: $from.ready,
            start_timeout_ms: $from.start_timeout_ms,
            health: $from.health,
            restart: $from.restart,
            stop: $from.stop,
            reload: $from.reload,
            pid_file: $from.pid_file,
            hooks: $from.hooks,
            drain: $from.drain,
            output: $from.output,
            identity: $from.identity,
            cgroup: $from.cgroup,
            sockets: $from.sockets,
        }
    };
}

impl From<Written> for ServerConfig {
    fn from(written: Written) -> ServerConfig {
        let WrittenProgram { name: program, instance, tags } = written.program;
        let (name, program) = (written.name, Program { name: program, tags });
        ServerConfig::new(name, instance, moved!(written => Definition { program: program }))
    }
}

impl From<ServerConfig> for Written {
    fn from(server: ServerConfig) -> Written {
        let ServerConfig { name, instance, definition } = server;
        let definition = (*definition).clone();
        let Program { name: program, tags } = definition.program;
        let program = WrittenProgram { name: program, instance, tags };
        moved!(definition => Written { name: name, program: program })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{ServerConfig, parse};
    use std::path::Path;

    #[test]
    fn a_server_is_written_as_one_object_with_all_of_its_keys() {
        let text = "[[server]]\nname = \"a\"\ncommand = \"x\"\ninstances = 2\n";
        let config = parse(text, Path::new("/c"), Path::new("/h")).unwrap();
        let written = serde_json::to_string(&config.servers[1]).unwrap();
        let begin = r#"{"name":"a@2","file":"/c","line":1,"program":{"name":"a","instance":2,"tags":[]},"command":["x"],"cwd":"/h","env":{},"passEnv":["*"],"kind":"simple","autoStart":"yes","dependsOn":[],"essential":false,"settleMs":1000,"ready":null,"startTimeoutMs":60000,"health":[],"restart":{"#;
        assert!(written.starts_with(begin), "{written}");
        let end = r#","cgroup":[],"sockets":[]}"#;
        assert!(written.ends_with(end), "{written}");
        let read: ServerConfig = serde_json::from_str(&written).unwrap();
        assert_eq!(read, config.servers[1]);
    }
}
