// SPDX-License-Identifier: MIT

//! Whether each input track is published: the server gives the right to send one to
//! one connection at a time. An element that leaves unpublishes its track. That a
//! connection itself is gone the server (3.10) notices only when libwebrtc's checks of
//! the address have failed, after some 6 s, whatever the client says at its end:
//! measured 6.6 s without a word, 7.2 s after `close_notify` of DTLS, 6.1 s after an
//! ABORT of SCTP, 6.1 s after both, 7.7 s after closing the channels and
//! `close_notify`, 5.7 s for the official client. So a refused track is requested
//! again for a while.

use std::time::Duration;

use super::Participants;
use crate::{
    platform::{
        Code, Error, Failure,
        track::{Direction, require_track},
        wire::ServerMessage,
    },
    session::{events::SessionEvent, replies::ReplyCallback},
};

/// For how long a refused track is requested again.
const RETRY_LIMIT: Duration = Duration::from_secs(10);
/// The interval of these requests.
pub(in crate::session) const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The codes of a track that another connection has: of 3.x and of 2.10.
const TAKEN: [&str; 2] = ["publish_refused", "PUBLISHER_SLOT_TAKEN"];

/// One track of an element that sends it.
#[derive(Default)]
pub(super) struct Publishing {
    state: PublishState,
    /// When the request was sent that is refused since then.
    since: Option<Duration>,
    /// To the application, which asked for it.
    replies: Vec<ReplyCallback>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum PublishState {
    #[default]
    Unpublished,
    Requested,
    /// Another connection has it; it will be requested again.
    Refused,
    Granted,
    /// It was requested on a connection that is lost.
    Lost,
    /// Unpublished by the application, or refused for good.
    Withdrawn,
}

/// What a reply of the server's means for a track.
#[derive(Debug, PartialEq)]
enum Outcome {
    Granted,
    Retry,
    Refused(Error),
}

impl Publishing {
    /// Whether the server may have given the track to us.
    pub(super) fn is_claimed(&self) -> bool {
        !matches!(
            self.state,
            PublishState::Unpublished | PublishState::Withdrawn
        )
    }

    pub(super) fn is_granted(&self) -> bool {
        self.state == PublishState::Granted
    }

    fn reply(&mut self, result: Result<(), Error>) {
        for reply in self.replies.drain(..) {
            reply.send(result.clone().map(|()| ServerMessage::Ack));
        }
    }

    /// The application wants it published.
    fn publish(&mut self, reply: ReplyCallback) {
        self.replies.push(reply);
        match self.state {
            PublishState::Granted => self.reply(Ok(())),
            PublishState::Withdrawn => self.state = PublishState::Unpublished,
            _ => {}
        }
    }

    /// The application, or the server for good, does not want it published;
    /// returns whether it was.
    fn withdraw(&mut self, why: Error) -> bool {
        self.since = None;
        self.reply(Err(why));
        std::mem::replace(&mut self.state, PublishState::Withdrawn) != PublishState::Withdrawn
    }

    /// The connection is lost.
    fn interrupt(&mut self) {
        self.since = None;
        self.state = match self.state {
            PublishState::Requested | PublishState::Granted => PublishState::Lost,
            PublishState::Refused => PublishState::Unpublished,
            state => state,
        };
        self.reply(Err(disconnected_error()));
    }

    /// Whether it is to be requested, and whether it may be published on an earlier
    /// connection; it counts as requested then.
    fn take_request(&mut self, now: Duration) -> Option<bool> {
        let lost = match self.state {
            PublishState::Unpublished => false,
            PublishState::Lost => true,
            _ => return None,
        };
        self.state = PublishState::Requested;
        self.since.get_or_insert(now);
        Some(lost)
    }

    fn retry(&mut self) {
        if self.state == PublishState::Refused {
            self.state = PublishState::Unpublished;
        }
    }

