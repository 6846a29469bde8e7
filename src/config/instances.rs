//! One `[[server]]` table is one server, or with `instances` many: `name@1` to `name@N`.
//!
//! Must not know other keys than `instances` and `vars`.

use super::document::Value;
use super::expand::{Budget, Expansion, Scope, Unexpanded, is_variable};
use super::input::{Input, Unset};
use super::reader::{self, Reader};
use super::{NodeConfig, units::quoted};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// Instances of one server.
const MAX_INSTANCES: u32 = 1_000;

/// Servers of one node, instances counted one by one.
pub const MAX_SERVERS: u32 = 10_000;

/// What the node manager itself gives; `vars` may not have these names.
const GIVEN: [&str; 8] =
    ["instance", "name", "program", "node", "home", "runDir", "stateDir", "logDir"];

/// One server, with its table as it is to be read.
pub struct Instance<'t> {
    /// `web`, or `web@2`.
    pub name: String,
    pub number: Option<u32>,
    /// Its values are expanded.
    pub table: DeTable<'t>,
    /// Its `vars`, each with its line.
    pub vars: BTreeMap<String, (String, u32)>,
}

/// What is the same for all servers of a configuration.
pub struct Instances<'a> {
    input: &'a Input,
    /// What `${node}`, `${home}`... stand for.
    given: [(&'static str, String); 5],
    budget: Budget,
    /// How many servers there may still be.
    left: Cell<u32>,
    is_refused: Cell<bool>,
}

impl<'a> Instances<'a> {
    pub fn new(input: &'a Input, node: &NodeConfig) -> Self {
        let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
        let given = [
            ("node", node.name.clone()),
            ("home", path(&input.home)),
            ("runDir", path(&node.run_dir)),
            ("stateDir", path(&node.state_dir)),
            ("logDir", path(&node.log_dir)),
        ];
        Instances {
            input,
            given,
            budget: Budget::new(),
            left: Cell::new(MAX_SERVERS),
            is_refused: Cell::new(false),
        }
    }

    /// Each server that this table makes. `keys` is the table as it was written, `line` that of its
    /// header; `program` is its name.
    pub fn each<'t>(
        &self,
        keys: &Reader<'_>,
        table: &DeTable<'t>,
        program: &str,
        line: u32,
        mut act: impl FnMut(Instance<'t>),
    ) {
        let wanted = keys.number("instances", "a number", 1..=MAX_INSTANCES);
        let count = wanted.unwrap_or(1);
        let Some(left) = self.left.get().checked_sub(count) else {
            self.is_refused.set(true);
            let text = format!(
                "{} makes more than {MAX_SERVERS} servers; have fewer instances",
                keys.title
            );
            return keys.document.error(Some(line), text);
        };
        self.left.set(left);
        let vars = vars(keys, count);
        for number in 1..=count {
            let mut scope = self.scope(program, wanted.map(|_| number));
            let own = own_vars(keys, &vars, number, &scope);
            let texts = own.iter().map(|(name, (text, _))| (Cow::from(name.clone()), text.clone()));
            scope.known.extend(texts);
            let expansion = Expansion {
                document: keys.document,
                title: &keys.title,
                scope: &scope,
                budget: &self.budget,
                is_copy: number > 1,
            };
            let expanded = expansion.server(table);
            if self.budget.is_spent() {
                let text = format!(
                    "{} is too large: all servers together may have 16 MiB of text, expanded",
                    keys.title
                );
                return keys.document.error(Some(line), text);
            }
            let number = wanted.map(|_| number);
            act(Instance { name: name(program, number), number, table: expanded, vars: own });
        }
    }

    /// There are servers that were not made, for there were too many.
    pub fn is_cut_short(&self) -> bool {
        self.is_refused.get() || self.budget.is_spent()
    }

    fn scope(&self, program: &str, number: Option<u32>) -> Scope<'a> {
        let given = self.given.iter().map(|(name, text)| (Cow::from(*name), text.clone()));
        let mut known: BTreeMap<_, _> = given.collect();
        known.insert("program".into(), program.to_owned());
        known.insert("name".into(), name(program, number));
        if let Some(number) = number {
            known.insert("instance".into(), number.to_string());
        }
        Scope { known, environment: &self.input.environment, unset: self.input.unset }
    }
}

