// SPDX-License-Identifier: MIT

//! The public interface of reactorsrc and reactorclip, as gst-inspect-1.0 and programs see it.
//! Users type these names: change them together with the documentation.

use std::process::Command;

use gst::{glib, prelude::*};

use reactor_tests::{TIMEOUT, plugin_environment, process::Process, scratch};

/// Name, type, whether it is writable.
const PROPERTIES: &[(&str, &str, bool)] = &[
    ("adopt-session-id", "gchararray", true),
    ("api-key", "gchararray", true),
    ("api-url", "gchararray", true),
    ("arguments", "gchararray", true),
    ("capabilities", "GstStructure", false),
    ("check-commands", "gboolean", true),
    ("close-timeout", "guint", true),
    ("commands", "gchararray", true),
    ("connection-id", "guint", true),
    ("control-rate", "guint", true),
    ("ice-transport-policy", "GstReactorIceTransportPolicy", true),
    ("jwt", "gchararray", true),
    ("last-error", "GstStructure", false),
    ("latency", "guint", true),
    ("local", "gboolean", true),
    ("local-session", "GstReactorLocalSession", true),
    ("max-latency", "guint", true),
    ("max-receive-bitrate", "guint", true),
    ("max-sdp-attempts", "guint", true),
    ("max-session-duration", "guint", true),
    ("max-upload-size", "guint64", true),
    ("model", "gchararray", true),
    ("navigation", "gchararray", true),
    ("on-gap", "GstReactorOnGap", true),
    ("reconnect", "gboolean", true),
    ("recoverable", "gboolean", true),
    ("report-stats", "gboolean", true),
    ("restart-session", "gboolean", true),
    ("session", "gchararray", true),
    ("session-expiration", "gdouble", false),
    ("session-id", "gchararray", false),
    ("session-info", "GstStructure", false),
    ("stall-timeout", "guint", true),
    ("stats", "GstStructure", false),
    ("stats-interval", "guint", true),
    ("status", "GstReactorStatus", false),
    ("tracks", "GstStructure", false),
    ("waiting-timeout", "guint", true),
    ("wire", "GstReactorWire", true),
];

/// gst-inspect-1.0 also lists the signals of every element with sometimes pads.
const SIGNALS: &[&str] = &[
    "pad-added",
    "pad-removed",
    "no-more-pads",
    "message",
    "runtime-message",
    "session-ended",
    "session-expiration-changed",
];

const CLIP_PROPERTIES: &[(&str, &str, bool)] = &[
    ("api-key", "gchararray", true),
    ("api-url", "gchararray", true),
    ("clip", "GstStructure", true),
    ("close-timeout", "guint", true),
    ("duration", "gdouble", true),
    ("format", "GstReactorClipFormat", true),
    ("jwt", "gchararray", true),
    ("last-error", "GstStructure", false),
    ("local", "gboolean", true),
    ("playlist-url", "gchararray", true),
    ("ready-timeout", "guint", true),
    ("request", "GstReactorClipRequest", true),
    ("session", "gchararray", true),
    ("stats", "GstStructure", false),
    ("temp-directory", "gchararray", true),
    ("trim", "gboolean", true),
];

fn element(factory: &str) -> gst::Element {
    reactor_tests::init();
    gst::ElementFactory::make(factory).build().unwrap()
}

#[test]
fn properties_are_the_documented_ones() {
    assert_properties("reactorsrc", PROPERTIES);
    assert_properties("reactorclip", CLIP_PROPERTIES);
}

