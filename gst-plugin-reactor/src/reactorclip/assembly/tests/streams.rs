// SPDX-License-Identifier: MIT

//! Media, times and codecs of untrimmed clips.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::{
        fragment::Sample, init_section::InitSection, presentation_timeline::PresentationTimeline,
    },
    media::*,
};

use crate::platform::Code;

/// Audio may end up to a frame after the video.
const AUDIO_FRAME: f64 = 1024.0 / 48_000.0;

fn whole(file: &Saved, seconds: f64) {
    let (start, duration) = file.times();
    assert!(close(start, 0.0), "{start}");
    let over = duration - seconds;
    assert!((-0.000_1..AUDIO_FRAME).contains(&over), "{duration}");
}

#[test]
fn recording_complete_makes_ordinary_file() {
    let recording = recording(H264);
    let file = saved(recording.clip(0..4), None);
    let layout = layout(&file.bytes);
    let moov = layout.iter().position(|kind| kind == "moov").unwrap();
    let media = layout.iter().position(|kind| kind == "mdat").unwrap();
    assert!(moov < media, "{layout:?}");
    assert!(!layout.contains(&"moof".into()), "{layout:?}");
    assert!(
        [b"mp42", b"isom"]
            .map(|b| &b[..])
            .contains(&&file.bytes[8..12])
    );
    whole(&file, 8.0);
    assert_eq!(file.frames(), frames(&recording.fragmented(0..4)));
    assert_eq!(file.frames().len(), 240);
}

#[test]
fn clip_from_middle_begins_at_0_in_sync() {
    let recording = recording(H264);
    let file = saved(recording.clip(2..4), None);
    whole(&file, 4.0);
    let source = recording.fragmented(2..4);
    assert_eq!(file.frames(), frames(&source));
    // The distance between the first video frame and each audio frame, in
    // samples, is unchanged.
    let distances = |video: Vec<(f64, f64)>, audio: Vec<(f64, f64)>| -> Vec<i64> {
        let first = video.first().unwrap().0;
        let times = audio.iter().map(|(at, _)| (at - first) * 48_000.0);
        times.map(|samples| samples.round() as i64).collect()
    };
    let was = distances(packets(&source, "v"), packets(&source, "a"));
    let is = distances(file.packets("v"), file.packets("a"));
    assert!(was.len() > 180, "{}", was.len());
    assert_eq!(is, was);
}

#[test]
fn recording_of_runtime_keeps_each_frame() {
    let recording = recording(LIVE);
    let file = saved(recording.clip(1..3), None);
    whole(&file, 4.0);
    assert_eq!(file.frames(), frames(&recording.fragmented(1..3)));
    assert!(close(file.packets("v")[0].0, 0.0));
}

#[test]
fn clip_with_one_track_is_saved() {
    let silent = recording("-an -c:v libx264 -preset veryfast -bf 2");
    let file = saved(silent.clip(1..4), None);
    assert_eq!(file.times(), (0.0, 6.0));
    assert_eq!(file.frames(), frames(&silent.fragmented(1..4)));

    let blind = recording("-vn -c:a aac");
    let file = saved(blind.clip(0..2), None);
    let (start, duration) = file.times();
    assert!(close(start, 0.0), "{start}");
    assert!((duration - 4.0).abs() < 2.0 * AUDIO_FRAME, "{duration}");
    assert_eq!(
        file.packets("a").len(),
        packets(&blind.fragmented(0..2), "a").len()
    );
}

#[test]
fn codecs_of_mp4_are_saved() {
    let opus = "-c:a libopus -strict -2";
    for video in [
        "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params log-level=none",
        "-c:v libvpx-vp9 -deadline realtime -cpu-used 8",
        "-c:v libaom-av1 -usage realtime -cpu-used 8",
    ] {
        let recording = made(&format!("{video} {opus}"), "320x180", 4);
        let file = saved(recording.clip(0..2), None);
        let (start, duration) = file.times();
        assert!(close(start, 0.0), "{video}: {start}");
        assert!((duration - 4.0).abs() < 0.05, "{video}: {duration}");
        let expected = frames(&recording.fragmented(0..2));
        assert_eq!(file.frames(), expected, "{video}");
        assert_eq!(expected.len(), 120, "{video}");
    }
}

#[test]
fn codec_outside_mp4_reports_its_name() {
    let recording = made("-an -c:v mjpeg", "320x180", 2);
    let error = assemble(recording.clip(0..1), None).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMedia);
    assert!(error.message.contains("image/jpeg"), "{error}");
    assert!(error.message.contains("format=fragmented"), "{error}");
}

