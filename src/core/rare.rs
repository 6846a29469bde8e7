//! What few servers have: kept outside of what every server has, and not at all where there is nothing.
//!
//! Plain values; must not be seen in what is written, nor in comparisons: a part that is not there is
//! equal to one with nothing in it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// A value with nothing in it, which all who have none can show.
pub trait Blank: Default + PartialEq + 'static {
    /// The same as the default.
    const BLANK: &'static Self;
}

impl<T: PartialEq + 'static> Blank for Vec<T> {
    const BLANK: &'static Vec<T> = &Vec::new();
}

/// A part that most have nothing of. It is asked and changed as if it were there.
pub struct Rare<T>(Option<Box<T>>);

impl<T> Rare<T> {
    /// Nothing.
    pub const NONE: Rare<T> = Rare(None);

    /// From now on there is nothing in it, and no room is kept.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Rare<T> {
        Rare::NONE
    }
}

impl<T: Blank> From<T> for Rare<T> {
    fn from(part: T) -> Rare<T> {
        Rare((part != *T::BLANK).then(|| Box::new(part)))
    }
}

impl<T: Blank> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::BLANK)
    }
}

/// Who changes it has a part from then on: nothing is to be changed to nothing this way.
impl<T: Blank> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T: Blank + Clone> Clone for Rare<T> {
    fn clone(&self) -> Rare<T> {
        Rare(self.0.clone().filter(|part| **part != *T::BLANK))
    }
}

impl<T: Blank> PartialEq for Rare<T> {
    fn eq(&self, other: &Rare<T>) -> bool {
        **self == **other
    }
}

impl<T: Blank + Eq> Eq for Rare<T> {}

impl<T: Blank> PartialEq<T> for Rare<T> {
    fn eq(&self, other: &T) -> bool {
        **self == *other
    }
}

impl<T: Blank + Hash> Hash for Rare<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: Blank + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(to)
    }
}

impl<T: Blank + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Blank + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rare<T>, D::Error> {
        T::deserialize(deserializer).map(Rare::from)
    }
}

/// A text that few have: where there is one, it costs a second allocation, and where there is none, only
/// a pointer.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Text(Box<Box<str>>);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(Box::new(text.into()))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(Box::new(text.into()))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        (*text.0).into()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, to)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_the_same_whether_room_is_kept_for_it_or_not() {
        let mut rare: Rare<Vec<u8>> = Rare::default();
        assert!(rare.is_empty() && rare.0.is_none());
        rare.push(1);
        rare.pop();
        assert!(rare.0.is_some() && rare == Rare::default() && rare.clone().0.is_none());
        rare.clear();
        assert!(rare.0.is_none() && Rare::from(Vec::<u8>::new()).0.is_none());
    }

    #[test]
    fn parts_and_texts_are_written_as_what_they_are() {
        let rare = Rare::from(vec![1, 2]);
        assert_eq!(serde_json::to_string(&rare).unwrap(), "[1,2]");
        assert_eq!(serde_json::from_str::<Rare<Vec<u8>>>("[1,2]").unwrap(), rare);
        let text = Text::from("a \"b\"");
        assert_eq!(serde_json::to_string(&text).unwrap(), "\"a \\\"b\\\"\"");
        assert_eq!(serde_json::from_str::<Text>("\"\"").unwrap(), Text::default());
        assert_eq!(String::from(text), "a \"b\"");
    }

    #[test]
    fn what_few_have_is_a_pointer_where_it_is_not_there() {
        let sizes = [size_of::<Rare<Vec<u8>>>(), size_of::<Option<Text>>()];
        assert_eq!(sizes, [size_of::<usize>(); 2]);
    }
}
