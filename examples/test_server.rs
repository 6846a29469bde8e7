//! A server that the tests manage: it reports its starts, writes, refuses to end, or dies, as told.
//!
//! Must not know anything of the node manager but how to own a descriptor, and must not stay for ever: it ends by itself after
//! ten minutes. Without an option it only lives.

use nix::poll::{PollFd, PollFlags, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitCode, exit};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: test_server [OPTION VALUE]...
  --starts FILE      append `start PID` to FILE first, so that starts can be counted
  --die-after MS     end after so long with --code
  --die-first N      with --die-after and --starts: only the first N starts die
  --code N           the exit status of --die-after (default 0)
  --usr1-exits CODE  end with CODE when SIGUSR1 comes
  --ignore-term yes  go on when SIGTERM comes
  --child MS         leave a child behind that lives so long
  --numbers COUNT    write numbered lines, as fast as it can
  --burst LINES      with --numbers: 1 ms of rest after so many lines (default: none)
  --life S           end by itself after so long (default 600)
  --die-within MS    end with --code at a moment of its own choice
  --children N       leave N children behind that live as long as --life says
  --deaf-children yes  they go on when SIGTERM comes
  --chat MS          with --starts: ten lines with the start's number and a rising one, so often
  --bulk LINES       with --numbers: so many lines with each write (default: one)
  --notify TEXT      say it to NOTIFY_SOCKET; a ; in it is a new line
  --notify-when FILE not before FILE is there; then FILE.said is made
  --ping MS          say WATCHDOG=1 so often
  --answer yes       answer at the first socket of LISTEN_FDS with the PID; SIGTERM ends it well
  --reveal DIR       write to DIR/PID first: descriptors, environment and locks
";

/// The test that started it is over by then.
const LIFE_S: u64 = 600;
/// After so many rounds of `--chat` comes one that is more than a FIFO holds.
const ROUNDS_TO_A_FLOOD: u64 = 100;
const FLOOD_LINES: u64 = 3_000;

#[derive(Default)]
struct Options {
    starts: Option<String>,
    die_after: Option<u64>,
    die_first: Option<usize>,
    code: i32,
    usr1_exits: Option<i32>,
    ignores_term: bool,
    child: Option<u64>,
    numbers: Option<u64>,
    burst: Option<u64>,
    life_s: Option<u64>,
    die_within: Option<u64>,
    children: u64,
    deaf_children: bool,
    chat: Option<u64>,
    bulk: Option<u64>,
    reveal: Option<String>,
    notify: Option<String>,
    notify_when: Option<String>,
    ping: Option<u64>,
    answers: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let _ = writeln!(io::stderr(), "test_server: {text}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(|| format!("{option} has no value"))?;
        match option.as_str() {
            "--starts" => options.starts = Some(value),
            "--die-after" => options.die_after = Some(number(&value)?),
            "--die-first" => options.die_first = Some(number(&value)?),
            "--code" => options.code = number(&value)?,
            "--usr1-exits" => options.usr1_exits = Some(number(&value)?),
            "--ignore-term" => options.ignores_term = value == "yes",
            "--child" => options.child = Some(number(&value)?),
            "--numbers" => options.numbers = Some(number(&value)?),
            "--burst" => options.burst = Some(number(&value)?),
            "--life" => options.life_s = Some(number(&value)?),
            "--die-within" => options.die_within = Some(number(&value)?),
            "--children" => options.children = number(&value)?,
            "--deaf-children" => options.deaf_children = value == "yes",
            "--chat" => options.chat = Some(number(&value)?),
            "--bulk" => options.bulk = Some(number(&value)?),
            "--reveal" => options.reveal = Some(value),
            "--notify" => options.notify = Some(value),
            "--notify-when" => options.notify_when = Some(value),
            "--ping" => options.ping = Some(number(&value)?),
            "--answer" => options.answers = value == "yes",
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(options)
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn run(options: &Options) -> Result<(), String> {
    let started = Instant::now();
    // Before anything else opens a descriptor.
    if let Some(dir) = &options.reveal {
        reveal(dir).map_err(|error| format!("{dir}: {error}"))?;
    }
    watch_signals(options).map_err(|error| format!("cannot watch signals: {error}"))?;
    let starts = match &options.starts {
        Some(path) => report_start(path).map_err(|error| format!("{path}: {error}"))?,
        None => 1,
    };
    let life = Duration::from_secs(options.life_s.unwrap_or(LIFE_S));
    let children = (0..options.children).map(|_| life.as_millis() as u64).chain(options.child);
    for life_ms in children {
        leave_child(life_ms, options.deaf_children)
            .map_err(|error| format!("cannot start a child: {error}"))?;
    }
    notify(options).map_err(|error| format!("cannot notify: {error}"))?;
    if options.answers {
        answer(started + life).map_err(|error| format!("cannot answer: {error}"))?;
    }
    if let Some(count) = options.numbers {
        write_numbers(count, options).map_err(|error| format!("cannot write: {error}"))?;
    }
    if let Some(every_ms) = options.chat {
        chat(starts, every_ms, started + life).map_err(|error| format!("cannot write: {error}"))?;
    }
    if let Some(within_ms) = options.die_within {
        sleep(Duration::from_millis(chance(within_ms)));
        exit(options.code);
    }
    let dies = options.die_first.is_none_or(|first| starts <= first);
    match options.die_after {
        Some(after_ms) if dies => {
            sleep(Duration::from_millis(after_ms));
            exit(options.code);
        }
        _ => sleep(life.saturating_sub(started.elapsed())),
    }
    Ok(())
}

fn watch_signals(options: &Options) -> io::Result<()> {
    use signal_hook::consts::{SIGTERM, SIGUSR1};
    let yes = || Arc::new(AtomicBool::new(true));
    if let Some(code) = options.usr1_exits {
        signal_hook::flag::register_conditional_shutdown(SIGUSR1, code, yes())?;
    }
    if options.ignores_term {
        signal_hook::flag::register(SIGTERM, yes())?;
    }
    Ok(())
}

/// One write in append mode, so that two copies never tear each other's line. Gives the number of
/// starts so far.
fn report_start(path: &str) -> io::Result<usize> {
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(format!("start {}\n", std::process::id()).as_bytes())?;
    Ok(std::fs::read_to_string(path)?.lines().count())
}

fn leave_child(life_ms: u64, is_deaf: bool) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let ignores = if is_deaf { "yes" } else { "no" };
    let words = ["--die-after", &life_ms.to_string(), "--ignore-term", ignores];
    Command::new(program).args(words).spawn().map(drop)
}

fn notify(options: &Options) -> io::Result<()> {
    let say = |text: &str| {
        let path = std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
        UnixDatagram::unbound()?.send_to(text.as_bytes(), path).map(drop)
    };
    if let Some(text) = &options.notify {
        if let Some(file) = &options.notify_when {
            while !std::path::Path::new(file).exists() {
                sleep(Duration::from_millis(2));
            }
        }
        say(&text.replace(';', "\n"))?;
        if let Some(file) = &options.notify_when {
            File::create(format!("{file}.said"))?;
        }
    }
    while let Some(ms) = options.ping {
        // Between two actives of a pair that died as a whole nobody hears it.
        let _ = say("WATCHDOG=1");
        sleep(Duration::from_millis(ms));
    }
    Ok(())
}

/// Takes the socket as sd_listen_fds(3) says. What waits at it when this ends is the next one's.
fn answer(end: Instant) -> io::Result<()> {
    let own = std::process::id().to_string();
    if std::env::var("LISTEN_PID").as_deref() != Ok(&own) || std::env::var("LISTEN_FDS").is_err() {
        return Err(io::Error::other("LISTEN_PID or LISTEN_FDS is not right"));
    }
    let listener = TcpListener::from(nodemanager::sys::inherited(3)?);
    let ends = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&ends))?;
    while !ends.load(std::sync::atomic::Ordering::SeqCst) && Instant::now() < end {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, 20u8).is_ok_and(|ready| ready > 0) {
            let (mut client, _) = listener.accept()?;
            client.read_exact(&mut [0])?;
            client.write_all(format!("{own}\n").as_bytes())?;
        }
    }
    exit(0)
}

