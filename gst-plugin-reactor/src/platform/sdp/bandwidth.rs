// SPDX-License-Identifier: MIT

//! What the offer says of the bitrates that the server may send: `b=AS` (RFC 8866,
//! 5.8) for the video of a section, and format parameters of libwebrtc's for its
//! estimate of the whole connection. Pure; `offer` asks it for the lines to add.

use super::{media::Codec, offer::OfferedSection};
use crate::platform::track::{Direction, Kind};

/// More than Opus takes with its RTP headers: 44 kbit/s for mono, 80 for stereo
/// (measured, runtime 3.10.0).
const AUDIO_BITRATE: u32 = 90_000;

/// All in bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveBitrates {
    /// The server's estimate of the connection begins with it.
    pub start: Option<u32>,
    /// The bound on all received video together.
    pub max_video: Option<u32>,
}

/// The lines to add to the sections of one offer.
pub(super) struct BandwidthLines {
    /// For each section of received video.
    video: Option<String>,
    /// For each codec of each section, without a separator.
    parameters: String,
}

impl BandwidthLines {
    pub(super) fn new(bitrates: ReceiveBitrates, sections: &[OfferedSection]) -> Self {
        let received = |kind| {
            let of_kind = sections.iter().filter(|section| receives(section, kind));
            u32::try_from(of_kind.count()).unwrap_or(u32::MAX)
        };
        let audio = AUDIO_BITRATE.saturating_mul(received(Kind::Audio));
        // libwebrtc applies the parameters of each section to the whole
        // connection, and the last section wins. Without them in the sections of
        // audio it probes the path with 10 Mbit/s for 30 ms as soon as video is
        // resumed, which fills the link's queue with 0.6 s of packets (measured,
        // runtime 3.10.0, with a bound of 300 kbit/s).
        let parameters = [
            ("x-google-start-bitrate", bitrates.start),
            (
                "x-google-max-bitrate",
                bitrates.max_video.map(|max| max.saturating_add(audio)),
            ),
        ];
        let parameters = parameters.into_iter().filter_map(|(name, bitrate)| {
            // 0 would mean that there is none.
            Some(format!("{name}={}", (bitrate? / 1000).max(1)))
        });
        let share = |max: u32| max / received(Kind::Video).max(1);
        let line = |max| format!("b=AS:{}", (share(max) / 1000).max(1));
        Self {
            video: bitrates.max_video.map(line),
            parameters: parameters.collect::<Vec<_>>().join(";"),
        }
    }

    /// The section's own line, which takes the place of others of its kind.
    pub(super) fn of_section(&self, section: Option<&OfferedSection>) -> Option<&str> {
        let receives = section.is_some_and(|section| receives(section, Kind::Video));
        self.video.as_deref().filter(|_| receives)
    }

    /// What follows a line of a section: at its end, and as the next line.
    pub(super) fn after(
        &self,
        line: &str,
        section: Option<&OfferedSection>,
    ) -> (String, Option<String>) {
        let nothing = (String::new(), None);
        if self.parameters.is_empty() {
            return nothing;
        }
        let codec = |attribute: &str| {
            let (payload, _) = line.strip_prefix(attribute)?.split_once(' ')?;
            let payload: u8 = payload.parse().ok()?;
            let mut codecs = section?.codecs.iter();
            codecs.find(|codec| codec.payload == payload)
        };
        let has_parameters = |codec: &Codec| !codec.fmtp.is_empty();
        match (codec("a=rtpmap:"), codec("a=fmtp:")) {
            (Some(codec), _) if !has_parameters(codec) => {
                let line = format!("a=fmtp:{} {}", codec.payload, self.parameters);
                (String::new(), Some(line))
            }
            (_, Some(_)) => (format!(";{}", self.parameters), None),
            _ => nothing,
        }
    }
}

fn receives(section: &OfferedSection, kind: Kind) -> bool {
    (section.kind, section.direction) == (Some(kind), Some(Direction::RecvOnly))
}
