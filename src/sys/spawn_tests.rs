//! Tests of `spawn`: the gate, and what a server's child has and has not.

use super::*;
use crate::core::Exit;
use crate::sys::fifo::{make_fifo, open_fifo};
use crate::sys::pidfd;
use crate::sys::rights::Credentials;
use crate::sys::testing::*;
use nix::sys::resource::Resource;
use nix::sys::signal::{SigSet, SigmaskHow};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn a_child_whose_gate_is_closed_ends_without_exec() {
    let scratch = Scratch::new();
    let marker = scratch.path("marker");
    let server = spawn_server(shell_spec(&format!("echo ran > {}", marker.display()))).unwrap();
    drop(server.gate);
    assert_eq!(reaped(&server.pidfd), Exit::Signal(libc::SIGKILL));
    assert!(!marker.exists());
}

#[test]
fn a_child_whose_parent_is_killed_ends_without_exec() {
    let scratch = Scratch::new();
    let marker = scratch.path("marker");
    let mut parent = probe("gate", marker.to_str().unwrap());
    let child = pidfd_of(parent.line().parse().unwrap());
    assert!(!pidfd::is_dead(&child));
    parent.kill();
    wait_until("the child is dead", || pidfd::is_dead(&child));
    assert!(!marker.exists());
}

#[test]
fn nothing_runs_before_the_gate_opens_and_the_server_runs_after() {
    let scratch = Scratch::new();
    let marker = scratch.path("marker");
    let server = Server::at_gate(&shell_spec(&format!("echo ran > {}", marker.display())));
    assert_eq!(server.news(), News::Ready);
    assert_eq!(read_news(&server.gate).unwrap(), None);
    assert!(!marker.exists());
    open_gate(&server.gate).unwrap();
    assert_eq!(server.news(), News::Closed);
    assert_eq!(reaped(&server.pidfd), Exit::Code(0));
    assert!(marker.exists());
}

#[test]
fn a_child_that_shares_memory_and_one_with_a_copy_get_the_same() {
    let scratch = Scratch::new();
    for shares in [true, false] {
        let out = scratch.path(&format!("{shares}"));
        let script = format!("echo $NM_PID $0 > {}", out.display());
        let spec = ServerSpec { pid_variables: vec!["NM_PID"], ..shell_spec(&script) };
        let Gated { pid, pidfd, gate } = spawn(spec, shares).unwrap();
        let server = Server { pid, pidfd, gate };
        assert_eq!(server.news(), News::Ready);
        open_gate(&server.gate).unwrap();
        assert_eq!(server.news(), News::Closed);
        wait_until("the server has ended", || pidfd::is_dead(&server.pidfd));
        assert_eq!(std::fs::read_to_string(out).unwrap(), format!("{pid} sh\n"));
    }
}

#[test]
fn a_server_has_its_sockets_from_3_on_and_knows_its_own_pid() {
    let scratch = Scratch::new();
    let (report, fifo) = (scratch.path("report"), scratch.path("fifo"));
    make_fifo(&fifo, 0o600).unwrap();
    // The second one has the first one's number here, and the gate's end theirs.
    let files = ["one", "two"].map(|name| std::fs::File::create(scratch.path(name)).unwrap());
    let script = format!(
        "cd /proc/self/fd; {{ readlink 3 4 7; echo $LISTEN_PID $$ $OWN; ls; }} > {}",
        report.display()
    );
    let server = Server::running(&ServerSpec {
        sockets: files.iter().rev().map(AsRawFd::as_raw_fd).collect(),
        ready: Some((7, path_cstring(&fifo))),
        pid_variables: vec!["LISTEN_PID", "OWN"],
        ..shell_spec(&script)
    });
    assert_eq!(reaped(&server.pidfd), Exit::Code(0));
    let text = std::fs::read_to_string(report).unwrap();
    let path = |name| scratch.path(name).display().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], [path("two"), path("one"), path("fifo")], "{text}");
    let pid = server.pid.to_string();
    assert_eq!(lines[3], format!("{pid} {pid} {pid}"));
    let mut numbers: Vec<i32> = lines[4..].iter().filter_map(|line| line.parse().ok()).collect();
    numbers.sort_unstable();
    // Where it keeps its own output is above them; for a pipe it would have others for a moment.
    assert!(numbers.starts_with(&[0, 1, 2, 3, 4, 7]), "{text}");
}

