// SPDX-License-Identifier: MIT

//! GStreamer's documentation cache, in the form that hotdoc's GStreamer extension
//! reads (`gst_plugins_cache.json`): https://github.com/hotdoc/hotdoc.

use gst::{
    glib::{self, SignalFlags, translate::IntoGlib},
    prelude::*,
};
use serde_json::{Map, Value, json};

use super::{Documented, own_properties};

pub fn cache(elements: &[Documented]) -> Value {
    let plugin = elements[0].factory.plugin().unwrap();
    let mut other_types = Map::new();
    let elements: Map<_, _> = elements
        .iter()
        .map(|element| (element.name(), describe(element, &mut other_types)))
        .collect();
    json!({
        plugin.plugin_name().as_str(): {
            "description": plugin.description().as_str(),
            "elements": elements,
            "filename": "gstreactor",
            "license": plugin.license().as_str(),
            "other-types": other_types,
            "package": plugin.package().as_str(),
            "source": plugin.source().as_str(),
            "tracers": {},
            "url": plugin.origin().as_str(),
        }
    })
}

fn describe(element: &Documented, other_types: &mut Map<String, Value>) -> Value {
    let type_ = element.factory.load().unwrap().element_type();
    let templates: Map<_, _> = element
        .templates()
        .iter()
        .map(|template| {
            (
                template.name_template().to_string(),
                pad_template(template, other_types),
            )
        })
        .collect();
    let specs = element.properties();
    for spec in &specs {
        add_enumeration(spec, other_types);
    }
    let signals: Map<_, _> = element.signals.iter().map(signal).collect();
    json!({
        "author": element.metadata("author"),
        "description": element.metadata("description"),
        "hierarchy": hierarchy(type_),
        "interfaces": type_.interfaces().iter().map(|t| t.name()).collect::<Vec<_>>(),
        "klass": element.metadata("klass"),
        "long-name": element.metadata("long-name"),
        "pad-templates": templates,
        "properties": properties(&specs),
        "rank": rank(element.factory.rank()),
        "signals": signals,
    })
}

fn hierarchy(type_: glib::Type) -> Vec<&'static str> {
    std::iter::successors(Some(type_), |type_| type_.parent())
        .map(glib::Type::name)
        .collect()
}

fn rank(rank: gst::Rank) -> String {
    match rank {
        gst::Rank::NONE => "none".into(),
        gst::Rank::PRIMARY => "primary".into(),
        rank => rank.into_glib().to_string(),
    }
}

fn pad_template(template: &gst::PadTemplate, other_types: &mut Map<String, Value>) -> Value {
    let direction = match template.direction() {
        gst::PadDirection::Src => "src",
        _ => "sink",
    };
    let presence = match template.presence() {
        gst::PadPresence::Always => "always",
        gst::PadPresence::Sometimes => "sometimes",
        _ => "request",
    };
    let mut value = json!({
        "caps": template.caps().to_string(),
        "direction": direction,
        "presence": presence,
    });
    let type_ = template.gtype();
    let specs = own_properties(type_);
    if !specs.is_empty() {
        value["type"] = type_.name().into();
        other_types.insert(
            type_.name().into(),
            json!({
                "hierarchy": hierarchy(type_),
                "kind": "object",
                "properties": properties(&specs),
            }),
        );
    }
    value
}

fn properties(specs: &[glib::ParamSpec]) -> Map<String, Value> {
    specs.iter().map(property).collect()
}

fn property(spec: &glib::ParamSpec) -> (String, Value) {
    let flags = spec.flags();
    let mutable = match () {
        () if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) => "playing",
        () if flags.contains(gst::PARAM_FLAG_MUTABLE_PAUSED) => "paused",
        () if flags.contains(gst::PARAM_FLAG_MUTABLE_READY) => "ready",
        () => "null",
    };
    let mut value = json!({
        "blurb": spec.blurb(),
        "conditionally-available": flags.contains(gst::PARAM_FLAG_CONDITIONALLY_AVAILABLE),
        "construct": flags.contains(glib::ParamFlags::CONSTRUCT),
        "construct-only": flags.contains(glib::ParamFlags::CONSTRUCT_ONLY),
        "controllable": flags.contains(gst::PARAM_FLAG_CONTROLLABLE),
        "mutable": mutable,
        "readable": flags.contains(glib::ParamFlags::READABLE),
        "type": spec.value_type().name(),
        "writable": flags.contains(glib::ParamFlags::WRITABLE),
    });
    let default = spec.default_value().transform::<String>();
    let default = default
        .ok()
        .and_then(|text| text.get::<Option<String>>().ok().flatten());
    value["default"] = match default {
        Some(default) => default.into(),
        None => "NULL".into(),
    };
    macro_rules! range {
        ($($type:ident)*) => {$(
            if let Some(spec) = spec.downcast_ref::<glib::$type>() {
                value["min"] = spec.minimum().to_string().into();
                value["max"] = spec.maximum().to_string().into();
            }
        )*};
    }
    range!(ParamSpecUInt ParamSpecUInt64 ParamSpecInt ParamSpecInt64 ParamSpecDouble);
    (spec.name().into(), value)
}

fn add_enumeration(spec: &glib::ParamSpec, other_types: &mut Map<String, Value>) {
    let Some(spec) = spec.downcast_ref::<glib::ParamSpecEnum>() else {
        return;
    };
    let class = spec.enum_class();
    let values: Vec<_> = class
        .values()
        .iter()
        .map(|value| {
            json!({
                "desc": value.name(),
                "name": value.nick(),
                "value": value.value().to_string(),
            })
        })
        .collect();
    let description = json!({ "kind": "enum", "values": values });
    other_types.insert(class.type_().name().into(), description);
}

fn signal(signal: &glib::subclass::Signal) -> (String, Value) {
    let arguments: Vec<_> = signal
        .param_types()
        .iter()
        .enumerate()
        .map(|(i, type_)| json!({ "name": format!("arg{i}"), "type": type_.type_().name() }))
        .collect();
    let mut value = json!({
        "args": arguments,
        "return-type": match signal.return_type().type_() {
            glib::Type::UNIT => "void",
            type_ => type_.name(),
        },
        "when": "last",
    });
    if signal.flags().contains(SignalFlags::ACTION) {
        value["action"] = true.into();
    }
    (signal.name().into(), value)
}
