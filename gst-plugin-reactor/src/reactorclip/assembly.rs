// SPDX-License-Identifier: MIT

//! Makes one ordinary MP4 of the pieces of a clip, without encoding anything
//! again: it begins at 0, can be seeked, and has its index in front.
//!
//! The samples are found here, with their exact times, and handed to mp4mux;
//! see `fragment.rs` for why not to qtdemux. The finished file's edit lists
//! are ours (`edits.rs`), since mp4mux has none that begin within a track.

mod caps;
mod edits;
mod errors;
mod fragment;
mod header;
mod mux;
mod output;
mod temporary;
mod timeline;
mod trim;

#[cfg(test)]
mod tests;

use std::{fs::File, io::Seek, path::Path, sync::Arc};

use self::{
    edits::{Fed, Plan},
    errors::invalid,
    header::Header,
    mux::{Mux, Shared},
    temporary::Directory,
    timeline::{Timeline, to_ns},
    trim::Trim,
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

static CAT: std::sync::LazyLock<gst::DebugCategory> = std::sync::LazyLock::new(|| {
    gst::DebugCategory::new(
        "reactor-assembly",
        gst::DebugColorFlags::empty(),
        Some("Clips put together"),
    )
});

/// Audio that begins less than that before the first picture is left out of
/// what is shown: a segment's audio is what was muxed with its pictures, and
/// those come late where they are reordered.
const AUDIO_AHEAD: i64 = 250_000_000;

/// What part of the recorded time to keep, in seconds since the beginning of
/// the recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub start: f64,
    pub end: f64,
}

/// A file that comes into being.
#[derive(Debug)]
pub struct Assembly {
    directory: Directory,
    window: Option<Window>,
    shared: Arc<Shared>,
    work: Option<Work>,
}

/// What there is once the first header has come.
#[derive(Debug)]
struct Work {
    /// The one that the file is begun with, and the one that is in force.
    first: Header,
    header: Option<Header>,
    /// What comes next does not go on from what was before.
    apart: bool,
    timeline: Timeline,
    trim: Option<Trim>,
    mux: Mux,
}

/// A complete file, at its beginning.
#[derive(Debug)]
pub struct Assembled {
    /// Has no name.
    pub file: File,
    pub size: u64,
    pub duration: gst::ClockTime,
    pub cut: Option<Cut>,
}

/// What trimming did.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    pub asked: Window,
    /// What the file shows: the borders between pictures nearest to that, as
    /// far as the clip reaches.
    pub kept: Window,
    /// What the file holds in front of it, from the keyframe on, and behind
    /// it, and hides with its edit lists.
    pub hidden_before: gst::ClockTime,
    pub hidden_after: gst::ClockTime,
}

impl Cut {
    /// How far what is kept is from what was asked for, at most.
    pub fn exact_to(&self) -> gst::ClockTime {
        let start = (self.kept.start - self.asked.start).abs();
        let end = (self.kept.end - self.asked.end).abs();
        gst::ClockTime::from_nseconds((start.max(end) * 1e9).round() as u64)
    }
}

/// Makes an assembly give up, from any thread.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<Shared>);

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
    /// When GStreamer lacks something that any clip needs, when the window is
    /// none, or when no file can be made there.
    pub fn begin(directory: &Path, window: Option<Window>) -> Result<Self, Error> {
        mux::check_installed().map_err(of_the_api)?;
        let is_one = |w: &Window| w.start >= 0.0 && w.end > w.start && w.end.is_finite();
        if !window.as_ref().is_none_or(is_one) {
            let text = "the window to keep must end after it starts";
            return Err(Error::api(Code::InvalidSettings, text));
        }
        let directory = Directory::new(directory);
        drop(directory.file()?);
        Ok(Self {
            directory,
            window,
            shared: Arc::default(),
            work: None,
        })
    }

    /// Takes the next piece; blocks while earlier ones are worked on.
    ///
    /// # Errors
    ///
    /// When the piece is damaged, does not go on from what was before, or
    /// cannot be in an ordinary MP4; when the disk is full; when cancelled.
    pub fn push(&mut self, piece: ClipSegment) -> Result<(), Error> {
        self.push_piece(&piece).map_err(of_the_api)
    }

    fn push_piece(&mut self, piece: &ClipSegment) -> Result<(), Error> {
        self.shared.check()?;
        match piece.kind {
            SegmentKind::InitSection => self.header(Header::parse(&piece.bytes)?),
            SegmentKind::Media => match &mut self.work {
                Some(work) => work.segment(piece),
                None => Err(invalid("the clip has no header before its first segment")),
            },
        }
    }

    fn header(&mut self, header: Header) -> Result<(), Error> {
        if let Some(work) = &mut self.work {
            header.continues(&work.first)?;
            work.header = Some(header);
            work.apart = true;
            return Ok(());
        }
        self.work = Some(Work {
            timeline: Timeline::new(&header),
            trim: self.window.map(|window| Trim::new(window, &header)),
            mux: Mux::new(&header, &self.directory, self.shared.clone())?,
            first: header,
            header: None,
            apart: false,
        });
        Ok(())
    }

    /// Waits until the file is complete.
    ///
    /// # Errors
    ///
    /// As [`Self::push`], and when what came is not a whole clip.
    pub fn finish(self) -> Result<Assembled, Error> {
        self.shared.check().map_err(of_the_api)?;
        let work = self.work.ok_or_else(|| invalid("the clip is empty"))?;
        work.finish(self.window).map_err(of_the_api)
    }

    /// Makes [`Self::push`] and [`Self::finish`] give up.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.shared.clone())
    }
}

