// SPDX-License-Identifier: MIT

use std::{
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{
    Status,
    events::{self, Event},
    feed::Feed,
    pads::TrackPad,
};
use crate::{
    platform::{
        Code, Error,
        track::{Kind, Track},
    },
    session::{
        self, Session,
        codecs::CODECS,
        properties,
        settings::{MIN_LATENCY, Settings},
    },
};

pub static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "reactorsrc",
        gst::DebugColorFlags::empty(),
        Some("Reactor source"),
    )
});

#[derive(Default)]
#[allow(
    missing_debug_implementations,
    reason = "a GObject is described by its properties"
)]
pub struct ReactorSrc {
    settings: Mutex<Settings>,
    public: Mutex<Public>,
    running: Mutex<Option<Running>>,
    /// The session that was stopped last, until it is closed.
    closing: Mutex<Option<Arc<Session>>>,
    /// Counts starts and stops: what belongs to an earlier one is void.
    generation: AtomicU64,
    playing: Playing,
}

/// Whether the element is in PLAYING, for those who wait for it.
#[derive(Default)]
struct Playing {
    now: Mutex<bool>,
    changed: Condvar,
}

impl Playing {
    fn get(&self) -> bool {
        *lock(&self.now)
    }

    fn set(&self, playing: bool) {
        *lock(&self.now) = playing;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration) {
        let waited = self
            .changed
            .wait_timeout_while(lock(&self.now), limit, |now| !*now);
        drop(waited);
    }
}

/// gst-launch-1.0 misses an error that comes before its main loop runs, and
/// then waits forever (seen with 1.22, true of 1.28 too). It goes to PLAYING
/// from that loop, so errors wait for PLAYING, but not for long.
const ERROR_HOLD: Duration = Duration::from_millis(500);

/// What the read-only properties show.
#[derive(Default)]
pub struct Public {
    pub status: Status,
    pub session_id: Option<String>,
    pub capabilities: Option<gst::Structure>,
    pub session_info: Option<gst::Structure>,
    pub last_error: Option<gst::Structure>,
}

