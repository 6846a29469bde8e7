//! What the pair costs and how fast it is, with a hundred servers: `cargo bench --bench pair`.
//!
//! Prints a table; docs/PERFORMANCE.md has the figures and says how they are to be read. Must not
//! fail because of a time: a busy machine is slow, and that is no fault. Runs the real program in
//! a home of its own below the temporary directory and leaves nothing behind.

mod client;
#[path = "../tests/support/mod.rs"]
mod support;

use client::{ask, poll_for};
use nix::time::{ClockId, clock_gettime};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use support::{Pair, SIGKILL, signal, wait_for};

const SERVERS: usize = 100;
/// Bytes of a mark: PID and time, 8 bytes each.
const MARK: usize = 16;
/// A crash comes this long after the mark before it, so that nothing of the start is left to do.
const PAUSE: Duration = Duration::from_millis(30);

/// How often each thing is done.
struct Rounds {
    takeovers: usize,
    crashes: usize,
    idle: Duration,
}

const FULL: Rounds = Rounds { takeovers: 30, crashes: 200, idle: Duration::from_secs(10) };
const QUICK: Rounds = Rounds { takeovers: 5, crashes: 20, idle: Duration::from_secs(2) };

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["--first-act", fifo] => return first_act(fifo),
        ["--bare-loop", fifo] => bare_loop(fifo),
        _ if !words.contains(&"--bench") => say("only `cargo bench --bench pair` measures"),
        _ => measure(if words.contains(&"--quick") { &QUICK } else { &FULL }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "pair: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

fn measure(rounds: &Rounds) -> io::Result<()> {
    say(&format!(
        "{SERVERS} servers, {} build\n",
        if cfg!(debug_assertions) { "debug" } else { "release" }
    ))?;
    for output in ["null", "pipe"] {
        let marks = Marks::new(output)?;
        let pair = start_pair(output, &marks.path)?;
        marks.next()?;
        pair.wait_whole();
        say(&format!("output = {output}"))?;
        report_takeovers(&pair, rounds.takeovers)?;
        let ours = crashes(rounds.crashes, &marks)?;
        drop(pair);
        let bare = bare_crashes(rounds.crashes)?;
        report_restarts(ours, bare)?;
        let pair = start_pair(output, &marks.path)?;
        pair.wait_whole();
        report_costs(&pair, rounds.idle)?;
    }
    Ok(())
}

fn start_pair(output: &str, fifo: &Path) -> io::Result<Pair> {
    let mut servers = String::new();
    for number in 1..SERVERS {
        let _ = write!(
            servers,
            "[[server]]\nname = \"s{number}\"\ncommand = \"sleep 1000000\"\noutput = {{ to = \"{output}\" }}\n"
        );
    }
    let own = std::env::current_exe()?;
    let _ = write!(
        servers,
        "[[server]]\nname = \"crashes\"\ncommand = [{:?}, \"--first-act\", {:?}]\n\
         output = {{ to = \"{output}\" }}\nrestart = {{ when = \"always\", tries = 1000, delay = \"0s\" }}\n",
        own.display().to_string(),
        fifo.display().to_string()
    );
    let node = "heartbeatInterval = \"500ms\"\nheartbeatTimeout = \"3s\"";
    let pair = Pair::new(node, &servers);
    pair.start();
    Ok(pair)
}

// ---- takeover

/// kill -9 of the active until the new one's first answer, and until a fresh standby watches.
fn report_takeovers(pair: &Pair, count: usize) -> io::Result<()> {
    let socket = pair.home.join("run/control.sock");
    let (mut answered, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let active = pair.pid_of("active");
        let killed = Instant::now();
        signal(active, SIGKILL);
        // The dying process may still hold its end of a connection, but it answers nothing.
        poll_for("an answer", Duration::ZERO, || ask(&socket, "/v1/status").ok())?;
        answered.push(killed.elapsed());
        let is_whole =
            || ask(&socket, "/v1/status").ok().filter(|text| text.contains("\"pair\":\"ok\""));
        poll_for("a whole pair", Duration::from_millis(1), is_whole)?;
        whole.push(killed.elapsed());
    }
    say(&row("kill -9 of the active -> first answer of the new one", &mut answered))?;
    say(&row("kill -9 of the active -> fresh standby is WATCHING", &mut whole))
}

// ---- crash and restart

/// A FIFO into which a server writes its PID and the time as its first act.
struct Marks {
    path: PathBuf,
    fifo: File,
}

impl Marks {
    fn new(name: &str) -> io::Result<Marks> {
        let path = std::env::temp_dir().join(format!("nm-bench-{}-{name}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
        let fifo = File::options().read(true).write(true).open(&path)?;
        Ok(Marks { path, fifo })
    }

    /// The next mark: who, and when.
    fn next(&self) -> io::Result<(i32, u64)> {
        let mut mark = [0; MARK];
        (&self.fifo).read_exact(&mut mark)?;
        let (pid, at_ns) = mark.split_at(MARK / 2);
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        Ok((i32::try_from(number(pid)).unwrap_or_default(), number(at_ns)))
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(time.as_nanos()).unwrap_or_default()
}

/// The server that crashes: says that it is there, and waits for its end.
fn first_act(fifo: &str) -> ExitCode {
    let at_ns = now_ns();
    let mut mark = u64::from(std::process::id()).to_le_bytes().to_vec();
    mark.extend(at_ns.to_le_bytes());
    let written = File::options().write(true).open(fifo).and_then(|mut file| file.write_all(&mark));
    if written.is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        std::thread::park();
    }
}

/// A supervisor without any features: start it, wait for its end, start it again.
fn bare_loop(fifo: &str) -> io::Result<()> {
    loop {
        first_act_command(fifo)?.spawn()?.wait()?;
    }
}

fn first_act_command(fifo: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--first-act", fifo]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// SIGKILL of the server until the first act of its successor. The running one is found by the
/// mark of a crash that is not counted.
fn crashes(count: usize, marks: &Marks) -> io::Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut running = find_first_act(&marks.path);
    for number in 0..=count {
        std::thread::sleep(PAUSE);
        let killed_ns = now_ns();
        signal(running, SIGKILL);
        let (pid, at_ns) = marks.next()?;
        running = pid;
        if number > 0 {
            took.push(Duration::from_nanos(at_ns.saturating_sub(killed_ns)));
        }
    }
    Ok(took)
}

/// The process that was started with this FIFO.
fn find_first_act(fifo: &Path) -> i32 {
    let words = format!("--first-act\0{}\0", fifo.display());
    wait_for("the server that crashes", || {
        let pids = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.find(|pid| {
            let found = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&found).ends_with(&words)
        })
    })
}

fn bare_crashes(count: usize) -> io::Result<Vec<Duration>> {
    let marks = Marks::new("bare")?;
    let mut bare = Command::new(std::env::current_exe()?);
    let mut bare = Ended(bare.arg("--bare-loop").arg(&marks.path).spawn()?);
    let (_, _) = marks.next()?;
    let took = crashes(count, &marks);
    // First the loop, or it would start one more.
    bare.end();
    signal(find_first_act(&marks.path), SIGKILL);
    took
}

/// A child that does not outlive the measurement.
struct Ended(Child);

impl Ended {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.end();
    }
}

fn report_restarts(mut ours: Vec<Duration>, mut bare: Vec<Duration>) -> io::Result<()> {
    say(&row("SIGKILL of a server -> first act of the next one", &mut ours))?;
    say(&row("the same under a bare fork-exec-wait loop", &mut bare))?;
    let ratio = median(&mut ours).as_secs_f64() / median(&mut bare).as_secs_f64();
    say(&format!("  {:<56} {ratio:>9.2}", "ratio of the medians"))
}

// ---- costs

fn report_costs(pair: &Pair, idle: Duration) -> io::Result<()> {
    let roles = ["keeper", "active", "standby"];
    let pids = roles.map(|role| (role, pair.pid_of(role)));
    // What the start left to do is done by then.
    std::thread::sleep(Duration::from_secs(2));
    let before = pids.map(|(_, pid)| (wake_ups(pid), cpu(pid)));
    std::thread::sleep(idle);
    let seconds = idle.as_secs_f64();
    let (mut pss_sum, mut wakes_sum, mut cpu_sum) = (0, 0.0, 0.0);
    for ((role, pid), (wakes, used)) in pids.into_iter().zip(before) {
        let pss = pss_kib(pid);
        let wakes = (wake_ups(pid) - wakes) as f64 / seconds;
        let share = (cpu(pid) - used) as f64 / 1e9 / seconds * 100.0;
        (pss_sum, wakes_sum, cpu_sum) = (pss_sum + pss, wakes_sum + wakes, cpu_sum + share);
        say(&format!(
            "  idle {role:<10} {pss:>6} KiB PSS {wakes:>7.1} wake-ups/s {share:>7.3} % CPU"
        ))?;
    }
    say(&format!(
        "  idle {:<10} {pss_sum:>6} KiB PSS {wakes_sum:>7.1} wake-ups/s {cpu_sum:>7.3} % CPU\n",
        "all three"
    ))
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The share of memory that is this process's: pages that several use count in parts.
fn pss_kib(pid: i32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// How often it went to sleep, and so was woken.
fn wake_ups(pid: i32) -> u64 {
    field(&format!("/proc/{pid}/status"), "voluntary_ctxt_switches:")
}

/// Nanoseconds on a CPU so far.
fn cpu(pid: i32) -> u64 {
    field(&format!("/proc/{pid}/schedstat"), "")
}

// ---- figures

fn median(times: &mut [Duration]) -> Duration {
    quantile(times, 50)
}

fn quantile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

fn row(what: &str, times: &mut [Duration]) -> String {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (median, p99) = (ms(quantile(times, 50)), ms(quantile(times, 99)));
    let (max, count) = (ms(quantile(times, 100)), times.len());
    format!("  {what:<56} median {median:.2} ms, p99 {p99:.2} ms, max {max:.2} ms ({count} times)")
}
