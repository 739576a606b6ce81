// SPDX-License-Identifier: MIT

//! The steps from [`Input::Start`](super::Input::Start) to a session that is ready:
//! the session, the offer, the answer, the connection.

use std::time::Duration;

use super::{
    state::{
        CONFLICT_LIMIT, CONNECT_LIMIT, Connecting, Machine, NO_CANDIDATES_LIMIT, Negotiation,
        OFFER_LIMIT, Opening, Phase, Polling, Preparing, Ready, Timings,
    },
    trickle::Trickle,
    types::{Action, MachineEvent, NEVER, Progress, Status},
};
use crate::platform::{
    Code, Error,
    coordinator::{Ownership, SessionDescriptor},
    sdp,
    signaling::{IceServer, SdpAnswer, TrackMapping},
    track::{Track, check_tracks},
    trailer,
    wire::{Channel, chunking},
};

/// The interval of polls for the answer, which is usually there after some 160 ms:
/// the first one, grown by half each time up to the slowest.
const POLL_FIRST: Duration = Duration::from_millis(30);
const POLL_SLOWEST: Duration = Duration::from_secs(1);
/// When to retry on a full server that sends no `Retry-After`: the first interval,
/// doubled each time up to the slowest.
const RETRY_DEFAULT: Duration = Duration::from_secs(3);
const RETRY_SLOWEST: Duration = Duration::from_secs(10);
/// At most this number of 5xx replies without `Retry-After` are retried.
const MAX_FAILURES: u32 = 3;
/// The limits of the server's `Retry-After`.
const RETRY_RANGE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3600)];
/// What the server begins to send with, in bits per second: the least that its
/// estimate may be (runtime 3.10.0). Otherwise it begins with 4 Mbit/s, and probes
/// the path with 12 and with 24 Mbit/s before any feedback has arrived: the queue of
/// a narrow link is full for 1 s. On a path that carries more, it sends 4.5 Mbit/s
/// after 1 to 1.3 s with either (measured).
pub(super) const START_BITRATE: u32 = 500_000;

