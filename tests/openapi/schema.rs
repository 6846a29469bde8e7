//! Checks a value against a JSON schema: the part of it that docs/openapi.json uses.
//!
//! Must refuse a keyword that it does not know, so that nothing in the file is taken for checked that is not. An
//! object of an answer has no property that the schema lacks: what the server says must be written down.

use serde_json::Value;
use std::collections::BTreeMap;

/// Words that say nothing about which values are right.
const SILENT: [&str; 5] = ["description", "format", "default", "explode", "pattern"];

/// The file, and how often each property of a named schema had a value other than null.
pub struct Schemas {
    pub file: Value,
    pub seen: BTreeMap<String, u32>,
}

impl Schemas {
    pub fn new(file: Value) -> Schemas {
        Schemas { file, seen: BTreeMap::new() }
    }

    /// What a `$ref` leads to.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            None => value,
            Some(path) => {
                let pointer = path.strip_prefix('#').expect("a reference into the file itself");
                self.file.pointer(pointer).unwrap_or_else(|| panic!("{path} leads nowhere"))
            }
        }
    }

    /// Every way in which `value` is not as `schema` says; empty: it is.
    pub fn wrong(&mut self, schema: &Value, value: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        let schema = schema.clone();
        self.check(&schema, value, "$", &mut wrong);
        wrong
    }

    fn check(&mut self, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
        if let Some(path) = schema["$ref"].as_str() {
            let name = path.rsplit('/').next().unwrap_or_default().to_owned();
            if let Value::Object(fields) = value {
                for (key, _) in fields.iter().filter(|(_, value)| !value.is_null()) {
                    *self.seen.entry(format!("{name}.{key}")).or_default() += 1;
                }
            }
            let target = self.resolve(schema).clone();
            return self.check(&target, value, place, wrong);
        }
        let rules = schema.as_object().unwrap_or_else(|| panic!("{place}: no schema: {schema}"));
        for (word, rule) in rules {
            let is_right = match word.as_str() {
                "type" => is_of_type(rule, value),
                "enum" => rule.as_array().is_some_and(|list| list.contains(value)),
                "minimum" => {
                    value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap_or(0.0))
                }
                "minLength" | "maxLength" => fits(word, rule, value),
                "anyOf" => self.any_of(rule, value, place),
                "required" => {
                    let keys = rule.as_array().into_iter().flatten().filter_map(Value::as_str);
                    !value.is_object() || keys.into_iter().all(|key| value.get(key).is_some())
                }
                "items" => {
                    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{place}[{at}]"), wrong);
                    }
                    true
                }
                "properties" => {
                    self.properties(schema, value, place, wrong);
                    true
                }
                "additionalProperties" => true,
                silent if SILENT.contains(&silent) => true,
                other => panic!("{place}: the test does not know the keyword {other}"),
            };
            if !is_right {
                wrong.push(format!("{place}: {value} is not as {word} says: {rule}"));
            }
        }
    }

    fn any_of(&mut self, list: &Value, value: &Value, place: &str) -> bool {
        list.as_array().into_iter().flatten().any(|one| {
            let mut wrong = Vec::new();
            self.check(one, value, place, &mut wrong);
            wrong.is_empty()
        })
    }

    fn properties(&mut self, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            match schema["properties"].get(key) {
                Some(rule) => self.check(rule, value, &format!("{place}.{key}"), wrong),
                None => wrong.push(format!("{place}.{key} is not in the file")),
            }
        }
    }
}

fn is_of_type(rule: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    };
    match rule {
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        one => is(one.as_str().unwrap_or_default()),
    }
}

fn fits(word: &str, rule: &Value, value: &Value) -> bool {
    let limit = rule.as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0);
    let length = value.as_str().map_or(0, |text| text.chars().count());
    if word == "minLength" { length >= limit } else { length <= limit }
}

// ---- is the checker itself right?

#[test]
fn what_is_not_as_the_schema_says_is_found() {
    let file = serde_json::json!({"components": {"schemas": {"One": {
        "type": "object", "required": ["a"],
        "properties": {
            "a": {"type": ["integer", "null"], "minimum": 2},
            "b": {"type": "array", "items": {"type": "string", "enum": ["x", "y"]}},
            "c": {"anyOf": [{"$ref": "#/components/schemas/One"}, {"type": "null"}]}
        }
    }}}});
    let mut schemas = Schemas::new(file);
    let one = serde_json::json!({"$ref": "#/components/schemas/One"});
    let mut faults = |text: &str| schemas.wrong(&one, &serde_json::from_str(text).unwrap()).len();
    for right in [
        r#"{"a":2}"#,
        r#"{"a":null,"b":[]}"#,
        r#"{"a":3,"b":["x","y"],"c":null}"#,
        r#"{"a":3,"c":{"a":2}}"#,
    ] {
        assert_eq!(faults(right), 0, "{right}");
    }
    for wrong in [
        "[]",
        "{}",
        r#"{"a":1}"#,
        r#"{"a":"2"}"#,
        r#"{"a":2.5}"#,
        r#"{"a":2,"b":["z"]}"#,
        r#"{"a":2,"b":"x"}"#,
        r#"{"a":2,"more":1}"#,
        r#"{"a":3,"c":{"a":1}}"#,
        r#"{"a":3,"c":1}"#,
    ] {
        assert!(faults(wrong) > 0, "{wrong}");
    }
    assert_eq!(schemas.seen.get("One.b"), Some(&4));
}
