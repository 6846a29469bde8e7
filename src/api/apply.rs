//! The JSON of `diff` and `apply`, as plain values.
//!
//! Must hold no behaviour beyond words for its values.

use serde::{Deserialize, Serialize};

/// A request to put the configuration file in force, or to tell what that would do. An unknown field
/// is refused: who misspells `onlyShow` must not change anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyAsk {
    pub id: String,
    /// Only these servers; none: everything.
    #[serde(default)]
    pub names: Vec<String>,
    /// Nothing is changed.
    #[serde(default)]
    pub only_show: bool,
}

/// What is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyAnswer {
    /// That of the configuration which is in force once this is through.
    pub generation: u64,
    /// Keys of `[nodeManager]` that change in place.
    pub node: Vec<String>,
    /// Keys of `[nodeManager]` that can't be changed while the pair runs.
    pub refused: Vec<String>,
    pub servers: Vec<Change>,
}

impl ApplyAnswer {
    /// The configuration in force says the same.
    pub fn is_empty(&self) -> bool {
        self.node.is_empty() && self.refused.is_empty() && self.servers.is_empty()
    }
}

/// What is changed of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub name: String,
    pub what: What,
    /// The keys that differ.
    pub keys: Vec<String>,
}

/// What becomes of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// It is new.
    Start,
    /// It is new, and `autoStart` does not start it.
    Add,
    /// It is gone from the configuration.
    Stop,
    Restart,
    /// Without a restart.
    Change,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_misspells_only_show_applies_nothing() {
        let asked = |body| serde_json::from_str::<ApplyAsk>(body);
        assert!(asked(r#"{"id":"a","onlyShow":true}"#).is_ok_and(|ask| ask.only_show));
        assert!(asked(r#"{"id":"a","onlyshow":true}"#).is_err());
    }
}