    /// `None` for a reply that was not waited for.
    fn replied(&mut self, now: Duration, result: Result<(), Error>) -> Option<Outcome> {
        if self.state != PublishState::Requested {
            return None;
        }
        let waited = now.saturating_sub(self.since.unwrap_or(now));
        Some(match result {
            Ok(()) => {
                self.since = None;
                self.state = PublishState::Granted;
                self.reply(Ok(()));
                Outcome::Granted
            }
            Err(error) if is_taken(&error) && waited < RETRY_LIMIT => {
                self.state = PublishState::Refused;
                Outcome::Retry
            }
            Err(mut error) => {
                error.failure = Some(Failure::TrackPublish);
                let error = error.during("publish_track");
                self.withdraw(error.clone());
                Outcome::Refused(error)
            }
        })
    }
}

fn is_taken(error: &Error) -> bool {
    matches!(&error.code, Code::Other(code) if TAKEN.contains(&&**code))
}

fn disconnected_error() -> Error {
    Error::gpu(Code::Disconnected, "the session is not connected").during("publish_track")
}

impl Participants {
    /// The connection is lost, and with it what was published on it.
    pub(in crate::session) fn interrupt(&mut self) {
        for publishing in self.all_publishing() {
            publishing.interrupt();
        }
    }

    fn all_publishing(&mut self) -> impl Iterator<Item = &mut Publishing> {
        let states = self.by_id.values_mut();
        states.flat_map(|state| {
            let publications = state.publications.iter_mut();
            publications.map(|(_, publishing)| publishing)
        })
    }

    /// Marks a track to be published for the application. Returns whether it is to
    /// be requested now.
    pub(in crate::session) fn publish(&mut self, track: &str, reply: ReplyCallback) -> bool {
        if let Err(error) = self.check_input(track) {
            reply.send(Err(error.during("publish_track")));
            return false;
        }
        if !self.ready {
            reply.send(Err(disconnected_error()));
            return false;
        }
        if let Some(publishing) = self.publishing(track) {
            publishing.publish(reply);
        }
        true
    }

    /// Marks a track as unpublished for the application. Returns whether it was
    /// published, or is to be.
    ///
    /// # Errors
    ///
    /// When no element sends it.
    pub(in crate::session) fn withdraw(&mut self, track: &str) -> Result<bool, Error> {
        self.check_input(track)
            .map_err(|error| error.during("unpublish_track"))?;
        let why = Error::gpu(Code::Aborted, "the application has unpublished the track");
        for participant in self.by_id.values_mut() {
            let Some(publishing) = participant.publishing(track) else {
                continue;
            };
            if publishing.withdraw(why.during("publish_track")) {
                (participant.events)(SessionEvent::Unpublished(track.to_owned()));
                return Ok(true);
            }
            break;
        }
        Ok(false)
    }

    /// Whether an element sends an input track of this name.
    fn check_input(&mut self, track: &str) -> Result<(), Error> {
        if self.publishing(track).is_some() {
            return Ok(());
        }
        let Some(tracks) = &self.tracks else {
            let text = "the session is not connected yet; its tracks are not known";
            return Err(Error::api(Code::InvalidState, text));
        };
        require_track(tracks.iter(), Direction::SendOnly, track)?;
        let text = format!("no element feeds the input track '{track}'");
        Err(Error::api(Code::InvalidState, text))
    }

    fn publishing(&mut self, track: &str) -> Option<&mut Publishing> {
        let mut states = self.by_id.values_mut();
        states.find_map(|state| state.publishing(track))
    }

    /// The tracks that are to be published, and whether each was published on a
    /// connection before. They count as requested from now on.
    pub(in crate::session) fn take_unpublished(&mut self, now: Duration) -> Vec<(String, bool)> {
        let states = self.by_id.values_mut();
        let publications = states.flat_map(|state| &mut state.publications);
        let taken = publications.filter_map(|(publication, publishing)| {
            let lost = publishing.take_request(now)?;
            Some((publication.track.name.clone(), lost))
        });
        taken.collect()
    }

    /// A refused track is to be requested again.
    pub(in crate::session) fn retry_publish(&mut self, track: &str) {
        if let Some(publishing) = self.publishing(track) {
            publishing.retry();
        }
    }

