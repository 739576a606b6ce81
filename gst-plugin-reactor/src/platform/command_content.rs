// SPDX-License-Identifier: MIT

//! [`CommandContent`]: a command as a stream gives it: whole, or one value whose
//! parameter the model's schema tells. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    Code, Error,
    commands::{CommandFile, ModelCommand},
    schema::{Parameter, ParameterType, Schema},
    upload::UploadSource,
};

/// A command that may have to wait for the schema.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandContent {
    Command(ModelCommand),
    /// One value for one parameter.
    Value {
        command: String,
        /// Of this name, or the one that the schema leaves no doubt about.
        parameter: Option<String>,
        value: ContentValue,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum ContentValue {
    Text(String),
    File(UploadSource),
}

impl From<ModelCommand> for CommandContent {
    fn from(command: ModelCommand) -> Self {
        Self::Command(command)
    }
}

impl CommandContent {
    /// The command's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Command(command) => &command.name,
            Self::Value { command, .. } => command,
        }
    }

    /// Whether it says too little without the schema.
    pub fn needs_schema(&self) -> bool {
        matches!(self, Self::Value { .. })
    }

    pub fn has_file(&self) -> bool {
        match self {
            Self::Command(command) => !command.files.is_empty(),
            Self::Value { value, .. } => matches!(value, ContentValue::File(_)),
        }
    }

    /// The command. A text for a parameter that takes no text is taken as JSON:
    /// `0.5` is a number.
    ///
    /// Fails with [`Code::BadRequest`] when no parameter was named and the schema,
    /// if there is one, leaves a doubt about it.
    pub fn resolve(self, schema: Option<&Schema>) -> Result<ModelCommand, Error> {
        let (name, parameter, value) = match self {
            Self::Command(command) => return Ok(command),
            Self::Value {
                command,
                parameter,
                value,
            } => (command, parameter, value),
        };
        let parameters = schema.and_then(|schema| schema.parameters(&name));
        let parameter = match parameter {
            Some(parameter) => parameter,
            None => match &parameters {
                Some(parameters) => choose(&name, parameters, &value)?,
                None => return Err(parameters_unknown(&name, schema)),
            },
        };
        let known = parameters.as_deref().unwrap_or_default();
        let known = known.iter().find(|known| known.name == parameter);
        let mut command = ModelCommand::literal(&name, Map::new())?;
        match value {
            ContentValue::Text(text) => {
                let value = to_value(text, known);
                command.data.insert(parameter, value);
            }
            ContentValue::File(source) => {
                command.files.insert(parameter, CommandFile::Bytes(source));
            }
        }
        Ok(command)
    }
}

fn takes_text(parameter: &Parameter) -> bool {
    parameter.is_text() || matches!(parameter.value_type, ParameterType::Choice(_))
}

/// The only parameter that takes such a value, or the only required one of them; for
/// a text without one the only parameter.
fn choose(command: &str, parameters: &[Parameter], value: &ContentValue) -> Result<String, Error> {
    let is_text = matches!(value, ContentValue::Text(_));
    let takes = |parameter: &&Parameter| match is_text {
        true => takes_text(parameter),
        false => parameter.is_file(),
    };
    let mut candidates: Vec<_> = parameters.iter().filter(takes).collect();
    if candidates.is_empty() && is_text {
        candidates = parameters.iter().filter(|p| !p.is_file()).collect();
    }
    if candidates.len() > 1 && candidates.iter().any(|parameter| parameter.required) {
        candidates.retain(|parameter| parameter.required);
    }
    match candidates.as_slice() {
        [only] => Ok(only.name.clone()),
        [] => {
            let kind = if is_text { "text" } else { "file" };
            Err(undecided(command, &format!("it takes no {kind}")))
        }
        several => {
            let names: Vec<_> = several.iter().map(|p| p.name.as_str()).collect();
            let names = names.join(", ");
            Err(undecided(command, &format!("it may be for any of {names}")))
        }
    }
}

/// The error for a command whose parameters the schema, if there is one, does not
/// list: it may not have the command either.
fn parameters_unknown(command: &str, schema: Option<&Schema>) -> Error {
    let none = BTreeMap::<String, ()>::new();
    match schema.map(|schema| schema.check(command, &Map::new(), &none)) {
        Some(Err(error)) => error,
        Some(Ok(())) => undecided(command, "the model's schema does not list its parameters"),
        None => undecided(command, "the model has sent no schema"),
    }
}

