//! Parts of definitions that many servers have alike, kept once.
//!
//! A thousand servers differ in their name and perhaps their command. Must not change what a
//! definition says: a shared part is equal to the one it takes the place of.

use super::ServerConfig;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A part that others may have too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared<T>(Arc<T>);

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Shared<T> {
    fn from(part: T) -> Shared<T> {
        Shared(Arc::new(part))
    }
}

impl<T: PartialEq> PartialEq<T> for Shared<T> {
    fn eq(&self, other: &T) -> bool {
        *self.0 == *other
    }
}

impl<'a, T> IntoIterator for &'a Shared<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&*self.0).into_iter()
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared<T>, D::Error> {
        T::deserialize(deserializer).map(Shared::from)
    }
}

impl<T: PartialEq> Shared<T> {
    pub(super) fn share_with(&mut self, other: &Shared<T>) {
        if !Arc::ptr_eq(&self.0, &other.0) && self == other {
            *self = Shared(Arc::clone(&other.0));
        }
    }
}

impl<T: Clone> Shared<T> {
    /// The part, to be changed: no other has it afterwards.
    pub(super) fn make_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

/// Reads servers; each shares with the one before as soon as it is read, so that what it does not
/// need is free for the next one.
///
/// # Errors
/// As the reader says.
pub fn servers<'de, D: Deserializer<'de>>(reader: D) -> Result<Vec<ServerConfig>, D::Error> {
    struct Servers;

    impl<'de> Visitor<'de> for Servers {
        type Value = Vec<ServerConfig>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("a list of servers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut servers: Vec<ServerConfig> = Vec::new();
            while let Some(mut next) = list.next_element::<ServerConfig>()? {
                if let Some(before) = servers.last() {
                    next.share_with(before);
                }
                servers.push(next);
            }
            servers.shrink_to_fit();
            Ok(servers)
        }
    }

    reader.deserialize_seq(Servers)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Definition, parse};
    use std::path::Path;
    use std::sync::Arc;

    #[test]
    fn instances_share_what_they_have_alike_and_stay_what_they_were() {
        let text = "[[server]]\nname = \"a\"\ncommand = \"x y\"\ninstances = 2\n\
                    [[server]]\nname = \"b\"\ncommand = \"z\"\nenv = { A = \"1\" }\n";
        let config = parse(text, Path::new("/c"), Path::new("/h")).unwrap();
        let bytes = serde_json::to_vec(&config).unwrap();
        let read: Config = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read, config);
        let [one, two, b] = &read.servers[..] else { panic!("three servers") };
        assert!(std::ptr::eq::<Definition>(&**one, &**two) && one.name != two.name);
        assert!(Arc::ptr_eq(&two.stop.0, &b.stop.0) && !Arc::ptr_eq(&two.env.0, &b.env.0));
    }
}
