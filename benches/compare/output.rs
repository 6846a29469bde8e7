//! How fast the output of one server comes to its log file, and what processor time that costs
//! whoever moves it.
//!
//! Must not count the writer, and must not believe anybody: the end is when the file has its size.

use super::marks::{Marks, ms_between, now_ns, quantile};
use super::peers::{self, Kind};
use super::place::{self, Root};
use super::support::free_port;
use nix::fcntl::OFlag;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of a write: whole pages, and one line each.
pub const WRITES: [usize; 2] = [4_096, 100];
/// Whole lines and whole writes of both sizes, and less than what s6-log's largest file holds.
pub const BYTES: u64 = 256_000_000;
pub const QUICK_BYTES: u64 = 32_768_000;
/// The one in the middle counts.
const ROUNDS: usize = 3;
/// What a start leaves to do is done by then.
const REST: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_micros(500);
/// The processor time of a process that has just gone to sleep is in its figures by then.
const AFTER: Duration = Duration::from_millis(20);

/// One logger with writes of one size.
pub struct Moved {
    pub kind: Kind,
    pub write: usize,
    /// MiB in a second, or why there is no figure.
    pub speed: Result<f64, String>,
    /// Seconds of a processor for a GiB; NaN: no figure.
    pub cpu: f64,
}

/// What puts the output into a file; `bare` is `cat`. None: it is no supervisor's logger.
pub fn logger(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Bare => Some("cat"),
        Kind::Own | Kind::Supervisord => Some(kind.name()),
        Kind::Runit => Some("svlogd"),
        Kind::S6 => Some("s6-log"),
        Kind::Monit | Kind::Horust => None,
    }
}

/// All loggers in turn, and that three times: a slow moment of the disk is not one logger's alone.
pub fn measure(kinds: &[Kind], root: &Root, bytes: u64) -> Vec<Moved> {
    let mut all = Vec::new();
    for write in WRITES {
        let mut rows: Vec<_> = kinds.iter().map(|kind| (*kind, Vec::new())).collect();
        rows.retain(|(kind, _)| logger(*kind).is_some());
        for _ in 0..ROUNDS {
            for (kind, runs) in &mut rows {
                super::progress(&format!("output of {} in {write}s", kind.name()));
                runs.push(run(*kind, root, write, bytes).map_err(|error| error.to_string()));
            }
        }
        all.extend(rows.into_iter().map(|(kind, runs)| middle(kind, write, runs)));
    }
    all
}

fn middle(kind: Kind, write: usize, runs: Vec<Result<(f64, f64), String>>) -> Moved {
    match runs.into_iter().collect::<Result<Vec<_>, _>>() {
        Err(why) => Moved { kind, write, speed: Err(why), cpu: f64::NAN },
        Ok(runs) => {
            let (speeds, cpus): (Vec<f64>, Vec<f64>) = runs.into_iter().unzip();
            Moved { kind, write, speed: Ok(quantile(&speeds, 50)), cpu: quantile(&cpus, 50) }
        }
    }
}

/// MiB/s, and seconds of a processor for a GiB.
fn run(kind: Kind, root: &Root, write: usize, bytes: u64) -> io::Result<(f64, f64)> {
    let mut moving = Moving::start(kind, root, write, bytes)?;
    std::thread::sleep(REST);
    let loggers = moving.loggers();
    let (cpu_before, _) = place::used(&loggers);
    let out = moving.dir.join("out");
    let begun_ns = moving.go(root.limit)?;
    let end = Instant::now() + root.limit;
    while size(&out) < bytes && Instant::now() < end {
        std::thread::sleep(PAUSE);
    }
    let ended_ns = now_ns();
    std::thread::sleep(AFTER);
    let (cpu, _) = place::used(&loggers);
    match size(&out) {
        found if found == bytes => {
            let (mib, gib) = (bytes as f64 / f64::from(1 << 20), bytes as f64 / f64::from(1 << 30));
            let cpu_s = cpu.saturating_sub(cpu_before) as f64 / 1e9;
            Ok((mib * 1e3 / ms_between(begun_ns, ended_ns), cpu_s / gib))
        }
        found => Err(io::Error::other(format!(
            "{found} of {bytes} bytes after {} s",
            root.limit.as_secs()
        ))),
    }
}

/// Bytes in the logs of the writer, rotated ones too; the node manager's own are beside them.
fn size(out: &Path) -> u64 {
    let entries = fs::read_dir(out).into_iter().flatten().flatten();
    let is_log = |name: &str| ["writer", "current", "@"].iter().any(|word| name.starts_with(word));
    let logs = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_log));
    logs.filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|log| log.len())
        .sum()
}

/// A writer that waits for its sign, with its logger.
struct Moving {
    dir: PathBuf,
    marks: Marks,
    go: File,
    children: Vec<Child>,
    writer: i32,
}

