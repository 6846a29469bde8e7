//! The exhaustive search: the two twins and their world in every order of events.
//!
//! The core runs here unchanged. What may go wrong on one path is a `Budget`; each test below
//! spends one kind of budget, and `NM_SEARCH_DEPTH=N` adds N to every kind that it spends, for a
//! longer run; the last test mixes them. To widen the search, add a field to `Budget` and the step that spends it. What is wrong is told with the shortest way there.

mod acts;
mod budget;
mod commands;
mod explore;
mod links;
mod rules;
mod steps;
mod world;

use budget::Budget;
use explore::{Report, explore};
use world::{LinkPace, Pair, Setting};

/// More than this does not fit into the memory of a small machine.
const STATES_MAX: usize = 20_000_000;

/// No standby: the servers' part alone, and the return after the death of all.
const ALONE: Setting =
    Setting { has_standby: false, link: LinkPace::AtOnce, is_checked: false, has_commands: false };
const PAIR: Setting =
    Setting { has_standby: true, link: LinkPace::AtOnce, is_checked: false, has_commands: false };
const LATE: Setting =
    Setting { has_standby: true, link: LinkPace::Late, is_checked: false, has_commands: false };
const ONE_BY_ONE: Setting =
    Setting { has_standby: true, link: LinkPace::OneByOne, is_checked: false, has_commands: false };

/// The server is asked whether it is ready, and well.
const CHECKED: Setting = Setting { is_checked: true, ..ALONE };
const CHECKED_PAIR: Setting = Setting { is_checked: true, ..PAIR };

/// The server has a preStart hook and a stop command.
const WITH_COMMANDS: Setting = Setting { has_commands: true, ..ALONE };
const PAIR_WITH_COMMANDS: Setting = Setting { has_commands: true, ..PAIR };

