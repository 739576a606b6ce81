// SPDX-License-Identifier: MIT

//! A typed view of a command's parameters: what a property, or a pad, has to
//! know before anybody gives a value. Pure. It never decides whether a value is
//! allowed; [`Schema::check`](super::Schema::check) does.

use serde_json::Value;

use super::validator::{Limits, Validator, list, type_names};
use crate::platform::http::sanitize;

/// The most of a description that is kept, in characters.
const MAX_DESCRIPTION: usize = 1000;

/// A parameter of a command.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    pub name: String,
    pub value_type: ParameterType,
    /// Whether it may be null as well.
    pub nullable: bool,
    pub required: bool,
    /// What the model assumes if the parameter is not given; never null.
    pub default: Option<Value>,
    /// What the model's author says about it; without control characters.
    pub description: Option<String>,
    /// Its kind in a word or two, for messages: `integer`, `file`, `string or null`...
    pub kind: String,
}

/// The type of the values that a parameter takes, null aside.
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterType {
    /// The length is in characters.
    Text {
        max_length: Option<u64>,
    },
    /// Both limits are allowed values.
    Integer {
        minimum: Option<i64>,
        maximum: Option<i64>,
    },
    /// Both limits are allowed values.
    Number {
        minimum: Option<f64>,
        maximum: Option<f64>,
    },
    Boolean,
    /// One of these texts; at least one.
    Choice(Vec<String>),
    /// An uploaded file.
    File,
    /// An array, an object, values of several types, or whatever: any JSON.
    Other,
}

impl Parameter {
    pub(super) fn new(
        name: &str,
        schema: &Value,
        required: bool,
        validator: &Validator<'_>,
    ) -> Self {
        // A `$ref` may have the default and the description beside it.
        let target = validator.resolve(schema).unwrap_or(schema);
        let (target, mut nullable) = without_null(target, validator);
        nullable |= type_names(target).any(|name| name == "null")
            || list(target, "enum").contains(&Value::Null)
            || target.get("nullable") == Some(&Value::Bool(true));
        let member = |keyword: &str| schema.get(keyword).or_else(|| target.get(keyword));
        let value_type = match validator.is_file(schema) {
            true => ParameterType::File,
            false => value_type(target),
        };
        Self {
            name: name.to_owned(),
            value_type,
            nullable,
            required,
            default: member("default").filter(|value| !value.is_null()).cloned(),
            description: member("description").and_then(Value::as_str).map(shorten),
            kind: validator.describe(schema),
        }
    }

    pub fn is_text(&self) -> bool {
        matches!(self.value_type, ParameterType::Text { .. })
    }

    #[allow(dead_code, reason = "for pads that take files")]
    pub fn is_file(&self) -> bool {
        self.value_type == ParameterType::File
    }
}

/// What a schema says besides "or null", and whether it says that.
fn without_null<'a>(schema: &'a Value, validator: &Validator<'a>) -> (&'a Value, bool) {
    for keyword in ["anyOf", "oneOf"] {
        let is_null = |part: &&Value| type_names(part).eq(["null"]);
        let parts: Vec<_> = list(schema, keyword).iter().collect();
        let (null, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_null);
        if let ([_, ..], [only]) = (null.as_slice(), others.as_slice()) {
            return (validator.resolve(only).unwrap_or(only), true);
        }
    }
    (schema, false)
}

fn value_type(schema: &Value) -> ParameterType {
    let combined = ["anyOf", "oneOf", "allOf", "not"];
    if combined.iter().any(|keyword| schema.get(keyword).is_some()) {
        return ParameterType::Other;
    }
    let constant = schema.get("const");
    let values = constant.map_or(list(schema, "enum"), std::slice::from_ref);
    let values: Vec<_> = values.iter().filter(|value| !value.is_null()).collect();
    if !values.is_empty() {
        return choice(&values);
    }
    let names: Vec<_> = type_names(schema).filter(|name| *name != "null").collect();
    match names.as_slice() {
        ["string"] => ParameterType::Text {
            max_length: schema.get("maxLength").and_then(Value::as_u64),
        },
        ["boolean"] => ParameterType::Boolean,
        ["integer"] => integer(Limits::of(schema)),
        ["number"] | ["integer", "number"] | ["number", "integer"] => number(Limits::of(schema)),
        _ => ParameterType::Other,
    }
}

/// The type of a parameter that takes these values only.
fn choice(values: &[&Value]) -> ParameterType {
    let texts: Option<Vec<_>> = values.iter().map(|value| value.as_str()).collect();
    if let Some(texts) = texts {
        return ParameterType::Choice(texts.into_iter().map(str::to_owned).collect());
    }
    let numbers: Option<Vec<_>> = values.iter().map(|value| value.as_i64()).collect();
    match numbers {
        Some(numbers) => ParameterType::Integer {
            minimum: numbers.iter().min().copied(),
            maximum: numbers.iter().max().copied(),
        },
        None => ParameterType::Other,
    }
}

fn integer(limits: Limits) -> ParameterType {
    // `as` saturates: a limit beyond the type is none.
    let least = [
        limits.least.map(f64::ceil),
        limits.above.map(|n| n.floor() + 1.0),
    ];
    let most = [
        limits.most.map(f64::floor),
        limits.below.map(|n| n.ceil() - 1.0),
    ];
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    let to_integer = |limit: f64| limit as i64;
    ParameterType::Integer {
        minimum: least.into_iter().flatten().map(to_integer).max(),
        maximum: most.into_iter().flatten().map(to_integer).min(),
    }
}

