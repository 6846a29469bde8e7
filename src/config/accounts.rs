//! What the names of users and groups stand for, and whether servers may be started as them.
//!
//! Looks at the machine, and may wait for it: a directory service behind nsswitch.conf can take as
//! long as it likes. So it is asked once, by the command that reads the configuration, and never
//! by a process that serves; what came out travels with the configuration.

use super::error::{ConfigError, ConfigErrors};
use super::identity::{Account, Identity, Named};
use super::units::quoted;
use super::{Config, ServerConfig};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist, getgroups};
use std::ffi::CString;
use std::path::Path;

/// Shells that only say that nobody can log in: systemd does not set SHELL to them either.
const NO_SHELLS: [&str; 4] = ["nologin", "false", "true", ""];

/// The configuration with the account of every server that has one.
///
/// # Errors
/// A name is not known, or servers can't be started as another user from here; all errors at once.
pub fn look_up_accounts(mut config: Config) -> Result<Config, ConfigErrors> {
    let mut errors = Vec::new();
    let is_root = geteuid().is_root();
    let default = config.node.server_user.clone().filter(|_| is_root);
    for server in &mut config.servers {
        // An empty name says that it is the node manager's own user, and no default.
        let user = server.identity.user.clone().or_else(|| default.clone());
        let user = user.filter(|user| !user.name.is_empty());
        match account(&server.identity, user.as_ref(), is_root) {
            Ok(None) if server.identity.account.is_none() => {}
            Ok(account) => {
                server.identity = Identity { account, ..(*server.identity).clone() }.into();
            }
            Err((line, text)) => {
                let key = if server.identity.user.is_some() { "user" } else { "serverUser" };
                errors.push(error(&config.file, server, key, line, &text));
            }
        }
    }
    for hook in &mut config.alerts.hooks {
        let user = hook.identity.user.clone().or_else(|| default.clone());
        match account(&hook.identity, user.as_ref(), is_root) {
            Ok(account) => hook.identity.account = account,
            Err((line, text)) => {
                let text = format!("user or group of [[hook]] {}: {text}", hook.name);
                errors.push(ConfigError { file: config.file.clone(), line, text });
            }
        }
    }
    errors.sort_by_key(|error| error.line);
    errors.dedup();
    if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }
}

fn error(
    file: &Path,
    server: &ServerConfig,
    key: &str,
    line: Option<u32>,
    text: &str,
) -> ConfigError {
    let is_groups = server.identity.groups.iter().any(|group| group.line == line);
    let text = match (is_groups, key) {
        (true, _) => format!("group of [[server]] {}: {text}", server.name),
        (false, "user") => format!("user of [[server]] {}: {text}", server.name),
        (false, _) => format!("serverUser: {text}"),
    };
    ConfigError { file: file.to_owned(), line, text }
}

type Refused = (Option<u32>, String);

/// `None`: the server is the node manager's user, and nothing is to be changed.
fn account(
    identity: &Identity,
    user: Option<&Named>,
    is_root: bool,
) -> Result<Option<Account>, Refused> {
    if user.is_none() && identity.groups.is_empty() {
        return Ok(None);
    }
    let entry = user.map(user_of).transpose()?;
    let own = (geteuid().as_raw(), getegid().as_raw());
    let (uid, default_gid) = entry.as_ref().map_or(own, |(uid, found)| {
        (*uid, found.as_ref().map_or(*uid, |found| found.gid.as_raw()))
    });
    let gids = identity.groups.iter().map(group_of).collect::<Result<Vec<_>, _>>()?;
    let gid = gids.first().copied().unwrap_or(default_gid);
    let found = entry.as_ref().and_then(|(_, found)| found.as_ref());
    let groups = match (gids.get(1..), found) {
        (Some(rest), _) if !rest.is_empty() => rest.to_vec(),
        (_, Some(found)) => groups_of(found, gid).map_err(|text| (user.and_then(line), text))?,
        _ => Vec::new(),
    };
    if !is_root {
        may_stay(identity, user, own, uid, &gids)?;
    }
    let text = |bytes: &std::ffi::OsStr| bytes.to_str().map(str::to_owned);
    let home = found.and_then(|found| text(found.dir.as_os_str()));
    let shell = found.and_then(|found| text(found.shell.as_os_str()));
    Ok(Some(Account {
        uid,
        gid,
        groups,
        is_login: user.is_some(),
        name: found.map(|found| found.name.clone()),
        home: home.filter(|home| home.starts_with('/')).unwrap_or_else(|| "/".to_owned()),
        shell: shell.filter(|shell| is_shell(shell)),
    }))
}

