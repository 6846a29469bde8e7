//! What an init system hears, and when.

use super::*;
use std::os::unix::net::UnixDatagram;

/// A keeper's messages and the socket where they arrive.
fn heard_init() -> (Init, impl Fn() -> String) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    let name = format!("nm-test-init-{}-{number}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("socket");
    let hearer = UnixDatagram::bind(&path).unwrap();
    hearer.set_nonblocking(true).unwrap();
    let sender = Sender::new(path.as_os_str()).unwrap();
    let guard = Removed(dir);
    let hear = move || {
        let _ = &guard;
        let mut buffer = [0; 1024];
        let mut all = Vec::new();
        while let Ok(length) = hearer.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if !text.starts_with("EXTEND") {
                all.push(text.replace('\n', " "));
            }
        }
        all.join("|")
    };
    (Init::new(Ms(0), Some(sender)), hear)
}

struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn seen(pid: i32, role: Role) -> Seen {
    Seen { pid, start_ticks: 1, role, counter: 1 }
}

const END_MS: u64 = 120_000;

#[test]
fn it_is_told_ready_only_when_all_is_up_and_then_each_change_of_roles_once() {
    let (mut init, hear) = heard_init();
    init.see([seen(10, Role::Serving), seen(11, Role::Standby)], false);
    init.speak(Ms(100), END_MS);
    init.judged = Some(Judged::NotYet("not up yet: web".to_string()));
    init.speak(Ms(200), END_MS);
    assert_eq!(hear(), "");
    init.judged = Some(Judged::Whole);
    init.speak(Ms(300), END_MS);
    init.speak(Ms(400), END_MS);
    assert_eq!(hear(), "READY=1 STATUS=active 10, standby 11");
    init.see([seen(10, Role::Serving), seen(11, Role::Promoting)], false);
    init.see([seen(0, Role::None), seen(11, Role::Promoting)], false);
    init.speak(Ms(500), END_MS);
    init.see([seen(12, Role::Standby), seen(11, Role::Serving)], false);
    init.speak(Ms(600), END_MS);
    init.speak(Ms(700), END_MS);
    assert_eq!(hear(), "STATUS=11 takes over|STATUS=active 11, standby 12");
}

#[test]
fn a_start_that_takes_too_long_is_told_as_it_is_but_never_without_an_active() {
    let limit = Ms(WHOLE_LIMIT.as_millis() as u64);
    let (mut init, hear) = heard_init();
    init.see([seen(10, Role::Starting), seen(0, Role::None)], false);
    init.speak(limit, END_MS);
    assert_eq!(hear(), "");
    init.see([seen(10, Role::Serving), seen(0, Role::None)], false);
    init.judged = Some(Judged::NotYet("not up yet: web".to_string()));
    init.speak(limit, END_MS);
    assert_eq!(hear(), "READY=1 STATUS=active 10; not up yet: web");
}

#[test]
fn a_server_that_fails_does_not_keep_the_unit_from_being_ready_and_its_text_stays_one_line() {
    let (mut init, hear) = heard_init();
    init.see([seen(10, Role::Serving), seen(0, Role::None)], false);
    init.judged = Some(Judged::Failed("web: FAILED\nREADY=1\nMAINPID=1".to_string()));
    init.speak(Ms(100), END_MS);
    assert_eq!(hear(), "READY=1 STATUS=active 10; web: FAILEDREADY=1MAINPID=1");
}

#[test]
fn a_reload_is_told_from_its_begin_to_its_end_and_only_when_ready() {
    let (mut init, hear) = heard_init();
    init.see([seen(10, Role::Serving), seen(0, Role::None)], false);
    init.say_reloading(Ms(1));
    assert_eq!(hear(), "");
    init.judged = Some(Judged::Whole);
    init.speak(Ms(100), END_MS);
    hear();
    init.say_reloading(Ms(200));
    init.speak(Ms(300), END_MS);
    let text = hear();
    assert!(text.starts_with("RELOADING=1 MONOTONIC_USEC="), "{text}");
    assert!(!text.contains('|') && init.deadline() > Ms(200), "{text}");
    init.judged = Some(Judged::Whole);
    init.speak(Ms(500), END_MS);
    assert_eq!(hear(), "READY=1 STATUS=active 10");
    assert_eq!(init.deadline(), Ms(u64::MAX));
}

#[test]
fn an_end_is_told_once_whoever_asked_for_it() {
    for by_signal in [false, true] {
        let (mut init, hear) = heard_init();
        init.see([seen(10, Role::Serving), seen(0, Role::None)], false);
        init.judged = Some(Judged::Whole);
        init.speak(Ms(100), END_MS);
        hear();
        if by_signal {
            init.say_stopping(Ms(200));
        }
        init.see([seen(10, Role::Serving), seen(0, Role::None)], true);
        init.see([seen(0, Role::None), seen(0, Role::None)], true);
        init.say_stopping(Ms(300));
        init.speak(Ms(300), END_MS);
        assert_eq!(hear(), "STOPPING=1 STATUS=the pair is ending");
    }
}

#[test]
fn more_time_is_asked_for_while_an_end_goes_on_but_not_for_ever() {
    let (mut init, hear) = heard_init();
    init.say_stopping(Ms(0));
    hear();
    init.speak(Ms(10), 1_000);
    assert_eq!(init.extend_at, Ms(10 + EXTEND_EVERY_MS));
    init.speak(Ms(1_000 + END_LIMIT_MS), 1_000);
    assert_eq!(init.extend_at, Ms(10 + EXTEND_EVERY_MS));
}

#[test]
fn what_could_not_be_sent_is_sent_later() {
    let (mut init, hear) = heard_init();
    let full = Sender::new(std::ffi::OsStr::new("/nowhere/at/all")).unwrap();
    let real = init.sender.replace(full);
    init.judged = Some(Judged::Whole);
    init.speak(Ms(100), END_MS);
    assert!(init.owed.is_some() && init.deadline() < Ms(u64::MAX));
    init.sender = real;
    init.speak(Ms(200), END_MS);
    assert_eq!((hear().as_str(), init.owed), ("READY=1 STATUS=", None));
}
