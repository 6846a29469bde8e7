//! Who a server is, what it may use, and the lock it waits for: real users, real limits, and what
//! becomes of them when the active is killed.
//!
//! Must not need accounts of its own: `nobody`, `daemon`, `www-data` and bare numbers are used.
//! What needs root says that it is skipped.

mod locks;
#[path = "../support/mod.rs"]
mod support;
#[path = "../tools/mod.rs"]
mod tools;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use support::{Pair, SIGKILL, both, is_alive, signal, wait_for, wait_until};
use tools::status_field;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn shell(name: &str, script: &str, keys: &str) -> String {
    format!(
        "[[server]]\nname = \"{name}\"\ncommand = ['sh', '-c', '''{script}''']\n\
         settleTime = \"20ms\"\n{keys}\n"
    )
}

fn sleeper(name: &str, keys: &str) -> String {
    shell(name, "exec sleep 1000", keys)
}

/// A whole pair whose one server is up; gives its PID.
fn up(keys: &str) -> (Pair, i32) {
    let pair = Pair::new("", &sleeper("web", keys));
    pair.start();
    let pid = running(&pair, "web");
    (pair, pid)
}

fn running(pair: &Pair, name: &str) -> i32 {
    let row = pair.wait_state(name, "RUNNING");
    let pid = row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.expect("a server that runs has a PID");
    wait_until("sleep to run", || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "sleep")
    });
    pid
}

fn take_over(pair: &Pair) {
    pair.wait_whole();
    let (active, standby) = (pair.pid_of("active"), pair.pid_of("standby"));
    signal(active, SIGKILL);
    wait_until("the takeover", || pair.twin("active") == Some(standby));
    pair.wait_whole();
}

/// Keeper and twins die at one instant, and the journal with them.
fn lose_journal(pair: &Pair) {
    pair.wait_whole();
    let twins = ["keeper", "standby", "active"].map(|role| pair.pid_of(role));
    twins.iter().for_each(|pid| signal(*pid, support::SIGSTOP));
    twins.iter().for_each(|pid| signal(*pid, SIGKILL));
    wait_until("nobody to be left", || !twins.iter().any(|pid| is_alive(*pid)));
    for file in fs::read_dir(pair.home.join("run")).expect("the run directory").flatten() {
        if file.file_name().to_string_lossy().contains("journal") {
            fs::remove_file(file.path()).expect("a file of the journal");
        }
    }
}

/// Words of a line of /proc/PID/status.
fn words(pid: i32, field: &str) -> Vec<String> {
    status_field(pid, field).split_whitespace().map(str::to_owned).collect()
}

fn variable(pid: i32, name: &str) -> Option<String> {
    let environ = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let start = format!("{name}=");
    environ.split('\0').find_map(|entry| entry.strip_prefix(&start).map(str::to_owned))
}

/// Soft and hard limit as /proc shows them.
fn limit(pid: i32, title: &str) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let line = limits.lines().find_map(|line| line.strip_prefix(title)).expect(title);
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().expect("a soft limit"), words.next().expect("a hard limit"))
}

/// What a user's entry says: uid, gid, home.
fn entry(user: &str) -> Option<(String, String, String)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.starts_with(&format!("{user}:")))?;
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].to_owned(), fields[3].to_owned(), fields[5].to_owned()))
}

#[test]
fn a_server_is_the_user_that_it_names_with_its_groups_and_variables_and_a_new_active_stops_it() {
    if !is_root() {
        return println!("skipped: only root can start servers as another user");
    }
    let users: Vec<&str> =
        ["nobody", "daemon", "www-data"].into_iter().filter(|user| entry(user).is_some()).collect();
    let tables: Vec<String> =
        users.iter().map(|user| sleeper(user, &format!("user = \"{user}\""))).collect();
    let pair = Pair::new("", &tables.concat());
    pair.start();
    let before = pair.pids();
    for user in &users {
        let pid = running(&pair, user);
        let (uid, gid, home) = entry(user).expect("an entry");
        assert_eq!(words(pid, "Uid"), vec![uid.as_str(); 4], "{user}");
        assert_eq!(words(pid, "Gid"), vec![gid.as_str(); 4], "{user}");
        assert_eq!(words(pid, "Groups"), [gid.as_str()], "{user}");
        assert_eq!(words(pid, "CapEff"), ["0000000000000000"], "{user}");
        assert_eq!(variable(pid, "HOME"), Some(home));
        assert_eq!(variable(pid, "USER").as_deref(), Some(*user));
        assert_eq!(variable(pid, "LOGNAME").as_deref(), Some(*user));
        assert_eq!(variable(pid, "SHELL"), None, "nologin is none");
    }
    take_over(&pair);
    assert_eq!(pair.pids(), before, "a takeover does nothing to them");
    assert!(users.iter().all(|user| pair.server(user)["adopted"] == true));
    pair.ok(&["stop", "all"]);
    assert!(!before.values().any(|pid| is_alive(*pid)));
}

