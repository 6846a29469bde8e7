//! Names of users and groups, with what every Linux has: root, and the tests' own user.

use super::super::tests::parsed;
use super::*;

fn looked_up(node: &str, keys: &str) -> Result<Option<Account>, String> {
    let text =
        format!("[nodeManager]\n{node}\n[[server]]\nname = \"web\"\ncommand = \"web\"\n{keys}\n");
    let config = parsed(&text).expect(&text);
    let looked_up = look_up_accounts(config).map_err(|errors| errors.to_string())?;
    Ok(looked_up.servers.into_iter().next().and_then(|server| server.identity.account.clone()))
}

#[test]
fn names_that_nobody_has_are_refused_with_their_line() {
    let refused = |keys: &str, line: u32, wanted: &str| {
        let error = looked_up("", keys).unwrap_err();
        let place = format!("conf/nodemanager.toml:{line}: ");
        assert!(error.starts_with(&place) && error.contains(wanted), "{error}");
    };
    refused("user = \"no-such-user\"", 6, "user of [[server]] web: there is no user \"no-such-");
    refused("group = \"no-such-group\"", 6, "group of [[server]] web: there is no group \"no-");
    refused("user = 0\ngroup = [0, \"no-such-group\"]", 7, "there is no group");
}

#[test]
fn a_server_without_names_has_no_account() {
    assert_eq!(looked_up("", ""), Ok(None));
}

#[test]
fn an_empty_name_is_the_own_user_also_where_there_is_a_default() {
    assert_eq!(looked_up("serverUser = \"root\"", "user = \"\""), Ok(None));
}

#[test]
fn without_root_another_user_or_group_is_refused_and_the_own_one_is_taken() {
    if geteuid().is_root() {
        return println!("skipped: this is about those who are not root");
    }
    let own = geteuid().as_raw();
    assert_eq!(looked_up("", &format!("user = {own}")).unwrap().unwrap().uid, own);
    assert_eq!(looked_up("serverUser = \"root\"", ""), Ok(None), "it is for root only");
    for keys in ["user = \"root\"", "group = \"root\"", "user = 54321"] {
        let error = looked_up("", keys).unwrap_err();
        assert!(error.contains(":6: ") && error.contains("only root can"), "{error}");
    }
}

#[test]
fn root_gets_the_groups_of_the_entry_or_just_those_that_are_named() {
    if !geteuid().is_root() {
        return println!("skipped: only root can be somebody else");
    }
    let account = |keys: &str| looked_up("", keys).unwrap().unwrap();
    let root = account("user = \"root\"");
    assert_eq!((root.uid, root.gid, root.name.as_deref()), (0, 0, Some("root")));
    assert!(root.groups.contains(&0) && root.is_login && root.home.starts_with('/'));
    let bare = account("user = 54321");
    let no_name = (bare.name.clone(), bare.home.as_str(), bare.shell.clone());
    assert_eq!((bare.uid, bare.gid, bare.groups), (54321, 54321, vec![]));
    assert_eq!(no_name, (None, "/", None));
    let named = account("user = 0\ngroup = [7, 8, 9]");
    assert_eq!((named.gid, named.groups), (7, vec![8, 9]));
    let group_only = account("group = 7");
    assert_eq!((group_only.uid, group_only.gid, group_only.is_login), (0, 7, false));
    assert_eq!(looked_up("serverUser = 54321", "").unwrap().unwrap().uid, 54321);
    assert_eq!(looked_up("serverUser = 54321", "user = 5").unwrap().unwrap().uid, 5);
    let error = looked_up("serverUser = \"no-such-user\"", "").unwrap_err();
    assert!(error.starts_with("conf/nodemanager.toml:2: serverUser: there is no user"), "{error}");
}

#[test]
fn what_only_says_that_nobody_logs_in_is_no_shell() {
    assert!(is_shell("/bin/bash") && is_shell("/usr/bin/zsh"));
    for path in ["/usr/sbin/nologin", "/bin/false", "", "bash", "/bin/"] {
        assert!(!is_shell(path), "{path}");
    }
}

/// musl says so where there is no /etc/passwd.
#[test]
fn no_file_with_entries_means_that_there_is_no_entry() {
    for missing in [Errno::ENOENT, Errno::ESRCH] {
        assert_eq!(entry::<u8>(Err(missing)), Ok(None));
    }
    assert_eq!(entry::<u8>(Err(Errno::EIO)), Err(Errno::EIO));
    assert_eq!(entry(Ok(Some(1))), Ok(Some(1)));
}
