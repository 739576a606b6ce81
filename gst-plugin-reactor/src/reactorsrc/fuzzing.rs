// SPDX-License-Identifier: MIT

//! The body of a fuzz target: URIs that a player gives.

use gst::{glib, prelude::*};

use super::{ReactorSrc, uri::PROTOCOLS};
use crate::platform::fuzzing::server_address;

pub fn uri(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    server_address(text);
    // GStreamer hands over C strings of these protocols only.
    let protocol = text.split_once("://").map(|(protocol, _)| protocol);
    let is_known = |known: &&str| protocol.is_some_and(|p| p.eq_ignore_ascii_case(known));
    if text.contains('\0') || !PROTOCOLS.iter().any(is_known) {
        return;
    }
    assert!(gst::init().is_ok(), "GStreamer starts");
    let element = glib::Object::new::<ReactorSrc>();
    match element.set_uri(text) {
        Ok(()) => assert_eq!(element.uri().as_deref(), Some(text)),
        Err(error) => {
            assert!(error.matches(gst::URIError::BadUri), "{error}");
            assert_eq!(element.uri(), None);
        }
    }
}
