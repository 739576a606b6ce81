// SPDX-License-Identifier: MIT

//! When nothing comes: GAP events, and what is shown instead.
//!
//! The events go the way of the data, from the appsrc through the decoder.
//! Behind it they are turned into pictures and silence, where the user wants
//! that: on the same thread as the data, so that nothing overtakes anything.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use gst::{glib, prelude::*};

use crate::{element::lock, platform::track::Kind};

/// What downstream gets while nothing comes.
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
}

/// Nothing for so long is a gap, whatever the reason: longer than jitter, and
/// than the pauses of a slow model.
pub const QUIET: gst::ClockTime = gst::ClockTime::from_mseconds(500);
/// So much is left open at the end of a gap: what comes next may be a little
/// older than now.
pub const MARGIN: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// How often to look whether there is a gap.
const LOOK: Duration = Duration::from_millis(250);
/// How often to fill it.
const FILL: Duration = Duration::from_millis(20);

/// The distance of pictures, where it is not known better.
const PICTURE: gst::ClockTime = gst::ClockTime::from_nseconds(33_333_333);
const FASTEST: gst::ClockTime = gst::ClockTime::from_mseconds(8);
const SLOWEST: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// Calls `fill` now and then, more often while it returns that there is a
/// gap, until what it returns here is dropped.
pub fn watch(mut fill: impl FnMut() -> bool + Send + 'static) -> Option<mpsc::Sender<()>> {
    let (alive, end) = mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name("reactorsrc-gap".into());
    let spawned = thread.spawn(move || {
        let mut wait = LOOK;
        while let Err(mpsc::RecvTimeoutError::Timeout) = end.recv_timeout(wait) {
            wait = if fill() { FILL } else { LOOK };
        }
    });
    spawned.is_ok().then_some(alive)
}

