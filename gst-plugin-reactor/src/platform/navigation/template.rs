// SPDX-License-Identifier: MIT

//! Commands with placeholders in their arguments. Pure; a template never changes
//! once it is checked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::event::InputEvent;
use crate::platform::{
    Error,
    commands::{ModelCommand, bad_request},
    http::sanitize,
};

/// All placeholders.
const PLACEHOLDERS: [&str; 9] = ["x", "y", "nx", "ny", "key", "button", "dx", "dy", "pressed"];

/// The values of an event, by placeholder.
#[derive(Debug, Default)]
pub(super) struct PlaceholderValues(Vec<(&'static str, Value)>);

impl PlaceholderValues {
    pub(super) fn key(key: &str, pressed: bool) -> Self {
        Self(vec![("key", key.into()), ("pressed", pressed.into())])
    }

    /// `None` for an event whose numbers are not finite.
    pub(super) fn mouse(event: &InputEvent, size: (u32, u32)) -> Option<Self> {
        let mut values = Vec::new();
        let (x, y) = match *event {
            InputEvent::MouseMove { x, y } => (x, y),
            InputEvent::MousePress { button, x, y } | InputEvent::MouseRelease { button, x, y } => {
                let pressed = matches!(event, InputEvent::MousePress { .. });
                values.extend([("button", button.into()), ("pressed", pressed.into())]);
                (x, y)
            }
            InputEvent::Scroll { x, y, dx, dy } => {
                if !(dx.is_finite() && dy.is_finite()) {
                    return None;
                }
                values.extend([("dx", dx.into()), ("dy", dy.into())]);
                (x, y)
            }
            InputEvent::KeyPress(_) | InputEvent::KeyRelease(_) => return None,
        };
        if x.is_nan() || y.is_nan() {
            return None;
        }
        let (x, y) = (x.clamp(0.0, 1.0), y.clamp(0.0, 1.0));
        values.extend([("nx", x.into()), ("ny", y.into())]);
        if let (Some(x), Some(y)) = (pixel(x, size.0), pixel(y, size.1)) {
            values.extend([("x", x.into()), ("y", y.into())]);
        }
        Some(Self(values))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(placeholder, _)| *placeholder == name);
        found.map(|(_, value)| value)
    }
}

/// The pixel at a fraction of a side. `None` if the side has none.
fn pixel(at: f64, side: u32) -> Option<u32> {
    let last = side.checked_sub(1)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the side, which is 32 bits"
    )]
    let pixel = (at * f64::from(side)).floor() as u32;
    Some(pixel.min(last))
}

/// A command to be filled in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template(ModelCommand);

impl Template {
    /// Refuses placeholders other than those allowed.
    pub(super) fn new(command: ModelCommand, allowed: &[&str], place: &str) -> Result<Self, Error> {
        let mut arguments = command.data.values();
        let checked = arguments.try_for_each(|value| check_placeholders(value, allowed));
        match checked {
            Ok(()) => Ok(Self(command)),
            Err(what) => {
                let name = sanitize(&command.name);
                Err(bad_request(format!("{place}, command \"{name}\": {what}")))
            }
        }
    }

    /// `None` if the event has no value for a placeholder.
    pub(super) fn render(&self, values: &PlaceholderValues) -> Option<ModelCommand> {
        Some(ModelCommand {
            name: self.0.name.clone(),
            data: fill_object(&self.0.data, values)?,
            // The arguments hold what an event says.
            files: BTreeMap::new(),
        })
    }
}

/// A piece of a text.
enum Part<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Splits a text at its placeholders. A `$` before anything but a letter stands
/// for itself.
fn split_parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, tail) = rest.split_at(at);
        parts.push(Part::Text(before));
        let (dollar, after) = tail.split_at(1);
        let end = after
            .find(|c: char| !c.is_ascii_alphabetic() && c != '_')
            .unwrap_or(after.len());
        let (name, behind) = after.split_at(end);
        rest = match after.strip_prefix('$') {
            Some(behind) => {
                parts.push(Part::Text(dollar));
                behind
            }
            None if name.is_empty() => {
                parts.push(Part::Text(dollar));
                after
            }
            None => {
                parts.push(Part::Placeholder(name));
                behind
            }
        };
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| !matches!(part, Part::Text("")));
    parts
}

fn check_placeholders(value: &Value, allowed: &[&str]) -> Result<(), String> {
    let check = |value| check_placeholders(value, allowed);
    match value {
        Value::String(text) => {
            let unknown = split_parts(text).into_iter().find_map(|part| match part {
                Part::Placeholder(name) if !allowed.contains(&name) => Some(name),
                _ => None,
            });
            let Some(name) = unknown else {
                return Ok(());
            };
            let why = match PLACEHOLDERS.contains(&name) {
                true => "is not known for this event",
                false => "is not a placeholder",
            };
            Err(format!(
                "\"${}\" {why}; there are ${} ($$ is a plain $)",
                sanitize(name),
                allowed.join(", $")
            ))
        }
        Value::Array(items) => items.iter().try_for_each(check),
        Value::Object(members) => members.values().try_for_each(check),
        _ => Ok(()),
    }
}

fn fill_object(map: &Map<String, Value>, values: &PlaceholderValues) -> Option<Map<String, Value>> {
    map.iter()
        .map(|(name, value)| Some((name.clone(), fill_value(value, values)?)))
        .collect()
}

fn fill_value(value: &Value, values: &PlaceholderValues) -> Option<Value> {
    Some(match value {
        Value::String(text) => match split_parts(text).as_slice() {
            [Part::Placeholder(name)] => values.get(name)?.clone(),
            parts => {
                let texts = parts.iter().map(|part| match part {
                    Part::Text(text) => Some((*text).to_owned()),
                    Part::Placeholder(name) => values.get(name).map(to_text),
                });
                texts.collect::<Option<String>>()?.into()
            }
        },
        Value::Array(items) => {
            let items = items.iter().map(|item| fill_value(item, values));
            items.collect::<Option<Vec<_>>>()?.into()
        }
        Value::Object(map) => fill_object(map, values)?.into(),
        other => other.clone(),
    })
}

fn to_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // Without the ".0" of a whole number.
        Value::Number(number) => number
            .as_f64()
            .map_or_else(|| number.to_string(), |number| number.to_string()),
        other => other.to_string(),
    }
}
