//! How fast the output of one server comes to its log file, and what processor time that costs
//! whoever moves it.
//!
//! Must not count the writer, and must not believe anybody: the end is when the file has its size.

use super::marks::{Marks, ms_between, now_ns, quantile};
use super::memory;
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

/// What puts the output into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logger {
    Cat,
    /// With each write to a pipe that has a name the kernel notes the time: how much is that.
    CatOfFifo,
    Own,
    Supervisord,
    Svlogd,
    S6Log,
}

impl Logger {
    /// Those of a supervisor; none: it has no logger.
    fn of(kind: Kind) -> &'static [Logger] {
        match kind {
            Kind::Bare => &[Logger::Cat, Logger::CatOfFifo],
            Kind::Own => &[Logger::Own],
            Kind::Supervisord => &[Logger::Supervisord],
            Kind::Runit => &[Logger::Svlogd],
            Kind::S6 => &[Logger::S6Log],
            Kind::Monit | Kind::Horust => &[],
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Logger::CatOfFifo => "cat of a FIFO",
            _ => self.program(),
        }
    }

    fn program(self) -> &'static str {
        match self {
            Logger::Cat | Logger::CatOfFifo => "cat",
            Logger::Own => "nodemanager",
            Logger::Supervisord => "supervisord",
            Logger::Svlogd => "svlogd",
            Logger::S6Log => "s6-log",
        }
    }
}

/// One logger with writes of one size.
pub struct Moved {
    pub logger: Logger,
    pub write: usize,
    /// MiB in a second, or why there is no figure.
    pub speed: Result<f64, String>,
    /// Seconds of a processor for a GiB; NaN: no figure.
    pub cpu: f64,
}

/// All loggers in turn, and that three times: a slow moment of the disk is not one logger's alone.
pub fn measure(kinds: &[Kind], root: &Root, bytes: u64) -> Vec<Moved> {
    let mut all = Vec::new();
    for write in WRITES {
        let loggers = kinds.iter().flat_map(|kind| Logger::of(*kind));
        let mut rows: Vec<_> = loggers.map(|logger| (*logger, Vec::new())).collect();
        for _ in 0..ROUNDS {
            for (logger, runs) in &mut rows {
                super::progress(&format!("output of {} in {write}s", logger.name()));
                runs.push(run(*logger, root, write, bytes).map_err(|error| error.to_string()));
            }
        }
        all.extend(rows.into_iter().map(|(logger, runs)| middle(logger, write, runs)));
    }
    all
}

fn middle(logger: Logger, write: usize, runs: Vec<Result<(f64, f64), String>>) -> Moved {
    match runs.into_iter().collect::<Result<Vec<_>, _>>() {
        Err(why) => Moved { logger, write, speed: Err(why), cpu: f64::NAN },
        Ok(runs) => {
            let (speeds, cpus): (Vec<f64>, Vec<f64>) = runs.into_iter().unzip();
            Moved { logger, write, speed: Ok(quantile(&speeds, 50)), cpu: quantile(&cpus, 50) }
        }
    }
}

/// MiB/s, and seconds of a processor for a GiB.
fn run(logger: Logger, root: &Root, write: usize, bytes: u64) -> io::Result<(f64, f64)> {
    let mut moving = Moving::start(logger, root, write, bytes)?;
    std::thread::sleep(REST);
    // More than it takes, for not all of it comes back at once.
    memory::use_once(&root.dir, 2 * bytes);
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
    fn start(logger: Logger, root: &Root, write: usize, bytes: u64) -> io::Result<Moving> {
        let dir = root.dir.join(format!("output-{}", logger.program()));
        fs::create_dir_all(dir.join("out"))?;
        let (marks, go) = (Marks::new(&dir)?, dir.join("go"));
        nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU)?;
        let flags = OFlag::O_NONBLOCK.bits();
        let go = File::options().read(true).write(true).custom_flags(flags).open(&go)?;
        let mut moving = Moving { dir, marks, go, children: Vec::new(), writer: 0 };
        let writer = moving.writer(root, write, bytes);
        match logger {
            Logger::Own => moving.supervise(own(&moving.dir, &writer)?)?,
            Logger::Supervisord => moving.supervise(supervisord(&moving.dir, &writer)?)?,
            _ => moving.pipe(logger, &writer)?,
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
    fn pipe(&mut self, logger: Logger, writer: &[String]) -> io::Result<()> {
        let (reader, output): (Stdio, Stdio) = match logger {
            Logger::CatOfFifo => {
                let (reader, output) = fifo(&self.dir.join("fifo"))?;
                (reader.into(), output.into())
            }
            _ => {
                let (reader, output) = io::pipe()?;
                (reader.into(), output.into())
            }
        };
        let out = self.dir.join("out");
        let mut file = Stdio::null();
        let mut command = Command::new(found(logger.program())?);
        match logger {
            Logger::Svlogd => {
                fs::write(out.join("config"), "s0\n")?;
                command.args(["-b", "65536"]).arg(&out);
            }
            Logger::S6Log => drop(command.args(["n20", "s268435455"]).arg(&out)),
            _ => file = File::create(out.join("writer.out"))?.into(),
        }
        self.spawn(command, reader, file)?;
        let (program, words) = writer.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(words);
        self.spawn(command, Stdio::null(), output)
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

/// Its two ends.
fn fifo(path: &Path) -> io::Result<(File, File)> {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?;
    // With both ends open here, neither of the others is waited for.
    let _both = File::options().read(true).write(true).open(path)?;
    Ok((File::open(path)?, File::options().write(true).open(path)?))
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
