//! The hot paths: each is walked between a setup and a check that are not counted.
//!
//! Must use the program's own code, in the order of the shell (`world.rs`). What needs the loop, processes or doors
//! of a real active is not in here: `Shell::wait` and `Shell::tick` around the core, fork and gate, the pidfds and
//! files in /proc of servers (`status` finds none there), output, log lines, events and alerts, the bytes' way through
//! sockets, the lock, accounts.

use crate::world::{World, bequest};
use nodemanager::config;
use nodemanager::core::{Event, Exit, Identity, Ms, Node, Phase, ServerId};
use nodemanager::http::Connection;
use nodemanager::shell::apply::changes::merge;
use nodemanager::shell::apply::helper::Found;
use nodemanager::shell::bequest::Bequest;
use nodemanager::shell::plans;
use nodemanager::shell::view::{self, KeeperSeen};
use std::path::Path;

/// Paths that are short are walked so often, so that a rare reallocation does not decide.
const TIMES: usize = 8;

/// The function that callgrind looks for: it counts from its call to its return.
#[inline(never)]
fn counted_walk(path: &mut dyn FnMut()) {
    path();
    // So that the call is no jump.
    std::hint::black_box(());
}

/// Walks a path once uncounted, so that what is done once in a process is done, then counted; and says so.
fn walk(name: &str, mut path: impl FnMut()) {
    path();
    let mut often = || (0..TIMES).for_each(|_| path());
    counted_walk(&mut often);
    println!("walked {TIMES} {name}");
}

/// Walks a path that leaves nothing to walk again.
fn walk_once(name: &str, mut path: impl FnMut()) {
    counted_walk(&mut path);
    println!("walked 1 {name}");
}

/// Walks all of them with so many servers.
pub fn walk_all(servers: usize) {
    let mut world = World::new(servers);
    walk_once("start", || world.start());
    expect_up(&world, servers);
    walk_once("standby", || standby_begins(&mut world));
    assert!(world.active.node.standby.is_watching(), "the standby watches");

    world.open_journal();
    let mut victims = (0..servers).cycle().step_by(37);
    walk("restart", || restart(&mut world, victims.next(), false));
    expect_up(&world, servers);
    walk("heartbeat", || heartbeat(&mut world));
    walk("idle turn", || idle_turn(&mut world));
    walk_once("status", || status(&world));
    walk_once("apply of nothing new", || apply(&world));

    walk_once("takeover", || world.take_over());
    expect_up(&world, servers);
    assert!(world.active.node.servers.iter().all(|one| one.rec.adopted), "all are adopted");
    standby_begins(&mut world);
    world.open_journal();
    walk("restart of an adopted server", || restart(&mut world, victims.next(), true));
    expect_up(&world, servers);
}

fn expect_up(world: &World, servers: usize) {
    let is_up =
        |one: &&nodemanager::core::server::Server| matches!(one.rec.phase, Phase::Up { .. });
    assert_eq!(world.active.node.servers.iter().filter(is_up).count(), servers, "all are up");
    let restarts = world.active.node.servers.iter().map(|one| one.rec.restarts).sum::<u64>();
    println!("up, {restarts} restarts so far");
}

/// The process of a standby reads what it was handed, and gets its copy of all records.
fn standby_begins(world: &mut World) {
    let bytes = world.active.handed.take().expect("a standby was asked for");
    Bequest::from_bytes(&bytes).expect("a bequest");
    let config = world.packed.unpack().expect("a configuration");
    let (pair, plans) = plans(&config, &|_| false);
    let node = Node::standby(world.now, pair, plans);
    world.join(node);
}

/// A server is killed, and its successor is up: on record, in the journal and in the copy at each step.
/// `reported`: it was adopted, so the keeper says how it ended, too.
fn restart(world: &mut World, victim: Option<usize>, reported: bool) {
    let server = ServerId(victim.expect("a server"));
    let process = world.active.node.servers[server.0].rec.phase.process().expect("a process");
    let exit = Exit::Signal(9);
    world.tell(Event::Died { server, process, exit: Some(exit) });
    if reported {
        let Identity { pid, start_ticks, .. } = process;
        world.tell(Event::Status { pid, start_ticks, exit });
    }
    world.turn();
}

/// Both twins beat, and each hears the other and looks at its pulse.
fn heartbeat(world: &mut World) {
    world.now = world.now.after(world.active.node.plan.heartbeat_interval_ms);
    world.tick(true);
    world.tick(false);
    world.turn();
}

/// The core's part of a turn in which nothing is due.
fn idle_turn(world: &mut World) {
    let mut actions = Vec::new();
    let before = world.active.node.deadline();
    world.active.node.tick(world.now, &mut actions);
    assert!(actions.is_empty() && before > Some(world.now), "nothing is due");
}

/// The status of all servers, as the answer to a request.
fn status(world: &World) {
    let keeper = Some(KeeperSeen { pid: 1, joined: false });
    let status = view::status(&world.active.node, &world.config, keeper, Ms(1), Some("0.1.0"));
    let body = serde_json::to_vec(&status).expect("a document");
    let mut http = Connection::default();
    http.respond(200, "application/json", &body);
    assert!(http.pending().len() > body.len(), "it is answered");
}

/// What the active hands a reader, what that reads, finds and hands back, and what the active reads of it.
fn apply(world: &World) {
    let handed = bequest().to_bytes().expect("a bequest");
    Bequest::from_bytes(&handed).expect("a bequest");
    let old = world.packed.unpack().expect("a configuration");
    let new = load(&old.file);
    let (config, answer) = merge(&old, new, &[]).expect("it goes together");
    let found = Found::Other { config: Box::new(config), answer };
    let found = serde_json::to_vec(&found).expect("what was found");
    match serde_json::from_slice(&found).expect("what was found") {
        Found::Other { answer, .. } => assert!(answer.is_empty(), "nothing is new"),
        Found::Wrong(text) => panic!("{text}"),
    }
}

fn load(file: &Path) -> config::Config {
    let config = config::load(file).expect("a sound configuration");
    config::look_up_accounts(config).expect("no accounts")
}
