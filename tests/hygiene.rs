//! Nothing piles up: descriptors, zombies, memory, over thousands of restarts and takeovers; and
//! nothing of the pair reaches a server.
//!
//! The short form is in `cargo test`. The long one, 10,000 restarts and 1,000 takeovers, takes
//! some minutes and prints its figures:
//! `cargo build --release --examples && \
//! cargo test --release --test hygiene -- --ignored --nocapture`
//! (`NM_RESTARTS` and `NM_TAKEOVERS` choose other numbers).
//!
//! Descriptors are compared as sorted lists of what they lead to, one for each role, and must be
//! the same. Memory is compared with what it was after a tenth of the work, or once all that has a
//! limit is full; what may be more (`MAY_GROW`) is exceeded in the long form by 100 bytes a restart.
//! Must not look while something is on its way: a look is taken when the pair is whole and its
//! servers stay up.

mod support;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;
use support::{Pair, SIGKILL, example, is_alive, signal, wait_for, wait_until};
use tools::{exits, finish};

const ROLES: [&str; 3] = ["active", "standby", "keeper"];

/// KiB. In the long form 10,000 restarts follow the tenth: 100 bytes for each were 977 KiB.
const MAY_GROW: u64 = 256;

/// Restarts after which what has a limit has reached it: 500 events, two of each restart.
const FULL: u64 = 300;

/// At once again, however often.
const AT_ONCE: &str =
    "restart = { when = \"always\", tries = 1000, window = \"1s\", delay = \"0ms\" }";

/// Three that are killed, three that are restarted by command, with each kind of output; one whose
/// program is not there, so that each of its starts fails at exec.
fn servers() -> String {
    let mut text = String::new();
    for group in ["killed", "asked"] {
        for to in ["pipe", "direct", "null"] {
            text += &format!(
                "[[server]]\nname = \"{group}-{to}\"\ncommand = \"sleep 10000\"\n\
                 settleTime = \"1ms\"\n{AT_ONCE}\noutput = {{ to = \"{to}\" }}\n"
            );
        }
    }
    text + "[[server]]\nname = \"missing\"\ncommand = \"{home}/no-such-program\"\n\
            restart = { when = \"always\", tries = 1000, window = \"1s\", delay = \"10ms\", delayMax = \"100ms\" }\n"
}

/// What one process of the pair holds.
#[derive(Debug)]
struct Holding {
    pid: i32,
    /// What its descriptors lead to, sorted.
    fds: Vec<String>,
    /// KiB by kind: Rss, Pss and Anonymous (heap, stack, written data) of smaps_rollup; Heap is
    /// the mapping that malloc grows.
    memory: BTreeMap<&'static str, u64>,
}

/// In a list of descriptors.
const DEAD: &str = "pidfd of the dead";

type Look = BTreeMap<&'static str, Holding>;

/// What the descriptors lead to; numbers that differ from one object to the next are left out.
fn fds(pair: &Pair, pid: i32) -> Vec<String> {
    let home = pair.home.display().to_string();
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).map(|dir| dir.flatten().collect());
    let entries: Vec<fs::DirEntry> = entries.unwrap_or_default();
    let who = who(pair);
    let target = |entry: &fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?.display().to_string();
        if target == "anon_inode:[pidfd]" {
            let info = format!("/proc/{pid}/fdinfo/{}", entry.file_name().display());
            return Some(format!("pidfd of {}", whose(&info, &who)));
        }
        // An inode's number, as in socket:[123].
        let kind = target.split(":[").next().filter(|_| !target.contains("anon_inode"));
        Some(kind.unwrap_or(&target).replace(&home, "HOME").replace(pair.name(), "NAME"))
    };
    let mut targets: Vec<String> = entries.iter().filter_map(target).collect();
    targets.sort();
    // Of a server that is down the pidfd of its last process is kept, until the next one starts.
    let dead = targets.iter().filter(|target| *target == DEAD).count();
    if dead == 1 {
        targets.retain(|target| target != DEAD);
    }
    targets
}

/// The names of the processes of the pair by PID.
fn who(pair: &Pair) -> BTreeMap<i32, String> {
    let roles = ROLES.iter().filter_map(|role| Some((pair.twin(role)?, role.to_string())));
    pair.pids().into_iter().map(|(name, pid)| (pid, name)).chain(roles).collect()
}

/// Whose pidfd it is, by its fdinfo; a dead process has no number there any more.
fn whose(fdinfo: &str, who: &BTreeMap<i32, String>) -> String {
    let text = fs::read_to_string(fdinfo).unwrap_or_default();
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    let name = |pid: i32| who.get(&pid).cloned().unwrap_or_else(|| format!("PID {pid}"));
    pid.filter(|pid| *pid > 0).map_or_else(|| "the dead".to_string(), name)
}

