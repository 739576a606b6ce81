// SPDX-License-Identifier: MIT

//! The model's commands: text of the pipeline's author, which may name
//! files, or of anybody else, which may not. Pure; it reads no file: a path that
//! a command names is only noted.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Map, Value};

use super::{
    Code, Error,
    http::sanitize,
    json_text::{self, JsonNode},
    upload::UploadSource,
    wire::FileRef,
};

#[cfg(test)]
mod tests;

/// The prefix of an argument that names a file to be uploaded.
pub const FILE_PREFIX: &str = "@file:";

/// The prefix of an argument that is to begin with a literal `@`.
const ESCAPE: &str = "@@";

/// An example of a list of commands, for messages.
const EXAMPLE: &str = "[{set_prompt:{prompt:'a forest'}},{start:{}}]";

/// Makes a command of a name and arguments: [`ModelCommand::literal`] or
/// [`ModelCommand::with_file_references`].
pub(super) type MakeCommand = fn(&str, Map<String, Value>) -> Result<ModelCommand, Error>;

/// One command of a model, with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCommand {
    /// Never empty.
    pub name: String,
    /// The arguments without the files.
    pub data: Map<String, Value>,
    /// The files, by parameter name.
    pub files: BTreeMap<String, CommandFile>,
}

/// A file that is an argument of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandFile {
    /// To be uploaded. The path is as it was written: a relative one is relative
    /// to the process's working directory.
    Local(PathBuf),
    /// To be uploaded.
    Bytes(UploadSource),
    Uploaded(FileRef),
}

