// SPDX-License-Identifier: MIT

//! Bridges gaps: GAP events, and the pictures and the silence made of them.
//!
//! The gap timer, a task on the I/O threads, has GAP events sent through the
//! appsrc, whose queue never blocks. A probe behind the decoder turns them into
//! buffers on the pad's streaming thread, so that events and data keep their
//! order. Nothing here reads a clock or decides when a gap begins: `TrackStream`
//! does.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::{glib, prelude::*};

use super::clock_step::is_clock_step;
use crate::{
    element::lock,
    platform::{Error, track::Kind},
    property::EnumField,
    session::{Timer, run_repeatedly},
};

/// What raw pads send while nothing is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstReactorOnGap")]
pub enum OnGap {
    #[default]
    #[enum_value(name = "None: GAP events only", nick = "none")]
    None,
    #[enum_value(
        name = "Hold: the last picture again and again, and silence",
        nick = "hold-last-frame"
    )]
    HoldLastFrame,
    #[enum_value(name = "Black: black pictures and silence", nick = "black")]
    Black,
    #[enum_value(
        name = "Stall: no GAP events either, for fallbackswitch and fallbacksrc, which take those for data",
        nick = "stall"
    )]
    Stall,
}

impl EnumField for OnGap {}

/// The interval of the gap timer outside a gap.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// The interval of the gap timer inside a gap.
const FILL_INTERVAL: Duration = Duration::from_millis(20);

/// The frame interval until one is measured: 30 frames/s.
const DEFAULT_FRAME_INTERVAL: gst::ClockTime = gst::ClockTime::from_nseconds(33_333_333);
/// Intervals outside these two are not measurements of the frame rate.
const MIN_FRAME_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(8);
const MAX_FRAME_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(200);
/// Weight of a new interval in the average, as 1/n: live pictures come
/// unevenly.
const FRAME_INTERVAL_SMOOTHING: u64 = 8;

/// Of a long gap, buffers are made for this time at once: an event may stand for all the time in
/// which downstream took nothing, or the process was stopped.
const MAX_FILLED_AT_ONCE: gst::ClockTime = gst::ClockTime::from_seconds(1);

/// Starts the gap timer. It calls `fill`, which must not block, at the shorter
/// interval while `fill` returns that there is a gap, until the handle is
/// dropped.
///
/// # Errors
///
/// If the process cannot start another thread.
pub fn start_timer(mut fill: impl FnMut() -> bool + Send + 'static) -> Result<Timer, Error> {
    run_repeatedly(POLL_INTERVAL, move || match fill() {
        true => FILL_INTERVAL,
        false => POLL_INTERVAL,
    })
}

/// Installs a probe that turns the GAP events on this pad, which has raw data,
/// into pictures or silence.
pub fn install(pad: &gst::Pad, kind: Kind, on_gap: OnGap) {
    if matches!(on_gap, OnGap::None | OnGap::Stall) {
        return;
    }
    let filler = Arc::new(Mutex::new(GapFiller::new(kind, on_gap)));
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(mask, move |pad, info| match &info.data {
        Some(gst::PadProbeData::Buffer(buffer)) => {
            if !buffer.flags().contains(gst::BufferFlags::GAP) {
                lock(&filler).record(buffer);
            }
            gst::PadProbeReturn::Ok
        }
        Some(gst::PadProbeData::Event(event)) => {
            let gst::EventView::Gap(gap) = event.view() else {
                return gst::PadProbeReturn::Ok;
            };
            let (start, duration) = gap.get();
            let Some(caps) = pad.current_caps() else {
                return gst::PadProbeReturn::Ok;
            };
            let end = start + duration.unwrap_or_default();
            let mut filled = start;
            while filled < end {
                let part_end = end.min(filled + MAX_FILLED_AT_ONCE);
                // Unlocked before the push: the buffers pass this probe.
                let buffers = lock(&filler).fill(&caps, filled, part_end);
                for buffer in buffers {
                    if pad.push(buffer).is_err() {
                        return gst::PadProbeReturn::Handled;
                    }
                }
                filled = part_end;
            }
            gst::PadProbeReturn::Handled
        }
        _ => gst::PadProbeReturn::Ok,
    });
}

#[derive(Debug)]
struct GapFiller {
    kind: Kind,
    on_gap: OnGap,
    /// The time of the last received picture.
    last_pts: Option<gst::ClockTime>,
    /// The last received picture, if it is to be repeated.
    last_frame: Option<gst::Buffer>,
    /// Average time between two pictures.
    frame_interval: gst::ClockTime,
    /// The end of the last buffer, received or made here.
    end: Option<gst::ClockTime>,
    black: Option<(gst::Caps, gst::Buffer)>,
}

impl GapFiller {
    fn new(kind: Kind, on_gap: OnGap) -> Self {
        Self {
            kind,
            on_gap,
            last_pts: None,
            last_frame: None,
            frame_interval: DEFAULT_FRAME_INTERVAL,
            end: None,
            black: None,
        }
    }

