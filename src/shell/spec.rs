//! From a server's configuration to what its child needs.
//!
//! Must not start anything. Everything is prepared here, before the fork, because a forked child
//! may only make system calls.

use super::ctx::Ctx;
use super::{endpoints, identity};
use crate::config::identity::Identity;
use crate::config::{EventHook, OutputTo, ServerConfig, Stderr, Stream};
use crate::sys::journald::{self, JournalStream};
use crate::sys::mark;
use crate::sys::spawn::{ServerSpec, Stdout};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Variables of the node manager's own that mean nothing, or something wrong, to a server.
const NEVER_PASSED: [&str; 5] =
    ["NOTIFY_SOCKET", mark::SERVER, mark::PAIR, INSTANCE, "NODEMANAGER_CONFIG"];
/// Which of its program's instances a server is.
const INSTANCE: &str = "NM_INSTANCE";
const NEVER_PASSED_PREFIXES: [&str; 2] = ["LISTEN_", "WATCHDOG_"];
/// Where a bare command is looked for when the server has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the child of this server needs.
///
/// With it, why it can't be started although there is a child: that is for its policy.
///
/// # Errors
/// The command or a variable contains a NUL byte.
pub fn spec(
    ctx: &Ctx,
    server: &ServerConfig,
    start_number: u64,
    sockets: Vec<RawFd>,
) -> Result<(ServerSpec, Option<String>), String> {
    let (variables, unprepared) = match identity::variables(&server.identity) {
        Ok(variables) => (variables, None),
        Err(text) => (Vec::new(), Some(text)),
    };
    let env = environment(ctx, server, variables, start_number);
    let program = server.command.first().ok_or("the command is empty")?;
    let programs = candidates(ctx, program, &env);
    let (stdout, stderr) = output(ctx, server)?;
    let words = server.command.iter().map(|word| c_string(word.as_bytes()));
    let lock = server.identity.lock.as_ref();
    let spec = ServerSpec {
        argv: words.collect::<Result<_, _>>()?,
        programs: programs.iter().map(|path| c_string(path)).collect::<Result<_, _>>()?,
        env: variables_of(&env)?,
        cwd: c_string(server.cwd.as_os_str().as_bytes())?,
        stdin: None,
        stdout,
        stderr,
        umask: server.identity.umask.unwrap_or(ctx.originals.umask),
        rights: identity::rights(&server.identity, &ctx.originals),
        lock: lock.map(|lock| c_string(lock.file.as_os_str().as_bytes())).transpose()?,
        dies_with_parent: false,
        ready: endpoints::ready(&ctx.config.node.run_dir, server)?,
        pid_variables: endpoints::pid_variables(server),
        sockets,
        cgroup: None,
        is_unprepared: unprepared.is_some(),
    };
    Ok((spec, unprepared))
}

/// What a check that is a program needs: it dies with the active, and writes to `said`.
///
/// # Errors
/// As [`beside`].
pub fn job(
    ctx: &Ctx,
    server: &ServerConfig,
    command: &[String],
    said: RawFd,
) -> Result<ServerSpec, String> {
    let spec = beside(ctx, server, command, &[])?;
    Ok(ServerSpec { stdout: Stdout::Inherited(said), dies_with_parent: true, ..spec })
}

