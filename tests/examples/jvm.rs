//! Tomcat, with a session of its own.

use super::*;
use support::has_tool;
use tools::exits;

const TOMCAT: u16 = 8484;

fn is_installed() -> bool {
    let home = std::env::var_os("CATALINA_HOME").unwrap_or("/usr/share/tomcat10".into());
    let has_tomcat = Path::new(&home).join("bin/catalina.sh").exists();
    if !has_tomcat {
        println!("skipped: there is no Tomcat in {}", home.display());
    }
    has_tomcat && has_tool("java")
}

#[test]
fn a_session_of_tomcat_outlives_a_takeover_and_a_reload_gives_a_thread_dump() {
    if !is_installed() {
        return;
    }
    let example = Example::new("jvm", &[TOMCAT]);
    let (pair, port) = (&example.pair, example.port(TOMCAT));
    pair.start();
    let tomcat = pair.pids()["tomcat"];
    let (status, text) = get(port, "/", "");
    assert_eq!(status, 200, "{text}");
    let cookie = text.lines().find_map(|line| line.strip_prefix("Set-Cookie: "));
    let cookie = cookie.and_then(|line| line.split(';').next()).expect("a session");
    let cookie = format!("Cookie: {cookie}\r\n");
    let visit = || {
        let (_, text) = get(port, "/", &cookie);
        (number_after(&text, "visit "), number_after(&text, "PID "))
    };
    assert_eq!(visit(), (2, tomcat));
    assert_eq!(example.take_over(visit), (3, tomcat));

    exits(pair, &["reload", "tomcat"], 0);
    wait_until("a thread dump", || pair.output_of("tomcat").contains("Full thread dump"));
    assert_eq!(visit(), (4, tomcat));

    // An end by SIGTERM, whoever sends it, has the status 143, and is none of its failures.
    signal(tomcat, support::SIGTERM);
    let row = pair.wait_state("tomcat", "EXITED");
    assert_eq!((&row["lastExit"]["code"], &row["failCount"]), (&143.into(), &0.into()));
    exits(pair, &["start", "tomcat"], 0);
    assert_eq!(get(port, "/", "").0, 200);
    example.stop();
}
