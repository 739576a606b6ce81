// SPDX-License-Identifier: MIT

//! [`CommandClass`]: the GObject class of a command, made of its schema, and the
//! values of its properties as JSON. A class is registered once in the process for
//! each command with these parameters, and stays. Knows no element.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use gst::{
    glib::{self, ParamFlags},
    prelude::*,
};
use serde_json::{Map, Number, Value};

use super::child::ReactorCommand;
use crate::{
    platform::{
        Code, Error,
        http::sanitize,
        json_text, lock,
        schema::{Parameter, ParameterType, Schema},
    },
    property::PLAYING,
};

/// The most classes of the process: they are never freed.
pub const MAX_CLASSES: usize = 4096;

/// The property of a command without parameters.
const TRIGGER: &str = "trigger";
/// The property of a command whose parameters the model does not list.
const ARGUMENTS: &str = "arguments";
/// The other name of a command's only parameter.
const VALUE: &str = "value";
/// The properties that every child has.
const RESERVED: [&str; 3] = ["name", "parent", super::child::SUMMARY];

/// A command with its class.
#[derive(Debug)]
pub struct CommandClass {
    pub name: String,
    /// A subclass of [`ReactorCommand`].
    pub type_: glib::Type,
    pub summary: String,
    pub parameters: Vec<Parameter>,
    properties: Vec<(String, Target)>,
}

/// What a property sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The parameter with this index.
    Parameter(usize),
    Trigger,
    /// All arguments, as an object.
    Arguments,
}

/// A value for a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    Json(Value),
    /// A file to upload.
    File(PathBuf),
}

impl CommandClass {
    /// The class of a command; `None` if the process has too many.
    pub fn of(schema: &Schema, command: &str) -> Option<Arc<Self>> {
        static CLASSES: Mutex<BTreeMap<String, Arc<CommandClass>>> = Mutex::new(BTreeMap::new());
        let (parameters, summary) = (schema.parameters(command), schema.summary(command));
        let key = format!("{command:?} {summary:?} {parameters:?}");
        let mut classes = lock(&CLASSES);
        if let Some(class) = classes.get(&key) {
            return Some(class.clone());
        }
        if classes.len() >= MAX_CLASSES {
            return None;
        }
        let class = Arc::new(Self::register(command, summary, parameters)?);
        classes.insert(key, class.clone());
        Some(class)
    }

    fn register(
        command: &str,
        summary: Option<String>,
        parameters: Option<Vec<Parameter>>,
    ) -> Option<Self> {
        let properties = name_properties(parameters.as_deref());
        let parameters = parameters.unwrap_or_default();
        let specs = properties.iter();
        let specs = specs.map(|(name, target)| specify(name, *target, &parameters));
        let specs = specs.collect::<Option<Vec<_>>>()?;
        let type_name = unique_type_name("GstReactorCommand", command);
        Some(Self {
            name: command.to_owned(),
            type_: dynamic_gobject::register_subclass::<ReactorCommand>(&type_name, specs)?,
            summary: summary.unwrap_or_default(),
            parameters,
            properties,
        })
    }

    /// What a property sets.
    pub fn target(&self, property: &str) -> Option<Target> {
        let found = self.properties.iter().find(|(name, _)| name == property);
        found.map(|(_, target)| *target)
    }

    /// The first property that sets this, `COMMAND::PROPERTY`.
    pub fn property_of(&self, target: Target) -> Option<String> {
        let found = self.properties.iter().find(|(_, of)| *of == target);
        found.map(|(property, _)| format!("{}::{property}", sanitize(&self.name)))
    }
}

/// The properties of a command, with names that GObject takes.
fn name_properties(parameters: Option<&[Parameter]>) -> Vec<(String, Target)> {
    let parameters = match parameters {
        None => return vec![(ARGUMENTS.to_owned(), Target::Arguments)],
        Some([]) => return vec![(TRIGGER.to_owned(), Target::Trigger)],
        Some(parameters) => parameters,
    };
    let mut names = BTreeSet::new();
    let mut properties = Vec::new();
    for (n, parameter) in parameters.iter().enumerate() {
        let plain = property_name(&parameter.name);
        let numbered = (2..).map(|count| format!("{plain}-{count}"));
        let mut candidates = std::iter::once(plain.clone()).chain(numbered);
        if let Some(name) = candidates.find(|name| !names.contains(name)) {
            names.insert(name.clone());
            properties.push((name, Target::Parameter(n)));
        }
    }
    if parameters.len() == 1 && !names.contains(VALUE) {
        properties.push((VALUE.to_owned(), Target::Parameter(0)));
    }
    properties
}

