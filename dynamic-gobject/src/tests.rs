// SPDX-License-Identifier: MIT

use std::sync::{LazyLock, Mutex};

use glib::{prelude::*, subclass::prelude::*};

use super::*;

mod imp {
    use super::*;

    /// Keeps the last value of each property, as text.
    #[derive(Debug, Default)]
    pub struct Parent(pub Mutex<Vec<(String, glib::Value)>>);

    // SAFETY: the tests use a value on one thread at a time.
    unsafe impl Send for Parent {}
    // SAFETY: as above.
    unsafe impl Sync for Parent {}

    #[glib::object_subclass]
    impl ObjectSubclass for Parent {
        const NAME: &'static str = "DynamicGobjectTestParent";
        type Type = super::Parent;
    }

    impl ObjectImpl for Parent {
        fn properties() -> &'static [ParamSpec] {
            static PROPERTIES: LazyLock<Vec<ParamSpec>> = LazyLock::new(|| vec![number("own")]);
            &PROPERTIES
        }

        fn set_property(&self, _id: usize, value: &glib::Value, pspec: &ParamSpec) {
            let mut values = self.0.lock().unwrap();
            values.retain(|(name, _)| name != pspec.name());
            values.push((pspec.name().to_owned(), value.clone()));
        }

        fn property(&self, _id: usize, pspec: &ParamSpec) -> glib::Value {
            let values = self.0.lock().unwrap();
            let value = values.iter().find(|(name, _)| name == pspec.name());
            value.map_or_else(|| pspec.default_value().clone(), |(_, value)| value.clone())
        }
    }
}

glib::wrapper! {
    pub struct Parent(ObjectSubclass<imp::Parent>);
}

fn number(name: &str) -> ParamSpec {
    let spec = glib::ParamSpecInt64::builder(name).minimum(-5).maximum(5);
    spec.default_value(1).flags(ParamFlags::READWRITE).build()
}

#[test]
fn classes_have_properties_of_their_own() {
    let text = glib::ParamSpecString::builder("text").build();
    let a = register_subclass::<Parent>("DynamicA", vec![number("number"), text]).unwrap();
    let b = register_subclass::<Parent>("DynamicB", vec![number("other")]).unwrap();
    let none = register_subclass::<Parent>("DynamicNone", Vec::new()).unwrap();
    for type_ in [a, b, none] {
        assert!(type_.is_a(Parent::static_type()));
    }
    let objects = [a, a, b].map(|type_| {
        let object = glib::Object::with_type(type_);
        object.downcast::<Parent>().unwrap()
    });
    assert_eq!(objects[0].property::<i64>("number"), 1);
    objects[0].set_property("number", 3i64);
    objects[0].set_property("text", "x");
    assert_eq!(objects[0].property::<i64>("number"), 3);
    assert_eq!(objects[0].property::<String>("text"), "x");
    assert_eq!(objects[1].property::<i64>("number"), 1, "another object");
    assert!(objects[2].has_property("other") && !objects[2].has_property("number"));
    assert!(!glib::Object::with_type(none).has_property("number"));
    drop(objects);
}

#[test]
fn what_gobject_would_not_check_is_refused() {
    let twice = vec![number("same"), number("same")];
    assert_eq!(register_subclass::<Parent>("DynamicTwice", twice), None);
    let shared = number("shared");
    let first = register_subclass::<Parent>("DynamicFirst", vec![shared.clone()]);
    assert!(first.is_some());
    assert_eq!(
        register_subclass::<Parent>("DynamicSecond", vec![shared]),
        None
    );
    for name in [
        "",
        "ab",
        "1abc",
        "a b c",
        "a\0bc",
        "äbc",
        "DynamicFirst",
        "GObject",
    ] {
        assert_eq!(
            register_subclass::<Parent>(name, Vec::new()),
            None,
            "{name:?}"
        );
        assert_eq!(register_enum(name, &["a".into()]), None, "{name:?}");
    }
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|&text| text.to_owned())
            .collect::<Vec<_>>()
    };
    for wrong in [&[][..], &["a", "a"], &["a\0"]] {
        assert_eq!(register_enum("DynamicWrong", &texts(wrong)), None);
    }
    let flags = ParamFlags::READWRITE;
    assert!(enum_property("x", "x", "x", Type::STRING, 0, flags).is_none());
    let type_ = register_enum("DynamicOne", &texts(&["a"])).unwrap();
    assert!(enum_property("x", "x", "x", type_, 1, flags).is_none());
    assert!(enum_property("1 x", "x", "x", type_, 0, flags).is_none());
}

#[test]
fn texts_become_an_enumeration() {
    let texts = ["oil", "ink & paper", "é"].map(str::to_owned);
    let type_ = register_enum("DynamicStyle", &texts).unwrap();
    let class = glib::EnumClass::with_type(type_).unwrap();
    let nicks: Vec<_> = class.values().iter().map(|v| v.nick().to_owned()).collect();
    assert_eq!(nicks, texts);
    let flags = ParamFlags::READWRITE;
    let spec = enum_property("style", "Style", "How", type_, 1, flags).unwrap();
    let with_style = register_subclass::<Parent>("DynamicStyled", vec![spec]).unwrap();
    let object = glib::Object::with_type(with_style);
    let style = || {
        let value = object.property_value("style");
        let (_, value) = glib::EnumValue::from_value(&value).unwrap();
        value.nick().to_owned()
    };
    assert_eq!(style(), "ink & paper");
    object.set_property_from_value("style", &class.to_value_by_nick("é").unwrap());
    assert_eq!(style(), "é");
    // As a program in Python does.
    let text = "oil".to_value();
    let converted = text.transform_with_type(type_).unwrap();
    object.set_property_from_value("style", &converted);
    assert_eq!(style(), "oil");
}
