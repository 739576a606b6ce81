// SPDX-License-Identifier: MIT

//! One track's stream: units with running times, pushed into the pad's appsrc.
//!
//! The transport's streaming thread calls `consume`, the element's event thread
//! `start`, `end` and `interrupt`, the gap timer `send_gap`, and the pad's
//! streaming threads the rest. It never waits for downstream: the appsrc queues
//! without a limit, and a unit for which there is no time or no room is dropped.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};

use super::{
    audio_pacing::{AudioPacing, PacketTiming, StartBurst, opus_duration},
    clock_step::{self, is_clock_step},
    debug::CAT,
    event::SourceEvent,
    frame_rate::{self, RateMeter, SharedRate},
    gap_times,
};
use crate::{
    element::{Guard, clock_bridge::ClockBridge, event_thread::EventQueue, lock},
    platform::{
        Error,
        track::{Kind, Track},
    },
    session::{
        Session,
        bridge::{MediaConsumer, MediaUnit},
        frame_counters::FrameCounters,
    },
};

/// Units that wait at most for an appsrc that is being made.
const MAX_PENDING_UNITS: usize = 500;
/// Media that may queue in the appsrc before the track is cut to its next
/// keyframe.
const MAX_BACKLOG: gst::ClockTime = gst::ClockTime::from_seconds(10);
/// A unit that arrives later than this is not jittered: it waited in a queue.
const MAX_JITTER: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// The least time between two pictures.
const MIN_PICTURE_SPACING: gst::ClockTime = gst::ClockTime::from_mseconds(1);
/// The value of `discont_time` outside a gap.
const NO_DISCONT: u64 = u64::MAX;

/// The consumer of one track: schedules its units and pushes them.
pub struct TrackStream {
    pub track: Track,
    element: glib::WeakRef<gst::Element>,
    /// For keyframe requests.
    session: Weak<Session>,
    events: EventQueue<SourceEvent>,
    state: Mutex<StreamState>,
    /// The running time of the first unit after a gap, in ns.
    discont_time: AtomicU64,
    /// A GAP event waits in the appsrc.
    has_gap: AtomicBool,
    stats: TrackStats,
    pub counters: Arc<FrameCounters>,
}

/// The track's part of the element's `stats` property.
#[derive(Debug)]
struct TrackStats {
    received: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    started: Instant,
    /// When the first whole unit left the jitter buffer, since `started`.
    first_unit: OnceLock<Duration>,
    /// When the first buffer left the pad, since `started`.
    first_frame: OnceLock<Duration>,
}

impl TrackStats {
    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct StreamState {
    phase: StreamPhase,
    clock_bridge: ClockBridge,
    /// What the appsrc reports: how long after its time a unit is in time.
    latency: gst::ClockTime,
    /// The running time when a unit or the gap timer came last.
    last_time: Option<gst::ClockTime>,
    last_picture: Option<gst::ClockTime>,
    audio_pacing: AudioPacing,
    /// Opus packets that are not scheduled yet.
    start_burst: StartBurst<MediaUnit>,
    /// The start burst is over.
    is_paced: bool,
    /// The end of the last unit that was pushed.
    end: Option<gst::ClockTime>,
    /// The end of the last GAP event since then.
    gap_end: Option<gst::ClockTime>,
    /// The next unit does not follow on the last one.
    discont: bool,
    /// Units were lost: nothing can be decoded before the next keyframe.
    needs_keyframe: bool,
    /// What caps and durations of a video track are made of.
    frame_rate: Option<SharedRate>,
    rate_meter: RateMeter,
}

#[derive(Default)]
enum StreamPhase {
    /// Nothing has been received.
    #[default]
    Idle,
    /// The first unit was announced; the pad's elements are being made.
    Pending {
        units: VecDeque<MediaUnit>,
        /// The stream ends with these units.
        ends: bool,
    },
    Streaming(gst_app::AppSrc),
    Ended,
}

/// Units with the running times at which they are pushed.
type ScheduledUnits = Vec<(MediaUnit, gst::ClockTime)>;

impl TrackStream {
    /// A stream that sends `events` to the element, and whose statistics count
    /// from `started`.
    pub fn new(
        track: Track,
        element: &gst::Element,
        session: Weak<Session>,
        events: EventQueue<SourceEvent>,
        started: Instant,
    ) -> Self {
        Self {
            track,
            element: element.downgrade(),
            session,
            events,
            state: Mutex::default(),
            discont_time: AtomicU64::new(NO_DISCONT),
            has_gap: AtomicBool::default(),
            stats: TrackStats {
                received: AtomicU64::default(),
                bytes: AtomicU64::default(),
                dropped: AtomicU64::default(),
                started,
                first_unit: OnceLock::new(),
                first_frame: OnceLock::new(),
            },
            counters: Arc::default(),
        }
    }

