//! Memory, descriptors, processes and disk space run short.
//!
//! Must not know of the other files: what several need is in `main.rs`.

use crate::*;

fn oom_score_adj(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    text.unwrap_or_default().trim().to_string()
}

/// A group of cgroup v1 with a limit; removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new(controller: &str, pair: &Pair) -> Option<Group> {
        let dir = PathBuf::from(format!("/sys/fs/cgroup/{controller}/{}", pair.name()));
        match fs::create_dir(&dir) {
            Ok(()) => Some(Group(dir)),
            Err(error) => {
                println!("skipped: no group of {controller} in cgroup v1 ({error})");
                None
            }
        }
    }

    fn set(&self, file: &str, value: &str) {
        let path = self.0.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn move_in(&self, pid: i32) {
        self.set("cgroup.procs", &pid.to_string());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let procs = || fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for _ in 0..200 {
            let parent = self.0.parent().map(|parent| parent.join("cgroup.procs"));
            for pid in procs().lines() {
                let _ = parent.as_ref().map(|parent| fs::write(parent, pid));
            }
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

// ---- 5: the supervisor is killed for its memory

#[test]
fn when_memory_is_short_and_the_kernel_kills_both_twins_no_server_goes_with_them() {
    if !is_root("a memory limit") {
        return;
    }
    let pair = Pair::new("", &(counted("a", "", "") + &counted("b", "", "")));
    let Some(group) = Group::new("memory", &pair) else { return };
    pair.start();
    let (pids, before) = (started(&pair, 2), twins(&pair));
    for pid in [before.0, before.1] {
        group.move_in(pid);
        fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").unwrap();
    }
    group.set("memory.limit_in_bytes", "67108864");
    let mut hog = Command::new("sh");
    // Four, for a twin is so small that one which fills the limit alone would be as good a victim.
    let hogs = "echo $$ > $0/cgroup.procs; for _ in 1 2 3 4; do tail /dev/zero & done; wait";
    hog.args(["-c", hogs]).arg(&group.0);
    let _hog = Ended(hog.stderr(Stdio::null()).spawn().unwrap());
    wait_until("both twins to be killed", || !is_alive(before.0) && !is_alive(before.1));
    let control = fs::read_to_string(group.0.join("memory.oom_control")).unwrap();
    assert!(!control.contains("oom_kill 0"), "nobody was killed for memory: {control}");
    pair.wait_whole();
    assert_untouched(&pair, &pids);
}

#[test]
fn what_protects_a_twin_from_the_oom_killer_is_not_handed_to_its_servers() {
    let restart = "restart = { delay = \"0s\" }";
    let pair = Pair::new("", &counted("s", "", restart));
    pair.start();
    let (own, first) = (oom_score_adj(std::process::id() as i32), started(&pair, 1)["s"]);
    let active = pair.pid_of("active");
    // Raising it is everybody's right; lowering it, as root would, goes the same way.
    fs::write(format!("/proc/{active}/oom_score_adj"), "500").unwrap();
    signal(first, SIGKILL);
    wait_until("the next start", || starts(&pair, "s").len() == 2);
    assert_eq!(oom_score_adj(starts(&pair, "s")[1]), own);
}

// ---- 6: saved state, and a crash in the middle of saving it

#[test]
fn a_fork_that_is_refused_is_tried_again_until_it_succeeds() {
    if !is_root("a limit of processes") {
        return;
    }
    let restart = "restart = { delay = \"10ms\", delayMax = \"100ms\" }";
    let pair = Pair::new("", &counted("s", "", restart));
    let Some(group) = Group::new("pids", &pair) else { return };
    pair.start();
    let (before, first) = (twins(&pair), started(&pair, 1)["s"]);
    group.move_in(before.0);
    group.set("pids.max", "1");
    signal(first, SIGKILL);
    let refused = || pair.server("s").to_string().contains("cannot fork");
    wait_until("a fork to be refused", refused);
    // The standby can't be replaced either, and nobody ends because of it.
    signal(before.1, SIGKILL);
    wait_until("a start of the standby to be refused", || {
        pair.log(false).lines().any(|line| line.contains("-0126]"))
    });
    assert_eq!(pair.pid_of("active"), before.0);
    group.set("pids.max", "max");
    pair.wait_state("s", "RUNNING");
    pair.wait_whole();
    assert_eq!(pair.pid_of("active"), before.0);
    reported(&pair, "s", 2);
}

#[test]
fn without_descriptors_left_nobody_ends_and_the_start_is_tried_again() {
    if !has_tool("prlimit") {
        return;
    }
    let restart = "restart = { delay = \"10ms\", delayMax = \"100ms\" }";
    let pair = Pair::new("", &counted("s", "", restart));
    pair.start();
    let (before, first) = (twins(&pair), started(&pair, 1)["s"]);
    let limit = |soft: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &before.0.to_string(), &format!("--nofile={soft}:")]);
        assert!(finish(command, "prlimit").status.success());
    };
    limit("10");
    signal(first, SIGKILL);
    wait_until("the refusal", || pair.log(false).contains("Too many open files"));
    assert!(is_alive(before.0));
    limit("1000");
    pair.wait_state("s", "RUNNING");
    assert_eq!(pair.pid_of("active"), before.0);
    reported(&pair, "s", 2);
}

// ---- 18: a grandchild holds the pipe

#[test]
fn a_full_log_disk_neither_ends_nor_holds_a_server_for_ever_and_the_loss_is_told() {
    if !is_root("a small file system") || !has_tool("mount") {
        return;
    }
    // A thousand bytes a line, and how many lines were written.
    let script =
        "n=0; while :; do n=$((n+1)); printf \"line %995s\\n\" $n; echo $n > {home}/n; done";
    let pair = Pair::new("", &shell("s", script, ""));
    let Some(disk) = SmallDisk::new(pair.home.join("logs")) else { return };
    pair.start();
    let (before, server) = (twins(&pair), pair.pids()["s"]);
    let count = || -> u64 {
        let text = fs::read_to_string(pair.home.join("n")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    // Twice what fits: the server went on although nothing could be written.
    wait_until("the server to go on", || count() > 1_200);
    assert_eq!(pair.pids()["s"], server);
    assert_eq!((pair.pid_of("active"), pair.pid_of("standby")), before);
    exits(&pair, &["stop", "s"], 0);
    fs::write(pair.home.join("logs/s.out"), "").unwrap();
    exits(&pair, &["start", "s"], 0);
    wait_until("lines again", || pair.output_of("s").contains("line "));
    wait_until("the loss to be told", || pair.log(false).contains("-0364]"));
    exits(&pair, &["shutdown", "--stop-servers"], 0);
    drop(disk);
}

// ---- 22: restart storms
