//! The table of acts: how likely each is, its name, and what it does.
//!
//! Must not do anything itself. To add an act, write a function and give it a row here.

use crate::rng::Rng;
use crate::world::World;
use crate::{Held, adversary, beside, faults, garbage, given, operator};

/// One thing that can happen.
pub struct Act {
    /// Against the sum of all weights.
    pub weight: u64,
    pub name: &'static str,
    /// Fails with what did not hold.
    pub run: fn(&mut World) -> Held,
}

const fn act(weight: u64, name: &'static str, run: fn(&mut World) -> Held) -> Act {
    Act { weight, name, run }
}

/// All acts. One that can't be done here and now does nothing, or says in the summary why.
pub const ACTS: &[Act] = &[
    act(8, "operator: one command", operator::one_command),
    act(6, "operator: two at once", operator::two_at_once),
    act(4, "operator: the same twice at once", operator::same_twice),
    act(2, "operator: a pattern", operator::pattern),
    act(2, "operator: wrong words", operator::wrong_words),
    act(3, "operator: little patience", operator::little_patience),
    act(8, "operator under fire: active killed", operator::under_kill_of_active),
    act(2, "operator under fire: both killed", operator::under_kill_of_both),
    act(2, "operator under fire: active stopped", operator::under_stop_of_active),
    act(2, "operator: new configuration, servers kept", operator::new_configuration),
    act(1, "operator: servers stopped, new life", operator::new_life),
    act(4, "given: another configuration applied", given::apply),
    act(4, "given: applied under fire", given::apply_under_fire),
    act(3, "given: disabled or enabled", given::enabling),
    act(3, "given: disabled or enabled under fire", given::enabling_under_fire),
    act(2, "given: asked whether it is ready", given::ready),
    act(3, "given: stopped with those that need it", given::needs),
    act(4, "given: reloaded, drained or restarted", beside::ask),
    act(4, "given: reloaded, drained or restarted under fire", beside::ask_under_fire),
    act(4, "given: switched over", given::switch_over),
    act(3, "given: switched over under fire", given::switch_over_under_fire),
    act(2, "given: maintenance for a while", given::maintenance),
    act(10, "kill: active", adversary::kill_active),
    act(4, "kill: standby", adversary::kill_standby),
    act(4, "kill: both", adversary::kill_both),
    act(3, "kill: keeper, new run", adversary::kill_keeper),
    act(3, "kill: all three, new run", adversary::kill_all_three),
    act(3, "kill: active, then the next at once", adversary::kill_twice),
    act(6, "kill: servers", adversary::kill_servers),
    act(4, "kill: children of servers", adversary::kill_children),
    act(3, "kill: active and servers at once", adversary::kill_active_and_servers),
    act(2, "kill: all three and servers, new run", adversary::kill_all_and_servers),
    act(4, "stop: active", adversary::stop_active),
    act(2, "stop: standby", adversary::stop_standby),
    act(1, "stop: both", adversary::stop_both),
    act(2, "stop: active for a moment", adversary::stop_for_a_moment),
    act(2, "stop: active, standby killed", adversary::stop_active_kill_standby),
    act(3, "stop: servers, for a while", faults::stop_servers),
    act(2, "stop: keeper, for a while", faults::stop_keeper),
    act(4, "disk: full, for a while", faults::fill_disk),
    act(1, "disk: run directory emptied", faults::empty_run_dir),
    act(3, "descriptors: few, for a while", faults::take_descriptors),
    act(3, "clock: jumps", faults::move_clock),
    act(2, "processor: starved", faults::starve),
    act(3, "garbage: standbyPort", garbage::standby_port),
    act(3, "garbage: control socket", garbage::control_socket),
    act(2, "garbage: many connections left open", garbage::left_open),
];

/// An act by its weight; `only`: one whose name has one of these words.
pub fn choose(rng: &mut Rng, only: Option<&str>) -> Held<&'static Act> {
    let is_meant = |act: &&Act| {
        only.is_none_or(|words| words.split(',').any(|word| act.name.contains(word.trim())))
    };
    let meant: Vec<&Act> = ACTS.iter().filter(is_meant).collect();
    let mut at = rng.below(meant.iter().map(|act| act.weight).sum());
    for act in meant {
        if at < act.weight {
            return Ok(act);
        }
        at -= act.weight;
    }
    Err("no act has such a name; see --list".to_string())
}
