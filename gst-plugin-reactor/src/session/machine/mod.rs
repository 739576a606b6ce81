// SPDX-License-Identifier: MIT

//! The life of a session as a pure state machine: inputs and the time go in,
//! actions come out. The driver's task calls it. It does no I/O, holds no clock and
//! takes no lock, so every path through it is a unit test.

mod closing;
mod connect;
mod ready;
mod recover;
mod requests;
mod state;
mod types;
mod waiting;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use requests::CLIP_FAILED;
pub use state::{Machine, Timings};
pub use types::{Action, Input, MachineEvent, PlannedTrack, Policy, Progress, Status, WireChoice};

use crate::platform::{Code, Error};
use state::{OFFER_LIMIT, Phase};
use types::emit;

impl Machine {
    /// Handles one input. `now` is the time since any fixed moment, and never
    /// decreases.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Start => self.start(now, &mut out),
            Input::Stop => self.stop(now, &mut out),
            Input::Reconnect => self.reconnect(now, &mut out),
            Input::Disconnect { recoverable } => self.disconnect(now, recoverable, &mut out),
            Input::Tick => self.tick(now, &mut out),
            Input::SessionOpened(result) => self.session_opened(now, result, &mut out),
            Input::IceServersFetched(result) => self.ice_servers_fetched(now, result, &mut out),
            Input::ConnectionRegistered(result) => {
                self.connection_registered(now, result, &mut out)
            }
            Input::TracksPlanned(result) => self.tracks_planned(now, result, &mut out),
            Input::OfferCreated(result) => self.offer_created(now, result, &mut out),
            Input::OfferPosted(result) => self.offer_posted(now, result, &mut out),
            Input::AnswerPolled(result) => self.answer_polled(now, result, &mut out),
            Input::PeerConnected => self.peer_connected(&mut out),
            Input::PeerVerified(result) => self.peer_verified(now, result, &mut out),
            Input::ChannelOpened(channel) => self.channel_opened(now, channel, &mut out),
            Input::FrameReceived(channel, frame) => {
                self.frame_received(now, channel, frame, &mut out)
            }
            Input::LastReceived(at) => self.last_received(at),
            Input::TransportFailed(error) => self.transport_failed(now, error, &mut out),
            Input::SetTrackPaused { track, paused } => {
                self.set_track_paused(track, paused, &mut out);
            }
            Input::Request { token, message } => self.request(now, token, message, &mut out),
            Input::SessionDescribed(result) if matches!(self.phase, Phase::Waiting(_)) => {
                self.queued_session_described(now, result, &mut out);
            }
            Input::SessionDescribed(result) => self.session_described(now, result, &mut out),
            Input::SessionEnded(result) => {
                if let Err(error) = result
                    && matches!(self.phase, Phase::Closing(_))
                {
                    emit(&mut out, MachineEvent::Warning(error));
                }
                self.update_closing(&mut out, |c| c.ending_session = false);
            }
            Input::TransportClosed => {
                self.has_transport = false;
                self.update_closing(&mut out, |c| c.transport = false);
            }
        }
        out
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.requests.expire(now, out);
        match &mut self.phase {
            Phase::Idle | Phase::Suspended | Phase::Closed => {}
            Phase::Opening(_) => self.tick_opening(now, out),
            Phase::Waiting(_) => self.tick_waiting(now, out),
            Phase::Preparing(p) if now >= p.deadline => {
                let error = Error::api(
                    Code::RequestTimeout,
                    format!("no offer could be made within {} s", OFFER_LIMIT.as_secs()),
                );
                self.fail(now, error.during("offer"), out);
            }
            Phase::Offering(n) if now >= n.deadline => {
                let error = Error::api(
                    Code::RequestTimeout,
                    format!(
                        "the server did not take the offer within {} s",
                        OFFER_LIMIT.as_secs()
                    ),
                );
                self.fail(now, error.during("sdp_params"), out);
            }
            Phase::Polling(..) => self.tick_polling(now, out),
            Phase::Connecting(c) if now >= c.deadline => {
                let error = c.timeout_error();
                self.fail(now, error, out);
            }
            Phase::Ready(_) => self.tick_ready(now, out),
            Phase::QueryingSession(_) => self.tick_querying(now, out),
            Phase::Closing(c) if now >= c.deadline => self.finish_closing(out),
            _ => {}
        }
    }
}