#[test]
fn opening_the_gate_of_a_dead_child_is_an_error_and_no_signal() {
    let server = Server::at_gate(&shell_spec("exit 0"));
    end(&server.pidfd);
    wait_until("it is dead", || pidfd::is_dead(&server.pidfd));
    let mut error = None;
    // A child that another test has just forked has a copy of its end until its exec.
    wait_until("nobody has its end", || {
        error = open_gate(&server.gate).err();
        error.is_some()
    });
    assert_eq!(error.and_then(|error| error.raw_os_error()), Some(libc::EPIPE));
}

#[test]
fn a_server_has_default_signals_its_own_session_and_no_descriptor_but_three() {
    let blocked = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap();
    let not_closed_at_exec = nix::unistd::dup(std::io::stderr()).unwrap();
    let server = Server::shell("exec sleep 60");
    blocked.thread_set_mask().unwrap();
    drop(not_closed_at_exec);
    wait_until("sleep runs", || runs(server.pid, "sleep"));
    // The Rust runtime ignores SIGPIPE in this process, so an inherited disposition would show.
    for field in ["SigIgn", "SigBlk", "SigCgt"] {
        assert_eq!(status_field(server.pid, field), "0".repeat(16), "{field}");
    }
    let pid = Some(nix::unistd::Pid::from_raw(server.pid));
    assert_eq!(nix::unistd::getsid(pid).ok(), pid);
    // The loader has another one open for a moment.
    wait_until("it has descriptors 0 to 2 only", || {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", server.pid)).unwrap();
        let mut numbers: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        numbers.sort();
        numbers == ["0", "1", "2"]
    });
}

#[test]
fn a_server_does_not_die_with_the_thread_that_started_it() {
    let server = std::thread::spawn(|| Server::shell("exec sleep 60")).join().unwrap();
    wait_until("sleep runs", || runs(server.pid, "sleep"));
    assert!(!pidfd::is_dead(&server.pidfd));
}

#[test]
fn a_server_gets_the_given_umask_limits_oom_score_directory_and_environment() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let script = "umask; ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; pwd; echo $NM_SERVER; \
                  echo to stderr >&2";
    let mut spec = shell_spec(script);
    spec.umask = 0o27;
    spec.rights.limits = vec![(Resource::RLIMIT_NOFILE, 111, 222)];
    spec.rights.oom_score_adj = Some(cstring("777"));
    spec.cwd = path_cstring(&scratch.path("."));
    spec.env.push(cstring("NM_SERVER=node/web/1"));
    spec.stdout = Stdout::File(path_cstring(&out));
    std::fs::write(&out, "before\n").unwrap();
    reaped(&Server::running(&spec).pidfd);
    let said = std::fs::read_to_string(&out).unwrap();
    let directory = scratch.path(".").canonicalize().unwrap();
    let wanted =
        format!("before\n0027\n111\n222\n777\n{}\nnode/web/1\nto stderr\n", directory.display());
    assert_eq!(said, wanted);
}

#[test]
fn a_servers_end_of_the_fifo_is_its_own_blocking_and_never_lacks_a_reader() {
    let scratch = Scratch::new();
    let path = scratch.path("fifo");
    make_fifo(&path, 0o600).unwrap();
    let ours = open_fifo(&path).unwrap();
    let mut spec = shell_spec("echo hello; exec sleep 60");
    spec.stdout = Stdout::Fifo(path_cstring(&path));
    let server = Server::running(&spec);
    wait_until("sleep runs", || runs(server.pid, "sleep"));
    let mut line = [0; 16];
    let length = std::fs::File::from(ours).read(&mut line).unwrap();
    assert_eq!(&line[..length], b"hello\n");
    for fd in [1, 2] {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", server.pid)).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let flags = i32::from_str_radix(flags, 8).unwrap();
        assert_eq!(flags & libc::O_ACCMODE, libc::O_RDWR);
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    }
}

