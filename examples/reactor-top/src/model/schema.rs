// SPDX-License-Identifier: MIT

//! What a model takes: the commands of its schema, an OpenAPI document.

use serde_json::{Map, Value};

/// The path prefix of the commands in the document.
const PATHS: &str = "/events/";

/// A model's commands, in alphabetical order.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    pub title: Option<String>,
    pub commands: Vec<Command>,
}

#[derive(Debug, Clone, Default)]
pub struct Command {
    pub name: String,
    pub summary: String,
    /// Those that are required come first.
    pub parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, Default)]
pub struct Parameter {
    pub name: String,
    /// As in JSON schema: `string`, `number`...; `file`; empty if it may be anything.
    pub kind: String,
    pub required: bool,
    pub default: Option<Value>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    /// All that it may be, if they are few.
    pub choices: Vec<String>,
}

impl Schema {
    /// Passes over what it does not understand.
    pub fn parse(document: &Value) -> Self {
        let title = document["info"]["title"].as_str().map(str::to_owned);
        let none = Map::new();
        let paths = document["paths"].as_object().unwrap_or(&none);
        let command = |(path, item): (&String, &Value)| {
            let name = path.strip_prefix(PATHS).filter(|name| !name.is_empty())?;
            Some(Command::parse(name, &item["post"], document))
        };
        let mut commands: Vec<_> = paths.iter().filter_map(command).collect();
        commands.sort_by(|a, b| a.name.cmp(&b.name));
        Self { title, commands }
    }

    pub fn command(&self, name: &str) -> Option<&Command> {
        self.commands.iter().find(|command| command.name == name)
    }

    /// The command whose name is most like this one, if it is like it at all.
    pub fn similar(&self, name: &str) -> Option<&str> {
        let distance = |command: &&str| strsim::damerau_levenshtein(command, name);
        let names = self.commands.iter().map(|command| command.name.as_str());
        let nearest = names.min_by_key(distance)?;
        (distance(&nearest) <= nearest.len().div_ceil(3)).then_some(nearest)
    }
}

impl Command {
    fn parse(name: &str, post: &Value, document: &Value) -> Self {
        let summary = post["summary"]
            .as_str()
            .or_else(|| post["description"].as_str());
        let body = &post["requestBody"]["content"]["application/json"]["schema"];
        let body = resolve(body, document);
        let required = |name: &String| {
            let required = body["required"].as_array();
            required.is_some_and(|list| list.iter().any(|entry| entry == name))
        };
        let none = Map::new();
        let properties = body["properties"].as_object().unwrap_or(&none);
        let mut parameters: Vec<_> = properties
            .iter()
            .map(|(name, value)| Parameter::parse(name, value, required(name), document))
            .collect();
        parameters.sort_by_key(|parameter| !parameter.required);
        Self {
            name: name.to_owned(),
            summary: summary.unwrap_or_default().to_owned(),
            parameters,
        }
    }

    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters
            .iter()
            .find(|parameter| parameter.name == name)
    }

    /// The parameter that a text without a name is for: the only one, the only one that is
    /// required, or the only text.
    pub fn main_parameter(&self) -> Option<&Parameter> {
        let only = |choose: &dyn Fn(&Parameter) -> bool| {
            let mut chosen = self.parameters.iter().filter(|entry| choose(entry));
            let first = chosen.next()?;
            chosen.next().is_none().then_some(first)
        };
        only(&|_| true)
            .or_else(|| only(&|parameter| parameter.required))
            .or_else(|| only(&|parameter| parameter.kind == "string"))
    }

    /// How the command is typed: `set_size width=<integer 160..1920> [crop=<boolean>]`.
    pub fn usage(&self) -> String {
        let mut usage = self.name.clone();
        for parameter in &self.parameters {
            let text = format!("{}=<{}>", parameter.name, parameter.describe());
            usage.push(' ');
            usage.push_str(&match parameter.required {
                true => text,
                false => format!("[{text}]"),
            });
        }
        usage
    }
}

