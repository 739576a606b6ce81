// SPDX-License-Identifier: MIT

//! Makes one ordinary MP4 of the segments of a clip, without encoding anything
//! again: it begins at 0, can be seeked, and has its index in front. Called by
//! the thread of the clip's job, which it blocks; never by a streaming thread.
//!
//! The samples are read here, with their exact times, and pushed to mp4mux;
//! `fragment.rs` says why not to qtdemux. The finished file's edit lists are
//! written here (`edit_list.rs`), since mp4mux writes none that begin within a
//! track.

mod caps;
mod debug;
mod edit_list;
mod errors;
mod fragment;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod init_section;
mod movie_writer;
mod muxer;
mod presentation_timeline;
mod temp_files;
mod timescale;
mod trimmer;
mod window;

#[cfg(test)]
mod tests;

use std::{fs::File, io::Seek, path::Path, sync::Arc};

pub use self::window::{TrimResult, Window};
use self::{
    edit_list::{MuxedTrack, Presentation},
    errors::invalid,
    init_section::InitSection,
    muxer::{Muxer, MuxerControl},
    presentation_timeline::PresentationTimeline,
    temp_files::TempDirectory,
    timescale::to_ns,
    trimmer::Trimmer,
};
use crate::{
    gst_helpers::internal,
    platform::{
        Code, Error,
        error::Component,
        recording::{ClipSegment, SegmentKind},
        track::Kind,
    },
};

/// The audio of a segment is what was muxed with its frames, and those come
/// late where they are reordered. Audio that begins by less than this (in
/// nanoseconds) before the first frame is not presented.
const AUDIO_AHEAD: i64 = 250_000_000;

/// A file that is being made.
#[derive(Debug)]
pub struct Assembly {
    directory: TempDirectory,
    window: Option<Window>,
    control: Arc<MuxerControl>,
    /// None until the first initialization section has come.
    builder: Option<MovieBuilder>,
}

#[derive(Debug)]
struct MovieBuilder {
    /// The one that the file was begun with.
    first_init_section: InitSection,
    /// The one in force, if it is another.
    init_section: Option<InitSection>,
    /// The next segment does not continue the one before.
    discontinuity: bool,
    timeline: PresentationTimeline,
    trimmer: Option<Trimmer>,
    muxer: Muxer,
}

/// A complete file, at its beginning.
#[derive(Debug)]
pub struct AssembledMovie {
    /// Without a name in the file system.
    pub file: File,
    /// In bytes.
    pub size: u64,
    pub duration: gst::ClockTime,
    pub trimmed: Option<TrimResult>,
}

/// Cancels an assembly, from any thread.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<MuxerControl>);

impl Canceller {
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl Assembly {
    /// `directory` takes the temporary files, which have no names.
    ///
    /// # Errors
    ///
    /// When GStreamer lacks an element that any clip needs, when the window is
    /// not valid, or when no file can be made in the directory.
    pub fn begin(directory: &Path, window: Option<Window>) -> Result<Self, Error> {
        muxer::check_installed().map_err(of_the_api)?;
        if !window.as_ref().is_none_or(Window::is_valid) {
            let text = "the window to keep must end after it starts";
            return Err(Error::api(Code::InvalidSettings, text));
        }
        let directory = TempDirectory::new(directory);
        drop(directory.create_file()?);
        Ok(Self {
            directory,
            window,
            control: Arc::default(),
            builder: None,
        })
    }

    /// Adds the next segment; blocks while earlier ones are muxed.
    ///
    /// # Errors
    ///
    /// When the segment is damaged, does not continue the one before, or
    /// cannot be in an ordinary MP4; when the disk is full; when cancelled.
    pub fn push(&mut self, segment: ClipSegment) -> Result<(), Error> {
        self.push_segment(&segment).map_err(of_the_api)
    }

    fn push_segment(&mut self, segment: &ClipSegment) -> Result<(), Error> {
        self.control.check()?;
        match (segment.kind, &mut self.builder) {
            (SegmentKind::InitSection, _) => {
                self.push_init_section(InitSection::parse(&segment.bytes)?)
            }
            (SegmentKind::Media, Some(builder)) => builder.push_media(segment),
            (SegmentKind::Media, None) => {
                Err(invalid("the clip has no header before its first segment"))
            }
        }
    }

    fn push_init_section(&mut self, init_section: InitSection) -> Result<(), Error> {
        if let Some(builder) = &mut self.builder {
            init_section.check_continues(&builder.first_init_section)?;
            builder.init_section = Some(init_section);
            builder.discontinuity = true;
            return Ok(());
        }
        self.builder = Some(MovieBuilder {
            timeline: PresentationTimeline::new(&init_section),
            trimmer: self
                .window
                .map(|window| Trimmer::new(window, &init_section)),
            muxer: Muxer::new(&init_section, &self.directory, self.control.clone())?,
            first_init_section: init_section,
            init_section: None,
            discontinuity: false,
        });
        Ok(())
    }

    /// Waits until the file is complete.
    ///
    /// # Errors
    ///
    /// Those of [`Self::push`], and when the segments are not a complete clip.
    pub fn finish(self) -> Result<AssembledMovie, Error> {
        let finish = || {
            self.control.check()?;
            let builder = self.builder.ok_or_else(|| invalid("the clip is empty"))?;
            builder.finish(self.window)
        };
        finish().map_err(of_the_api)
    }

    /// Makes [`Self::push`] and [`Self::finish`] fail, when it is told to.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.control.clone())
    }
}

