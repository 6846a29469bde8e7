//! Servers with commands beside them, daemons that fork, servers that are drained: what is asked of
//! them, and what their commands say of themselves.
//!
//! Must not know how commands are carried out: each says itself when it began and ended.

use crate::Held;
use crate::machine::rows;
use crate::servers::{Kind, Wish};
use crate::world::World;
use std::fs;

/// A hook of a server in this home: it says that it began, takes a moment, and says that it ended.
fn hook(home: &str, name: &str, key: &str) -> String {
    let says = |word: &str| format!("echo {word} {key} $$$$ >> {home}/starts/{name}.hooks");
    format!("{key} = [\"sh\", \"-c\", \"{}; sleep 0.03; {}\"]", says("begin"), says("end"))
}

/// The keys of a server with commands.
pub fn hooks(home: &str, name: &str) -> String {
    let hooks = ["preStart", "postStart", "preStop", "postStop"].map(|key| hook(home, name, key));
    let reload = hook(home, name, "command");
    format!("hooks = {{ {} }}\nreload = {{ {reload} }}\n", hooks.join(", "))
}

/// The keys of a server that has work every other time that it is asked.
pub fn drain(home: &str, name: &str) -> String {
    let left = format!("{home}/starts/{name}.left");
    let check = format!("rm {left} 2>/dev/null && exit 0; touch {left}; echo one is left; exit 1");
    format!(
        "drain = {{ command = \"true\", check = [\"sh\", \"-c\", \"{check}\"], interval = \"50ms\", \
         timeout = \"8s\", on = [\"drain\", \"stop\"] }}\n"
    )
}

/// One of them is reloaded, restarted or drained.
pub fn ask(world: &mut World) -> Held {
    order(world, false)
}

/// The same, and the active dies meanwhile, or both twins.
pub fn ask_under_fire(world: &mut World) -> Held {
    world.resume_keeper();
    order(world, true)
}

fn order(world: &mut World, under_fire: bool) -> Held {
    let kind = world.rng.pick(&[Kind::Hooked, Kind::Daemon, Kind::Drained]);
    let at = world.draw_of(kind);
    let name = world.servers[at].name.clone();
    let was_up = rows(&world.status()?).get(&name).is_some_and(|row| row["state"] == "RUNNING");
    let (verb, wish) = match kind {
        Kind::Hooked if was_up && world.rng.per_mille(400) => ("reload", world.servers[at].wish),
        Kind::Drained if was_up => ("drain", Wish::Down),
        _ => ("restart", Wish::Up),
    };
    if verb != "reload" {
        world.touch(at);
    }
    let done = world.run_given(&[verb, &name, "--timeout", "30s"], under_fire)?;
    world.allow_given(&done, under_fire)?;
    world.servers[at].wish = if done.status == 0 { wish } else { Wish::Either };
    Ok(())
}

impl World {
    /// One command of a server at a time, and no start without its preStart.
    pub fn commands_are_whole(&self) -> Held {
        for server in self.servers.iter().filter(|one| one.kind == Kind::Hooked) {
            let read = |ending: &str| {
                let path = self.home.join(format!("starts/{}{ending}", server.name));
                fs::read_to_string(path).unwrap_or_default()
            };
            // A start that comes after this look has its hook after it too.
            let starts = read("").lines().count();
            let text = read(".hooks");
            let mut last = "";
            let mut prepared = 0;
            for line in text.lines() {
                if let Some(ended) = line.strip_prefix("end ") {
                    if last.strip_prefix("begin ") != Some(ended) {
                        return Err(format!("{}: {line:?} after {last:?}", server.name));
                    }
                    prepared += usize::from(ended.starts_with("preStart "));
                }
                last = line;
            }
            if starts > prepared {
                return Err(format!("{}: {starts} starts, {prepared} preStart", server.name));
            }
        }
        Ok(())
    }
}