fn assert_properties(factory: &str, documented: &[(&str, &str, bool)]) {
    let element = element(factory);
    let own = element.type_();
    let mut found: Vec<_> = element
        .list_properties()
        .iter()
        .filter(|spec| spec.owner_type() == own)
        .map(|spec| {
            let writable = spec.flags().contains(glib::ParamFlags::WRITABLE);
            (spec.name(), spec.value_type().name(), writable)
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, documented);
    for spec in element.list_properties() {
        // A secret property cannot be read.
        let secret = ["api-key", "jwt"].contains(&spec.name());
        let readable = spec.flags().contains(glib::ParamFlags::READABLE);
        assert!(readable != secret, "{spec:?}");
        assert!(
            spec.blurb().is_some_and(|text| !text.is_empty()),
            "{spec:?}"
        );
    }
}

#[test]
fn pad_templates_are_the_documented_ones() {
    let clip = element("reactorclip").pad_template("src").unwrap();
    assert_eq!(clip.presence(), gst::PadPresence::Always);
    assert!(clip.caps().iter().all(|s| s.name() == "video/quicktime"));
    let element = element("reactorsrc");
    let template = |name: &str| element.pad_template(name).unwrap();
    let formats = |name: &str| -> Vec<String> {
        let caps = template(name).caps().clone();
        caps.iter().map(|s| s.name().to_string()).collect()
    };
    assert_eq!(
        formats("video_%s"),
        [
            "video/x-raw",
            "video/x-raw",
            "video/x-vp9",
            "video/x-vp8",
            "video/x-h264",
            "video/x-av1",
            "application/x-rtp",
        ]
    );
    assert_eq!(
        formats("audio_%s"),
        ["audio/x-raw", "audio/x-opus", "application/x-rtp"]
    );
    assert_eq!(formats("messages"), ["application/x-json", "text/x-raw"]);
    assert_eq!(template("messages").presence(), gst::PadPresence::Request);
    for name in ["video_%s", "audio_%s"] {
        assert_eq!(template(name).direction(), gst::PadDirection::Src);
        assert_eq!(template(name).presence(), gst::PadPresence::Sometimes);
    }
}

/// What gst-inspect-1.0 says of a factory and of the values that a property takes.
#[test]
fn factories_name_their_documentation_and_explain_each_value() {
    for factory in ["reactorsrc", "reactorsink", "reactorfilter", "reactorclip"] {
        let element = element(factory);
        let address = element
            .factory()
            .unwrap()
            .metadata("doc-uri")
            .map(str::to_owned);
        assert_eq!(address.as_deref(), Some("https://reactor.inc"), "{factory}");
        for spec in element.list_properties() {
            let Some(class) = glib::EnumClass::with_type(spec.value_type()) else {
                continue;
            };
            for value in class.values() {
                // The name of a value that nobody explained is its nick or an identifier.
                assert!(value.name().contains(' '), "{factory} {spec:?}: {value:?}");
            }
        }
    }
}

#[test]
fn gst_inspect_shows_all_without_warnings() {
    let shown = inspect("reactorsrc", PROPERTIES);
    for text in [
        "SRC template: 'video_%s'",
        "SRC template: 'audio_%s'",
        "SRC template: 'messages'",
        "JSON pointer (RFC 6901)",
    ] {
        assert!(shown.contains(text), "no {text} in:\n{shown}");
    }
    assert_eq!(signals(&shown), SIGNALS);
    let shown = inspect(
        "reactorsink",
        &[("param", "", true), ("max-rate", "", true)],
    );
    for text in [
        "SINK template: 'command_%s'",
        "SINK template: 'commands'",
        "image/webp",
        "application/x-json",
    ] {
        assert!(shown.contains(text), "no {text} in:\n{shown}");
    }
    let shown = inspect("reactorclip", CLIP_PROPERTIES);
    assert!(shown.contains("SRC template: 'src'"), "{shown}");
}

/// What a preset and its file hold, and that nothing secret is saved.
const PRESETS: &str = "
import gi, os, sys
gi.require_version('Gst', '1.0')
from gi.repository import Gst
Gst.init(None)
src = Gst.ElementFactory.make('reactorsrc')
assert src.load_preset('broadcast')
assert src.props.max_latency == 0 and src.props.on_gap.value_nick == 'hold-last-frame'
# What a session has only once is the same for both.
for name in ['low-latency', 'broadcast', 'unstable-network']:
    source, sink = [Gst.ElementFactory.make(kind) for kind in ['reactorsrc', 'reactorsink']]
    assert source.load_preset(name) and sink.load_preset(name)
    for shared in ['latency', 'max-latency', 'stall-timeout', 'restart-session', 'max-sdp-attempts']:
        assert source.get_property(shared) == sink.get_property(shared), (name, shared)
src.props.latency = 333
src.props.model = 'reactor/helios'
src.props.api_key = 'rk_secret'
src.props.jwt = 'jwt_secret'
assert src.save_preset('mine')
other = Gst.ElementFactory.make('reactorsrc')
assert other.load_preset('mine')
assert other.props.latency == 333 and other.props.model == 'reactor/helios'
assert other.props.arguments is None
saved = open(os.environ['XDG_DATA_HOME'] + '/gstreamer-1.0/presets/GstReactorSrc.prs').read()
assert 'latency=333' in saved and 'secret' not in saved, saved
";

#[test]
fn presets_are_listed_loaded_and_saved_without_secrets() {
    for factory in ["reactorsrc", "reactorsink", "reactorfilter"] {
        let shown = inspect(factory, &[]);
        let (_, presets) = shown.split_once("Presets:").expect("presets");
        for name in ["low-latency", "broadcast", "unstable-network"] {
            assert!(presets.contains(name), "no {name} in:\n{shown}");
        }
        assert!(shown.contains("gst-launch-1.0 "), "no example in:\n{shown}");
    }
    let home = scratch::directory().join("presets");
    let _ = std::fs::remove_dir_all(&home);
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PRESETS]).env("XDG_DATA_HOME", &home);
    let mut python = Process::start("presets", command);
    python.assert_succeeds(TIMEOUT);
    let _ = std::fs::remove_dir_all(&home);
}

/// The output of gst-inspect-1.0; panics unless it names all properties.
fn inspect(factory: &str, properties: &[(&str, &str, bool)]) -> String {
    let mut command = Command::new("gst-inspect-1.0");
    let output = plugin_environment::set(command.arg(factory))
        // A missing description would only be a warning on stderr.
        .env("G_DEBUG", "fatal-warnings")
        .env("GST_INSPECT_NO_COLORS", "1")
        .output()
        .expect("gst-inspect-1.0");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {complaint}", output.status);
    assert_eq!(complaint, "");
    for (name, ..) in properties {
        assert!(shown.contains(name), "no {name} in:\n{shown}");
    }
    shown
}

/// The names in the section "Element Signals".
fn signals(shown: &str) -> Vec<&str> {
    let (_, section) = shown.split_once("Element Signals:").expect("signals");
    let section = section.split("Element Actions:").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('"')?.split('"').next())
        .collect()
}