#[test]
fn numbers_without_an_entry_and_named_groups_are_what_they_are() {
    if !is_root() {
        return println!("skipped: only root can start servers as another user");
    }
    let servers = [
        sleeper("bare", "user = 54321"),
        sleeper("groups", "user = \"54321\"\ngroup = [7, 8, 54322]\nenv = { HOME = \"/tmp\" }"),
        sleeper("group", "group = \"54323\""),
    ];
    let pair = Pair::new("", &servers.concat());
    pair.start();
    let bare = running(&pair, "bare");
    assert_eq!((words(bare, "Uid"), words(bare, "Gid")), (all("54321"), all("54321")));
    assert_eq!(words(bare, "Groups"), [""; 0]);
    assert_eq!(variable(bare, "HOME").as_deref(), Some("/"));
    assert_eq!((variable(bare, "USER"), variable(bare, "SHELL")), (None, None));
    let groups = running(&pair, "groups");
    assert_eq!((words(groups, "Uid"), words(groups, "Gid")), (all("54321"), all("7")));
    assert_eq!(words(groups, "Groups"), ["8", "54322"]);
    assert_eq!(variable(groups, "HOME").as_deref(), Some("/tmp"), "env has the last word");
    let group = running(&pair, "group");
    assert_eq!((words(group, "Uid"), words(group, "Gid")), (all("0"), all("54323")));
    assert_eq!(variable(group, "HOME"), std::env::var("HOME").ok());
}

fn all(number: &str) -> Vec<String> {
    vec![number.to_owned(); 4]
}

#[test]
fn servers_that_name_no_user_have_the_one_of_all_when_it_is_root_that_runs_them() {
    let own = nix::unistd::geteuid().to_string();
    let servers = sleeper("web", "") + &sleeper("own", "user = 54322");
    let servers = if is_root() { servers } else { sleeper("web", "") };
    let pair = Pair::new("serverUser = 54321", &servers);
    pair.start();
    let expected = if is_root() { "54321" } else { &own };
    assert_eq!(words(running(&pair, "web"), "Uid"), all(expected));
    if is_root() {
        assert_eq!(words(running(&pair, "own"), "Uid"), all("54322"));
    }
}

#[test]
fn a_server_has_the_limits_priority_umask_and_privileges_that_it_names() {
    let (pair, pid) = up("umask = \"037\"\nnice = 5\noomScoreAdjust = 600\n\
        noNewPrivileges = true\n\
        limits = { nofile = \"100:200\", core = 0, cpu = \"1h\", fsize = \"1GiB\", nproc = 3000, \
        as = \"64GiB\", stack = \"4MiB:8MiB\", msgqueue = \"64K\", rttime = \"500ms\" }");
    let pair_of = |soft: &str, hard: &str| (soft.to_owned(), hard.to_owned());
    let same = |limit: &str| pair_of(limit, limit);
    assert_eq!(limit(pid, "Max open files"), pair_of("100", "200"));
    assert_eq!(limit(pid, "Max core file size"), same("0"));
    assert_eq!(limit(pid, "Max cpu time"), same("3600"));
    assert_eq!(limit(pid, "Max file size"), same("1073741824"));
    assert_eq!(limit(pid, "Max processes"), same("3000"));
    assert_eq!(limit(pid, "Max address space"), same("68719476736"));
    assert_eq!(limit(pid, "Max stack size"), pair_of("4194304", "8388608"));
    assert_eq!(limit(pid, "Max msgqueue size"), same("65536"));
    assert_eq!(limit(pid, "Max realtime timeout"), same("500000"));
    assert_eq!(words(pid, "NoNewPrivs"), ["1"]);
    assert_eq!(words(pid, "Umask"), ["0037"]);
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("its score");
    assert_eq!(score.trim(), "600");
    // Field 19 of the line; the name in brackets has no blank here.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its line");
    assert_eq!(stat.split_whitespace().nth(18), Some("5"));
    drop(pair);
}

