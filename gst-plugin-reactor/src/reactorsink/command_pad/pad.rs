// SPDX-License-Identifier: MIT

//! The request pads `command_NAME` and `commands` as GObjects, and their templates.

use gst::prelude::*;

use crate::{
    element::settings_pad::settings_pad,
    property::{PLAYING, settings},
};

settings! {
    /// The properties of a pad that takes commands.
    #[derive(Debug, Clone)]
    pub struct CommandPadSettings {
        param: Option<String> = None, "param", "Parameter",
            "The parameter that text, images and sound are for; if not set, the command's only one \
             of the kind, or the only one of them that is required", flags: PLAYING;
        max_rate: f64 = 0.0, "max-rate", "Maximum rate",
            "Commands per second; of those that come faster the newest of each name is sent (0 = no \
             limit)",
            flags: PLAYING;
        strict: bool = false, "strict", "Strict",
            "A buffer that is refused, here or by the model, is an error instead of a warning",
            flags: PLAYING;
    }
}

settings_pad! {
    /// A request pad of `reactorsink` that takes commands.
    pub struct CommandPad(imp, "GstReactorCommandPad", CommandPadSettings);
}

/// The beginning of the name of a pad that takes one command.
pub const COMMAND_PREFIX: &str = "command_";
/// The name of the pad that takes any command.
pub const COMMANDS: &str = "commands";

/// The templates of both kinds.
pub fn pad_templates() -> Vec<gst::PadTemplate> {
    let mut one = gst::Caps::builder("text/x-raw")
        .field("format", "utf8")
        .build();
    one.merge(gst::Caps::new_empty_simple("application/x-json"));
    for (caps, ..) in super::content::FILES {
        // All of them are caps, as a test of content.rs sees.
        if let Ok(caps) = caps.parse() {
            one.merge(caps);
        }
    }
    let any = gst::Caps::new_empty_simple("application/x-json");
    let template = |name, caps| {
        let (direction, presence) = (gst::PadDirection::Sink, gst::PadPresence::Request);
        let template = gst::PadTemplate::builder(name, direction, presence, caps);
        template.gtype(CommandPad::static_type()).build().ok()
    };
    let one = template("command_%s", &one);
    one.into_iter().chain(template(COMMANDS, &any)).collect()
}
