//! Who dies around an `apply`, and when.

use super::support::{Pair, SIGKILL, both, is_alive, signal, wait_until};
use super::{generation, sleeper, v_of};
use std::process::Stdio;
use std::time::Duration;

fn with_v(v: &str) -> String {
    sleeper("a", &format!("env = {{ V = \"{v}\" }}")) + &sleeper("b", "")
}

fn v(pair: &Pair) -> Option<String> {
    pair.pids().get("a").and_then(|pid| v_of(*pid))
}

#[test]
fn a_takeover_keeps_the_configuration_in_force_while_the_file_is_being_edited() {
    let pair = Pair::new("", &with_v("1"));
    pair.start();
    let before = pair.pids();
    let active = pair.pid_of("active");
    std::fs::write(pair.config(), "[nodeManager]\nname = half a fi").unwrap();
    signal(active, SIGKILL);
    pair.configure("", &with_v("2"));
    pair.wait_whole();
    assert_eq!(pair.pids(), before);
    pair.ok(&["restart", "a"]);
    assert_eq!(v(&pair).as_deref(), Some("1"), "the file counts when it is applied");
}

#[test]
fn the_keeper_revives_the_pair_with_the_configuration_in_force() {
    let pair = Pair::new("", &with_v("1"));
    pair.start();
    pair.configure("", &(with_v("2") + &sleeper("new", "")));
    pair.ok(&["apply"]);
    pair.wait_whole();
    let before = pair.pids();
    pair.configure("", &with_v("3"));
    let twins = [pair.pid_of("standby"), pair.pid_of("active")];
    twins.into_iter().for_each(|pid| signal(pid, SIGKILL));
    wait_until("their death", || !twins.iter().any(|pid| is_alive(*pid)));
    pair.wait_whole();
    assert_eq!((pair.pids(), generation(&pair)), (before, 1));
    pair.ok(&["restart", "a"]);
    assert_eq!(v(&pair).as_deref(), Some("2"));
}

#[test]
fn whoever_dies_in_the_middle_it_is_the_old_configuration_or_the_new_one() {
    let pair = Pair::new("", &with_v("0"));
    pair.start();
    let b = pair.pids()["b"];
    let (mut old, mut new) = (0, 0);
    for round in 1..=10_u64 {
        pair.wait_whole();
        let active = pair.pid_of("active");
        let standby = pair.pid_of("standby");
        let was = v(&pair).expect("its variable");
        let wanted = round.to_string();
        pair.configure("", &with_v(&wanted));
        let mut apply = pair.command(&["apply"]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 12));
        signal(active, SIGKILL);
        if round % 3 == 0 {
            signal(standby, SIGKILL);
        }
        let _ = apply.wait();
        pair.wait_whole();
        pair.wait_state("a", "RUNNING");
        let is = v(&pair).expect("its variable");
        assert!(is == was || is == wanted, "{is} is neither {was} nor {wanted}");
        if is == was {
            old += 1
        } else {
            new += 1
        }
        let output = pair.run(&["apply"]);
        assert!(output.status.success(), "{}", both(&output));
        assert_eq!(v(&pair), Some(wanted));
        assert_eq!(pair.pids()["b"], b, "the other one was never touched");
    }
    println!("{old} times the old one, {new} times the new one");
}