    fn lock(&self) -> Guard<'_, StreamState> {
        lock(&self.state)
    }

    /// Pushes the pending units into the appsrc, and all later ones.
    pub fn start(&self, appsrc: &gst_app::AppSrc) {
        let mut state = self.lock();
        let streaming = StreamPhase::Streaming(appsrc.clone());
        match std::mem::replace(&mut state.phase, streaming) {
            StreamPhase::Pending { units, ends } => {
                for unit in units {
                    self.push(&mut state, unit);
                }
                if ends {
                    self.end_streaming(&mut state);
                }
            }
            other => state.phase = other,
        }
    }

    /// Sets the nominal frame rate of video, from which pictures get their
    /// durations. Returns the rate for the caps.
    pub fn set_frame_rate(&self, rate: gst::Fraction) -> SharedRate {
        let rate = SharedRate::new(rate);
        self.lock().frame_rate = Some(rate.clone());
        rate
    }

    /// Has the next caps, those of another size, say this rate.
    pub fn set_next_frame_rate(&self, rate: gst::Fraction) {
        if let Some(nominal) = &self.lock().frame_rate {
            nominal.set_next(rate);
        }
    }

    /// Downstream takes nothing of this stream.
    pub fn refuse(&self, error: Error) {
        self.events.send(SourceEvent::Refused(error));
    }

    /// Ends the stream after the queued units. Returns whether an appsrc sends
    /// the EOS, now or once it exists; if not, nothing has been received and
    /// nothing will be.
    pub fn end(&self) -> bool {
        let mut state = self.lock();
        match &mut state.phase {
            StreamPhase::Idle => {
                state.phase = StreamPhase::Ended;
                return false;
            }
            StreamPhase::Pending { ends, .. } => *ends = true,
            StreamPhase::Streaming(_) => self.end_streaming(&mut state),
            StreamPhase::Ended => {}
        }
        true
    }

    /// Ends the stream after the queued units, if an appsrc sends it.
    pub fn end_if_begun(&self) {
        self.end_streaming(&mut self.lock());
    }

