//! Breadth-first search over all states of a world, with the path to the first one that is wrong.
//!
//! Must not know what the world is. A state is remembered by its 64-bit hash: a collision could
//! hide a state, never invent one. A world is kept only while it waits for its turn; a path is
//! found again by taking the same choices from the start.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// One way on from a state.
pub struct Next<W> {
    pub label: String,
    /// Something fails or is asked for: whether all ends well must not depend on it.
    pub is_fault: bool,
    pub world: W,
}

/// What can be searched.
pub trait World: Clone + Debug + Hash {
    /// Every way on; always in the same order. The labels are empty unless it `tells`.
    fn steps(&self, tells: bool) -> Vec<Next<Self>>;
    /// What must hold in every state.
    fn check(&self) -> Result<(), String>;
    /// From every state such a state must still be in reach without a fault.
    fn is_good(&self) -> bool;
    /// What is to be seen in some state at least, so that the search is known not to be empty.
    fn sights(&self) -> Vec<&'static str>;
}

/// What was seen.
pub struct Report {
    pub states: usize,
    pub sights: BTreeSet<&'static str>,
}

/// Where a state came from.
struct Origin {
    parent: u32,
    choice: u16,
}

/// Visits every state that can be reached from `first`; says how a wrong one is reached.
pub fn explore<W: World>(first: W, states_max: usize) -> Result<Report, String> {
    let mut origins = vec![Origin { parent: 0, choice: 0 }];
    let mut seen = HashMap::from([(hash(&first), 0u32)]);
    let mut back: Vec<(u32, u32)> = Vec::new();
    let mut good: Vec<u32> = Vec::new();
    let mut sights = BTreeSet::new();
    let mut queue = VecDeque::from([(0u32, first.clone())]);
    while let Some((index, world)) = queue.pop_front() {
        if let Err(error) = world.check() {
            return Err(story(&first, &origins, index, &error));
        }
        sights.extend(world.sights());
        if world.is_good() {
            good.push(index);
        }
        for (choice, next) in world.steps(false).into_iter().enumerate() {
            let fresh = u32::try_from(origins.len()).expect("fewer than 2^32 states");
            let target = match seen.entry(hash(&next.world)) {
                Entry::Occupied(old) => *old.get(),
                Entry::Vacant(free) => {
                    free.insert(fresh);
                    let choice = u16::try_from(choice).expect("few choices");
                    origins.push(Origin { parent: index, choice });
                    queue.push_back((fresh, next.world));
                    fresh
                }
            };
            if !next.is_fault {
                back.push((target, index));
            }
        }
        if origins.len() > states_max {
            return Err(story(
                &first,
                &origins,
                index,
                "more states than that: choose smaller budgets",
            ));
        }
    }
    if let Some(lost) = first_lost(origins.len(), back, good) {
        return Err(story(&first, &origins, lost, "from here no good end is in reach"));
    }
    Ok(Report { states: origins.len(), sights })
}

/// Hashes of whole worlds are a third of the work with the hasher of `std`, whose resistance to an
/// attacker is not needed here. Each word is multiplied in, both halves of the product kept.
struct Fold(u64);

impl Fold {
    fn word(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (wide as u64 ^ (wide >> 64) as u64).wrapping_add(0x2545_F491_4F6C_DD1D);
    }
}

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub fn hash<W: Hash>(world: &W) -> u64 {
    let mut hasher = Fold(0);
    world.hash(&mut hasher);
    hasher.finish()
}

/// The first state from which no good one can be reached. `back`: edges as (to, from).
fn first_lost(states: usize, mut back: Vec<(u32, u32)>, mut good: Vec<u32>) -> Option<u32> {
    back.sort_unstable();
    let mut is_well = vec![false; states];
    good.iter().for_each(|index| is_well[*index as usize] = true);
    while let Some(index) = good.pop() {
        let start = back.partition_point(|(to, _)| *to < index);
        for (_, from) in back[start..].iter().take_while(|(to, _)| *to == index) {
            if !std::mem::replace(&mut is_well[*from as usize], true) {
                good.push(*from);
            }
        }
    }
    is_well.iter().position(|well| !well).and_then(|index| u32::try_from(index).ok())
}

/// The steps that lead to a state, and the state.
fn story<W: World>(first: &W, origins: &[Origin], index: u32, error: &str) -> String {
    let mut choices = Vec::new();
    let mut at = index;
    while at != 0 {
        choices.push(origins[at as usize].choice);
        at = origins[at as usize].parent;
    }
    let mut world = first.clone();
    let mut text = String::new();
    for choice in choices.into_iter().rev() {
        let next = world.steps(true).swap_remove(choice as usize);
        text.push_str(&format!("  {}\n", next.label));
        world = next.world;
    }
    format!("{error}\nthe way there:\n{text}the state there:\n{world:#?}\n{error}")
}
