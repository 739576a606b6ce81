// SPDX-License-Identifier: MIT

//! From nothing to a live session.

use std::time::Duration;

use super::{
    Action, Beginning, CONFLICT_LIMIT, CONNECT_LIMIT, Connecting, Machine, MachineEvent, NEVER,
    Negotiation, OFFER_LIMIT, Phase, PlannedTrack, Polling, Preparing, Progress, Status, Timings,
    emit, live::Live, polling_patience,
};
use crate::platform::{
    Code, Error,
    coordinator::{Ownership, SessionDescriptor},
    sdp,
    signaling::{IceServer, SdpAnswer, TrackMapping},
    trailer,
    wire::{Channel, chunking},
};

/// The first answer is usually there after some 160 ms.
const POLL_FIRST: Duration = Duration::from_millis(30);
const POLL_SLOWEST: Duration = Duration::from_secs(1);
/// How soon to ask again a server that is full and does not say when.
const RETRY_DEFAULT: Duration = Duration::from_secs(3);
const RETRY_SLOWEST: Duration = Duration::from_secs(10);
/// How often a server may fail to create a session, without a word of when.
const FAILURES: u32 = 3;
/// Whatever the server says: it is not flooded, and not forgotten.
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
        self.begin(now, out);
    }

    pub(super) fn begin(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.phase = Phase::Beginning(Beginning {
            asking: true,
            since: now,
            next: NEVER,
            give_up: self.policy.waiting_limit.map_or(NEVER, |limit| now + limit),
            conflict_give_up: None,
            last: None,
            refusals: 0,
        });
        out.push(Action::Begin);
    }

    pub(super) fn begun(
        &mut self,
        now: Duration,
        result: Result<(SessionDescriptor, Ownership), Error>,
        out: &mut Vec<Action>,
    ) {
        if let Phase::Beginning(b) = &mut self.phase {
            b.asking = false;
        }
        match (&mut self.phase, result) {
            (Phase::Beginning(_), Ok((descriptor, ownership))) => {
                self.obtained(now, descriptor, ownership, out);
            }
            (Phase::Beginning(_), Err(error)) => self.put_off(now, error, out),
            // Stopped meanwhile: what was created must still be ended.
            (Phase::Closing(_), result) => {
                if let Ok((descriptor, ownership)) = result {
                    self.lease = Some((descriptor.session_id, ownership));
                }
                let ending = self.end_session(out);
                self.close_step(out, |c| {
                    c.beginning = false;
                    c.ending |= ending;
                });
            }
            _ => {}
        }
    }

    /// The server has no session for us: now, or at all.
    fn put_off(&mut self, now: Duration, error: Error, out: &mut Vec<Action>) {
        let unreachable = matches!(error.code, Code::NetworkError | Code::RequestTimeout);
        if unreachable && self.restarts_until().is_some_and(|give_up| now < give_up) {
            let text = format!("Starting another session: {}", error.message);
            emit(out, MachineEvent::Progress(Progress::Continue(text)));
            let next = now + self.backoff();
            if let Phase::Beginning(b) = &mut self.phase {
                b.next = next;
            }
            return;
        }
        let Phase::Beginning(b) = &mut self.phase else {
            return;
        };
        let busy = match error.code {
            Code::RateLimited => true,
            // One that fails may do better in a moment.
            Code::ServerError => {
                error.retry_after.is_some() || (self.policy.queues && b.refusals < FAILURES)
            }
            Code::Conflict => {
                let give_up = *b.conflict_give_up.get_or_insert(now + CONFLICT_LIMIT);
                error.retry_after.is_some() && now < give_up
            }
            _ => false,
        };
        if !busy || now >= b.give_up {
            return self.fail(now, error, out);
        }
        let default = RETRY_DEFAULT.saturating_mul(1 << b.refusals.min(4));
        let wait = error.retry_after.unwrap_or(default.min(RETRY_SLOWEST));
        b.next = now + wait.clamp(RETRY_RANGE[0], RETRY_RANGE[1]);
        b.refusals += 1;
        let first = b.last.is_none();
        let text = format!("Waiting for a GPU: {}", error.message);
        b.last = Some(error);
        if first {
            emit(out, MachineEvent::Status(Status::Waiting));
        }
        emit(out, MachineEvent::Progress(Progress::Continue(text)));
    }

    pub(super) fn tick_beginning(&mut self, now: Duration, out: &mut Vec<Action>) {
        let Phase::Beginning(b) = &mut self.phase else {
            return;
        };
        if now >= b.give_up {
            let waited = (b.give_up - b.since).as_millis();
            let mut error = b.last.take().unwrap_or_else(|| {
                Error::api(Code::RequestTimeout, "the server did not answer").during("session")
            });
            error.message = format!(
                "{} (gave up after waiting-timeout, {waited} ms)",
                error.message
            );
            self.fail(now, error, out);
        } else if !b.asking && now >= b.next {
            b.asking = true;
            out.push(Action::Begin);
        }
    }

    fn obtained(
        &mut self,
        now: Duration,
        descriptor: SessionDescriptor,
        ownership: Ownership,
        out: &mut Vec<Action>,
    ) {
        let ownership = match self.was_ours(&descriptor.session_id) {
            true => Ownership::Created,
            false => ownership,
        };
        self.timings.session = Some(now - self.timings.start);
        self.lease = Some((descriptor.session_id.clone(), ownership));
        emit(
            out,
            MachineEvent::SessionId(Some(descriptor.session_id.clone())),
        );
        if self.policy.queues && !descriptor.is_ready() {
            return self.wait(now, &descriptor, out);
        }
        emit(out, MachineEvent::Status(Status::Waiting));
        self.prepare(now, descriptor, out);
    }

    pub(super) fn prepare(
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
        // Another session of the same model: what is taken and fed stays.
        let planned = !self.plan.is_empty();
        if planned && self.plan.iter().any(|plan| !tracks.contains(&plan.track)) {
            let text = "the tracks of the new session are not those of the one before";
            let error = Error::api(Code::TrackRejected, text).during("session");
            return self.fail(now, error, out);
        }
        if !planned {
            out.push(Action::Announce(tracks));
        }
        self.connection_id = self.policy.connection_id;
        self.gather(now + OFFER_LIMIT, descriptor, planned, out);
    }

    /// Collects what the offer needs.
    pub(super) fn gather(
        &mut self,
        deadline: Duration,
        descriptor: SessionDescriptor,
        planned: bool,
        out: &mut Vec<Action>,
    ) {
        self.connections += 1;
        if self.connection_id.is_none() {
            out.push(Action::Register);
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
            building: false,
            offer: None,
        });
        self.build(out);
    }

    pub(super) fn ice_servers(
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
                self.build(out);
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    pub(super) fn registered(
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

    pub(super) fn planned(
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
                for plan in &plan {
                    // A pad may have been linked or unlinked since.
                    self.wanted
                        .entry(plan.track.name.clone())
                        .or_insert(plan.flowing);
                }
                self.plan = plan;
                self.build(out);
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    pub(super) fn build(&mut self, out: &mut Vec<Action>) {
        let Phase::Preparing(p) = &mut self.phase else {
            return;
        };
        if !p.planned || p.building {
            return;
        }
        if let Some(ice_servers) = p.ice_servers.take() {
            p.building = true;
            self.transport = true;
            out.push(Action::Build { ice_servers });
        }
    }

    pub(super) fn offer_built(
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
            .expect_server(p.descriptor.server_version.as_deref());
        match complete_offer(offer, &self.plan) {
            Ok((sdp, sections, mapping)) => {
                self.timings.offered = Some(now - self.timings.start);
                self.phase = Phase::Offering(Negotiation {
                    connection_id,
                    sections,
                    deadline: now + self.limit(OFFER_LIMIT),
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
                    give_up: now + self.limit(polling_patience(self.policy.sdp_attempts)),
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
        if now >= polling.give_up {
            let patience = polling_patience(self.policy.sdp_attempts).as_secs_f32();
            let error = Error::api(
                Code::RequestTimeout,
                format!(
                    "the server did not answer the offer within {patience:.1} s \
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
                        let error = name_tracks(error, &negotiation.sections, &self.plan);
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
        self.requests.negotiated(negotiated.chunking);
        self.phase = Phase::Connecting(Connecting {
            deadline: now + self.limit(CONNECT_LIMIT),
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
            out.push(Action::VerifyIdentity(c.fingerprint.clone()));
        }
    }

    pub(super) fn verified(
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
                self.maybe_live(now, out);
            }
            Err(error) => self.fail(now, error, out),
        }
    }

    pub(super) fn channel_open(&mut self, now: Duration, channel: Channel, out: &mut Vec<Action>) {
        if let Phase::Connecting(c) = &mut self.phase {
            match channel {
                Channel::Control => c.control = true,
                Channel::Data => c.data = true,
            }
            self.maybe_live(now, out);
        }
    }

    fn maybe_live(&mut self, now: Duration, out: &mut Vec<Action>) {
        if let Phase::Connecting(c) = &self.phase
            && c.verified
            && c.control
            && c.data
        {
            self.phase = Phase::Live(Live::new(now));
            self.enter_live(now, out);
            emit(out, MachineEvent::Status(Status::Ready));
            let text = match self.resumed(now, out) {
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
    pub(super) fn describe_timeout(&self) -> Error {
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

type CompleteOffer = (String, Vec<sdp::OfferedSection>, Vec<TrackMapping>);

/// The offer as the server wants it, with the map from m-lines to tracks. The
/// m-lines are in the order of the plan; inputs are bound by that order.
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

/// Users know tracks by name, the SDP by mid: say both.
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
