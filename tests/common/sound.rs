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

/// What is looked at by itself: whole turns of all tones, and too short for a
/// break in their phase to be in many.
const PIECE: usize = RATE as usize / 20;

/// Panics unless this is one second or more of the playground's tone: 440 Hz
/// for nine tenths of each second, 880 Hz for one.
///
/// A model that is late leaves 10 ms out, which the server fills with silence
/// before it encodes: some pieces may be broken, and no phase is compared over
/// more than one.
pub fn assert_is_the_tone(samples: &[i16]) {
    assert!(
        samples.len() >= RATE as usize,
        "less than a second of sound"
    );
    // 0.1, less what a lossy codec takes.
    let is = |piece: &[i16], hz, others: &[f64]| {
        let tone = amplitude(piece, hz);
        (0.08..0.12).contains(&tone) && others.iter().all(|&o| amplitude(piece, o) * 4.0 < tone)
    };
    let tone = |piece: &[i16]| is(piece, 440.0, &[220.0, 660.0, 880.0, 1320.0, 5000.0]);
    let mark = |piece: &[i16]| is(piece, 880.0, &[220.0, 440.0, 660.0, 1320.0, 5000.0]);
    let pieces = samples.chunks_exact(PIECE);
    let count = pieces.len() as f64;
    let tones = pieces.clone().filter(|piece| tone(piece)).count() as f64 / count;
    let marks = pieces.filter(|piece| mark(piece)).count() as f64 / count;
    assert!(tones > 0.5, "440 Hz for {tones:.3} of the time");
    assert!(marks > 0.02, "880 Hz for {marks:.3} of the time");
    assert!(tones + marks > 0.7, "{:.3} is neither", 1.0 - tones - marks);
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

    /// The playground's tone, and the last tenth of each second at another.
    fn second(last: f64) -> Vec<i16> {
        let hz = |n: u32| match n * 10 / RATE {
            0 => 880.0,
            9 => last,
            _ => 440.0,
        };
        let turn = |n| std::f64::consts::TAU * hz(n) * f64::from(n) / f64::from(RATE);
        (0..RATE).map(|n| (turn(n).sin() * 3277.0) as i16).collect()
    }

    #[test]
    fn a_tone_has_its_amplitude() {
        let second = second(440.0);
        let tone = &second[RATE as usize / 10..];
        assert!((amplitude(tone, 440.0) - 0.1).abs() < 0.001);
        assert!(amplitude(tone, 880.0) < 0.001);
    }

    #[test]
    fn the_tone_may_have_a_break() {
        let mut samples = second(440.0);
        assert_is_the_tone(&samples);
        samples.splice(20_000..20_000, [0; 480]);
        assert_is_the_tone(&samples);
    }

    #[test]
    #[should_panic(expected = "440 Hz for 0")]
    fn silence_is_not_the_tone() {
        assert_is_the_tone(&[0; RATE as usize]);
    }

    #[test]
    #[should_panic(expected = "880 Hz for 0")]
    fn the_mark_is_part_of_the_tone() {
        assert_is_the_tone(&second(440.0)[RATE as usize / 10..].repeat(2));
    }

    #[test]
    #[should_panic(expected = "is neither")]
    fn another_tone_is_not_the_tone() {
        let mut samples = second(1000.0);
        samples[20_000..30_000].fill(0);
        assert_is_the_tone(&samples);
    }
}
