// SPDX-License-Identifier: MIT

//! Records and analyses the playground's tone: 440 Hz, and 880 Hz for the first tenth of every
//! second, see `sound.py`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::prelude::*;

use crate::{frames, pipeline::wait_until};

pub const RATE: u32 = 48_000;
/// The caps of a recorded pad.
pub const CAPS: &str = "audio/x-raw,format=S16LE,channels=1,rate=48000";

#[derive(Debug, Clone)]
pub struct AudioChunk {
    pub pts: gst::ClockTime,
    /// When the buffer passed the pad, by the clock of [`frames::Frame::seen`], in microseconds.
    pub seen: u32,
    pub samples: Vec<i16>,
}

impl AudioChunk {
    pub fn duration(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.samples.len() as u64 * 1_000_000_000 / u64::from(RATE))
    }
}

/// Records all audio that passes a pad.
#[derive(Debug, Clone, Default)]
pub struct AudioRecorder {
    chunks: Arc<Mutex<Vec<AudioChunk>>>,
}

impl AudioRecorder {
    /// The pad's caps must be [`CAPS`].
    pub fn watch(pad: &gst::Pad) -> Self {
        let listener = Self::default();
        let chunks = listener.chunks.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                let map = buffer.map_readable().expect("readable");
                let samples = map
                    .chunks_exact(2)
                    .map(|b| i16::from_le_bytes([b[0], b[1]]))
                    .collect();
                let pts = buffer.pts().expect("a PTS");
                let seen = frames::monotonic_us();
                chunks
                    .lock()
                    .unwrap()
                    .push(AudioChunk { pts, seen, samples });
            }
            gst::PadProbeReturn::Ok
        });
        listener
    }

    pub fn chunks(&self) -> Vec<AudioChunk> {
        self.chunks.lock().unwrap().clone()
    }

    /// Drops what was recorded.
    pub fn clear(&self) {
        self.chunks.lock().unwrap().clear();
    }

    pub fn seconds(&self) -> f64 {
        let chunks = self.chunks.lock().unwrap();
        let samples: usize = chunks.iter().map(|p| p.samples.len()).sum();
        samples as f64 / f64::from(RATE)
    }

    /// Waits until this many seconds are recorded; panics after `limit`.
    pub fn wait_for(&self, seconds: f64, limit: Duration) {
        wait_until("sound", limit, || self.seconds() >= seconds);
    }
}

/// The amplitude of a tone in the samples, 1.0 for full scale (Goertzel).
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

/// The length of an analysed part in samples: whole periods of all tones, and short enough that a
/// break in their phase affects few parts.
const ANALYSIS_LENGTH: usize = RATE as usize / 20;

/// Panics unless this is at least one second of the playground's tone: 440 Hz for nine tenths of
/// each second, 880 Hz for one tenth.
///
/// A model that is late omits 10 ms, which the server fills with silence before it encodes: some
/// parts may be broken, and phases are compared within one part only.
pub fn assert_playground_tone(samples: &[i16]) {
    assert!(
        samples.len() >= RATE as usize,
        "less than a second of sound"
    );
    // 0.1, minus the loss of a lossy codec.
    let is = |chunk: &[i16], hz, others: &[f64]| {
        let tone = amplitude(chunk, hz);
        (0.08..0.12).contains(&tone) && others.iter().all(|&o| amplitude(chunk, o) * 4.0 < tone)
    };
    let tone = |chunk: &[i16]| is(chunk, 440.0, &[220.0, 660.0, 880.0, 1320.0, 5000.0]);
    let mark = |chunk: &[i16]| is(chunk, 880.0, &[220.0, 440.0, 660.0, 1320.0, 5000.0]);
    let chunks = samples.chunks_exact(ANALYSIS_LENGTH);
    let count = chunks.len() as f64;
    let tones = chunks.clone().filter(|chunk| tone(chunk)).count() as f64 / count;
    let marks = chunks.filter(|chunk| mark(chunk)).count() as f64 / count;
    assert!(tones > 0.5, "440 Hz for {tones:.3} of the time");
    assert!(marks > 0.02, "880 Hz for {marks:.3} of the time");
    assert!(tones + marks > 0.7, "{:.3} is neither", 1.0 - tones - marks);
}

/// The longest sequence of chunks in which each begins where the previous one ends, within
/// `tolerance`.
pub fn longest_contiguous(chunks: &[AudioChunk], tolerance: Duration) -> &[AudioChunk] {
    let tolerance = gst::ClockTime::try_from(tolerance).unwrap();
    let joined = |before: &AudioChunk, now: &AudioChunk| {
        (before.pts + before.duration()).absdiff(now.pts) <= tolerance
    };
    let runs = chunks.chunk_by(joined);
    runs.max_by_key(|run| run.len()).unwrap_or_default()
}

