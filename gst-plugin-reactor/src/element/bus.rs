// SPDX-License-Identifier: MIT

//! The messages that elements post on the bus. Called by event threads and by
//! replies; keeps no state.

use gst::{glib, prelude::*};

use crate::session::{Progress, assert_unlocked, codecs::Codec};

/// Posts a message of the element's. Handlers on the bus are the application's code.
pub fn post_message(element: &gst::Element, message: gst::Message) {
    assert_unlocked();
    let _ = element.post_message(message);
}

/// Posts an element message.
pub fn post(element: &gst::Element, structure: gst::Structure) {
    let message = gst::message::Element::builder(structure)
        .src(element)
        .build();
    post_message(element, message);
}

/// Posts a progress message of the connection.
pub fn post_progress(element: &gst::Element, progress: Progress) {
    use gst::ProgressType;
    let (kind, text) = match progress {
        Progress::Start(text) => (ProgressType::Start, text.to_owned()),
        Progress::Continue(text) => (ProgressType::Continue, text),
        Progress::Complete(text) => (ProgressType::Complete, text.to_owned()),
        Progress::Error(text) => (ProgressType::Error, text),
        Progress::Canceled(text) => (ProgressType::Canceled, text.to_owned()),
    };
    let message = gst::message::Progress::builder(kind, "connect", &text).src(element);
    post_message(element, message.build());
}

/// Emits a message of the model or the platform as a signal and posts it.
pub fn post_json(
    element: &gst::Element,
    signal: &str,
    message: &str,
    name: &str,
    data: &serde_json::Value,
) {
    let json = data.to_string();
    assert_unlocked();
    element.emit_by_name::<()>(signal, &[&name, &json]);
    let structure = gst::Structure::builder(message)
        .field("type", name)
        .field("data", json)
        .build();
    post(element, structure);
}

/// Posts the missing-plugin message for the element that would decode `codec`.
pub fn post_missing_plugin(element: &gst::Element, codec: &Codec) {
    use gst_pbutils::MissingPluginMessage;
    let caps = codec.caps();
    let message = if codec.can_depayload() {
        MissingPluginMessage::builder_for_decoder(&caps)
    } else {
        MissingPluginMessage::builder_for_element(codec.depayloader)
    };
    post_message(element, message.src(element).build());
}

/// JSON as a structure: the whole text as `json`, and its scalar members as
/// fields.
pub fn json_structure(name: &str, value: &serde_json::Value) -> gst::Structure {
    let mut structure = gst::Structure::builder(name).field("json", value.to_string());
    for (key, member) in value.as_object().into_iter().flatten() {
        let field: Option<glib::SendValue> = match member {
            serde_json::Value::String(text) => Some(text.to_send_value()),
            serde_json::Value::Bool(flag) => Some(flag.to_send_value()),
            serde_json::Value::Number(number) => number.as_f64().map(|n| n.to_send_value()),
            _ => None,
        };
        if let Some(field) = field.filter(|_| key != "json") {
            structure = structure.field(key.as_str(), field);
        }
    }
    structure.build()
}
