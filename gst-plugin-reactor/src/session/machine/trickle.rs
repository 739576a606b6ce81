// SPDX-License-Identifier: MIT

//! Trickle ICE (RFC 8838): when this side's candidates are posted. The offer is
//! posted before they are gathered. A server that does not know the connection
//! yet might drop candidates, so they follow once the offer is accepted, also
//! before it is answered. The server's candidates are all in its answer.

use std::time::Duration;

use super::{
    state::{Machine, Phase},
    types::{Action, MachineEvent, NEVER},
};
use crate::platform::{Error, sdp, signaling::IceCandidate};

/// Candidates that are found within this time are posted together.
const BATCH_INTERVAL: Duration = Duration::from_millis(25);

/// The candidates of the present connection that the server has not received.
#[derive(Debug, Default)]
pub(super) struct Trickle {
    /// Those that the offer has.
    offered: Vec<String>,
    /// There is one that the offer does not have.
    found: bool,
    /// The mids of the offer's m-lines.
    mids: Vec<String>,
    /// The server has accepted the offer.
    accepted: bool,
    /// The m-line and the candidate.
    pending: Vec<(u32, String)>,
    /// When to post them.
    due: Duration,
    /// A request is pending; the next one waits, so that the end comes last.
    posting: bool,
    /// The transport has reported the end of gathering. Candidates that follow
    /// (webrtcbin 1.22 may report the end early) are posted nonetheless.
    gathered: bool,
    /// The end was posted.
    ended: bool,
    /// Why the server refused candidates.
    refused: Option<Error>,
}

impl Trickle {
    /// The offer is posted: its candidates need not be posted again.
    pub(super) fn set_offer(&mut self, offer: &str, sections: &[sdp::OfferedSection]) {
        let attributes = offer.lines().filter_map(|line| line.strip_prefix("a="));
        let candidates = attributes.filter(|value| value.starts_with("candidate:"));
        self.offered = candidates.map(str::to_owned).collect();
        self.mids = sections.iter().map(|s| s.mid.clone()).collect();
        let offered = &self.offered;
        self.pending.retain(|(_, found)| !offered.contains(found));
    }

    /// Whether there is an address at which this side could be reached.
    pub(super) fn has_candidates(&self) -> bool {
        self.found || !self.offered.is_empty()
    }

    /// Adds to an error of the connection that the server may not know all
    /// candidates.
    pub(super) fn explain(&self, mut error: Error) -> Error {
        if let Some(refused) = &self.refused {
            error.message = format!(
                "{}; the server did not take the ICE candidates: {}",
                error.message, refused.message
            );
        }
        error
    }

    /// The candidates with the mids of their m-lines.
    fn take_pending(&mut self) -> Vec<IceCandidate> {
        let mids = &self.mids;
        let found = self.pending.drain(..);
        let candidates = found.map(|(mline, candidate)| IceCandidate {
            candidate,
            sdp_mid: mids.get(mline as usize).cloned().unwrap_or_default(),
            sdp_mline_index: mline,
        });
        candidates.collect()
    }
}

impl Machine {
    pub(super) fn candidate_found(&mut self, mline: u32, candidate: String) {
        if !self.is_trickling() && !matches!(self.phase, Phase::Preparing(_) | Phase::Offering(_)) {
            return;
        }
        let trickle = &mut self.trickle;
        if trickle.offered.contains(&candidate) {
            return;
        }
        trickle.found = true;
        if trickle.pending.is_empty() {
            trickle.due = self.now + BATCH_INTERVAL;
        }
        trickle.pending.push((mline, candidate));
        self.post_candidates();
    }

    pub(super) fn candidates_gathered(&mut self) {
        self.trickle.gathered = true;
        self.post_candidates();
    }

    pub(super) fn offer_accepted(&mut self) {
        self.trickle.accepted = true;
        self.post_candidates();
    }

    pub(super) fn candidates_posted(&mut self, result: Result<(), Error>) {
        self.trickle.posting = false;
        if let Err(error) = result {
            // A connection that is up does not need them.
            let needed = matches!(self.phase, Phase::Polling(..) | Phase::Connecting(_));
            if needed && self.trickle.refused.is_none() {
                self.emit(MachineEvent::Warning(error.clone()));
                self.trickle.refused = Some(error);
            }
        }
        self.post_candidates();
    }

    /// Posts the candidates that wait if their time has come, or that there are no
    /// more.
    pub(super) fn post_candidates(&mut self) {
        let Some(connection_id) = self.connection_id.filter(|_| self.is_trickling()) else {
            return;
        };
        let trickle = &mut self.trickle;
        if !trickle.accepted || trickle.posting {
            return;
        }
        let is_end = trickle.pending.is_empty();
        let post = match is_end {
            true => trickle.gathered && !std::mem::replace(&mut trickle.ended, trickle.gathered),
            false => trickle.gathered || self.now >= trickle.due,
        };
        if post {
            trickle.posting = true;
            let candidates = trickle.take_pending();
            self.actions.push(Action::PostCandidates {
                connection_id,
                candidates,
                is_end,
            });
        }
    }

    /// When [`Self::post_candidates`] has something to do.
    pub(super) fn candidates_due(&self) -> Duration {
        let trickle = &self.trickle;
        let waits = trickle.accepted && !trickle.posting && !trickle.pending.is_empty();
        match waits && self.is_trickling() {
            true => trickle.due,
            false => NEVER,
        }
    }

    fn is_trickling(&self) -> bool {
        matches!(
            self.phase,
            Phase::Polling(..) | Phase::Connecting(_) | Phase::Ready(_)
        )
    }
}
