// SPDX-License-Identifier: MIT

//! [`ElementState`]: an element's settings, its published read-only
//! properties, and its run state. Any thread may call it; its locks are held
//! for an assignment only. Knows no session.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gst::prelude::*;

use super::{bus, debug::CAT, errors, status::Status};
use crate::{
    platform::{Error, coordinator::SessionDescriptor, track::Direction},
    session::{Guard, TrackState, assert_unlocked, lock, settings::Settings},
};

/// gst-launch-1.0 misses an error that is posted before its main loop runs,
/// and then waits forever (seen with 1.22). It goes to PLAYING from that loop,
/// so errors wait for PLAYING, at most for this time. So does the begin of progress:
/// what gst-launch-1.0 hears of in PAUSED it waits for to be complete, with all of the pipeline,
/// which would last as long as the wait for a GPU.
const PLAYING_WAIT_LIMIT: Duration = Duration::from_millis(500);

/// The state of an element, apart from its session.
#[derive(Default)]
pub struct ElementState {
    settings: Mutex<Settings>,
    published: Mutex<PublishedProperties>,
    /// Counts starts and stops: events of an earlier generation are void.
    generation: AtomicU64,
    playing: Mutex<bool>,
    playing_changed: Condvar,
    /// In PAUSED without having started.
    start_skipped: AtomicBool,
}

/// The values of the read-only properties.
#[derive(Default)]
pub struct PublishedProperties {
    pub status: Status,
    pub session_id: Option<String>,
    pub capabilities: Option<gst::Structure>,
    pub session_info: Option<gst::Structure>,
    /// In seconds since 1970.
    pub session_expiration: Option<f64>,
    pub tracks: Option<gst::Structure>,
    pub last_error: Option<gst::Structure>,
    /// Events of generations before this one change nothing.
    forgotten: u64,
}

/// The property that has a signal as well.
const EXPIRATION: &str = "session-expiration";

/// What the application is told of a change.
#[derive(Default)]
#[must_use]
pub struct Announcement {
    /// The names of properties.
    changed: Vec<&'static str>,
    message: Option<gst::Structure>,
}

impl Announcement {
    fn of(changed: Vec<&'static str>) -> Self {
        Self {
            changed,
            message: None,
        }
    }

    /// Runs the application's code.
    pub fn announce(self, element: &gst::Element) {
        assert_unlocked();
        for name in self.changed {
            element.notify(name);
            if name == EXPIRATION {
                let expiration: f64 = element.property(EXPIRATION);
                element.emit_by_name::<()>("session-expiration-changed", &[&expiration]);
            }
        }
        if let Some(structure) = self.message {
            bus::post(element, structure);
        }
    }
}

impl ElementState {
    /// The values of the shared properties.
    pub fn settings(&self) -> Guard<'_, Settings> {
        lock(&self.settings)
    }

    /// The values of the read-only properties.
    pub fn published(&self) -> Guard<'_, PublishedProperties> {
        lock(&self.published)
    }

    /// The platform's id of the session, once it is known.
    pub fn session_id(&self) -> Option<String> {
        self.published().session_id.clone()
    }

    /// Sets whether the element is in PAUSED without having started. Returns
    /// whether it was.
    pub fn set_start_skipped(&self, skipped: bool) -> bool {
        self.start_skipped.swap(skipped, Ordering::AcqRel)
    }

    /// Whether the element is in PLAYING.
    pub fn is_playing(&self) -> bool {
        *lock(&self.playing)
    }

    /// Sets whether the element is in PLAYING, and wakes who waits for it.
    pub fn set_playing(&self, playing: bool) {
        *lock(&self.playing) = playing;
        self.playing_changed.notify_all();
    }

    /// Waits for PLAYING, at most [`PLAYING_WAIT_LIMIT`]: what is posted then
    /// reaches the application, and does not hold it back. Returns whether the
    /// element was not stopped meanwhile.
    pub fn wait_for_playing(&self) -> bool {
        let generation = self.generation();
        let playing = lock(&self.playing);
        drop(
            playing.wait_while(&self.playing_changed, PLAYING_WAIT_LIMIT, |playing| {
                !*playing && self.is_current(generation)
            }),
        );
        self.is_current(generation)
    }

    /// The number of the current generation.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether no start or stop has followed this generation.
    pub fn is_current(&self, generation: u64) -> bool {
        self.generation() == generation
    }

    /// Begins a generation at a start, and returns its number.
    pub fn begin_generation(&self) -> u64 {
        self.published().last_error = None;
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Ends the current generation at a stop, and wakes who waits for PLAYING.
    pub fn end_generation(&self) {
        let _playing = lock(&self.playing);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.playing_changed.notify_all();
    }

    /// Posts an error: the element cannot go on.
    pub fn fail(&self, element: &gst::Element, error: &Error) {
        gst::error!(CAT, obj = element, "{error}");
        let details = self.publish_error(element, error);
        bus::post(element, details.clone());
        errors::post_error_with(element, error, details);
    }

    /// Sets `last-error`, with a notification; returns it.
    pub fn publish_error(&self, element: &gst::Element, error: &Error) -> gst::Structure {
        let details = errors::details(error, self.session_id().as_deref());
        self.published().last_error = Some(details.clone());
        assert_unlocked();
        element.notify("last-error");
        details
    }

    /// Sets `status`, with a notification and a bus message if it changes.
    pub fn publish_status(&self, element: &gst::Element, generation: u64, status: Status) {
        self.change(generation, |published| published.set_status(status))
            .announce(element);
    }

    /// Sets `session-id`, with a notification if it changes.
    pub fn publish_session_id(&self, element: &gst::Element, generation: u64, id: Option<String>) {
        self.change(generation, |published| published.set_session_id(id))
            .announce(element);
    }

    /// Sets `session-expiration`, with a notification and a signal if it changes.
    pub fn publish_session_expiration(
        &self,
        element: &gst::Element,
        generation: u64,
        expiration: Option<f64>,
    ) {
        self.change(generation, |published| published.set_expiration(expiration))
            .announce(element);
    }

    /// Sets `tracks`, with a notification.
    pub fn publish_tracks(&self, element: &gst::Element, generation: u64, tracks: &[TrackState]) {
        let tracks = (!tracks.is_empty()).then(|| track_structure(tracks));
        self.change(generation, |published| published.set_tracks(tracks))
            .announce(element);
    }

    /// Sets `capabilities` and `session-info`, with notifications.
    pub fn publish_description(
        &self,
        element: &gst::Element,
        generation: u64,
        descriptor: &SessionDescriptor,
    ) {
        let capabilities = descriptor.capabilities.as_ref();
        let capabilities = capabilities.map(|c| bus::json_structure("capabilities", &c.raw));
        let session_info = bus::json_structure("session-info", &descriptor.raw);
        self.change(generation, |published| {
            published.capabilities = capabilities;
            published.session_info = Some(session_info);
            Announcement::of(vec!["capabilities", "session-info"])
        })
        .announce(element);
    }

    /// Sets the properties of an element that has left its session, and voids what is
    /// still to come of it. The application is not told yet.
    pub fn forget_session(&self) -> Vec<Announcement> {
        let mut published = self.published();
        published.forgotten = self.generation();
        vec![
            published.set_status(Status::Disconnected),
            published.set_session_id(None),
            published.set_expiration(None),
            published.set_tracks(None),
        ]
    }

    /// Changes properties for an event of this generation, if its session is not
    /// forgotten: the event thread may be late.
    fn change(
        &self,
        generation: u64,
        change: impl FnOnce(&mut PublishedProperties) -> Announcement,
    ) -> Announcement {
        let mut published = self.published();
        match generation < published.forgotten {
            true => Announcement::default(),
            false => change(&mut published),
        }
    }
}

