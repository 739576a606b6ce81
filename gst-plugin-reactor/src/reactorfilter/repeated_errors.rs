// SPDX-License-Identifier: MIT

//! The errors and warnings of a session are posted by both elements inside: once is
//! enough. Called by the threads that post messages.

use std::sync::Mutex;

use gst::glib;

use crate::element::lock;

/// Those that only one element posts are remembered as well.
const REMEMBERED: usize = 8;

/// What one of the elements has posted and the other has not.
#[derive(Default)]
pub struct RepeatedErrors(Mutex<Vec<PostedError>>);

#[derive(PartialEq)]
struct PostedError {
    by_sink: bool,
    code: String,
    text: String,
}

impl RepeatedErrors {
    /// Whether this error or warning is the other element's again.
    pub fn is_repeated(&self, by_sink: bool, message: &gst::MessageRef) -> bool {
        let Some((code, text)) = code_and_text(message) else {
            return false;
        };
        let mut posted = lock(&self.0);
        let other = PostedError {
            by_sink: !by_sink,
            code,
            text,
        };
        if let Some(index) = posted.iter().position(|before| *before == other) {
            posted.remove(index);
            return true;
        }
        if posted.len() == REMEMBERED {
            posted.remove(0);
        }
        posted.push(PostedError { by_sink, ..other });
        false
    }

    /// The element starts anew.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }
}

/// Of an error or a warning with the details of Reactor's elements.
fn code_and_text(message: &gst::MessageRef) -> Option<(String, String)> {
    let details = match message.view() {
        gst::MessageView::Error(error) => error.details()?,
        gst::MessageView::Warning(warning) => warning.details()?,
        _ => return None,
    };
    let text = |name: &str| details.get::<glib::GString>(name).ok();
    Some((text("code")?.into(), text("message")?.into()))
}
