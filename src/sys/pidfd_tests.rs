//! Tests of `pidfd`: identities, groups and exit statuses of real processes.

use super::*;
use crate::sys::testing::*;

fn gone(identity: &Identity) -> bool {
    matches!(open_verified(identity).unwrap(), Verified::Gone)
}

fn members(pgid: i32) -> Vec<i32> {
    let members = process::live_group_members(pgid).unwrap();
    members.into_iter().map(|(pid, _)| pid).collect()
}

/// A server whose leader ended and was reaped, with one member of its group left.
fn orphaned_group() -> Server {
    let server = Server::shell("sleep 60 & exit 0");
    reaped(&server.pidfd);
    assert_eq!(members(server.pid).len(), 1);
    server
}

#[test]
fn a_living_process_is_found_again_by_its_identity() {
    let server = Server::shell("exec sleep 60");
    let identity = identify(server.pid, &server.pidfd).unwrap();
    let Verified::Alive(found) = open_verified(&identity).unwrap() else { panic!("gone") };
    assert_eq!(identify(server.pid, &found).unwrap(), identity);
}

#[test]
fn a_dead_process_is_gone_also_while_it_is_a_zombie() {
    let server = Server::shell("exec sleep 60");
    let identity = identify(server.pid, &server.pidfd).unwrap();
    end(&server.pidfd);
    wait_until("it is dead", || is_dead(&server.pidfd));
    assert!(gone(&identity));
    reaped(&server.pidfd);
    assert!(gone(&identity));
    assert!(identify(server.pid, &server.pidfd).is_err());
}

#[test]
fn a_reaped_leader_is_gone_although_its_group_keeps_the_number() {
    let server = orphaned_group();
    assert!(gone(&Identity { pid: server.pid, start_ticks: 1, inode: 0 }));
}

#[test]
fn a_process_that_only_has_the_number_is_not_the_one_on_record() {
    let server = Server::shell("exec sleep 60");
    let identity = identify(server.pid, &server.pidfd).unwrap();
    assert!(gone(&Identity { start_ticks: identity.start_ticks + 1, ..identity }));
    let without_inode = Identity { inode: 0, ..identity };
    assert!(!gone(&without_inode));
    // The same number and the same tick: only the inode tells, where the kernel has it.
    let other_inode = Identity { inode: identity.inode + 1, ..identity };
    assert_eq!(gone(&other_inode), identity.inode != 0);
}

#[test]
fn a_number_that_is_no_process_number_is_an_error_and_not_gone() {
    assert!(open_verified(&Identity { pid: 0, start_ticks: 0, inode: 0 }).is_err());
}

#[test]
fn an_exit_code_or_signal_is_seen_without_reaping() {
    let server = Server::shell("exit 37");
    wait_until("it is dead", || is_dead(&server.pidfd));
    assert_eq!(exit_of_child(&server.pidfd).unwrap(), Some(Exit::Code(37)));
    assert_eq!(reap(&server.pidfd).unwrap(), Some(Exit::Code(37)));
    assert_eq!(exit_of_child(&server.pidfd).unwrap_err().raw_os_error(), Some(libc::ECHILD));

    // A real-time signal too: not every library knows its number.
    for number in [libc::SIGKILL, 40] {
        let server = Server::shell("exec sleep 60");
        assert_eq!(exit_of_child(&server.pidfd).unwrap(), None);
        signal(&server.pidfd, number).unwrap();
        wait_until("it is dead", || is_dead(&server.pidfd));
        assert_eq!(exit_of_child(&server.pidfd).unwrap(), Some(Exit::Signal(number)));
        reaped(&server.pidfd);
    }
}

#[test]
fn exit_info_tells_the_status_after_the_reaping_and_never_makes_one_up() {
    for (script, exit) in [("exit 37", Exit::Code(37)), ("kill -9 $$", Exit::Signal(9))] {
        let server = Server::shell(script);
        wait_until("it is dead", || is_dead(&server.pidfd));
        assert_eq!(exit_info(&server.pidfd), None);
        reaped(&server.pidfd);
        if kernel_is_before(6, 15) {
            assert_eq!(exit_info(&server.pidfd), None);
            println!("half of it only: PIDFD_INFO_EXIT needs Linux 6.15");
            continue;
        }
        let told = || exit_info(&server.pidfd);
        wait_until("the kernel tells", || told().is_some());
        assert_eq!(told(), Some(exit));
    }
}

fn kernel_is_before(major: u32, minor: u32) -> bool {
    let name = nix::sys::utsname::uname().unwrap();
    let mut numbers = name.release().to_str().unwrap().split(['.', '-']).map(str::parse);
    (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap()) < (major, minor)
}

#[test]
fn a_groups_members_get_the_signal_after_the_leader_was_reaped() {
    let server = orphaned_group();
    signal_group(&server.pidfd, server.pid, libc::SIGKILL, false).unwrap();
    wait_until("the group is empty", || members(server.pid).is_empty());
}

#[test]
fn before_linux_6_9_members_get_the_signal_one_by_one_after_the_leader_was_reaped() {
    let server = orphaned_group();
    signal_group_without_flag(&server.pidfd, server.pid, libc::SIGKILL, true).unwrap();
    wait_until("the group is empty", || members(server.pid).is_empty());
    let empty = signal_group_without_flag(&server.pidfd, server.pid, libc::SIGKILL, true);
    assert_eq!(empty.unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn before_linux_6_9_a_stranger_with_the_number_of_a_reaped_leader_is_not_hit() {
    let stranger = Server::shell("exec sleep 60");
    let dead = Server::shell("exit 0");
    reaped(&dead.pidfd);
    let result = signal_group_without_flag(&dead.pidfd, stranger.pid, libc::SIGKILL, false);
    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ESRCH));
    assert!(!is_dead(&stranger.pidfd));
}

#[test]
fn before_linux_6_9_the_whole_group_of_a_living_or_unreaped_leader_gets_the_signal() {
    for script in ["sleep 60 & wait", "sleep 60 & exit 0"] {
        let server = Server::shell(script);
        wait_until("the member runs", || members(server.pid).iter().any(|pid| runs(*pid, "sleep")));
        wait_until("the leader waits or is dead", || {
            script.ends_with("wait") || is_dead(&server.pidfd)
        });
        signal_group_without_flag(&server.pidfd, server.pid, libc::SIGKILL, true).unwrap();
        wait_until("the group is empty", || members(server.pid).is_empty());
    }
}

#[test]
fn a_group_of_zombies_has_no_living_member_though_signal_0_finds_it() {
    let server = Server::shell("exit 0");
    wait_until("it is dead", || is_dead(&server.pidfd));
    signal_group(&server.pidfd, server.pid, 0, true).unwrap();
    assert!(members(server.pid).is_empty());
    reaped(&server.pidfd);
    let empty = signal_group(&server.pidfd, server.pid, 0, false);
    assert_eq!(empty.unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn the_dead_among_many_are_found_by_one_look() {
    let servers: Vec<Server> = (0..4).map(|_| Server::shell("exec sleep 60")).collect();
    end(&servers[2].pidfd);
    wait_until("it is dead", || is_dead(&servers[2].pidfd));
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|at: usize| Some(&servers[at].pidfd));
    let asked = [first, None, third, second, None, fourth, third];
    let dead = [false, false, true, false, false, false, true];
    assert_eq!(dead_among(asked.into_iter()), dead);
    assert!(dead_among(std::iter::empty()).is_empty());
}
