// SPDX-License-Identifier: MIT

//! The properties that only this element has. Read and written on the
//! application's threads.

use crate::{
    platform::track::Kind,
    property::{PLAYING, settings},
    session::bitrate_allocator::BitrateLimits,
};

/// Of audio, in bit/s.
const AUDIO_BITRATE: u32 = 64_000;
/// The range of video bitrates, in bit/s.
const BITRATE_RANGE: (u32, u32) = (50_000, 100_000_000);

settings! {
    #[derive(Debug, Clone)]
    pub struct SinkSettings {
        video_encoder: Option<String> = None, "video-encoder", "Video encoder",
            "Factory of the video encoder to use; the best that is installed if not set";
        audio_encoder: Option<String> = None, "audio-encoder", "Audio encoder",
            "Factory of the audio encoder to use; the best that is installed if not set";
        /// A camera with 640x360 at 30 frames/s looks good with 2 Mbit/s.
        start_bitrate: u32 = 2_000_000, "start-bitrate", "Start bitrate",
            "Of encoded video at first, in bits per second",
            range: BITRATE_RANGE;
        min_bitrate: u32 = 150_000, "min-bitrate", "Minimum bitrate",
            "Below which a lossy network does not bring encoded video, in bits per second",
            range: BITRATE_RANGE, flags: PLAYING;
        /// The server's own encoder may use 10 Mbit/s.
        max_bitrate: u32 = 8_000_000, "max-bitrate", "Maximum bitrate",
            "Above which a clean network does not bring encoded video, in bits per second",
            range: BITRATE_RANGE, flags: PLAYING;
    }
}

impl SinkSettings {
    /// The factory of the encoder to use, if the user names one.
    pub fn encoder_name(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::Video => self.video_encoder.as_deref(),
            Kind::Audio => self.audio_encoder.as_deref(),
        }
    }

    pub fn bitrate_limits(&self, kind: Kind) -> BitrateLimits {
        let (min, start, max) = match kind {
            Kind::Video => (self.min_bitrate, self.start_bitrate, self.max_bitrate),
            Kind::Audio => (AUDIO_BITRATE, AUDIO_BITRATE, AUDIO_BITRATE),
        };
        BitrateLimits { min, start, max }
    }
}
