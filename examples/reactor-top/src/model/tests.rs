// SPDX-License-Identifier: MIT

use serde_json::json;

use super::*;

/// The control room with one session whose schema is known.
pub fn app() -> App {
    let mut app = App::new(vec!["rk_secret".to_owned()]);
    feed(
        &mut app,
        Input::SessionAdded {
            name: "model".to_owned(),
            server: "localhost:8080".to_owned(),
        },
    );
    app.sessions[0].schema = Some(schema::tests::playground());
    app
}

pub fn feed(app: &mut App, input: Input) -> Vec<Effect> {
    let now = Moment {
        clock: "12:00:00".to_owned(),
        elapsed: app.now.elapsed + Duration::from_millis(10),
    };
    app.handle(now, input)
}

pub fn type_line(app: &mut App, line: &str) -> Vec<Effect> {
    for c in line.chars() {
        feed(app, Input::Key(KeyCode::Char(c).into()));
    }
    feed(app, Input::Key(KeyCode::Enter.into()))
}

fn event(app: &mut App, event: SessionEvent) {
    feed(app, Input::Session(0, event));
}

fn newest(app: &App) -> (Kind, &str) {
    let message = app.messages.upwards().next().expect("a message");
    (message.kind, &message.text)
}

fn status(app: &mut App, status: &str) {
    event(
        app,
        SessionEvent::Status {
            status: status.to_owned(),
            id: Some("abc".to_owned()),
        },
    );
}

#[test]
fn typed_command_is_sent_and_its_reply_shown() {
    let mut app = app();
    let effects = type_line(&mut app, "set_prompt a forest");
    let arguments = json!({"prompt": "a forest"})
        .as_object()
        .cloned()
        .unwrap_or_default();
    let name = "set_prompt".to_owned();
    assert_eq!(
        effects,
        [Effect::Send {
            session: 0,
            id: 1,
            name,
            arguments
        }]
    );
    assert_eq!(newest(&app), (Kind::Command, "set_prompt a forest"));
    event(
        &mut app,
        SessionEvent::Reply {
            id: 1,
            outcome: Ok(None),
        },
    );
    assert_eq!(newest(&app), (Kind::Reply, "set_prompt: done (10 ms)"));
    // An answer comes once.
    event(
        &mut app,
        SessionEvent::Reply {
            id: 1,
            outcome: Err("x".to_owned()),
        },
    );
    assert_eq!(newest(&app).0, Kind::Reply);
    let effects = type_line(&mut app, "[{fail:{}},{fail:{}}]");
    assert_eq!(effects.len(), 2);
    event(
        &mut app,
        SessionEvent::Reply {
            id: 3,
            outcome: Err("told_to_fail".to_owned()),
        },
    );
    assert_eq!(newest(&app), (Kind::Error, "fail: told_to_fail (10 ms)"));
}

#[test]
fn wrong_line_is_not_sent() {
    let mut app = app();
    assert_eq!(type_line(&mut app, "set_promt x"), []);
    assert_eq!(
        newest(&app),
        (
            Kind::Error,
            "no command set_promt: did you mean set_prompt?"
        )
    );
    assert_eq!(type_line(&mut app, "   "), []);
    let mut empty = App::default();
    assert_eq!(type_line(&mut empty, "x {}"), []);
    assert_eq!(
        newest(&empty),
        (Kind::Error, "there is no session to send it to")
    );
    assert_eq!(type_line(&mut empty, ":reconnect"), []);
    for key in [
        KeyCode::F(1),
        KeyCode::F(2),
        KeyCode::Tab,
        KeyCode::Up,
        KeyCode::PageUp,
    ] {
        feed(&mut empty, Input::Key(key.into()));
    }
}

