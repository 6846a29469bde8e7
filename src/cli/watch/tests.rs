//! Every key, and the screen at several sizes.

use super::model::{Effect, Mode, Model, Page};
use super::screen::{Line, Look, Size, render};
use crate::api::{State, Status};
use crate::cli::control::Action;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::Timestamp;
use serde_json::json;
use unicode_width::UnicodeWidthStr;

fn now() -> Timestamp {
    "2026-11-21T19:44:01Z".parse().unwrap()
}

fn status(servers: &[(&str, &str)]) -> Status {
    let servers: Vec<_> = servers
        .iter()
        .map(|(name, state)| {
            json!({"name": name, "state": state, "wanted": "up", "enabled": true, "pid": null,
                "startedAt": null, "readyAt": null, "adopted": false, "restarts": 0,
                "failCount": 0, "lastExit": null, "reason": null, "nextTryAt": null,
                "waitsFor": null, "statusText": null, "cpuSeconds": null, "rssBytes": null,
                "oomKills": null, "detail": "a long detail 日本 that goes on and on and on and on"})
        })
        .collect();
    let value = json!({"schema": 1, "node": "n", "version": "0.1.0", "pair": "ok",
        "since": "2026-11-21T19:43:01Z", "takeovers": 0, "switchovers": 0, "lastTakeover": null,
        "maintenance": false, "active": null, "standby": null, "keeper": null, "servers": servers});
    serde_json::from_value(value).unwrap()
}

/// Servers s00, s01, ...
fn model(count: usize) -> Model {
    let names: Vec<String> = (0..count).map(|at| format!("s{at:02}")).collect();
    let rows: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "RUNNING")).collect();
    let mut model = Model::default();
    model.on_status(status(&rows));
    model
}

fn press(model: &mut Model, code: KeyCode) -> Effect {
    model.on_key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn typed(model: &mut Model, letter: char) -> Effect {
    press(model, KeyCode::Char(letter))
}

fn drawn(model: &mut Model, columns: usize, lines: usize) -> Vec<Line> {
    render(model, Size { columns, lines }, now())
}

fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{}\n", line.text)).collect()
}

#[test]
fn every_size_has_its_lines_and_none_is_too_wide() {
    for columns in [1, 2, 19, 20, 40, 80, 200] {
        for lines in (0..=12).chain([24, 60]) {
            for page in ["", "?", "\n", "l", "/", "t"] {
                let mut model = model(30);
                model.message = "an event 日本".repeat(20);
                for key in page.chars() {
                    let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
                    press(&mut model, code);
                }
                model.on_log("s00", &"a line 日本 of the log ".repeat(20));
                let drawn = drawn(&mut model, columns, lines);
                assert_eq!(drawn.len(), lines);
                assert!(drawn.iter().all(|line| line.text.width() <= columns), "{drawn:?}");
            }
        }
    }
}

#[test]
fn a_terminal_of_20_by_5_shows_the_pair_the_titles_rows_and_the_keys() {
    let drawn = drawn(&mut model(9), 20, 5);
    let starts: Vec<String> =
        drawn.iter().map(|line| line.text.chars().take(4).collect()).collect();
    assert_eq!(starts, ["n 0.", "NAME", "s00 ", "s01 ", "q qu"]);
    assert_eq!(drawn[2].look, Look::Reverse);
    assert_eq!(drawn[3].state, Some((6..13, State::Running)));
}

