// SPDX-License-Identifier: MIT

//! What a typed line means: a command of the model's, or one of the control room's own.

use serde_json::{Map, Value};

use super::schema::{self, Parameter, Schema};

/// The control room's own commands, and what they do.
pub const OWN: [(&str, &str); 7] = [
    (":clear", "empties the list of messages"),
    (
        ":disconnect",
        "gives the connection up and keeps the session",
    ),
    (":help", "lists the keys and the model's commands"),
    (":next", "shows the next session of the pipeline"),
    (":quit", "ends the session and leaves; also q, Ctrl-C"),
    (":reconnect", "makes a new connection for the session"),
    (":restart", "stops the pipeline and plays it again"),
];

#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    Own(&'static str),
    /// Commands with their arguments, to be sent in this order.
    Commands(Vec<Command>),
}

/// A command of the model's with its arguments.
pub type Command = (String, Map<String, Value>);

/// Understands a line. A model's command is typed as
///
/// - `NAME`, `NAME TEXT` for the parameter that takes it, `NAME PARAMETER=VALUE...`,
/// - `NAME {JSON5}`,
/// - `{NAME: {JSON5}}`, or a list of these, as the property `commands` has them.
///
/// Without a schema a name is not checked: the element does it once there is one.
pub fn parse(line: &str, schema: Option<&Schema>) -> Result<Line, String> {
    let line = line.trim();
    if line.starts_with(['{', '[']) {
        return parse_whole(line).map(Line::Commands);
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let command = schema.and_then(|schema| schema.command(name));
    if command.is_none() {
        if let Some(own) = own(name) {
            return match rest.is_empty() {
                true => Ok(Line::Own(own)),
                false => Err(format!("{own} takes nothing: {rest}")),
            };
        }
        if let Some(schema) = schema {
            return Err(unknown(name, schema));
        }
    }
    let arguments = parse_arguments(rest.trim(), command).map_err(|e| format!("{name}: {e}"))?;
    Ok(Line::Commands(vec![(name.to_owned(), arguments)]))
}

fn own(name: &str) -> Option<&'static str> {
    if ["q", "quit", "exit", ":q"].contains(&name) {
        return Some(":quit");
    }
    OWN.iter().map(|(own, _)| *own).find(|own| *own == name)
}

fn unknown(name: &str, schema: &Schema) -> String {
    let hint = match schema.similar(name) {
        Some(similar) => format!("did you mean {similar}?"),
        None => "Tab lists what there is".to_owned(),
    };
    format!("no command {name}: {hint}")
}

/// The form of the property `commands`.
fn parse_whole(line: &str) -> Result<Vec<Command>, String> {
    let entries = match parse_json5(line)? {
        Value::Array(entries) => entries,
        object => vec![object],
    };
    let mut commands = Vec::new();
    for entry in entries {
        let Value::Object(members) = entry else {
            return Err(format!("not an object with a command: {entry}"));
        };
        for (name, arguments) in members {
            let Value::Object(arguments) = arguments else {
                return Err(format!(
                    "{name}: its arguments are not an object: {arguments}"
                ));
            };
            commands.push((name, arguments));
        }
    }
    match commands.is_empty() {
        true => Err("there is no command in it".to_owned()),
        false => Ok(commands),
    }
}

fn parse_json5(text: &str) -> Result<Value, String> {
    json5::from_str(text).map_err(|error| format!("not JSON5: {error}"))
}

fn parse_arguments(
    text: &str,
    command: Option<&schema::Command>,
) -> Result<Map<String, Value>, String> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    if text.starts_with('{') {
        return match parse_json5(text)? {
            Value::Object(arguments) => Ok(arguments),
            other => Err(format!("not an object: {other}")),
        };
    }
    if is_assignment(text, command) {
        return parse_assignments(text, command);
    }
    let Some(command) = command else {
        return Err("until the model's schema is there, type it as NAME {JSON5}".to_owned());
    };
    let Some(parameter) = command.main_parameter() else {
        return Err(format!("name the parameters: {}", command.usage()));
    };
    let value = parse_value(unquote(text), Some(parameter))?;
    Ok([(parameter.name.clone(), value)].into_iter().collect())
}

/// Whether a text begins with `PARAMETER=`.
fn is_assignment(text: &str, command: Option<&schema::Command>) -> bool {
    let Some((name, _)) = text.split_once('=') else {
        return false;
    };
    match command {
        Some(command) => command.parameter(name).is_some(),
        None => !name.contains(|c: char| c.is_whitespace() || c == '\'' || c == '"'),
    }
}

fn parse_assignments(
    text: &str,
    command: Option<&schema::Command>,
) -> Result<Map<String, Value>, String> {
    let mut arguments = Map::new();
    for word in split_words(text)? {
        let Some((name, value)) = word.split_once('=') else {
            return Err(format!(
                "no PARAMETER=VALUE: {word} (quote a text with spaces)"
            ));
        };
        let parameter = command.and_then(|command| command.parameter(name));
        if let (Some(command), None) = (command, parameter) {
            return Err(format!("no parameter {name}: {}", command.usage()));
        }
        if arguments.contains_key(name) {
            return Err(format!("{name} is given twice"));
        }
        arguments.insert(name.to_owned(), parse_value(unquote(value), parameter)?);
    }
    Ok(arguments)
}