    /// Ends the stream after the units in its appsrc, if it has one; a gap lasts until
    /// now.
    fn end_streaming(&self, state: &mut StreamState) {
        let StreamPhase::Streaming(appsrc) = &state.phase else {
            return;
        };
        let element = self.element.upgrade();
        let now = element.and_then(|element| element.current_running_time());
        if let (Some(start), Some(now)) = (state.gap_end, now)
            && let Some(end) = gap_times::gap_end(start, now, gst::ClockTime::ZERO, true)
        {
            send_gap_event(appsrc, start, end);
        }
        // Fails only while the element stops.
        let _ = appsrc.end_of_stream();
        state.phase = StreamPhase::Ended;
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.lock().phase, StreamPhase::Ended)
    }

    /// The pad was linked or unlinked.
    pub fn set_linked(&self, linked: bool) {
        self.counters.begin_anew();
        if linked && self.has_ended() {
            let track = self.track.name.clone();
            self.events.send(SourceEvent::LinkedAfterEnd(track));
        }
    }

    /// The connection is lost: the next unit is a new start.
    pub fn interrupt(&self) {
        let mut state = self.lock();
        state.discont = true;
        state.is_paced = false;
        state.start_burst = StartBurst::default();
    }

    /// The latency that the appsrc reports.
    pub fn set_latency(&self, latency: gst::ClockTime) {
        self.lock().latency = latency;
    }

    /// Sends a GAP event from the end of the last unit, if nothing has come for
    /// long enough, and unless units or one of these wait. Returns whether there
    /// is a gap.
    pub fn send_gap(&self, now: gst::ClockTime) -> bool {
        let mut state = self.lock();
        state.come_to(now);
        let (StreamPhase::Streaming(appsrc), Some(end)) = (&state.phase, state.end) else {
            return false;
        };
        let appsrc = appsrc.clone();
        let start = state.gap_end.unwrap_or(end);
        let in_gap = state.gap_end.is_some() || state.discont;
        let Some(end) = gap_times::gap_end(start, now, state.latency, in_gap) else {
            return in_gap;
        };
        // The next event has the time of one that would wait behind them.
        let is_idle = appsrc.current_level_buffers() == 0;
        if is_idle && !self.has_gap.swap(true, Ordering::AcqRel) {
            state.gap_end = Some(end);
            send_gap_event(&appsrc, start, end);
        }
        true
    }

    /// No GAP event waits in the appsrc any more.
    pub fn gap_has_left(&self) {
        self.has_gap.store(false, Ordering::Release);
    }

    /// Records a buffer that leaves the pad's elements, and marks the first one
    /// after a gap: decoders drop the DISCONT flag.
    pub fn record_output(&self, buffer: &mut gst::Buffer) {
        let stats = &self.stats;
        stats.first_frame.get_or_init(|| stats.started.elapsed());
        let element = self.element.upgrade();
        let running_time = element.and_then(|element| element.current_running_time());
        self.counters
            .record_frame(Instant::now(), running_time.map(Duration::from));
        let discont_time = self.discont_time.load(Ordering::Acquire);
        if buffer
            .pts()
            .is_some_and(|pts| pts.nseconds() >= discont_time)
        {
            self.discont_time.store(NO_DISCONT, Ordering::Release);
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
    }

    /// Asks the model for a keyframe of a video track.
    pub fn request_keyframe(&self) {
        if self.track.kind == Kind::Video
            && let Some(session) = self.session.upgrade()
        {
            session.request_keyframe(&self.track.name);
        }
    }

    /// The track's part of the `stats` property, times in ms.
    pub fn stats(&self) -> gst::structure::Builder {
        let stats = &self.stats;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let ms = |time: &OnceLock<Duration>| time.get().map(|time| time.as_secs_f64() * 1000.0);
        gst::Structure::builder("track")
            .field("kind", self.track.kind.as_str())
            .field("received", count(&stats.received))
            .field("bytes", count(&stats.bytes))
            .field("dropped", count(&stats.dropped))
            .field_if_some("first-unit-ms", ms(&stats.first_unit))
            .field_if_some("first-frame-ms", ms(&stats.first_frame))
    }

    fn count_dropped(&self) {
        self.stats.count_dropped();
        self.counters.count_dropped();
    }

    /// Drops a unit, and so all that depend on it. No keyframe is requested: one that
    /// came now would be dropped, too.
    fn drop_until_keyframe(&self, state: &mut StreamState) {
        self.count_dropped();
        state.needs_keyframe = true;
    }

    fn push(&self, state: &mut StreamState, unit: MediaUnit) {
        let StreamPhase::Streaming(appsrc) = &state.phase else {
            return;
        };
        let appsrc = appsrc.clone();
        let Some(element) = self.element.upgrade() else {
            return;
        };
        if element.current_state() != gst::State::Playing
            || appsrc.current_level_time() > MAX_BACKLOG
        {
            return self.drop_until_keyframe(state);
        }
        if !state.is_decodable(&unit) {
            // Again and again, since requests may be lost, and the server sends no keyframe
            // by itself; `keyframe_requests` sends them no more often than is useful.
            self.request_keyframe();
            return self.count_dropped();
        }
        let mut running_time = |time| state.clock_bridge.running_time(&element, time);
        let due = unit.time.and_then(&mut running_time);
        let Some((due, arrival)) = due.zip(running_time(unit.arrived)) else {
            return self.drop_until_keyframe(state);
        };
        // Not by the time at which it is due: what was held back is not of another clock.
        state.come_to(arrival);
        if state.is_superseded(&unit, due, arrival) {
            return self.count_dropped();
        }
        self.measure_frame_rate(state, due);
        let mut units = state.schedule(self.track.kind, unit, due, arrival);
        if let Some((start, end)) = state.rest_of_gap(&units) {
            send_gap_event(&appsrc, start, end);
        }
        state.delay_after_gap(&mut units);
        for (unit, start) in units {
            gst::trace!(CAT, obj = element, "{}: {due} at {start}", self.track.name);
            self.deliver(state, &appsrc, unit, start);
        }
    }

    /// Measures the rate of the first frames, and reports one that the caps do not
    /// say.
    fn measure_frame_rate(&self, state: &mut StreamState, time: gst::ClockTime) {
        let Some(nominal) = &state.frame_rate else {
            return;
        };
        if let Some(measured) = state.rate_meter.add(time) {
            let (track, rate) = (&self.track.name, nominal.now());
            let texts = [measured, rate].map(frame_rate::text);
            gst::info!(
                CAT,
                "{track}: {} frames per second, caps say {}",
                texts[0],
                texts[1]
            );
            if rate.numer() > 0 && !frame_rate::is_near(measured, rate) {
                let track = track.clone();
                self.events
                    .send(SourceEvent::RateMeasured { track, measured });
            }
        }
    }

    fn deliver(
        &self,
        state: &mut StreamState,
        appsrc: &gst_app::AppSrc,
        mut unit: MediaUnit,
        start: gst::ClockTime,
    ) {
        let buffer = unit.buffer.make_mut();
        buffer.set_pts(start);
        buffer.set_dts(gst::ClockTime::NONE);
        if std::mem::take(&mut state.discont) {
            buffer.set_flags(gst::BufferFlags::DISCONT);
            self.discont_time.store(start.nseconds(), Ordering::Release);
        }
        if let Some(nominal) = &state.frame_rate
            && buffer.duration().is_none()
        {
            buffer.set_duration(frame_rate::interval(nominal.now()));
        }
        let end = buffer.duration().map(|duration| start + duration);
        let end = end.or_else(|| state.audio_pacing.end()).unwrap_or(start);
        state.end = Some(end.max(start));
        let sample = gst::Sample::builder().buffer(&unit.buffer).caps(&unit.caps);
        if let Err(error) = appsrc.push_sample(&sample.build()) {
            gst::debug!(CAT, "{}: {error}", self.track.name);
        }
    }
}