#[test]
fn limits_that_leave_no_descriptor_for_the_start_itself_are_set_all_the_same() {
    // The loader needs one more than the three.
    let (pair, pid) = up("limits = { nofile = 4 }");
    assert_eq!(limit(pid, "Max open files"), ("4".to_owned(), "4".to_owned()));
    drop(pair);
}

#[test]
fn a_step_that_fails_is_named_and_the_policy_decides() {
    let give_up = "restart = { tries = 0, then = \"fail\" }";
    let mut servers = format!(
        "{}{}",
        sleeper("nofile", &format!("limits = {{ nofile = 2000000000 }}\n{give_up}")),
        sleeper("lock", &format!("lock = {{ file = \"/nowhere/at/all\" }}\n{give_up}"))
    );
    if is_root() {
        servers += &sleeper("cwd", &format!("user = 54321\ncwd = \"{{home}}/closed\"\n{give_up}"));
    } else {
        servers += &sleeper("nice", &format!("nice = -20\n{give_up}"));
    }
    let pair = Pair::new("", &servers);
    fs::create_dir(pair.home.join("closed")).expect("a directory");
    fs::set_permissions(pair.home.join("closed"), fs::Permissions::from_mode(0o700)).expect("mode");
    pair.run(&["run", "--detach"]);
    let reason = |name: &str| pair.wait_state(name, "FAILED")["reason"].to_string();
    let told = reason("nofile");
    assert!(told.contains("cannot set the limit nofile to 2000000000:2000000000: "), "{told}");
    let told = reason("lock");
    assert!(told.contains("cannot take its lock /nowhere/at/all: No such file"), "{told}");
    assert!(told.contains("make its directory"), "{told}");
    if is_root() {
        let told = reason("cwd");
        assert!(told.contains("/closed as uid 54321: Permission denied"), "{told}");
    } else {
        let told = reason("nice");
        assert!(told.contains("cannot set nice -20: Permission denied"), "{told}");
    }
}

#[test]
fn unknown_names_and_what_only_root_may_are_refused_by_check_and_by_run() {
    let pair = Pair::new("", &sleeper("web", "user = \"no-such-user\""));
    for words in [&["check"][..], &["run"], &["run", "--detach"]] {
        let output = pair.run(words);
        assert_eq!(output.status.code(), Some(78), "{}", both(&output));
        let told = both(&output);
        assert!(
            told.contains("nodemanager.toml:11: user of [[server]] web: there is no user"),
            "{told}"
        );
    }
    pair.configure("", &sleeper("web", "user = 54321"));
    // A file and a program that others can read.
    let mut check = Command::new(support::binary());
    if is_root() {
        let to_nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        if !support::has_tool("setpriv") {
            return println!("skipped: setpriv (util-linux) is not installed");
        }
        check = Command::new("setpriv");
        check.args(to_nobody).arg(support::binary());
    }
    let output = check.arg("check").arg("-c").arg(pair.config()).output().expect("it runs");
    let told = both(&output);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains(":11: ") && told.contains("only root can start servers"), "{told}");
}

#[test]
fn root_that_lacks_a_capability_says_which_one() {
    if !is_root() || !support::has_tool("setpriv") {
        return println!("skipped: it needs root and setpriv (util-linux)");
    }
    let pair = Pair::new("", &sleeper("web", "user = 54321"));
    let mut check = Command::new("setpriv");
    check.args(["--bounding-set", "-kill,-setuid", "--inh-caps", "-kill,-setuid"]);
    let output = check
        .arg(support::binary())
        .arg("check")
        .arg("-c")
        .arg(pair.config())
        .output()
        .expect("it");
    let told = both(&output);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("that needs CAP_SETUID and CAP_KILL"), "{told}");
    let mut check = Command::new("setpriv");
    check.args(locks::NO_PTRACE).arg(support::binary()).arg("check").arg("-c");
    let told = both(&check.arg(pair.config()).output().expect("it runs"));
    assert!(told.starts_with("exit status: 0") && told.contains("CAP_SYS_PTRACE"), "{told}");
}

#[test]
fn a_server_of_another_user_opens_its_own_standard_output_again() {
    if !is_root() {
        return println!("skipped: only root can start servers as another user");
    }
    let script = "echo again > /dev/stdout; echo error > /dev/stderr; exec sleep 1000";
    let pair = Pair::new("", &shell("web", script, "user = 54321"));
    pair.start();
    wait_until("both lines", || pair.output_of("web") == "again\nerror\n");
    let fifo = fs::metadata(pair.home.join("run/out/web.fifo")).expect("its FIFO");
    assert_eq!((fifo.uid(), fifo.mode() & 0o777), (54321, 0o600));
    // A new standby, a new active and a new start open a FIFO that is not root's.
    take_over(&pair);
    pair.ok(&["restart", "web"]);
    wait_until("four lines", || pair.output_of("web") == "again\nerror\nagain\nerror\n");
    pair.ok(&["shutdown", "--keep-servers"]);
    pair.start();
    assert_eq!(pair.server("web")["state"], "RUNNING");
}

