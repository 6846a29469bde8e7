//! The latest record of everything, by name: a standby's copy, and what a takeover knows.
//!
//! Must not judge a record: who puts one in has decided that it counts. The records are in the order in
//! which they came, which is that of the servers, so that a takeover finds each without a search.

use super::name::Name;
use super::record::{Entry, Record};
use std::hash::{Hash, Hasher};

/// The latest record of each server (by its name), and of the node (by "").
#[derive(Clone, Debug, Default)]
pub struct Latest {
    /// In the order in which they came first.
    slots: Vec<Slot>,
    /// Their places, in the order of the names. A name is in its record alone.
    by_name: Vec<u32>,
    /// Where the next one that is taken out is looked for first.
    next: usize,
}

#[derive(Clone, Debug)]
enum Slot {
    Here(Entry),
    /// Others are still found by its name.
    Taken(Name),
}

impl Slot {
    fn name(&self) -> &str {
        match self {
            Slot::Here(entry) => name_of(entry),
            Slot::Taken(name) => name,
        }
    }

    fn entry(&self) -> Option<&Entry> {
        match self {
            Slot::Here(entry) => Some(entry),
            Slot::Taken(_) => None,
        }
    }

    fn entry_mut(&mut self) -> Option<&mut Entry> {
        match self {
            Slot::Here(entry) => Some(entry),
            Slot::Taken(_) => None,
        }
    }

    fn take(&mut self, name: &Name) -> Option<Entry> {
        match std::mem::replace(self, Slot::Taken(name.clone())) {
            Slot::Here(entry) => Some(entry),
            Slot::Taken(_) => None,
        }
    }
}

/// The name that a record is kept by.
fn name_of(entry: &Entry) -> &str {
    match &entry.record {
        Record::Node(_) => "",
        Record::Server(server) => &server.name,
    }
}

impl Latest {
    /// Its place, or where it would be in the order of the names.
    fn find(&self, name: &str) -> Result<usize, usize> {
        let known = |place: &u32| self.slots.get(*place as usize).map_or("", Slot::name);
        let at = self.by_name.binary_search_by(|place| known(place).cmp(name))?;
        self.by_name.get(at).map(|place| *place as usize).ok_or(at)
    }

    /// The latest record with this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.slots.get(self.find(name).ok()?)?.entry()
    }

    /// As `get`, to be changed; never its name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        let place = self.find(name).ok()?;
        self.slots.get_mut(place)?.entry_mut()
    }

    /// Takes the place of what is known by that name, if `counts` says so of the old one. The name of a
    /// server stays one text.
    pub fn put_if(&mut self, mut entry: Entry, counts: impl FnOnce(&Entry) -> bool) {
        match self.find(name_of(&entry)) {
            Ok(place) => {
                let Some(slot) = self.slots.get_mut(place) else { return };
                if slot.entry().is_some_and(|old| !counts(old)) {
                    return;
                }
                if let (Record::Server(new), Some(Record::Server(old))) =
                    (&mut entry.record, slot.entry().map(|old| &old.record))
                {
                    new.name.share_with(&old.name);
                }
                *slot = Slot::Here(entry);
            }
            Err(at) => {
                // Never more than there are servers on record.
                self.by_name.insert(at, u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
                self.slots.push(Slot::Here(entry));
            }
        }
    }

    /// Takes the place of what is known by that name.
    pub fn put(&mut self, entry: Entry) {
        self.put_if(entry, |_| true);
    }

    /// Takes out what is known by this name. In the order of the servers each is where it is looked for.
    pub fn take(&mut self, name: &Name) -> Option<Entry> {
        let is_next = self.slots.get(self.next).is_some_and(|slot| slot.name() == name.as_str());
        let place = if is_next { self.next } else { self.find(name).ok()? };
        self.next = place + 1;
        self.slots.get_mut(place)?.take(name)
    }

    /// Takes out the record of the node.
    pub fn take_node(&mut self) -> Option<Entry> {
        self.take(&Name::default())
    }

    /// All, in the order of the names.
    pub fn values(&self) -> impl Iterator<Item = &Entry> {
        self.by_name.iter().filter_map(|place| self.slots.get(*place as usize)?.entry())
    }

    /// All, to be changed; never their names.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().filter_map(Slot::entry_mut)
    }

    /// All, in the order of the names.
    pub fn into_values(mut self) -> impl Iterator<Item = Entry> {
        let none = Name::default();
        let places = std::mem::take(&mut self.by_name);
        places.into_iter().filter_map(move |place| self.slots.get_mut(place as usize)?.take(&none))
    }

    /// How many came.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// None came.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// All have come: gives back the room that was kept for more.
    pub fn shrink_to_fit(&mut self) {
        self.slots.shrink_to_fit();
        self.by_name.shrink_to_fit();
    }
}

/// The same records are the same, in whatever order they came.
impl PartialEq for Latest {
    fn eq(&self, other: &Latest) -> bool {
        self.values().eq(other.values())
    }
}

impl Eq for Latest {}

impl Hash for Latest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.values().count());
        self.values().for_each(|entry| entry.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::{NodeRecord, ServerRecord, Wanted};

    fn entry(seq: u64, name: &str) -> Entry {
        let server = || Record::Server(ServerRecord::new(name, Wanted::Up).into());
        let node = || Record::Node(NodeRecord::default().into());
        Entry { seq, record: if name.is_empty() { node() } else { server() } }
    }

    fn latest(names: &[&str]) -> Latest {
        let mut latest = Latest::default();
        names.iter().for_each(|name| latest.put(entry(1, name)));
        latest
    }

    #[test]
    fn each_is_found_by_its_name_whatever_the_order_in_which_they_came() {
        let names = ["", "s@1", "s@2", "s@10", "a"];
        let mut one = latest(&names);
        assert!(names.iter().all(|name| name_of(one.get(name).unwrap()) == *name));
        assert_eq!(one.get("s@3"), None);
        let mut other: Vec<_> = names.to_vec();
        other.reverse();
        assert_eq!(one, latest(&other));
        one.put_if(entry(2, "a"), |old| old.seq > 1);
        assert_eq!(one.get("a").unwrap().seq, 1);
        one.put(entry(2, "a"));
        assert_eq!((one.get("a").unwrap().seq, one.len()), (2, 5));
    }

    #[test]
    fn what_is_taken_out_is_gone_and_the_others_are_still_found() {
        for order in [["s@1", "s@2", "s@10"], ["s@10", "s@1", "s@2"]] {
            let mut all = latest(&["", "s@1", "s@2", "s@10", "b", "a"]);
            assert!(all.take_node().is_some() && all.take_node().is_none());
            for name in order {
                assert_eq!(name_of(&all.take(&name.into()).unwrap()), name);
                assert_eq!(all.take(&name.into()), None);
            }
            let rest: Vec<Entry> = all.into_values().collect();
            assert_eq!(rest, [entry(1, "a"), entry(1, "b")]);
        }
    }

    #[test]
    fn a_record_costs_its_copy_three_words_beside_itself() {
        assert_eq!(size_of::<Slot>(), 3 * size_of::<usize>());
    }
}
