// SPDX-License-Identifier: MIT

//! Listens to the playground's tone: 440 Hz, and 880 Hz for the first tenth
//! of every second, see `sound.py`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::prelude::*;

use crate::pipeline::wait_until;

pub const RATE: u32 = 48_000;
/// What a listened pad must carry.
pub const CAPS: &str = "audio/x-raw,format=S16LE,channels=1,rate=48000";

#[derive(Debug, Clone)]
pub struct Piece {
    pub pts: gst::ClockTime,
    pub samples: Vec<i16>,
}

impl Piece {
    pub fn duration(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.samples.len() as u64 * 1_000_000_000 / u64::from(RATE))
    }
}

/// Collects all sound that passes a pad.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    pieces: Arc<Mutex<Vec<Piece>>>,
}

impl Listener {
    /// The pad's stream must be of [`CAPS`].
    pub fn watch(pad: &gst::Pad) -> Self {
        let listener = Self::default();
        let pieces = listener.pieces.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                let map = buffer.map_readable().expect("readable");
                let samples = map
                    .chunks_exact(2)
                    .map(|b| i16::from_le_bytes([b[0], b[1]]))
                    .collect();
                let pts = buffer.pts().expect("a PTS");
                pieces.lock().unwrap().push(Piece { pts, samples });
            }
            gst::PadProbeReturn::Ok
        });
        listener
    }

    pub fn pieces(&self) -> Vec<Piece> {
        self.pieces.lock().unwrap().clone()
    }

    pub fn seconds(&self) -> f64 {
        let pieces = self.pieces.lock().unwrap();
        let samples: usize = pieces.iter().map(|p| p.samples.len()).sum();
        samples as f64 / f64::from(RATE)
    }

    /// Waits for so much sound; panics after `limit`.
    pub fn wait_for(&self, seconds: f64, limit: Duration) {
        wait_until("sound", limit, || self.seconds() >= seconds);
    }
}

/// The amplitude of a tone in the samples, 1 for full scale (Goertzel).
pub fn amplitude(samples: &[i16], hz: f64) -> f64 {
    let coefficient = 2.0 * (std::f64::consts::TAU * hz / f64::from(RATE)).cos();
    let (mut s1, mut s2) = (0.0, 0.0);
    for &sample in samples {
        let s0 = f64::from(sample) / 32768.0 + coefficient * s1 - s2;
        (s1, s2) = (s0, s1);
    }
    let power = s1 * s1 + s2 * s2 - coefficient * s1 * s2;
    2.0 * power.max(0.0).sqrt() / samples.len() as f64
}

/// Panics unless this is one second or more of the playground's tone.
pub fn assert_is_the_tone(samples: &[i16]) {
    let whole = samples.len() / RATE as usize * RATE as usize;
    assert!(whole > 0, "less than a second of sound");
    let samples = &samples[..whole];
    // 0.1 for nine tenths of the time, less what a lossy codec takes.
    let tone = amplitude(samples, 440.0);
    assert!((0.06..0.12).contains(&tone), "440 Hz is at {tone:.4}");
    for other in [220.0, 330.0, 550.0, 660.0, 880.0, 1320.0, 5000.0] {
        let level = amplitude(samples, other);
        assert!(
            level * 4.0 < tone,
            "{other} Hz is at {level:.4}, 440 at {tone:.4}"
        );
    }
}

/// The longest part in which each piece begins where the one before ends,
/// within `tolerance`.
pub fn longest_run(pieces: &[Piece], tolerance: Duration) -> &[Piece] {
    let tolerance = gst::ClockTime::try_from(tolerance).unwrap();
    let joined = |before: &Piece, now: &Piece| {
        (before.pts + before.duration()).absdiff(now.pts) <= tolerance
    };
    let runs = pieces.chunk_by(joined);
    runs.max_by_key(|run| run.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_has_its_amplitude() {
        let samples: Vec<i16> = (0..RATE)
            .map(|n| {
                let turn = std::f64::consts::TAU * 440.0 * f64::from(n) / f64::from(RATE);
                (turn.sin() * 3277.0) as i16
            })
            .collect();
        assert!((amplitude(&samples, 440.0) - 0.1).abs() < 0.001);
        assert!(amplitude(&samples, 880.0) < 0.001);
        assert_is_the_tone(&samples);
    }
}
