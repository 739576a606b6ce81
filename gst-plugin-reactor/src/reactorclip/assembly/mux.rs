// SPDX-License-Identifier: MIT

//! The private pipeline: a source for each track, mp4mux, and the file.

use std::{
    fs::File,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use gst::prelude::*;

use super::{
    CAT,
    edits::{self, Fed, Plan},
    errors::{aborted, unsupported},
    fragment::Sample,
    header::{Header, Track},
    output::{Failure, Output},
    temporary::{Directory, Spill},
    timeline::to_ns,
};
use crate::{
    gst_helpers::{internal, make, missing},
    platform::{Error, lock},
};

/// Between where the first sample lies and 0, for tracks that begin earlier.
const HEADROOM: i64 = 10_000_000_000;
/// How much one track may be ahead of another.
const LARGEST_LEAD: u64 = 32 << 20;

/// What the pipeline's threads, the caller and cancellers share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Apart, since writing may take its time.
    output: Mutex<Option<Output>>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    /// The first failure, or that it is finished.
    over: Option<Result<(), Error>>,
    /// The sources that have nothing left.
    starved: Vec<bool>,
    plan: Option<Plan>,
}

impl Shared {
    pub fn cancel(&self) {
        lock(&self.state).cancelled = true;
        self.changed.notify_all();
    }

    pub fn check(&self) -> Result<(), Error> {
        lock(&self.state).check()
    }

    fn end(&self, result: Result<(), Error>) {
        let mut state = lock(&self.state);
        state.over.get_or_insert(result);
        self.changed.notify_all();
    }

    fn starve(&self, track: usize) {
        if let Some(starved) = lock(&self.state).starved.get_mut(track) {
            *starved = true;
        }
        self.changed.notify_all();
    }

    /// Waits until it holds, as long as nothing has gone wrong.
    fn wait(&self, until: impl Fn(&State) -> bool) -> Result<(), Error> {
        /// Nothing depends on that: whoever changes something says so.
        const LOOK_AGAIN: Duration = Duration::from_millis(200);
        let mut state = lock(&self.state);
        loop {
            state.check()?;
            if until(&state) {
                return Ok(());
            }
            let waited = self.changed.wait_timeout(state, LOOK_AGAIN);
            state = waited.map_or_else(|error| error.into_inner().0, |(state, _)| state);
        }
    }
}