fn name(program: &str, number: Option<u32>) -> String {
    match number {
        Some(number) => format!("{program}@{number}"),
        None => program.to_owned(),
    }
}

/// A variable as it was written: one value, or one for each instance.
struct Var<'a> {
    name: &'a str,
    line: u32,
    values: &'a [Value<'a>],
    is_list: bool,
}

/// The usable entries of `vars`; what is wrong with the others is noted.
fn vars<'a>(keys: &Reader<'a>, count: u32) -> Vec<Var<'a>> {
    let table = keys.inner("vars", &[]);
    let mut vars = Vec::new();
    for (key, value) in table.entries() {
        let name: &str = key.get_ref();
        let (values, is_list) = match value.get_ref() {
            DeValue::Array(values) => (&**values, true),
            _ => (std::slice::from_ref(value), false),
        };
        let is_one = |value: &Value<'_>| text_of(value.get_ref()).is_some();
        let problem = if !is_variable(name) {
            Some(
                "is no name: it may have letters, digits and \"_\", and begins with no digit"
                    .into(),
            )
        } else if GIVEN.contains(&name) {
            Some(format!("can't be set: ${{{name}}} is given by the node manager"))
        } else if let Some(other) = values.iter().find(|value| !is_one(value)) {
            let shown = reader::shown(other.get_ref());
            Some(format!(
                "must be a string or a number, or a list with one an instance, not {shown}"
            ))
        } else if is_list && values.len() != count as usize {
            let values = values.len();
            let s = |count: usize| if count == 1 { "" } else { "s" };
            Some(format!(
                "has {values} value{} for {count} instance{}: give one value, or one an instance",
                s(values),
                s(count as usize),
            ))
        } else {
            None
        };
        match problem {
            Some(problem) => table.error(name, with_hint(problem, table.slipped(name))),
            None => {
                let line = keys.document.line(key.span().start);
                vars.push(Var { name, line, values, is_list });
            }
        }
    }
    vars
}

fn with_hint(problem: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{problem}; {hint}"),
        None => problem,
    }
}

/// The text that a value of `vars` stands for, before it is expanded.
fn text_of<'a>(value: &'a DeValue<'_>) -> Option<Cow<'a, str>> {
    match value {
        DeValue::String(text) => Some(Cow::from(&**text)),
        value => reader::integer(value).map(|number| Cow::from(number.to_string())),
    }
}

/// The variables of one instance, with their lines. They are expanded too, but don't know each
/// other.
fn own_vars(
    keys: &Reader<'_>,
    vars: &[Var<'_>],
    number: u32,
    scope: &Scope<'_>,
) -> BTreeMap<String, (String, u32)> {
    let mut own = BTreeMap::new();
    for var in vars {
        let at = if var.is_list { number as usize - 1 } else { 0 };
        let Some(value) = var.values.get(at) else { continue };
        let text = text_of(value.get_ref()).unwrap_or_default();
        match (scope.expand(&text), scope.unset) {
            (Ok(expanded), _) => drop(own.insert(var.name.to_owned(), (expanded, var.line))),
            (Err(Unexpanded::NotSet(_)), Unset::Leave) => {}
            (Err(Unexpanded::NotSet(problem) | Unexpanded::Wrong(problem)), _) => {
                let line = keys.document.line(value.span().start);
                let text = format!("vars.{} of {}: {problem}", var.name, keys.title);
                keys.document.error(Some(line), text);
                // so that nothing else is said of its uses
                own.insert(
                    var.name.to_owned(),
                    (quoted(&text_of(value.get_ref()).unwrap_or_default()), var.line),
                );
            }
        }
    }
    own
}
