//! What people are told of a start: the step that failed and what to do, and who holds a lock.
//!
//! Must not do anything but look.

use super::Servers;
use crate::config::identity::{Account, Limit};
use crate::config::{OutputTo, ServerConfig};
use crate::core::{Event, ServerId};
use crate::shell::ctx::Ctx;
use crate::shell::spec;
use crate::sys::spawn::Step;
use crate::sys::{lock, process};
use nix::errno::Errno;

impl Servers {
    /// A child waits for its lock: who has it?
    pub(super) fn tell_wait(
        &self,
        ctx: &mut Ctx,
        server: ServerId,
        start_number: u64,
        device: u64,
        inode: u64,
    ) {
        let config = ctx.server(self.name(server));
        let Some(lock) = config.and_then(|config| config.identity.lock.as_ref()) else { return };
        let (path, timeout_ms) = (lock.file.display(), lock.timeout_ms);
        let text = match lock::flock_holder(device, inode) {
            Some(pid) => match process::comm(pid) {
                Ok(comm) => format!("lock {path}, held by PID {pid} ({comm})"),
                // What inherited the descriptor has the lock then.
                Err(_) => format!("lock {path}, which PID {pid} left to others at its end"),
            },
            None => format!("lock {path}, held by a process that cannot be seen from here"),
        };
        ctx.tell(Event::ChildWaits { server, start_number, text, timeout_ms });
    }

    /// Why a step of the child failed.
    pub(super) fn failure_text(
        &self,
        ctx: &Ctx,
        server: ServerId,
        step: Step,
        errno: i32,
        detail: usize,
    ) -> String {
        let cause = format!("{} (errno {errno})", Errno::from_raw(errno).desc());
        let Some(config) = ctx.server(self.name(server)) else { return format!("{step}: {cause}") };
        let child = self.children.get(server.0);
        let account = config.identity.account.as_ref();
        match step {
            Step::Prepare => {
                let unprepared = child.and_then(|child| child.unprepared.clone().map(String::from));
                unprepared.unwrap_or_else(|| format!("cannot prepare its start: {cause}"))
            }
            Step::Cgroup => cgroup_text(&cause, errno),
            Step::Exec => {
                let number = child.map_or(0, |child| child.start_number);
                exec_text(ctx, config, number, errno, detail, &cause)
            }
            Step::Chdir => {
                let who = account.map_or(String::new(), |account| format!(" as {}", who(account)));
                format!("cannot change to {}{who}: {cause}", config.cwd.display())
            }
            Step::Output if config.output.to == OutputTo::Journal => format!(
                "cannot connect to the journal at {}: {cause}; output.to = \"journal\" needs \
                 systemd-journald",
                ctx.config.node.journal_socket.display()
            ),
            Step::Output => format!("cannot open its output: {cause}"),
            Step::Limits => match config.identity.limits.get(detail) {
                Some(limit) => format!("cannot set the limit {}: {cause}", shown(limit)),
                None => format!("cannot set the limit nofile of the node manager's start: {cause}"),
            },
            Step::Nice => {
                format!("cannot set nice {}: {cause}", config.identity.nice.unwrap_or(0))
            }
            Step::OomScore => {
                let score = config.identity.oom_score_adjust;
                let score = score.map_or("its original".to_owned(), |score| score.to_string());
                format!("cannot set oomScoreAdjust to {score}: {cause}")
            }
            Step::Groups | Step::Group | Step::User => credentials_text(step, account, &cause),
            Step::Lock => lock_text(config, errno, &cause),
            Step::Ready => format!("cannot open the FIFO of its readiness: {cause}"),
            other => format!("cannot start: step {other}: {cause}"),
        }
    }
}

/// The account as people know it.
fn who(account: &Account) -> String {
    match &account.name {
        Some(name) => format!("user {name} (uid {})", account.uid),
        None => format!("uid {}", account.uid),
    }
}

fn shown(limit: &Limit) -> String {
    let number = |limit: u64| match limit {
        crate::config::identity::UNLIMITED => "unlimited".to_owned(),
        number => number.to_string(),
    };
    format!("{} to {}:{}", limit.name, number(limit.soft), number(limit.hard))
}

fn credentials_text(step: Step, account: Option<&Account>, cause: &str) -> String {
    let Some(account) = account else { return format!("cannot set its {step}: {cause}") };
    match step {
        Step::User => format!("cannot change to {}: {cause}", who(account)),
        Step::Group => format!("cannot change to group {}: {cause}", account.gid),
        _ => format!("cannot set the supplementary groups {:?}: {cause}", account.groups),
    }
}

fn cgroup_text(cause: &str, errno: i32) -> String {
    let hint = match errno {
        libc::EACCES => {
            "; the node manager must be able to write cgroup.procs there and in the group above \
             both it and its own"
        }
        libc::EBUSY => "; its controllers are given to groups below it",
        _ => "",
    };
    format!("cannot enter its cgroup: {cause}{hint}")
}

fn lock_text(config: &ServerConfig, errno: i32, cause: &str) -> String {
    let file = config.identity.lock.as_ref().map(|lock| lock.file.display().to_string());
    let hint = match errno {
        libc::EACCES => "; the server's own user must be able to open it, or to make it",
        libc::ENOENT => "; make its directory",
        libc::ELOOP => "; it is a symbolic link",
        libc::ESTALE => "; somebody replaces it again and again",
        _ => "",
    };
    format!("cannot take its lock {}: {cause}{hint}", file.unwrap_or_default())
}

/// `detail`: which of the paths that were tried.
fn exec_text(
    ctx: &Ctx,
    config: &ServerConfig,
    start_number: u64,
    errno: i32,
    detail: usize,
    cause: &str,
) -> String {
    let first = config.command.first().cloned().unwrap_or_default();
    if !first.contains('/') && errno == libc::ENOENT {
        return format!(
            "cannot execute {first}: not found in the PATH of the server (errno {errno})"
        );
    }
    let tried = spec::spec(ctx, config, start_number, Vec::new()).ok();
    let path = tried.and_then(|(spec, _)| spec.programs.get(detail).cloned());
    let path = path.map_or(first, |path| path.to_string_lossy().into_owned());
    format!("cannot execute {path}: {cause}")
}
