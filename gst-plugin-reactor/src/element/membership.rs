// SPDX-License-Identifier: MIT

//! [`SessionMembership`]: the place of a live element in a session, from
//! READY -> PAUSED to READY -> NULL: joining, commands, latency, leaving.
//! Called by GStreamer's threads and by the element's event thread. Blocks in
//! [`SessionMembership::wait_closed`] only.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use gst::prelude::*;
use tokio::time::Instant;

use super::{
    command_children::CommandChildren,
    context::SessionContext,
    debug::CAT,
    event_thread::ReplyExecutor,
    gobject::warn_without_effect,
    inherited_settings,
    navigation::NavigationCommands,
    reply::{ReplyHandler, ReplyTo, parse_arguments, post_refused},
    state::ElementState,
    upload_progress,
};
use crate::{
    platform::{Code, Error, command_content::CommandContent, commands::ModelCommand},
    session::{
        self, EventSender, Participant, ParticipantRole, ReplyCallback, Session,
        command_queue::{CommandRequest, QueuedCommand, ready_deadline},
        lock,
        settings::{MIN_LATENCY, Settings},
    },
};

/// A custom upstream event with a structure of this name, the string `name`
/// and the string `data` (JSON), sends a command.
const COMMAND_EVENT: &str = "reactor-command";

/// A live element's place in a session.
#[derive(Default)]
pub struct SessionMembership {
    pub state: ElementState,
    pub context: SessionContext,
    joined: Mutex<Option<Joined>>,
    /// The session that was left last, until it is closed.
    closing: Mutex<Option<Joined>>,
    /// To what the jitter buffer has grown, in milliseconds; 0 = not grown.
    grown_latency: AtomicU32,
    navigation: NavigationCommands,
    /// The model's commands as children of the element.
    pub commands: CommandChildren,
}

/// The session and the path of its replies, from READY -> PAUSED to PAUSED -> READY.
#[derive(Clone)]
pub(super) struct Joined {
    pub session: Arc<Session>,
    /// Delivers replies on the event thread.
    pub reply_executor: ReplyExecutor,
    /// The commands of the property, for a session that replaces a lost one.
    startup_commands: Arc<[ModelCommand]>,
}

/// The commands of the property `commands`, whose file has been read.
fn parse_commands(settings: &Settings) -> Result<Arc<[ModelCommand]>, Error> {
    let commands = settings.commands.as_deref().unwrap_or_default();
    let commands = ModelCommand::parse_list(commands).map_err(Error::into_invalid_settings)?;
    Ok(commands.into())
}

impl SessionMembership {
    /// The session, from READY -> PAUSED to PAUSED -> READY.
    pub fn session(&self) -> Option<Arc<Session>> {
        let joined = lock(&self.joined);
        joined.as_ref().map(|joined| joined.session.clone())
    }

    /// The session, for what cannot be done without one.
    ///
    /// # Errors
    ///
    /// When the element is not in PAUSED or PLAYING.
    pub(super) fn require_session(&self) -> Result<Joined, Error> {
        lock(&self.joined).clone().ok_or_else(|| {
            let text = "there is no session: the element is not in PAUSED or PLAYING";
            Error::api(Code::Disconnected, text)
        })
    }

    /// The length of the jitter buffer.
    pub fn latency(&self) -> gst::ClockTime {
        let latency = self.state.settings().latency.max(MIN_LATENCY);
        let grown = self.grown_latency.load(Ordering::Acquire);
        gst::ClockTime::from_mseconds(latency.max(grown).into())
    }

    /// Sets to what the jitter buffer has grown, in milliseconds; 0 restores
    /// the property `latency`.
    pub fn set_grown_latency(&self, milliseconds: u32) {
        self.grown_latency.store(milliseconds, Ordering::Release);
    }

    /// Begins a generation at READY -> PAUSED, and returns its number.
    pub fn begin_generation(&self) -> u64 {
        self.set_grown_latency(0);
        self.state.begin_generation()
    }

    /// Joins the session that the settings or the pipeline name.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or contradicts another element of the
    /// session.
    pub fn join(
        &self,
        element: &gst::Element,
        role: ParticipantRole,
        events: EventSender,
        reply_executor: ReplyExecutor,
    ) -> Result<Arc<Session>, Error> {
        let mut settings = self.state.settings().clone();
        if settings.names_no_server() {
            inherited_settings::inherit(element, &mut settings);
        }
        settings.fill_from_environment();
        settings.read_files()?;
        let commands = parse_commands(&settings)?;
        settings.parse_arguments()?;
        self.navigation.set(settings.navigation.as_deref())?;
        let name = settings.session.as_deref();
        let key = self.context.session_key(element, name);
        let participant = Participant {
            element: element.path_string().to_string(),
            role,
            report_stats: settings.report_stats,
        };
        // Locked meanwhile: the first event may ask for the session.
        let mut slot = lock(&self.joined);
        let session = Arc::new(Session::join(Some(&key), &settings, participant, events)?);
        *slot = Some(Joined {
            session: session.clone(),
            reply_executor,
            startup_commands: commands.clone(),
        });
        drop(slot);
        warn_without_effect(element, session.settings_without_effect());
        session.set_stats_interval(self.state.settings().stats_interval());
        self.queue_startup_commands(element, &commands);
        Ok(session)
    }