impl Machine {
    pub(super) fn start(&mut self) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        self.timings = Timings {
            start: self.now,
            ..Timings::default()
        };
        self.emit(MachineEvent::Status(Status::Connecting));
        self.report_progress(Progress::Start("Asking for a session"));
        self.open_session();
    }

    pub(super) fn open_session(&mut self) {
        self.phase = Phase::Opening(Opening {
            pending: true,
            since: self.now,
            next: NEVER,
            deadline: self
                .policy
                .waiting_limit
                .map_or(NEVER, |limit| self.now + limit),
            conflict_deadline: None,
            last_error: None,
            refusals: 0,
        });
        self.actions.push(Action::OpenSession);
    }

    pub(super) fn session_opened(&mut self, result: Result<(SessionDescriptor, Ownership), Error>) {
        if let Phase::Opening(opening) = &mut self.phase {
            opening.pending = false;
        }
        match (&mut self.phase, result) {
            (Phase::Opening(_), Ok((descriptor, ownership))) => {
                self.session_obtained(descriptor, ownership);
            }
            (Phase::Opening(_), Err(error)) => self.session_refused(error),
            // Stopped meanwhile: a session that was created must still be ended.
            (Phase::Closing(_), result) => {
                if let Ok((descriptor, ownership)) = result {
                    self.session = Some((descriptor.session_id, ownership));
                }
                let ending_session = self.end_session();
                self.update_closing(|c| {
                    c.opening_session = false;
                    c.ending_session |= ending_session;
                });
            }
            _ => {}
        }
    }

    /// The server refused to open a session: retries if it is only busy.
    fn session_refused(&mut self, error: Error) {
        let unreachable = matches!(error.code, Code::NetworkError | Code::RequestTimeout);
        let restarting = self.restart_deadline().is_some_and(|end| self.now < end);
        if unreachable && restarting {
            let text = format!("Starting another session: {}", error.message);
            self.report_progress(Progress::Continue(text));
            let next = self.now + self.next_backoff();
            if let Phase::Opening(opening) = &mut self.phase {
                opening.next = next;
            }
            return;
        }
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        let busy = match error.code {
            Code::RateLimited => true,
            // A server that failed may succeed on a retry.
            Code::ServerError => {
                error.retry_after.is_some()
                    || (self.policy.queues && opening.refusals < MAX_FAILURES)
            }
            Code::Conflict => {
                let deadline = *opening
                    .conflict_deadline
                    .get_or_insert(self.now + CONFLICT_LIMIT);
                error.retry_after.is_some() && self.now < deadline
            }
            _ => false,
        };
        if !busy {
            return self.fail(error);
        }
        if self.now >= opening.deadline {
            opening.last_error = Some(error);
            return self.give_up_waiting();
        }
        let default = RETRY_DEFAULT.saturating_mul(1 << opening.refusals.min(4));
        let wait = error.retry_after.unwrap_or(default.min(RETRY_SLOWEST));
        opening.next = self.now + wait.clamp(RETRY_RANGE[0], RETRY_RANGE[1]);
        opening.refusals += 1;
        let first = opening.last_error.is_none();
        let text = format!("Waiting for a GPU: {}", error.message);
        opening.last_error = Some(error);
        if first {
            self.emit(MachineEvent::Status(Status::Waiting));
        }
        self.report_progress(Progress::Continue(text));
    }

    pub(super) fn tick_opening(&mut self) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        if self.now >= opening.deadline {
            self.give_up_waiting();
        } else if !opening.pending && self.now >= opening.next {
            opening.pending = true;
            self.actions.push(Action::OpenSession);
        }
    }

    /// The time to wait for a session is over; the server may have said last why there is none.
    fn give_up_waiting(&mut self) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        let waited = (opening.deadline - opening.since).as_millis();
        let mut error = opening.last_error.take().unwrap_or_else(|| {
            Error::api(Code::RequestTimeout, "the server did not answer").during("session")
        });
        error.message = format!(
            "{} (gave up after waiting-timeout, {waited} ms)",
            error.message
        );
        self.fail(error);
    }

    /// Notes when a step of connecting was reached. A connection that replaces one of
    /// the same session has no such times, so that all are of one connection.
    fn note_step(&mut self, step: fn(&mut Timings) -> &mut Option<Duration>) {
        if self.timings.ready.is_none() {
            *step(&mut self.timings) = Some(self.now - self.timings.start);
        }
    }

    fn session_obtained(&mut self, descriptor: SessionDescriptor, ownership: Ownership) {
        let ownership = match self.is_own_previous_session(&descriptor.session_id) {
            true => Ownership::Created,
            false => ownership,
        };
        self.note_step(|timings| &mut timings.session);
        self.session = Some((descriptor.session_id.clone(), ownership));
        self.emit(MachineEvent::SessionId(Some(descriptor.session_id.clone())));
        self.report_joined(&descriptor, ownership);
        if self.policy.queues && !descriptor.is_ready() {
            return self.wait_for_gpu(&descriptor);
        }
        self.emit(MachineEvent::Status(Status::Waiting));
        self.prepare_connection(descriptor);
    }

    pub(super) fn prepare_connection(&mut self, descriptor: SessionDescriptor) {
        self.note_step(|timings| &mut timings.described);
        self.costs_since = Some(self.now);
        self.emit(MachineEvent::Described(descriptor.clone()));
        if !descriptor.is_ready() {
            let text = "the server describes the session without its tracks or its transport";
            let error = Error::api(Code::DecodeFailed, text).during("session");
            return self.fail(error);
        }
        self.report_progress(Progress::Continue("Connecting to the model".into()));
        let tracks = descriptor.capabilities.as_ref().map(|c| c.tracks.clone());
        let tracks = tracks.unwrap_or_default();
        if let Err(error) = check_tracks(&tracks) {
            return self.fail(error);
        }
        // Another session of the model: the elements keep their tracks.
        let planned = !self.planned_tracks.is_empty();
        let mut before = self.planned_tracks.iter();
        if before.any(|track| !tracks.contains(track)) {
            let text = "the tracks of the new session are not those of the one before";
            let error = Error::api(Code::TrackRejected, text).during("session");
            return self.fail(error);
        }
        if !planned {
            self.actions.push(Action::AnnounceTracks(tracks));
        }
        self.connection_id = self.policy.connection_id;
        self.prepare_offer(self.now + OFFER_LIMIT, descriptor, planned);
    }

    /// Begins a connection: requests what its offer needs.
    pub(super) fn prepare_offer(
        &mut self,
        deadline: Duration,
        descriptor: SessionDescriptor,
        planned: bool,
    ) {
        self.connections += 1;
        self.trickle = Trickle::default();
        self.descriptor = Some(descriptor.clone());
        if self.connection_id.is_none() {
            self.actions.push(Action::RegisterConnection);
        }
        if self.policy.ice_servers {
            self.actions.push(Action::FetchIceServers);
        }
        self.phase = Phase::Preparing(Preparing {
            deadline,
            descriptor: Box::new(descriptor),
            resume: self.connection_id.is_some() && self.is_resuming(),
            planned,
            ice_servers: (!self.policy.ice_servers).then(Vec::new),
            creating_offer: false,
            offer: None,
        });
        self.create_offer();
    }

    pub(super) fn ice_servers_fetched(&mut self, servers: Vec<IceServer>) {
        if let Phase::Preparing(preparing) = &mut self.phase {
            preparing.ice_servers = Some(servers);
            self.create_offer();
        }
    }

    pub(super) fn connection_registered(&mut self, id: u32) {
        if matches!(self.phase, Phase::Preparing(_)) {
            self.connection_id = Some(id);
            self.post_offer();
        }
    }

    pub(super) fn tracks_planned(&mut self, tracks: Vec<Track>) {
        let Phase::Preparing(preparing) = &mut self.phase else {
            return;
        };
        preparing.planned = true;
        for track in &tracks {
            let known = self.paused_tracks.entry(track.name.clone());
            known.or_insert(true);
        }
        self.planned_tracks = tracks;
        self.create_offer();
    }

    /// Has the transport make the offer, once its tracks and the ICE servers are
    /// known.
    fn create_offer(&mut self) {
        let Phase::Preparing(preparing) = &mut self.phase else {
            return;
        };
        if !preparing.planned || preparing.creating_offer {
            return;
        }
        if let Some(ice_servers) = preparing.ice_servers.take() {
            preparing.creating_offer = true;
            self.has_transport = true;
            self.actions.push(Action::CreateOffer { ice_servers });
        }
    }

    pub(super) fn offer_created(&mut self, offer: String) {
        if let Phase::Preparing(preparing) = &mut self.phase {
            preparing.offer = Some(offer);
            self.post_offer();
        }
    }

    /// Posts the offer, once it is created and the connection has its number.
    fn post_offer(&mut self) {
        let (max_bitrate, start_bitrate) = (self.receive_bound(), self.start_bitrate());
        let Phase::Preparing(preparing) = &mut self.phase else {
            return;
        };
        let (Some(connection_id), Some(offer)) = (self.connection_id, preparing.offer.as_deref())
        else {
            return;
        };
        let resume = preparing.resume;
        self.requests
            .set_server_version(preparing.descriptor.server_version.as_deref());
        self.offered_receive_bitrate = max_bitrate;
        let bitrates = sdp::ReceiveBitrates {
            start: Some(start_bitrate),
            max_video: max_bitrate,
        };
        match complete_offer(offer, &self.planned_tracks, bitrates) {
            Ok((sdp, sections, mapping)) => {
                self.note_step(|timings| &mut timings.offered);
                self.trickle.set_offer(&sdp, &sections);
                self.phase = Phase::Offering(Negotiation {
                    connection_id,
                    sections,
                    deadline: self.now + self.step_limit(OFFER_LIMIT),
                });
                self.actions.push(Action::PostOffer {
                    connection_id,
                    sdp,
                    mapping,
                    resume,
                });
            }
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn offer_posted(&mut self, result: Result<(), Error>) {
        match (std::mem::replace(&mut self.phase, Phase::Idle), result) {
            (Phase::Offering(negotiation), Ok(())) => {
                let polling = Polling {
                    deadline: self.now + self.step_limit(answer_limit(self.policy.sdp_attempts)),
                    interval: POLL_FIRST,
                    next: Some(self.now + POLL_FIRST),
                };
                self.phase = Phase::Polling(negotiation, polling);
                self.offer_accepted();
            }
            (phase @ Phase::Offering(_), Err(error)) => {
                self.phase = phase;
                self.fail(error);
            }
            (phase, _) => self.phase = phase,
        }
    }

    pub(super) fn tick_polling(&mut self) {
        let Phase::Polling(negotiation, polling) = &mut self.phase else {
            return;
        };
        if self.now >= polling.deadline {
            let limit = answer_limit(self.policy.sdp_attempts).as_secs_f32();
            let text = format!(
                "the server did not answer the offer within {limit:.1} s \
                 (max-sdp-attempts={}); it may be overloaded, or have refused the offer",
                self.policy.sdp_attempts
            );
            self.fail(Error::api(Code::RequestTimeout, text).during("sdp_params"));
        } else if polling.next.is_some_and(|next| self.now >= next) {
            // The answer can be fetched once only: polls never overlap.
            polling.next = None;
            self.actions.push(Action::PollAnswer {
                connection_id: negotiation.connection_id,
            });
        }
    }

    pub(super) fn answer_polled(&mut self, result: Result<Option<SdpAnswer>, Error>) {
        let Phase::Polling(negotiation, polling) = &mut self.phase else {
            return;
        };
        match result {
            Ok(None) => {
                polling.next = Some(self.now + polling.interval);
                polling.interval = (polling.interval * 3 / 2).min(POLL_SLOWEST);
            }
            Ok(Some(answer)) => {
                if answer.connection_id.is_some() {
                    self.connection_id = answer.connection_id;
                }
                match sdp::parse_answer(&answer.sdp, &negotiation.sections) {
                    Ok(negotiated) => self.apply_answer(negotiated),
                    Err(error) => {
                        let error = name_tracks(error, &negotiation.sections, &self.planned_tracks);
                        self.fail(error.during("sdp_params"));
                    }
                }
            }
            Err(error) => self.fail(error),
        }
    }

    fn apply_answer(&mut self, negotiated: sdp::NegotiatedAnswer) {
        self.note_step(|timings| &mut timings.answered);
        self.requests.set_chunking(negotiated.chunking);
        let reachable = negotiated.has_udp_candidates() || self.trickle.has_candidates();
        let limit = match reachable || !self.is_resuming() {
            true => self.step_limit(CONNECT_LIMIT),
            false => NO_CANDIDATES_LIMIT,
        };
        self.phase = Phase::Connecting(Connecting {
            deadline: self.now + limit,
            limit,
            fingerprint: negotiated.fingerprint.clone(),
            verified: false,
            control: false,
            data: false,
        });
        self.actions.push(Action::ApplyAnswer(negotiated));
    }

    pub(super) fn peer_connected(&mut self) {
        if let Phase::Connecting(connecting) = &self.phase
            && !connecting.verified
        {
            self.actions
                .push(Action::VerifyPeer(connecting.fingerprint.clone()));
        }
    }

    pub(super) fn peer_verified(&mut self, result: Result<(), Error>) {
        let Phase::Connecting(connecting) = &mut self.phase else {
            return;
        };
        match result {
            Ok(()) => {
                connecting.verified = true;
                self.note_step(|timings| &mut timings.connected);
                self.actions.push(Action::OpenMedia);
                self.check_ready();
            }
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn channel_opened(&mut self, channel: Channel) {
        if let Phase::Connecting(connecting) = &mut self.phase {
            match channel {
                Channel::Control => connecting.control = true,
                Channel::Data => connecting.data = true,
            }
            self.check_ready();
        }
    }

    fn check_ready(&mut self) {
        if let Phase::Connecting(connecting) = &self.phase
            && connecting.verified
            && connecting.control
            && connecting.data
        {
            self.phase = Phase::Ready(Ready::new(self.now));
            self.link_bound.end_draining();
            self.enter_ready();
            self.emit(MachineEvent::Status(Status::Ready));
            let text = match self.report_resumed() {
                true => "Reconnected to the model",
                false => "Connected to the model",
            };
            self.note_step(|timings| &mut timings.ready);
            self.report_progress(Progress::Complete(text));
            if self.receive_bound() != self.offered_receive_bitrate {
                self.apply_receive_bound();
            }
        }
    }
}

impl Connecting {
    /// Which step of connecting did not finish in time.
    pub(super) fn timeout_error(&self) -> Error {
        let missing = match (self.verified, self.control && self.data) {
            (false, _) => "no ICE/DTLS connection to the server's media port; is UDP blocked?",
            (true, _) => "the data channels did not open",
        };
        let limit = self.limit.as_secs();
        let text = format!("the peer connection was not up within {limit} s: {missing}");
        Error::gpu(Code::RequestTimeout, text).during("connect")
    }
}

/// The total of the intervals in which the platform's clients poll for the answer:
/// 200 ms, doubled, at most 15 s each, `attempts` of them. We poll more often, but
/// wait for the answer for this total as well.
pub(super) fn answer_limit(attempts: u32) -> Duration {
    (0..attempts.min(1000))
        .map(|n| Duration::from_millis(200u64.saturating_mul(1 << n.min(16)).min(15_000)))
        .sum()
}

type CompleteOffer = (String, Vec<sdp::OfferedSection>, Vec<TrackMapping>);

/// The offer as the server requires it, with the map from m-lines to tracks. The
/// m-lines are in the order of the plan, and the server binds inputs by that order.
fn complete_offer(
    offer: &str,
    plan: &[Track],
    bitrates: sdp::ReceiveBitrates,
) -> Result<CompleteOffer, Error> {
    let attributes = [&*chunking::attribute_line(), trailer::ATTRIBUTE];
    let text = sdp::prepare_offer(offer, &attributes, bitrates)?;
    let sections = sdp::offered_sections(&text)?;
    let media: Vec<_> = sections.iter().filter(|s| s.kind.is_some()).collect();
    if media.len() != plan.len() {
        let (sections, tracks) = (media.len(), plan.len());
        let text = format!("the offer has {sections} media sections for {tracks} tracks");
        return Err(Error::gpu(Code::Internal, text));
    }
    let mapping = media
        .iter()
        .zip(plan)
        .map(|(section, track)| TrackMapping {
            mid: section.mid.clone(),
            name: track.name.clone(),
            kind: track.kind,
            direction: track.direction,
        })
        .collect();
    Ok((text, sections, mapping))
}

/// Adds the tracks' names to an error that names them by mid, as SDP does.
fn name_tracks(mut error: Error, sections: &[sdp::OfferedSection], plan: &[Track]) -> Error {
    if error.code == Code::TrackRejected {
        let media = sections.iter().filter(|s| s.kind.is_some());
        let names: Vec<_> = media
            .zip(plan)
            .map(|(section, track)| format!("{} is track '{}'", section.mid, track.name))
            .collect();
        error.message = format!("{} ({})", error.message, names.join(", "));
    }
    error
}
