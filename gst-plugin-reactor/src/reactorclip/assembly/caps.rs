// SPDX-License-Identifier: MIT

//! The caps of the tracks of an initialization section, by qtdemux. Called by
//! the thread of the clip's job; never starts another thread.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use gst::prelude::*;

use super::errors::invalid;
use crate::{
    gst_helpers::{internal, make},
    platform::{Error, lock},
};

/// The caps of each track, by its ID.
///
/// qtdemux works on the data in the call that pushes them, so there is no
/// thread and nothing to wait for.
pub(super) fn caps_of_tracks(bytes: &Bytes) -> Result<BTreeMap<u32, gst::Caps>, Error> {
    caps_by(make("qtdemux")?, bytes)
}

fn caps_by(demuxer: gst::Element, bytes: &Bytes) -> Result<BTreeMap<u32, gst::Caps>, Error> {
    let bus = gst::Bus::new();
    demuxer.set_bus(Some(&bus));
    let found = Arc::new(Mutex::new(BTreeMap::new()));
    let into = found.clone();
    demuxer.connect_pad_added(move |_, pad| {
        if let (Some(id), Some(caps)) = (track_id(pad), pad.current_caps()) {
            lock(&into).insert(id, caps);
        }
    });
    let result = push(&demuxer, bytes);
    let error = bus
        .pop_filtered(&[gst::MessageType::Error])
        .and_then(|message| match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        });
    let _ = demuxer.set_state(gst::State::Null);
    // The messages on the bus hold the demuxer, which holds the bus.
    demuxer.set_bus(None::<&gst::Bus>);
    match error {
        Some(why) => Err(invalid(format!("the clip's header cannot be read: {why}"))),
        None => result.map(|()| std::mem::take(&mut *lock(&found))),
    }
}

fn push(demuxer: &gst::Element, bytes: &Bytes) -> Result<(), Error> {
    let sink = demuxer
        .static_pad("sink")
        .ok_or_else(|| internal("qtdemux has no sink pad"))?;
    let pad = gst::Pad::new(gst::PadDirection::Src);
    pad.set_active(true).map_err(internal)?;
    pad.link(&sink).map_err(internal)?;
    demuxer.set_state(gst::State::Paused).map_err(internal)?;
    pad.push_event(gst::event::StreamStart::new("clip"));
    let caps = gst::Caps::new_empty_simple("video/quicktime");
    pad.push_event(gst::event::Caps::new(&caps));
    let segment = gst::FormattedSegment::<gst::format::Bytes>::new();
    pad.push_event(gst::event::Segment::new(&segment));
    // The error on the bus says more than the flow return.
    let _ = pad.push(gst::Buffer::from_slice(bytes.clone()));
    let _ = pad.unlink(&sink);
    Ok(())
}

/// The track's ID is the last part of the stream ID.
fn track_id(pad: &gst::Pad) -> Option<u32> {
    pad.stream_id()?.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demuxer_is_freed() {
        gst::init().unwrap();
        let demuxer = make("qtdemux").unwrap();
        let weak = demuxer.downgrade();
        let _ = caps_by(demuxer, &Bytes::from_static(b"no header"));
        assert!(weak.upgrade().is_none(), "something holds the demuxer");
    }
}