impl ModelCommand {
    /// Takes a command's name and arguments, which are sent as they are: text
    /// of an application's users must never name a file of this machine.
    ///
    /// Fails with [`Code::BadRequest`] if the name is empty.
    pub fn literal(name: &str, data: Map<String, Value>) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(bad_request("a command's name is empty"));
        }
        let (name, files) = (name.to_owned(), BTreeMap::new());
        Ok(Self { name, data, files })
    }

    /// Takes a command of the pipeline's author, with references to files.
    ///
    /// An argument that is a string starting with `@file:` is a file to be
    /// uploaded; in one that starts with `@@` the first `@` is dropped, so
    /// that `@@file:x` is the text `@file:x`. Strings inside an array or an
    /// object are left alone, for a model takes files as arguments only.
    ///
    /// Fails with [`Code::BadRequest`] if the name, or a file's path, is empty.
    fn with_file_references(name: &str, arguments: Map<String, Value>) -> Result<Self, Error> {
        let Self {
            name,
            data: arguments,
            mut files,
        } = Self::literal(name, arguments)?;
        let mut data = Map::new();
        for (parameter, value) in arguments {
            let text = value.as_str().unwrap_or_default();
            if let Some(path) = text.strip_prefix(FILE_PREFIX) {
                if path.is_empty() {
                    return Err(bad_request(format!(
                        "command \"{}\": parameter \"{}\" names no file after \
                         \"{FILE_PREFIX}\"; expected a path, such as \"{FILE_PREFIX}cat.png\"",
                        sanitize(&name),
                        sanitize(&parameter)
                    )));
                }
                files.insert(parameter, CommandFile::Local(path.into()));
            } else if let Some(rest) = text.strip_prefix(ESCAPE) {
                data.insert(parameter, format!("@{rest}").into());
            } else {
                data.insert(parameter, value);
            }
        }
        Ok(Self { name, data, files })
    }

    /// Makes files of the arguments that are references to uploaded files, as
    /// [`FileRef::from_argument`] knows them, where `takes_file` says that the
    /// parameter is a file. Runtimes of 3.2 and 3.3 find a file nowhere else.
    /// A reference inside an array or an object stays there, as the platform's
    /// clients leave it.
    pub fn take_references(&mut self, takes_file: impl Fn(&str) -> bool) {
        let files = &mut self.files;
        self.data.retain(|parameter, value| {
            let file = FileRef::from_argument(value).filter(|_| takes_file(parameter));
            match file {
                Some(file) if !files.contains_key(parameter) => {
                    files.insert(parameter.clone(), CommandFile::Uploaded(file));
                    false
                }
                _ => true,
            }
        });
    }

    /// Parses a list of commands, in JSON5: an array of objects, each of which has
    /// one member, the command's name with an object of arguments (`null` is
    /// none). Or one object, whose members are taken as commands in the order in
    /// which they are written. Blank text is no command. An argument that starts
    /// with `@file:` names a file to be uploaded; `@@` is a literal `@` there.
    ///
    /// Fails with [`Code::BadRequest`]; the message says where and what was
    /// expected.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, Error> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let node = json_text::parse(text, "the list of commands")?;
        Self::from_node(node, "the list of commands", Self::with_file_references)
    }

    /// Parses JSON that a program wrote, and that names no file: one object or a list,
    /// as for [`ModelCommand::parse_list`].
    ///
    /// Fails with [`Code::BadRequest`].
    pub fn parse_literal_list(text: &str) -> Result<Vec<Self>, Error> {
        let node: JsonNode = serde_json::from_str(text)
            .map_err(|error| bad_request(format!("the buffer is not JSON: {error}")))?;
        Self::from_node(node, "the buffer", Self::literal)
    }

    /// The commands in a parsed text, each made by `make`. `place` is where the
    /// text stands.
    pub(super) fn from_node(
        node: JsonNode,
        place: &str,
        make: MakeCommand,
    ) -> Result<Vec<Self>, Error> {
        match node {
            JsonNode::List(elements) => {
                let of = elements.len();
                let command = |(n, element)| {
                    let place = format!("{place}: element {} of {of}", n + 1);
                    Self::from_element(element, &place, make)
                };
                elements.into_iter().enumerate().map(command).collect()
            }
            JsonNode::Object(members) => members
                .into_iter()
                .map(|(name, arguments)| Self::from_member(&name, arguments, place, make))
                .collect(),
            JsonNode::Scalar(other) => Err(bad_request(format!(
                "{place} is {}; expected an array of objects with one member each, such as \
                 {EXAMPLE}",
                describe_kind(&other)
            ))),
        }
    }

    fn from_element(element: JsonNode, place: &str, make: MakeCommand) -> Result<Self, Error> {
        let found = match element {
            JsonNode::Object(mut members) if members.len() == 1 => {
                let (name, arguments) = members.remove(0);
                return Self::from_member(&name, arguments, place, make);
            }
            JsonNode::Object(members) => format!("an object with {} members", members.len()),
            JsonNode::List(_) => "an array".to_owned(),
            JsonNode::Scalar(value) => describe_kind(&value).to_owned(),
        };
        Err(bad_request(format!(
            "{place} is {found}; expected an object with exactly one member, the command's name \
             with its arguments, such as {{set_prompt:{{prompt:'a forest'}}}}"
        )))
    }

    fn from_member(
        name: &str,
        arguments: JsonNode,
        place: &str,
        make: MakeCommand,
    ) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(bad_request(format!(
                "{place}: the name of a command is empty"
            )));
        }
        let arguments = match arguments.into_value() {
            Value::Object(arguments) => arguments,
            Value::Null => Map::new(),
            other => {
                return Err(bad_request(format!(
                    "{place}: the arguments of \"{}\" are {}; expected an object, such as {{}} \
                     or {{prompt:'a forest'}}",
                    sanitize(name),
                    describe_kind(&other)
                )));
            }
        };
        let located = |mut e: Error| {
            e.message = format!("{place}: {}", e.message);
            e
        };
        make(name, arguments).map_err(located)
    }
}

/// The kind of a value, for a message.
pub fn describe_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The error for text that a user wrote.
pub(super) fn bad_request(message: impl Into<String>) -> Error {
    Error::api(Code::BadRequest, message).during("commands")
}