impl Work {
    fn segment(&mut self, piece: &ClipSegment) -> Result<(), Error> {
        let header = self.header.as_ref().unwrap_or(&self.first);
        let mut samples = fragment::samples(header, &piece.bytes)?;
        let apart = std::mem::take(&mut self.apart) || piece.discontinuity;
        self.timeline.place(&mut samples, apart, piece.duration)?;
        let samples = match &mut self.trim {
            Some(trim) => trim.take(samples, piece.duration)?,
            None => samples,
        };
        self.mux.push(samples)
    }

    fn finish(mut self, window: Option<Window>) -> Result<Assembled, Error> {
        self.timeline.check_length()?;
        if let Some(trim) = &mut self.trim {
            let rest = trim.finish();
            self.mux.push(rest)?;
        }
        let plan = self.plan()?;
        let (mut file, size) = self.mux.finish(plan.clone())?;
        file.rewind().map_err(internal)?;
        let cut = window.zip(self.trim.as_ref());
        Ok(Assembled {
            file,
            size,
            duration: clock_time(plan.duration()),
            cut: cut.map(|(asked, trim)| self.cut(asked, trim, &plan)),
        })
    }

    fn plan(&self) -> Result<Plan, Error> {
        let tracks = self.mux.tracks().to_vec();
        let begins = |fed: &Fed| (fed.samples > 0).then(|| to_ns(fed.first_pts, fed.timescale));
        let all = tracks.iter().filter_map(begins).min();
        let ends = tracks.iter().map(|fed| to_ns(fed.end, fed.timescale));
        let borders = match &self.trim {
            Some(trim) => trim.borders(),
            None => all.zip(ends.max()),
        };
        let Some((mut begin, end)) = borders.filter(|(begin, end)| begin < end) else {
            return Err(invalid("nothing of the clip is in the window to keep"));
        };
        if self.trim.is_none() {
            // What is before 0 is an encoder's priming.
            begin = begin.max(0);
            let fed = self.pictures();
            if let Some(picture) = fed.and_then(begins)
                && (0..AUDIO_AHEAD).contains(&(picture - begin))
            {
                begin = picture;
            }
        }
        Ok(Plan { begin, end, tracks })
    }

    fn pictures(&self) -> Option<&Fed> {
        let mut tracks = self.first.tracks.iter();
        let index = tracks.position(|track| track.kind == Kind::Video)?;
        self.mux.tracks().get(index)
    }

    fn cut(&self, asked: Window, trim: &Trim, plan: &Plan) -> Cut {
        let lead = self.pictures().or(self.mux.tracks().first());
        let stored = lead.map(|fed| {
            let ns = |ticks| to_ns(ticks, fed.timescale);
            (ns(fed.first_pts), ns(fed.end))
        });
        let (from, to) = stored.unwrap_or((plan.begin, plan.end));
        Cut {
            asked,
            kept: Window {
                start: trim.recorded(plan.begin),
                end: trim.recorded(plan.end),
            },
            hidden_before: clock_time(plan.begin - from),
            hidden_after: clock_time(to - plan.end),
        }
    }
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
