// SPDX-License-Identifier: MIT

//! How it goes, on the bus and in the properties.

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{
    assembly::TrimResult,
    imp::{CAT, ReactorClip},
    job::{Report, Saved},
    settings::Format,
};
use crate::{
    element::{clip_structure, errors, gobject, lock, post},
    platform::{Code, Error},
};

/// What the property `stats` shows, and what was said last.
#[derive(Debug, Default)]
pub struct Progress {
    fetched: u64,
    total: u64,
    bytes: u64,
    /// Seconds.
    recorded: f64,
    said: String,
    begun: bool,
    finished: bool,
}

impl Progress {
    pub fn structure(&self) -> gst::Structure {
        counts("reactor-stats", self.fetched, self.total, self.bytes)
    }
}

fn counts(name: &str, fetched: u64, total: u64, bytes: u64) -> gst::Structure {
    gst::Structure::builder(name)
        .field("fetched", fetched)
        .field("total", total)
        .field("bytes", bytes)
        .build()
}

/// The read-only properties.
pub fn specs() -> Vec<glib::ParamSpec> {
    vec![
        gobject::last_error(),
        gobject::structure(
            "stats",
            "Statistics",
            "How many of the clip's parts have been fetched, of how many, and their bytes",
        ),
    ]
}

impl ReactorClip {
    pub(super) fn show(&self, report: Report) {
        let object = self.obj();
        let element = object.upcast_ref::<gst::Element>();
        match report {
            Report::Searching(name) => {
                gst::info!(CAT, imp = self, "looking for the session {name}");
            }
            // No progress message: gst-launch-1.0 would stay in PAUSED until
            // the clip is there, and the live elements with it.
            Report::Recording(recorded) => {
                let before = std::mem::replace(&mut lock(&self.progress).recorded, recorded);
                if before < recorded {
                    let structure = gst::Structure::builder("reactor-clip-recording")
                        .field("recorded", recorded)
                        .build();
                    post(element, structure);
                }
            }
            Report::Clip(clip) => {
                let structure = clip_structure::to_structure(&clip).build();
                *lock(&self.answered) = Some(structure);
                element.notify("clip");
            }
            Report::Shorter { asked, given } => {
                let text = format!(
                    "the clip has {given:.1} s of the {asked:.1} s that were asked for: no more \
                     was recorded, or the platform gives no more in one; duration=0 saves all"
                );
                let error = Error::api(Code::Other("CLIP_SHORTER".into()), text);
                errors::post_warning(element, &error, None);
            }
            Report::Waiting => self.say("the platform is completing the clip"),
            Report::Progress {
                fetched,
                total,
                bytes,
            } => {
                {
                    let mut progress = lock(&self.progress);
                    (progress.fetched, progress.total, progress.bytes) = (fetched, total, bytes);
                }
                post(
                    element,
                    counts("reactor-clip-progress", fetched, total, bytes),
                );
                match self.is_waited_for() {
                    true => self.say(&format!("fetched {fetched} of {total} parts")),
                    false => self.finish("the clip is coming"),
                }
            }
            Report::Saved(saved) => {
                gst::info!(CAT, imp = self, "{saved:?}");
                post(element, saved_structure(&saved));
                self.finish("the clip is complete");
            }
            Report::Failed(error) => {
                self.post_progress(gst::ProgressType::Error, &error.message);
                self.fail(&error);
            }
            Report::Canceled => {
                self.post_progress(gst::ProgressType::Canceled, "the clip was given up");
            }
        }
    }

    /// Whether nothing comes out before the clip is complete.
    fn is_waited_for(&self) -> bool {
        self.obj().property::<Format>("format") == Format::Faststart
    }

    /// gst-launch-1.0 does not go to PLAYING before what is in progress is
    /// finished: what streams has to be, once it does.
    fn finish(&self, text: &str) {
        if !std::mem::replace(&mut lock(&self.progress).finished, true) {
            self.post_progress(gst::ProgressType::Complete, text);
        }
    }

    /// Once for each text.
    fn say(&self, text: &str) {
        let kind = {
            let mut progress = lock(&self.progress);
            if progress.said == text {
                return;
            }
            text.clone_into(&mut progress.said);
            match std::mem::replace(&mut progress.begun, true) {
                false => gst::ProgressType::Start,
                true => gst::ProgressType::Continue,
            }
        };
        self.post_progress(kind, text);
    }

    fn post_progress(&self, kind: gst::ProgressType, text: &str) {
        let element = self.obj();
        let message = gst::message::Progress::builder(kind, "clip", text).src(&*element);
        let _ = element.post_message(message.build());
    }
}

/// What was made.
fn saved_structure(saved: &Saved) -> gst::Structure {
    let mut structure = gst::Structure::builder("reactor-clip")
        .field("parts", saved.pieces)
        .field("bytes", saved.bytes)
        .field_if_some("duration", saved.duration);
    if let Some(cut) = &saved.cut {
        structure = cut_fields(structure, cut);
    }
    structure.build()
}

/// What of it is shown and what is hidden; times as of the recording.
fn cut_fields(structure: gst::structure::Builder, cut: &TrimResult) -> gst::structure::Builder {
    structure
        .field("asked-start", cut.requested.start)
        .field("asked-end", cut.requested.end)
        .field("start", cut.kept.start)
        .field("end", cut.kept.end)
        .field("exact-to", cut.exact_to())
        .field("hidden-before", cut.hidden_before)
        .field("hidden-after", cut.hidden_after)
}
