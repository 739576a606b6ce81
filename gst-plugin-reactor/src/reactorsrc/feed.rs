// SPDX-License-Identifier: MIT

//! The element's end of one track's bridge: takes units from the transport's
//! streaming thread, gives them running time, hands them to the pad's appsrc.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use gst::{glib, prelude::*};

use super::{
    cadence::{Cadence, opus_duration},
    events::Event,
    imp::CAT,
};
use crate::{
    live::{lock, timing::Timing},
    platform::track::{Kind, Track},
    session::{
        Session,
        port::{Consumer, Unit},
    },
};

/// What may wait for an appsrc that is being made.
const PENDING_LIMIT: usize = 500;
/// How far downstream may fall behind before a track is cut to its next
/// keyframe.
const BACKLOG_LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// The least time between two pictures.
const PICTURE_DISTANCE: gst::ClockTime = gst::ClockTime::from_mseconds(1);

pub struct Feed {
    pub track: Track,
    element: glib::WeakRef<gst::Element>,
    /// For keyframe requests.
    session: Weak<Session>,
    events: mpsc::Sender<Event>,
    state: Mutex<State>,
    pub counters: Counters,
}

/// What the `stats` property shows of a track.
#[derive(Debug, Default)]
pub struct Counters {
    pub received: AtomicU64,
    pub bytes: AtomicU64,
    pub dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    outlet: Outlet,
    timing: Timing,
    /// The running time of the picture before.
    last: Option<gst::ClockTime>,
    cadence: Cadence,
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
    Pending(VecDeque<Unit>),
    AppSrc(gst_app::AppSrc),
    /// Nothing goes out any more.
    Ended,
}

impl Feed {
    pub fn new(
        track: Track,
        element: &gst::Element,
        session: Weak<Session>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            track,
            element: element.downgrade(),
            session,
            events,
            state: Mutex::default(),
            counters: Counters::default(),
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

    pub fn request_keyframe(&self) {
        if self.track.kind == Kind::Video
            && let Some(session) = self.session.upgrade()
        {
            session.request_keyframe(&self.track.name);
        }
    }

    /// Drops what cannot be decoded any more after a gap.
    fn pass(&self, state: &mut State, unit: &Unit) -> bool {
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

    /// The time at which something that arrived at `running` stands.
    fn place(
        &self,
        state: &mut State,
        running: gst::ClockTime,
        caps: &gst::Caps,
        buffer: &gst::Buffer,
    ) -> gst::ClockTime {
        let media_type = caps.structure(0).map(|s| s.name().as_str());
        match (self.track.kind, media_type) {
            (_, Some("application/x-rtp")) => running,
            (Kind::Audio, Some("audio/x-opus")) => {
                let packet = buffer.map_readable();
                match packet.ok().and_then(|packet| opus_duration(&packet)) {
                    Some(duration) => state.cadence.place(running, duration),
                    None => running,
                }
            }
            (Kind::Audio, _) => running,
            (Kind::Video, _) => {
                // After a stall the jitter buffer gives two pictures the same
                // time; muxers want them apart.
                let earliest = state.last.map_or(running, |last| last + PICTURE_DISTANCE);
                let running = running.max(earliest);
                state.last = Some(running);
                running
            }
        }
    }

    fn push(&self, state: &mut State, unit: Unit) {
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
        let running = unit
            .time
            .and_then(|t| state.timing.running_time(&element, t));
        let Some(running) = running else {
            return self.drop_unit(state);
        };
        let Unit {
            mut buffer, caps, ..
        } = unit;
        let running = self.place(state, running, &caps, &buffer);
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(running);
            buffer.set_dts(gst::ClockTime::NONE);
        }
        let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
        if let Err(error) = appsrc.push_sample(&sample) {
            gst::debug!(CAT, obj = element, "{}: {error}", self.track.name);
        }
    }
}

impl Consumer for Feed {
    fn consume(&self, unit: Unit) {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        let size = unit.buffer.size() as u64;
        self.counters.bytes.fetch_add(size, Ordering::Relaxed);
        let mut state = self.lock();
        match &mut state.outlet {
            Outlet::None => {
                let caps = unit.caps.clone();
                state.outlet = Outlet::Pending(VecDeque::from([unit]));
                let _ = self.events.send(Event::Arrived {
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