/// From READY to PAUSED and back.
struct Running {
    session: Arc<Session>,
    events: mpsc::Sender<Event>,
    tracks: Vec<Arc<TrackPad>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReactorSrc {
    pub(super) fn public(&self) -> MutexGuard<'_, Public> {
        lock(&self.public)
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        lock(&self.running).as_ref().map(|r| r.session.clone())
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) == generation
    }

    fn tracks(&self) -> Vec<Arc<TrackPad>> {
        lock(&self.running)
            .as_ref()
            .map(|r| r.tracks.clone())
            .unwrap_or_default()
    }

    /// A track flows when somebody takes it, now.
    pub(super) fn flowing(&self, pad: &impl IsA<gst::Pad>) -> bool {
        self.playing.get() && pad.is_linked()
    }

    fn latency(&self) -> gst::ClockTime {
        let latency = lock(&self.settings).latency.max(MIN_LATENCY);
        gst::ClockTime::from_mseconds(latency.into())
    }

    /// Waits until an error can be posted that nobody misses.
    pub(super) fn wait_for_listeners(&self) {
        self.playing.wait(ERROR_HOLD);
    }

    fn start(&self) -> Result<(), Error> {
        let settings = lock(&self.settings).clone();
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        let events = events::spawn(&self.obj(), generation)?;
        self.public().last_error = None;
        let sender = events.clone();
        let mut running = lock(&self.running);
        let before = lock(&self.closing).clone();
        let session = Session::start(
            &settings,
            before,
            Box::new(move |event| {
                let _ = sender.send(Event::Session(event));
            }),
        )?;
        *running = Some(Running {
            session: Arc::new(session),
            events,
            tracks: Vec::new(),
        });
        Ok(())
    }

    fn stop(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        let Some(running) = lock(&self.running).take() else {
            return;
        };
        running.session.stop();
        let element = self.obj();
        for track in &running.tracks {
            track.close(element.upcast_ref());
            // Not there yet if this came in between.
            let _ = element.remove_pad(&track.pad);
        }
        *lock(&self.closing) = Some(running.session);
    }

    /// The one bounded wait in a state change: an application that exits now
    /// must not leave a session behind.
    fn wait_closed(&self) {
        let limit = lock(&self.settings).close_limit();
        if let Some(session) = lock(&self.closing).take()
            && !session.wait_closed(limit)
        {
            gst::warning!(
                CAT,
                imp = self,
                "the session was not closed within {limit:?}"
            );
        }
        session::warm_up::settle(limit);
    }

    /// Makes pads for the tracks; the caller adds them to the element.
    pub(super) fn add_tracks(&self, tracks: Vec<Track>) -> Result<Vec<Arc<TrackPad>>, Error> {
        let element = self.obj();
        let session_id = self.public().session_id.clone();
        let group = gst::GroupId::next();
        let mut running = lock(&self.running);
        let Some(running) = running.as_mut() else {
            return Err(Error::api(Code::Aborted, "stopped"));
        };
        for track in tracks {
            let feed = Arc::new(Feed::new(
                track,
                element.upcast_ref(),
                Arc::downgrade(&running.session),
                running.events.clone(),
            ));
            let pad = self.make_pad(feed, session_id.as_deref(), group)?;
            running.tracks.push(Arc::new(pad));
        }
        Ok(running.tracks.clone())
    }

    fn make_pad(
        &self,
        feed: Arc<Feed>,
        session_id: Option<&str>,
        group: gst::GroupId,
    ) -> Result<TrackPad, Error> {
        let element = self.obj();
        let template = element
            .pad_template(match feed.track.kind {
                Kind::Video => "video_%s",
                Kind::Audio => "audio_%s",
            })
            .ok_or_else(|| Error::api(Code::Internal, "no pad template"))?;
        let weak = element.downgrade();
        let latency = move || {
            weak.upgrade()
                .map_or(gst::ClockTime::ZERO, |element| element.imp().latency())
        };
        let weak = element.downgrade();
        let name = feed.track.name.clone();
        let linked = move |_: &gst::Pad, linked: bool| {
            if let Some(element) = weak.upgrade() {
                let this = element.imp();
                if let Some(session) = this.session() {
                    session.want(&name, linked && this.playing.get());
                }
            }
        };
        let pad = TrackPad::new(feed, &template, session_id, group, latency, linked);
        let _ = pad.pad.set_active(true);
        Ok(pad)
    }

    /// The first unit of a track has come.
    pub(super) fn arrived(&self, name: &str, caps: &gst::Caps) -> Result<(), Error> {
        let element = self.obj();
        let tracks = self.tracks();
        let Some(track) = tracks.iter().find(|t| t.feed.track.name == name) else {
            return Ok(());
        };
        let generation = self.generation.load(Ordering::Acquire);
        let result = track.open(element.upcast_ref(), caps, self.latency());
        if !self.is_current(generation) || lock(&self.running).is_none() {
            // Stopped meanwhile.
            track.close(element.upcast_ref());
            return Ok(());
        }
        gst::debug!(CAT, obj = track.pad, "{:?} of {caps}", track.output());
        let latency = gst::message::Latency::builder().src(&*element).build();
        let _ = element.post_message(latency);
        result
    }

    /// Lets all tracks flow that somebody takes, or none.
    fn set_playing(&self, playing: bool) {
        self.playing.set(playing);
        if let Some(session) = self.session() {
            for track in self.tracks() {
                session.want(&track.feed.track.name, self.flowing(&track.pad));
            }
        }
    }

    /// Ends all streams in order. Returns whether there are any.
    pub(super) fn end_streams(&self) -> bool {
        let tracks = self.tracks();
        for track in &tracks {
            track.end();
        }
        !tracks.is_empty()
    }

    fn set_latency(&self) {
        let latency = self.latency();
        if let Some(session) = self.session() {
            session.set_latency(latency.mseconds() as u32);
            for track in self.tracks() {
                track.set_latency(latency);
            }
            let element = self.obj();
            let message = gst::message::Latency::builder().src(&*element).build();
            let _ = element.post_message(message);
        }
    }

    fn stats(&self) -> gst::Structure {
        let mut stats = gst::Structure::builder("reactor-stats");
        if let Some(session) = self.session() {
            let timings = session.timings();
            for (name, at) in [
                ("session-ms", timings.described),
                ("offer-ms", timings.offered),
                ("answer-ms", timings.answered),
                ("connected-ms", timings.connected),
                ("ready-ms", timings.ready),
            ] {
                stats = stats.field_if_some(name, at.map(|at| at.as_secs_f64() * 1000.0));
            }
        }
        for track in self.tracks() {
            let counters = &track.feed.counters;
            let of_track = gst::Structure::builder("track")
                .field("kind", track.feed.track.kind.as_str())
                .field("received", counters.received.load(Ordering::Relaxed))
                .field("bytes", counters.bytes.load(Ordering::Relaxed))
                .field("dropped", counters.dropped.load(Ordering::Relaxed))
                .build();
            stats = stats.field(track.pad.name().as_str(), of_track);
        }
        stats.build()
    }
}

#[glib::object_subclass]
impl ObjectSubclass for ReactorSrc {
    const NAME: &'static str = "GstReactorSrc";
    type Type = super::ReactorSrc;
    type ParentType = gst::Bin;
}

