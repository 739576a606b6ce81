// SPDX-License-Identifier: MIT

//! Measures the area in which the playground shows the camera's picture, inverted: the lower left
//! third, see `picture.py`.

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::prelude::*;
use gst_video::prelude::*;

use crate::pipeline::wait_until;

/// A colour as luma and two chromas (Y, U, V).
pub type Yuv = [u8; 3];

/// Columns and rows in a picture of 640x360 that are well inside the camera's, whatever its aspect ratio.
const INSIDE: (Range<usize>, Range<usize>) = (40..170, 220..290);
/// Columns and rows that a picture of 4:3 covers, and one of 16:9 does not.
const ABOVE: (Range<usize>, Range<usize>) = (40..170, 164..188);

/// The mean colours in one picture.
#[derive(Debug, Clone, Copy)]
pub struct CameraColours {
    pub inside: Yuv,
    pub above: Yuv,
}

/// Has a running `videotestsrc` show this colour from the next picture on. The property is set on
/// the source's own thread, between two pictures: that of GStreamer 1.22 frees the picture that it
/// repeats without a lock, and crashes if it is copying it.
pub fn show_colour(videotestsrc: &gst::Element, colour: Colour) {
    let pad = videotestsrc.static_pad("src").expect("a source pad");
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        let videotestsrc = pad.parent_element().expect("a source");
        videotestsrc.set_property_from_str("pattern", colour.pattern());
        gst::PadProbeReturn::Remove
    });
}

/// Measures all pictures that pass a pad.
#[derive(Debug, Clone, Default)]
pub struct CameraView(Arc<Mutex<Vec<CameraColours>>>);

impl CameraView {
    /// The pad's caps must be I420, 640x360 or 320x180.
    pub fn watch(pad: &gst::Pad) -> Self {
        let view = Self::default();
        let colours = view.0.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                let info = gst_video::VideoInfo::from_caps(&caps).expect("video caps");
                // The server may begin with a black picture of another size.
                let is_small = match (info.width(), info.height()) {
                    (640, 360) => false,
                    (320, 180) => true,
                    _ => return gst::PadProbeReturn::Ok,
                };
                let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info);
                let frame = frame.expect("a picture");
                let look = CameraColours {
                    inside: mean(&frame, &INSIDE, is_small),
                    above: mean(&frame, &ABOVE, is_small),
                };
                colours.lock().unwrap().push(look);
            }
            gst::PadProbeReturn::Ok
        });
        view
    }

    pub fn colours(&self) -> Vec<CameraColours> {
        self.0.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops what was measured.
    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub fn last(&self) -> Option<CameraColours> {
        self.0.lock().unwrap().last().copied()
    }

    /// Waits until the camera's picture has this colour; panics after `limit`.
    pub fn wait_for(&self, colour: Colour, limit: Duration) {
        wait_until(&format!("{colour:?} upside down"), limit, || {
            self.last()
                .is_some_and(|look| colour.is_inverted(look.inside))
        });
    }
}

/// A solid colour of `videotestsrc pattern=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Red,
    Green,
    Blue,
}

impl Colour {
    pub fn pattern(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
        }
    }

    /// Whether this is the colour's inverse. The background's chromas stay within 50 of the middle,
    /// and are never as saturated.
    pub fn is_inverted(self, [luma, u, v]: Yuv) -> bool {
        match self {
            Self::Red => luma > 120 && v < 60,
            Self::Green => u > 170 && v > 170,
            Self::Blue => luma > 150 && u < 60,
        }
    }
}

fn mean(
    frame: &gst_video::VideoFrameRef<&gst::BufferRef>,
    (columns, rows): &(Range<usize>, Range<usize>),
    is_small: bool,
) -> Yuv {
    [0, 1, 2].map(|plane| {
        // Chroma has half of the columns and rows.
        let halved = u32::from(plane > 0);
        let shift = halved + u32::from(is_small);
        let data = frame.plane_data(plane).expect("a plane");
        let stride = frame.plane_stride()[plane as usize] as usize;
        let columns = columns.start >> shift..columns.end >> shift;
        let rows = rows.start >> shift..rows.end >> shift;
        let count = columns.len() * rows.len();
        let cells = rows.flat_map(|y| &data[y * stride..][columns.clone()]);
        (cells.map(|&value| usize::from(value)).sum::<usize>() / count) as u8
    })
}
