// SPDX-License-Identifier: MIT

//! The properties that reactorclip does not share with the live elements.

use std::{path::PathBuf, time::Duration};

use gst::{glib, prelude::*};

use super::request_timing::When;
use crate::property::text;

/// Milliseconds beyond the time that the platform predicts, as its own
/// clients wait.
const DEFAULT_READY_TIMEOUT: u32 = 60_000;

/// Seconds.
const DEFAULT_DURATION: f64 = 10.0;

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorClipFormat")]
pub enum Format {
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

/// When to ask a live session for the clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorClipRequest")]
pub enum Request {
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

impl From<Request> for When {
    fn from(request: Request) -> Self {
        match request {
            Request::Filled => Self::Filled,
            Request::Now => Self::Now,
            Request::Eos => Self::End,
        }
    }
}

/// A snapshot of the properties.
#[derive(Debug, Clone)]
pub struct Settings {
    pub playlist_url: Option<String>,
    /// What the application gave to be fetched.
    pub clip: Option<gst::Structure>,
    /// Seconds; 0 for everything.
    pub duration: f64,
    pub format: Format,
    pub trim: bool,
    pub request: Request,
    /// Milliseconds; 0 for no limit.
    pub ready_timeout: u32,
    pub temp_directory: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            playlist_url: None,
            clip: None,
            duration: DEFAULT_DURATION,
            format: Format::default(),
            trim: false,
            request: Request::default(),
            ready_timeout: DEFAULT_READY_TIMEOUT,
            temp_directory: None,
        }
    }
}

impl Settings {
    pub fn ready_limit(&self) -> Option<Duration> {
        let milliseconds = u64::from(self.ready_timeout);
        (milliseconds != 0).then(|| Duration::from_millis(milliseconds))
    }

    pub fn directory(&self) -> PathBuf {
        self.temp_directory
            .clone()
            .unwrap_or_else(std::env::temp_dir)
    }

    pub fn set(&mut self, name: &str, value: &glib::Value) {
        // GObject has checked the types.
        match name {
            "playlist-url" => self.playlist_url = text(value),
            "clip" => self.clip = value.get().unwrap_or_default(),
            "duration" => self.duration = value.get().unwrap_or(self.duration),
            "format" => self.format = value.get().unwrap_or_default(),
            "trim" => self.trim = value.get().unwrap_or_default(),
            "request" => self.request = value.get().unwrap_or_default(),
            "ready-timeout" => self.ready_timeout = value.get().unwrap_or(self.ready_timeout),
            "temp-directory" => self.temp_directory = text(value).map(PathBuf::from),
            _ => {}
        }
    }

    pub fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "playlist-url" => self.playlist_url.as_deref().map(shown).to_value(),
            "duration" => self.duration.to_value(),
            "format" => self.format.to_value(),
            "trim" => self.trim.to_value(),
            "request" => self.request.to_value(),
            "ready-timeout" => self.ready_timeout.to_value(),
            "temp-directory" => self
                .temp_directory
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .to_value(),
            _ => return None,
        })
    }
}

/// An address without what may sign it.
fn shown(url: &str) -> &str {
    match url.split_once(['?', '#']) {
        // A password may be in front.
        _ if url.contains('@') => "",
        Some((place, _)) => place,
        None => url,
    }
}

pub fn specs() -> Vec<glib::ParamSpec> {
    let mut specs = what();
    specs.extend(how());
    specs
}

fn what() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("playlist-url")
            .nick("Playlist URL")
            .blurb(
                "Address of a clip's HLS playlist, instead of a live session. \
                 What follows a '?' is not shown again: it may be a signature",
            )
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("clip")
            .nick("Clip")
            .blurb(
                "What request-clip or request-recording of a live element answers: the clip to \
                 fetch. Of a live session, the clip that was asked for, once it is known",
            )
            .mutable_ready()
            .build(),
        glib::ParamSpecDouble::builder("duration")
            .nick("Duration")
            .blurb(
                "How much to keep of a live session: the last so many seconds, or everything \
                 until its end (0)",
            )
            .minimum(0.0)
            .maximum(86_400.0)
            .default_value(DEFAULT_DURATION)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder::<Request>("request")
            .nick("Request")
            .blurb("When to ask a live session for the clip")
            .mutable_ready()
            .build(),
    ]
}

fn how() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecEnum::builder::<Format>("format")
            .nick("Format")
            .blurb("What comes out")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("trim")
            .nick("Trim")
            .blurb(
                "Cut the clip to what was asked for; the platform gives whole chunks. \
                 With format=faststart only",
            )
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("ready-timeout")
            .nick("Ready timeout")
            .blurb(
                "How long to wait for a session of that name, and for the clip beyond the time \
                 at which the platform expects to have it, in ms (0 = no limit)",
            )
            .default_value(DEFAULT_READY_TIMEOUT)
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("temp-directory")
            .nick("Temporary directory")
            .blurb(
                "Where the clip is kept until it has been read, up to twice its size (not set: \
                 the system's directory for temporary files). Nothing is left there",
            )
            .mutable_ready()
            .build(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_signs_an_address_is_not_shown() {
        assert_eq!(shown("https://a/b.m3u8?sig=secret"), "https://a/b.m3u8");
        assert_eq!(shown("https://a/b.m3u8#secret"), "https://a/b.m3u8");
        assert_eq!(shown("https://me:secret@a/b"), "");
        assert_eq!(shown("https://a/b"), "https://a/b");
    }
}
