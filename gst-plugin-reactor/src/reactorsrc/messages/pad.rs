// SPDX-License-Identifier: MIT

//! The pad `messages` as a GObject: a ghost pad with properties. Called by the
//! application's threads; the stream reads the properties for each message.

use std::sync::{Arc, LazyLock, Mutex};

use gst::{glib, subclass::prelude::*};

use super::content::MessageFormat;
use crate::{
    element::lock,
    property::{self, PLAYING, settings},
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

#[derive(Debug, Default)]
pub struct MessagesPadImp {
    settings: Arc<Mutex<MessagesSettings>>,
}

#[glib::object_subclass]
impl ObjectSubclass for MessagesPadImp {
    const NAME: &'static str = "GstReactorMessagesPad";
    type Type = MessagesPad;
    type ParentType = gst::GhostPad;
}

impl ObjectImpl for MessagesPadImp {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> =
            LazyLock::new(|| property::specs(MessagesSettings::PROPERTIES));
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        if let Some(property) = property::find(MessagesSettings::PROPERTIES, pspec.name()) {
            (property.set)(&mut lock(&self.settings), value);
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match property::find(MessagesSettings::PROPERTIES, pspec.name()) {
            Some(property) => (property.value)(&lock(&self.settings), &property.info),
            None => pspec.default_value().clone(),
        }
    }
}

impl GstObjectImpl for MessagesPadImp {}
impl PadImpl for MessagesPadImp {}
impl ProxyPadImpl for MessagesPadImp {}
impl GhostPadImpl for MessagesPadImp {}

glib::wrapper! {
    /// The request pad `messages` of `reactorsrc`: what the model says, one
    /// buffer a message, at the running time of its arrival.
    pub struct MessagesPad(ObjectSubclass<MessagesPadImp>)
        @extends gst::GhostPad, gst::ProxyPad, gst::Pad, gst::Object;
}

impl MessagesPad {
    pub fn format(&self) -> MessageFormat {
        lock(&self.imp().settings).format
    }

    /// The properties, which change with the pad's.
    pub fn settings(&self) -> Arc<Mutex<MessagesSettings>> {
        self.imp().settings.clone()
    }
}