#[test]
fn leaving_ends_the_session_first() {
    for key in ['c', 'q', 'd'] {
        let mut app = app();
        let press = || KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
        assert_eq!(feed(&mut app, Input::Key(press())), [Effect::Stop]);
        assert_eq!(feed(&mut app, Input::Stopped), [Effect::Leave]);
        assert_eq!(feed(&mut app, Input::Key(press())), [Effect::Leave]);
    }
    assert_eq!(type_line(&mut app(), "q"), [Effect::Stop]);
    assert_eq!(feed(&mut app(), Input::Leave), [Effect::Stop]);
}

#[test]
fn failure_stops_and_can_be_restarted() {
    let mut app = app();
    let failed = |text: &str| Input::Failed {
        source: "model".to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(
        feed(&mut app, failed("nothing answers rk_secret")),
        [Effect::Stop]
    );
    assert_eq!(newest(&app), (Kind::Error, "model: nothing answers •••"));
    assert_eq!(feed(&mut app, failed("stream stopped")), []);
    feed(&mut app, Input::Stopped);
    assert!(matches!(&app.run, Run::Failed(text) if text.contains("nothing answers")));
    assert_eq!(type_line(&mut app, "fail"), []);
    assert_eq!(type_line(&mut app, ":restart"), [Effect::Restart]);
    feed(&mut app, Input::Stopped);
    feed(&mut app, Input::Started);
    assert_eq!(app.run, Run::Playing);
    assert_eq!(feed(&mut app, Input::EndOfStream), [Effect::Stop]);
    feed(&mut app, Input::Stopped);
    assert_eq!(app.run, Run::Ended);
}

#[test]
fn outage_is_shown_until_it_is_over() {
    let mut app = app();
    status(&mut app, "ready");
    assert!(app.sessions[0].ready_since.is_some());
    event(&mut app, SessionEvent::Interrupted("no media".to_owned()));
    status(&mut app, "waiting");
    assert!(app.sessions[0].is_interrupted && app.sessions[0].ready_since.is_none());
    status(&mut app, "ready");
    event(
        &mut app,
        SessionEvent::Resumed {
            outage_ms: 1200,
            restarted: false,
        },
    );
    assert_eq!(
        newest(&app),
        (
            Kind::Status,
            "connected again after 1.2 s: the same session"
        )
    );
    let session = &app.sessions[0];
    assert_eq!((session.is_interrupted, session.outages), (false, 1));
    status(&mut app, "disconnected");
    assert_eq!(app.sessions[0].id, None);
}

#[test]
fn next_session_is_steered() {
    let mut app = app();
    feed(
        &mut app,
        Input::SessionAdded {
            name: "other".to_owned(),
            server: String::new(),
        },
    );
    feed(&mut app, Input::Key(KeyCode::F(2).into()));
    let effects = type_line(&mut app, "jump {}");
    assert!(
        matches!(effects[0], Effect::Send { session: 1, .. }),
        "{effects:?}"
    );
    event(&mut app, SessionEvent::Ended("crash".to_owned()));
    assert_eq!(
        newest(&app),
        (Kind::Warning, "model: the session ended: crash")
    );
    assert_eq!(type_line(&mut app, ":next"), []);
    assert_eq!(app.shown, 0);
    feed(&mut app, Input::Session(7, SessionEvent::Joined));
}

#[test]
fn hint_says_how_the_command_is_typed() {
    let mut app = app();
    assert!(app.hint().contains("F1 help"));
    feed(&mut app, Input::Key(KeyCode::F(1).into()));
    feed(&mut app, Input::Key(KeyCode::PageUp.into()));
    assert_eq!(app.hint(), "5 newer messages are below: PgDn");
    feed(&mut app, Input::Key(KeyCode::PageDown.into()));
    app.prompt.paste("set_brightness 0.");
    assert_eq!(
        app.hint(),
        "set_brightness [brightness=<number -1..1 = 0.5>]  Make it brighter."
    );
    feed(&mut app, Input::Key(KeyCode::Esc.into()));
    app.prompt.paste(":restart");
    assert!(app.hint().contains("plays it again"));
}
