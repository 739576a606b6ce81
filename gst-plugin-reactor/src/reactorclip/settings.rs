// SPDX-License-Identifier: MIT

//! The properties that reactorclip does not share with the live elements, as
//! one table. Values, read and set by the application's threads.

use std::{path::PathBuf, time::Duration};

use gst::{glib, prelude::*};

use crate::property::{EnumField, Field, Info, settings, text};

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorClipFormat")]
pub enum ClipFormat {
    #[default]
    #[enum_value(
        name = "Faststart: one ordinary, seekable MP4, when it is complete",
        nick = "faststart"
    )]
    Faststart,
    #[enum_value(
        name = "Fragmented: the parts as they are on the server, while they are fetched",
        nick = "fragmented"
    )]
    Fragmented,
}

impl EnumField for ClipFormat {}

/// When to request the clip from a live session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorClipRequest")]
pub enum ClipRequest {
    #[default]
    #[enum_value(name = "Filled: as soon as 'duration' is recorded", nick = "filled")]
    Filled,
    #[enum_value(name = "Now: as soon as anything is recorded", nick = "now")]
    Now,
    #[enum_value(
        name = "EOS: when the live elements end, before the session is ended",
        nick = "eos"
    )]
    Eos,
}

impl EnumField for ClipRequest {}

impl Field for Option<gst::Structure> {
    fn spec(&self, info: &Info) -> glib::ParamSpec {
        let spec = glib::ParamSpecBoxed::builder::<gst::Structure>(info.name).nick(info.nick);
        spec.blurb(info.blurb).flags(info.flags).build()
    }

    fn value(&self, _info: &Info) -> glib::Value {
        self.to_value()
    }

    fn set(&mut self, value: &glib::Value) {
        *self = value.get().unwrap_or_default();
    }
}

impl Field for Option<PathBuf> {
    fn value(&self, _info: &Info) -> glib::Value {
        let path = self.as_ref();
        path.map(|path| path.to_string_lossy().into_owned())
            .to_value()
    }

    fn set(&mut self, value: &glib::Value) {
        *self = text(value).map(PathBuf::from);
    }
}

/// The address of a playlist, which reads without its signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaylistUrl(pub Option<String>);

impl Field for PlaylistUrl {
    fn value(&self, _info: &Info) -> glib::Value {
        self.0.as_deref().map(redact_url).to_value()
    }

    fn set(&mut self, value: &glib::Value) {
        self.0 = text(value);
    }
}

/// An address without its query and fragment, which may hold a signature.
fn redact_url(url: &str) -> &str {
    match url.split_once(['?', '#']) {
        // A password may be before it.
        _ if url.contains('@') => "",
        Some((address, _)) => address,
        None => url,
    }
}

settings! {
    /// A snapshot of the properties.
    #[derive(Debug, Clone)]
    pub struct ClipSettings {
        playlist_url: PlaylistUrl = PlaylistUrl::default(),
            "playlist-url", "Playlist URL",
            "Address of a clip's HLS playlist, instead of a live session. \
             What follows a '?' is not shown again: it may be a signature";

        /// Set by the application, to be fetched.
        clip: Option<gst::Structure> = None,
            "clip", "Clip",
            "What request-clip or request-recording of a live element answers: the clip to \
             fetch. Of a live session, the clip that was asked for, once it is known";

        /// Seconds; 0 for the whole recording.
        duration: f64 = 10.0,
            "duration", "Duration",
            "How much to keep of a live session: the last so many seconds, or everything \
             until its end (0)",
            range: (0, 86_400);

        request: ClipRequest = ClipRequest::Filled,
            "request", "Request",
            "When to ask a live session for the clip";

        format: ClipFormat = ClipFormat::Faststart,
            "format", "Format",
            "What comes out";

        trim: bool = false,
            "trim", "Trim",
            "Cut the clip to what was asked for; the platform gives whole chunks. \
             With format=faststart only";

        /// Milliseconds beyond the time that the platform predicts, as its own
        /// clients wait; 0 for no limit.
        ready_timeout: u32 = 60_000,
            "ready-timeout", "Ready timeout",
            "How long to wait for a session of that name, and for the clip beyond the time \
             at which the platform expects to have it, in ms (0 = no limit)";

        temp_directory: Option<PathBuf> = None,
            "temp-directory", "Temporary directory",
            "Where the clip is kept until it has been read, up to twice its size (not set: \
             the system's directory for temporary files). Nothing is left there";
    }
}

impl ClipSettings {
    pub fn ready_limit(&self) -> Option<Duration> {
        let milliseconds = u64::from(self.ready_timeout);
        (milliseconds != 0).then(|| Duration::from_millis(milliseconds))
    }

    pub fn directory(&self) -> PathBuf {
        let directory = self.temp_directory.clone();
        directory.unwrap_or_else(std::env::temp_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redact_url_with_signature_or_password_hides_it() {
        assert_eq!(
            redact_url("https://a/b.m3u8?sig=secret"),
            "https://a/b.m3u8"
        );
        assert_eq!(redact_url("https://a/b.m3u8#secret"), "https://a/b.m3u8");
        assert_eq!(redact_url("https://me:secret@a/b"), "");
        assert_eq!(redact_url("https://a/b"), "https://a/b");
    }
}