#[test]
fn the_selected_row_is_always_on_the_screen() {
    let mut model = model(40);
    drawn(&mut model, 80, 20);
    let keys = [
        (KeyCode::Down, 1),
        (KeyCode::Char('j'), 2),
        (KeyCode::Up, 1),
        (KeyCode::Char('k'), 0),
        (KeyCode::Char('k'), 0),
        (KeyCode::PageDown, 14),
        (KeyCode::Char(' '), 28),
        (KeyCode::PageUp, 14),
        (KeyCode::End, 39),
        (KeyCode::Down, 39),
        (KeyCode::Home, 0),
        (KeyCode::Char('G'), 39),
        (KeyCode::Char('g'), 0),
    ];
    for (key, row) in keys {
        assert_eq!(press(&mut model, key), Effect::Nothing);
        assert_eq!(model.selected_row(), Some(row), "{key:?}");
        let drawn = drawn(&mut model, 80, 20);
        let selected: Vec<_> = drawn
            .iter()
            .filter(|line| line.look == Look::Reverse && line.state.is_some())
            .map(|line| line.text.split(' ').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(selected, [format!("s{row:02}")]);
    }
    let drawn = text(&drawn(&mut model, 80, 20));
    assert!(drawn.contains("[1-14 of 40]  40 servers: 40 up"), "{drawn}");
}

#[test]
fn the_selection_stays_on_its_server_when_rows_come_and_go() {
    let mut model = model(5);
    press(&mut model, KeyCode::End);
    model.on_status(status(&[("new", "RUNNING"), ("s04", "FAILED")]));
    assert_eq!(model.selected.as_deref(), Some("s04"));
    model.on_status(status(&[("new", "RUNNING")]));
    assert_eq!(model.selected.as_deref(), Some("new"));
    model.on_status(status(&[]));
    assert_eq!(model.selected, None);
    for letter in "strRDKcedl\n?q".chars() {
        typed(&mut model, letter);
    }
    drawn(&mut model, 80, 24);
}

#[test]
fn keys_that_do_no_harm_act_at_once_and_others_ask_first() {
    let at_once =
        [('s', Action::Start), ('R', Action::Reload), ('c', Action::Reset), ('e', Action::Enable)];
    for (key, action) in at_once {
        let mut model = model(2);
        assert_eq!(typed(&mut model, key), Effect::Act(action, "s00".into()));
        assert_eq!(model.pending, 1);
        model.on_result("s00: done".into());
        assert_eq!(model.pending, 0);
        assert!(text(&drawn(&mut model, 80, 24)).contains("s00: done"));
    }
    let asked = [
        ('t', Action::Stop),
        ('r', Action::Restart),
        ('D', Action::Drain),
        ('K', Action::Kill),
        ('d', Action::Disable),
    ];
    for (key, action) in asked {
        let mut model = model(2);
        assert_eq!(typed(&mut model, key), Effect::Nothing);
        let question = format!("{} s00? (y/n)", action.name());
        assert!(text(&drawn(&mut model, 80, 24)).contains(&question));
        assert!(text(&drawn(&mut model, 80, 5)).contains(&question));
        assert_eq!(typed(&mut model, 'n'), Effect::Nothing);
        assert_eq!((&model.mode, model.pending), (&Mode::Keys, 0));
        typed(&mut model, key);
        // The answer is for the server that was selected then.
        model.on_status(status(&[("other", "RUNNING")]));
        assert_eq!(typed(&mut model, 'y'), Effect::Act(action, "s00".into()));
    }
}

#[test]
fn a_filter_leaves_names_and_states_and_takes_letters_that_are_keys_otherwise() {
    let mut model = Model::default();
    model.on_status(status(&[("web", "RUNNING"), ("quiz", "FAILED"), ("db", "FAILED")]));
    let names = |model: &Model| -> Vec<String> {
        model.shown().into_iter().map(|one| one.name.clone()).collect()
    };
    typed(&mut model, '/');
    assert_eq!(typed(&mut model, 'q'), Effect::Nothing);
    assert_eq!(names(&model), ["quiz"]);
    assert_eq!(model.selected.as_deref(), Some("quiz"));
    press(&mut model, KeyCode::Backspace);
    "FAIL".chars().for_each(|letter| drop(typed(&mut model, letter)));
    assert_eq!(names(&model), ["quiz", "db"]);
    assert!(text(&drawn(&mut model, 80, 24)).contains("/FAIL_"));
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.mode, Mode::Keys);
    assert_eq!(typed(&mut model, 's'), Effect::Act(Action::Start, "quiz".into()));
    press(&mut model, KeyCode::Esc);
    assert_eq!(names(&model).len(), 3);
    typed(&mut model, '/');
    typed(&mut model, 'x');
    assert_eq!((names(&model).len(), model.selected.clone()), (0, None));
    model.on_key(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL));
    assert_eq!((model.filter.as_str(), names(&model).len()), ("", 3));
    typed(&mut model, 'w');
    press(&mut model, KeyCode::Esc);
    assert_eq!((model.mode.clone(), model.filter.as_str()), (Mode::Keys, ""));
}

