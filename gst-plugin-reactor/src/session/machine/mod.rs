// SPDX-License-Identifier: MIT

//! The life of a session as a pure state machine: inputs and the time go in,
//! actions come out. The driver's task calls it. It does no I/O, holds no clock and
//! takes no lock, so every path through it is a unit test.

mod closing;
mod connect;
mod expiration;
mod joined;
mod ready;
mod receive_bitrate;
mod recover;
mod requests;
mod resumed_tracks;
mod state;
mod suspended;
mod trickle;
mod types;
mod waiting;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use requests::{CLIP_FAILED, READY_LIMIT, closed_error, disconnected_error, not_ready_error};
pub use state::{Machine, Timings};
pub use types::{Action, Input, LinkState, MachineEvent, Policy, Progress, Status, WireChoice};

use crate::platform::{Code, Error};
use state::{OFFER_LIMIT, Phase};

impl Machine {
    /// Handles one input. `now` is the time since any fixed moment, and never
    /// decreases.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Action> {
        self.now = now;
        match input {
            Input::Start => self.start(),
            Input::Stop => self.stop(),
            Input::Reconnect { token } => self.reconnect(token),
            Input::Disconnect { token, recoverable } => self.disconnect(token, recoverable),
            Input::Tick => self.tick(),
            Input::SessionOpened(result) => self.session_opened(result),
            Input::IceServersFetched(Ok(servers)) => self.ice_servers_fetched(servers),
            Input::ConnectionRegistered(Ok(id)) => self.connection_registered(id),
            Input::TracksPlanned(Ok(tracks)) => self.tracks_planned(tracks),
            Input::OfferCreated(Ok(offer)) => self.offer_created(offer),
            Input::IceServersFetched(Err(error))
            | Input::ConnectionRegistered(Err(error))
            | Input::TracksPlanned(Err(error))
            | Input::OfferCreated(Err(error)) => {
                if matches!(self.phase, Phase::Preparing(_)) {
                    self.fail(error);
                }
            }
            Input::OfferPosted(result) => self.offer_posted(result),
            Input::CandidateFound { mline, candidate } => self.candidate_found(mline, candidate),
            Input::CandidatesGathered => self.candidates_gathered(),
            Input::CandidatesPosted(result) => self.candidates_posted(result),
            Input::AnswerPolled(result) => self.answer_polled(result),
            Input::PeerConnected => self.peer_connected(),
            Input::PeerVerified(result) => self.peer_verified(result),
            Input::ChannelOpened(channel) => self.channel_opened(channel),
            Input::FrameReceived(channel, frame) => self.frame_received(channel, frame),
            Input::LastReceived(tracks) => self.media_received(&tracks),
            Input::LastArrival(at) => self.link_bound.arrived(at),
            Input::TransportFailed(error) => self.transport_failed(error, false),
            Input::ConnectionClosed(error) => self.transport_failed(error, true),
            Input::SetTrackPaused { track, paused } => {
                self.set_track_paused(track, paused);
            }
            Input::PauseTrack {
                token,
                track,
                paused,
            } => self.pause_track(token, track, paused),
            Input::SetMaxReceiveBitrate(bitrate) => self.set_max_receive_bitrate(bitrate),
            Input::LinkObserved(link) => self.link_observed(link),
            Input::Request {
                token,
                message,
                private,
            } => self.request(token, message, private),
            Input::SessionDescribed(result) if matches!(self.phase, Phase::Waiting(_)) => {
                self.queued_session_described(result);
            }
            Input::SessionDescribed(result) if matches!(self.phase, Phase::Suspended(_)) => {
                self.suspended_session_described(result);
            }
            Input::SessionDescribed(result) => self.session_described(result),
            Input::SessionEnded(result) => {
                if let Err(error) = &result
                    && matches!(self.phase, Phase::Closing(_))
                {
                    self.emit(MachineEvent::Warning(error.clone()));
                }
                self.update_closing(|c| {
                    c.ending_session = false;
                    c.error = result.err();
                });
            }
            Input::TransportClosed => {
                self.has_transport = false;
                self.update_closing(|c| c.transport = false);
            }
        }
        std::mem::take(&mut self.actions)
    }

    fn tick(&mut self) {
        self.requests.expire(self.now, &mut self.actions);
        if self.expire() {
            return;
        }
        self.post_candidates();
        match &mut self.phase {
            Phase::Idle | Phase::Closed => {}
            Phase::Suspended(_) => self.tick_suspended(),
            Phase::Opening(_) => self.tick_opening(),
            Phase::Waiting(_) => self.tick_waiting(),
            Phase::Preparing(preparing) if self.now >= preparing.deadline => {
                let limit = OFFER_LIMIT.as_secs();
                let text = format!("no offer could be made within {limit} s");
                self.fail(Error::api(Code::RequestTimeout, text).during("offer"));
            }
            Phase::Offering(negotiation) if self.now >= negotiation.deadline => {
                let limit = OFFER_LIMIT.as_secs();
                let text = format!("the server did not take the offer within {limit} s");
                self.fail(Error::api(Code::RequestTimeout, text).during("sdp_params"));
            }
            Phase::Polling(..) => self.tick_polling(),
            Phase::Connecting(connecting) if self.now >= connecting.deadline => {
                let error = self.trickle.explain(connecting.timeout_error());
                self.fail(error);
            }
            Phase::Ready(_) => self.tick_ready(),
            Phase::QueryingSession { .. } => self.tick_querying(),
            Phase::Closing(c) if self.now >= c.deadline => self.finish_closing(),
            _ => {}
        }
    }
}