/// KiB of a line such as `Rss:   123 kB`.
fn kib(line: &str) -> u64 {
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn memory(pid: i32) -> BTreeMap<&'static str, u64> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let rollup = read("smaps_rollup");
    let mut found = BTreeMap::new();
    for kind in ["Rss", "Pss", "Anonymous"] {
        let line = rollup.lines().find(|line| line.split(':').next() == Some(kind));
        found.insert(kind, kib(line.expect("a kernel that tells")));
    }
    let smaps = read("smaps");
    let heap = smaps.lines().skip_while(|line| !line.ends_with("[heap]"));
    found.insert("Heap", heap.skip(1).find(|line| line.starts_with("Rss:")).map_or(0, kib));
    found
}

/// PID, parent and state letter of every process.
fn all_processes() -> Vec<(i32, i32, char)> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let stat = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        Some((pid, fields.next()?.parse().ok()?, state))
    };
    entries.filter_map(stat).collect()
}

/// The zombies below the keeper and the twins.
fn zombies(pair: &Pair) -> Vec<i32> {
    let all = all_processes();
    let mut below: BTreeSet<i32> = ROLES.iter().filter_map(|role| pair.twin(role)).collect();
    while let Some((pid, ..)) =
        all.iter().find(|(pid, parent, _)| below.contains(parent) && !below.contains(pid))
    {
        below.insert(*pid);
    }
    let dead = |(pid, _, state): &(i32, i32, char)| {
        (below.contains(pid) && matches!(state, 'Z' | 'X')).then_some(*pid)
    };
    all.iter().filter_map(dead).collect()
}

/// The same descriptors. The dead may have become fewer: who ended a moment before the first look
/// is held for some seconds, until its status is known.
fn is_no_more(now: &[String], before: &[String]) -> bool {
    let living = |fds: &[String]| fds.iter().filter(|fd| *fd != DEAD).cloned().collect::<Vec<_>>();
    living(now) == living(before) && now.len() <= before.len()
}

/// Waits until nothing is on its way, and looks. `before`: descriptors that must be there.
fn look(pair: &Pair, before: Option<&Look>) -> Look {
    exits(pair, &["stop", "missing"], 0);
    pair.wait_whole();
    wait_until("six servers to be up", || pair.pids().len() == 6);
    wait_until("no zombie to be left", || zombies(pair).is_empty());
    let holding = |role: &'static str| {
        let pid = pair.pid_of(role);
        if let Some(before) = before {
            let wanted = &before[role].fds;
            let end = Instant::now() + support::LIMIT;
            // A command's connection may just be closing. Memory is given back when a twin comes to rest.
            let is_done = || {
                is_no_more(&fds(pair, pid), wanted)
                    && !has_grown(&before[role].memory, &memory(pid))
            };
            while !is_done() && Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let now = fds(pair, pid);
            let is_no_more = is_no_more(&now, wanted);
            assert!(is_no_more, "the {role} (PID {pid}) holds {now:?}, before {wanted:?}");
        }
        (role, Holding { pid, fds: fds(pair, pid), memory: memory(pid) })
    };
    ROLES.into_iter().map(holding).collect()
}

/// The list of descriptors, when it is the same at several looks in a row: a first look has
/// nothing to be compared with.
fn first_look(pair: &Pair) -> Look {
    let mut last = look(pair, None);
    let mut same = 0;
    wait_until("the same descriptors again and again", || {
        let next = look(pair, None);
        let is_same = ROLES.iter().all(|role| next[role].fds == last[role].fds);
        same = if is_same { same + 1 } else { 0 };
        last = next;
        same >= 5
    });
    last
}

/// Pss falls and rises with the number of other pairs that run the same file, and both with how much of it was
/// used since the last rest.
fn may_be(kind: &str, then: u64, now: u64) -> bool {
    now <= then + MAY_GROW || matches!(kind, "Pss" | "Rss")
}

fn has_grown(then: &BTreeMap<&str, u64>, now: &BTreeMap<&str, u64>) -> bool {
    !now.iter().all(|(kind, now)| may_be(kind, then[kind], *now))
}

/// No role has more memory than it had, but for what may be.
fn assert_no_growth(what: &str, before: &Look, after: &Look) {
    for role in ROLES {
        for (kind, now) in &after[role].memory {
            let then = before[role].memory[kind];
            println!("{what}: {role} {kind} {then} -> {now} KiB");
            assert!(
                may_be(kind, then, *now),
                "{what}: the {role}'s {kind} grew from {then} to {now} KiB"
            );
        }
        println!("{what}: {role} {} descriptors", after[role].fds.len());
    }
}

