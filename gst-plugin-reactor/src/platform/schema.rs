// SPDX-License-Identifier: MIT

//! A model's schema: the OpenAPI 3.1 document that its runtime publishes, and the
//! check of a command against it before it is sent. Pure; called by the command
//! queue and the elements.
//!
//! The check never refuses what the document leaves open. Keywords it does not
//! know (`pattern`, `multipleOf`, `not`...) are left to the runtime, which
//! checks every command again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use strsim::levenshtein;

pub use self::parameters::{Parameter, ParameterType};
use self::validator::{Validator, Violation, required};
use super::{Code, Error, http::sanitize};

mod parameters;
#[cfg(test)]
mod tests;
mod validator;

/// The path prefix of the commands in the document.
const PATHS: &str = "/events/";

/// The most names in a message.
const MAX_LISTED: usize = 12;

/// The code with which the runtime itself refuses such a command.
const INVALID_COMMAND: &str = "invalid_command";

/// The commands of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    document: Value,
    /// Their names. What a command takes is looked up in the document each time: a copy
    /// for each would take the memory of all, where they refer to one large body.
    commands: BTreeSet<String>,
}

impl Schema {
    /// Takes the document: the answer to `RequestSchema`, or to `GET /schema`
    /// of a local runtime. Parts that are not known, or not as expected, are
    /// passed over; a command whose parameters cannot be read takes anything.
    ///
    /// Fails with [`Code::DecodeFailed`] if it is no OpenAPI document at all.
    pub fn parse(document: &Value) -> Result<Self, Error> {
        let invalid = |what: &str| {
            let message = format!("the model's schema {what}");
            Err(Error::gpu(Code::DecodeFailed, message).during("schema"))
        };
        let Some(members) = document.as_object() else {
            return invalid("is not a JSON object");
        };
        let none = Map::new();
        let paths = match members.get("paths") {
            Some(Value::Object(paths)) => paths,
            Some(Value::Null) | None if members.get("openapi").is_some_and(Value::is_string) => {
                &none
            }
            Some(_) => return invalid("has \"paths\" that are not an object"),
            None => return invalid("is not an OpenAPI document: it has no \"paths\""),
        };
        let names = paths.keys().filter_map(|path| path.strip_prefix(PATHS));
        let names = names.filter(|name| !name.is_empty());
        Ok(Self {
            document: document.clone(),
            commands: names.map(str::to_owned).collect(),
        })
    }

    /// The names of the commands, in alphabetical order.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.commands.iter().map(String::as_str)
    }

    /// The parameters of a command, in alphabetical order. `None` if there is
    /// no such command or the document does not list them.
    pub fn parameters(&self, command: &str) -> Option<Vec<Parameter>> {
        let validator = Validator::new(&self.document);
        let body = self.arguments_schema(command)?;
        let required: Vec<_> = required(body).collect();
        let parameter = |(name, schema): (&String, &Value)| {
            let required = required.contains(&name.as_str());
            Parameter::new(name, schema, required, &validator)
        };
        let properties = body.get("properties")?.as_object()?;
        Some(properties.iter().map(parameter).collect())
    }

    /// What the model's author says about a command.
    pub fn summary(&self, command: &str) -> Option<String> {
        let path = format!("{PATHS}{command}");
        let post = self.document.get("paths")?.get(path)?.get("post")?;
        let summary = post.get("summary").or_else(|| post.get("description"))?;
        summary.as_str().map(parameters::shorten)
    }

    /// The schema of a command's arguments, where it is in the document. `None` if
    /// there is no such command or the document does not have one.
    fn arguments_schema(&self, command: &str) -> Option<&Value> {
        let name = self.commands.get(command)?;
        let item = self.document.get("paths")?.get(format!("{PATHS}{name}"))?;
        let validator = Validator::new(&self.document);
        let body = validator.resolve(item.get("post")?.get("requestBody")?)?;
        validator.resolve(body.pointer("/content/application~1json/schema")?)
    }

    /// Whether a file may be given for a parameter of a command: unless the
    /// document says it is anything else.
    pub fn takes_file(&self, command: &str, parameter: &str) -> bool {
        let validator = Validator::new(&self.document);
        let body = self.arguments_schema(command);
        let properties = body.and_then(|body| body.get("properties"));
        let schema = properties.and_then(|properties| properties.get(parameter));
        schema.is_none_or(|schema| validator.takes_file(schema))
    }

    /// Checks a command with its arguments and its files, by parameter name.
    /// What a file is does not matter: it need not be uploaded yet.
    ///
    /// Fails with the code `invalid_command`, as the runtime does. The message
    /// names the parameter and the rule, quotes the value (cut after 80
    /// characters), and lists what is allowed.
    pub fn check<F>(
        &self,
        name: &str,
        data: &Map<String, Value>,
        files: &BTreeMap<String, F>,
    ) -> Result<(), Error> {
        if !self.commands.contains(name) {
            return Err(invalid_command(self.describe_unknown(name)));
        }
        let validator = Validator::new(&self.document);
        let Some(body) = self.arguments_schema(name) else {
            return Ok(());
        };
        check_arguments(&validator, body, data, files).map_err(|e| {
            let mut message = format!("command \"{}\": {e}", sanitize(name));
            message.push_str(&self.describe_parameters(name));
            invalid_command(message)
        })
    }

    /// The error for a command that the model does not have.
    pub fn unknown_command(&self, name: &str) -> Error {
        invalid_command(self.describe_unknown(name))
    }

    /// The message for a command that the model does not have.
    fn describe_unknown(&self, name: &str) -> String {
        let shown = shorten(name);
        if self.commands.is_empty() {
            return format!("the model has no command \"{shown}\"; it takes no commands");
        }
        let names = sort_by_similarity(name, self.commands());
        format!(
            "the model has no command \"{shown}\"; it has {}",
            join_names(names)
        )
    }

    /// The allowed parameters, for the end of a message.
    pub fn describe_parameters(&self, command: &str) -> String {
        let Some(mut parameters) = self.parameters(command) else {
            return String::new();
        };
        if parameters.is_empty() {
            return "; the command has no parameters".to_owned();
        }
        // The required ones first; otherwise the order stays.
        parameters.sort_by_key(|parameter| !parameter.required);
        let names = parameters.iter().map(|parameter| {
            let required = if parameter.required { ", required" } else { "" };
            format!("{} ({}{required})", parameter.name, parameter.kind)
        });
        format!("; its parameters are {}", join_names(names.collect()))
    }
}

