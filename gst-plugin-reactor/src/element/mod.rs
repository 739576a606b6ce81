// SPDX-License-Identifier: MIT

//! What every live element has: its settings, its part in a session, and how
//! it shows what the session says.

pub mod actions;
mod bus;
pub mod clip_structure;
pub mod clock_bridge;
pub mod errors;
pub mod event_thread;
pub mod gobject;
mod inherited_settings;
pub mod lifecycle;
mod navigation;
pub mod properties;
pub mod templates;

pub use actions::ReplyTo;
pub use bus::{Outcome, post, post_missing};

pub use crate::session::lock;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use gst::{glib, prelude::*};

use crate::{
    platform::{Code, Error, commands::Command},
    session::{
        self, EventSender, Participant, ParticipantRole, Session,
        settings::{MIN_LATENCY, Settings},
    },
};

pub static CAT: std::sync::LazyLock<gst::DebugCategory> = std::sync::LazyLock::new(|| {
    gst::DebugCategory::new(
        "reactor",
        gst::DebugColorFlags::empty(),
        Some("Reactor elements"),
    )
});

/// The context by which elements of a pipeline that name no session find each
/// other. Its structure has a string, `name`.
pub const CONTEXT: &str = "gst.reactor.session";

/// gst-launch-1.0 misses an error that comes before its main loop runs, and
/// then waits forever (seen with 1.22). It goes to PLAYING
/// from that loop, so errors wait for PLAYING, but not for long.
const ERROR_HOLD: Duration = Duration::from_millis(500);

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorStatus")]
pub enum Status {
    #[default]
    #[enum_value(name = "Disconnected", nick = "disconnected")]
    Disconnected,
    #[enum_value(name = "Connecting: asking for a session", nick = "connecting")]
    Connecting,
    #[enum_value(
        name = "Waiting: for a GPU, or for the connection to it",
        nick = "waiting"
    )]
    Waiting,
    #[enum_value(name = "Ready: connected to the model", nick = "ready")]
    Ready,
}

impl From<session::Status> for Status {
    fn from(status: session::Status) -> Self {
        match status {
            session::Status::Disconnected => Self::Disconnected,
            session::Status::Connecting => Self::Connecting,
            session::Status::Waiting => Self::Waiting,
            session::Status::Ready => Self::Ready,
        }
    }
}

/// What is commanded as soon as a session is ready.
fn startup(settings: &Settings) -> Result<Vec<Command>, Error> {
    let commands = settings.commands.as_deref().unwrap_or_default();
    Command::parse_list(commands).map_err(Error::into_invalid_settings)
}

#[derive(Default)]
pub struct Live {
    settings: Mutex<Settings>,
    public: Mutex<Public>,
    session: Mutex<Option<Arc<Session>>>,
    /// The session that was left last, until it is closed.
    closing: Mutex<Option<Arc<Session>>>,
    /// Counts starts and stops: what belongs to an earlier one is void.
    generation: AtomicU64,
    playing: Playing,
    /// What the jitter buffer has grown to, in milliseconds.
    grown: AtomicU32,
    context: Mutex<Option<gst::Context>>,
    navigation: navigation::NavigationCommands,
}

/// What the read-only properties show.
#[derive(Default)]
pub struct Public {
    pub status: Status,
    pub session_id: Option<String>,
    pub capabilities: Option<gst::Structure>,
    pub session_info: Option<gst::Structure>,
    pub last_error: Option<gst::Structure>,
}

/// Whether the element is in PLAYING, for those who wait for it.
#[derive(Default)]
struct Playing {
    now: Mutex<bool>,
    changed: Condvar,
}