    /// Leaves the session; [`SessionMembership::wait_closed`] waits for its end.
    pub fn leave(&self) {
        self.state.end_generation();
        self.commands.close();
        let joined = lock(&self.joined).take();
        if let Some(joined) = joined {
            joined.session.leave();
            let older = lock(&self.closing).replace(joined);
            // Leaves it, which takes locks: not with this one held.
            drop(older);
        }
    }

    /// Waits at READY -> NULL until the session that was left is closed, at
    /// most `close-timeout`.
    pub fn wait_closed(&self, element: &gst::Element) {
        let left = lock(&self.closing).take();
        let limit = self.state.settings().close_limit();
        let session = left.as_ref().map(|joined| &*joined.session);
        wait_session_closed(element, session, limit);
        let announcements = self.state.forget_session();
        if let Some(Joined { reply_executor, .. }) = left {
            // Not here: what the application does then may wait for this state change.
            let element = element.downgrade();
            reply_executor(Box::new(move || {
                if let Some(element) = element.upgrade() {
                    for announcement in announcements {
                        announcement.announce(&element);
                    }
                }
            }));
        }
        session::warm_up::wait_for_threads();
        self.context.release();
    }

    /// Sends the startup commands to a session that replaces a lost one.
    pub(super) fn send_startup_commands(&self, element: &gst::Element) {
        if let Ok(joined) = self.require_session() {
            self.queue_startup_commands(element, &joined.startup_commands);
        }
    }

    /// Sends the commands of the property, which was set while there is a session.
    pub(super) fn send_changed_commands(&self, element: &gst::Element) {
        let mut settings = self.state.settings().clone();
        let commands = settings.read_files();
        match commands.and_then(|()| parse_commands(&settings)) {
            Ok(commands) => {
                if let Some(joined) = lock(&self.joined).as_mut() {
                    joined.startup_commands = commands.clone();
                }
                self.queue_startup_commands(element, &commands);
            }
            Err(error) => {
                let (_, reply) = self.prepare(ReplyTo::Bus(element.clone()), "commands");
                reply.send(Err(error));
            }
        }
    }

    /// Queues commands that wait for the session, however long that takes, and for
    /// the files of those before them. Their replies go to the bus.
    fn queue_startup_commands(&self, element: &gst::Element, commands: &[ModelCommand]) {
        let commands = commands.iter().cloned();
        let commands = commands.map(|command| (command, ReplyTo::Bus(element.clone())));
        self.queue_batch(element, commands.collect(), None);
    }

    /// Queues commands whose replies go to the bus.
    fn queue_commands(&self, element: &gst::Element, commands: Vec<ModelCommand>) {
        for command in commands {
            let reply_to = ReplyTo::Bus(element.clone());
            self.queue_batch(element, vec![(command, reply_to)], ready_deadline());
        }
    }

    /// Sends a command in its turn. Its arguments are sent as they are: they may
    /// be text of anybody's, so they name no files.
    pub(super) fn send_command(
        &self,
        element: &gst::Element,
        name: &str,
        json: Option<&str>,
        reply_to: ReplyTo,
    ) {
        let arguments = parse_arguments(json.unwrap_or("{}"));
        match arguments.and_then(|arguments| ModelCommand::literal(name, arguments)) {
            Ok(command) => {
                self.queue_batch(element, vec![(command, reply_to)], ready_deadline());
            }
            Err(error) => {
                let (_, reply) = self.prepare(reply_to, name);
                reply.send(Err(error.during("send_command")));
            }
        }
    }

    /// Sends a command that a stream gave; `handle` gets the reply.
    pub fn send_content(
        &self,
        element: &gst::Element,
        content: CommandContent,
        handle: ReplyHandler,
    ) {
        let reply_to = ReplyTo::Handler(handle);
        self.queue_batch(element, vec![(content, reply_to)], ready_deadline());
    }

    /// Posts that a buffer of a pad was refused.
    pub fn report_refused(&self, element: &gst::Element, pad: &str, command: &str, error: Error) {
        let session_id = self.state.session_id();
        post_refused(element, pad, command, error, session_id.as_deref());
    }

