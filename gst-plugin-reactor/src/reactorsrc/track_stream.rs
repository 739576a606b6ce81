// SPDX-License-Identifier: MIT

//! The element's end of one track's bridge: takes units from the transport's
//! streaming thread, gives them running time, hands them to the pad's appsrc.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use super::{
    audio_pacing::{AudioPacing, Beginning, Packet, opus_duration},
    events::SourceEvent,
    gap_filler::{MARGIN, QUIET},
    imp::CAT,
};
use crate::{
    element::{clock_bridge::ClockBridge, lock},
    platform::track::{Kind, Track},
    session::{
        Session,
        bridge::{MediaConsumer, MediaUnit},
    },
};

/// What may wait for an appsrc that is being made.
const PENDING_LIMIT: usize = 500;
/// How far downstream may fall behind before a track is cut to its next
/// keyframe.
const BACKLOG_LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// Later than jitter makes anything.
const QUEUED: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// The least time between two pictures.
const PICTURE_DISTANCE: gst::ClockTime = gst::ClockTime::from_mseconds(1);

pub struct TrackStream {
    pub track: Track,
    element: glib::WeakRef<gst::Element>,
    /// For keyframe requests.
    session: Weak<Session>,
    events: mpsc::Sender<SourceEvent>,
    state: Mutex<State>,
    /// The running time of what comes first after a gap, in nanoseconds.
    gap_end: AtomicU64,
    pub counters: Counters,
    pub times: Times,
}

const NO_GAP: u64 = u64::MAX;

/// What the `stats` property shows of a track.
#[derive(Debug, Default)]
pub struct Counters {
    pub received: AtomicU64,
    pub bytes: AtomicU64,
    pub dropped: AtomicU64,
}

/// When something first came, since the element was started.
#[derive(Debug)]
pub struct Times {
    pub start: Instant,
    /// Out of the jitter buffer, and whole.
    pub unit: OnceLock<Duration>,
    /// Out of the pad.
    pub frame: OnceLock<Duration>,
}

impl Times {
    fn new(start: Instant) -> Self {
        Self {
            start,
            unit: OnceLock::new(),
            frame: OnceLock::new(),
        }
    }

    pub fn note(&self, first: &OnceLock<Duration>) {
        first.get_or_init(|| self.start.elapsed());
    }
}

#[derive(Default)]
struct State {
    outlet: Outlet,
    timing: ClockBridge,
    /// The running time of the picture before.
    last: Option<gst::ClockTime>,
    cadence: AudioPacing,
    /// Opus packets that have no place yet.
    beginning: Beginning<MediaUnit>,
    /// It is known where the stream begins.
    settled: bool,
    /// The end of what was passed on, and of what stood in for the rest.
    end: Option<gst::ClockTime>,
    filled: Option<gst::ClockTime>,
    /// What comes next does not follow on what came before.
    discont: bool,
    /// Units are missing: nothing is any good before the next keyframe.
    broken: bool,
}

/// Where units go.
#[derive(Default)]
enum Outlet {
    /// Nothing has come yet.
    #[default]
    None,
    /// The pad's elements are being made.
    Pending(VecDeque<MediaUnit>),
    AppSrc(gst_app::AppSrc),
    /// Nothing goes out any more.
    Ended,
}