/// Where 880 Hz follows on 440 Hz, to 1 or 2 ms.
#[derive(Debug, Clone, Copy)]
pub struct ToneMark {
    pub pts: gst::ClockTime,
    /// When the chunk that contains it passed the pad, in microseconds.
    pub seen: u32,
}

pub fn marks(chunks: &[AudioChunk]) -> Vec<ToneMark> {
    let tolerance = gst::ClockTime::from_mseconds(5);
    let joined = |before: &AudioChunk, now: &AudioChunk| {
        (before.pts + before.duration()).absdiff(now.pts) <= tolerance
    };
    chunks.chunk_by(joined).flat_map(marks_of).collect()
}

/// The window in which the two tones are distinguished, and the step between windows, in samples.
const WINDOW: usize = RATE as usize / 50;
const STEP: usize = RATE as usize / 1000;

/// The marks of contiguous chunks.
fn marks_of(chunks: &[AudioChunk]) -> Vec<ToneMark> {
    let samples: Vec<i16> = chunks.iter().flat_map(|p| p.samples.clone()).collect();
    // 1: a mark; -1: the tone; 0: neither.
    let colours: Vec<i8> = samples
        .windows(WINDOW)
        .step_by(STEP)
        .map(|window| {
            let (mark, tone) = (amplitude(window, 880.0), amplitude(window, 440.0));
            i8::from(mark > tone && mark > 0.04) - i8::from(tone > mark && tone > 0.04)
        })
        .collect();
    // Well before and well after the change, the tone is clear.
    let clear = WINDOW / STEP;
    let is =
        |colours: &[i8], what| colours.iter().filter(|&&look| look == what).count() > clear / 2;
    (clear..colours.len().saturating_sub(clear))
        .filter(|&n| colours[n] == 1 && colours[n - 1] != 1)
        .filter(|&n| is(&colours[n - clear..n], -1) && is(&colours[n..n + clear], 1))
        // The change is in the middle of the window.
        .filter_map(|n| place(chunks, n * STEP + WINDOW / 2))
        .collect()
}

fn place(chunks: &[AudioChunk], mut sample: usize) -> Option<ToneMark> {
    for chunk in chunks {
        if let Some(rest) = sample.checked_sub(chunk.samples.len()) {
            sample = rest;
            continue;
        }
        let before = sample as u64 * 1_000_000_000 / u64::from(RATE);
        return Some(ToneMark {
            pts: chunk.pts + gst::ClockTime::from_nseconds(before),
            seen: chunk.seen,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tone_mark_is_found_where_it_begins() {
        let samples = second(440.0).repeat(3);
        let chunks: Vec<_> = samples
            .chunks(RATE as usize / 100)
            .enumerate()
            .map(|(n, samples)| AudioChunk {
                pts: gst::ClockTime::from_mseconds(500 + 10 * n as u64),
                seen: 10_000 * (n as u32 + 1),
                samples: samples.to_vec(),
            })
            .collect();
        // The first has no tone before it.
        let found = marks(&chunks);
        assert_eq!(found.len(), 2, "{found:?}");
        for (mark, begin) in found.iter().zip([1500, 2500]) {
            let late = mark.pts.absdiff(gst::ClockTime::from_mseconds(begin));
            assert!(late < gst::ClockTime::from_mseconds(3), "{mark:?} {begin}");
        }
        // A gap makes no mark, and hides no complete one.
        assert_eq!(marks(&[&chunks[..90], &chunks[95..]].concat()).len(), 2);
        assert!(marks(&chunks[..90]).is_empty());
    }

    /// The playground's tone, with another frequency in the last tenth of the second.
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
    fn amplitude_of_tone_is_measured() {
        let second = second(440.0);
        let tone = &second[RATE as usize / 10..];
        assert!((amplitude(tone, 440.0) - 0.1).abs() < 0.001);
        assert!(amplitude(tone, 880.0) < 0.001);
    }

    #[test]
    fn playground_tone_with_short_break_passes() {
        let mut samples = second(440.0);
        assert_playground_tone(&samples);
        samples.splice(20_000..20_000, [0; 480]);
        assert_playground_tone(&samples);
    }

    #[test]
    #[should_panic(expected = "440 Hz for 0")]
    fn silence_fails_as_playground_tone() {
        assert_playground_tone(&[0; RATE as usize]);
    }

    #[test]
    #[should_panic(expected = "880 Hz for 0")]
    fn tone_without_mark_fails() {
        assert_playground_tone(&second(440.0)[RATE as usize / 10..].repeat(2));
    }

    #[test]
    #[should_panic(expected = "is neither")]
    fn tone_of_other_frequency_fails() {
        let mut samples = second(1000.0);
        samples[20_000..30_000].fill(0);
        assert_playground_tone(&samples);
    }
}
