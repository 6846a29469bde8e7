//! Tests of `process`: what real processes show in /proc.

use super::*;
use crate::sys::testing::*;

fn marked(owner: &Owner, script: &str) -> Server {
    let mut spec = shell_spec(script);
    spec.env.push(cstring(&format!("NM_SERVER={}", owner.mark("a/b", 12))));
    Server::running(&spec)
}

/// A pair that no other test, and no other run of the tests, has.
fn owner(name: &str) -> Owner {
    Owner::new(&format!("test-{}-{name}", std::process::id()), Path::new("/r"), Path::new("/f"))
}

#[test]
fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
    let line = b"7 (a) R (b\n) S 1 2 3 0 -1 0 0 0 0 0 10 5 0 0 20 0 1 0 4711 99 88 0\n";
    let stat = parse_stat(line).unwrap();
    assert_eq!(stat.comm, "a) R (b?");
    assert_eq!((stat.state, stat.group, stat.session, stat.cpu_ticks), (b'S', 2, 3, 15));
    assert_eq!((stat.start_ticks, stat.rss_pages), (4711, 88));
    assert_eq!((stat.threads, stat.processor), (1, u64::MAX), "the last one is not told");
}

#[test]
fn a_cut_or_strange_stat_line_is_no_stat_and_no_panic() {
    for line in [&b""[..], b"7 (", b")(", b"7 (a) S 1 2 3", b"7 (\xff) S x", b"7 (a"] {
        assert!(parse_stat(line).is_none());
    }
}

#[test]
fn a_group_has_all_its_members_and_its_leader_and_nobody_else() {
    let server = Server::shell("sleep 60 & sleep 60 & wait");
    let _stranger = Server::shell("exec sleep 60");
    let members = || -> Vec<i32> {
        live_group_members(server.pid).unwrap().into_iter().map(|(pid, _)| pid).collect()
    };
    wait_until("there are three", || members().len() == 3);
    assert!(members().contains(&server.pid));
}

#[test]
fn a_survivor_is_found_by_its_mark_also_when_it_left_its_session() {
    let owner = owner("left");
    let leader = marked(&owner, "setsid sleep 60 & exec sleep 61");
    let _other = marked(&self::owner("left-other"), "exec sleep 60");
    wait_until("both are there", || survivors(&owner).unwrap().len() == 2);
    let own = pidfd::identify(leader.pid, &leader.pidfd).unwrap();
    let mut elsewhere = None;
    wait_until("one has a session of its own", || {
        let found = survivors(&owner).unwrap();
        assert!(found.iter().all(|s| s.name == "a/b" && s.start_number == 12));
        assert!(found.iter().any(|s| s.identity == own && s.session_leader));
        elsewhere = found.into_iter().find(|s| s.identity != own && s.session_leader);
        elsewhere.is_some()
    });
    end(&leader.pidfd);
    end(&pidfd_of(elsewhere.unwrap().identity.pid));
    wait_until("none is left", || survivors(&owner).unwrap().is_empty());
}

#[test]
fn a_process_whose_main_thread_ended_is_alive_though_it_looks_like_a_zombie() {
    let owner = owner("thread");
    let mut probe = probe("without-main-thread", &owner.mark("a", 1));
    assert_eq!(probe.line(), "goes on");
    let pid = probe.pid();
    wait_until("it looks dead", || status_field(pid, "State").starts_with('Z'));
    let found = survivors(&owner).unwrap();
    assert_eq!(found.iter().map(|survivor| survivor.identity.pid).collect::<Vec<_>>(), [pid]);
    let group = nix::unistd::getpgrp().as_raw();
    assert!(live_group_members(group).unwrap().iter().any(|(member, _)| *member == pid));
}

#[test]
fn a_zombie_is_no_survivor() {
    let owner = owner("zombie");
    let server = marked(&owner, "exit 0");
    wait_until("it is dead", || pidfd::is_dead(&server.pidfd));
    assert_eq!(survivors(&owner).unwrap(), []);
}

#[test]
fn a_process_without_the_mark_has_none_and_one_that_is_gone_is_not_found() {
    let server = Server::shell("exec sleep 60");
    assert_eq!(mark_of(server.pid).unwrap(), None);
    end(&server.pidfd);
    reaped(&server.pidfd);
    assert_eq!(known(mark_of(server.pid)).unwrap(), None);
    assert!(start_ticks(server.pid).is_err());
}

#[test]
fn a_process_started_now_shows_the_time_of_its_start_and_its_usage() {
    let before = boottime_ms();
    let server = Server::shell("while :; do :; done");
    let started = ticks_to_boot_ms(start_ticks(server.pid).unwrap());
    // A tick is 10 ms on most machines, and the time is cut to it.
    assert!(started + 100 >= before && started <= boottime_ms());
    wait_until("it has used the processor", || usage(server.pid).unwrap().cpu_ms > 0);
    assert!(usage(server.pid).unwrap().rss_bytes > 0);
}

#[test]
fn this_boot_and_this_namespace_have_an_id() {
    assert_eq!(boot_id().unwrap().len(), 36);
    assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    assert_ne!(pid_namespace_inode().unwrap(), 0);
    assert!(monotonic_ms().0 <= boottime_ms() && wall_ms() > 0);
}
