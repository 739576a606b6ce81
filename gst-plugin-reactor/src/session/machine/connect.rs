// SPDX-License-Identifier: MIT

//! The steps from [`Input::Start`](super::Input::Start) to a session that is ready:
//! the session, the offer, the answer, the connection.

use std::time::Duration;

use super::{
    state::{
        CONFLICT_LIMIT, CONNECT_LIMIT, Connecting, Machine, Negotiation, OFFER_LIMIT, Opening,
        Phase, Polling, Preparing, Ready, Timings,
    },
    types::{Action, MachineEvent, NEVER, PlannedTrack, Progress, Status, emit},
};
use crate::platform::{
    Code, Error,
    coordinator::{Ownership, SessionDescriptor},
    sdp,
    signaling::{IceServer, SdpAnswer, TrackMapping},
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

impl Machine {
    pub(super) fn start(&mut self, now: Duration, out: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        self.timings = Timings {
            start: now,
            ..Timings::default()
        };
        emit(out, MachineEvent::Status(Status::Connecting));
        emit(
            out,
            MachineEvent::Progress(Progress::Start("Asking for a session")),
        );
        self.open_session(now, out);
    }

    pub(super) fn open_session(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.phase = Phase::Opening(Opening {
            pending: true,
            since: now,
            next: NEVER,
            deadline: self.policy.waiting_limit.map_or(NEVER, |limit| now + limit),
            conflict_deadline: None,
            last_error: None,
            refusals: 0,
        });
        out.push(Action::OpenSession);
    }

    pub(super) fn session_opened(
        &mut self,
        now: Duration,
        result: Result<(SessionDescriptor, Ownership), Error>,
        out: &mut Vec<Action>,
    ) {
        if let Phase::Opening(b) = &mut self.phase {
            b.pending = false;
        }
        match (&mut self.phase, result) {
            (Phase::Opening(_), Ok((descriptor, ownership))) => {
                self.session_obtained(now, descriptor, ownership, out);
            }
            (Phase::Opening(_), Err(error)) => self.session_refused(now, error, out),
            // Stopped meanwhile: a session that was created must still be ended.
            (Phase::Closing(_), result) => {
                if let Ok((descriptor, ownership)) = result {
                    self.session = Some((descriptor.session_id, ownership));
                }
                let ending_session = self.end_session(out);
                self.update_closing(out, |c| {
                    c.opening_session = false;
                    c.ending_session |= ending_session;
                });
            }
            _ => {}
        }
    }

    /// The server refused to open a session: retries if it is only busy.
    fn session_refused(&mut self, now: Duration, error: Error, out: &mut Vec<Action>) {
        let unreachable = matches!(error.code, Code::NetworkError | Code::RequestTimeout);
        if unreachable
            && self
                .restart_deadline()
                .is_some_and(|deadline| now < deadline)
        {
            let text = format!("Starting another session: {}", error.message);
            emit(out, MachineEvent::Progress(Progress::Continue(text)));
            let next = now + self.next_backoff();
            if let Phase::Opening(b) = &mut self.phase {
                b.next = next;
            }
            return;
        }
        let Phase::Opening(b) = &mut self.phase else {
            return;
        };
        let busy = match error.code {
            Code::RateLimited => true,
            // A server that failed may succeed on a retry.
            Code::ServerError => {
                error.retry_after.is_some() || (self.policy.queues && b.refusals < MAX_FAILURES)
            }
            Code::Conflict => {
                let deadline = *b.conflict_deadline.get_or_insert(now + CONFLICT_LIMIT);
                error.retry_after.is_some() && now < deadline
            }
            _ => false,
        };
        if !busy || now >= b.deadline {
            return self.fail(now, error, out);
        }
        let default = RETRY_DEFAULT.saturating_mul(1 << b.refusals.min(4));
        let wait = error.retry_after.unwrap_or(default.min(RETRY_SLOWEST));
        b.next = now + wait.clamp(RETRY_RANGE[0], RETRY_RANGE[1]);
        b.refusals += 1;
        let first = b.last_error.is_none();
        let text = format!("Waiting for a GPU: {}", error.message);
        b.last_error = Some(error);
        if first {
            emit(out, MachineEvent::Status(Status::Waiting));
        }
        emit(out, MachineEvent::Progress(Progress::Continue(text)));
    }

    pub(super) fn tick_opening(&mut self, now: Duration, out: &mut Vec<Action>) {
        let Phase::Opening(b) = &mut self.phase else {
            return;
        };
        if now >= b.deadline {
            let waited = (b.deadline - b.since).as_millis();
            let mut error = b.last_error.take().unwrap_or_else(|| {
                Error::api(Code::RequestTimeout, "the server did not answer").during("session")
            });
            error.message = format!(
                "{} (gave up after waiting-timeout, {waited} ms)",
                error.message
            );
            self.fail(now, error, out);
        } else if !b.pending && now >= b.next {
            b.pending = true;
            out.push(Action::OpenSession);
        }
    }

    fn session_obtained(
        &mut self,
        now: Duration,
        descriptor: SessionDescriptor,
        ownership: Ownership,
        out: &mut Vec<Action>,
    ) {
        let ownership = match self.is_own_previous_session(&descriptor.session_id) {
            true => Ownership::Created,
            false => ownership,
        };
        self.timings.session = Some(now - self.timings.start);
        self.session = Some((descriptor.session_id.clone(), ownership));
        emit(
            out,
            MachineEvent::SessionId(Some(descriptor.session_id.clone())),
        );
        if self.policy.queues && !descriptor.is_ready() {
            return self.wait_for_gpu(now, &descriptor, out);
        }
        emit(out, MachineEvent::Status(Status::Waiting));
        self.prepare_connection(now, descriptor, out);
    }

    pub(super) fn prepare_connection(
        &mut self,
        now: Duration,
        descriptor: SessionDescriptor,
        out: &mut Vec<Action>,
    ) {
        self.timings.described = Some(now - self.timings.start);
        emit(out, MachineEvent::Described(descriptor.clone()));
        if !descriptor.is_ready() {
            let text = "the server describes the session without its tracks or its transport";
            let error = Error::api(Code::DecodeFailed, text).during("session");
            return self.fail(now, error, out);
        }
        emit(
            out,
            MachineEvent::Progress(Progress::Continue("Connecting to the model".into())),
        );
        let tracks = descriptor.capabilities.as_ref().map(|c| c.tracks.clone());
        let tracks = tracks.unwrap_or_default();
        // Another session of the model: the elements keep their tracks.
        let planned = !self.planned_tracks.is_empty();
        if planned
            && self
                .planned_tracks
                .iter()
                .any(|plan| !tracks.contains(&plan.track))
        {
            let text = "the tracks of the new session are not those of the one before";
            let error = Error::api(Code::TrackRejected, text).during("session");
            return self.fail(now, error, out);
        }
        if !planned {
            out.push(Action::AnnounceTracks(tracks));
        }
        self.connection_id = self.policy.connection_id;
        self.prepare_offer(now + OFFER_LIMIT, descriptor, planned, out);
    }

    /// Begins a connection: requests what its offer needs.
    pub(super) fn prepare_offer(
        &mut self,
        deadline: Duration,
        descriptor: SessionDescriptor,
        planned: bool,
        out: &mut Vec<Action>,
    ) {
        self.connections += 1;
        if self.connection_id.is_none() {
            out.push(Action::RegisterConnection);
        }
        if self.policy.ice_servers {
            out.push(Action::FetchIceServers);
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
        self.create_offer(out);
    }

    pub(super) fn ice_servers_fetched(
        &mut self,
        now: Duration,
        result: Result<Vec<IceServer>, Error>,
        out: &mut Vec<Action>,
    ) {
        let Phase::Preparing(p) = &mut self.phase else {
            return;
        };
        match result {
            Ok(servers) => {
                p.ice_servers = Some(servers);
                self.create_offer(out);
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    pub(super) fn connection_registered(
        &mut self,
        now: Duration,
        result: Result<u32, Error>,
        out: &mut Vec<Action>,
    ) {
        if !matches!(self.phase, Phase::Preparing(_)) {
            return;
        }
        match result {
            Ok(id) => {
                self.connection_id = Some(id);
                self.post_offer(now, out);
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    pub(super) fn tracks_planned(
        &mut self,
        now: Duration,
        result: Result<Vec<PlannedTrack>, Error>,
        out: &mut Vec<Action>,
    ) {
        let Phase::Preparing(p) = &mut self.phase else {
            return;
        };
        match result {
            Ok(plan) => {
                p.planned = true;
                for planned in &plan {
                    // A pad may have been linked or unlinked since.
                    self.paused_tracks
                        .entry(planned.track.name.clone())
                        .or_insert(planned.paused);
                }
                self.planned_tracks = plan;
                self.create_offer(out);
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    fn create_offer(&mut self, out: &mut Vec<Action>) {
        let Phase::Preparing(p) = &mut self.phase else {
            return;
        };
        if !p.planned || p.creating_offer {
            return;
        }
        if let Some(ice_servers) = p.ice_servers.take() {
            p.creating_offer = true;
            self.has_transport = true;
            out.push(Action::CreateOffer { ice_servers });
        }
    }

    pub(super) fn offer_created(
        &mut self,
        now: Duration,
        result: Result<String, Error>,
        out: &mut Vec<Action>,
    ) {
        let Phase::Preparing(p) = &mut self.phase else {
            return;
        };
        match result {
            Ok(offer) => {
                p.offer = Some(offer);
                self.post_offer(now, out);
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    fn post_offer(&mut self, now: Duration, out: &mut Vec<Action>) {
        let Phase::Preparing(p) = &mut self.phase else {
            return;
        };
        let (Some(connection_id), Some(offer)) = (self.connection_id, p.offer.as_deref()) else {
            return;
        };
        let resume = p.resume;
        self.requests
            .set_server_version(p.descriptor.server_version.as_deref());
        match complete_offer(offer, &self.planned_tracks) {
            Ok((sdp, sections, mapping)) => {
                self.timings.offered = Some(now - self.timings.start);
                self.phase = Phase::Offering(Negotiation {
                    connection_id,
                    sections,
                    deadline: now + self.step_limit(OFFER_LIMIT),
                });
                out.push(Action::PostOffer {
                    connection_id,
                    sdp,
                    mapping,
                    resume,
                });
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    pub(super) fn offer_posted(
        &mut self,
        now: Duration,
        result: Result<(), Error>,
        out: &mut Vec<Action>,
    ) {
        match (std::mem::replace(&mut self.phase, Phase::Idle), result) {
            (Phase::Offering(negotiation), Ok(())) => {
                let polling = Polling {
                    deadline: now + self.step_limit(answer_limit(self.policy.sdp_attempts)),
                    interval: POLL_FIRST,
                    next: Some(now + POLL_FIRST),
                };
                self.phase = Phase::Polling(negotiation, polling);
            }
            (phase @ Phase::Offering(_), Err(error)) => {
                self.phase = phase;
                self.fail(now, error, out);
            }
            (phase, _) => self.phase = phase,
        }
    }

    pub(super) fn tick_polling(&mut self, now: Duration, out: &mut Vec<Action>) {
        let Phase::Polling(negotiation, polling) = &mut self.phase else {
            return;
        };
        if now >= polling.deadline {
            let limit = answer_limit(self.policy.sdp_attempts).as_secs_f32();
            let error = Error::api(
                Code::RequestTimeout,
                format!(
                    "the server did not answer the offer within {limit:.1} s \
                     (max-sdp-attempts={}); it may be overloaded, or have refused the offer",
                    self.policy.sdp_attempts
                ),
            );
            self.fail(now, error.during("sdp_params"), out);
        } else if polling.next.is_some_and(|next| now >= next) {
            // The answer can be fetched once only: polls never overlap.
            polling.next = None;
            out.push(Action::PollAnswer {
                connection_id: negotiation.connection_id,
            });
        }
    }

    pub(super) fn answer_polled(
        &mut self,
        now: Duration,
        result: Result<Option<SdpAnswer>, Error>,
        out: &mut Vec<Action>,
    ) {
        let Phase::Polling(negotiation, polling) = &mut self.phase else {
            return;
        };
        match result {
            Ok(None) => {
                polling.next = Some(now + polling.interval);
                polling.interval = (polling.interval * 3 / 2).min(POLL_SLOWEST);
            }
            Ok(Some(answer)) => {
                if answer.connection_id.is_some() {
                    self.connection_id = answer.connection_id;
                }
                match sdp::parse_answer(&answer.sdp, &negotiation.sections) {
                    Ok(negotiated) => self.apply_answer(now, negotiated, out),
                    Err(error) => {
                        let error = name_tracks(error, &negotiation.sections, &self.planned_tracks);
                        self.fail(now, error.during("sdp_params"), out);
                    }
                }
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    fn apply_answer(
        &mut self,
        now: Duration,
        negotiated: sdp::NegotiatedAnswer,
        out: &mut Vec<Action>,
    ) {
        self.timings.answered = Some(now - self.timings.start);
        self.requests.set_chunking(negotiated.chunking);
        self.phase = Phase::Connecting(Connecting {
            deadline: now + self.step_limit(CONNECT_LIMIT),
            fingerprint: negotiated.fingerprint.clone(),
            verified: false,
            control: false,
            data: false,
        });
        out.push(Action::ApplyAnswer(negotiated));
    }

    pub(super) fn peer_connected(&mut self, out: &mut Vec<Action>) {
        if let Phase::Connecting(c) = &self.phase
            && !c.verified
        {
            out.push(Action::VerifyPeer(c.fingerprint.clone()));
        }
    }

    pub(super) fn peer_verified(
        &mut self,
        now: Duration,
        result: Result<(), Error>,
        out: &mut Vec<Action>,
    ) {
        let Phase::Connecting(c) = &mut self.phase else {
            return;
        };
        match result {
            Ok(()) => {
                c.verified = true;
                self.timings.connected = Some(now - self.timings.start);
                out.push(Action::OpenMedia);
                self.check_ready(now, out);
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    pub(super) fn channel_opened(
        &mut self,
        now: Duration,
        channel: Channel,
        out: &mut Vec<Action>,
    ) {
        if let Phase::Connecting(c) = &mut self.phase {
            match channel {
                Channel::Control => c.control = true,
                Channel::Data => c.data = true,
            }
            self.check_ready(now, out);
        }
    }

    fn check_ready(&mut self, now: Duration, out: &mut Vec<Action>) {
        if let Phase::Connecting(c) = &self.phase
            && c.verified
            && c.control
            && c.data
        {
            self.phase = Phase::Ready(Ready::new(now));
            self.enter_ready(now, out);
            emit(out, MachineEvent::Status(Status::Ready));
            let text = match self.report_resumed(now, out) {
                true => "Reconnected to the model",
                false => {
                    self.timings.ready = Some(now - self.timings.start);
                    "Connected to the model"
                }
            };
            emit(out, MachineEvent::Progress(Progress::Complete(text)));
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
        let limit = CONNECT_LIMIT.as_secs();
        Error::gpu(
            Code::RequestTimeout,
            format!("the peer connection was not up within {limit} s: {missing}"),
        )
        .during("connect")
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
fn complete_offer(offer: &str, plan: &[PlannedTrack]) -> Result<CompleteOffer, Error> {
    let text = sdp::prepare_offer(offer, &[&chunking::attribute_line(), trailer::ATTRIBUTE])?;
    let sections = sdp::offered_sections(&text)?;
    let media: Vec<_> = sections.iter().filter(|s| s.kind.is_some()).collect();
    if media.len() != plan.len() {
        return Err(Error::gpu(
            Code::Internal,
            format!(
                "the offer has {} media sections for {} tracks",
                media.len(),
                plan.len()
            ),
        ));
    }
    let mapping = media
        .iter()
        .zip(plan)
        .map(|(section, plan)| TrackMapping {
            mid: section.mid.clone(),
            name: plan.track.name.clone(),
            kind: plan.track.kind,
            direction: plan.track.direction,
        })
        .collect();
    Ok((text, sections, mapping))
}

/// Adds the tracks' names to an error that names them by mid, as SDP does.
fn name_tracks(mut error: Error, sections: &[sdp::OfferedSection], plan: &[PlannedTrack]) -> Error {
    if error.code == Code::TrackRejected {
        let media = sections.iter().filter(|s| s.kind.is_some());
        let names: Vec<_> = media
            .zip(plan)
            .map(|(section, plan)| format!("{} is track '{}'", section.mid, plan.track.name))
            .collect();
        error.message = format!("{} ({})", error.message, names.join(", "));
    }
    error
}
