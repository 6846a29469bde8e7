//! What a server gets in place of the node manager's own.

use super::*;
use crate::config::identity::{Account, Limit};

const ORIGINALS: Originals = Originals { nofile: (11, 22), umask: 0o22, oom_score_adj: None };

fn account() -> Account {
    Account {
        uid: 33,
        gid: 33,
        groups: vec![33],
        is_login: true,
        name: Some("www".to_owned()),
        home: "/var/www".to_owned(),
        shell: None,
    }
}

#[test]
fn a_user_replaces_what_says_who_somebody_is_and_a_group_alone_does_not() {
    let mut env: BTreeMap<OsString, OsString> =
        LOGIN.iter().map(|name| (name.into(), "root's".into())).collect();
    env.insert("PATH".into(), "/bin".into());
    let before = env.clone();
    let group_only = Account { is_login: false, ..account() };
    add_login(&Identity { account: Some(group_only), ..Identity::default() }, &mut env);
    assert_eq!(env, before);
    add_login(&Identity { account: Some(account()), ..Identity::default() }, &mut env);
    let wanted = [("HOME", "/var/www"), ("LOGNAME", "www"), ("PATH", "/bin"), ("USER", "www")];
    assert_eq!(env, wanted.map(|(name, value)| (name.into(), value.into())).into());
}

#[test]
fn the_number_of_descriptors_is_the_original_one_unless_it_is_asked_for() {
    let plain = rights(&Identity::default(), &ORIGINALS);
    assert_eq!(plain.limits, [(Resource::RLIMIT_NOFILE, 11, 22)]);
    assert_eq!((plain.credentials, plain.output_owner, plain.nice), (None, None, None));
    let limit = |name: &str, soft, hard| Limit { name: name.to_owned(), soft, hard };
    let limits = vec![limit("core", 0, UNLIMITED), limit("nofile", 5, 6)];
    let asked = rights(&Identity { limits, ..Identity::default() }, &ORIGINALS);
    let wanted = [(Resource::RLIMIT_CORE, 0, RLIM_INFINITY), (Resource::RLIMIT_NOFILE, 5, 6)];
    assert_eq!(asked.limits, wanted);
}