/// The name of a parameter as GObject spells it: letters, digits and `-`.
fn property_name(parameter: &str) -> String {
    let letters = parameter.chars();
    let name: String = letters
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) && !RESERVED.contains(&&*name) {
        true => name,
        false => format!("parameter-{name}"),
    }
}

/// A name for a type that says which command it is of.
fn unique_type_name(prefix: &str, command: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let letters = command.chars().take(64);
    let name: String = letters
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{name}-{count}")
}

/// The specification of a property.
fn specify(name: &str, target: Target, parameters: &[Parameter]) -> Option<glib::ParamSpec> {
    match target {
        Target::Parameter(n) => Some(specify_parameter(name, parameters.get(n)?)),
        Target::Trigger => {
            let spec = glib::ParamSpecBoolean::builder(name).nick("Trigger");
            let spec = spec.blurb("Set to true it sends the command; it reads as false");
            Some(spec.flags(PLAYING | gst::PARAM_FLAG_CONTROLLABLE).build())
        }
        Target::Arguments => {
            let spec = glib::ParamSpecString::builder(name).nick("Arguments");
            let spec = spec.blurb("The arguments, which the model does not list: a JSON5 object");
            Some(spec.flags(PLAYING).build())
        }
    }
}

fn specify_parameter(name: &str, parameter: &Parameter) -> glib::ParamSpec {
    let nick = sanitize(&parameter.name);
    let blurb = describe(parameter);
    let controllable = PLAYING | gst::PARAM_FLAG_CONTROLLABLE;
    let default = parameter.default.as_ref();
    match &parameter.value_type {
        ParameterType::Integer { minimum, maximum } => {
            let (least, most) = (minimum.unwrap_or(i64::MIN), maximum.unwrap_or(i64::MAX));
            let (least, most) = (least.min(most), most.max(least));
            let default = default.and_then(Value::as_i64).unwrap_or(0);
            let spec = glib::ParamSpecInt64::builder(name)
                .nick(&nick)
                .blurb(&blurb);
            let spec = spec.minimum(least).maximum(most).flags(controllable);
            spec.default_value(default.clamp(least, most)).build()
        }
        ParameterType::Number { minimum, maximum } => {
            let (least, most) = (minimum.unwrap_or(f64::MIN), maximum.unwrap_or(f64::MAX));
            let (least, most) = (least.min(most), most.max(least));
            let default = default.and_then(Value::as_f64).unwrap_or(0.0);
            let spec = glib::ParamSpecDouble::builder(name)
                .nick(&nick)
                .blurb(&blurb);
            let spec = spec.minimum(least).maximum(most).flags(controllable);
            spec.default_value(default.clamp(least, most)).build()
        }
        ParameterType::Boolean => {
            let default = default.and_then(Value::as_bool).unwrap_or(false);
            let spec = glib::ParamSpecBoolean::builder(name)
                .nick(&nick)
                .blurb(&blurb);
            spec.default_value(default).flags(controllable).build()
        }
        ParameterType::Choice(texts) => {
            specify_choice(name, (&nick, &blurb), texts, default, controllable)
                .unwrap_or_else(|| specify_text(name, &nick, &blurb, None))
        }
        ParameterType::Text { .. } => {
            specify_text(name, &nick, &blurb, default.and_then(Value::as_str))
        }
        ParameterType::File => specify_text(name, &nick, &blurb, None),
        ParameterType::Other => {
            let default = default.map(Value::to_string);
            specify_text(name, &nick, &blurb, default.as_deref())
        }
    }
}

fn specify_text(name: &str, nick: &str, blurb: &str, default: Option<&str>) -> glib::ParamSpec {
    let spec = glib::ParamSpecString::builder(name).nick(nick).blurb(blurb);
    let default = default.filter(|text| !text.contains('\0'));
    spec.default_value(default).flags(PLAYING).build()
}

