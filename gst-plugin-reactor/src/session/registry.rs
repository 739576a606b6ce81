// SPDX-License-Identifier: MIT

//! The sessions of the process: elements that name one session share it. Called
//! by elements in a state change, on any thread. It waits for nothing and sends
//! nothing but messages to drivers.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, Weak},
};

use tokio::sync::mpsc;

use super::{
    driver::Driver,
    events::EventSender,
    headroom,
    machine::Input,
    messages::DriverMessage,
    participants::{Participant, ParticipantRole},
    settings::Settings,
    shared_state::SharedState,
};
use crate::platform::{Code, Error, lock};

/// One running session and the elements that take part in it.
#[derive(Debug)]
pub(super) struct SharedSession {
    pub messages: mpsc::UnboundedSender<DriverMessage>,
    pub shared: Arc<SharedState>,
    settings: Settings,
    /// Elements find it by this key; a private session has none.
    key: Option<String>,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    participants: Vec<(u64, Participant)>,
    last_id: u64,
}

/// The sessions that can be found, by key.
static SESSIONS: LazyLock<Mutex<HashMap<String, Weak<SharedSession>>>> =
    LazyLock::new(Mutex::default);

/// The last session on each local runtime, by address, while it is being closed.
/// A local runtime has one session at a time, so the next one waits for it.
static CLOSING: LazyLock<Mutex<HashMap<String, Weak<SharedState>>>> = LazyLock::new(Mutex::default);

/// An element's place in a session.
pub(super) struct Joined {
    pub shared_session: Arc<SharedSession>,
    pub id: u64,
    /// The properties that do not count, since another element started the session with
    /// other values.
    pub without_effect: Vec<&'static str>,
}

/// Joins the session with this key, or starts it.
///
/// # Errors
///
/// If the settings are invalid, or the element does not fit those that take part
/// already.
pub(super) fn join(
    key: Option<&str>,
    settings: &Settings,
    participant: Participant,
    events: EventSender,
) -> Result<Joined, Error> {
    let mut sessions = lock(&SESSIONS);
    let found = key
        .and_then(|key| sessions.get(key))
        .and_then(Weak::upgrade);
    // Elements may stay in a session that is over for as long as they like.
    let (running, ended) = match found {
        Some(found) if found.shared.is_ending() => (None, Some(found)),
        found => (found, None),
    };
    if let Some(shared_session) = running
        && let Some(id) = shared_session.admit(settings, &participant)?
    {
        let role = participant.role;
        shared_session.send(DriverMessage::Join(id, participant, events));
        let without_effect = shared_session.take_settings(settings, role);
        return Ok(Joined {
            shared_session,
            id,
            without_effect,
        });
    }
    let shared_session = SharedSession::start(key, settings, ended.as_deref())?;
    if let Some(key) = key {
        sessions.insert(key.to_owned(), Arc::downgrade(&shared_session));
    }
    let id = lock(&shared_session.members).add(participant.clone());
    shared_session.send(DriverMessage::Join(id, participant, events));
    shared_session.send(DriverMessage::Input(Input::Start));
    Ok(Joined {
        shared_session,
        id,
        without_effect: Vec::new(),
    })
}

/// Joins the session with this key, if there is one that is not over.
pub(super) fn find(
    key: &str,
    participant: Participant,
    events: EventSender,
) -> Option<(Arc<SharedSession>, u64)> {
    let sessions = lock(&SESSIONS);
    let shared_session = sessions.get(key)?.upgrade()?;
    if shared_session.shared.is_ending() {
        return None;
    }
    let id = {
        let mut members = lock(&shared_session.members);
        if members.participants.is_empty() {
            return None;
        }
        members.add(participant.clone())
    };
    shared_session.send(DriverMessage::Join(id, participant, events));
    Some((shared_session, id))
}

impl Members {
    fn add(&mut self, participant: Participant) -> u64 {
        self.last_id += 1;
        self.participants.push((self.last_id, participant));
        self.last_id
    }
}

impl SharedSession {
    /// Starts a session in the place of one with this key that is over, if there is one.
    fn start(
        key: Option<&str>,
        settings: &Settings,
        ended: Option<&Self>,
    ) -> Result<Arc<Self>, Error> {
        headroom::require()?;
        let (messages, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(SharedState::default());
        let driver = Driver::new(settings, messages.clone(), shared.clone())?;
        let left = lock(&CLOSING)
            .remove(settings.server())
            .and_then(|closing| closing.upgrade());
        let ended = ended
            .filter(|ended| ended.settings.local)
            .map(|ended| ended.shared.clone());
        driver.start(receiver, left.into_iter().chain(ended).collect())?;
        Ok(Arc::new(Self {
            messages,
            shared,
            settings: settings.clone(),
            key: key.map(str::to_owned),
            members: Mutex::default(),
        }))
    }

    /// Adds another element; `None` if all elements have left, so that the session
    /// is ending.
    fn admit(&self, settings: &Settings, participant: &Participant) -> Result<Option<u64>, Error> {
        let mut members = lock(&self.members);
        let Some((_, first)) = members.participants.first() else {
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
        let mut others = members.participants.iter().map(|(_, other)| other);
        if participant.role == ParticipantRole::Source
            && let Some(other) = others.find(|other| other.role == ParticipantRole::Source)
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
        Ok(Some(members.add(participant.clone())))
    }

    /// Takes what counts of the settings of an element that joins the running session;
    /// returns the properties that do not, and differ.
    fn take_settings(&self, settings: &Settings, role: ParticipantRole) -> Vec<&'static str> {
        if let Some(limit) = settings.session_limit() {
            self.send(DriverMessage::LimitDuration(limit));
        }
        // What the one element that receives says of it.
        if role == ParticipantRole::Source && settings.latency != self.settings.latency {
            self.send(DriverMessage::SetLatency(settings.latency));
        }
        if settings.max_receive_bitrate != 0 {
            let bound = Some(settings.max_receive_bitrate);
            self.send(DriverMessage::Input(Input::SetMaxReceiveBitrate(bound)));
        }
        self.settings.without_effect(settings)
    }

    /// Removes an element. The session ends with its last one.
    pub(super) fn leave(&self, id: u64) {
        let mut sessions = lock(&SESSIONS);
        let mut members = lock(&self.members);
        let before = members.participants.len();
        members.participants.retain(|(other, _)| *other != id);
        if members.participants.len() == before {
            return;
        }
        if members.participants.is_empty() && !self.is_replaced(&sessions) {
            // An element that joins now starts a new session.
            if let Some(key) = &self.key {
                sessions.remove(key);
            }
            // One whose driver has ended is closed: there may be a later one that is not.
            if self.settings.local && !self.messages.is_closed() {
                let server = self.settings.server().to_owned();
                lock(&CLOSING).insert(server, Arc::downgrade(&self.shared));
            }
        }
        self.send(DriverMessage::Leave(id));
    }

    /// Whether another session has this one's key, since this one is over.
    fn is_replaced(&self, sessions: &HashMap<String, Weak<Self>>) -> bool {
        self.key.as_ref().is_some_and(|key| {
            let current = sessions.get(key);
            current.is_none_or(|current| !std::ptr::eq(current.as_ptr(), self))
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn has_participants(&self) -> bool {
        !lock(&self.members).participants.is_empty()
    }

    pub(super) fn send(&self, message: DriverMessage) {
        // A driver that has ended has sent `MachineEvent::Closed`; a request that
        // is dropped is answered.
        let _ = self.messages.send(message);
    }
}