/// How deep a run goes.
fn depth() -> u8 {
    std::env::var("NM_SEARCH_DEPTH").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn search(name: &str, setting: Setting, mut budget: Budget, sights: &[&str]) {
    let depth = depth();
    budget.deepen(depth);
    let Report { states, sights: seen } = match explore(Pair::new(setting, budget), STATES_MAX) {
        Ok(report) => report,
        Err(story) => panic!("{name}: {story}"),
    };
    println!("| {name} | {} | {states} |", budget.told());
    for sight in sights {
        assert!(seen.contains(sight), "{name}: no state shows that {sight}; seen: {seen:?}");
    }
    if depth <= 1 {
        documented(name, depth, states);
    }
}

/// docs/SEARCH.md says how many states each scenario has. Another number means that the core decides
/// differently: look why, then write the new one there.
fn documented(name: &str, depth: u8, states: usize) {
    let document = include_str!("../../docs/SEARCH.md");
    let row = document.lines().find_map(|line| line.strip_prefix(&format!("| {name} | ")));
    let cells: Vec<&str> = row.unwrap_or_default().split(" | ").collect();
    let told = cells.get(1 + usize::from(depth)).unwrap_or(&"").trim_end_matches(" |");
    if told == "-" {
        // Too many to be searched in reasonable time.
        return;
    }
    let told = told.replace(',', "");
    assert_eq!(told, states.to_string(), "{name}: docs/SEARCH.md tells another number of states");
}

const NOTHING: Budget = Budget::NOTHING;

#[test]
fn a_server_lives_through_ends_and_leftovers() {
    let budget = Budget { exits: 2, members: 1, deaf: 1, exec_fails: 1, fork_fails: 1, ..NOTHING };
    let sights = ["the server is up", "the server was given up", "the server exited well"];
    search("ends", ALONE, budget, &sights);
}

#[test]
fn a_wait_for_a_lock_ends_well_whoever_dies_meanwhile() {
    let budget = Budget { locks: 2, asks: 1, ..NOTHING };
    search("lock", ALONE, budget, &["the server waits for a lock", "the server is up"]);
    let budget = Budget { locks: 1, kills: 1, ..NOTHING };
    search("lock in a pair", PAIR, budget, &["the server waits for a lock", "one takeover"]);
}

#[test]
fn checks_that_are_answered_badly_or_never_end_in_a_server_that_is_well_or_given_up() {
    let budget = Budget { bad_answers: 2, no_answers: 1, deaf: 1, exits: 1, ..NOTHING };
    let sights = ["the server is not ready yet", "the server fails a check", "the server is up"];
    search("checks", CHECKED, budget, &sights);
    let budget = Budget { bad_answers: 1, early_timers: 1, asks: 1, ..NOTHING };
    search("checks, asked", CHECKED, budget, &["a request was answered"]);
    let budget = Budget { bad_answers: 1, kills: 1, ..NOTHING };
    let sights = ["the server is not ready yet", "the server fails a check", "one takeover"];
    search("checks in a pair", CHECKED_PAIR, budget, &sights);
}

#[test]
fn commands_beside_the_server_run_once_and_before_what_waits_for_them() {
    let budget = Budget { asks: 1, exits: 1, ..NOTHING };
    let sights = ["a hook before the start", "a stop command", "the server was restarted"];
    search("commands", WITH_COMMANDS, budget, &sights);
    let budget = Budget { kills: 1, asks: 1, ..NOTHING };
    let sights = ["a hook before the start", "a stop command", "the server was adopted"];
    search("commands and a death", WITH_COMMANDS, budget, &sights);
    let sights = ["a hook before the start", "one takeover", "the server was adopted"];
    search("commands in a pair", PAIR_WITH_COMMANDS, Budget { kills: 1, ..NOTHING }, &sights);
}

#[test]
fn what_is_asked_is_done_and_answered_whatever_comes_between() {
    let budget = Budget { asks: 2, exits: 1, deaf: 1, ..NOTHING };
    search("asked", ALONE, budget, &["a request was answered", "it was stopped"]);
    let budget = Budget { asks: 1, kills: 1, ..NOTHING };
    search("asked of a pair", PAIR, budget, &["a request was answered", "it was stopped"]);
}

#[test]
fn every_death_of_the_only_twin_is_survived() {
    let budget = Budget { kills: 1, exits: 1, members: 1, deaf: 1, ..NOTHING };
    search("alone", ALONE, budget, &["both twins are dead", "the server was adopted"]);
    search("alone, twice", ALONE, Budget { kills: 2, ..NOTHING }, &["the server was adopted"]);
}

#[test]
fn every_death_of_a_twin_is_survived() {
    let budget = Budget { kills: 1, exits: 1, ..NOTHING };
    let sights = ["one takeover", "the server was adopted", "a new standby watches"];
    search("death", PAIR, budget, &sights);
}

#[test]
fn every_death_of_a_standby_is_survived_whatever_it_knew() {
    let budget = Budget { kills: 1, standby_hangs: 1, ..NOTHING };
    let sights = ["a standby was replaced", "one takeover", "both twins are dead"];
    search("standby death", PAIR, budget, &sights);
}

#[test]
fn every_second_death_is_survived_also_during_a_takeover() {
    let budget = Budget { kills: 2, ..NOTHING };
    let sights = [
        "a takeover after a takeover",
        "a takeover on its way may still die",
        "a standby takes over before it knew all",
        "both twins are dead",
    ];
    search("two deaths", PAIR, budget, &sights);
    let budget = Budget { hangs: 1, kills: 1, ..NOTHING };
    let sights = ["a takeover after a hang", "a takeover on its way may still die"];
    search("hang and death", PAIR, budget, &sights);
}

#[test]
fn a_hang_rightly_concluded_or_not_never_makes_two_actives() {
    let budget = Budget { hangs: 2, ..NOTHING };
    search("hangs", PAIR, budget, &["a takeover after a hang", "a takeover after a takeover"]);
    let budget = Budget { hangs: 1, standby_hangs: 1, ..NOTHING };
    search("both hang", PAIR, budget, &["a takeover after a hang", "a new standby watches"]);
}

#[test]
fn a_switchover_is_made_once_or_said_not_to_be_whatever_dies_meanwhile() {
    let budget = Budget { switches: 1, kills: 1, ..NOTHING };
    let sights = ["a switchover", "one takeover", "a request was answered"];
    search("switchover", PAIR, budget, &sights);
    let budget = Budget { switches: 1, disk_fails: 1, ..NOTHING };
    search("switchover and disk", PAIR, budget, &["a switchover"]);
    let budget = Budget { switches: 1, shutdowns: 1, ..NOTHING };
    search("switchover and end", PAIR, budget, &["a switchover", "the pair ended"]);
    let budget = Budget { switches: 2, ..NOTHING };
    search("two switchovers", PAIR, budget, &["a switchover"]);
}

#[test]
fn maintenance_leaves_undone_what_follows_when_it_is_over() {
    let budget = Budget { maintenances: 1, exits: 2, ..NOTHING };
    search("maintenance", ALONE, budget, &["maintenance", "the server was restarted"]);
}

#[test]
fn a_twin_that_does_not_die_is_waited_for() {
    let budget = Budget { hangs: 1, undying: 1, ..NOTHING };
    search("undying", PAIR, budget, &["a takeover after a hang", "a killed active is not dead"]);
    let budget = Budget { standby_hangs: 1, undying: 1, ..NOTHING };
    search("undying standby", PAIR, budget, &["a standby watches"]);
}

#[test]
fn the_pair_ends_whatever_dies_meanwhile() {
    let budget = Budget { shutdowns: 1, kills: 1, ..NOTHING };
    search("ending", PAIR, budget, &["the pair ended", "one takeover"]);
    let budget = Budget { shutdowns: 1, kills: 1, disk_fails: 1, ..NOTHING };
    search("ending, disk", ALONE, budget, &["the pair ended", "both twins are dead"]);
}

#[test]
fn a_slow_and_broken_link_loses_nothing() {
    let budget = Budget { cuts: 1, disk_fails: 1, ..NOTHING };
    search("link", ONE_BY_ONE, budget, &["a standby watches", "the server is up"]);
    let budget = Budget { kills: 1, ..NOTHING };
    search("slow link", LATE, budget, &["a new standby watches", "the server was adopted"]);
}

#[test]
fn a_disk_that_fails_delays_and_never_doubles() {
    let budget = Budget { disk_fails: 2, kills: 1, ..NOTHING };
    search("disk", PAIR, budget, &["one takeover", "the server was adopted"]);
    search("disk alone", ALONE, budget, &["both twins are dead", "the server was adopted"]);
}

#[test]
fn timers_that_fire_too_early_do_no_harm() {
    let budget = Budget { early_timers: 2, exits: 1, members: 1, deaf: 1, ..NOTHING };
    search("early", ALONE, budget, &["the server is up"]);
    let budget = Budget { early_timers: 1, kills: 1, ..NOTHING };
    search("early in a pair", PAIR, budget, &["one takeover"]);
}

#[test]
fn a_second_start_beside_a_living_pair_changes_nothing() {
    let budget = Budget { rivals: 1, kills: 1, ..NOTHING };
    search("rival", PAIR, budget, &["one takeover"]);
}

#[test]
#[ignore = "takes minutes: what the others try one by one, together"]
fn troubles_that_come_together_are_survived() {
    let budget = Budget { kills: 2, ..NOTHING };
    let sights = ["a standby was replaced", "a standby takes over before it knew all"];
    search("standby death, slow link", LATE, budget, &sights);
    let budget = Budget { asks: 1, shutdowns: 1, deaf: 1, ..NOTHING };
    search("orders and the end", PAIR, budget, &["the pair ended"]);
    let budget = Budget { exits: 1, members: 1, deaf: 1, kills: 1, ..NOTHING };
    search("leftovers and death", PAIR, budget, &["the server was adopted"]);
    let budget = Budget { asks: 1, exits: 1, disk_fails: 1, kills: 1, ..NOTHING };
    search("orders, ends and the disk", ALONE, budget, &["a request was answered"]);
    let budget = Budget { shutdowns: 1, hangs: 1, undying: 1, ..NOTHING };
    search("the end and a hang", PAIR, budget, &["the pair ended"]);
    let budget = Budget { switches: 1, disk_fails: 1, hangs: 1, ..NOTHING };
    search("switchover, disk and hang", PAIR, budget, &["a switchover", "a takeover after a hang"]);
    let budget = Budget { maintenances: 1, exits: 1, kills: 1, ..NOTHING };
    search("maintenance and death", ALONE, budget, &["maintenance", "the server was adopted"]);
    let budget = Budget { disk_fails: 1, cuts: 1, kills: 1, ..NOTHING };
    search("disk, link and death", LATE, budget, &["the server was adopted"]);
}