/// `None` if the texts make no enumeration.
fn specify_choice(
    name: &str,
    (nick, blurb): (&str, &str),
    texts: &[String],
    default: Option<&Value>,
    flags: ParamFlags,
) -> Option<glib::ParamSpec> {
    let default = default.and_then(Value::as_str);
    let default = texts.iter().position(|text| Some(text.as_str()) == default);
    let default = i32::try_from(default.unwrap_or(0)).ok()?;
    let type_name = unique_type_name("GstReactorChoice", name);
    let type_ = dynamic_gobject::register_enum(&type_name, texts)?;
    dynamic_gobject::enum_property(name, nick, blurb, type_, default, flags)
}

/// What a listing says of a parameter.
fn describe(parameter: &Parameter) -> String {
    let what = match &parameter.value_type {
        ParameterType::File => "path of a file to upload".to_owned(),
        ParameterType::Other => format!("{}, as JSON5", parameter.kind),
        ParameterType::Text {
            max_length: Some(length),
        } => format!("{} of at most {length} characters", parameter.kind),
        _ => parameter.kind.clone(),
    };
    let required = if parameter.required { ", required" } else { "" };
    match &parameter.description {
        Some(text) => format!("{text} ({what}{required})"),
        None => format!("{what}{required}"),
    }
}

/// The argument that a property's value stands for; `None` takes it back.
///
/// Fails with [`Code::BadRequest`] if a text is not JSON5, or a number not finite.
pub fn to_argument(
    command: &str,
    parameter: &Parameter,
    value: &glib::Value,
) -> Result<Option<Argument>, Error> {
    let text = || value.get::<Option<String>>().ok().flatten();
    let what = || {
        let (command, parameter) = (sanitize(command), sanitize(&parameter.name));
        format!("the property {command}::{parameter}")
    };
    let json = match &parameter.value_type {
        ParameterType::Integer { .. } => value.get::<i64>().ok().map(Value::from),
        ParameterType::Number { .. } => {
            let number = value.get::<f64>().unwrap_or_default();
            let number = Number::from_f64(number)
                .ok_or_else(|| Error::api(Code::BadRequest, format!("{} is not finite", what())))?;
            Some(Value::Number(number))
        }
        ParameterType::Boolean => value.get::<bool>().ok().map(Value::from),
        ParameterType::Choice(_) => match glib::EnumValue::from_value(value) {
            Some((_, value)) => Some(Value::from(value.nick())),
            None => text().map(Value::from),
        },
        ParameterType::Text { .. } => text().map(Value::from),
        ParameterType::File => {
            let path = text().filter(|path| !path.is_empty());
            return Ok(path.map(|path| Argument::File(path.into())));
        }
        ParameterType::Other => match text().filter(|text| !text.trim().is_empty()) {
            Some(text) => Some(json_text::parse(&text, &what())?.into_value()),
            None => None,
        },
    };
    Ok(json.map(Argument::Json))
}

/// The value of a property of this type for an argument.
pub fn to_property(argument: &Argument, type_: glib::Type) -> Option<glib::Value> {
    let value = match argument {
        Argument::File(path) => return Some(path.to_string_lossy().to_value()),
        Argument::Json(value) => value,
    };
    match type_ {
        glib::Type::I64 => value.as_i64().map(|number| number.to_value()),
        glib::Type::F64 => value.as_f64().map(|number| number.to_value()),
        glib::Type::BOOL => value.as_bool().map(|boolean| boolean.to_value()),
        glib::Type::STRING => Some(match value.as_str() {
            Some(text) => text.to_value(),
            None => value.to_string().to_value(),
        }),
        _ => glib::EnumClass::with_type(type_)?.to_value_by_nick(value.as_str()?),
    }
}

/// Whether an argument is of a parameter's type; whether the model allows it, the
/// check says that each command has.
pub fn fits(argument: &Argument, parameter: &Parameter) -> bool {
    let value = match argument {
        Argument::File(_) => return parameter.value_type == ParameterType::File,
        Argument::Json(value) => value,
    };
    match &parameter.value_type {
        ParameterType::Integer { .. } => value.is_i64(),
        ParameterType::Number { .. } => value.is_number(),
        ParameterType::Boolean => value.is_boolean(),
        ParameterType::Text { .. } | ParameterType::Choice(_) => value.is_string(),
        ParameterType::File => false,
        ParameterType::Other => true,
    }
}