fn undecided(command: &str, problem: &str) -> Error {
    let text =
        format!("command \"{command}\": {problem}; the pad's property 'param' names the parameter");
    Error::api(Code::BadRequest, text).during("send_command")
}

fn to_value(text: String, parameter: Option<&Parameter>) -> Value {
    match parameter {
        Some(parameter) if !takes_text(parameter) => {
            serde_json::from_str(text.trim()).unwrap_or(Value::String(text))
        }
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(parameters: Value, required: &[&str]) -> Schema {
        let body = json!({"type": "object", "properties": parameters, "required": required});
        let content = json!({"application/json": {"schema": body}});
        let path = json!({"post": {"requestBody": {"content": content}}});
        let document = json!({"openapi": "3.1.0", "paths": {"/events/go": path}});
        Schema::parse(&document).unwrap()
    }

    fn text(text: &str) -> ContentValue {
        ContentValue::Text(text.into())
    }

    fn picture() -> ContentValue {
        ContentValue::File(UploadSource::new(vec![1], "a.png", None, 0).unwrap())
    }

    fn resolve(
        value: ContentValue,
        parameter: Option<&str>,
        schema: Option<&Schema>,
    ) -> Result<ModelCommand, Error> {
        let content = CommandContent::Value {
            command: "go".into(),
            parameter: parameter.map(str::to_owned),
            value,
        };
        content.resolve(schema)
    }

    #[test]
    fn text_goes_to_the_only_text_parameter_or_the_required_one() {
        let only = schema(
            json!({"prompt": {"type": "string"}, "seed": {"type": "integer"}}),
            &[],
        );
        let command = resolve(text("@file:/etc/passwd"), None, Some(&only)).unwrap();
        assert_eq!(
            Value::Object(command.data),
            json!({"prompt": "@file:/etc/passwd"})
        );
        assert!(command.files.is_empty());
        let two = json!({"prompt": {"type": "string"}, "style": {"enum": ["a", "b"]}});
        let required = schema(two.clone(), &["prompt"]);
        let command = resolve(text("x"), None, Some(&required)).unwrap();
        assert_eq!(Value::Object(command.data), json!({"prompt": "x"}));
        let named = resolve(text("b"), Some("style"), Some(&required)).unwrap();
        assert_eq!(Value::Object(named.data), json!({"style": "b"}));
        let error = resolve(text("x"), None, Some(&schema(two, &[]))).unwrap_err();
        assert!(error.message.contains("prompt, style"), "{error}");
        assert_eq!(error.code, Code::BadRequest);
    }

    #[test]
    fn text_for_a_number_is_one() {
        let number = schema(json!({"value": {"type": "number"}}), &[]);
        let command = resolve(text(" 0.5 "), None, Some(&number)).unwrap();
        assert_eq!(Value::Object(command.data), json!({"value": 0.5}));
        // What is none is left to the check.
        let command = resolve(text("half"), None, Some(&number)).unwrap();
        assert_eq!(Value::Object(command.data), json!({"value": "half"}));
    }

    #[test]
    fn without_a_schema_the_parameter_has_to_be_named() {
        let error = resolve(text("x"), None, None).unwrap_err();
        assert!(error.message.contains("'param'"), "{error}");
        let command = resolve(text("1"), Some("n"), None).unwrap();
        assert_eq!(Value::Object(command.data), json!({"n": "1"}));
        let command = resolve(picture(), Some("image"), None).unwrap();
        assert!(matches!(command.files["image"], CommandFile::Bytes(_)));
        let content = CommandContent::Value {
            command: "gone".into(),
            parameter: None,
            value: text("x"),
        };
        let unknown = content.resolve(Some(&schema(json!({}), &[]))).unwrap_err();
        assert!(
            unknown.message.contains("no command \"gone\"; it has go"),
            "{unknown}"
        );
        let none = resolve(picture(), None, Some(&schema(json!({}), &[]))).unwrap_err();
        assert!(none.message.contains("takes no file"), "{none}");
    }
}
