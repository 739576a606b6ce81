// SPDX-License-Identifier: MIT

use serde_json::{Value, json};

use super::*;
use crate::platform::Code;

const SIZE: (u32, u32) = (640, 360);

fn parsed(map: Value) -> Navigation {
    Navigation::parse(&map.to_string()).unwrap()
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Commands as a list of names with arguments.
fn shown(commands: Vec<ModelCommand>) -> Value {
    let entry = |c: ModelCommand| json!([c.name, c.data]);
    commands.into_iter().map(entry).collect()
}

fn send(navigation: &mut Navigation, at: u64, event: InputEvent) -> Value {
    shown(navigation.commands(ms(at), &event, SIZE))
}

fn press(key: &str) -> InputEvent {
    InputEvent::KeyPress(key.into())
}

fn release(key: &str) -> InputEvent {
    InputEvent::KeyRelease(key.into())
}

fn moved(x: f64) -> InputEvent {
    InputEvent::MouseMove { x, y: 0.5 }
}

fn keys() -> Navigation {
    parsed(json!({
        "key:w": {"move": {"direction": "forward"}},
        "key-release:w": {"stop": {}},
        "key-repeat:r": {"again": {"key": "$key", "down": "$pressed"}},
        "key:*": {"other": {"key": "$key"}},
        "key-release:*": {"up": {"text": "$key is $pressed, $$5 or $5"}},
    }))
}

#[test]
fn key_press_and_release_send_commands() {
    let mut n = keys();
    assert_eq!(
        send(&mut n, 0, press("w")),
        json!([["move", {"direction": "forward"}]])
    );
    assert_eq!(n.deadline(), None);
    assert_eq!(send(&mut n, 50, release("w")), json!([]));
    assert_eq!(n.deadline(), Some(ms(60)));
    assert_eq!(shown(n.flush(ms(59))), json!([]));
    assert_eq!(shown(n.flush(ms(60))), json!([["stop", {}]]));
    assert_eq!(n.deadline(), None);
    assert_eq!(
        send(&mut n, 70, press("q")),
        json!([["other", {"key": "q"}]])
    );
    assert_eq!(send(&mut n, 80, release("q")), json!([]));
    let up = json!([["up", {"text": "q is false, $5 or $5"}]]);
    assert_eq!(shown(n.flush(ms(100))), up);
}

#[test]
fn held_key_is_sent_once() {
    let mut n = keys();
    assert_ne!(send(&mut n, 0, press("w")), json!([]));
    // Repetitions as presses, and as pairs of release and press.
    for at in [500, 530, 560] {
        assert_eq!(send(&mut n, at, press("w")), json!([]));
    }
    for at in [590, 620, 650] {
        assert_eq!(send(&mut n, at, release("w")), json!([]));
        assert_eq!(send(&mut n, at + 1, press("w")), json!([]));
        assert_eq!(n.deadline(), None);
    }
    send(&mut n, 700, release("w"));
    assert_eq!(shown(n.flush(ms(710))), json!([["stop", {}]]));
    assert_ne!(send(&mut n, 720, press("w")), json!([]));
}

#[test]
fn due_release_precedes_next_press() {
    let mut n = keys();
    send(&mut n, 0, press("w"));
    send(&mut n, 50, release("w"));
    // Nobody flushed: the press is late enough to be one of its own.
    assert_eq!(
        send(&mut n, 100, press("w")),
        json!([["stop", {}], ["move", {"direction": "forward"}]])
    );
    send(&mut n, 200, release("w"));
    let both = send(&mut n, 300, press("q"));
    assert_eq!(both, json!([["stop", {}], ["other", {"key": "q"}]]));
}

#[test]
fn lost_release_does_not_block_key() {
    let mut n = keys();
    assert_ne!(send(&mut n, 0, press("w")), json!([]));
    assert_eq!(send(&mut n, 1999, press("w")), json!([]));
    assert_ne!(send(&mut n, 3999, press("w")), json!([]));
}

#[test]
fn key_repeat_pattern_receives_repetitions() {
    let mut n = keys();
    let again = json!([["again", {"key": "r", "down": true}]]);
    let first = json!([["other", {"key": "r"}], ["again", {"key": "r", "down": true}]]);
    assert_eq!(send(&mut n, 0, press("r")), first);
    assert_eq!(send(&mut n, 500, press("r")), again);
    assert_eq!(send(&mut n, 530, release("r")), json!([]));
    assert_eq!(send(&mut n, 530, press("r")), again);
}

#[test]
fn mouse_events_fill_placeholders() {
    let mut n = parsed(json!({
        "mouse-move": {"look": {"x": "$x", "y": "$y"}},
        "mouse-press:1": {"click": {"x": "$x", "y": "$y", "b": "$button", "down": "$pressed"}},
        "mouse-press": [{"any": {"b": "$button"}}],
        "mouse-release": {"up": {"at": ["$nx", {"y": "$ny"}], "down": "$pressed"}},
        "mouse-scroll": {"zoom": {"dx": "$dx", "dy": "$dy", "text": "$dx/$dy at $x,$y"}},
    }));
    let (x, y) = (0.5, 0.25);
    assert_eq!(
        send(&mut n, 0, InputEvent::MouseMove { x, y }),
        json!([["look", {"x": 320, "y": 90}]])
    );
    assert_eq!(
        send(&mut n, 1, InputEvent::MousePress { button: 1, x, y }),
        json!([["click", {"x": 320, "y": 90, "b": 1, "down": true}]])
    );
    assert_eq!(
        send(&mut n, 2, InputEvent::MousePress { button: 3, x, y }),
        json!([["any", {"b": 3}]])
    );
    assert_eq!(
        send(&mut n, 3, InputEvent::MouseRelease { button: 1, x, y }),
        json!([["up", {"at": [0.5, {"y": 0.25}], "down": false}]])
    );
    let (dx, dy) = (0.0, -1.5);
    assert_eq!(
        send(&mut n, 4, InputEvent::Scroll { x, y, dx, dy }),
        json!([["zoom", {"dx": 0.0, "dy": -1.5, "text": "0/-1.5 at 320,90"}]])
    );
}

#[test]
fn coordinates_outside_picture_are_clamped() {
    let mut n = parsed(json!({"mouse-press": {"a": {"p": "$x,$y,$nx"}}}));
    for (x, y, expected) in [
        (0.0, 0.0, "0,0,0"),
        (1.0, 1.0, "639,359,1"),
        (-5.0, 5.0, "0,359,0"),
        (0.9999, 0.5, "639,180,0.9999"),
        (f64::INFINITY, f64::NEG_INFINITY, "639,0,1"),
    ] {
        let sent = send(&mut n, 0, InputEvent::MousePress { button: 1, x, y });
        assert_eq!(sent, json!([["a", {"p": expected}]]));
    }
    for (x, y) in [(f64::NAN, 0.0), (0.0, f64::NAN)] {
        let sent = send(&mut n, 0, InputEvent::MousePress { button: 1, x, y });
        assert_eq!(sent, json!([]));
    }
    let mut n = parsed(json!({"mouse-scroll": [{"a": {"x": "$x"}}, {"b": {"x": "$nx"}}]}));
    let scroll = |dx| InputEvent::Scroll {
        x: 0.5,
        y: 0.5,
        dx,
        dy: 0.0,
    };
    assert_eq!(send(&mut n, 0, scroll(f64::NAN)), json!([]));
    // Nothing is known of the picture yet.
    let sent = n.commands(ms(0), &scroll(0.0), (0, 0));
    assert_eq!(shown(sent), json!([["b", {"x": 0.5}]]));
}

#[test]
fn mouse_moves_are_throttled_and_last_one_is_sent() {
    let mut n = parsed(json!({"mouse-move": {"look": {"x": "$nx"}}}));
    let mut sent = Vec::new();
    for at in 0..1000_u32 {
        let now = ms(u64::from(at));
        sent.extend(n.commands(now, &moved(f64::from(at) / 1000.0), SIZE));
    }
    assert!((58..=61).contains(&sent.len()), "{}", sent.len());
    let due = n.deadline().unwrap();
    assert!(n.flush(due - Duration::from_nanos(1)).is_empty());
    assert_eq!(shown(n.flush(due)), json!([["look", {"x": 0.999}]]));
    assert_eq!(n.deadline(), None);
    assert!(n.flush(due).is_empty());
}

#[test]
fn click_follows_pending_move() {
    let mut n = parsed(json!({
        "mouse-move": {"look": {"x": "$nx"}}, "mouse-press": {"click": {}},
    }));
    send(&mut n, 100, moved(0.1));
    assert_eq!(send(&mut n, 101, moved(0.2)), json!([]));
    let (button, x, y) = (1, 0.2, 0.5);
    let sent = send(&mut n, 102, InputEvent::MousePress { button, x, y });
    assert_eq!(sent, json!([["look", {"x": 0.2}], ["click", {}]]));
    assert_eq!(n.deadline(), None);
}

#[test]
fn clock_going_backwards_still_sends_moves() {
    let mut n = parsed(json!({"mouse-move": {"look": {}}, "key:w": {"w": {}}}));
    assert_eq!(send(&mut n, 10_000, moved(0.1)), json!([["look", {}]]));
    assert_eq!(send(&mut n, 5, moved(0.1)), json!([["look", {}]]));
    assert_eq!(send(&mut n, 30, moved(0.1)), json!([["look", {}]]));
}

#[test]
fn held_keys_are_bounded() {
    let mut n = keys();
    for at in 0..10_000 {
        send(&mut n, 0, press(&format!("k{at}")));
    }
    assert_eq!(n.held_keys.len(), MAX_HELD);
    let mut released = 0;
    for at in 0..10_000 {
        let sent = n.commands(ms(0), &release(&format!("k{at}")), SIZE);
        released += sent.len();
    }
    assert_eq!(n.pending_releases.len(), MAX_HELD);
    assert_eq!(released + n.flush(ms(10)).len(), 10_000);
}

#[test]
fn pattern_with_several_commands_keeps_order_and_names_no_file() {
    let mut n = parsed(json!({"key:a": [
        {"first": {"a": "$key", "image": "@file:$key.png"}}, {"second": null},
    ]}));
    let commands = n.commands(ms(0), &press("a"), SIZE);
    assert!(commands.iter().all(|command| command.files.is_empty()));
    assert_eq!(
        shown(commands),
        json!([["first", {"a": "a", "image": "@file:a.png"}], ["second", {}]])
    );
    let mut ordered = Navigation::parse(r#"{"key:a":{"z":{},"a":{}}}"#).unwrap();
    let commands = ordered.commands(ms(0), &press("a"), SIZE);
    assert_eq!(shown(commands), json!([["z", {}], ["a", {}]]));
}

#[test]
fn blank_mapping_sends_nothing() {
    for text in ["", "  ", "{}"] {
        let mut n = Navigation::parse(text).unwrap();
        assert!(n.is_empty());
        assert_eq!(send(&mut n, 0, press("w")), json!([]));
        assert_eq!(send(&mut n, 0, moved(0.5)), json!([]));
        assert_eq!(n.deadline(), None);
    }
}

#[test]
fn mapping_refused_names_what_is_allowed() {
    for (text, part) in [
        (
            "[]",
            "the navigation is not an object; expected one such as",
        ),
        ("{", "the navigation is not JSON5: line 1, column 2"),
        (
            "{\"w\":{}}",
            "\"w\" is not an event; expected one of key:NAME",
        ),
        ("{\"key:\":{}}", "is not an event"),
        ("{\"key\":{}}", "is not an event"),
        ("{\"mouse-move:1\":{}}", "is not an event"),
        ("{\"mouse-press:\":{}}", "is not an event"),
        ("{\"mouse-press:left\":{}}", "is not an event"),
        ("{\"Key:w\":{}}", "is not an event"),
        ("{\"key:w\":{},\"key:w\":{}}", "\"key:w\" is there twice"),
        (
            "{\"mouse-press\":{},\"mouse-press:*\":{}}",
            "is there twice",
        ),
        (
            "{\"mouse-press:1\":{},\"mouse-press:01\":{}}",
            "is there twice",
        ),
        (
            "{\"key:w\":5}",
            "navigation: \"key:w\" is an integer; expected",
        ),
        (
            "{\"key:w\":{\"a\":5}}",
            "\"key:w\": the arguments of \"a\" are an integer",
        ),
        (
            "{\"key:w\":{\"a\":{\"b\":[\"$dx\"]}}}",
            "\"key:w\", command \"a\": \"$dx\" is not known for this event; there are $key, $pressed",
        ),
        (
            "{\"mouse-move\":{\"a\":{\"b\":\"$xy\"}}}",
            "\"$xy\" is not a placeholder; there are $x, $y, $nx, $ny ($$ is a plain $)",
        ),
    ] {
        let error = Navigation::parse(text).unwrap_err();
        assert_eq!(error.code, Code::BadRequest);
        assert!(error.message.contains(part), "{text}: {error}");
    }
}

#[test]
fn key_name_may_be_any_text() {
    for key in [":", "a:b", "é", "*x", " "] {
        let mut n = parsed(json!({ format!("key:{key}"): {"a": {}} }));
        assert_eq!(send(&mut n, 0, press(key)), json!([["a", {}]]), "{key}");
        assert_eq!(send(&mut n, 0, press("z")), json!([]), "{key}");
    }
}
