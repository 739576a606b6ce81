// SPDX-License-Identifier: MIT

//! `docs/sdk-mapping.md`: what it names exists, and it leaves out nothing that the official
//! Python client has.

use std::{collections::BTreeSet, process::Command};

use gst::prelude::*;
use reactor_tests::official_client;

const DOCUMENT: &str = include_str!("../../docs/sdk-mapping.md");

/// The cells of all rows of tables, with the number of the line.
fn rows() -> Vec<(usize, Vec<&'static str>)> {
    let lines = DOCUMENT.lines().enumerate();
    let rows = lines.filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| SDK "));
    rows.map(|(number, line)| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        (number + 1, cells.collect())
    })
    .collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn mapping_has_no_empty_cell() {
    for (line, cells) in rows() {
        assert_eq!(cells.len(), 3, "line {line}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "line {line}");
    }
    assert!(rows().len() > 100);
}

#[test]
fn mapping_names_existing_properties_and_signals() {
    reactor_tests::init();
    let mut count = 0;
    for name in quoted(DOCUMENT).filter(|name| name.starts_with("reactor") && name.contains(':')) {
        let (factory, member) = name.split_once(':').unwrap();
        if member.trim_start_matches(':') == "NAME" {
            continue;
        }
        let element = gst::ElementFactory::make(factory).build().expect(factory);
        let exists = match member.strip_prefix(':') {
            Some(signal) => {
                gst::glib::subclass::SignalId::lookup(signal, element.type_()).is_some()
            }
            None => element.has_property(member),
        };
        assert!(exists, "{name}");
        count += 1;
    }
    assert!(count > 80, "{count}");
}

/// The public names of the package and of its classes, each on a line.
const NAMES: &str = "
import enum, inspect, reactor_sdk
for name in reactor_sdk.__all__:
    print(name)
    value = getattr(reactor_sdk, name)
    if name in ('Reactor', 'Track', 'TrackList', 'FileRef', 'Clip', 'ConnectionStats'):
        members = set(vars(value)) | set(getattr(value, '__annotations__', ()))
        print('\\n'.join(member for member in members if not member.startswith('_')))
for callable in (reactor_sdk.Reactor.__init__, reactor_sdk.Reactor.connect, reactor_sdk.fetch_jwt):
    parameters = inspect.signature(callable).parameters
    print('\\n'.join(name for name in parameters if name != 'self'))
";

#[test]
fn mapping_has_every_name_of_official_client() {
    let output = Command::new(official_client::python())
        .args(["-c", NAMES])
        .output()
        .expect("the interpreter runs");
    assert!(output.status.success(), "{output:?}");
    let names = String::from_utf8(output.stdout).unwrap();
    // Of `Clip.kind`, `on(event)` and the like, each word.
    let in_column = rows().into_iter().flat_map(|(_, cells)| quoted(cells[0]));
    let words = in_column.flat_map(|text| text.split(|c: char| !(c.is_alphanumeric() || c == '_')));
    let mapped: BTreeSet<_> = words.collect();
    let missing: Vec<_> = names
        .lines()
        .filter(|name| !mapped.contains(name))
        .collect();
    assert!(
        missing.is_empty(),
        "not in docs/sdk-mapping.md: {missing:?}"
    );
    assert!(names.lines().count() > 100, "{names}");
}
