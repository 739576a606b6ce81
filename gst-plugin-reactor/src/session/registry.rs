// SPDX-License-Identifier: MIT

//! Finding a session: elements that name the same one share it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use tokio::sync::mpsc;

use super::{
    DriverMessage, EventSender, SharedState, driver::Driver, lock, machine::Input,
    settings::Settings,
};
use crate::platform::{Code, Error};

/// One running session and who takes part in it.
#[derive(Debug)]
pub(super) struct SharedSession {
    pub messages: mpsc::UnboundedSender<DriverMessage>,
    pub shared: Arc<SharedState>,
    settings: Settings,
    /// Under which it can be found.
    key: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    participants: Vec<(u64, Participant)>,
    next: u64,
}

/// An element that takes part, as others see it.
#[derive(Debug, Clone)]
pub struct Participant {
    /// Its path, for the errors of others.
    pub element: String,
    pub role: ParticipantRole,
}

/// What an element is to a session. There is one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParticipantRole {
    Source,
    Sink,
    /// It wants what was recorded, and no session of its own.
    Clip,
}

/// Sessions that can be found, by name.
static NAMED: Mutex<Option<HashMap<String, Weak<SharedSession>>>> = Mutex::new(None);

/// Sessions on their way out, by local runtime, which has one at a time: the
/// next one there waits for them.
static LEAVING: Mutex<Option<HashMap<String, Weak<SharedState>>>> = Mutex::new(None);

/// Joins the session with this key, or starts it.
///
/// # Errors
///
/// When the element does not fit those that are there.
pub(super) fn join(
    key: Option<&str>,
    settings: &Settings,
    participant: Participant,
    events: EventSender,
) -> Result<(Arc<SharedSession>, u64), Error> {
    let mut named = lock(&NAMED);
    let named = named.get_or_insert_default();
    let found = key.and_then(|key| named.get(key)).and_then(Weak::upgrade);
    if let Some(shared_session) = found
        && let Some(id) = shared_session.admit(settings, &participant)?
    {
        shared_session.send(DriverMessage::Join(id, participant, events));
        return Ok((shared_session, id));
    }
    let shared_session = SharedSession::start(key, settings)?;
    if let Some(key) = key {
        named.insert(key.to_owned(), Arc::downgrade(&shared_session));
    }
    let id = lock(&shared_session.state).add(participant.clone());
    shared_session.send(DriverMessage::Join(id, participant, events));
    shared_session.send(DriverMessage::Input(Input::Start));
    Ok((shared_session, id))
}

/// Joins the session with this key, if there is one.
pub(super) fn find(
    key: &str,
    participant: Participant,
    events: EventSender,
) -> Option<(Arc<SharedSession>, u64)> {
    let named = lock(&NAMED);
    let shared_session = named.as_ref()?.get(key)?.upgrade()?;
    let id = {
        let mut state = lock(&shared_session.state);
        if state.participants.is_empty() {
            return None;
        }
        state.add(participant.clone())
    };
    shared_session.send(DriverMessage::Join(id, participant, events));
    Some((shared_session, id))
}

impl State {
    fn add(&mut self, participant: Participant) -> u64 {
        self.next += 1;
        self.participants.push((self.next, participant));
        self.next
    }
}

impl SharedSession {
    fn start(key: Option<&str>, settings: &Settings) -> Result<Arc<Self>, Error> {
        let (messages, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(SharedState::default());
        let driver = Driver::new(settings, messages.clone(), shared.clone())?;
        let before = lock(&LEAVING)
            .get_or_insert_default()
            .remove(settings.server())
            .and_then(|leaving| leaving.upgrade());
        driver.launch(receiver, before)?;
        Ok(Arc::new(Self {
            messages,
            shared,
            settings: settings.clone(),
            key: key.map(str::to_owned),
            state: Mutex::default(),
        }))
    }

    /// Takes a further element in, unless everybody has left.
    fn admit(&self, settings: &Settings, participant: &Participant) -> Result<Option<u64>, Error> {
        let mut state = lock(&self.state);
        let Some((_, first)) = state.participants.first() else {
            return Ok(None);
        };
        if let Some(property) = self.settings.conflict(settings) {
            return Err(Error::api(
                Code::InvalidSettings,
                format!(
                    "'{property}' differs from that of {}, which shares the session; \
                     set the same, or another 'session'",
                    first.element
                ),
            ));
        }
        let source = state
            .participants
            .iter()
            .find(|(_, m)| m.role == ParticipantRole::Source);
        if participant.role == ParticipantRole::Source
            && let Some((_, other)) = source
        {
            return Err(Error::api(
                Code::InvalidSettings,
                format!(
                    "{} already receives the tracks of this session; \
                     set another 'session', or use a tee behind it",
                    other.element
                ),
            ));
        }
        Ok(Some(state.add(participant.clone())))
    }

    /// Takes an element out. The session ends with its last one.
    pub(super) fn leave(&self, id: u64) {
        let mut named = lock(&NAMED);
        let mut state = lock(&self.state);
        let before = state.participants.len();
        state
            .participants
            .retain(|(participant, _)| *participant != id);
        if state.participants.len() == before {
            return;
        }
        if state.participants.is_empty() {
            // Who comes now starts a new one.
            if let (Some(key), Some(named)) = (&self.key, named.as_mut()) {
                named.remove(key);
            }
            if self.settings.local {
                let mut leaving = lock(&LEAVING);
                let server = self.settings.server().to_owned();
                leaving
                    .get_or_insert_default()
                    .insert(server, Arc::downgrade(&self.shared));
            }
        }
        self.send(DriverMessage::Leave(id));
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn has_participants(&self) -> bool {
        !lock(&self.state).participants.is_empty()
    }

    pub(super) fn send(&self, message: DriverMessage) {
        // A driver that is gone has emitted `Closed`.
        let _ = self.messages.send(message);
    }
}
