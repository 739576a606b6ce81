// SPDX-License-Identifier: MIT

//! The bound on received video while the session runs. The offer states it
//! (`b=AS`), which libwebrtc keeps its encoders within. Another one is stated in
//! messages on the connection (REMB) where that is enough, else in the offer of
//! another connection.

use super::{
    state::{Machine, Phase},
    types::Action,
};

/// What libwebrtc's estimate of the runtime 3.10.0 does not go below, whatever
/// messages say, in bits per second.
const MIN_ESTIMATE: u32 = 500_000;

impl Machine {
    pub(super) fn set_max_receive_bitrate(&mut self, bitrate: Option<u32>) {
        if std::mem::replace(&mut self.policy.max_receive_bitrate, bitrate) != bitrate {
            self.apply_max_receive_bitrate();
        }
    }

    /// Bounds what is received on a connection that is ready. Others are bounded
    /// by their offer, or when they are ready.
    pub(super) fn apply_max_receive_bitrate(&mut self) {
        if !matches!(self.phase, Phase::Ready(_)) {
            return;
        }
        let (wanted, offered) = (
            self.policy.max_receive_bitrate,
            self.offered_receive_bitrate,
        );
        match wanted {
            // The offer's bound is enough; one by messages is lifted.
            _ if wanted == offered => self.actions.push(Action::SetMaxReceiveBitrate(None)),
            Some(bitrate) if bitrate >= MIN_ESTIMATE && offered.is_none_or(|o| bitrate <= o) => {
                self.actions.push(Action::SetMaxReceiveBitrate(wanted));
            }
            _ => self.replace_connection(),
        }
    }
}
