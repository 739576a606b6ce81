// SPDX-License-Identifier: MIT

//! The progress of an upload as the element message `reactor-upload-progress`.
//! Received on the task that sends the file, posted on the event thread; of what
//! a slow handler leaves behind, the latest only.

use std::sync::{Arc, Mutex};

use gst::glib;

use super::{bus, event_thread::ReplyExecutor, lock};
use crate::platform::upload::{UploadProgress, UploadState};

/// What posts the progress of one request's uploads.
pub(super) fn poster(
    element: glib::WeakRef<gst::Element>,
    executor: ReplyExecutor,
) -> UploadProgress {
    let latest = Arc::new(Mutex::new(None::<UploadState>));
    Arc::new(move |state| {
        if lock(&latest).replace(state).is_some() {
            // It is not posted yet, and this state will be instead.
            return;
        }
        let (latest, element) = (latest.clone(), element.clone());
        executor(Box::new(move || {
            let state = lock(&latest).take();
            if let (Some(state), Some(element)) = (state, element.upgrade()) {
                bus::post(&element, structure(state));
            }
        }));
    })
}

fn structure(state: UploadState) -> gst::Structure {
    gst::Structure::builder("reactor-upload-progress")
        .field("name", state.name)
        .field("sent", state.sent)
        .field("size", state.size)
        .build()
}