fn line(named: &Named) -> Option<u32> {
    named.line
}

fn is_shell(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.starts_with('/') && !NO_SHELLS.contains(&name)
}

/// Its number, and its entry where it has one. What looks like a number is one.
fn user_of(named: &Named) -> Result<(u32, Option<User>), Refused> {
    let refuse = |text: String| (named.line, text);
    let unreadable = |error: nix::Error| refuse(format!("cannot be looked up: {}", error.desc()));
    if let Some(number) = number(&named.name) {
        let found = entry(User::from_uid(Uid::from_raw(number))).map_err(unreadable)?;
        return Ok((number, found));
    }
    let found = entry(User::from_name(&named.name)).map_err(unreadable)?;
    let unknown = || refuse(format!("there is no user {}; see getent passwd", quoted(&named.name)));
    let found = found.ok_or_else(unknown)?;
    Ok((found.uid.as_raw(), Some(found)))
}

/// getpwnam_r(3), ERRORS: what a C library says where there is no such entry, or no file that could have it.
pub fn entry<T>(found: nix::Result<Option<T>>) -> nix::Result<Option<T>> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        other => other,
    }
}

fn group_of(named: &Named) -> Result<u32, Refused> {
    let refuse = |text: String| (named.line, text);
    if let Some(number) = number(&named.name) {
        return Ok(number);
    }
    match entry(Group::from_name(&named.name)) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => {
            Err(refuse(format!("there is no group {}; see getent group", quoted(&named.name))))
        }
        Err(error) => Err(refuse(format!("cannot be looked up: {}", error.desc()))),
    }
}

fn number(name: &str) -> Option<u32> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|number| is_number && *number != u32::MAX)
}

/// As initgroups(3) would set them.
fn groups_of(user: &User, gid: u32) -> Result<Vec<u32>, String> {
    let name = CString::new(user.name.as_str()).map_err(|_| "has no usable name".to_owned())?;
    let groups = getgrouplist(&name, Gid::from_raw(gid));
    let groups = groups.map_err(|error| format!("its groups are not known: {}", error.desc()))?;
    Ok(groups.into_iter().map(Gid::as_raw).collect())
}

/// Without root a server stays who it is: the names may say so, and nothing else.
fn may_stay(
    identity: &Identity,
    user: Option<&Named>,
    own: (u32, u32),
    uid: u32,
    gids: &[u32],
) -> Result<(), Refused> {
    let why = "only root can start servers as another one: remove the key, or run it as root";
    if let Some(user) = user.filter(|_| uid != own.0) {
        let name = quoted(&user.name);
        let text =
            format!("{name} (uid {uid}) is not the user of this process, uid {}; {why}", own.0);
        return Err((user.line, text));
    }
    let mine: Vec<u32> = getgroups().unwrap_or_default().into_iter().map(Gid::as_raw).collect();
    let is_mine = |(at, gid): (usize, &u32)| *gid == own.1 || at > 0 && mine.contains(gid);
    if let Some(group) = identity.groups.first().filter(|_| !gids.iter().enumerate().all(is_mine)) {
        let text = format!("not the groups of this process, gid {}; {why}", own.1);
        return Err((group.line, text));
    }
    Ok(())
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
