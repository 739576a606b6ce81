// SPDX-License-Identifier: MIT

//! Publishes the updates of a job: messages, properties and errors. Runs on
//! the job's thread; holds no lock while it posts.

use std::mem::replace;

use gst::{prelude::*, subclass::prelude::*};

use super::{
    assembly::TrimResult,
    debug::CAT,
    imp::ReactorClip,
    job::{JobUpdate, SavedClip},
    settings::ClipFormat,
};
use crate::{
    element::{clip_structure, errors, lock, post, post_message},
    platform::{Code, Error},
};

impl ReactorClip {
    pub(super) fn publish(&self, update: JobUpdate) {
        let object = self.obj();
        let element = object.upcast_ref::<gst::Element>();
        match update {
            JobUpdate::Searching(name) => {
                gst::info!(CAT, imp = self, "looking for the session {name}");
            }
            JobUpdate::Recording(recorded) => self.publish_recorded(recorded),
            JobUpdate::Answered(clip) => {
                let structure = clip_structure::to_structure(&clip).build();
                *lock(&self.answered_clip) = Some(structure);
                element.notify("clip");
            }
            JobUpdate::Shorter { requested, actual } => {
                errors::post_warning(element, &clip_shorter(requested, actual), None);
            }
            JobUpdate::NotReady => self.post_progress_text("the platform is completing the clip"),
            JobUpdate::Fetched {
                fetched,
                total,
                bytes,
            } => self.publish_fetched(fetched, total, bytes),
            JobUpdate::Saved(saved) => {
                gst::info!(CAT, imp = self, "{saved:?}");
                post(element, saved_structure(&saved));
                self.post_complete("the clip is complete");
            }
            JobUpdate::Failed(error) => {
                self.post_progress(gst::ProgressType::Error, &error.message);
                self.fail(&error);
            }
            JobUpdate::Canceled => {
                self.post_progress(gst::ProgressType::Canceled, "the clip was given up");
            }
        }
    }

    /// Posts the recorded time, in seconds, if it has grown. Not as progress:
    /// gst-launch-1.0 would stay in PAUSED until the clip is complete, and the
    /// live elements with it.
    fn publish_recorded(&self, recorded: f64) {
        let before = replace(&mut lock(&self.progress).recorded, recorded);
        if before < recorded {
            let structure = gst::Structure::builder("reactor-clip-recording")
                .field("recorded", recorded)
                .build();
            post(self.obj().upcast_ref(), structure);
        }
    }

    fn publish_fetched(&self, fetched: u64, total: u64, bytes: u64) {
        let structure = {
            let mut progress = lock(&self.progress);
            (progress.fetched, progress.total, progress.bytes) = (fetched, total, bytes);
            progress.to_structure("reactor-clip-progress")
        };
        post(self.obj().upcast_ref(), structure);
        // With faststart no byte is pushed before the clip is complete.
        match self.settings().format {
            ClipFormat::Faststart => {
                self.post_progress_text(&format!("fetched {fetched} of {total} parts"));
            }
            ClipFormat::Fragmented => self.post_complete("the clip is coming"),
        }
    }

    /// Posts the end of the progress, once. gst-launch-1.0 does not go to
    /// PLAYING before that: it is due as soon as buffers are pushed.
    fn post_complete(&self, text: &str) {
        if !replace(&mut lock(&self.progress).complete, true) {
            self.post_progress(gst::ProgressType::Complete, text);
        }
    }

    /// Posts progress, unless the text is that of the last message.
    fn post_progress_text(&self, text: &str) {
        let kind = {
            let mut progress = lock(&self.progress);
            if progress.text == text {
                return;
            }
            text.clone_into(&mut progress.text);
            match replace(&mut progress.started, true) {
                false => gst::ProgressType::Start,
                true => gst::ProgressType::Continue,
            }
        };
        self.post_progress(kind, text);
    }

    fn post_progress(&self, kind: gst::ProgressType, text: &str) {
        let element = self.obj();
        let message = gst::message::Progress::builder(kind, "clip", text).src(&*element);
        post_message(element.upcast_ref(), message.build());
    }
}

/// Durations in seconds.
fn clip_shorter(requested: f64, actual: f64) -> Error {
    let text = format!(
        "the clip has {actual:.1} s of the {requested:.1} s that were asked for: no more \
         was recorded, or the platform gives no more in one; duration=0 saves all"
    );
    Error::api(Code::Other("CLIP_SHORTER".into()), text)
}

/// Times of the recording are in seconds: what was requested, and what the file
/// presents.
fn saved_structure(saved: &SavedClip) -> gst::Structure {
    let trimmed = saved.trimmed.as_ref();
    gst::Structure::builder("reactor-clip")
        .field("parts", saved.segments)
        .field("bytes", saved.bytes)
        .field_if_some("duration", saved.duration)
        .field_if_some("asked-start", trimmed.map(|t| t.requested.start))
        .field_if_some("asked-end", trimmed.map(|t| t.requested.end))
        .field_if_some("start", trimmed.map(|t| t.kept.start))
        .field_if_some("end", trimmed.map(|t| t.kept.end))
        .field_if_some("exact-to", trimmed.map(TrimResult::exact_to))
        .field_if_some("hidden-before", trimmed.map(|t| t.hidden_before))
        .field_if_some("hidden-after", trimmed.map(|t| t.hidden_after))
        .build()
}
