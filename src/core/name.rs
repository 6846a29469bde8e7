//! The name of a server: one text, however many know it.
//!
//! Must not say what a name may be; the configuration does. Plan, record and the tables of both twins
//! have a name each: with a text of its own each of them costs an allocation for every server, and one
//! more page touched in a takeover.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The name of a server, as a plain string in everything that is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the place of its own text with that of an equal name.
    pub fn share_with(&mut self, other: &Name) {
        if !Arc::ptr_eq(&self.0, &other.0) && self == other {
            *self = other.clone();
        }
    }
}

impl Default for Name {
    fn default() -> Name {
        Name::from("")
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Equal names are equal, in the same order and with equal hashes as their texts.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name(text.into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Name {
        Name(text.into())
    }
}

impl From<&String> for Name {
    fn from(text: &String) -> Name {
        Name::from(text.as_str())
    }
}

impl From<&Name> for String {
    fn from(name: &Name) -> String {
        name.as_str().to_string()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.as_str().to_string()
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<String> for Name {
    fn eq(&self, other: &String) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<Name> for String {
    fn eq(&self, other: &Name) -> bool {
        **self == *other.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, to)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, to)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a string")
            }

            // From what was read, without a String in between.
            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                Ok(Name::from(text))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_name_is_a_plain_string_wherever_it_is_written() {
        assert_eq!(format!("{} {0:?}", Name::from("web@2")), "web@2 \"web@2\"");
        let is_same = |text: &str| {
            let name: Name = serde_json::from_str(text).unwrap();
            serde_json::to_string(&name).unwrap() == text
        };
        assert!(is_same("\"web@2\"") && is_same("\"a\\\"b\""));
    }

    #[test]
    fn what_is_kept_by_name_is_found_by_its_text() {
        let map = BTreeMap::from([(Name::from("a"), 1), (Name::from("b"), 2)]);
        assert_eq!((map.get("b"), map.get("c")), (Some(&2), None));
    }

    #[test]
    fn equal_names_share_one_text_and_others_keep_theirs() {
        let (one, mut two, mut other) = (Name::from("a"), Name::from("a"), Name::from("b"));
        two.share_with(&one);
        other.share_with(&one);
        assert!(Arc::ptr_eq(&one.0, &two.0) && other == "b");
    }
}
