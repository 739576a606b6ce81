// SPDX-License-Identifier: MIT

//! Clips trimmed to a window.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::{TrimResult, Window, fragment::Sample, init_section::InitSection, trimmer::Trimmer},
    media::*,
};
use crate::platform::Code;

/// The clip that the server gives for a window: complete segments of 2 s.
fn trimmed(recording: &Recording, start: f64, end: f64) -> (Saved, TrimResult) {
    let first = (start / 2.0).floor() as usize;
    let last = ((end / 2.0).ceil() as usize).min(recording.segments.len());
    let clip = recording.clip(first..last);
    let assembled = assemble(clip, Some((start, end))).unwrap();
    let cut = assembled.trimmed.clone().unwrap();
    assert_eq!(
        assembled.duration.nseconds() as f64 / 1e9,
        (cut.kept.end - cut.kept.start)
    );
    let file = save(assembled);
    file.plays();
    (file, cut)
}

/// The frames from `start` to `end`, in 1/30 s.
fn shows(recording: &Recording, file: &Saved, start: usize, end: usize) {
    let shown = file.frames();
    assert_eq!(shown.len(), end - start);
    assert_eq!(shown, recording.frames()[start..end]);
    let (begin, duration) = file.times();
    assert!(close(begin, 0.0), "{begin}");
    assert!(close(duration, (end - start) as f64 / 30.0), "{duration}");
}

#[test]
fn window_of_video_is_exact_to_frame() {
    for codecs in [H264, LIVE] {
        let recording = recording(codecs);
        for (start, end, first, last) in [
            (0.5, 3.7, 15, 111),
            (3.8, 6.3, 114, 189),
            // Borders of segments: nothing is hidden.
            (2.0, 4.0, 60, 120),
            // Within a frame: the nearest border.
            (4.51, 5.99, 135, 180),
        ] {
            let (file, cut) = trimmed(&recording, start, end);
            shows(&recording, &file, first, last);
            assert!(
                cut.exact_to() <= gst::ClockTime::from_useconds(16_667),
                "{cut:?}"
            );
            // From the keyframe on.
            let hidden = start - (start / 2.0).floor() * 2.0;
            assert!((cut.hidden_before.nseconds() as f64 / 1e9 - hidden).abs() < 0.017);
            // No more than reordering needs.
            assert!(
                cut.hidden_after < gst::ClockTime::from_mseconds(101),
                "{cut:?}"
            );
        }
    }
}

#[test]
fn window_of_audio_is_exact_to_sample() {
    let recording = recording(H264);
    let (file, cut) = trimmed(&recording, 3.8, 6.3);
    let seconds = cut.kept.end - cut.kept.start;
    let samples = (seconds * 48_000.0).round() as usize;
    assert!(
        heard(file.path()).abs_diff(samples) <= 1024,
        "{}",
        heard(file.path())
    );
    // The frames around the window are left out: at most a few at its start,
    // for the decoder.
    let stored = file.packets("a").len();
    assert!((117..=124).contains(&stored), "{stored}");
}

#[test]
fn groups_before_window_are_not_stored() {
    let recording = recording(H264);
    // Two needless segments before the window, and one after it.
    let assembled = assemble(recording.clip(0..4), Some((4.5, 5.5))).unwrap();
    let cut = assembled.trimmed.clone().unwrap();
    assert!(
        cut.hidden_before < gst::ClockTime::from_mseconds(520),
        "{cut:?}"
    );
    let file = save(assembled);
    file.plays();
    shows(&recording, &file, 135, 165);
    let stored = file.packets("v").len();
    assert!((45..=50).contains(&stored), "{stored}");
}

#[test]
fn window_of_audio_only_clip_is_exact() {
    let recording = recording("-vn -c:a aac");
    let file = saved(recording.clip(1..3), Some((2.5, 5.0)));
    let (start, duration) = file.times();
    assert!(
        close(start, 0.0) && close(duration, 2.5),
        "{start} {duration}"
    );
}

#[test]
fn window_beyond_clip_keeps_all_of_it() {
    let recording = recording(H264);
    let assembled = assemble(recording.clip(2..4), Some((4.5, 20.0))).unwrap();
    let cut = assembled.trimmed.clone().unwrap();
    assert_eq!((cut.requested.start, cut.requested.end), (4.5, 20.0));
    assert!((cut.kept.end - 8.0).abs() < 0.001, "{cut:?}");
    shows(&recording, &save(assembled), 135, 240);
}

#[test]
fn window_without_media_is_refused() {
    let recording = recording(H264);
    let error = assemble(recording.clip(0..1), Some((50.0, 60.0))).unwrap_err();
    assert_eq!(error.code.as_str(), "INVALID_PLAYLIST");
    for window in [(3.0, 3.0), (5.0, 4.0), (-1.0, 4.0), (0.0, f64::NAN)] {
        let error = assemble(Vec::new(), Some(window)).unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings);
    }
}

#[test]
fn samples_kept_until_window_count_with_their_overhead() {
    let recording = recording("-an -c:v libx264 -preset veryfast -bf 2");
    let header = InitSection::parse(&recording.init_section).unwrap();
    // One group of frames, which begins long before the window.
    let window = Window {
        start: 10_000.0,
        end: 10_001.0,
    };
    let frames = |count| {
        let frame = |n: i64| Sample {
            data: Bytes::new(),
            dts: n * 512,
            pts: n * 512,
            duration: 512,
            sync: n == 0,
        };
        vec![(0..count).map(frame).collect()]
    };
    let pushed = |count| Trimmer::new(window, &header).push(frames(count), Duration::ZERO);
    assert!(pushed(1000).is_ok());
    let error = pushed(70_000).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMedia);
}

#[test]
fn frames_without_their_references_are_left_out() {
    let recording = recording("-an -c:v libx264 -preset veryfast -bf 2");
    let header = InitSection::parse(&recording.init_section).unwrap();
    // A keyframe every 30 frames, and after each two that are presented before
    // it and need the last ones of the group before.
    let frame = |n: i64| {
        let shown = match n % 30 {
            0 => n + 2,
            1 | 2 => n - 1,
            _ => n,
        };
        Sample {
            data: Bytes::new(),
            dts: n * 512,
            pts: shown * 512,
            duration: 512,
            sync: n % 30 == 0,
        }
    };
    let window = Window {
        start: 1.5,
        end: 2.0,
    };
    let mut trimmer = Trimmer::new(window, &header);
    let samples = vec![(0..120).map(frame).collect()];
    let mut kept = trimmer.push(samples, Duration::ZERO).unwrap();
    kept[0].extend(trimmer.finish().remove(0));
    let shown: Vec<_> = kept[0].iter().map(|sample| sample.pts / 512).collect();
    assert_eq!(shown[..3], [32, 33, 34]);
    assert_eq!(shown.last(), Some(&59));
    assert_eq!(trimmer.borders(), Some((1_500_000_000, 2_000_000_000)));
}
