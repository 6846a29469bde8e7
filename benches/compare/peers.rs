//! The supervisors that are compared: how each is configured, started and stopped, each with its
//! quickest documented settings.
//!
//! Must give every one the same servers, and no other favour than its own settings.

use super::place::Root;
use super::support::free_port;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bare,
    Own,
    Supervisord,
    Runit,
    S6,
    Monit,
    Horust,
}

pub const ALL: [Kind; 7] =
    [Kind::Bare, Kind::Own, Kind::Supervisord, Kind::Runit, Kind::S6, Kind::Monit, Kind::Horust];

/// What a run is for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub servers: usize,
    /// The servers write lines, and the supervisor puts them into files below `out`.
    pub lines: bool,
    /// Only for this project: output takes the way through FIFOs, also where nobody writes any.
    pub piped: bool,
    /// Only for this project: 500 ms of silence count as a hang.
    pub short_heartbeat: bool,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare",
            Kind::Own => "nodemanager",
            Kind::Supervisord => "supervisord",
            Kind::Runit => "runit",
            Kind::S6 => "s6",
            Kind::Monit => "monit",
            Kind::Horust => "horust",
        }
    }

    /// The settings that matter for the figures.
    pub fn note(self) -> &'static str {
        match self {
            Kind::Bare => "`bare.c` of the bench: posix_spawn, pidfds, one epoll loop, no features",
            Kind::Own => {
                "`restart.delay = \"0s\"`, `settleTime = \"0s\"`, `maxParallelStarts = 1000`, default heartbeats; keeper, active and standby"
            }
            Kind::Supervisord => {
                "`startsecs=0`, `autorestart=true`, one program with numprocs, no log files"
            }
            Kind::Runit => {
                "one runsv a server; it waits 1 s when the server was up for less than 1 s; `run` is the server itself, no shell; runsvdir takes at most 1,000"
            }
            Kind::S6 => {
                "one s6-supervise a server; it waits 1 s before each restart; `run` is the server itself, no shell; `-c` raised to the number of servers"
            }
            Kind::Monit => {
                "`set daemon 1`: looks once a second; servers are daemons with a PID file; start and stop are programs"
            }
            Kind::Horust => "`strategy = \"always\"`, `backoff = \"0s\"`",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Bare | Kind::Own | Kind::Horust => self.name(),
            Kind::Supervisord => "supervisord",
            Kind::Runit => "runsvdir",
            Kind::S6 => "s6-svscan",
            Kind::Monit => "monit",
        }
    }

    /// Where its program is; none: it is not installed.
    pub fn path(self, root: &Root) -> Option<PathBuf> {
        match self {
            Kind::Bare => Some(root.dir.join("bare")),
            Kind::Own => Some(env!("CARGO_BIN_EXE_nodemanager").into()),
            _ => find(self.program()),
        }
    }

    pub fn version(self, root: &Root) -> String {
        let mut command = match self {
            Kind::Bare => return "part of the bench".to_owned(),
            // These three have no word for it: the one that installed them knows.
            Kind::Runit | Kind::S6 => {
                let mut dpkg = Command::new("dpkg-query");
                dpkg.args(["-W", "-f", "${Version}", self.name()]);
                dpkg
            }
            Kind::Horust => {
                let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("horust/.crates.toml");
                let text = fs::read_to_string(list).unwrap_or_default();
                let version =
                    text.split("\"horust ").nth(1).and_then(|rest| rest.split(' ').next());
                return version.unwrap_or("unknown").to_owned();
            }
            _ => {
                let mut own = Command::new(self.path(root).unwrap_or_default());
                own.arg(if self == Kind::Supervisord { "-v" } else { "--version" });
                own
            }
        };
        let output = command.output().map(|output| output.stdout).unwrap_or_default();
        let output = String::from_utf8_lossy(&output).into_owned();
        let line = output.lines().next().unwrap_or_default();
        let number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        line.split_whitespace().find(number).unwrap_or("unknown").to_owned()
    }

    /// Writes the configuration into `dir` and gives the command that starts it in the foreground.
    pub fn prepare(self, root: &Root, dir: &Path, wanted: Wanted) -> io::Result<Command> {
        fs::create_dir_all(dir.join("out"))?;
        let (server, fifo) = (root.server(), dir.join("marks"));
        let setup = Setup { dir, server: &server, fifo: &fifo, wanted };
        let mut command = Command::new(self.path(root).unwrap_or_default());
        match self {
            Kind::Bare => {
                command.arg(wanted.servers.to_string()).arg(&server).arg(&fifo);
            }
            Kind::Own => {
                command.args(["run", "-c"]).arg(setup.own()?);
            }
            Kind::Supervisord => {
                command.args(["-n", "-c"]).arg(setup.supervisord()?);
            }
            Kind::Runit => {
                command.arg("-P").arg(setup.directories("svlogd")?);
            }
            Kind::S6 => {
                // Each of them counts twice when it has a logger.
                let most = (wanted.servers * 2 + 8).to_string();
                command.args(["-c", &most]).arg(setup.directories("s6-log n20 s10000000")?);
            }
            Kind::Monit => {
                command.args(["-I", "-c"]).arg(setup.monit()?);
            }
            Kind::Horust => {
                command.arg("--services-path").arg(setup.horust()?);
            }
        }
        command.env("FIRST_ACT_FIFO", &fifo).env_remove("FIRST_ACT_LINES");
        if wanted.lines {
            command.env("FIRST_ACT_LINES", "1");
        }
        let said = fs::File::options().create(true).append(true).open(dir.join("said"))?;
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        Ok(command)
    }

    /// The command that stops all servers, where that is no signal to the main process.
    pub fn stop_command(self, root: &Root, dir: &Path) -> Option<Command> {
        if self != Kind::Monit {
            return None;
        }
        let mut command = Command::new(self.path(root)?);
        command.arg("-c").arg(dir.join("monitrc")).args(["stop", "all"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(command)
    }
}

/// Where an installed program is.
pub fn find(program: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("horust/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let dirs = [own].into_iter().chain(std::env::split_paths(&path)).chain(more);
    dirs.map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// What the configurations are made of.
struct Setup<'a> {
    dir: &'a Path,
    server: &'a Path,
    fifo: &'a Path,
    wanted: Wanted,
}

impl Setup<'_> {
    /// A file that is there stays: this may be a second start.
    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.exists() {
            fs::write(&path, text)?;
        }
        Ok(path)
    }

    /// Two pairs of one name take each other's servers for their own.
    fn node_name(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default().display().to_string();
        format!("compare-{}-{name}", std::process::id())
    }

    fn own(&self) -> io::Result<PathBuf> {
        fs::create_dir_all(self.dir.join("conf"))?;
        let (server, fifo) = (self.server.display(), self.fifo.display());
        let mut text = format!(
            "[nodeManager]\nname = \"{}\"\nstandbyPort = {}\nlogDir = \"out\"\nmaxParallelStarts = 1000\n",
            self.node_name(),
            free_port()
        );
        if self.wanted.short_heartbeat {
            text += "heartbeatInterval = \"100ms\"\nheartbeatTimeout = \"500ms\"\n";
        }
        let output = if self.wanted.lines || self.wanted.piped { "pipe" } else { "null" };
        let mut left = self.wanted.servers;
        // A table holds at most 1,000.
        for table in 1.. {
            let count = left.min(1_000);
            let _ = write!(
                text,
                "[[server]]\nname = \"s{table}\"\ninstances = {count}\ncommand = ['{server}', '{fifo}']\n\
                 settleTime = \"0s\"\nrestart = {{ when = \"always\", tries = 1000, delay = \"0s\" }}\n\
                 output = {{ to = \"{output}\" }}\n"
            );
            left -= count;
            if left == 0 {
                break;
            }
        }
        self.write("conf/nodemanager.toml", &text)
    }

    fn supervisord(&self) -> io::Result<PathBuf> {
        let (dir, server, fifo) = (self.dir.display(), self.server.display(), self.fifo.display());
        let logs = match self.wanted.lines {
            true => format!("{dir}/out/%(process_num)s.log"),
            false => "NONE".to_owned(),
        };
        let user = if nix::unistd::geteuid().is_root() { "user=root\n" } else { "" };
        let text = format!(
            "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={dir}/pid\n\
             loglevel=critical\n{user}[program:s]\ncommand={server} {fifo}\nnumprocs={}\n\
             process_name=%(process_num)05d\nstartsecs=0\nautorestart=true\nredirect_stderr=true\n\
             stdout_logfile={logs}\nstdout_logfile_maxbytes=0\n",
            self.wanted.servers
        );
        self.write("supervisord.conf", &text)
    }

    /// A directory a service, for runit and s6.
    fn directories(&self, logger: &str) -> io::Result<PathBuf> {
        let all = self.dir.join("services");
        for number in 1..=self.wanted.servers {
            let service = all.join(format!("s{number}"));
            fs::create_dir_all(&service)?;
            if !service.join("run").exists() {
                symlink(self.server, service.join("run"))?;
            }
            if self.wanted.lines {
                let (log, out) = (service.join("log"), self.dir.join(format!("out/s{number}")));
                fs::create_dir_all(&log)?;
                fs::create_dir_all(&out)?;
                let run = log.join("run");
                fs::write(&run, format!("#!/bin/sh\nexec {logger} {}\n", out.display()))?;
                fs::set_permissions(&run, fs::Permissions::from_mode(0o755))?;
            }
        }
        Ok(all)
    }

    fn monit(&self) -> io::Result<PathBuf> {
        let (dir, server, fifo) = (self.dir.display(), self.server.display(), self.fifo.display());
        let mut text = format!(
            "set daemon 1\nset pidfile {dir}/pid\nset idfile {dir}/id\nset statefile {dir}/state\n\
             set log {dir}/monit.log\nset httpd unixsocket {dir}/monit.sock allow compare:compare\n"
        );
        for number in 1..=self.wanted.servers {
            let file = format!("{dir}/s{number}.pid");
            let _ = write!(
                text,
                "check process s{number} with pidfile {file}\n  \
                 start program = \"{server} --fork {file} {fifo}\"\n  \
                 stop program = \"{server} --kill {file}\"\n"
            );
        }
        let path = self.write("monitrc", &text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    fn horust(&self) -> io::Result<PathBuf> {
        let all = self.dir.join("services");
        fs::create_dir_all(&all)?;
        let (server, fifo) = (self.server.display(), self.fifo.display());
        for number in 1..=self.wanted.servers {
            let (out, keep) = match self.wanted.lines {
                true => (self.dir.join(format!("out/s{number}.log")), true),
                false => (PathBuf::from("/dev/null"), false),
            };
            let text = format!(
                "command = \"{server} {fifo}\"\nstdout = \"{}\"\nstderr = \"/dev/null\"\n\
                 [restart]\nstrategy = \"always\"\nbackoff = \"0s\"\n\
                 [environment]\nkeep-env = {keep}\n",
                out.display()
            );
            fs::write(all.join(format!("s{number}.toml")), text)?;
        }
        Ok(all)
    }
}
