// SPDX-License-Identifier: MIT

use serde_json::{Map, json};

use super::*;
use crate::reactorsrc::{ReactorSrc, membership};

#[test]
fn pads_at_different_positions_keep_to_the_rate() {
    let mut automation = Automation::default();
    let mut followed = Vec::new();
    // Video, and sound that is 300 ms ahead.
    for n in 0..300 {
        for position in [n * 10, n * 10 + 300] {
            if automation.follows(gst::ClockTime::from_mseconds(position), 5) {
                followed.push(position);
            }
        }
    }
    assert!(followed.is_sorted(), "{followed:?}");
    assert!((15..=17).contains(&followed.len()), "{followed:?}");
    // A seek to the beginning.
    assert!(!automation.follows(gst::ClockTime::ZERO, 5));
    automation.last = None;
    assert!(automation.follows(gst::ClockTime::ZERO, 5));
}

/// The schema of a model with these commands, without parameters.
fn schema<'a>(commands: impl IntoIterator<Item = &'a str>) -> Schema {
    let body = json!({"type": "object", "properties": {}});
    let content = json!({"application/json": {"schema": body}});
    let post = json!({"post": {"requestBody": {"content": content}}});
    let paths = commands.into_iter();
    let paths: Map<_, _> = paths
        .map(|name| (format!("/events/{name}"), post.clone()))
        .collect();
    Schema::parse(&json!({ "paths": paths })).unwrap()
}

/// A source with a pad `messages`, and the commands of this schema as children.
fn source(schema: &Schema) -> (ReactorSrc, gst::Bus) {
    gst::init().unwrap();
    let source = glib::Object::new::<ReactorSrc>();
    let bus = gst::Bus::new();
    source.set_bus(Some(&bus));
    source.request_pad_simple("messages").unwrap();
    let commands = &membership(source.upcast_ref()).unwrap().commands;
    commands.update(source.upcast_ref(), schema);
    (source, bus)
}

/// A command has the name of a pad with properties, another that of an element inside.
#[test]
fn command_comes_before_pad_and_element_of_its_name() {
    let (source, bus) = source(&schema(["messages", "messages_appsrc", "start"]));
    for name in ["messages", "messages_appsrc", "start"] {
        let child = source.child_by_name(name).unwrap();
        assert!(child.is::<ReactorCommand>(), "{name}: {child:?}");
    }
    // Both are found in other ways, and counted.
    assert!(source.static_pad("messages").is_some());
    assert!(source.by_name("messages_appsrc").is_some());
    let children = (0..source.children_count()).map(|n| source.child_by_index(n).unwrap());
    let children: Vec<_> = children.collect();
    let commands = children.iter().filter(|child| child.is::<ReactorCommand>());
    assert_eq!((commands.count(), children.len()), (3, 5), "{children:?}");
    assert!(source.child_by_index(5).is_none());
    assert!(bus.pop().is_none());
}

#[test]
fn commands_that_become_no_children_are_a_warning() {
    let names: Vec<_> = (0..MAX_CHILDREN + 2).map(|n| format!("go{n}")).collect();
    let schema = schema(names.iter().map(String::as_str));
    let (source, bus) = source(&schema);
    let commands = &membership(source.upcast_ref()).unwrap().commands;
    assert_eq!(commands.count() as usize, MAX_CHILDREN);
    // Once, and not again with the next session.
    commands.update(source.upcast_ref(), &schema);
    let message = bus.pop_filtered(&[gst::MessageType::Warning]).unwrap();
    let gst::MessageView::Warning(warning) = message.view() else {
        panic!("{message:?}");
    };
    let text = warning.error().message().to_owned();
    assert!(text.starts_with("2 of the model's commands"), "{text}");
    assert!(bus.pop_filtered(&[gst::MessageType::Warning]).is_none());
}
