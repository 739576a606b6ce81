// SPDX-License-Identifier: MIT

use std::fs;

use serde_json::json;

use super::*;

fn value(text: &str) -> Value {
    parse(text, "it").unwrap().into_value()
}

fn refusal(text: &str) -> String {
    let error = parse(text, "it").unwrap_err();
    assert_eq!(error.code, Code::BadRequest, "{text}");
    error.message
}

#[test]
fn json5_is_taken_and_json_stays_what_it_is() {
    let typed = "[{set_prompt:{prompt:'a forest, at dawn'}},{start:{}},]";
    let expected = json!([{"set_prompt": {"prompt": "a forest, at dawn"}}, {"start": {}}]);
    assert_eq!(value(typed), expected);
    let typed = "// a show\n{a: +1, b: .5, c: 0xff, /* ... */ 'd': \"it's\", \"e\": 'say \"hi\"', \
                 f: 'it\\'s 🌲', g: null, h: 'a\\\n b'}";
    let expected = json!({"a": 1, "b": 0.5, "c": 255, "d": "it's", "e": "say \"hi\"",
        "f": "it's 🌲", "g": null, "h": "a b"});
    assert_eq!(value(typed), expected);
    for strict in [
        json!({"null": null, "bool": true, "int": -3, "big": u64::MAX, "least": i64::MIN}),
        json!([1.5, 1e300, "é\n\u{1F600}", [[], {}], {"a": {"b": [0]}}]),
        json!("text"),
    ] {
        assert_eq!(value(&strict.to_string()), strict);
    }
}

#[test]
fn members_keep_their_order_and_names() {
    let JsonNode::Object(members) = parse("{b: 1, a: 2, b: 3}", "it").unwrap() else {
        panic!("no object");
    };
    let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b", "a", "b"]);
}

#[test]
fn error_names_line_and_column() {
    for (text, expected) in [
        ("[{a:{}},\n {b {}}]", "line 2, column 5: expected colon"),
        ("hello", "line 1, column 1: expected value"),
        ("{a:{}} x", "line 1, column 8: trailing characters"),
        ("[1e999]", "line 1, column 2: a number that is infinite"),
        ("[NaN]", "line 1, column 2: a number that is infinite"),
        ("[01]", "line 1, column 2: leading zero"),
        ("{a:1 b:2}", "line 1, column 6: expected comma"),
        ("['a\nb']", "line 1, column 4: line terminator in string"),
    ] {
        let message = refusal(text);
        let expected = format!("it is not JSON5: {expected}");
        assert!(message.starts_with(&expected), "{text}: {message}");
        let quoted = text.contains('\'') || !text.starts_with(['[', '{']);
        assert_eq!(message.contains("@FILE"), !quoted, "{message}");
    }
}

#[test]
fn cut_text_is_told_how_to_quote() {
    for (text, column) in [
        ("[{\"set_prompt\":{\"prompt\":\"a", 28),
        ("[{set_prompt:{prompt:'a", 24),
        ("[{set_prompt:{prompt:", 22),
        ("[{set_prompt:{prompt:'a'}", 26),
        ("[{set_pr", 9),
        ("[1,\n{a:tr", 6),
    ] {
        let message = refusal(text);
        let expected = format!("column {column}: the text ends within the ");
        assert!(message.contains(&expected), "{text}: {message}");
        assert!(message.contains("@FILE"), "{message}");
        assert!(looks_cut(text), "{text}");
    }
    // The shell took the quotes.
    let message = refusal("[{set_prompt:{prompt:a forest}}]");
    assert!(message.contains("column 22: expected value; "), "{message}");
    assert!(message.contains("@FILE"), "{message}");
    for whole in ["", " ", "[]", "{a:1}", "x", "[NaN]", "[1e999]", "@file"] {
        assert!(!looks_cut(whole), "{whole}");
    }
}

#[test]
fn hostile_text_is_refused_and_never_panics() {
    for bracket in ["[", "{a:", "[{\"a\":"] {
        let message = refusal(&bracket.repeat(100_000));
        assert!(message.contains("127 values inside"), "{message}");
    }
    let deepest = format!("{}{}", "[".repeat(127), "]".repeat(127));
    assert!(parse(&deepest, "it").is_ok());
    let bytes = "[]{}:,'\"\\/*+-.0x1eNI\n\u{2028}🌲ua@ ";
    let chars: Vec<_> = bytes.chars().collect();
    let mut state = 7u32;
    for _ in 0..50_000 {
        let text: String = (0..12)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                chars[(state >> 16) as usize % chars.len()]
            })
            .collect();
        let _ = (parse(&text, "it"), looks_cut(&text));
    }
}

#[test]
fn text_may_be_in_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("show one.json5");
    fs::write(&path, "[{set_prompt:{prompt:\"it's a forest\"}}]\n").unwrap();
    let named = format!(" @{} ", path.display());
    let text = resolve_file(named, "the property commands").unwrap();
    assert!(text.contains("it's a forest"));
    for text in ["[]", "", "{a:'@b'}"] {
        assert_eq!(resolve_file(text.into(), "it").unwrap(), text);
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    for (name, says) in [
        (path.display().to_string(), "is not UTF-8"),
        (directory.path().display().to_string(), "is a directory"),
        ("/nowhere/x".into(), "there is no file \"/nowhere/x\""),
        (String::new(), "no file is named"),
    ] {
        let error = resolve_file(format!("@{name}"), "the property commands").unwrap_err();
        assert_eq!(error.code, Code::BadRequest);
        let message = error.message;
        assert!(message.starts_with("the property commands: "), "{message}");
        assert!(message.contains(says), "{message}");
    }
}