#[test]
fn a_server_of_another_user_is_found_again_without_a_journal() {
    if !is_root() {
        return println!("skipped: only root can start servers as another user");
    }
    let (pair, pid) = up("user = \"nobody\"");
    lose_journal(&pair);
    pair.start();
    assert_eq!(pair.pids()["web"], pid, "found by its mark");
    pair.ok(&["stop", "web"]);
    assert!(!is_alive(pid));
}

#[test]
fn starts_of_other_users_survive_an_active_that_is_killed_at_any_moment() {
    if !is_root() {
        return println!("skipped: only root can start servers as another user");
    }
    let script = "echo $$$$ >> {home}/starts/$NAME; exec sleep 1000";
    let tables: Vec<String> = (0..8)
        .map(|number| {
            let keys = format!("user = {}\nenv = {{ NAME = \"{number}\" }}", 54300 + number);
            shell(&format!("s{number}"), script, &keys)
        })
        .collect();
    let pair = Pair::new("", &tables.concat());
    fs::create_dir(pair.home.join("starts")).expect("a directory");
    fs::set_permissions(pair.home.join("starts"), fs::Permissions::from_mode(0o777)).expect("mode");
    pair.start();
    for round in 0..12 {
        pair.wait_whole();
        let active = pair.pid_of("active");
        let mut restart = pair.command(&["restart", "all"]);
        restart.stdout(Stdio::null()).stderr(Stdio::null());
        let mut restart = restart.spawn().expect("a command");
        std::thread::sleep(std::time::Duration::from_millis(round * 4));
        signal(active, SIGKILL);
        let _ = restart.wait();
        for number in 0..8 {
            pair.wait_state(&format!("s{number}"), "RUNNING");
        }
    }
    let pids = pair.pids();
    for number in 0..8 {
        let path = pair.home.join(format!("starts/{number}"));
        let pid = pids[&format!("s{number}")];
        let starts = wait_for("the last start to be written down", || {
            let text = fs::read_to_string(&path).ok()?;
            let pids: Vec<i32> = text.lines().filter_map(|pid| pid.parse().ok()).collect();
            pids.contains(&pid).then_some(pids)
        });
        let living: Vec<i32> = starts.into_iter().filter(|pid| is_alive(*pid)).collect();
        assert_eq!(living, [pid], "one of each lives");
    }
}

// ---- variables from files

#[test]
fn variables_come_from_files_that_are_read_at_each_start_and_errors_name_the_line() {
    let keys = "envFile = [\"one.env\", \"-absent.env\", \"two.env\"]\nenv = { C = \"env\" }\n\
                restart = { tries = 0, then = \"fail\" }";
    let pair = Pair::new("", &sleeper("web", keys));
    let file = |name: &str, text: &str| fs::write(pair.home.join(name), text).expect("a file");
    file("one.env", "# comment\nA='first file'\nB=1\nC=1\nHOME=/elsewhere\n");
    file("two.env", "B=\"second\"\n");
    pair.start();
    let pid = running(&pair, "web");
    let is = |name: &str, value: &str| assert_eq!(variable(pid, name).as_deref(), Some(value));
    is("A", "first file");
    is("B", "second");
    is("C", "env");
    is("HOME", "/elsewhere");
    file("two.env", "B=3\n\nexport D=4\n");
    let output = pair.run(&["restart", "web"]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    let told = pair.wait_state("web", "FAILED")["reason"].to_string();
    assert!(told.contains("two.env:3: ") && told.contains("without"), "{told}");
    fs::remove_file(pair.home.join("two.env")).expect("it is there");
    nix::unistd::mkfifo(&pair.home.join("two.env"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    pair.run(&["start", "web"]);
    let told = pair.wait_state("web", "FAILED")["reason"].to_string();
    assert!(told.contains("two.env: not a regular file"), "a FIFO holds nobody up: {told}");
    fs::remove_file(pair.home.join("two.env")).expect("it is there");
    file("two.env", "B=5\n");
    pair.ok(&["start", "web"]);
    assert_eq!(variable(running(&pair, "web"), "B").as_deref(), Some("5"));
}