/// Clients that come and break off: at once, in the middle of a request, before the answer, with
/// garbage; and strangers on the link's port.
fn break_off(pair: &Pair) {
    let socket = pair.home.join("run/control.sock");
    let requests: [&[u8]; 4] =
        [b"", b"POST /v1/sta", b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n", b"\0\xff\r\n\r\n"];
    for bytes in requests {
        // During a takeover nobody may be there to take it.
        if let Ok(mut stream) = UnixStream::connect(&socket) {
            let _ = stream.write_all(bytes);
        }
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", pair.port)) {
            let _ = stream.write_all(bytes);
        }
    }
}

fn pids_of(pair: &Pair, group: &str) -> BTreeMap<String, i32> {
    pair.pids().into_iter().filter(|(name, _)| name.starts_with(group)).collect()
}

/// Kills the servers of this group; waits until others run in their place.
fn kill_servers(pair: &Pair) -> usize {
    let before = wait_for("the servers to be up", || {
        Some(pids_of(pair, "killed-")).filter(|pids| pids.len() == 3)
    });
    before.values().for_each(|pid| signal(*pid, SIGKILL));
    wait_until("the killed servers to be back", || {
        let now = pids_of(pair, "killed-");
        now.len() == 3 && now.iter().all(|(name, pid)| before[name] != *pid)
    });
    before.len()
}

/// So many restarts of all kinds. Gives how often each kind was done.
fn restarts(pair: &Pair, count: u64) -> (u64, u64, u64) {
    let failures = || pair.server("missing")["restarts"].as_u64().unwrap_or(0);
    // It fails at once: that is what it is for.
    let _ = finish(pair.command(&["start", "missing", "--no-wait"]), "start");
    let (before, mut killed, mut asked) = (failures(), 0, 0);
    while killed + asked + (failures() - before) < count {
        killed += kill_servers(pair) as u64;
        exits(pair, &["restart", "asked-*"], 0);
        asked += 3;
        break_off(pair);
    }
    (killed, asked, failures() - before)
}

/// So many deaths of actives, and a twentieth of that of standbys and of both twins.
fn takeovers(pair: &Pair, count: usize) {
    for round in 0..count {
        let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
        if round % 2 == 0 {
            pids_of(pair, "killed-").values().for_each(|pid| signal(*pid, SIGKILL));
        }
        signal(active, SIGKILL);
        break_off(pair);
        wait_until("the takeover", || pair.twin("active") == Some(standby));
        pair.wait_whole();
        if round % 20 == 7 {
            let standby = pair.pid_of("standby");
            signal(standby, SIGKILL);
            wait_until("another standby", || {
                pair.twin("standby").is_some_and(|pid| pid != standby)
            });
            pair.wait_whole();
        }
        if round % 20 == 13 {
            let both = [pair.pid_of("standby"), pair.pid_of("active")];
            both.iter().for_each(|pid| signal(*pid, SIGKILL));
            wait_until("their deaths", || both.iter().all(|pid| !is_alive(*pid)));
            pair.wait_whole();
        }
    }
}

/// `restart_count` restarts under the same twins, then `takeover_count` takeovers.
fn nothing_piles_up(restart_count: u64, takeover_count: usize) {
    let pair = Pair::new("logMaxSize = \"1GiB\"", &servers());
    // One server can't start, so the start says that not all is well.
    let _ = finish(pair.command(&["run", "--detach", "--timeout", "2s"]), "run");
    pair.wait_whole();
    // The first active was not a standby before; all that follow were.
    takeovers(&pair, 2);
    let began = Instant::now();
    // What is kept of the newest events must be full, and no longer growing.
    restarts(&pair, (restart_count / 10).max(FULL));
    let warm = first_look(&pair);
    let (killed, asked, failed) = restarts(&pair, restart_count);
    let after = look(&pair, Some(&warm));
    let seconds = began.elapsed().as_secs();
    println!("{killed} killed, {asked} restarted, {failed} failed at exec, {seconds} s");
    ROLES.iter().for_each(|role| {
        assert_eq!(after[role].pid, warm[role].pid, "the {role} is another one");
    });
    assert_no_growth("restarts", &warm, &after);

    let began = Instant::now();
    takeovers(&pair, takeover_count / 10);
    let warm = look(&pair, Some(&after));
    takeovers(&pair, takeover_count - takeover_count / 10);
    let after = look(&pair, Some(&warm));
    println!("{takeover_count} takeovers, {} s", began.elapsed().as_secs());
    assert_eq!(after["keeper"].pid, warm["keeper"].pid, "the keeper is another one");
    assert_no_growth("takeovers", &warm, &after);
    for role in ROLES {
        println!("{role}: {:?}", after[role].fds);
    }
}

