// SPDX-License-Identifier: MIT

//! Generates the reference in `docs/reference/` and GStreamer's documentation
//! cache, `docs/gst_plugins_cache.json`, from the elements themselves. Compiled
//! into the unit tests only, which compare both with what is in the tree:
//!
//! ```text
//! UPDATE_REFERENCE=1 cargo test --lib reference     writes them anew
//! ```

mod cache;
mod element_page;
mod errors_page;
mod messages_page;
mod texts;

use std::{fs, path::PathBuf, sync::Once};

use gst::{
    glib::{self, object::ObjectSubclassIs, subclass::prelude::*},
    prelude::*,
};

/// What is documented of an element: its factory, and the signals that it adds
/// to those of its parent.
struct Documented {
    factory: gst::ElementFactory,
    signals: &'static [glib::subclass::Signal],
}

impl Documented {
    fn new<E: ObjectSubclassIs>(name: &str) -> Self
    where
        E::Subclass: ObjectImpl,
    {
        register_plugin();
        Self {
            factory: gst::ElementFactory::find(name).unwrap(),
            signals: <E::Subclass as ObjectImpl>::signals(),
        }
    }

    fn name(&self) -> String {
        self.factory.name().into()
    }

    fn metadata(&self, key: &str) -> &str {
        self.factory.metadata(key).unwrap()
    }

    /// The properties of the element's own type, and of those of this crate that
    /// it extends.
    fn properties(&self) -> Vec<glib::ParamSpec> {
        own_properties(self.factory.load().unwrap().element_type())
    }

    /// Those of the element's class: a factory's do not have the type of their pads.
    fn templates(&self) -> Vec<gst::PadTemplate> {
        let element = self.factory.create().build().unwrap();
        let mut templates: Vec<_> = element.pad_template_list().into_iter().collect();
        templates.sort_by(|a, b| a.name_template().cmp(b.name_template()));
        templates
    }
}

fn elements() -> [Documented; 4] {
    [
        Documented::new::<crate::reactorsrc::ReactorSrc>("reactorsrc"),
        Documented::new::<crate::reactorsink::ReactorSink>("reactorsink"),
        Documented::new::<crate::reactorfilter::ReactorFilter>("reactorfilter"),
        Documented::new::<crate::reactorclip::ReactorClip>("reactorclip"),
    ]
}

fn register_plugin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        crate::plugin_register_static().unwrap();
    });
}

/// The properties that `type_` has and GStreamer's own types lack.
fn own_properties(type_: glib::Type) -> Vec<glib::ParamSpec> {
    // A pad template may leave the type of its pads open.
    let Some(class) = glib::object::ObjectClass::from_type(type_) else {
        return Vec::new();
    };
    let specs = class.list_properties();
    let mut own: Vec<_> = specs
        .iter()
        .filter(|spec| spec.owner_type().name().starts_with("GstReactor"))
        .cloned()
        .collect();
    own.sort_by(|a, b| a.name().cmp(b.name()));
    own
}

/// Compares a file of the tree with what it has to be, or writes it.
fn check(path: &str, expected: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, expected).unwrap();
        return;
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let different = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert!(
        found == expected,
        "{path} is stale, first at {different:?}: UPDATE_REFERENCE=1 cargo test --lib reference"
    );
}

#[test]
fn element_pages_are_current() {
    for element in elements() {
        let path = format!("docs/reference/{}.md", element.name());
        check(&path, &element_page::page(&element));
    }
}

#[test]
fn errors_page_is_current() {
    register_plugin();
    check("docs/reference/errors.md", &errors_page::page());
}

#[test]
fn messages_page_is_current_and_lists_each_message_of_the_sources() {
    check("docs/reference/messages.md", &messages_page::page());
    messages_page::assert_complete();
}

#[test]
fn documentation_cache_is_current() {
    let cache = cache::cache(&elements());
    check("docs/gst_plugins_cache.json", &format!("{cache:#}\n"));
}