#[test]
fn pages_are_opened_and_left() {
    let mut model = model(2);
    for key in ['?', 'h'] {
        typed(&mut model, key);
        assert!(text(&drawn(&mut model, 80, 24)).contains("follow its log"));
        assert_eq!(typed(&mut model, 'q'), Effect::Nothing);
        assert_eq!(model.page, Page::Servers);
    }
    for back in [KeyCode::Enter, KeyCode::Esc, KeyCode::Char('q')] {
        assert_eq!(press(&mut model, KeyCode::Enter), Effect::Detail("s00".into()));
        assert!(text(&drawn(&mut model, 80, 24)).contains("s00: wanted up; no restarts"));
        press(&mut model, KeyCode::End);
        drawn(&mut model, 80, 24);
        press(&mut model, KeyCode::Home);
        assert_eq!(press(&mut model, back), Effect::NoDetail);
    }
    press(&mut model, KeyCode::Enter);
    assert_eq!(typed(&mut model, 'l'), Effect::Follow("s00".into()));
    assert_eq!(typed(&mut model, 'q'), Effect::Unfollow);
    assert_eq!(typed(&mut model, 'q'), Effect::Quit);
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    assert_eq!(model.on_key(control('c')), Effect::Interrupt);
    assert_eq!(model.on_key(control('z')), Effect::Suspend);
    assert_eq!(model.on_key(control('l')), Effect::Redraw);
    assert_eq!(model.on_key(control('x')), Effect::Nothing);
}

#[test]
fn a_log_is_followed_until_it_is_scrolled_back_and_control_characters_are_not_shown() {
    let mut model = model(2);
    typed(&mut model, 'l');
    for number in 0..3000 {
        model.on_log("s00", &format!("line {number}"));
        model.on_log("s00", " ends\n");
    }
    model.on_log("s01", "of another\n");
    let shown = drawn(&mut model, 80, 24);
    assert!(shown[21].text.contains("line 2999 ends"), "{shown:?}");
    assert_eq!(shown[0].text, "log of s00 (follows)");
    press(&mut model, KeyCode::PageUp);
    model.on_log("s00", "evil \x1b[2J\n");
    let shown = text(&drawn(&mut model, 80, 24));
    assert!(!shown.contains("evil") && shown.contains("line 2978 ends"), "{shown}");
    press(&mut model, KeyCode::End);
    let shown = text(&drawn(&mut model, 80, 24));
    assert!(shown.contains("evil ?[2J") && !shown.contains("another"), "{shown}");
    press(&mut model, KeyCode::Home);
    assert!(text(&drawn(&mut model, 80, 24)).contains("line 1001 ends"));
    assert_eq!(press(&mut model, KeyCode::Esc), Effect::Unfollow);
    model.on_log("s00", "late\n");
    assert!(model.log.is_empty());
}

#[test]
fn silence_is_shown_beside_what_was_known_and_ends_with_the_next_answer() {
    let mut model = Model::default();
    assert!(text(&drawn(&mut model, 80, 24)).contains("asking the pair ..."));
    model.on_silence("takeover ... nobody has answered for 1 s".into());
    assert!(text(&drawn(&mut model, 80, 24)).contains("takeover ..."));
    model.on_status(status(&[("web", "RUNNING")]));
    assert!(!text(&drawn(&mut model, 80, 24)).contains("takeover ..."));
    model.on_silence("takeover ... nobody has answered for 1 s".into());
    for lines in [5, 24] {
        let shown = text(&drawn(&mut model, 80, lines));
        assert!(shown.contains("takeover ...") && shown.contains("web"), "{shown}");
    }
}
