//! /proc/PID/stat and /proc/PID/environ: a process chooses its own name and environment.

use super::Bytes;
use nodemanager::sys::mark::{Owner, mark_in};
use nodemanager::sys::process::{Stat, parse_stat};
use std::path::Path;

pub const WORDS: &[&str] = &[
    ")",
    "(",
    ") S 1",
    "\n",
    "NM_SERVER=",
    "NM_PAIR=",
    "/r:/f",
    ":/f",
    "/r:",
    "node/",
    "/",
    "\0",
    "18446744073709551616",
    "-1",
    " ",
];

/// The node whose marks are looked for.
const NODE: &str = "node";

pub fn run(data: &[u8]) {
    stat(data);
    environ(data);
    if let Some(stat) = parse_stat(data) {
        assert!(!stat.comm.contains(char::is_control));
        assert!(data.contains(&b'(') && data.contains(&b')'));
    }
}

/// Whatever the name is, the numbers behind it are the kernel's.
fn stat(data: &[u8]) {
    let mut bytes = Bytes(data);
    let numbers: [u64; 7] = std::array::from_fn(|_| bytes.long());
    let (group, session) = (bytes.short() as i32, -(bytes.short() as i32));
    let parent = bytes.short() as i32;
    let [user, system, start_ticks, rss_pages, flags, threads, processor] = numbers;
    let name: Vec<u8> = bytes.0.iter().copied().filter(|byte| *byte != 0).take(64).collect();
    let mut line = b"7 (".to_vec();
    line.extend_from_slice(&name);
    let fields = format!(
        ") S {parent} {group} {session} 0 -1 {flags} 0 0 0 0 {user} {system} 0 0 20 0 {threads} 0 {start_ticks} 99 {rss_pages} 0 \
         1 1 0 0 0 0 0 0 0 0 0 0 17 {processor} 0\n"
    );
    line.extend_from_slice(fields.as_bytes());
    let comm = String::from_utf8_lossy(&name).replace(char::is_control, "?");
    let cpu_ticks = user.saturating_add(system);
    let state = b'S';
    let expected = Stat {
        comm,
        state,
        parent,
        group,
        session,
        flags,
        cpu_ticks,
        threads,
        start_ticks,
        rss_pages,
        processor,
    };
    assert_eq!(parse_stat(&line), Some(expected));
    // A line that was cut is no stat with other numbers.
    let cut = line.len() - fields.len() + bytes.short() % fields.len();
    if let Some(short) = parse_stat(&line[..cut.max(1)]) {
        assert!(
            short.start_ticks == start_ticks
                || short.comm.len() < name.len()
                || name.contains(&b')')
        );
    }
}

/// The first entry with the mark counts, and only one of this node and this pair is a mark.
fn environ(data: &[u8]) {
    let value = |name: &[u8]| {
        let entry = data.split(|byte| *byte == 0).find(|entry| entry.starts_with(name));
        entry.map(|entry| &entry[name.len()..])
    };
    let text = value(b"NM_SERVER=").and_then(|mark| std::str::from_utf8(mark).ok());
    assert_eq!(mark_in(data).as_deref(), text);
    let owner = Owner::new(NODE, Path::new("/r"), Path::new("/f"));
    let pair = value(b"NM_PAIR=");
    let is_others = pair.is_some_and(|pair| !pair.starts_with(b"/r:") && !pair.ends_with(b":/f"));
    let claimed = owner.claims(data);
    assert!(claimed.is_none() || !is_others);
    if let Some((name, number)) = claimed {
        let mark = text.unwrap_or_default();
        assert!(mark.starts_with("node/") && mark.len() > name.len() + 5);
        let again = owner.mark(&name, number);
        let pair = owner.pair();
        let built = format!("A=b\0NM_SERVER={again}\0NM_PAIR={pair}\0NM_SERVER=node/other/1\0");
        assert_eq!(owner.claims(built.as_bytes()), Some((name, number)));
        assert_eq!(mark_in(built.as_bytes()), Some(again));
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        b"7 (a) R (b\n) S 1 2 3 0 -1 0 0 0 0 0 10 5 0 0 20 0 1 0 4711 99 88 0\n".to_vec(),
        b"PATH=/bin\0NM_SERVER=node/web@1/12\0HOME=/\0".to_vec(),
        b"NM_SERVER=node/a/b/007\0NM_SERVER=other/x/1\0NM_PAIR=/x:/f\0".to_vec(),
        [&[7; 36], &b"n) S 1 2 3 (\n\xff"[..]].concat(),
    ]
}