/// A number below `limit`, another one for each process.
fn chance(limit: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) % limit.max(1)
}

/// As `write_numbers`, for ever: mostly little, now and then a flood. The start's number stands
/// before the line's.
fn chat(start: usize, every_ms: u64, end: Instant) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut number = 0;
    for round in 1.. {
        let lines = if round % ROUNDS_TO_A_FLOOD == 0 { FLOOD_LINES } else { 10 };
        for _ in 0..lines {
            number += 1;
            out.write_all(format!("line {start:>8} {number:>24} \n").as_bytes())?;
        }
        if Instant::now() >= end {
            break;
        }
        sleep(Duration::from_millis(every_ms));
    }
    Ok(())
}

/// What this process was given: `fd NUMBER TARGET`, `env NAME=VALUE`, `lock LINE`, a line each.
fn reveal(dir: &str) -> io::Result<()> {
    let pid = std::process::id().to_string();
    let mut text = String::new();
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        // The one that lists them is gone by the time it is looked at.
        if let (Some(number), Ok(target)) =
            (entry.file_name().to_str(), std::fs::read_link(entry.path()))
            && !target.starts_with(format!("/proc/{pid}/fd"))
        {
            text += &format!("fd {number} {}\n", target.display());
        }
    }
    for (name, value) in std::env::vars_os() {
        text += &format!("env {}={}\n", name.display(), value.display());
    }
    let locks = std::fs::read_to_string("/proc/locks")?;
    for line in locks.lines().filter(|line| line.split_whitespace().any(|word| word == pid)) {
        text += &format!("lock {line}\n");
    }
    let (new, path) = (format!("{dir}/{pid}.new"), format!("{dir}/{pid}"));
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}

/// One write for each line, or for `--bulk` of them: whoever loses or doubles bytes tears a line
/// or the order. A line has 40 bytes, so that lines cross the borders of pages.
fn write_numbers(count: u64, options: &Options) -> io::Result<()> {
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let bulk = options.bulk.unwrap_or(1).max(1);
    let mut lines = Vec::new();
    for number in 1..=count {
        writeln!(lines, "line {number:>33} ")?;
        if number % bulk == 0 || number == count {
            out.write_all(&lines)?;
            lines.clear();
        }
        if options.burst.is_some_and(|burst| number % burst == 0) {
            sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}
