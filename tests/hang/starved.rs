//! A machine that has no time for the pair.

use crate::support::{Pair, SIGKILL, has_tool, signal, wait_until};
use crate::tools::is_root;
use crate::{Calm, calm, during, pause};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Processes that want the processor all the time.
const BUSY: usize = 24;

/// Busy processes on one core; ended by PID.
struct Crowd(Vec<Child>);

impl Crowd {
    /// The pair and the crowd have one core.
    fn around(calm: &Calm) -> Crowd {
        let core = some_core();
        calm.all().iter().for_each(|pid| pin(*pid, &core.to_string()));
        Crowd::on(core)
    }

    fn on(core: usize) -> Crowd {
        let busy = || {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string(), "sh", "-c", "while :; do :; done"]);
            command.stdin(Stdio::null()).spawn().expect("taskset")
        };
        Crowd((0..BUSY).map(|_| busy()).collect())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn pin(pid: i32, cores: &str) {
    let words = ["-a", "-p", "-c", cores, &pid.to_string()];
    let status = Command::new("taskset").args(words).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot pin PID {pid}");
}

/// A core that this process may use.
fn some_core() -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let last = line.unwrap_or("0").trim().rsplit([',', '-']).next().unwrap_or("0");
    last.parse().unwrap_or(0)
}

#[test]
fn a_pair_on_one_core_among_many_busy_processes_stays_as_it_is() {
    if !has_tool("taskset") {
        return;
    }
    let (scale, calm) = calm(5);
    let crowd = Crowd::around(&calm);
    during(scale.starved_ms, || {
        calm.pair.ok(&["status"]);
        pause(100);
    });
    drop(crowd);
    calm.assert_undisturbed("a crowd on its core");
}

/// A cgroup v1 with a small share of one processor.
struct Quota {
    dir: PathBuf,
    above: PathBuf,
}

impl Quota {
    fn new(name: &str, percent: u64) -> Result<Quota, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let of = |line: &str| {
            let (head, path) = line.rsplit_once(':')?;
            let has_cpu = head.split([':', ',']).any(|controller| controller == "cpu");
            has_cpu.then(|| path.trim_start_matches('/').to_string())
        };
        let path = own.lines().find_map(of).ok_or("no cpu controller of cgroup v1")?;
        let above = Path::new("/sys/fs/cgroup/cpu").join(path);
        let dir = above.join(name);
        fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let quota = Quota { dir, above };
        let set = |file: &str, us: u64| {
            fs::write(quota.dir.join(file), us.to_string()).map_err(|error| error.to_string())
        };
        set("cpu.cfs_period_us", 100_000)?;
        set("cpu.cfs_quota_us", percent * 1_000)?;
        Ok(quota)
    }

    fn add(&self, pid: i32) {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string()).expect("the process moves");
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("cpu.cfs_quota_us"), "-1");
        for _ in 0..200 {
            let pids = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                let _ = fs::write(self.above.join("cgroup.procs"), pid);
            }
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            pause(20);
        }
    }
}

#[test]
fn a_pair_that_gets_a_twentieth_of_a_processor_stays_as_it_is() {
    if !is_root("a processor quota") {
        return;
    }
    let (scale, calm) = calm(5);
    let quota = match Quota::new(calm.pair.name(), 5) {
        Ok(quota) => quota,
        Err(why) => return println!("skipped: no processor quota ({why})"),
    };
    calm.all().iter().for_each(|pid| quota.add(*pid));
    during(scale.starved_ms, || {
        calm.pair.ok(&["status"]);
        pause(100);
    });
    drop(quota);
    calm.assert_undisturbed("a twentieth of a processor");
}

#[test]
fn a_takeover_on_a_starved_core_is_one_takeover() {
    if !has_tool("taskset") {
        return;
    }
    let (scale, calm) = calm(5);
    let crowd = Crowd::around(&calm);
    signal(calm.active, SIGKILL);
    wait_until("a takeover", || takeovers(&calm.pair) == 1);
    during(scale.starved_ms / 2, || pause(100));
    drop(crowd);
    calm.pair.wait_whole();
    assert_eq!(takeovers(&calm.pair), 1);
    assert_eq!(calm.pair.pid_of("active"), calm.standby);
    calm.assert_servers_untouched();
}

fn takeovers(pair: &Pair) -> u64 {
    pair.status()["takeovers"].as_u64().unwrap_or_default()
}