#[test]
fn an_exec_that_fails_says_which_program_and_why() {
    let scratch = Scratch::new();
    let refused = scratch.path("refused");
    std::fs::write(&refused, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&refused, std::fs::Permissions::from_mode(0o644)).unwrap();
    let absent = path_cstring(&scratch.path("absent"));
    let refused = path_cstring(&refused);
    let cases = [
        (vec![absent.clone()], libc::ENOENT, 0),
        (vec![absent.clone(), refused.clone(), absent], libc::EACCES, 1),
    ];
    for (programs, errno, program) in cases {
        let server = Server::at_gate(&ServerSpec { programs, ..shell_spec("") });
        assert_eq!(server.news(), News::Ready);
        open_gate(&server.gate).unwrap();
        assert_eq!(server.news(), News::Failed { step: Step::Exec, errno, detail: program });
        assert_eq!(server.news(), News::Closed);
        assert_eq!(reaped(&server.pidfd), Exit::Code(127));
    }
}

#[test]
fn a_program_is_searched_for_past_those_that_are_absent_or_refused() {
    let scratch = Scratch::new();
    let file = scratch.path("file");
    std::fs::write(&file, "").unwrap();
    let programs = vec![
        path_cstring(&scratch.path("absent")),
        path_cstring(&file.join("below-a-file")),
        path_cstring(&file),
        cstring("/bin/sh"),
    ];
    let server = Server::running(&ServerSpec { programs, ..shell_spec("exit 3") });
    assert_eq!(reaped(&server.pidfd), Exit::Code(3));
}

#[test]
fn a_failure_before_the_gate_says_its_step() {
    let absent = cstring("/nowhere/at/all");
    let spec = shell_spec("");
    let cases = [
        (Step::Chdir, ServerSpec { cwd: absent.clone(), ..spec.clone() }),
        (Step::Output, ServerSpec { stdout: Stdout::File(absent), ..spec.clone() }),
    ];
    for (step, spec) in cases {
        let server = Server::at_gate(&spec);
        assert_eq!(server.news(), News::Failed { step, errno: libc::ENOENT, detail: 0 });
        assert_eq!(reaped(&server.pidfd), Exit::Code(127));
    }
    let limits = vec![(Resource::RLIMIT_CORE, 0, 0), (Resource::RLIMIT_NOFILE, 9, 8)];
    let rights = Rights { limits, ..Rights::default() };
    let limits = Server::at_gate(&ServerSpec { rights, ..spec.clone() });
    let news = News::Failed { step: Step::Limits, errno: libc::EINVAL, detail: 1 };
    assert_eq!(limits.news(), news);
    let unprepared = Server::at_gate(&ServerSpec { is_unprepared: true, ..spec });
    assert!(matches!(unprepared.news(), News::Failed { step: Step::Prepare, .. }));
}

#[test]
fn what_a_child_said_is_read_also_when_its_gate_was_opened_too_late() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let kind = SockType::SeqPacket;
    let flags = SockFlag::SOCK_CLOEXEC;
    let (gate, child) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
    let said = [FAILED, Step::Chdir as u8, 2, 0, 0, 0, 0, 0, 0, 0];
    send(child.as_raw_fd(), &said, MsgFlags::empty()).unwrap();
    open_gate(&gate).unwrap();
    drop(child);
    let failed = News::Failed { step: Step::Chdir, errno: 2, detail: 0 };
    assert_eq!(read_news(&gate).unwrap(), Some(failed));
    // A child that another test has just forked has a copy until its exec.
    wait_until("it is closed", || read_news(&gate).unwrap() == Some(News::Closed));
}

#[test]
fn every_step_is_sent_as_the_number_it_is_found_by() {
    for (index, step) in STEPS.iter().enumerate() {
        assert_eq!(*step as usize, index, "{step}");
    }
}