/// Splits at spaces that are not in quotes or brackets.
pub fn split_words(text: &str) -> Result<Vec<&str>, String> {
    let (mut words, mut start, mut quote, mut depth) = (Vec::new(), None, None, 0_usize);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() && quote.is_none() && depth == 0 {
            words.extend(start.take().map(|start| &text[start..at]));
            continue;
        }
        // An apostrophe within a word is one: a quotation begins after `=` or a bracket.
        let begins = at == 0 || text[..at].ends_with(['=', '{', '[', ':', ',', ' ']);
        match (c, quote) {
            ('\'' | '"', None) if begins => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            ('{' | '[', None) => depth += 1,
            ('}' | ']', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
        start = start.or(Some(at));
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(start.map(|start| &text[start..]));
    Ok(words)
}

/// Takes a pair of quotes off.
fn unquote(text: &str) -> &str {
    for quote in ['\'', '"'] {
        let inner = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote));
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return inner;
        }
    }
    text
}

/// A text is what is typed; everything else is JSON5. Without a schema, what is no JSON5 is a text.
fn parse_value(text: &str, parameter: Option<&Parameter>) -> Result<Value, String> {
    match parameter {
        Some(parameter) if parameter.kind == "string" => Ok(text.into()),
        Some(parameter) if parameter.kind == "file" => {
            let path = text.strip_prefix("@file:").unwrap_or(text);
            Ok(format!("@file:{path}").into())
        }
        Some(parameter) => match json5::from_str(text) {
            Ok(value) => Ok(value),
            Err(_) if parameter.kind.is_empty() => Ok(text.into()),
            Err(_) => Err(format!(
                "{} is no {}: {text}",
                parameter.name, parameter.kind
            )),
        },
        None => Ok(json5::from_str(text).unwrap_or_else(|_| text.into())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::schema::tests::playground, *};

    fn one(line: &str) -> Value {
        match parse(line, Some(&playground())) {
            Ok(Line::Commands(commands)) => {
                let commands = commands.into_iter();
                commands.map(|(name, data)| json!({name: data})).collect()
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    fn error(line: &str) -> String {
        parse(line, Some(&playground())).expect_err(line)
    }

    #[test]
    fn text_is_for_the_main_parameter() {
        for (line, prompt) in [
            ("set_prompt a forest, at dawn", "a forest, at dawn"),
            (
                "  set_prompt   it's \"here\" = there ",
                "it's \"here\" = there",
            ),
            ("set_prompt 'a forest'", "a forest"),
            ("set_prompt 42", "42"),
            ("set_prompt prompt=forest", "forest"),
            ("set_prompt prompt='a 🌲 forest'", "a 🌲 forest"),
            ("set_prompt {prompt: 'a forest'}", "a forest"),
            ("{set_prompt: {prompt: 'a forest'}}", "a forest"),
        ] {
            assert_eq!(
                one(line),
                json!([{"set_prompt": {"prompt": prompt}}]),
                "{line}"
            );
        }
        assert_eq!(
            one("set_brightness -0.5"),
            json!([{"set_brightness": {"brightness": -0.5}}])
        );
        assert_eq!(
            one("set_paused true"),
            json!([{"set_paused": {"paused": true}}])
        );
        assert_eq!(
            one("set_image a b.png"),
            json!([{"set_image": {"image": "@file:a b.png"}}])
        );
        assert_eq!(
            one("set_style oil"),
            json!([{"set_style": {"style": "oil"}}])
        );
        assert_eq!(one("fail"), json!([{"fail": {}}]));
    }

    #[test]
    fn assignments_have_the_schemas_types() {
        assert_eq!(
            one("set_resolution width=640 height=360"),
            json!([{"set_resolution": {"width": 640, "height": 360}}])
        );
        assert_eq!(
            one("set_style style='oil' seed=7"),
            json!([{"set_style": {"style": "oil", "seed": 7}}])
        );
    }

    #[test]
    fn list_has_several_commands() {
        assert_eq!(
            one("[{fail:{}},{set_prompt:{prompt:'x'}}]"),
            json!([{"fail": {}}, {"set_prompt": {"prompt": "x"}}])
        );
    }

    #[test]
    fn errors_say_what_is_possible() {
        for (line, said) in [
            ("set_promt x", "did you mean set_prompt?"),
            ("jump", "Tab lists"),
            (
                "set_resolution 3",
                "height=<integer> width=<integer 160..1920>",
            ),
            ("set_resolution width=1 depth=3", "no parameter depth"),
            ("set_resolution width=1 width=2", "twice"),
            ("set_resolution width=wide", "width is no integer: wide"),
            ("set_style style='oil", "not closed"),
            ("set_prompt {prompt:", "not JSON5"),
            ("{set_prompt: 3}", "not an object"),
            ("[]", "no command"),
            ("[3]", "not an object"),
            (":quit now", "takes nothing"),
        ] {
            let text = error(line);
            assert!(text.contains(said), "{line}: {text}");
        }
    }

    #[test]
    fn own_commands_need_no_schema() {
        for line in ["q", "quit", ":q", ":quit"] {
            assert_eq!(parse(line, None), Ok(Line::Own(":quit")));
        }
        // A model's command comes first.
        let schema = Schema {
            commands: vec![schema::Command {
                name: "q".to_owned(),
                ..schema::Command::default()
            }],
            ..Schema::default()
        };
        assert!(matches!(parse("q", Some(&schema)), Ok(Line::Commands(_))));
    }

    #[test]
    fn without_schema_values_are_guessed() {
        let Ok(Line::Commands(commands)) = parse("x a=1 b='c d' e={f:[1, 2]}", None) else {
            panic!("not a command");
        };
        assert_eq!(
            Value::from(commands[0].1.clone()),
            json!({"a": 1, "b": "c d", "e": {"f": [1, 2]}})
        );
        assert!(parse("x a text", None).is_err());
    }
}