/// What a hook or another command of a server needs: it outlives the active, and writes where the
/// server writes.
///
/// # Errors
/// As [`beside`].
pub fn task(
    ctx: &Ctx,
    server: &ServerConfig,
    command: &[String],
    variables: &[(&'static str, String)],
) -> Result<ServerSpec, String> {
    let (stdout, stderr) = output(ctx, server)?;
    Ok(ServerSpec { stdout, stderr, ..beside(ctx, server, command, variables)? })
}

/// All as the server has it, but for its mark, its lock and its descriptors.
///
/// # Errors
/// As [`spec`]; a file of variables that can't be read.
fn beside(
    ctx: &Ctx,
    server: &ServerConfig,
    command: &[String],
    told: &[(&'static str, String)],
) -> Result<ServerSpec, String> {
    let variables = identity::variables(&server.identity)?;
    let mut env = environment(ctx, server, variables, 0);
    // A job is not the server: what it says must not count, and it has none of its descriptors.
    env.retain(|name, _| name == OsStr::new(INSTANCE) || !is_own(&name.to_string_lossy()));
    env.insert("NM_NAME".into(), server.name.as_str().into());
    env.extend(told.iter().map(|(name, value)| ((*name).into(), value.into())));
    bare(ctx, &server.identity, &server.cwd, command, &env)
}

/// What a hook for an event needs: the event as its standard input, and the variables that tell it. It
/// dies with the active, and writes to `said`.
///
/// # Errors
/// As [`spec`].
pub fn hook(
    ctx: &Ctx,
    hook: &EventHook,
    told: &[(&'static str, String)],
    stdin: RawFd,
    said: RawFd,
) -> Result<ServerSpec, String> {
    let mut env: BTreeMap<OsString, OsString> =
        std::env::vars_os().filter(|(name, _)| !is_own(&name.to_string_lossy())).collect();
    identity::add_login(&hook.identity, &mut env);
    env.extend(hook.env.iter().map(|(name, value)| (name.into(), value.into())));
    env.extend(told.iter().map(|(name, value)| ((*name).into(), value.into())));
    let spec = bare(ctx, &hook.identity, &ctx.config.home, &hook.command, &env)?;
    let (stdin, stdout) = (Some(stdin), Stdout::Inherited(said));
    Ok(ServerSpec { stdin, stdout, dies_with_parent: true, ..spec })
}

/// A command as somebody, with no standard input and no output.
fn bare(
    ctx: &Ctx,
    identity: &Identity,
    cwd: &Path,
    command: &[String],
    env: &BTreeMap<OsString, OsString>,
) -> Result<ServerSpec, String> {
    let program = command.first().ok_or("the command is empty")?;
    let programs = candidates(ctx, program, env);
    Ok(ServerSpec {
        argv: command.iter().map(|word| c_string(word.as_bytes())).collect::<Result<_, _>>()?,
        programs: programs.iter().map(|path| c_string(path)).collect::<Result<_, _>>()?,
        env: variables_of(env)?,
        cwd: c_string(cwd.as_os_str().as_bytes())?,
        stdin: None,
        stdout: Stdout::Null,
        stderr: None,
        umask: identity.umask.unwrap_or(ctx.originals.umask),
        rights: identity::rights(identity, &ctx.originals),
        lock: None,
        dies_with_parent: false,
        ready: None,
        pid_variables: Vec::new(),
        sockets: Vec::new(),
        cgroup: None,
        is_unprepared: false,
    })
}

fn variables_of(env: &BTreeMap<OsString, OsString>) -> Result<Vec<CString>, String> {
    env.iter()
        .map(|(name, value)| c_string(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect()
}

/// Where standard output and error go; the second is `None` where it goes with the first.
fn output(ctx: &Ctx, server: &ServerConfig) -> Result<(Stdout, Option<Stdout>), String> {
    let way = |is_stderr: bool| way_out(ctx, &Stream { server, is_stderr });
    let stderr = match server.output.stderr {
        Stderr::Merge => None,
        Stderr::Separate => Some(way(true)?),
        Stderr::Null => Some(Stdout::Null),
    };
    Ok((way(false)?, stderr))
}

fn way_out(ctx: &Ctx, stream: &Stream<'_>) -> Result<Stdout, String> {
    let node = &ctx.config.node;
    let path = |path: std::path::PathBuf| c_string(path.as_os_str().as_bytes());
    Ok(match stream.server.output.to {
        OutputTo::Pipe | OutputTo::Syslog => Stdout::Fifo(path(stream.fifo_path(&node.run_dir))?),
        OutputTo::Direct => Stdout::File(path(stream.log_path(&node.log_dir))?),
        OutputTo::Journal => {
            let priority = if stream.is_stderr { journald::ERROR } else { journald::INFO };
            let stream = JournalStream::new(&node.journal_socket, &stream.server.name, priority);
            Stdout::Journal(stream.map_err(|error| format!("journalSocket: {error}"))?)
        }
        OutputTo::Inherit => match &ctx.inheritance {
            Some([out, _]) if !stream.is_stderr => Stdout::Inherited(out.as_raw_fd()),
            Some([_, err]) => Stdout::Inherited(err.as_raw_fd()),
            None => {
                return Err(
                    "output.to = \"inherit\": the pair was started without such a server; \
                            stop and start it"
                        .to_string(),
                );
            }
        },
        OutputTo::Null => Stdout::Null,
    })
}

fn environment(
    ctx: &Ctx,
    server: &ServerConfig,
    variables: Vec<(String, String)>,
    start_number: u64,
) -> BTreeMap<OsString, OsString> {
    let is_passed =
        |name: &str| !is_own(name) && server.pass_env.iter().any(|pattern| matches(pattern, name));
    let mut env: BTreeMap<OsString, OsString> =
        std::env::vars_os().filter(|(name, _)| is_passed(&name.to_string_lossy())).collect();
    identity::add_login(&server.identity, &mut env);
    env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
    for (name, value) in &server.env {
        env.insert(name.into(), value.into());
    }
    if let Some(number) = server.instance {
        env.insert(INSTANCE.into(), number.to_string().into());
    }
    endpoints::set_variables(&ctx.config.node.run_dir, server, &mut env);
    env.insert(mark::SERVER.into(), ctx.owner.mark(&server.name, start_number).into());
    env.insert(mark::PAIR.into(), ctx.owner.pair().into());
    env
}

/// Said to one process alone.
fn is_own(name: &str) -> bool {
    NEVER_PASSED.contains(&name)
        || NEVER_PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// `*` at the end of a pattern stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// The paths that are tried in turn: one with a slash is taken as it is (relative to the home), a
/// bare one is looked for in the server's PATH.
fn candidates(ctx: &Ctx, program: &str, env: &BTreeMap<OsString, OsString>) -> Vec<Vec<u8>> {
    if program.contains('/') {
        let path = ctx.config.home.join(program);
        return vec![path.as_os_str().as_bytes().to_vec()];
    }
    let default = OsString::from(PATH);
    let path = env.get(OsStr::new("PATH")).unwrap_or(&default);
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program).as_os_str().as_bytes().to_vec())
        .collect()
}

pub(super) fn c_string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes)
        .map_err(|_| "the command or its environment contains a NUL byte".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_of_a_pass_env_pattern_stands_for_anything() {
        assert!(matches("*", "PATH") && matches("LC_*", "LC_ALL") && matches("HOME", "HOME"));
        assert!(!matches("LC_*", "LANG") && !matches("HOME", "HOMES"));
    }
}