impl StreamState {
    /// Forgets the times of another clock, if running time has begun anew: pictures
    /// and GAP events would wait for them.
    fn come_to(&mut self, time: gst::ClockTime) {
        let last = self.last_time.replace(time);
        if !last.is_some_and(|last| is_clock_step(last, time)) {
            return;
        }
        (self.last_picture, self.gap_end) = (None, None);
        self.end = self.end.map(|_| time);
        if let StreamPhase::Streaming(appsrc) = &self.phase {
            appsrc.send_event(clock_step::event());
        }
    }

    /// Whether a decoder can use a unit: after a loss, from a keyframe on.
    fn is_decodable(&mut self, unit: &MediaUnit) -> bool {
        self.needs_keyframe &= unit.buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        !self.needs_keyframe
    }

    /// Whether a sound waited in a queue while a GAP event stood for its time.
    /// Played later than its picture, it would delay all that follows.
    fn is_superseded(
        &self,
        unit: &MediaUnit,
        due: gst::ClockTime,
        arrival: gst::ClockTime,
    ) -> bool {
        self.gap_end.is_some_and(|gap_end| {
            arrival > due + MAX_JITTER
                && opus_duration_of(unit).is_some_and(|duration| due + duration <= gap_end)
        })
    }

    /// Gives running times to a unit that was due at `due`, and to those that
    /// waited for it.
    fn schedule(
        &mut self,
        kind: Kind,
        unit: MediaUnit,
        due: gst::ClockTime,
        arrival: gst::ClockTime,
    ) -> ScheduledUnits {
        let structure = unit.caps.structure(0);
        let is_rtp = structure.is_some_and(|s| s.has_name("application/x-rtp"));
        match (kind, opus_duration_of(&unit)) {
            (Kind::Audio, Some(duration)) => {
                self.schedule_opus(unit, PacketTiming { due, duration }, arrival)
            }
            (Kind::Video, _) if !is_rtp => {
                // After a stall the jitter buffer gives two pictures the same
                // time; muxers need different ones.
                let earliest = self.last_picture.map(|last| last + MIN_PICTURE_SPACING);
                let start = earliest.map_or(due, |earliest| due.max(earliest));
                self.last_picture = Some(start);
                vec![(unit, start)]
            }
            _ => vec![(unit, due)],
        }
    }