impl Parameter {
    fn parse(name: &str, value: &Value, required: bool, document: &Value) -> Self {
        let value = resolve(value, document);
        let is_file = value["format"] == "reactor-upload-reference";
        let kind = match (&value["type"], is_file) {
            (_, true) => "file",
            (Value::String(kind), _) => kind,
            _ => "",
        };
        let choices = match value["enum"].as_array() {
            Some(list) => list.iter().map(as_typed).collect(),
            None if kind == "boolean" => vec!["true".to_owned(), "false".to_owned()],
            None => Vec::new(),
        };
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            required,
            default: value.get("default").filter(|v| !v.is_null()).cloned(),
            minimum: value["minimum"].as_f64(),
            maximum: value["maximum"].as_f64(),
            choices,
        }
    }

    /// Its type with what it may be: `number -1..1 = 0`.
    fn describe(&self) -> String {
        let mut text = match self.choices.is_empty() || self.kind == "boolean" {
            false => self.choices.join("|"),
            true if self.kind.is_empty() => "any".to_owned(),
            true => self.kind.clone(),
        };
        let bound = |bound: Option<f64>| bound.map(|bound| bound.to_string()).unwrap_or_default();
        if self.minimum.is_some() || self.maximum.is_some() {
            text += &format!(" {}..{}", bound(self.minimum), bound(self.maximum));
        }
        if let Some(default) = &self.default {
            text += &format!(" = {}", as_typed(default));
        }
        text
    }
}

/// A value as a person types it: a text without quotes.
fn as_typed(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

/// Follows a `$ref` within the document, once; the first part of an `anyOf` (an optional value)
/// stands for it.
fn resolve<'a>(value: &'a Value, document: &'a Value) -> &'a Value {
    let value = value["anyOf"].get(0).unwrap_or(value);
    let pointer = value["$ref"]
        .as_str()
        .and_then(|path| path.strip_prefix('#'));
    let target = pointer.and_then(|pointer| document.pointer(pointer));
    target.unwrap_or(value)
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    pub fn playground() -> Schema {
        let post = |summary: &str, properties: Value, required: Value| {
            let schema = json!({"type": "object", "properties": properties, "required": required});
            let body = json!({"content": {"application/json": {"schema": schema}}});
            json!({"post": {"summary": summary, "requestBody": body}})
        };
        Schema::parse(&json!({
            "info": {"title": "playground"},
            "components": {"schemas": {"File": {"format": "reactor-upload-reference"}}},
            "paths": {
                "/events/set_prompt": post("Show this text.",
                    json!({"prompt": {"type": "string"}}), json!(["prompt"])),
                "/events/set_resolution": post("Change the size.",
                    json!({"width": {"type": "integer", "minimum": 160, "maximum": 1920},
                        "height": {"type": "integer"}}), json!(["width", "height"])),
                "/events/set_brightness": post("Make it brighter.",
                    json!({"brightness": {"type": "number", "minimum": -1, "maximum": 1,
                        "default": 0.5}}), json!([])),
                "/events/set_paused": post("", json!({"paused": {"type": "boolean"}}), json!([])),
                "/events/set_style": post("", json!({"style": {"type": "string",
                        "enum": ["oil", "ink"]}, "seed": {"type": "integer"}}), json!([])),
                "/events/set_image": post("",
                    json!({"image": {"$ref": "#/components/schemas/File"}}), json!(["image"])),
                "/events/fail": post("Always fails.", json!({}), json!([])),
                "/other": {},
            },
        }))
    }

    #[test]
    fn document_lists_commands_with_parameters() {
        let schema = playground();
        assert_eq!(schema.title.as_deref(), Some("playground"));
        assert_eq!(schema.commands.len(), 7);
        let usage = |name| schema.command(name).unwrap().usage();
        assert_eq!(
            usage("set_brightness"),
            "set_brightness [brightness=<number -1..1 = 0.5>]"
        );
        assert_eq!(
            usage("set_resolution"),
            "set_resolution height=<integer> width=<integer 160..1920>"
        );
        assert_eq!(usage("set_image"), "set_image image=<file>");
        assert_eq!(
            usage("set_style"),
            "set_style [seed=<integer>] [style=<oil|ink>]"
        );
    }

    #[test]
    fn foreign_document_has_no_commands() {
        for document in [
            json!(null),
            json!([]),
            json!({"paths": 1, "info": []}),
            json!({}),
        ] {
            assert!(Schema::parse(&document).commands.is_empty());
        }
        let odd = json!({"paths": {"/events/x": {"post": {"requestBody": 3}}}});
        assert_eq!(Schema::parse(&odd).commands[0].usage(), "x");
    }

    #[test]
    fn similar_name_is_suggested() {
        let schema = playground();
        assert_eq!(schema.similar("set_promt"), Some("set_prompt"));
        assert_eq!(schema.similar("jump"), None);
        assert_eq!(Schema::default().similar("x"), None);
    }
}