impl State {
    fn check(&self) -> Result<(), Error> {
        if self.cancelled {
            return Err(aborted());
        }
        match &self.over {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Mux {
    pipeline: gst::Pipeline,
    sources: Vec<gst_app::AppSrc>,
    tracks: Vec<Fed>,
    shared: Arc<Shared>,
    directory: Directory,
    /// What is taken off all times, in nanoseconds.
    base: Option<i64>,
}

impl Mux {
    pub fn new(header: &Header, directory: &Directory, shared: Arc<Shared>) -> Result<Self, Error> {
        let pipeline = gst::Pipeline::builder().name("reactor-assembly").build();
        let spill = Spill::new(directory)?;
        *lock(&shared.output) = Some(Output::new(directory.file()?));
        // Until there is something for them.
        lock(&shared.state).starved = vec![true; header.tracks.len()];
        let scales = header.tracks.iter().map(|track| track.timescale);
        let muxer = make("mp4mux")?;
        muxer.set_property("faststart", true);
        let path = spill.path().to_str().ok_or_else(|| internal("odd path"))?;
        muxer.set_property("faststart-file", path);
        muxer.set_property("movie-timescale", edits::movie_timescale(scales));
        let sink = sink(&shared, directory)?;
        pipeline.add_many([&muxer, &sink]).map_err(internal)?;
        muxer.link(&sink).map_err(internal)?;
        watch_bus(&pipeline, &shared, directory, spill)?;
        let mut mux = Self {
            pipeline,
            sources: Vec::new(),
            tracks: Vec::new(),
            shared,
            directory: directory.clone(),
            base: None,
        };
        for track in &header.tracks {
            mux.add(track, &muxer)?;
        }
        let state = mux.pipeline.set_state(gst::State::Playing);
        state.map_err(|_| internal("the private pipeline does not start"))?;
        Ok(mux)
    }

    fn add(&mut self, track: &Track, muxer: &gst::Element) -> Result<(), Error> {
        let index = self.sources.len();
        let source = make("appsrc")?
            .downcast::<gst_app::AppSrc>()
            .map_err(|_| internal("appsrc is not one"))?;
        source.set_caps(Some(&track.caps));
        source.set_format(gst::Format::Time);
        // push() waits instead.
        source.set_max_bytes(0);
        let shared = self.shared.clone();
        let callbacks = gst_app::AppSrcCallbacks::builder();
        let callbacks = callbacks.need_data(move |_, _| shared.starve(index));
        source.set_callbacks(callbacks.build());
        self.pipeline.add(&source).map_err(internal)?;

        let name = format!("{}_%u", track.kind.as_str());
        let template = muxer.pad_template(&name);
        let template = template.ok_or_else(|| missing("mp4mux"))?;
        let pad = muxer.request_pad(&template, None, None);
        let pad = pad.ok_or_else(|| internal("mp4mux gave no sink pad"))?;
        pad.set_property("trak-timescale", track.timescale);
        name_chroma_site(&pad);
        let parser = parser(track, template.caps())?;
        let mut last = source.clone().upcast::<gst::Element>();
        if let Some(parser) = &parser {
            self.pipeline.add(parser).map_err(internal)?;
            last.link(parser).map_err(internal)?;
            last = parser.clone();
        }
        let from = last.static_pad("src").ok_or_else(|| internal("no pad"))?;
        from.link(&pad).map_err(internal)?;
        self.sources.push(source);
        self.tracks.push(Fed {
            timescale: track.timescale,
            parsed: parser.is_some(),
            ..Fed::default()
        });
        Ok(())
    }

    /// What each track was fed.
    pub fn tracks(&self) -> &[Fed] {
        &self.tracks
    }

    /// Feeds the tracks, and waits until one of them has nothing left: the
    /// muxer waits for that one, so that the others cannot get further.
    pub fn push(&mut self, samples: Vec<Vec<Sample>>) -> Result<(), Error> {
        self.shared.check()?;
        let base = self.base(&samples);
        for (index, samples) in samples.into_iter().enumerate() {
            let (Some(source), Some(fed)) = (self.sources.get(index), self.tracks.get_mut(index))
            else {
                continue;
            };
            if samples.is_empty() {
                continue;
            }
            let mut list = gst::BufferList::new_sized(samples.len());
            for sample in samples {
                fed.add(sample.dts, sample.pts, sample.duration);
                let buffer = buffer(sample, fed.timescale, base);
                list.make_mut().add(buffer);
            }
            if let Some(starved) = lock(&self.shared.state).starved.get_mut(index) {
                *starved = false;
            }
            if source.push_buffer_list(list).is_err() {
                // The bus has said why.
                self.shared.check()?;
                return Err(internal("the private pipeline takes nothing more"));
            }
        }
        self.shared.wait(|state| state.starved.contains(&true))?;
        if self
            .sources
            .iter()
            .any(|s| s.current_level_bytes() > LARGEST_LEAD)
        {
            return Err(unsupported(
                "audio and video lie too far apart in the recording",
            ));
        }
        Ok(())
    }

    fn base(&mut self, samples: &[Vec<Sample>]) -> i64 {
        let first = self
            .tracks
            .iter()
            .zip(samples)
            .filter_map(|(fed, samples)| {
                let times = samples.iter().flat_map(|s| [s.dts, s.pts]);
                Some(to_ns(times.min()?, fed.timescale))
            });
        let first = first.min();
        match (self.base, first) {
            (None, Some(first)) => *self.base.insert(first - HEADROOM),
            (base, _) => base.unwrap_or(0),
        }
    }

    /// Completes the file.
    pub fn finish(&self, plan: Plan) -> Result<(File, u64), Error> {
        lock(&self.shared.state).plan = Some(plan);
        for source in &self.sources {
            let _ = source.end_of_stream();
        }
        self.shared.wait(|state| state.over.is_some())?;
        let output = lock(&self.shared.output).take();
        let output = output.ok_or_else(|| internal("there is no file"))?;
        output
            .into_file()
            .map_err(|why| explain(why, &self.directory))
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        self.shared.end(Err(aborted()));
        if let Some(bus) = self.pipeline.bus() {
            bus.set_flushing(true);
        }
        if self.pipeline.set_state(gst::State::Null).is_err() {
            gst::warning!(CAT, obj = self.pipeline, "could not be shut down");
        }
        // Not before: mp4mux uses its temporary file up to here, and the
        // handler holds it.
        if let Some(bus) = self.pipeline.bus() {
            bus.unset_sync_handler();
        }
    }
}

fn buffer(sample: Sample, timescale: u32, base: i64) -> gst::Buffer {
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

/// What makes of the stream what the muxer takes, where it does not take it.
fn parser(track: &Track, accepted: &gst::Caps) -> Result<Option<gst::Element>, Error> {
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

/// mp4mux of 1.22 crashes on VP9 caps that do not say where the chroma samples
/// lie, as those of most encoders' streams; where the stream does not either,
/// it is what everybody assumes.
fn name_chroma_site(pad: &gst::Pad) {
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

fn sink(shared: &Arc<Shared>, directory: &Directory) -> Result<gst::Element, Error> {
    let sink = make("appsink")?
        .downcast::<gst_app::AppSink>()
        .map_err(|_| internal("appsink is not one"))?;
    sink.set_sync(false);
    sink.set_async(false);
    let (samples, directory) = (shared.clone(), directory.clone());
    let eos = shared.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            write(&samples, &sample).map_err(|failure| {
                if let Some(failure) = failure {
                    samples.end(Err(explain(failure, &directory)));
                }
                gst::FlowError::Error
            })?;
            Ok(gst::FlowSuccess::Ok)
        })
        .eos(move |_| eos.end(Ok(())));
    sink.set_callbacks(callbacks.build());
    Ok(sink.upcast())
}

/// Takes what the muxer puts out, or fails, without a reason when it is over.
fn write(shared: &Shared, sample: &gst::Sample) -> Result<(), Option<Failure>> {
    let buffer = sample.buffer().map(|buffer| buffer.map_readable());
    let Some(Ok(data)) = buffer else {
        return Ok(());
    };
    let plan = {
        let mut state = lock(&shared.state);
        if state.check().is_err() {
            return Err(None);
        }
        state.plan.take()
    };
    let mut output = lock(&shared.output);
    let output = output.as_mut().ok_or(None)?;
    if let Some(plan) = plan {
        output.plan(plan);
    }
    output.write(&data).map_err(Some)
}

fn explain(failure: Failure, directory: &Directory) -> Error {
    match failure {
        Failure::Write(error) => directory.error(&error),
        Failure::Header(why) => internal(format!("the file's header: {why}")),
        Failure::Short(bytes) => internal(format!(
            "{bytes} bytes of mp4mux's temporary file were lost"
        )),
    }
}

/// Errors end it. Nothing reaches the user's bus.
fn watch_bus(
    pipeline: &gst::Pipeline,
    shared: &Arc<Shared>,
    directory: &Directory,
    spill: Spill,
) -> Result<(), Error> {
    let bus = pipeline.bus().ok_or_else(|| internal("no bus"))?;
    let (shared, directory) = (shared.clone(), directory.clone());
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => {
                gst::debug!(CAT, "{} {:?}", error.error(), error.debug());
                let complaint = spill.complaint().map(|why| directory.error(&why));
                shared.end(Err(complaint.unwrap_or_else(|| classify(error))));
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

/// Which elements it takes, whatever the media.
pub(super) fn check_installed() -> Result<(), Error> {
    let needed = ["appsrc", "appsink", "qtdemux", "mp4mux"];
    let lacks = |name: &&str| gst::ElementFactory::find(name).is_none();
    match needed.into_iter().find(lacks) {
        Some(name) => Err(missing(name)),
        None => Ok(()),
    }
}