#[test]
fn hundreds_of_restarts_and_tens_of_takeovers_leave_no_descriptor_no_zombie_and_no_memory() {
    nothing_piles_up(300, 30);
}

#[test]
#[ignore = "takes minutes; see the head of this file"]
fn ten_thousand_restarts_and_a_thousand_takeovers_leave_nothing_behind() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let restarts = number("NM_RESTARTS").unwrap_or(10_000);
    let takeovers = number("NM_TAKEOVERS").unwrap_or(1_000);
    nothing_piles_up(restarts, takeovers as usize);
}

// ---- what reaches a server

/// What a server was given, as it wrote it down itself at its start.
fn revealed(pair: &Pair, pid: i32) -> BTreeMap<String, Vec<String>> {
    let path = pair.home.join(format!("revealed/{pid}"));
    let text = wait_for("what the server reveals", || fs::read_to_string(&path).ok());
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').expect("a kind and what it is");
        found.entry(kind.to_string()).or_default().push(rest.to_string());
    }
    found
}

/// Nothing but standard input and its output, its environment and its mark.
fn assert_was_given_nothing(pair: &Pair, name: &str, to: &str, pid: i32) {
    let given = revealed(pair, pid);
    let home = pair.home.display();
    let out = match to {
        "pipe" => format!("{home}/run/out/{name}.fifo"),
        "direct" => format!("{home}/logs/{name}.out"),
        _ => "/dev/null".to_string(),
    };
    let fds = ["0 /dev/null".to_string(), format!("1 {out}"), format!("2 {out}")];
    assert_eq!(given["fd"], fds, "{name}");
    let mut env: Vec<&str> = given["env"]
        .iter()
        .map(|one| one.rsplit_once('/').map_or(one.as_str(), |(mark, _)| mark))
        .collect();
    env.sort_unstable();
    let mark = format!("NM_SERVER={}/{name}", pair.name());
    let whose = format!("NM_PAIR={home}/run:{home}/conf");
    assert_eq!(env, [whose.as_str(), mark.as_str(), "PLAIN=yes"], "{name}");
    assert_eq!(given.get("lock"), None, "{name} has a lock");
}

#[test]
fn no_descriptor_no_secret_and_no_lock_reaches_a_server_whoever_starts_it_and_whoever_is_connected()
{
    let program = example("test_server");
    let table = |to: &str| {
        format!(
            "[[server]]\nname = \"s-{to}\"\ncommand = \"{} --reveal {{home}}/revealed\"\n\
             settleTime = \"1ms\"\n{AT_ONCE}\noutput = {{ to = \"{to}\" }}\n",
            program.display()
        )
    };
    let outputs = ["pipe", "direct", "null"];
    let pair = Pair::new("", &outputs.map(table).concat());
    fs::create_dir(pair.home.join("revealed")).expect("a directory for the servers");
    let mut command = pair.command(&["run", "--detach"]);
    command.env_clear().env("PLAIN", "yes");
    assert!(finish(command, "run").status.success());
    let socket = pair.home.join("run/control.sock");
    for beginning in ["start", "restart", "crash", "takeover", "revival"] {
        pair.wait_whole();
        // Clients at all stages, and strangers on the link, are connected while children are forked.
        let asking = |bytes: &[u8]| {
            let mut stream = UnixStream::connect(&socket).expect("control.sock");
            stream.write_all(bytes).expect("a request");
            stream
        };
        let clients: Vec<UnixStream> = (0..10)
            .flat_map(|_| {
                [asking(b""), asking(b"GET /v1/sta"), asking(b"GET /v1/status HTTP/1.1\r\n\r\n")]
            })
            .collect();
        let strangers: Vec<_> =
            (0..4).map(|_| TcpStream::connect(("127.0.0.1", pair.port))).collect();
        let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
        let before = pair.pids();
        match beginning {
            "start" => {}
            "restart" => drop(exits(&pair, &["restart", "all"], 0)),
            "crash" => before.values().for_each(|pid| signal(*pid, SIGKILL)),
            // They die with the active, so it is the next one that starts them again.
            "takeover" => {
                [active].iter().chain(before.values()).for_each(|pid| signal(*pid, SIGKILL))
            }
            _ => [standby, active]
                .iter()
                .chain(before.values())
                .for_each(|pid| signal(*pid, SIGKILL)),
        }
        let is_new = |name: &str, pid: i32| beginning == "start" || before.get(name) != Some(&pid);
        wait_until("three servers that were started like this", || {
            let now = pair.pids();
            now.len() == 3 && now.iter().all(|(name, pid)| is_new(name, *pid))
        });
        let now = pair.pids();
        for to in outputs {
            let name = format!("s-{to}");
            assert_was_given_nothing(&pair, &name, to, now[&name]);
        }
        drop((clients, strangers));
    }
}