#[test]
fn parts_after_discontinuity_continue_timeline() {
    let recording = recording(H264);
    let mut clip = recording.clip(2..4);
    // Backwards, and with the initialization section again.
    clip.push(discontinuous(segment(&recording.segments[1])));
    clip.push(init_section(&recording.init_section));
    clip.push(segment(&recording.segments[3]));
    let file = saved(clip, None);
    let (start, duration) = file.times();
    assert!(close(start, 0.0), "{start}");
    assert!((duration - 8.0).abs() < 0.03, "{duration}");
    let mut expected = frames(&recording.fragmented(2..4));
    expected.extend(frames(&recording.fragmented(1..2)));
    expected.extend(frames(&recording.fragmented(3..4)));
    assert_eq!(file.frames(), expected);
    // Without a gap, and with audio in sync with video after each part.
    let (video, audio) = (file.packets("v"), file.packets("a"));
    for times in [&video, &audio] {
        let steps = times.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(steps.clone().all(|step| step > 0.0 && step < 0.08));
    }
    let ends = |times: &[(f64, f64)]| times.last().unwrap().0;
    assert!((ends(&video) - ends(&audio)).abs() < 0.05);
}

#[test]
fn part_with_more_reordering_is_decoded_later() {
    let recording = recording("-an -c:v libx264 -preset veryfast -bf 2");
    let header = InitSection::parse(&recording.init_section).unwrap();
    let frames = |ahead: i64| -> Vec<Vec<Sample>> {
        let frames = (0..5).map(|n| Sample {
            data: Bytes::new(),
            dts: n * 512,
            pts: n * 512 + ahead,
            duration: 512,
            sync: n == 0,
        });
        vec![frames.collect()]
    };
    let mut timeline = PresentationTimeline::new(&header);
    let (mut first, mut second) = (frames(0), frames(1024));
    timeline.append(&mut first, false, Duration::ZERO).unwrap();
    timeline.append(&mut second, true, Duration::ZERO).unwrap();
    let (last, next) = (first[0].last().unwrap(), second[0].first().unwrap());
    assert_eq!(last.dts, 4 * 512);
    assert_eq!(next.dts, 4 * 512 + 1);
    assert!(next.pts >= last.pts + 512);
}

#[test]
fn parameters_in_band_may_change() {
    let codec = |preset: &str| {
        let more = "log-level=none:repeat-headers=1";
        format!("-an -c:v libx265 -preset {preset} -tag:v hev1 -x265-params {more}")
    };
    let first = made(&codec("ultrafast"), "320x180", 2);
    let second = made(&codec("fast"), "320x180", 2);
    let mut clip = first.clip(0..1);
    clip.extend(second.clip(0..1));
    assert_ne!(first.init_section, second.init_section);
    let file = saved(clip, None);
    let mut expected = frames(&first.fragmented(0..1));
    expected.extend(frames(&second.fragmented(0..1)));
    assert_eq!(file.frames(), expected);
}

#[test]
fn init_section_changing_media_is_refused() {
    let (small, large) = (made(LIVE, "320x180", 2), made(LIVE, "640x360", 2));
    let mut clip = small.clip(0..1);
    clip.push(init_section(&large.init_section));
    let error = assemble(clip, None).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMedia);
    for what in ["width", "codec_data", "format=fragmented"] {
        assert!(error.message.contains(what), "{error}");
    }

    let silent = made("-an -c:v libx264 -preset veryfast", "320x180", 2);
    let mut clip = small.clip(0..1);
    clip.push(init_section(&silent.init_section));
    let error = assemble(clip, None).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMedia);
    assert!(error.message.contains("tracks"), "{error}");
}

#[test]
fn file_plays_in_gstreamer() {
    let recording = recording(H264);
    let file = saved(recording.clip(1..3), Some((2.5, 5.0)));
    assert_eq!(file.frames().len(), 75);
    let launch = format!(
        "filesrc location={} ! qtdemux name=d d.video_0 ! h264parse ! avdec_h264 ! \
         fakesink name=sink",
        file.path().display()
    );
    assert_eq!(count_shown(gst::parse::launch(&launch).unwrap()), 75);
}

/// The number of frames within the edit list.
fn count_shown(pipeline: gst::Element) -> usize {
    use gst::prelude::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let shown = Arc::new(AtomicUsize::new(0));
    let counter = shown.clone();
    let bin = pipeline.downcast::<gst::Pipeline>().unwrap();
    let sink = bin.by_name("sink").unwrap().static_pad("sink").unwrap();
    sink.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
        let segment = segment.segment().downcast_ref::<gst::ClockTime>().cloned();
        let at = info.buffer().unwrap().pts();
        let segment = segment.unwrap();
        if segment.to_running_time(at).is_some() && segment.stop() != at {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        gst::PadProbeReturn::Ok
    });
    bin.set_state(gst::State::Playing).unwrap();
    let bus = bin.bus().unwrap();
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &kinds);
    assert_eq!(end.map(|m| m.type_()), Some(gst::MessageType::Eos));
    bin.set_state(gst::State::Null).unwrap();
    shown.load(Ordering::Relaxed)
}
