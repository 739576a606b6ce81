// SPDX-License-Identifier: MIT

//! The page of an element: pads, properties, actions, signals, enumerations.

use std::fmt::Write as _;

use gst::glib::{self, SignalFlags};

use super::{Documented, own_properties, texts};

pub fn page(element: &Documented) -> String {
    let name = element.name();
    let mut page = format!(
        "# {name}: reference\n\n\
         <!-- Made by `UPDATE_REFERENCE=1 cargo test --lib reference` from the code. -->\n\n\
         {}. Class `{}`.\n\
         [What it does and how to use it](../{name}.md), [messages](messages.md), [errors](errors.md).\n",
        element.metadata("description"),
        element.metadata("klass"),
    );
    pads(&mut page, element);
    let specs = element.properties();
    page.push_str("\n## Properties\n\n");
    page.push_str(&properties(&specs));
    signals(&mut page, element);
    enumerations(&mut page, &specs);
    page
}

fn pads(page: &mut String, element: &Documented) {
    page.push_str("\n## Pads\n");
    for template in element.templates() {
        let _ = write!(
            page,
            "\n### `{}`: {} pad, {}\n\n```\n",
            template.name_template(),
            match template.direction() {
                gst::PadDirection::Src => "source",
                _ => "sink",
            },
            match template.presence() {
                gst::PadPresence::Always => "always there",
                gst::PadPresence::Sometimes => "there while the model has such a track",
                _ => "on request",
            },
        );
        for (structure, features) in template.caps().iter_with_features() {
            let caps = gst::Caps::builder_full()
                .structure_with_features(structure.to_owned(), features.to_owned());
            let _ = writeln!(page, "{}", caps.build());
        }
        page.push_str("```\n");
        let specs = own_properties(template.gtype());
        if !specs.is_empty() {
            let _ = write!(page, "\nProperties of the pad:\n\n{}", properties(&specs));
        }
    }
}

fn properties(specs: &[glib::ParamSpec]) -> String {
    let mut table = String::from(
        "| property | type | default | may be set | meaning |\n|---|---|---|---|---|\n",
    );
    for spec in specs {
        let blurb = spec.blurb().unwrap_or_default().replace('|', "\\|");
        let (type_, default) = type_and_default(spec);
        let _ = writeln!(
            table,
            "| `{}` | {type_} | {default} | {} | {blurb} |",
            spec.name(),
            settable(spec),
        );
    }
    table
}

/// When a property may be set, by its flags.
fn settable(spec: &glib::ParamSpec) -> &'static str {
    let flags = spec.flags();
    match () {
        () if !flags.contains(glib::ParamFlags::WRITABLE) => "read-only",
        () if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) => "at any time",
        () if flags.contains(gst::PARAM_FLAG_MUTABLE_PAUSED) => "up to PAUSED",
        () if flags.contains(gst::PARAM_FLAG_MUTABLE_READY) => "in NULL and READY",
        () => "at any time",
    }
}

/// The type with the range of numbers, and the default.
fn type_and_default(spec: &glib::ParamSpec) -> (String, String) {
    let name = type_name(spec.value_type());
    macro_rules! number {
        ($($type:ident: $number:ident)*) => {$(
            if let Some(spec) = spec.downcast_ref::<glib::$type>() {
                let (low, high) = (spec.minimum(), spec.maximum());
                let is_whole = low <= $number::MIN && high >= $number::MAX;
                let range = match is_whole {
                    true => String::new(),
                    false => format!(", {low} to {high}"),
                };
                return (name + &range, spec.default_value().to_string());
            }
        )*};
    }
    number!(ParamSpecUInt: u32 ParamSpecUInt64: u64 ParamSpecInt: i32 ParamSpecInt64: i64 ParamSpecDouble: f64);
    let default = match spec.default_value() {
        _ if !spec.flags().contains(glib::ParamFlags::READABLE) => "write-only".into(),
        value if value.is::<bool>() => value.get::<bool>().unwrap().to_string(),
        value if value.is::<String>() => value
            .get::<Option<String>>()
            .unwrap()
            .map_or_else(|| "none".into(), |text| format!("`{text}`")),
        value => match glib::EnumValue::from_value(value) {
            Some((_, choice)) => format!("`{}`", choice.nick()),
            None => "none".into(),
        },
    };
    (name, default)
}

fn type_name(type_: glib::Type) -> String {
    match type_.name() {
        "gchararray" => "string".into(),
        "gboolean" => "boolean".into(),
        name if type_.is_a(glib::Type::ENUM) => format!("[`{name}`](#{})", name.to_lowercase()),
        name if name.starts_with("Gst") || name.starts_with("GBytes") => format!("`{name}`"),
        name => name.trim_start_matches('g').into(),
    }
}

fn signals(page: &mut String, element: &Documented) {
    let is_action = |signal: &&glib::subclass::Signal| signal.flags().contains(SignalFlags::ACTION);
    let (actions, signals): (Vec<_>, Vec<_>) = element.signals.iter().partition(is_action);
    for (title, column, intro, signals) in [
        ("Actions", "action", texts::ACTIONS, actions),
        ("Signals", "signal", texts::SIGNALS, signals),
    ] {
        if signals.is_empty() {
            continue;
        }
        let _ = write!(
            page,
            "\n## {title}\n\n{intro}\n\n| {column} | meaning |\n|---|---|\n"
        );
        for signal in signals {
            let text = texts::signal(signal.name());
            let types = signal.param_types().iter().map(|t| type_name(t.type_()));
            let names = text.parameters.iter();
            let parameters: Vec<_> = types
                .zip(names)
                .map(|(t, name)| format!("{t} *{name}*"))
                .collect();
            assert_eq!(
                text.parameters.len(),
                signal.param_types().len(),
                "{}",
                signal.name()
            );
            let _ = writeln!(
                page,
                "| `{}` ({}) | {} |",
                signal.name(),
                parameters.join(", "),
                text.meaning
            );
        }
    }
}

fn enumerations(page: &mut String, specs: &[glib::ParamSpec]) {
    let mut classes: Vec<_> = specs
        .iter()
        .filter_map(|spec| Some(spec.downcast_ref::<glib::ParamSpecEnum>()?.enum_class()))
        .collect();
    classes.sort_by_key(|class| class.type_().name());
    classes.dedup_by_key(|class| class.type_());
    if classes.is_empty() {
        return;
    }
    page.push_str("\n## Enumerations\n");
    for class in classes {
        let _ = write!(
            page,
            "\n### {}\n\n| value | meaning |\n|---|---|\n",
            class.type_().name()
        );
        for value in class.values() {
            let _ = writeln!(page, "| `{}` | {} |", value.nick(), value.name());
        }
    }
}