/// That a structure is gone is not notified: the status says so, and `gst-launch-1.0 -v`
/// (1.22) prints a critical for each property that is a structure and NULL.
impl PublishedProperties {
    fn set_status(&mut self, status: Status) -> Announcement {
        if std::mem::replace(&mut self.status, status) == status {
            return Announcement::default();
        }
        if matches!(status, Status::Disconnected | Status::Connecting) {
            // There is no connection. The server describes the session again before the next
            // one is ready.
            self.capabilities = None;
            self.session_info = None;
        }
        let structure = gst::Structure::builder("reactor-status")
            .field("status", status)
            .field("session-id", self.session_id.clone())
            .build();
        Announcement {
            changed: vec!["status"],
            message: Some(structure),
        }
    }

    fn set_session_id(&mut self, id: Option<String>) -> Announcement {
        replace(&mut self.session_id, id, "session-id")
    }

    fn set_expiration(&mut self, expiration: Option<f64>) -> Announcement {
        replace(&mut self.session_expiration, expiration, EXPIRATION)
    }

    fn set_tracks(&mut self, tracks: Option<gst::Structure>) -> Announcement {
        self.tracks = tracks;
        Announcement::of(self.tracks.iter().map(|_| "tracks").collect())
    }
}

/// Sets the value of the property `name`, which is notified if it changes.
fn replace<T: PartialEq>(value: &mut T, new: T, name: &'static str) -> Announcement {
    let has_changed = *value != new;
    *value = new;
    Announcement::of(has_changed.then_some(name).into_iter().collect())
}

/// The state of the tracks: a structure for each, by its name.
fn track_structure(tracks: &[TrackState]) -> gst::Structure {
    let mut all = gst::Structure::builder("tracks");
    for state in tracks {
        let track = &state.track;
        let mut structure = gst::Structure::builder("track")
            .field("name", &track.name)
            .field("kind", track.kind.as_str())
            .field("direction", track.direction.as_str())
            .field_if_some("mid", state.mid.as_deref())
            .field_if_some("codec", state.codec);
        structure = match track.direction {
            Direction::RecvOnly => structure.field("paused", state.paused),
            Direction::SendOnly => structure.field("published", state.published),
        };
        all = all.field(track.name.as_str(), structure.build());
    }
    all.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_of_element_that_is_stopped_is_not_posted() {
        let state = ElementState::default();
        state.begin_generation();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| state.wait_for_playing());
            // It may begin to wait at any moment.
            while !waiting.is_finished() {
                state.end_generation();
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!waiting.join().unwrap());
        });
        state.begin_generation();
        state.set_playing(true);
        assert!(state.wait_for_playing());
    }

    /// The event thread handles an event when the element is in NULL already.
    #[test]
    fn event_of_forgotten_session_changes_nothing() {
        let state = ElementState::default();
        let set = |generation, status| {
            drop(state.change(generation, |published| published.set_status(status)));
            state.published().status
        };
        let first = state.begin_generation();
        assert_eq!(set(first, Status::Waiting), Status::Waiting);
        state.end_generation();
        // Closing is still published in READY.
        assert_eq!(set(first, Status::Ready), Status::Ready);
        drop(state.forget_session());
        assert_eq!(set(first, Status::Waiting), Status::Disconnected);
        let second = state.begin_generation();
        assert_eq!(set(second, Status::Waiting), Status::Waiting);
    }
}
