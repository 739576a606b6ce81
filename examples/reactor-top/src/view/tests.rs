// SPDX-License-Identifier: MIT

use ratatui::{Terminal, backend::TestBackend};
use serde_json::json;

use super::*;
use crate::model::{
    Input, Level, Moment, Picture,
    session::SessionEvent,
    stats,
    tests::{app, feed, type_line},
};

fn screen(app: &App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, app)).expect("a picture");
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width).max(1));
    let text =
        |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect::<String>();
    rows.map(|row| text(row).trim_end().to_owned()).collect()
}

/// Ready for 75 s, with statistics and some messages.
fn busy_app() -> App {
    let mut app = app();
    let status = SessionEvent::Status {
        status: "ready".to_owned(),
        id: Some("abc".to_owned()),
    };
    feed(&mut app, Input::Session(0, status));
    for n in 0..5 {
        let event = SessionEvent::Stats {
            element: "src".to_owned(),
            main: true,
            fields: stats::tests::sample(n),
        };
        feed(&mut app, Input::Session(0, event));
    }
    type_line(&mut app, "set_prompt a forest 🌲");
    feed(
        &mut app,
        Input::Session(
            0,
            SessionEvent::Reply {
                id: 1,
                outcome: Ok(None),
            },
        ),
    );
    let data = json!({"prompt": "a forest 🌲"}).to_string();
    feed(
        &mut app,
        Input::Session(
            0,
            SessionEvent::Said {
                kind: "prompt_changed".to_owned(),
                data,
            },
        ),
    );
    let rgb = [255, 0, 0].repeat(64 * 36);
    feed(
        &mut app,
        Input::Picture(Picture {
            width: 64,
            height: 36,
            rgb,
        }),
    );
    feed(
        &mut app,
        Input::Levels(vec![
            Level {
                rms: -30.0,
                peak: -10.0,
            },
            Level {
                rms: f64::NEG_INFINITY,
                peak: 0.0,
            },
        ]),
    );
    app.now = Moment {
        elapsed: app.now.elapsed + Duration::from_secs(75),
        ..Moment::default()
    };
    app
}

#[test]
fn everything_is_on_a_usual_screen() {
    let mut app = busy_app();
    app.prompt.paste("set_b");
    feed(
        &mut app,
        Input::Key(ratatui::crossterm::event::KeyCode::Tab.into()),
    );
    let rows = screen(&app, 100, 24);
    let text = rows.join("\n");
    for said in [
        "READY  0:01:15  ends in 1:02:03  model playground  server localhost:8080  session abc",
        "session 130 ms › ready 562 ms  udp, direct  reconnects 1, last outage 1.2 s",
        "received  1.82 Mbit/s",
        "round trip  2.7 ms",
        "lost packets  1.0 /s",
        "video_main_video     640x360   29.7  1.72 Mbit/s",
        "12:00:00 > set_prompt a forest 🌲",
        "12:00:00 < set_prompt: done (10 ms)",
        "prompt_changed {\"prompt\":\"a forest",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
    assert!(text.contains('█'), "no sparkline:\n{text}");
    assert_eq!(rows.last().map(String::as_str), Some("> set_brightness"));
    assert!(
        rows[22].starts_with("set_brightness [brightness=<number -1..1 = 0.5>]"),
        "{text}"
    );
}

#[test]
fn candidates_are_listed() {
    let mut app = app();
    app.prompt.paste("set_p");
    let tab = || Input::Key(ratatui::crossterm::event::KeyCode::Tab.into());
    feed(&mut app, tab());
    assert_eq!(screen(&app, 60, 10)[8], "set_paused  set_prompt");
    feed(&mut app, tab());
    feed(&mut app, tab());
    assert_eq!(screen(&app, 60, 10)[8..], ["set_prompt", "> set_prompt"]);
}

#[test]
fn no_size_is_too_small() {
    let mut app = busy_app();
    app.prompt.paste("set_prompt 🌲🌲🌲🌲🌲🌲🌲🌲🌲🌲🌲🌲");
    for width in [0, 1, 2, 3, 10, 23, 24, 60, 130, 400] {
        for height in (0..22).chain([300]) {
            screen(&app, width, height);
        }
    }
    assert_eq!(screen(&app, 10, 3)[0], " READY  0:");
    assert!(screen(&app, 10, 3)[2].starts_with("> 🌲"));
    assert_eq!(screen(&App::default(), 20, 2), [" NO SESSION", ">"]);
}

#[test]
fn failure_and_outage_are_seen() {
    let mut app = busy_app();
    feed(
        &mut app,
        Input::Session(0, SessionEvent::Interrupted("no media".to_owned())),
    );
    assert!(screen(&app, 80, 24)[0].contains("RECONNECTING   outages 1"));
    let text = "nothing answers at http://localhost:8080".to_owned();
    feed(
        &mut app,
        Input::Failed {
            source: "model".to_owned(),
            text,
        },
    );
    let rows = screen(&app, 80, 24);
    assert!(
        rows[0].starts_with(" FAILED  model: nothing answers"),
        "{rows:?}"
    );
}

#[test]
fn picture_and_loudness_are_beside_the_messages() {
    let app = busy_app();
    let rows = screen(&app, 120, 40);
    let half_blocks = rows.iter().filter(|row| row.ends_with("▀▀▀▀▀▀▀▀")).count();
    assert_eq!(half_blocks, 14, "{rows:#?}");
    let text = rows.join("\n");
    assert!(text.contains("██·") && text.contains("-30 dB"), "{text}");
    assert!(text.contains("quiet"), "{text}");
    assert!(!screen(&app, 60, 40).join("").contains('▀'));
}