fn check_arguments<F>(
    validator: &Validator<'_>,
    body: &Value,
    data: &Map<String, Value>,
    files: &BTreeMap<String, F>,
) -> Result<(), String> {
    let schema_of = |name: &str| body.get("properties")?.get(name);
    for name in required(body) {
        if !data.contains_key(name) && !files.contains_key(name) {
            let file = schema_of(name).is_some_and(|schema| validator.is_file(schema));
            let what = if file { "file" } else { "parameter" };
            return Err(format!("the {what} \"{}\" is missing", sanitize(name)));
        }
    }
    for name in files.keys() {
        let shown = sanitize(name);
        if data.contains_key(name) {
            return Err(format!(
                "parameter \"{shown}\" is given twice, as a file and as a value"
            ));
        }
        match schema_of(name) {
            Some(schema) if !validator.takes_file(schema) => {
                let kind = validator.describe(schema);
                return Err(format!("parameter \"{shown}\" takes no file but: {kind}"));
            }
            None if is_closed(body) => return Err(unknown_parameter(name)),
            _ => {}
        }
    }
    for (name, value) in data {
        let schema = match schema_of(name) {
            Some(schema) => schema,
            None if is_closed(body) => return Err(unknown_parameter(name)),
            None => match body.get("additionalProperties") {
                Some(schema) if body.get("patternProperties").is_none() => schema,
                _ => continue,
            },
        };
        validator
            .check(schema, value)
            .map_err(|violation| describe_violation(name, &violation))?;
    }
    Ok(())
}

/// Whether a command takes no other parameters than those in `properties`.
/// JSON Schema would let any pass, but the runtime refuses them, unlike in an
/// object inside an argument.
fn is_closed(body: &Value) -> bool {
    let additional = body.get("additionalProperties");
    let elsewhere = ["patternProperties", "allOf", "anyOf", "oneOf"];
    body.get("properties").is_some_and(Value::is_object)
        && matches!(additional, None | Some(Value::Bool(false)))
        && !elsewhere.iter().any(|keyword| body.get(keyword).is_some())
}

fn unknown_parameter(name: &str) -> String {
    format!("there is no parameter \"{}\"", shorten(name))
}

fn describe_violation(name: &str, violation: &Violation) -> String {
    let place = format!("{}{}", sanitize(name), sanitize(&violation.place));
    format!(
        "parameter \"{place}\" {}, but is {}",
        violation.rule, violation.value
    )
}

/// The names, the most similar to `name` first.
fn sort_by_similarity<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let folded = |text: &str| -> String {
        let letters = text.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
        letters.flat_map(char::to_lowercase).take(64).collect()
    };
    let wanted = folded(name);
    // Beyond a third of the letters it is another word.
    let limit = wanted.chars().count() / 3;
    let mut names: Vec<_> = names
        .map(|name| {
            let distance = Some(levenshtein(&wanted, &folded(name)));
            let distance = distance.filter(|distance| *distance <= limit);
            (distance.unwrap_or(usize::MAX), name.to_owned())
        })
        .collect();
    names.sort();
    names.into_iter().map(|(_, name)| name).collect()
}

fn join_names(names: Vec<String>) -> String {
    let shown: Vec<_> = names.iter().take(MAX_LISTED).map(|n| shorten(n)).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A name for a message, at most 80 characters of it.
fn shorten(name: &str) -> String {
    sanitize(name).chars().take(80).collect()
}

fn invalid_command(message: String) -> Error {
    Error::gpu(Code::Other(INVALID_COMMAND.into()), message).during("send_command")
}
