// SPDX-License-Identifier: MIT

//! What GStreamer's structures hold, for the model.

use gst::glib;
use serde_json::{Map, Value};

use crate::model::Level;

/// All fields as JSON; a field of another type is its text.
pub fn to_json(structure: &gst::StructureRef) -> Map<String, Value> {
    let fields = structure.iter();
    fields
        .map(|(name, value)| (name.to_string(), value_to_json(value)))
        .collect()
}

fn value_to_json(value: &glib::SendValue) -> Value {
    if let Ok(structure) = value.get::<gst::Structure>() {
        return to_json(&structure).into();
    }
    if let Ok(flag) = value.get::<bool>() {
        return flag.into();
    }
    if let Ok(text) = value.get::<Option<String>>() {
        return text.into();
    }
    // JSON has no other numbers than those that a double has, but for 64 bits.
    if let Ok(number) = value.get::<u64>() {
        return number.into();
    }
    if let Ok(number) = value.get::<u32>() {
        return number.into();
    }
    if let Ok(number) = value.get::<f64>() {
        return number.into();
    }
    if let Ok(number) = value.transform::<i64>() {
        return number.get::<i64>().unwrap_or_default().into();
    }
    let text = value.transform::<Option<String>>().ok();
    text.and_then(|text| text.get::<Option<String>>().ok().flatten())
        .into()
}

/// A field as text, or an empty string.
pub fn text(structure: &gst::StructureRef, field: &str) -> String {
    let value = structure.value(field).ok();
    let text = value.and_then(|value| value.transform::<Option<String>>().ok());
    text.and_then(|value| value.get().ok().flatten())
        .unwrap_or_default()
}

/// The nick of an enumeration's value, or an empty string.
pub fn nick(structure: &gst::StructureRef, field: &str) -> String {
    let value = structure.value(field).ok();
    let entry = value.and_then(|value| glib::EnumValue::from_value(value));
    entry.map_or_else(String::new, |(_, value)| value.nick().to_owned())
}

/// How loud each channel is, by the element `level`.
pub fn levels(structure: &gst::StructureRef) -> Option<Vec<Level>> {
    if structure.name() != "level" {
        return None;
    }
    let values = |field: &str| {
        let values = structure.get::<glib::ValueArray>(field).ok()?;
        let values = values.iter().map(|value| value.get::<f64>());
        values.collect::<Result<Vec<_>, _>>().ok()
    };
    let channels = values("rms")?.into_iter().zip(values("peak")?);
    Some(channels.map(|(rms, peak)| Level { rms, peak }).collect())
}

/// `CODE: message`, of a structure such as the property `last-error`.
pub fn error(structure: &gst::StructureRef) -> String {
    let (code, message) = (text(structure, "code"), text(structure, "message"));
    format!("{code}: {message}")
}

/// What a reply says: an error, `type` and `data`, or nothing.
pub fn outcome(reply: Option<&gst::StructureRef>) -> Result<Option<String>, String> {
    let Some(reply) = reply else {
        return Ok(None);
    };
    if let Ok(failure) = reply.get::<gst::Structure>("error") {
        return Err(error(&failure));
    }
    let kind = text(reply, "type");
    Ok((!kind.is_empty()).then(|| format!("{kind} {}", text(reply, "data"))))
}