    /// Measures a received buffer.
    fn record(&mut self, buffer: &gst::Buffer) {
        let Some(pts) = buffer.pts() else {
            return;
        };
        match self.kind {
            Kind::Video => {
                let interval = self.last_pts.map(|last| pts.saturating_sub(last));
                let range = MIN_FRAME_INTERVAL..MAX_FRAME_INTERVAL;
                if let Some(interval) = interval.filter(|interval| range.contains(interval)) {
                    let before = self.frame_interval * (FRAME_INTERVAL_SMOOTHING - 1);
                    self.frame_interval = (before + interval) / FRAME_INTERVAL_SMOOTHING;
                }
                self.end = Some(pts + self.frame_interval);
                // A second reference keeps downstream from writing in place.
                let hold = self.on_gap == OnGap::HoldLastFrame;
                self.last_frame = hold.then(|| buffer.clone());
                self.last_pts = Some(pts);
            }
            Kind::Audio => self.end = Some(pts + buffer.duration().unwrap_or_default()),
        }
    }

    /// Makes the buffers from the end of the last buffer, or from `start` if
    /// there was none, to `end`.
    fn fill(
        &mut self,
        caps: &gst::Caps,
        start: gst::ClockTime,
        end: gst::ClockTime,
    ) -> Vec<gst::Buffer> {
        let same_clock = |last: &gst::ClockTime| !is_clock_step(*last, end);
        let start = self.end.filter(same_clock).unwrap_or(start);
        let buffers = match self.kind {
            Kind::Video => self.make_pictures(caps, start, end),
            Kind::Audio => make_silence(caps, start, end).into_iter().collect(),
        };
        if let Some(last) = buffers.last() {
            let end = last.pts().zip(last.duration());
            self.end = end.map(|(pts, duration)| pts + duration).or(self.end);
        }
        buffers
    }

    fn make_pictures(
        &mut self,
        caps: &gst::Caps,
        start: gst::ClockTime,
        end: gst::ClockTime,
    ) -> Vec<gst::Buffer> {
        let Some(picture) = self.filler_picture(caps) else {
            return Vec::new();
        };
        let mut buffers = Vec::new();
        let mut pts = start;
        while pts + self.frame_interval <= end {
            // Without the metas of the original: it is not that frame.
            let mut buffer = gst::Buffer::new();
            let copied = picture.copy_into(buffer.make_mut(), gst::BufferCopyFlags::MEMORY, ..);
            if copied.is_err() {
                break;
            }
            let out = buffer.make_mut();
            if let Some(meta) = picture.meta::<gst_video::VideoMeta>() {
                let _ = gst_video::VideoMeta::add_full(
                    out,
                    meta.video_frame_flags(),
                    meta.format(),
                    meta.width(),
                    meta.height(),
                    meta.offset(),
                    meta.stride(),
                );
            }
            out.set_pts(pts);
            out.set_duration(self.frame_interval);
            out.set_flags(gst::BufferFlags::GAP);
            buffers.push(buffer);
            pts += self.frame_interval;
        }
        buffers
    }

    fn filler_picture(&mut self, caps: &gst::Caps) -> Option<gst::Buffer> {
        if self.on_gap == OnGap::HoldLastFrame {
            return self.last_frame.clone();
        }
        if let Some((black_caps, black)) = &self.black
            && black_caps == caps
        {
            return Some(black.clone());
        }
        let black = make_black(caps)?;
        self.black = Some((caps.clone(), black.clone()));
        Some(black)
    }
}

/// A black picture; `None` for formats that cannot be mapped here.
fn make_black(caps: &gst::Caps) -> Option<gst::Buffer> {
    let info = gst_video::VideoInfo::from_caps(caps).ok()?;
    let buffer = gst::Buffer::with_size(info.size()).ok()?;
    let mut frame = gst_video::VideoFrame::from_buffer_writable(buffer, &info).ok()?;
    let format = info.format_info();
    for plane in 0..info.n_planes() {
        // Black is the lowest luma (16 in limited range), the lowest of each
        // RGB component, and chroma in the middle of its range.
        let luma = plane == 0 || !format.is_yuv();
        let value = match (luma, info.is_rgb()) {
            (true, true) => 0,
            (true, false) => 16,
            (false, _) => 128,
        };
        frame.plane_data_mut(plane).ok()?.fill(value);
    }
    Some(frame.into_buffer())
}