impl Live {
    pub fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub fn public(&self) -> MutexGuard<'_, Public> {
        lock(&self.public)
    }

    pub fn session(&self) -> Option<Arc<Session>> {
        lock(&self.session).clone()
    }

    pub fn session_id(&self) -> Option<String> {
        self.public().session_id.clone()
    }

    /// The jitter buffer.
    pub fn latency(&self) -> gst::ClockTime {
        let latency = self.settings().latency.max(MIN_LATENCY);
        let grown = self.grown.load(Ordering::Acquire);
        gst::ClockTime::from_mseconds(latency.max(grown).into())
    }

    /// The jitter buffer is that long now; 0 for as long as the user says.
    pub fn set_grown(&self, milliseconds: u32) {
        self.grown.store(milliseconds, Ordering::Release);
    }

    pub fn is_playing(&self) -> bool {
        *lock(&self.playing.now)
    }

    pub fn set_playing(&self, playing: bool) {
        *lock(&self.playing.now) = playing;
        self.playing.changed.notify_all();
    }

    /// Waits until an error can be posted that nobody misses.
    pub fn wait_for_listeners(&self) {
        let playing = lock(&self.playing.now);
        let changed = &self.playing.changed;
        drop(changed.wait_timeout_while(playing, ERROR_HOLD, |playing| !*playing));
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn is_current(&self, generation: u64) -> bool {
        self.generation() == generation
    }

    /// A new start: what belonged to an earlier one is void.
    pub fn begin(&self) -> u64 {
        self.public().last_error = None;
        self.set_grown(0);
        self.generation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Joins the session that the settings or the pipeline name.
    pub fn join(
        &self,
        element: &gst::Element,
        role: ParticipantRole,
        events: EventSender,
    ) -> Result<Arc<Session>, Error> {
        let mut settings = self.settings().clone();
        if settings.is_bare() {
            inherited_settings::adopt(element, &mut settings);
        }
        settings.fill_from_environment();
        let commands = startup(&settings)?;
        self.begin_navigation(settings.navigation.as_deref())?;
        let key = self.key(element, settings.session.as_deref());
        let participant = Participant {
            element: element.path_string().to_string(),
            role,
        };
        // Held meanwhile: the first event may ask for the session.
        let mut slot = lock(&self.session);
        let session = Arc::new(Session::join(Some(&key), &settings, participant, events)?);
        *slot = Some(session.clone());
        drop(slot);
        self.order_all(element, commands);
        Ok(session)
    }

    /// Another session begins like the first.
    pub(crate) fn order_startup(&self, element: &gst::Element) {
        let commands = startup(&self.settings()).unwrap_or_default();
        self.order_all(element, commands);
    }

    /// Sends commands on behalf of nobody in particular.
    fn order_all(&self, element: &gst::Element, commands: Vec<Command>) {
        for command in commands {
            self.order_command(command, ReplyTo::Bus(element.clone()));
        }
    }

    /// Leaves the session; [`Live::wait_closed`] waits for its end.
    pub fn leave(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        if let Some(session) = lock(&self.session).take() {
            session.leave();
            *lock(&self.closing) = Some(session);
        }
    }

    /// The one bounded wait in a state change: an application that exits now
    /// must not leave a session behind.
    pub fn wait_closed(&self, element: &gst::Element) {
        let session = lock(&self.closing).take();
        self.close(element, session);
    }

    /// The same for a session that the caller has left.
    pub fn close(&self, element: &gst::Element, session: Option<Arc<Session>>) {
        let limit = self.settings().close_limit();
        if let Some(session) = session
            && !session.wait_closed(limit)
        {
            gst::warning!(
                CAT,
                obj = element,
                "the session was not closed within {limit:?}"
            );
        }
        self.show_over(element);
        session::warm_up::settle(limit);
        lock(&self.context).take_if(|context| !context.is_persistent());
    }

    pub fn set_context(&self, context: &gst::Context) {
        if context.context_type() == CONTEXT {
            *lock(&self.context) = Some(context.clone());
        }
    }

    /// Under which the session is found: the user's name for it, or one that
    /// all elements of the pipeline share.
    pub fn key(&self, element: &gst::Element, name: Option<&str>) -> String {
        if let Some(name) = name {
            return format!("name {name}");
        }
        if lock(&self.context).is_none() {
            let need = gst::message::NeedContext::builder(CONTEXT).src(element);
            let _ = element.post_message(need.build());
        }
        // Not in one with the above: the answer comes through set_context.
        let known = lock(&self.context).clone();
        let context = known.unwrap_or_else(|| self.make_context(element));
        let name = context
            .structure()
            .get::<String>("name")
            .unwrap_or_default();
        format!("context {name}")
    }

    /// The name of the one session that there is, or will be, in the pipeline;
    /// none where it is shared without a name.
    ///
    /// # Errors
    ///
    /// When nobody in the pipeline has a session, or there are several.
    pub fn session_of_pipeline(&self, element: &gst::Element) -> Result<Option<String>, Error> {
        let mut names = inherited_settings::sessions(element);
        let text = match names.len() {
            _ if names.contains(&None) => return Ok(None),
            0 if lock(&self.context).is_some() => return Ok(None),
            1 => return Ok(names.pop_first().flatten()),
            0 => {
                "there is no session to take part in: put a reactorsrc or reactorsink into the \
                 pipeline, or set session, playlist-url or clip"
            }
            _ => {
                "there are several sessions in this pipeline: set the same 'session' here and \
                 on the elements of one of them"
            }
        };
        Err(Error::api(Code::InvalidSettings, text))
    }

    fn make_context(&self, element: &gst::Element) -> gst::Context {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut context = gst::Context::new(CONTEXT, false);
        {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let context = context.make_mut();
            context
                .structure_mut()
                .set("name", format!("pipeline {number}"));
        }
        *lock(&self.context) = Some(context.clone());
        let have = gst::message::HaveContext::builder(context.clone()).src(element);
        let _ = element.post_message(have.build());
        context
    }
}