fn number(limits: Limits) -> ParameterType {
    let least = [limits.least, limits.above.map(f64::next_up)];
    let most = [limits.most, limits.below.map(f64::next_down)];
    ParameterType::Number {
        minimum: least.into_iter().flatten().reduce(f64::max),
        maximum: most.into_iter().flatten().reduce(f64::min),
    }
}

pub(super) fn shorten(text: &str) -> String {
    sanitize(text).chars().take(MAX_DESCRIPTION).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::Schema, ParameterType::*, *};

    fn schema(text: &str) -> Schema {
        Schema::parse(&serde_json::from_str(text).unwrap()).unwrap()
    }

    /// The parameter `p` of a command, with these rules.
    fn parameter(rules: Value) -> Parameter {
        let body = json!({"type": "object", "properties": {"p": rules}});
        let content = json!({"application/json": {"schema": body}});
        let document = json!({
            "paths": {"/events/c": {"post": {"requestBody": {"content": content}}}},
            "components": {"schemas": {"Size": {"type": "integer", "description": "of it"}}},
        });
        let schema = Schema::parse(&document).unwrap();
        schema.parameters("c").unwrap().remove(0)
    }

    #[test]
    fn parameters_of_playground_are_typed() {
        let playground = schema(include_str!("testdata/playground.json"));
        let of = |command: &str| playground.parameters(command).unwrap();
        let brightness = Parameter {
            name: "brightness".into(),
            value_type: Number {
                minimum: Some(-1.0),
                maximum: Some(1.0),
            },
            nullable: false,
            required: false,
            default: Some(json!(0.0)),
            description: Some("Added to the picture: -1 is black, 1 is white.".into()),
            kind: "number".into(),
        };
        assert_eq!(of("set_brightness"), [brightness]);
        let prompt = &of("set_prompt")[0];
        assert!(prompt.is_text() && prompt.required && !prompt.nullable);
        assert_eq!((&prompt.default, &prompt.description), (&None, &None));
        assert!(of("set_image")[0].is_file());
        let summary = playground.summary("set_image").unwrap();
        assert_eq!(summary, "Show an uploaded image in the right third.");
        assert_eq!(playground.summary("nothing"), None);
    }

    #[test]
    fn every_type_of_the_runtime_is_known() {
        let types = schema(include_str!("testdata/types.json"));
        let choice = |texts: &[&str]| Choice(texts.iter().map(|&text| text.into()).collect());
        let text = |max_length| Text { max_length };
        let integer = |minimum, maximum| Integer { minimum, maximum };
        let limits = (Some(-1.5), Some(1.5));
        let (minimum, maximum) = limits;
        let number = Number { minimum, maximum };
        let expected = [
            ("scalars", "b", Boolean, false),
            ("scalars", "f", number, false),
            ("scalars", "i", integer(Some(0), Some(10)), false),
            ("scalars", "s", text(Some(4)), false),
            ("optional", "i", integer(None, None), true),
            ("optional", "p", Other, true),
            ("optional", "s", text(None), true),
            ("optional", "u", File, true),
            ("choices", "c", integer(Some(1), Some(4)), false),
            ("choices", "mixed", Other, false),
            ("choices", "style", choice(&["oil", "ink"]), false),
            ("nested", "path", Other, false),
            ("files", "image", File, false),
            ("files", "more", Other, false),
            ("anything", "a", Other, false),
        ];
        for (command, name, value_type, nullable) in expected {
            let parameters = types.parameters(command).unwrap();
            let found = parameters.iter().find(|p| p.name == name).unwrap();
            assert_eq!(found.value_type, value_type, "{command} {name}");
            assert_eq!(found.nullable, nullable, "{command} {name}");
        }
    }

    #[test]
    fn limits_are_values_that_are_allowed() {
        let integer = |rules: Value| match parameter(rules).value_type {
            Integer { minimum, maximum } => (minimum, maximum),
            other => panic!("{other:?}"),
        };
        let rules = json!({"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 5.5});
        assert_eq!(integer(rules), (Some(3), Some(5)));
        let rules = json!({"type": "integer", "minimum": 0.5, "maximum": 1e300});
        assert_eq!(integer(rules), (Some(1), Some(i64::MAX)));
        let rules = json!({"type": "number", "minimum": 1, "exclusiveMinimum": true});
        let Number { minimum, maximum } = parameter(rules).value_type else {
            panic!("no number");
        };
        assert!(minimum.unwrap() > 1.0 && maximum.is_none());
    }

    #[test]
    fn null_and_reference_are_looked_through() {
        let size = json!({"$ref": "#/components/schemas/Size", "default": 3});
        let found = parameter(json!({"anyOf": [size, {"type": "null"}], "default": 4}));
        assert!(found.nullable && matches!(found.value_type, Integer { .. }));
        assert_eq!(found.default, Some(json!(4)));
        assert_eq!(found.description.as_deref(), Some("of it"));
        let found = parameter(json!({"enum": ["a", null]}));
        assert!(found.nullable && found.value_type == Choice(vec!["a".into()]));
        let found = parameter(json!({"type": ["string", "null"], "description": "a\u{7}b"}));
        assert!(found.nullable && found.is_text());
        assert!(!found.description.unwrap().contains('\u{7}'));
        for open in [
            json!(true),
            json!(7),
            json!({"$ref": "#/gone"}),
            json!({"const": [1]}),
            json!({"type": ["string", "integer"]}),
            json!({"anyOf": [{"type": "null"}]}),
            json!({"oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}),
        ] {
            assert_eq!(parameter(open.clone()).value_type, Other, "{open}");
        }
    }
}