#[test]
fn a_message_that_no_child_sends_is_an_error() {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    for message in [&b"x"[..], b"F\xff\0\0\0\0\0\0\0\0", b"RR"] {
        send(theirs.as_raw_fd(), message, MsgFlags::empty()).unwrap();
        assert_eq!(read_news(&ours).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

fn with_lock(path: &std::path::Path, script: &str) -> ServerSpec {
    ServerSpec { lock: Some(path_cstring(path)), ..shell_spec(script) }
}

#[test]
fn a_lock_is_taken_behind_the_gate_and_held_as_long_as_the_server_lives() {
    let scratch = Scratch::new();
    let path = scratch.path("lock");
    let first = Server::at_gate(&with_lock(&path, "exec sleep 60"));
    assert_eq!(first.news(), News::Ready);
    assert!(!path.exists(), "who is not on record keeps nobody waiting");
    open_gate(&first.gate).unwrap();
    assert_eq!(first.news(), News::Closed);
    let file = path.metadata().unwrap();
    let second = Server::at_gate(&with_lock(&path, "exit 5"));
    assert_eq!(second.news(), News::Ready);
    open_gate(&second.gate).unwrap();
    let (device, inode) = (file.dev(), file.ino());
    assert_eq!(second.news(), News::WaitsForLock { device, inode });
    assert_eq!(crate::sys::lock::flock_holder(device, inode), Some(first.pid));
    assert_eq!(read_news(&second.gate).unwrap(), None);
    end(&first.pidfd);
    assert_eq!(second.news(), News::Closed);
    assert_eq!(reaped(&second.pidfd), Exit::Code(5));
}

#[test]
fn a_lock_file_that_was_replaced_during_the_wait_is_waited_for_again() {
    let scratch = Scratch::new();
    let path = scratch.path("lock");
    let old = Server::running(&with_lock(&path, "exec sleep 60"));
    let waiting = Server::at_gate(&with_lock(&path, "exit 5"));
    assert_eq!(waiting.news(), News::Ready);
    open_gate(&waiting.gate).unwrap();
    assert!(matches!(waiting.news(), News::WaitsForLock { .. }));
    std::fs::remove_file(&path).unwrap();
    let new = Server::running(&with_lock(&path, "exec sleep 60"));
    end(&old.pidfd);
    wait_until("it waits for the new file", || {
        let waiting_for = format!("/proc/{}/fd", waiting.pid);
        let links = std::fs::read_dir(waiting_for).unwrap().flatten();
        let mut files = links.filter_map(|link| std::fs::metadata(link.path()).ok());
        let file = path.metadata().unwrap();
        files.any(|one| one.ino() == file.ino() && one.dev() == file.dev())
    });
    assert_eq!(read_news(&waiting.gate).unwrap(), None);
    end(&new.pidfd);
    assert_eq!(waiting.news(), News::Closed);
    assert_eq!(reaped(&waiting.pidfd), Exit::Code(5));
}

#[test]
fn a_lock_that_can_not_be_opened_is_a_step_that_failed() {
    let scratch = Scratch::new();
    let link = scratch.path("link");
    std::os::unix::fs::symlink(scratch.path("elsewhere"), &link).unwrap();
    for (path, errno) in [(scratch.path("no/lock"), libc::ENOENT), (link, libc::ELOOP)] {
        let server = Server::at_gate(&with_lock(&path, "exit 0"));
        assert_eq!(server.news(), News::Ready);
        open_gate(&server.gate).unwrap();
        assert_eq!(server.news(), News::Failed { step: Step::Lock, errno, detail: 0 });
        assert_eq!(reaped(&server.pidfd), Exit::Code(127));
    }
    assert!(!scratch.path("elsewhere").exists());
}

#[test]
fn a_child_of_another_user_still_ends_with_the_thread_that_started_it() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can start a process as another user");
    }
    let credentials = Some(Credentials { uid: 54321, gid: 54321, groups: vec![54322] });
    let rights = Rights { credentials, ..Rights::default() };
    let spec = ServerSpec { rights, ..shell_spec("exec sleep 60") };
    // The gate lives on in this thread, so it is not the gate that ends the child.
    let server = std::thread::spawn(move || {
        let server = Server::at_gate(&spec);
        assert_eq!(server.news(), News::Ready);
        server
    });
    let server = server.join().unwrap();
    assert_eq!(reaped(&server.pidfd), Exit::Signal(libc::SIGKILL));
}
