// SPDX-License-Identifier: MIT

//! The private pipeline: an appsrc for each track, mp4mux, and the file. Called
//! by the thread of the clip's job; its streaming threads write the file. Never
//! posts a message on the application's bus.

use std::{
    fs::File,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use gst::prelude::*;

use super::{
    debug::CAT,
    edit_list::{MuxedTrack, Presentation},
    errors::{aborted, unsupported},
    fragment::{SAMPLE_OVERHEAD, Sample},
    init_section::{ClipTrack, InitSection},
    movie_writer::{MovieWriter, WriteError},
    temp_files::{FaststartFile, TempDirectory},
    timescale::{movie_timescale, to_ns},
};
use crate::{
    gst_helpers::{internal, make, missing},
    platform::{Error, lock},
};

/// The running time of the first sample, in nanoseconds, for tracks that begin
/// earlier.
const HEADROOM: i64 = 10_000_000_000;
/// By how much memory one track may be ahead of another, in bytes, and what the samples that
/// come at once may take besides their own bytes.
const MAX_QUEUED: u64 = 32 << 20;

/// Shared by the pipeline's threads, the caller and cancellers.
#[derive(Debug, Default)]
pub(super) struct MuxerControl {
    state: Mutex<MuxerState>,
    changed: Condvar,
    /// Under a lock of its own, since writing may block.
    writer: Mutex<Option<MovieWriter>>,
}

#[derive(Debug, Default)]
struct MuxerState {
    cancelled: bool,
    /// The first failure, or the end of the stream.
    result: Option<Result<(), Error>>,
    /// Whether each track's source is empty.
    starved: Vec<bool>,
    /// Until the writer has it.
    presentation: Option<Presentation>,
}

impl MuxerControl {
    pub fn cancel(&self) {
        lock(&self.state).cancelled = true;
        self.changed.notify_all();
    }

    pub fn check(&self) -> Result<(), Error> {
        lock(&self.state).check()
    }

    fn end(&self, result: Result<(), Error>) {
        let mut state = lock(&self.state);
        state.result.get_or_insert(result);
        self.changed.notify_all();
    }

    fn set_starved(&self, track: usize) {
        if let Some(starved) = lock(&self.state).starved.get_mut(track) {
            *starved = true;
        }
        self.changed.notify_all();
    }

    /// Waits until a condition holds; fails when the pipeline has failed.
    fn wait_until(&self, condition: impl Fn(&MuxerState) -> bool) -> Result<(), Error> {
        /// A safeguard: each change notifies.
        const POLL_INTERVAL: Duration = Duration::from_millis(200);
        let mut state = lock(&self.state);
        loop {
            state.check()?;
            if condition(&state) {
                return Ok(());
            }
            state = state.wait_at_most(&self.changed, POLL_INTERVAL);
        }
    }
}

impl MuxerState {
    fn check(&self) -> Result<(), Error> {
        if self.cancelled {
            return Err(aborted());
        }
        match &self.result {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Muxer {
    pipeline: gst::Pipeline,
    sources: Vec<gst_app::AppSrc>,
    tracks: Vec<MuxedTrack>,
    control: Arc<MuxerControl>,
    directory: TempDirectory,
    /// Subtracted from all times, in nanoseconds.
    base: Option<i64>,
}

impl Muxer {
    pub fn new(
        init_section: &InitSection,
        directory: &TempDirectory,
        control: Arc<MuxerControl>,
    ) -> Result<Self, Error> {
        let pipeline = gst::Pipeline::builder().name("reactor-assembly").build();
        let faststart_file = FaststartFile::new(directory)?;
        *lock(&control.writer) = Some(MovieWriter::new(directory.create_file()?));
        // Until samples are pushed.
        lock(&control.state).starved = vec![true; init_section.tracks.len()];
        let scales = init_section.tracks.iter().map(|track| track.timescale);
        let muxer = make("mp4mux")?;
        muxer.set_property("faststart", true);
        let path = faststart_file.path().to_str();
        let path = path.ok_or_else(|| internal("odd path"))?;
        muxer.set_property("faststart-file", path);
        muxer.set_property("movie-timescale", movie_timescale(scales));
        let sink = make_sink(&control, directory);
        pipeline
            .add_many([&muxer, sink.upcast_ref()])
            .map_err(internal)?;
        muxer.link(&sink).map_err(internal)?;
        watch_bus(&pipeline, &control, directory, faststart_file)?;
        let mut this = Self {
            pipeline,
            sources: Vec::new(),
            tracks: Vec::new(),
            control,
            directory: directory.clone(),
            base: None,
        };
        for track in &init_section.tracks {
            this.add_track(track, &muxer)?;
        }
        let state = this.pipeline.set_state(gst::State::Playing);
        state.map_err(|_| internal("the private pipeline does not start"))?;
        Ok(this)
    }

    fn add_track(&mut self, track: &ClipTrack, muxer: &gst::Element) -> Result<(), Error> {
        let index = self.sources.len();
        let control = self.control.clone();
        let callbacks = gst_app::AppSrcCallbacks::builder();
        let callbacks = callbacks.need_data(move |_, _| control.set_starved(index));
        let source = gst_app::AppSrc::builder()
            .caps(&track.caps)
            .format(gst::Format::Time)
            // push() waits instead.
            .max_bytes(0)
            .callbacks(callbacks.build())
            .build();
        self.pipeline.add(&source).map_err(internal)?;

        let name = format!("{}_%u", track.kind.as_str());
        let template = muxer.pad_template(&name);
        let template = template.ok_or_else(|| missing("mp4mux"))?;
        let pad = muxer.request_pad(&template, None, None);
        let pad = pad.ok_or_else(|| internal("mp4mux gave no sink pad"))?;
        pad.set_property("trak-timescale", track.timescale);
        set_default_chroma_site(&pad);
        let parser = make_parser(track, template.caps())?;
        let mut last = source.clone().upcast::<gst::Element>();
        if let Some(parser) = &parser {
            self.pipeline.add(parser).map_err(internal)?;
            last.link(parser).map_err(internal)?;
            last = parser.clone();
        }
        let from = last.static_pad("src").ok_or_else(|| internal("no pad"))?;
        from.link(&pad).map_err(internal)?;
        self.sources.push(source);
        self.tracks.push(MuxedTrack {
            timescale: track.timescale,
            parsed: parser.is_some(),
            ..MuxedTrack::default()
        });
        Ok(())
    }

    /// The samples that were pushed to each track.
    pub fn tracks(&self) -> &[MuxedTrack] {
        &self.tracks
    }

    /// Pushes samples, and waits until a source is empty: the muxer waits for
    /// that track, and stops taking from the others.
    pub fn push(&mut self, samples: Vec<Vec<Sample>>) -> Result<(), Error> {
        self.control.check()?;
        let count: usize = samples.iter().map(Vec::len).sum();
        // Before each of them is a buffer.
        if (count * SAMPLE_OVERHEAD) as u64 > MAX_QUEUED {
            let text = format!("a segment of the recording has {count} samples");
            return Err(unsupported(text));
        }
        let base = self.base_time(&samples);
        for (index, samples) in samples.into_iter().enumerate() {
            let (Some(source), Some(track)) = (self.sources.get(index), self.tracks.get_mut(index))
            else {
                continue;
            };
            if samples.is_empty() {
                continue;
            }
            let mut list = gst::BufferList::new_sized(samples.len());
            for sample in samples {
                track.count(sample.dts, sample.pts, sample.duration);
                let buffer = make_buffer(sample, track.timescale, base);
                list.make_mut().add(buffer);
            }
            if let Some(starved) = lock(&self.control.state).starved.get_mut(index) {
                *starved = false;
            }
            if source.push_buffer_list(list).is_err() {
                // The bus handler has set the reason.
                self.control.check()?;
                return Err(internal("the private pipeline takes nothing more"));
            }
        }
        let is_starved = |state: &MuxerState| state.starved.contains(&true);
        self.control.wait_until(is_starved)?;
        let memory = |source: &gst_app::AppSrc| {
            let buffers = source.current_level_buffers();
            source.current_level_bytes() + buffers * SAMPLE_OVERHEAD as u64
        };
        let mut levels = self.sources.iter().map(memory);
        match levels.any(|bytes| bytes > MAX_QUEUED) {
            true => Err(unsupported(
                "audio and video lie too far apart in the recording",
            )),
            false => Ok(()),
        }
    }

    /// The time that is subtracted from all times, set by the first samples.
    fn base_time(&mut self, samples: &[Vec<Sample>]) -> i64 {
        let tracks = self.tracks.iter().zip(samples);
        let first = tracks.filter_map(|(track, samples)| {
            let times = samples.iter().flat_map(|s| [s.dts, s.pts]);
            Some(to_ns(times.min()?, track.timescale))
        });
        self.base = self.base.or(first.min().map(|first| first - HEADROOM));
        self.base.unwrap_or(0)
    }

    /// Completes the file; returns it with its size in bytes.
    pub fn finish(&self, presentation: Presentation) -> Result<(File, u64), Error> {
        lock(&self.control.state).presentation = Some(presentation);
        for source in &self.sources {
            let _ = source.end_of_stream();
        }
        self.control.wait_until(|state| state.result.is_some())?;
        let output = lock(&self.control.writer).take();
        let output = output.ok_or_else(|| internal("there is no file"))?;
        output
            .into_file()
            .map_err(|failure| write_error(failure, &self.directory))
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        self.control.end(Err(aborted()));
        if let Some(bus) = self.pipeline.bus() {
            bus.set_flushing(true);
        }
        if self.pipeline.set_state(gst::State::Null).is_err() {
            gst::warning!(CAT, obj = self.pipeline, "could not be shut down");
        }
        // Not earlier: mp4mux uses its temporary file until then, and the
        // handler owns that.
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

fn make_buffer(sample: Sample, timescale: u32, base: i64) -> gst::Buffer {
    let time = |ticks| {
        let at = to_ns(ticks, timescale) - base;
        gst::ClockTime::from_nseconds(at.max(0) as u64)
    };
    let (dts, pts, sync) = (time(sample.dts), time(sample.pts), sample.sync);
    let end = time(sample.dts + sample.duration);
    let mut buffer = gst::Buffer::from_slice(sample.data);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_dts(dts);
        buffer.set_pts(pts);
        buffer.set_duration(end.saturating_sub(dts));
        if !sync {
            buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
    }
    buffer
}

/// The parser that converts a track to what the muxer accepts, if it needs one.
fn make_parser(track: &ClipTrack, accepted: &gst::Caps) -> Result<Option<gst::Element>, Error> {
    if track.caps.is_subset(accepted) {
        return Ok(None);
    }
    let name = track.caps.structure(0).map_or("", |s| s.name().as_str());
    let parser = match name {
        "video/x-h264" => "h264parse",
        "video/x-h265" => "h265parse",
        "video/x-vp9" => "vp9parse",
        "video/x-av1" => "av1parse",
        "audio/x-opus" => "opusparse",
        "audio/mpeg" => "aacparse",
        _ => {
            let (kind, caps) = (track.kind.as_str(), &track.caps);
            return Err(unsupported(format!(
                "an ordinary MP4 cannot hold the clip's {kind} ({caps})"
            )));
        }
    };
    make(parser).map(Some)
}

/// mp4mux of GStreamer 1.22 crashes on VP9 caps without chroma-site, which are
/// those of most encoders; mpeg2 is the default of the field.
fn set_default_chroma_site(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        if let Some(event) = info.event_mut()
            && let gst::EventView::Caps(caps) = event.view()
            && let Some(s) = caps.caps().structure(0)
            && s.name() == "video/x-vp9"
            && !s.has_field("chroma-site")
        {
            let mut caps = caps.caps_owned();
            caps.make_mut().set("chroma-site", "mpeg2");
            *event = gst::event::Caps::new(&caps);
        }
        gst::PadProbeReturn::Ok
    });
}

fn make_sink(control: &Arc<MuxerControl>, directory: &TempDirectory) -> gst_app::AppSink {
    let (samples, directory) = (control.clone(), directory.clone());
    let eos = control.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            write(&samples, &sample).map_err(|failure| {
                if let Some(failure) = failure {
                    samples.end(Err(write_error(failure, &directory)));
                }
                gst::FlowError::Error
            })?;
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| eos.end(Ok(())));
    gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .callbacks(callbacks.build())
        .build()
}

/// Writes a buffer of the muxer. Fails without a reason when the assembly has
/// failed already.
fn write(control: &MuxerControl, sample: &gst::Sample) -> Result<(), Option<WriteError>> {
    let buffer = sample.buffer().map(|buffer| buffer.map_readable());
    let Some(Ok(data)) = buffer else {
        return Ok(());
    };
    let presentation = {
        let mut state = lock(&control.state);
        if state.check().is_err() {
            return Err(None);
        }
        state.presentation.take()
    };
    let mut output = lock(&control.writer);
    let output = output.as_mut().ok_or(None)?;
    if let Some(presentation) = presentation {
        output.set_presentation(presentation);
    }
    output.write(&data).map_err(Some)
}

fn write_error(failure: WriteError, directory: &TempDirectory) -> Error {
    match failure {
        WriteError::Io(error) => directory.error(&error),
        WriteError::InvalidHeader(why) => internal(format!("the file's header: {why}")),
        WriteError::Truncated(bytes) => internal(format!(
            "{bytes} bytes of mp4mux's temporary file were lost"
        )),
    }
}

/// Ends the assembly at an error. No message reaches the application's bus.
fn watch_bus(
    pipeline: &gst::Pipeline,
    control: &Arc<MuxerControl>,
    directory: &TempDirectory,
    faststart_file: FaststartFile,
) -> Result<(), Error> {
    let bus = pipeline.bus().ok_or_else(|| internal("no bus"))?;
    let (control, directory) = (control.clone(), directory.clone());
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => {
                gst::debug!(CAT, "{} {:?}", error.error(), error.debug());
                let write_error = faststart_file
                    .find_write_error()
                    .map(|error| directory.error(&error));
                control.end(Err(write_error.unwrap_or_else(|| classify(error))));
            }
            gst::MessageView::Warning(warning) => {
                gst::debug!(CAT, "{} {:?}", warning.error(), warning.debug());
            }
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
    Ok(())
}

fn classify(error: &gst::message::Error) -> Error {
    let source = error.src().map(|src| src.name());
    let source = source.as_deref().unwrap_or("the muxer");
    let debug = error.debug().unwrap_or_default();
    if debug.contains("not-negotiated") {
        return unsupported(format!(
            "mp4mux does not take the clip's media ({source}: {})",
            error.error()
        ));
    }
    internal(format!("{source}: {}", error.error()))
}

/// Fails if an element is not installed that any clip needs.
pub(super) fn check_installed() -> Result<(), Error> {
    let required = ["appsrc", "appsink", "qtdemux", "mp4mux"];
    let is_missing = |name: &&str| gst::ElementFactory::find(name).is_none();
    match required.into_iter().find(is_missing) {
        Some(name) => Err(missing(name)),
        None => Ok(()),
    }
}