impl Moving {
    fn start(kind: Kind, root: &Root, write: usize, bytes: u64) -> io::Result<Moving> {
        let dir = root.dir.join(format!("output-{}", kind.name()));
        fs::create_dir_all(dir.join("out"))?;
        let (marks, go) = (Marks::new(&dir)?, dir.join("go"));
        nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU)?;
        let flags = OFlag::O_NONBLOCK.bits();
        let go = File::options().read(true).write(true).custom_flags(flags).open(&go)?;
        let mut moving = Moving { dir, marks, go, children: Vec::new(), writer: 0 };
        let writer = moving.writer(root, write, bytes);
        match kind {
            Kind::Own => moving.supervise(own(&moving.dir, &writer)?)?,
            Kind::Supervisord => moving.supervise(supervisord(&moving.dir, &writer)?)?,
            _ => moving.pipe(kind, &writer)?,
        }
        match moving.marks.wait(1, root.limit).first() {
            Some(mark) => moving.writer = mark.pid,
            None => return Err(io::Error::other("the writer did not start")),
        }
        Ok(moving)
    }

    /// The command of the writer.
    fn writer(&self, root: &Root, write: usize, bytes: u64) -> Vec<String> {
        let paths = [root.dir.join("writer"), self.dir.join("marks"), self.dir.join("go")];
        let mut words = paths.map(|path| path.display().to_string()).to_vec();
        words.extend([bytes.to_string(), write.to_string()]);
        words
    }

    fn supervise(&mut self, command: Command) -> io::Result<()> {
        self.spawn(command, Stdio::null(), Stdio::null()).map(drop)
    }

    /// `writer | logger`, as a shell would do it.
    fn pipe(&mut self, kind: Kind, writer: &[String]) -> io::Result<()> {
        let (reader, output) = io::pipe()?;
        let out = self.dir.join("out");
        let mut file = Stdio::null();
        let name = logger(kind).unwrap_or_default();
        let mut command = Command::new(found(name)?);
        match kind {
            Kind::Runit => {
                fs::write(out.join("config"), "s0\n")?;
                command.args(["-b", "65536"]).arg(&out);
            }
            Kind::S6 => drop(command.args(["n20", "s268435455"]).arg(&out)),
            _ => file = File::create(out.join("writer.out"))?.into(),
        }
        self.spawn(command, reader.into(), file)?;
        let (program, words) = writer.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(words);
        self.spawn(command, Stdio::null(), output.into())
    }

    fn spawn(&mut self, mut command: Command, input: Stdio, output: Stdio) -> io::Result<()> {
        // By this word it is found and ended.
        command.env("COMPARE_DIR", format!("{}/", self.dir.display())).current_dir("/");
        command.stdin(input).stdout(output).stderr(Stdio::null()).process_group(0);
        self.children.push(command.spawn()?);
        Ok(())
    }

    /// All processes but the writer.
    fn loggers(&self) -> Vec<i32> {
        place::processes(&self.dir).into_iter().filter(|pid| *pid != self.writer).collect()
    }

    /// Lets the writer begin, and tells when it did.
    fn go(&mut self, limit: Duration) -> io::Result<u64> {
        self.go.write_all(b"g")?;
        let mark = self.marks.wait(1, limit).first().copied();
        mark.map(|mark| mark.at_ns).ok_or_else(|| io::Error::other("the writer did not begin"))
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        place::clean(&self.dir);
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

fn found(program: &str) -> io::Result<PathBuf> {
    peers::find(program).ok_or_else(|| io::Error::other("not installed (`-- --install`)"))
}

/// This project, with a log that is not rotated.
fn own(dir: &Path, writer: &[String]) -> io::Result<Command> {
    let conf = dir.join("conf");
    fs::create_dir_all(&conf)?;
    let path = conf.join("nodemanager.toml");
    let text = format!(
        "[nodeManager]\nname = \"compare-{}-output\"\nstandbyPort = {}\nlogDir = \"out\"\n\
         [[server]]\nname = \"writer\"\ncommand = ['{}']\n\
         output = {{ to = \"pipe\", maxSize = \"1GiB\" }}\n",
        std::process::id(),
        free_port(),
        writer.join("', '")
    );
    fs::write(&path, text)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodemanager"));
    command.args(["run", "-c"]).arg(path);
    Ok(command)
}

fn supervisord(dir: &Path, writer: &[String]) -> io::Result<Command> {
    let mut command = Command::new(found("supervisord")?);
    let user = if nix::unistd::geteuid().is_root() { "user=root\n" } else { "" };
    let (path, dir) = (dir.join("supervisord.conf"), dir.display());
    let text = format!(
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={dir}/pid\n\
         loglevel=critical\n{user}[program:writer]\ncommand={}\n\
         stdout_logfile={dir}/out/writer.out\nstdout_logfile_maxbytes=0\n",
        writer.join(" ")
    );
    fs::write(&path, text)?;
    command.args(["-n", "-c"]).arg(path);
    Ok(command)
}
