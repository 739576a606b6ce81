// SPDX-License-Identifier: MIT

use serde_json::json;

use super::*;

fn parse(text: &str) -> Vec<ModelCommand> {
    ModelCommand::parse_list(text).unwrap()
}

fn names(text: &str) -> Vec<String> {
    parse(text).into_iter().map(|c| c.name).collect()
}

fn refusal(text: &str) -> String {
    let error = ModelCommand::parse_list(text).unwrap_err();
    assert_eq!(error.code, Code::BadRequest, "{text}");
    assert_eq!(error.operation, Some("commands"));
    error.message
}

#[test]
fn command_list_is_parsed_in_order() {
    let list = parse(
        r#"[{"set_prompt":{"prompt":"hi"}},{"set_image":{"image":"@file:cat.png","s":0.5}},
            {"start":{}}, {"stop":null}]"#,
    );
    assert_eq!(list.len(), 4);
    assert_eq!(list[0].name, "set_prompt");
    assert_eq!(Value::from(list[0].data.clone()), json!({"prompt": "hi"}));
    assert_eq!(list[1].files["image"], CommandFile::Local("cat.png".into()));
    assert_eq!(Value::from(list[1].data.clone()), json!({"s": 0.5}));
    for bare in &list[2..] {
        assert!(bare.data.is_empty() && bare.files.is_empty());
    }
}

#[test]
fn command_object_keeps_written_order() {
    let text = r#"{"set_prompt":{"prompt":"hi"},"start":{},"a":null,"start":{"again":true}}"#;
    assert_eq!(names(text), ["set_prompt", "start", "a", "start"]);
    assert_eq!(parse(text)[3].data["again"], true);
}

#[test]
fn blank_text_is_no_command() {
    for text in ["", " \n\t", "[]", "{}"] {
        assert!(parse(text).is_empty(), "{text:?}");
    }
}

#[test]
fn argument_of_any_kind_is_kept() {
    let arguments = json!({
        "null": null, "bool": true, "int": -3, "big": u64::MAX, "float": 1.5, "text": "é\n\u{1F600}",
        "list": [1, [2.5], {"a": null}], "object": {"b": {"c": []}},
    });
    let command = &parse(&json!([{ "x": arguments }]).to_string())[0];
    assert_eq!(Value::from(command.data.clone()), arguments);
}

#[test]
fn file_arguments_and_escapes_are_recognized() {
    let command = &parse(
        r#"[{"x":{"a":"@file:/tmp/a b.png","b":"@@file:x","c":"@@@","d":"@file","e":"@other:x",
             "f":" @file:x","g":["@file:x","@@"],"h":{"i":"@file:x"},"j":"@"}}]"#,
    )[0];
    let files: Vec<_> = command.files.iter().collect();
    assert_eq!(
        files,
        [(&"a".to_owned(), &CommandFile::Local("/tmp/a b.png".into()))]
    );
    let expected = json!({
        "b": "@file:x", "c": "@@", "d": "@file", "e": "@other:x", "f": " @file:x",
        "g": ["@file:x", "@@"], "h": {"i": "@file:x"}, "j": "@",
    });
    assert_eq!(Value::from(command.data.clone()), expected);
}

#[test]
fn commands_are_typed_as_json5() {
    let list = parse("[{set_prompt:{prompt:'a forest, at dawn'}},{start:{}}]");
    assert_eq!(list[0].data["prompt"], "a forest, at dawn");
    assert_eq!((list.len(), list[1].name.as_str()), (2, "start"));
    let one = parse("{set_image:{image:'@file:cat.png'}}");
    assert_eq!(one[0].files["image"], CommandFile::Local("cat.png".into()));
    let message = refusal("[{a:{}},\n {b {}}]");
    let expected = "the list of commands is not JSON5: line 2, column 5: expected colon";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn invalid_command_list_error_names_element() {
    for (text, part) in [
        ("1", "the list of commands is an integer; expected an array"),
        (
            "\"start\"",
            "the list of commands is a string; expected an array",
        ),
        ("null", "the list of commands is null;"),
        (
            "[\"start\"]",
            "element 1 of 1 is a string; expected an object with exactly one",
        ),
        ("[{\"a\":{}},[]]", "element 2 of 2 is an array; expected"),
        (
            "[{}]",
            "element 1 of 1 is an object with 0 members; expected",
        ),
        (
            "[{\"a\":{},\"b\":{}}]",
            "element 1 of 1 is an object with 2 members; expected",
        ),
        (
            "[{\"a\":[]}]",
            "element 1 of 1: the arguments of \"a\" are an array; expected",
        ),
        (
            "[{\"a\":\"x\"}]",
            "the arguments of \"a\" are a string; expected an object",
        ),
        (
            "{\"a\":{},\"b\":1}",
            "the list of commands: the arguments of \"b\" are an integer",
        ),
        (
            "[{\"\":{}}]",
            "element 1 of 1: the name of a command is empty",
        ),
        (
            "{\"\":{}}",
            "the list of commands: the name of a command is empty",
        ),
        (
            "[{\"a\":{\"f\":\"@file:\"}}]",
            "1 of 1: command \"a\": parameter \"f\" names no file",
        ),
    ] {
        let message = refusal(text);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn single_command_is_literal() {
    assert!(ModelCommand::literal("", Map::new()).is_err());
    let arguments = json!({"a": "@file:/etc/hostname", "b": "@@hello", "c": "@file:"});
    let Value::Object(arguments) = arguments else {
        unreachable!()
    };
    let command = ModelCommand::literal("x", arguments.clone()).unwrap();
    assert_eq!((command.data, command.files.len()), (arguments, 0));
}