impl MovieBuilder {
    fn push_media(&mut self, segment: &ClipSegment) -> Result<(), Error> {
        let init_section = self.init_section.as_ref();
        let init_section = init_section.unwrap_or(&self.first_init_section);
        let mut samples = fragment::read_samples(init_section, &segment.bytes)?;
        let discontinuity = std::mem::take(&mut self.discontinuity) || segment.discontinuity;
        self.timeline
            .append(&mut samples, discontinuity, segment.duration)?;
        let samples = match &mut self.trimmer {
            Some(trimmer) => trimmer.push(samples, segment.duration)?,
            None => samples,
        };
        self.muxer.push(samples)
    }

    fn finish(mut self, window: Option<Window>) -> Result<AssembledMovie, Error> {
        self.timeline.check_duration()?;
        if let Some(trimmer) = &mut self.trimmer {
            let rest = trimmer.finish();
            self.muxer.push(rest)?;
        }
        let presentation = self.presentation()?;
        let (mut file, size) = self.muxer.finish(presentation.clone())?;
        file.rewind().map_err(internal)?;
        let trimmed = window.zip(self.trimmer.as_ref());
        Ok(AssembledMovie {
            file,
            size,
            duration: clock_time(presentation.duration()),
            trimmed: trimmed
                .map(|(window, trimmer)| self.trim_result(window, trimmer, &presentation)),
        })
    }

    /// What the file is to present.
    fn presentation(&self) -> Result<Presentation, Error> {
        let tracks = self.muxer.tracks().to_vec();
        let ends = tracks.iter().map(|track| to_ns(track.end, track.timescale));
        let borders = match &self.trimmer {
            Some(trimmer) => trimmer.borders(),
            None => tracks.iter().filter_map(begin_of).min().zip(ends.max()),
        };
        let Some((mut begin, end)) = borders.filter(|(begin, end)| begin < end) else {
            return Err(invalid("nothing of the clip is in the window to keep"));
        };
        if self.trimmer.is_none() {
            // What is before 0 is an encoder's priming.
            begin = begin.max(0);
            if let Some(video) = self.video_track().and_then(begin_of)
                && (0..AUDIO_AHEAD).contains(&(video - begin))
            {
                begin = video;
            }
        }
        Ok(Presentation { begin, end, tracks })
    }

    fn video_track(&self) -> Option<&MuxedTrack> {
        let mut tracks = self.first_init_section.tracks.iter();
        let index = tracks.position(|track| track.kind == Kind::Video)?;
        self.muxer.tracks().get(index)
    }

    fn trim_result(
        &self,
        requested: Window,
        trimmer: &Trimmer,
        presentation: &Presentation,
    ) -> TrimResult {
        let lead = self.video_track().or(self.muxer.tracks().first());
        let stored = lead.map(|track| {
            let ns = |ticks| to_ns(ticks, track.timescale);
            (ns(track.first_pts), ns(track.end))
        });
        let (from, to) = stored.unwrap_or((presentation.begin, presentation.end));
        TrimResult {
            requested,
            kept: Window {
                start: trimmer.recorded_time(presentation.begin),
                end: trimmer.recorded_time(presentation.end),
            },
            hidden_before: clock_time(presentation.begin - from),
            hidden_after: clock_time(to - presentation.end),
        }
    }
}

/// Where a track begins, in nanoseconds, if it has samples.
fn begin_of(track: &MuxedTrack) -> Option<i64> {
    (track.samples > 0).then(|| to_ns(track.first_pts, track.timescale))
}

/// A clip comes from the HTTP API, and so do its errors, also those of
/// [`gst_helpers`](crate::gst_helpers).
fn of_the_api(error: Error) -> Error {
    Error {
        component: Component::Api,
        ..error
    }
}

fn clock_time(ns: i64) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(ns.max(0) as u64)
}