impl TrackStream {
    pub fn new(
        track: Track,
        element: &gst::Element,
        session: Weak<Session>,
        events: mpsc::Sender<SourceEvent>,
        start: Instant,
    ) -> Self {
        Self {
            track,
            element: element.downgrade(),
            session,
            events,
            state: Mutex::default(),
            gap_end: AtomicU64::new(NO_GAP),
            counters: Counters::default(),
            times: Times::new(start),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The pad's elements are there: what has waited goes first.
    pub fn install(&self, appsrc: &gst_app::AppSrc) {
        let mut state = self.lock();
        match std::mem::take(&mut state.outlet) {
            Outlet::Ended => {
                state.outlet = Outlet::Ended;
                drop(state);
                let _ = appsrc.end_of_stream();
            }
            outlet => {
                state.outlet = Outlet::AppSrc(appsrc.clone());
                if let Outlet::Pending(units) = outlet {
                    for unit in units {
                        self.push(&mut state, unit);
                    }
                }
            }
        }
    }

    /// Ends the stream after what is queued. Returns whether an appsrc does
    /// that; if not, the pad has to.
    pub fn end(&self) -> bool {
        let outlet = std::mem::replace(&mut self.lock().outlet, Outlet::Ended);
        match outlet {
            Outlet::AppSrc(appsrc) => appsrc.end_of_stream().is_ok(),
            // Announced: ends when installed.
            Outlet::Pending(_) => true,
            Outlet::None => false,
            Outlet::Ended => true,
        }
    }

    /// Nothing comes for now.
    pub fn interrupt(&self) {
        let mut state = self.lock();
        state.discont = true;
        state.settled = false;
        state.beginning = Beginning::default();
    }

    /// Passes on that there is nothing, up to shortly before `now`. Returns
    /// whether that is so.
    pub fn fill(&self, now: gst::ClockTime) -> bool {
        let mut state = self.lock();
        let (Outlet::AppSrc(appsrc), Some(end)) = (&state.outlet, state.end) else {
            return false;
        };
        let appsrc = appsrc.clone();
        let since = state.filled.unwrap_or(end);
        // Once it is known that nothing comes there is no need to wait.
        let known = state.filled.is_some() || state.discont;
        let quiet = if known { MARGIN } else { QUIET };
        let until = now.saturating_sub(MARGIN);
        if now < since + quiet || until <= since {
            return known;
        }
        state.filled = Some(until);
        let gap = gst::event::Gap::builder(since).duration(until - since);
        appsrc.send_event(gap.build());
        true
    }

    /// Whether a buffer is the first after a gap. Decoders do not say so.
    pub fn ends_gap(&self, buffer: &gst::BufferRef) -> bool {
        let end = self.gap_end.load(Ordering::Acquire);
        let ends = end != NO_GAP && buffer.pts().is_some_and(|pts| pts.nseconds() >= end);
        if ends {
            self.gap_end.store(NO_GAP, Ordering::Release);
        }
        ends
    }

    pub fn request_keyframe(&self) {
        if self.track.kind == Kind::Video
            && let Some(session) = self.session.upgrade()
        {
            session.request_keyframe(&self.track.name);
        }
    }

    /// Drops what cannot be decoded any more after a gap.
    fn pass(&self, state: &mut State, unit: &MediaUnit) -> bool {
        let delta = unit.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if state.broken && delta {
            return false;
        }
        state.broken = false;
        true
    }

    fn drop_unit(&self, state: &mut State) {
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        if !state.broken {
            state.broken = true;
            self.request_keyframe();
        }
    }

    fn push(&self, state: &mut State, unit: MediaUnit) {
        let Outlet::AppSrc(appsrc) = &state.outlet else {
            return;
        };
        let appsrc = appsrc.clone();
        let Some(element) = self.element.upgrade() else {
            return;
        };
        if element.current_state() != gst::State::Playing
            || appsrc.current_level_time() > BACKLOG_LIMIT
        {
            return self.drop_unit(state);
        }
        if !self.pass(state, &unit) {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut running = |time| state.timing.running_time(&element, time);
        let times = unit.time.and_then(&mut running).zip(running(unit.arrived));
        let Some((running, arrived)) = times else {
            return self.drop_unit(state);
        };
        if is_over(state, &unit, running, arrived) {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let placed = self.place(state, unit, running, arrived);
        for (unit, placed) in after_the_gap(state, placed) {
            gst::trace!(
                CAT,
                obj = element,
                "{}: {running} at {placed}",
                self.track.name
            );
            self.deliver(state, &appsrc, unit, placed);
        }
    }

    /// What goes on now, and at which time: something that arrives at
    /// `arrived` and was due at `running`, and what waited for it.
    fn place(
        &self,
        state: &mut State,
        unit: MediaUnit,
        running: gst::ClockTime,
        arrived: gst::ClockTime,
    ) -> Vec<(MediaUnit, gst::ClockTime)> {
        let media_type = unit.caps.structure(0).map(|s| s.name().as_str());
        match (self.track.kind, media_type) {
            (Kind::Audio, Some("audio/x-opus")) => place_opus(state, unit, running, arrived),
            (Kind::Video, media_type) if media_type != Some("application/x-rtp") => {
                // After a stall the jitter buffer gives two pictures the same
                // time; muxers want them apart.
                let earliest = state.last.map_or(running, |last| last + PICTURE_DISTANCE);
                let running = running.max(earliest);
                state.last = Some(running);
                vec![(unit, running)]
            }
            _ => vec![(unit, running)],
        }
    }

    fn deliver(
        &self,
        state: &mut State,
        appsrc: &gst_app::AppSrc,
        unit: MediaUnit,
        placed: gst::ClockTime,
    ) {
        let MediaUnit {
            mut buffer, caps, ..
        } = unit;
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(placed);
            buffer.set_dts(gst::ClockTime::NONE);
            if std::mem::take(&mut state.discont) {
                buffer.set_flags(gst::BufferFlags::DISCONT);
                self.gap_end.store(placed.nseconds(), Ordering::Release);
            }
        }
        let end = buffer.duration().map(|duration| placed + duration);
        let end = end.or_else(|| state.cadence.end()).unwrap_or(placed);
        state.end = Some(end.max(placed));
        let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
        if let Err(error) = appsrc.push_sample(&sample) {
            gst::debug!(CAT, "{}: {error}", self.track.name);
        }
    }
}

/// Sound whose time was filled meanwhile: it waited in a queue. To be played
/// later than its picture is no good to it, nor to what follows.
fn is_over(
    state: &State,
    unit: &MediaUnit,
    running: gst::ClockTime,
    arrived: gst::ClockTime,
) -> bool {
    let Some(filled) = state.filled.filter(|_| arrived > running + QUEUED) else {
        return false;
    };
    let packet = unit.buffer.map_readable().ok();
    let opus = unit
        .caps
        .structure(0)
        .is_some_and(|s| s.has_name("audio/x-opus"));
    let duration = packet.filter(|_| opus).and_then(|p| opus_duration(&p));
    duration.is_some_and(|duration| running + duration <= filled)
}

/// What comes after a gap must not begin before the end of what filled it.
fn after_the_gap(
    state: &mut State,
    mut placed: Vec<(MediaUnit, gst::ClockTime)>,
) -> Vec<(MediaUnit, gst::ClockTime)> {
    let first = placed.first().map(|(_, first)| *first);
    if let Some((filled, first)) = state.filled.zip(first) {
        state.filled = None;
        let shift = filled.saturating_sub(first);
        for (_, time) in &mut placed {
            *time += shift;
        }
        state.last = state.last.map(|last| last + shift);
        state.cadence.shift(shift);
    }
    placed
}

/// Packets of a steady cadence, from a beginning that is in time.
fn place_opus(
    state: &mut State,
    unit: MediaUnit,
    running: gst::ClockTime,
    arrived: gst::ClockTime,
) -> Vec<(MediaUnit, gst::ClockTime)> {
    let duration = unit.buffer.map_readable();
    let Some(duration) = duration.ok().and_then(|packet| opus_duration(&packet)) else {
        return vec![(unit, running)];
    };
    let packet = Packet { running, duration };
    if state.settled {
        let placed = state.cadence.place(packet.running, duration);
        return placed.map(|placed| (unit, placed)).into_iter().collect();
    }
    let Some(placed) = state.beginning.take(unit, packet, arrived) else {
        return Vec::new();
    };
    state.settled = true;
    if let Some((_, last)) = placed.last() {
        state.cadence.follow(*last, duration);
    }
    placed
}

impl MediaConsumer for TrackStream {
    fn consume(&self, unit: MediaUnit) {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        self.times.note(&self.times.unit);
        let size = unit.buffer.size() as u64;
        self.counters.bytes.fetch_add(size, Ordering::Relaxed);
        let mut state = self.lock();
        match &mut state.outlet {
            Outlet::None => {
                let caps = unit.caps.clone();
                state.outlet = Outlet::Pending(VecDeque::from([unit]));
                let _ = self.events.send(SourceEvent::Arrived {
                    track: self.track.name.clone(),
                    caps,
                });
            }
            Outlet::Pending(units) if units.len() < PENDING_LIMIT => units.push_back(unit),
            Outlet::Pending(_) => self.drop_unit(&mut state),
            Outlet::AppSrc(_) => self.push(&mut state, unit),
            Outlet::Ended => {}
        }
    }
}