/// Silence from `start` to `end`, rounded down to whole samples.
fn make_silence(
    caps: &gst::Caps,
    start: gst::ClockTime,
    end: gst::ClockTime,
) -> Option<gst::Buffer> {
    let info = gst_audio::AudioInfo::from_caps(caps).ok()?;
    let rate = u64::from(info.rate());
    let samples = end
        .checked_sub(start)?
        .nseconds()
        .mul_div_floor(rate, gst::ClockTime::SECOND.nseconds())?;
    if samples == 0 {
        return None;
    }
    let mut buffer = gst::Buffer::with_size(samples as usize * info.bpf() as usize).ok()?;
    let out = buffer.make_mut();
    let mut map = out.map_writable().ok()?;
    info.format_info().fill_silence(map.as_mut_slice());
    drop(map);
    out.set_pts(start);
    out.set_duration(gst::ClockTime::SECOND.mul_div_floor(samples, rate)?);
    out.set_flags(gst::BufferFlags::GAP);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn ms(ms: u64) -> gst::ClockTime {
        gst::ClockTime::from_mseconds(ms)
    }

    fn picture(pts: u64, value: u8) -> gst::Buffer {
        let mut buffer = gst::Buffer::from_slice([value; 6]);
        buffer.get_mut().unwrap().set_pts(ms(pts));
        buffer
    }

    fn caps() -> gst::Caps {
        "video/x-raw,format=I420,width=2,height=2,framerate=0/1"
            .parse()
            .unwrap()
    }

    #[test]
    fn hold_last_frame_repeats_at_the_measured_interval() {
        gst::init().unwrap();
        let mut filler = GapFiller::new(Kind::Video, OnGap::HoldLastFrame);
        for n in 0..60 {
            filler.record(&picture(40 * n, 7));
        }
        let interval = filler.frame_interval;
        assert!(interval.absdiff(ms(40)) < ms(1), "{interval}");
        let mut last = ms(40 * 59);
        for n in 0..50 {
            let (start, end) = (ms(2400 + 20 * n), ms(2420 + 20 * n));
            for buffer in filler.fill(&caps(), start, end) {
                assert_eq!(buffer.pts().unwrap() - last, interval);
                last = buffer.pts().unwrap();
                assert_eq!(buffer.map_readable().unwrap()[0], 7);
            }
        }
        // Neither too many pictures nor too few.
        assert!(ms(3400).saturating_sub(last) <= interval * 2, "{last}");
    }

    #[test]
    fn black_fills_luma_and_chroma_planes() {
        gst::init().unwrap();
        let mut filler = GapFiller::new(Kind::Video, OnGap::Black);
        filler.record(&picture(0, 200));
        let buffers = filler.fill(&caps(), ms(40), ms(200));
        assert_eq!(buffers.len(), 5);
        let map = buffers[0].map_readable().unwrap();
        // The strides are 4 bytes.
        assert!(map[..8].iter().all(|luma| *luma == 16), "{map:?}");
        assert!(map[8..].iter().all(|chroma| *chroma == 128), "{map:?}");
    }

    fn sound_caps() -> gst::Caps {
        "audio/x-raw,format=S16LE,rate=44100,channels=2,layout=interleaved"
            .parse()
            .unwrap()
    }

    /// Of an hour in which a process was stopped, silence is 600 MB.
    #[test]
    fn long_gap_is_filled_in_parts() {
        gst::init().unwrap();
        let (sender, received) = mpsc::channel();
        let src = gst::Pad::builder(gst::PadDirection::Src).build();
        let sink = gst::Pad::builder(gst::PadDirection::Sink)
            .event_function(|_, _, _| true)
            .chain_function(move |_, _, buffer| {
                sender.send((buffer.pts(), buffer.duration())).unwrap();
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        src.link(&sink).unwrap();
        for pad in [&sink, &src] {
            pad.set_active(true).unwrap();
        }
        install(&src, Kind::Audio, OnGap::Black);
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        let gap = gst::event::Gap::builder(ms(500)).duration(ms(7250));
        for event in [
            gst::event::StreamStart::new("test"),
            gst::event::Caps::new(&sound_caps()),
            gst::event::Segment::new(&segment),
            gap.build(),
        ] {
            src.push_event(event);
        }
        let mut next = ms(500);
        for (start, duration) in received.try_iter() {
            assert_eq!(start, Some(next));
            let duration = duration.unwrap();
            assert!(duration <= MAX_FILLED_AT_ONCE, "{duration}");
            next += duration;
        }
        assert!(ms(7750) - next < ms(1), "{next}");
        src.set_active(false).unwrap();
    }

    #[test]
    fn gap_is_filled_when_running_time_begins_anew() {
        gst::init().unwrap();
        let mut filler = GapFiller::new(Kind::Video, OnGap::Black);
        filler.record(&picture(100_000, 200));
        let buffers = filler.fill(&caps(), ms(40), ms(200));
        assert_eq!(buffers[0].pts(), Some(ms(40)));
        assert_eq!(filler.fill(&caps(), ms(200), ms(220)).len(), 1);
    }

    #[test]
    fn silence_is_contiguous_across_events() {
        gst::init().unwrap();
        let caps = sound_caps();
        let mut filler = GapFiller::new(Kind::Audio, OnGap::HoldLastFrame);
        let mut sound = gst::Buffer::from_slice([1; 4]);
        {
            let sound = sound.get_mut().unwrap();
            sound.set_pts(ms(100));
            sound.set_duration(ms(20));
        }
        filler.record(&sound);
        let mut next = ms(120);
        for n in 0..100 {
            for buffer in filler.fill(&caps, ms(120 + 20 * n), ms(140 + 20 * n)) {
                assert_eq!(buffer.pts().unwrap(), next);
                next += buffer.duration().unwrap();
                let map = buffer.map_readable().unwrap();
                assert!(map.iter().all(|byte| *byte == 0) && map.len() % 4 == 0);
            }
        }
        assert!(ms(120 + 2000) - next < ms(1), "{next}");
    }
}