    /// Sends a command that was set by its properties: by a control binding, whose
    /// successes nobody waits for, or by hand.
    pub(super) fn send_child_command(
        &self,
        element: &gst::Element,
        command: ModelCommand,
        by_binding: bool,
    ) {
        let reply_to = match by_binding {
            true => ReplyTo::ErrorToBus(element.clone()),
            false => ReplyTo::Bus(element.clone()),
        };
        self.queue_batch(element, vec![(command, reply_to)], ready_deadline());
    }

    /// Says on the bus that a value makes no command.
    pub(super) fn refuse_child_command(&self, element: &gst::Element, name: &str, error: Error) {
        let (_, reply) = self.prepare(ReplyTo::Bus(element.clone()), name);
        reply.send(Err(error.during("send_command")));
    }

    /// Has parameters follow their control bindings: media of this stream time has
    /// passed.
    pub(super) fn follow_controls(&self, position: gst::ClockTime) {
        let rate = self.state.settings().control_rate;
        self.commands.follow(self, position, rate);
    }

    /// The session, if there is one, and the callback for the reply to a request
    /// of it.
    pub(super) fn prepare(
        &self,
        reply_to: ReplyTo,
        operation: &str,
    ) -> (Result<Arc<Session>, Error>, ReplyCallback) {
        let joined = self.require_session();
        let executor = joined.as_ref().ok().map(|j| j.reply_executor.clone());
        let reply = reply_to.callback(operation, self.state.session_id(), executor);
        (joined.map(|joined| joined.session), reply)
    }

    /// Queues a batch of commands, which fail at `deadline` unless the session is
    /// ready.
    fn queue_batch(
        &self,
        element: &gst::Element,
        commands: Vec<(impl Into<CommandContent>, ReplyTo)>,
        deadline: Option<Instant>,
    ) {
        let joined = self.require_session();
        let executor = joined.as_ref().ok().map(|j| j.reply_executor.clone());
        let session_id = self.state.session_id();
        let (check, max_upload_size) = {
            let settings = self.state.settings();
            (settings.check_commands, settings.max_upload_size)
        };
        let commands = commands
            .into_iter()
            .map(|(command, reply_to)| (command.into(), reply_to));
        let callback = |command: &CommandContent, reply_to: ReplyTo| {
            reply_to.callback(command.name(), session_id.clone(), executor.clone())
        };
        let Joined {
            session,
            reply_executor,
            ..
        } = match joined {
            Ok(joined) => joined,
            Err(error) => {
                for (command, reply_to) in commands {
                    let error = error.clone().during("send_command");
                    callback(&command, reply_to).send(Err(error));
                }
                return;
            }
        };
        let request = |(command, reply_to): (CommandContent, ReplyTo)| CommandRequest {
            reply: callback(&command, reply_to),
            command,
            check,
            max_upload_size,
            deadline,
            progress: upload_progress::poster(element.downgrade(), reply_executor.clone()),
        };
        let batch = commands.map(request).collect();
        session.queue_command(QueuedCommand::Commands(batch));
    }

    /// Handles an upstream event of downstream's: navigation, or
    /// [`COMMAND_EVENT`]; `size` is that of the picture, in pixels. `flush` is
    /// called when [`SessionMembership::flush_navigation`] is due. Returns
    /// whether the event was consumed.
    pub fn handle_upstream_event(
        &self,
        element: &gst::Element,
        event: &gst::EventRef,
        size: (u32, u32),
        flush: impl FnOnce() + Send + 'static,
    ) -> bool {
        match event.view() {
            gst::EventView::Navigation(_) => {
                let Some((commands, delay)) = self.navigation.commands_for(event, size) else {
                    return false;
                };
                self.queue_commands(element, commands);
                if let Some(delay) = delay {
                    session::run_after(delay, flush);
                }
                true
            }
            gst::EventView::CustomUpstream(_) => self.handle_command_event(element, event),
            _ => false,
        }
    }

    /// Sends the commands that the rate limit of navigation held back.
    pub fn flush_navigation(&self, element: &gst::Element) {
        self.queue_commands(element, self.navigation.flush());
    }

    fn handle_command_event(&self, element: &gst::Element, event: &gst::EventRef) -> bool {
        let Some(structure) = event.structure().filter(|s| s.name() == COMMAND_EVENT) else {
            return false;
        };
        let name = structure.get::<&str>("name").unwrap_or_default();
        let data = structure.get::<&str>("data").ok();
        self.send_command(element, name, data, ReplyTo::Bus(element.clone()));
        true
    }
}

/// Waits until a session that the element has left is closed, at most `limit`.
/// The one bounded wait in a state change: an application that exits now must
/// not leave a session behind.
pub fn wait_session_closed(element: &gst::Element, session: Option<&Session>, limit: Duration) {
    if session.is_some_and(|session| !session.wait_closed(limit)) {
        gst::warning!(
            CAT,
            obj = element,
            "the session was not closed within {limit:?}"
        );
    }
}