    fn schedule_opus(
        &mut self,
        unit: MediaUnit,
        timing: PacketTiming,
        arrival: gst::ClockTime,
    ) -> ScheduledUnits {
        let PacketTiming { due, duration } = timing;
        if self.is_paced {
            let start = self.audio_pacing.schedule(due, duration);
            return start.map(|start| (unit, start)).into_iter().collect();
        }
        let Some(units) = self.start_burst.add(unit, timing, arrival) else {
            return Vec::new();
        };
        self.is_paced = true;
        if let Some((_, last)) = units.last() {
            self.audio_pacing.continue_from(*last, duration);
        }
        units
    }

    /// What no GAP event stands for yet of the gap that these units end: the events
    /// are a latency behind.
    fn rest_of_gap(
        &self,
        units: &[(MediaUnit, gst::ClockTime)],
    ) -> Option<(gst::ClockTime, gst::ClockTime)> {
        let (_, first) = units.first()?;
        let gap_end = self.gap_end.filter(|gap_end| gap_end < first)?;
        Some((gap_end, *first))
    }

    /// Delays the first units after a gap that begin before its GAP events end.
    fn delay_after_gap(&mut self, units: &mut ScheduledUnits) {
        let Some((_, first)) = units.first() else {
            return;
        };
        if let Some(gap_end) = self.gap_end.take() {
            let delay = gap_end.saturating_sub(*first);
            for (_, start) in units {
                *start += delay;
            }
            self.last_picture = self.last_picture.map(|last| last + delay);
            self.audio_pacing.delay_next(delay);
        }
    }
}

fn send_gap_event(appsrc: &gst_app::AppSrc, start: gst::ClockTime, end: gst::ClockTime) {
    let gap = gst::event::Gap::builder(start).duration(end - start);
    appsrc.send_event(gap.build());
}

fn opus_duration_of(unit: &MediaUnit) -> Option<gst::ClockTime> {
    if !unit.caps.structure(0)?.has_name("audio/x-opus") {
        return None;
    }
    opus_duration(&unit.buffer.map_readable().ok()?)
}

impl MediaConsumer for TrackStream {
    fn consume(&self, unit: MediaUnit) {
        let stats = &self.stats;
        stats.received.fetch_add(1, Ordering::Relaxed);
        stats.first_unit.get_or_init(|| stats.started.elapsed());
        let size = unit.buffer.size() as u64;
        stats.bytes.fetch_add(size, Ordering::Relaxed);
        let mut state = self.lock();
        match &mut state.phase {
            StreamPhase::Idle => {
                let caps = unit.caps.clone();
                state.phase = StreamPhase::Pending {
                    units: VecDeque::from([unit]),
                    ends: false,
                };
                self.events.send(SourceEvent::FirstUnit {
                    track: self.track.name.clone(),
                    caps,
                });
            }
            StreamPhase::Pending { ends: true, .. } | StreamPhase::Ended => {}
            StreamPhase::Pending { units, .. } if units.len() < MAX_PENDING_UNITS => {
                units.push_back(unit);
            }
            StreamPhase::Pending { .. } => self.drop_until_keyframe(&mut state),
            StreamPhase::Streaming(_) => self.push(&mut state, unit),
        }
    }
}

#[cfg(test)]
mod tests;
