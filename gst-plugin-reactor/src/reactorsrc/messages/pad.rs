// SPDX-License-Identifier: MIT

//! The pad `messages` as a GObject.

use super::content::MessageFormat;
use crate::{
    element::settings_pad::settings_pad,
    property::{PLAYING, settings},
};

settings! {
    /// The properties of the pad.
    #[derive(Debug, Clone)]
    pub struct MessagesSettings {
        format: MessageFormat = MessageFormat::Json, "format", "Format",
            "What the buffers are: application/x-json or text/x-raw";
        path: Option<String> = None, "path", "Path",
            "JSON pointer (RFC 6901) to what the buffers have of {\"type\":...,\"data\":...}, such \
             as /data/prompt; messages without it are left out; all of it if not set", flags: PLAYING;
        duration: u32 = 2000, "duration", "Duration",
            "Of a buffer of text, which textoverlay shows for this time, in ms", flags: PLAYING;
    }
}

settings_pad! {
    /// The request pad `messages` of `reactorsrc`: what the model says, one
    /// buffer a message, at the running time of its arrival.
    pub struct MessagesPad(imp, "GstReactorMessagesPad", MessagesSettings);
}
