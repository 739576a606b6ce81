// SPDX-License-Identifier: MIT

//! The private pipeline around webrtcbin, as the driver's task sees it:
//! [`Transport`] queues [`TransportCommand`]s for the transport thread (`thread`)
//! and never waits for it. Results come back as reports, from that thread, from
//! streaming threads and from webrtcbin's own thread.

mod address_watch;
mod bandwidth_estimator;
mod counters;
mod data_channels;
mod frame_trailer;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod h264_access_units;
mod handles;
mod ice;
mod jitter_latency;
mod keyframe_requests;
mod packet_train;
mod peer_connection;
mod picture_boundaries;
mod playout_delay;
mod receive_bandwidth;
mod redundancy;
mod redundancy_probe;
mod remb;
mod retransmission;
mod retransmission_timing;
mod round_trip;
mod rtp_clock;
mod rtp_probes;
mod rtp_receivers;
mod rtp_senders;
mod source_totals;
mod statistics;
mod task_pool;
mod thread;
mod transport_cc;
mod ulpfec;
mod vp9_superframes;

use std::{
    sync::mpsc,
    thread::Builder,
    time::{Duration, Instant},
};

use super::bridge::{TrackSenders, TrackTaps};
use crate::platform::{Code, Error, lock};
use handles::{ReportSender, TransportHandles};
use thread::TransportThread;

pub use handles::bridge_clock;
pub(super) use handles::{Reporter, TransportCommand, TransportConfig};

/// The driver's end of the transport thread. Dropping it closes the connection.
pub struct Transport(TransportHandles);

impl Transport {
    /// Starts the transport thread.
    ///
    /// # Errors
    ///
    /// `ResourceLimit` if the system starts no thread.
    pub(super) fn new(
        config: TransportConfig,
        epoch: Instant,
        reporter: Reporter,
        taps: TrackTaps,
        track_senders: TrackSenders,
    ) -> Result<Self, Error> {
        let (commands, receiver) = mpsc::channel();
        let handles =
            TransportHandles::new(commands, epoch, ReportSender(reporter), taps, track_senders);
        let thread = TransportThread::new(config, handles.clone());
        Builder::new()
            .name("reactor-peer".into())
            .spawn(move || thread.run(&receiver))
            .map_err(|error| Error::api(Code::ResourceLimit, format!("no thread: {error}")))?;
        Ok(Self(handles))
    }

    /// When media of each track was last received: the time since the `epoch` of
    /// [`Transport::new`].
    pub fn last_received(&self) -> Vec<(String, Duration)> {
        self.0.last_received.tracks()
    }

    /// When anything arrived last from the server's peer, likewise.
    pub fn last_arrival(&self) -> Option<Duration> {
        lock(&self.0.receive_bandwidth).last_arrival()
    }

    /// Queues a command; it is not carried out after [`Transport::close`].
    pub(super) fn send(&self, command: TransportCommand) {
        // A thread that has ended has reported `TransportClosed`.
        let _ = self.0.commands.send(command);
    }

    /// Stops media at once; the transport thread takes the connection down and
    /// reports `TransportClosed`.
    pub fn close(&self) {
        self.0.gate.close();
        self.send(TransportCommand::Close);
    }

    pub fn is_closed(&self) -> bool {
        self.0.gate.is_closed()
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.close();
    }
}