/// Makes pictures or sound of the GAP events that pass this pad, which is one
/// of raw data.
pub fn fill(pad: &gst::Pad, kind: Kind, on_gap: OnGap) {
    if on_gap == OnGap::None {
        return;
    }
    let filler = Arc::new(Mutex::new(GapFiller::new(kind, on_gap)));
    let what = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(what, move |pad, info| match &info.data {
        Some(gst::PadProbeData::Buffer(buffer)) => {
            if !buffer.flags().contains(gst::BufferFlags::GAP) {
                lock(&filler).see(buffer);
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
            let until = start + duration.unwrap_or_default();
            // Not locked while they are pushed: they come by here.
            let buffers = lock(&filler).make(&caps, start, until);
            for buffer in buffers {
                if pad.push(buffer).is_err() {
                    break;
                }
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
    /// The time of the last picture, and itself if it is to be held.
    seen: Option<gst::ClockTime>,
    last: Option<gst::Buffer>,
    /// Between two pictures.
    distance: gst::ClockTime,
    /// Up to where there is something.
    end: Option<gst::ClockTime>,
    black: Option<(gst::Caps, gst::Buffer)>,
}

impl GapFiller {
    fn new(kind: Kind, on_gap: OnGap) -> Self {
        Self {
            kind,
            on_gap,
            seen: None,
            last: None,
            distance: PICTURE,
            end: None,
            black: None,
        }
    }

    /// Something real passes.
    fn see(&mut self, buffer: &gst::Buffer) {
        let Some(pts) = buffer.pts() else {
            return;
        };
        match self.kind {
            Kind::Video => {
                let distance = self.seen.map(|before| pts.saturating_sub(before));
                if let Some(distance) = distance.filter(|d| (FASTEST..SLOWEST).contains(d)) {
                    // Smoothed, as live pictures come unevenly.
                    self.distance = (self.distance * 7 + distance) / 8;
                }
                self.end = Some(pts + self.distance);
                // Whoever holds one keeps others from writing to it.
                let whole = self.on_gap == OnGap::HoldLastFrame;
                self.last = whole.then(|| buffer.clone());
                self.seen = Some(pts);
            }
            Kind::Audio => self.end = Some(pts + buffer.duration().unwrap_or_default()),
        }
    }

    /// What stands for nothing from where there was something last.
    fn make(
        &mut self,
        caps: &gst::Caps,
        start: gst::ClockTime,
        until: gst::ClockTime,
    ) -> Vec<gst::Buffer> {
        let from = self.end.unwrap_or(start);
        let buffers = match self.kind {
            Kind::Video => self.pictures(caps, from, until),
            Kind::Audio => silence(caps, from, until).into_iter().collect(),
        };
        if let Some(last) = buffers.last() {
            let end = last.pts().zip(last.duration());
            self.end = end.map(|(pts, duration)| pts + duration).or(self.end);
        }
        buffers
    }

    fn pictures(
        &mut self,
        caps: &gst::Caps,
        from: gst::ClockTime,
        until: gst::ClockTime,
    ) -> Vec<gst::Buffer> {
        let Some(picture) = self.picture(caps) else {
            return Vec::new();
        };
        let mut buffers = Vec::new();
        let mut at = from;
        while at + self.distance <= until {
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
            out.set_pts(at);
            out.set_duration(self.distance);
            out.set_flags(gst::BufferFlags::GAP);
            buffers.push(buffer);
            at += self.distance;
        }
        buffers
    }

    fn picture(&mut self, caps: &gst::Caps) -> Option<gst::Buffer> {
        if self.on_gap == OnGap::HoldLastFrame {
            return self.last.clone();
        }
        if let Some((of, black)) = &self.black
            && of == caps
        {
            return Some(black.clone());
        }
        let black = black(caps)?;
        self.black = Some((caps.clone(), black.clone()));
        Some(black)
    }
}

/// A black picture, in formats that can be written to here.
fn black(caps: &gst::Caps) -> Option<gst::Buffer> {
    let info = gst_video::VideoInfo::from_caps(caps).ok()?;
    let buffer = gst::Buffer::with_size(info.size()).ok()?;
    let mut frame = gst_video::VideoFrame::from_buffer_writable(buffer, &info).ok()?;
    let format = info.format_info();
    for plane in 0..info.n_planes() {
        // Y of YUV, and every component of RGB, are black at their lowest;
        // the two chromas are in the middle.
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

/// Silence from there to there, in whole samples.
fn silence(caps: &gst::Caps, from: gst::ClockTime, until: gst::ClockTime) -> Option<gst::Buffer> {
    let info = gst_audio::AudioInfo::from_caps(caps).ok()?;
    let rate = u64::from(info.rate());
    let samples = until
        .checked_sub(from)?
        .nseconds()
        .mul_div_floor(rate, gst::ClockTime::SECOND.nseconds())?;
    if samples == 0 {
        return None;
    }
    let mut buffer = gst::Buffer::with_size(samples as usize * info.bpf() as usize).ok()?;
    {
        let out = buffer.make_mut();
        let mut map = out.map_writable().ok()?;
        info.format_info().fill_silence(map.as_mut_slice());
        drop(map);
        out.set_pts(from);
        out.set_duration(gst::ClockTime::SECOND.mul_div_floor(samples, rate)?);
        out.set_flags(gst::BufferFlags::GAP);
    }
    Some(buffer)
}

#[cfg(test)]
mod tests {
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
    fn the_last_picture_is_held_at_its_pace() {
        gst::init().unwrap();
        let mut filler = GapFiller::new(Kind::Video, OnGap::HoldLastFrame);
        for n in 0..60 {
            filler.see(&picture(40 * n, 7));
        }
        let distance = filler.distance;
        assert!(distance.absdiff(ms(40)) < ms(1), "{distance}");
        let mut last = ms(40 * 59);
        for n in 0..50 {
            let (from, until) = (ms(2400 + 20 * n), ms(2420 + 20 * n));
            for buffer in filler.make(&caps(), from, until) {
                assert_eq!(buffer.pts().unwrap() - last, distance);
                last = buffer.pts().unwrap();
                assert_eq!(buffer.map_readable().unwrap()[0], 7);
            }
        }
        // None too many, none too few.
        assert!(ms(3400).saturating_sub(last) <= distance * 2, "{last}");
    }

    #[test]
    fn black_is_black() {
        gst::init().unwrap();
        let mut filler = GapFiller::new(Kind::Video, OnGap::Black);
        filler.see(&picture(0, 200));
        let buffers = filler.make(&caps(), ms(40), ms(200));
        assert_eq!(buffers.len(), 5);
        let map = buffers[0].map_readable().unwrap();
        // Strides of 4 bytes.
        assert!(map[..8].iter().all(|luma| *luma == 16), "{map:?}");
        assert!(map[8..].iter().all(|chroma| *chroma == 128), "{map:?}");
    }

    #[test]
    fn silence_is_seamless() {
        gst::init().unwrap();
        let caps: gst::Caps = "audio/x-raw,format=S16LE,rate=44100,channels=2,layout=interleaved"
            .parse()
            .unwrap();
        let mut filler = GapFiller::new(Kind::Audio, OnGap::HoldLastFrame);
        let mut sound = gst::Buffer::from_slice([1; 4]);
        {
            let sound = sound.get_mut().unwrap();
            sound.set_pts(ms(100));
            sound.set_duration(ms(20));
        }
        filler.see(&sound);
        let mut next = ms(120);
        for n in 0..100 {
            for buffer in filler.make(&caps, ms(120 + 20 * n), ms(140 + 20 * n)) {
                assert_eq!(buffer.pts().unwrap(), next);
                next += buffer.duration().unwrap();
                let map = buffer.map_readable().unwrap();
                assert!(map.iter().all(|byte| *byte == 0) && map.len() % 4 == 0);
            }
        }
        assert!(ms(120 + 2000) - next < ms(1), "{next}");
    }
}