/// All arguments of a command, typed as an object.
///
/// Fails with [`Code::BadRequest`] if the text is none in JSON5.
pub fn parse_arguments(command: &str, text: &str) -> Result<Map<String, Value>, Error> {
    let what = format!("the property {}::{ARGUMENTS}", sanitize(command));
    match json_text::parse(text, &what)?.into_value() {
        Value::Object(arguments) => Ok(arguments),
        _ => Err(Error::api(
            Code::BadRequest,
            format!("{what} is not an object"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(command: &str, properties: &Value) -> Arc<CommandClass> {
        let body = json!({"type": "object", "properties": properties});
        let content = json!({"application/json": {"schema": body}});
        let path = format!("/events/{command}");
        let document = json!({"paths": {path: {"post": {"requestBody": {"content": content}}}}});
        let schema = Schema::parse(&document).unwrap();
        CommandClass::of(&schema, command).unwrap()
    }

    fn names(class: &CommandClass) -> Vec<&str> {
        class.properties.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn parameters_get_names_that_gobject_takes() {
        gst::init().unwrap();
        let text = json!({"type": "string"});
        let odd = json!({"name": text, "parent": text, "a b": text, "a_b": text, "größe": text,
            "1st": text, "": text, "a\u{0}": text, "command-summary": text, "value": text});
        let class_ = class("odd name: ü", &odd);
        let expected = [
            "parameter-",
            "parameter-1st",
            "a-",
            "a-b",
            "a-b-2",
            "parameter-command-summary",
            "gr--e",
            "parameter-name",
            "parameter-parent",
            "value",
        ];
        assert_eq!(names(&class_), expected);
        assert_eq!(names(&class("nothing", &json!({}))), [TRIGGER]);
        let one = class("one", &json!({"brightness": {"type": "number"}}));
        assert_eq!(names(&one), ["brightness", VALUE]);
        assert_eq!(one.target("value"), one.target("brightness"));
        assert_eq!(names(&class("one", &json!({"value": text}))), [VALUE]);
        let same = class("one", &json!({"value": text}));
        assert!(Arc::ptr_eq(&same, &class("one", &json!({"value": text}))));
    }

    #[test]
    fn properties_say_what_the_schema_says() {
        gst::init().unwrap();
        let class = class(
            "all",
            &json!({
                "b": {"type": "boolean", "default": true},
                "c": {"enum": ["oil", "ink"], "default": "ink", "description": "How it is painted."},
                "d": {"enum": ["oil", "ink"]},
                "f": {"type": "number", "default": 0.25, "minimum": -1, "maximum": 1},
                "i": {"type": "integer", "default": 7},
                "o": {"type": "array", "description": "Points."},
                "s": {"type": "string", "default": "dawn", "maxLength": 500},
                "u": {"format": "reactor-upload-reference"},
            }),
        );
        let object = glib::Object::with_type(class.type_);
        let spec = |name: &str| object.find_property(name).unwrap();
        for (name, blurb) in [
            ("b", "boolean"),
            ("c", "How it is painted. ("),
            ("o", "Points. (array, as JSON5)"),
            ("s", "of at most 500 characters"),
            ("u", "path of a file to upload"),
        ] {
            let found = spec(name).blurb().unwrap_or_default().to_owned();
            assert!(found.contains(blurb), "{name}: {found}");
        }
        for (name, default) in [("c", "ink"), ("d", "oil")] {
            let value = spec(name).default_value().clone();
            let (_, value) = glib::EnumValue::from_value(&value).unwrap();
            assert_eq!(value.nick(), default, "{name}");
            let present = object.property_value(name);
            let (_, present) = glib::EnumValue::from_value(&present).unwrap();
            assert_eq!(present.nick(), default, "{name}");
        }
        assert!(object.property::<bool>("b"));
        assert_eq!(object.property::<f64>("f"), 0.25);
        assert_eq!(object.property::<i64>("i"), 7);
        assert_eq!(object.property::<String>("s"), "dawn");
    }

    #[test]
    fn hostile_schema_makes_properties() {
        gst::init().unwrap();
        for (n, rules) in [
            json!({"type": "integer", "minimum": 5, "maximum": -5, "default": 1e300}),
            json!({"type": "number", "minimum": 5, "maximum": -5, "default": -1e300}),
            json!({"type": "number", "exclusiveMaximum": -1e308}),
            json!({"type": "string", "default": "a\u{0}b", "description": "\u{0}"}),
            json!({"enum": ["a", "a"]}),
            json!({"enum": ["a\u{0}", "b"], "default": "c"}),
            json!({"enum": [1, "a", null, [2]], "default": {"a": ["\u{0}"]}}),
            json!({"type": "boolean", "default": "yes"}),
        ]
        .iter()
        .enumerate()
        {
            let class = class(&format!("hostile{n}"), &json!({"p": rules}));
            let object = glib::Object::with_type(class.type_);
            for property in object.list_properties() {
                let _ = object.property_value(property.name());
            }
            assert!(object.has_property("p"), "{rules}");
        }
    }

    #[test]
    fn values_become_arguments_and_back() {
        gst::init().unwrap();
        let rules = json!({
            "b": {"type": "boolean"}, "c": {"enum": ["oil", "ink"]}, "f": {"type": "number"},
            "i": {"type": "integer"}, "o": {"type": "array"}, "s": {"type": "string"},
            "u": {"format": "reactor-upload-reference"},
        });
        let class = class("all", &rules);
        let object = glib::Object::with_type(class.type_);
        let argument = |name: &str, value: glib::Value| {
            let Some(Target::Parameter(n)) = class.target(name) else {
                panic!("no {name}");
            };
            to_argument("all", &class.parameters[n], &value)
        };
        let style = glib::EnumClass::with_type(object.find_property("c").unwrap().value_type());
        let ink = style.unwrap().to_value_by_nick("ink").unwrap();
        for (name, value, expected) in [
            ("b", true.to_value(), json!(true)),
            ("c", ink, json!("ink")),
            ("f", 0.5f64.to_value(), json!(0.5)),
            ("i", 7i64.to_value(), json!(7)),
            ("o", "[1,{a:'b'}]".to_value(), json!([1, {"a": "b"}])),
            ("s", "@file:x".to_value(), json!("@file:x")),
        ] {
            let found = argument(name, value).unwrap().unwrap();
            assert_eq!(found, Argument::Json(expected), "{name}");
            let type_ = object.find_property(name).unwrap().value_type();
            let back = to_property(&found, type_).unwrap();
            let taken_by = class.parameters.iter().filter(|p| fits(&found, p));
            let taken_by: Vec<_> = taken_by.map(|p| p.name.as_str()).collect();
            let other = match name {
                // An integer is a number, a choice is a text, and JSON may be anything.
                "i" => vec!["f", "i", "o"],
                "c" | "s" => vec!["c", "o", "s"],
                "o" => vec!["o"],
                name => vec![name, "o"],
            };
            assert_eq!(taken_by, other, "{name}");
            assert_eq!(argument(name, back).unwrap().unwrap(), found, "{name}");
        }
        let file = argument("u", "a b.png".to_value()).unwrap();
        assert_eq!(file, Some(Argument::File("a b.png".into())));
        let takes_file = class
            .parameters
            .iter()
            .filter(|p| fits(file.as_ref().unwrap(), p));
        assert_eq!(
            takes_file.map(|p| p.name.as_str()).collect::<Vec<_>>(),
            ["u"]
        );
        for name in ["o", "s", "u"] {
            let none = argument(name, None::<String>.to_value()).unwrap();
            assert_eq!(none, None, "{name}");
        }
        assert!(
            argument("o", "[1".to_value())
                .unwrap_err()
                .message
                .contains("all::o")
        );
        assert!(argument("f", f64::NAN.to_value()).is_err());
        let arguments = parse_arguments("all", "{a:1}").unwrap();
        assert_eq!(Value::from(arguments), json!({"a": 1}));
        assert!(parse_arguments("all", "[1]").is_err());
    }
}
