//! Circles among servers that need each other.
//!
//! Must know nothing but numbers: who needs whom.

/// More circles than this help nobody.
const MAX_CIRCLES: usize = 100;

/// Where a node is in the search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unseen,
    /// It is that far in the path that is being followed.
    OnPath(usize),
    Done,
}

/// Circles in which each node needs the next one and the last one the first. `needs` holds, for
/// each node, those that it needs; numbers without a node are ignored. Where there is a circle, at
/// least one is found; each begins with its lowest number, and once broken others may be left.
pub fn circles(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut states = vec![State::Unseen; needs.len()];
    let mut is_shown = vec![false; needs.len()];
    let mut found = Vec::new();
    for start in 0..needs.len() {
        if states.get(start) != Some(&State::Unseen) {
            continue;
        }
        // a path as deep as there are servers, so without recursion
        let mut path = vec![(start, 0)];
        set(&mut states, start, State::OnPath(0));
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            let Some(needed) = needs.get(node).and_then(|needed| needed.get(*next)).copied() else {
                set(&mut states, node, State::Done);
                path.pop();
                continue;
            };
            *next += 1;
            match states.get(needed) {
                Some(State::Unseen) => {
                    set(&mut states, needed, State::OnPath(path.len()));
                    path.push((needed, 0));
                }
                Some(State::OnPath(at)) => {
                    let is_new =
                        [node, needed].iter().all(|end| is_shown.get(*end) == Some(&false));
                    if is_new && found.len() < MAX_CIRCLES {
                        let circle = path.iter().skip(*at).map(|(node, _)| *node);
                        found.push(from_lowest(circle.collect(), &mut is_shown));
                    }
                }
                Some(State::Done) | None => {}
            }
        }
    }
    found
}

fn set(states: &mut [State], node: usize, state: State) {
    if let Some(place) = states.get_mut(node) {
        *place = state;
    }
}

fn from_lowest(mut circle: Vec<usize>, is_shown: &mut [bool]) -> Vec<usize> {
    for node in &circle {
        if let Some(shown) = is_shown.get_mut(*node) {
            *shown = true;
        }
    }
    let lowest = (0..circle.len()).min_by_key(|at| circle.get(*at));
    circle.rotate_left(lowest.unwrap_or(0));
    circle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_circle_has_none() {
        assert!(circles(&[]).is_empty());
        assert!(circles(&[vec![1, 2], vec![2], vec![]]).is_empty());
        assert!(circles(&[vec![7]]).is_empty(), "a number without a node");
    }

    #[test]
    fn a_circle_begins_with_its_lowest_number_wherever_it_is_entered() {
        assert_eq!(circles(&[vec![0]]), [[0]]);
        assert_eq!(circles(&[vec![3], vec![2], vec![3], vec![1]]), [[1, 2, 3]]);
    }

    #[test]
    fn circles_beside_each_other_are_all_found_and_those_through_one_node_once() {
        assert_eq!(circles(&[vec![1], vec![0], vec![3], vec![2]]), [[0, 1], [2, 3]]);
        assert_eq!(circles(&[vec![3], vec![3], vec![3], vec![0, 1, 2]]), [[0, 3]]);
    }

    #[test]
    fn a_chain_of_ten_thousand_is_followed_to_its_end() {
        let last = 9_999;
        let mut chain: Vec<Vec<usize>> = (0..=last).map(|node| vec![node + 1]).collect();
        assert!(circles(&chain).is_empty());
        chain[last] = vec![0];
        assert_eq!(circles(&chain)[0].len(), 10_000);
    }
}
