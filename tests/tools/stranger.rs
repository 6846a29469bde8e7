//! A process that is nobody's server and has the number of one that is dead: in a PID namespace, where
//! the next number can be chosen.
//!
//! Must not run outside of one.

use super::{finish, pid_in};
use crate::support::{Pair, binary, both};
use std::process::Command;

const BEGINNING: &str = r#"
    nm="$1"; config="$2"; home="$3"; shift 3
    until_true() { for _ in $(seq 1 600); do if eval "$1"; then return 0; fi; sleep 0.05; done; echo "in vain: $1"; exit 1; }
    until_starts() { until_true '[ "$(cat "$home/a.starts" 2>/dev/null | wc -l)" = '"$1 ]"; }
"#;

const APPEARANCE: &str = r#"
    until_true '! [ -e /proc/$server ]'
    echo $((server - 1)) > /proc/sys/kernel/ns_last_pid
    setsid sh -c 'trap "echo hit > $0/hit" TERM HUP INT; echo $$ > $0/stranger; while :; do sleep 1; done' "$home" &
    until_true '[ -s "$home/stranger" ]'
    echo "$server" > "$home/server"
"#;

const END: &str = r#"
    "$nm" shutdown --stop-servers -c "$config" || exit 1
    kill -0 "$(cat "$home/stranger")" && echo lives > "$home/lives"
"#;

/// The one server is `a`, of `counted`; `until_starts N` waits until it has reported so many.
/// `before` (a shell script with `$nm`, `$config`, `$home` and these words as `$@`) starts the pair
/// and ends the process `$server`; then a stranger has its number; `after` goes on, and the pair is
/// ended with its servers. Nobody may have signalled the stranger.
pub fn assert_spared(pair: &Pair, before: &str, after: &str, words: &[String]) {
    let script = [BEGINNING, before, APPEARANCE, after, END].concat();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &script, "sh"]);
    command.arg(binary()).arg(pair.config()).arg(&pair.home).args(words);
    let output = finish(command, "the namespace");
    assert!(output.status.success(), "{}", both(&output));
    let number = |file: &str| pid_in(&pair.home.join(file));
    assert_eq!(number("stranger"), number("server"), "the number was not used again");
    assert!(!pair.home.join("hit").exists(), "the stranger was signalled");
    assert!(pair.home.join("lives").exists(), "the stranger was killed");
}