impl ObjectImpl for ReactorSrc {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        element.set_element_flags(gst::ElementFlags::SOURCE);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut specs = properties::specs();
            specs.extend(read_only());
            specs
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let name = pspec.name();
        if let Err(problem) = properties::set(&mut lock(&self.settings), name, value) {
            gst::error!(CAT, imp = self, "{name} keeps its value: {problem}");
        }
        if name == "latency" {
            self.set_latency();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "status" => self.public().status.to_value(),
            "session-id" => self.public().session_id.to_value(),
            "capabilities" => self.public().capabilities.to_value(),
            "session-info" => self.public().session_info.to_value(),
            "last-error" => self.public().last_error.to_value(),
            "stats" => self.stats().to_value(),
            name => properties::value(&lock(&self.settings), name)
                .unwrap_or_else(|| pspec.default_value().clone()),
        }
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(|| {
            let message = |name| {
                glib::subclass::Signal::builder(name)
                    .param_types([String::static_type(), String::static_type()])
                    .build()
            };
            vec![
                // message(type, json): the model said something.
                message("message"),
                // runtime-message(type, json): the platform said something.
                message("runtime-message"),
                // session-ended(reason): the model's side ended the session.
                glib::subclass::Signal::builder("session-ended")
                    .param_types([Option::<String>::static_type()])
                    .build(),
                // send-command(name, json, promise): the reply has `type` and
                // `data` (JSON), or nothing if the command replies nothing, or
                // `error` with code, message, recoverable.
                glib::subclass::Signal::builder("send-command")
                    .param_types([
                        String::static_type(),
                        Option::<String>::static_type(),
                        Option::<gst::Promise>::static_type(),
                    ])
                    .action()
                    .class_handler(|args| {
                        let element = args[0].get::<super::ReactorSrc>().ok()?;
                        let name = args[1].get::<Option<String>>().ok()??;
                        let json = args[2].get::<Option<String>>().ok()?;
                        let promise = args[3].get::<Option<gst::Promise>>().ok()?;
                        element.imp().send_command(&name, json.as_deref(), promise);
                        None
                    })
                    .build(),
            ]
        });
        &SIGNALS
    }
}

fn read_only() -> Vec<glib::ParamSpec> {
    let structure = |name: &str, nick: &str, blurb: &str| {
        glib::ParamSpecBoxed::builder::<gst::Structure>(name)
            .nick(nick)
            .blurb(blurb)
            .read_only()
            .build()
    };
    vec![
        glib::ParamSpecEnum::builder::<Status>("status")
            .nick("Status")
            .blurb("Where the session stands")
            .read_only()
            .build(),
        glib::ParamSpecString::builder("session-id")
            .nick("Session id")
            .blurb("The platform's id of the session")
            .read_only()
            .build(),
        structure(
            "capabilities",
            "Capabilities",
            "What the model offers: its tracks, as JSON in the field 'json'",
        ),
        structure(
            "session-info",
            "Session info",
            "The platform's description of the session, as JSON in the field 'json'",
        ),
        structure(
            "last-error",
            "Last error",
            "code, component, message, recoverable and what else is known of the last error",
        ),
        structure(
            "stats",
            "Statistics",
            "How long connecting took (ms) and what was received, per pad",
        ),
    ]
}

impl GstObjectImpl for ReactorSrc {}

impl ElementImpl for ReactorSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Reactor source",
                "Source/Network/WebRTC",
                "Receives what a Reactor real-time generative model streams",
                "the gst-plugin-reactor authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            [("video_%s", Kind::Video), ("audio_%s", Kind::Audio)]
                .into_iter()
                .filter_map(|(name, kind)| {
                    gst::PadTemplate::new(
                        name,
                        gst::PadDirection::Src,
                        gst::PadPresence::Sometimes,
                        &template_caps(kind),
                    )
                    .ok()
                })
                .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => session::warm_up::begin(),
            gst::StateChange::ReadyToPaused => {
                if let Err(error) = self.start() {
                    self.fail(&error);
                    return Err(gst::StateChangeError);
                }
            }
            gst::StateChange::PlayingToPaused => self.set_playing(false),
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::ReadyToPaused if result.is_err() => self.stop(),
            gst::StateChange::PausedToPlaying if result.is_ok() => self.set_playing(true),
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToNull => self.wait_closed(),
            _ => {}
        }
        let success = result?;
        Ok(match transition {
            gst::StateChange::ReadyToPaused | gst::StateChange::PlayingToPaused => {
                gst::StateChangeSuccess::NoPreroll
            }
            _ => success,
        })
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() != gst::EventType::Eos || lock(&self.running).is_none() {
            return self.parent_send_event(event);
        }
        gst::debug!(CAT, imp = self, "ending all streams");
        if !self.end_streams() {
            // Nothing is linked that could pass an EOS on: without this the
            // application would wait for one forever.
            self.fail(&Error::api(
                Code::Aborted,
                "ended before the session had any stream; nothing was received",
            ));
        }
        true
    }
}

impl BinImpl for ReactorSrc {}

/// Raw, each codec, or its packets.
fn template_caps(kind: Kind) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    {
        let caps = caps.make_mut();
        match kind {
            Kind::Video => {
                caps.append_structure(gst::Structure::new_empty("video/x-raw"));
                caps.append_structure_full(
                    gst::Structure::new_empty("video/x-raw"),
                    Some(gst::CapsFeatures::new_any()),
                );
            }
            Kind::Audio => caps.append_structure(gst::Structure::new_empty("audio/x-raw")),
        }
        for codec in CODECS.iter().filter(|codec| codec.kind == kind) {
            caps.append_structure(gst::Structure::new_empty(codec.media_type));
        }
        caps.append_structure(
            gst::Structure::builder("application/x-rtp")
                .field("media", kind.as_str())
                .build(),
        );
    }
    caps
}