    /// Stores the server's reply to `publish-track` and sends it to the element.
    /// Returns whether the track is to be requested again, after the
    /// [`RETRY_INTERVAL`].
    pub(in crate::session) fn publish_replied(
        &mut self,
        now: Duration,
        track: &str,
        result: &Result<(), Error>,
    ) -> bool {
        let negotiated = self.negotiated.get(track).into_iter().flatten();
        let codecs: Vec<_> = negotiated.map(|(codec, _)| *codec).collect();
        for participant in self.by_id.values_mut() {
            let publishing = participant.publishing(track);
            let result = match publishing.and_then(|p| p.replied(now, result.clone())) {
                None => continue,
                Some(Outcome::Retry) => return true,
                Some(Outcome::Granted) => Ok(codecs.clone()),
                Some(Outcome::Refused(error)) => Err(error),
            };
            (participant.events)(SessionEvent::Published {
                track: track.to_owned(),
                result,
            });
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::session::replies::Reply;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn taken() -> Result<(), Error> {
        let code = Code::Other("publish_refused".into());
        Err(Error::gpu(code, "track already published"))
    }

    fn code(result: Result<ServerMessage, Error>) -> Option<String> {
        result.err().map(|error| error.code.to_string())
    }

    #[test]
    fn taken_track_is_requested_again_for_ten_seconds() {
        let mut track = Publishing::default();
        assert_eq!(track.take_request(seconds(100)), Some(false));
        for second in 101..110 {
            assert_eq!(
                track.replied(seconds(second), taken()),
                Some(Outcome::Retry)
            );
            assert_eq!(track.take_request(seconds(second)), None, "not at once");
            track.retry();
            assert_eq!(track.take_request(seconds(second)), Some(false));
        }
        let Some(Outcome::Refused(error)) = track.replied(seconds(110), taken()) else {
            panic!("{:?}", track.state);
        };
        assert_eq!(error.failure, Some(Failure::TrackPublish));
        assert_eq!(error.operation, Some("publish_track"));
        // It rests until the application asks for it, which begins anew.
        track.retry();
        assert_eq!(track.take_request(seconds(111)), None);
        track.publish(Reply::ignored());
        assert_eq!(track.take_request(seconds(120)), Some(false));
        assert_eq!(track.replied(seconds(129), taken()), Some(Outcome::Retry));
        track.retry();
        track.take_request(seconds(129));
        assert_eq!(track.replied(seconds(130), Ok(())), Some(Outcome::Granted));
    }

    #[test]
    fn other_failure_is_not_retried() {
        let mut track = Publishing::default();
        track.take_request(seconds(1));
        let error = Error::gpu(Code::RequestTimeout, "no reply");
        let outcome = track.replied(seconds(1), Err(error));
        assert!(matches!(outcome, Some(Outcome::Refused(_))), "{outcome:?}");
    }

    #[test]
    fn application_learns_what_came_of_it() {
        let (sender, replies) = mpsc::channel();
        let reply = || {
            let sender = sender.clone();
            Reply::new(move |result| sender.send(code(result)).unwrap())
        };
        let mut track = Publishing::default();
        track.take_request(seconds(1));
        // While it is refused nothing is decided.
        track.publish(reply());
        track.replied(seconds(2), taken());
        assert!(replies.try_recv().is_err());
        track.retry();
        track.take_request(seconds(3));
        track.replied(seconds(3), Ok(()));
        assert_eq!(replies.try_recv().unwrap(), None);
        // It is published already.
        track.publish(reply());
        assert_eq!(replies.try_recv().unwrap(), None);
        // The connection is lost before the server has replied.
        track.withdraw(Error::gpu(Code::Aborted, "unpublished"));
        track.publish(reply());
        track.take_request(seconds(4));
        track.interrupt();
        assert_eq!(replies.try_recv().unwrap().unwrap(), "DISCONNECTED");
        assert_eq!(track.replied(seconds(5), taken()), None);
        // On the next connection it may be ours still.
        assert_eq!(track.take_request(seconds(5)), Some(true));
        track.publish(reply());
        track.withdraw(Error::gpu(Code::Aborted, "unpublished"));
        assert_eq!(replies.try_recv().unwrap().unwrap(), "ABORTED");
    }
}
