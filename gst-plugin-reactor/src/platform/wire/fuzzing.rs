// SPDX-License-Identifier: MIT

//! Bodies of fuzz targets: what the server sends on the data channels.

use bytes::Bytes;

use super::{Channel, Framing, Reassembler, WireFrame, decode};
use crate::platform::Code;

/// A message, on either channel, binary and as text.
pub fn message(data: &[u8]) {
    let mut frames = vec![WireFrame::Binary(Bytes::copy_from_slice(data))];
    frames.extend(str::from_utf8(data).map(|text| WireFrame::Text(text.to_owned())));
    for frame in frames {
        for channel in [Channel::Control, Channel::Data] {
            if let Err(error) = decode(channel, &frame) {
                assert_eq!(error.code, Code::DecodeFailed);
                assert!(error.message.contains(channel.label()));
                assert!(error.message.len() < 1000, "{error}");
            }
        }
    }
}

/// Frames of one channel: the limit in units of 64 bytes, then frames, each after a
/// byte with its length; 255 is a text without one.
pub fn frames(data: &[u8]) {
    let Some((&limit, mut rest)) = data.split_first() else {
        return;
    };
    let framing = Framing::chunked(usize::from(limit) * 64);
    let mut reassembler = Reassembler::new(framing);
    while let Some((&length, after)) = rest.split_first() {
        let (frame, after) = after.split_at(after.len().min(length.into()));
        rest = after;
        let frame = match str::from_utf8(frame) {
            Ok(text) if length == u8::MAX => WireFrame::Text(text.to_owned()),
            _ => WireFrame::Binary(Bytes::copy_from_slice(frame)),
        };
        if let Ok(Some(message)) = reassembler.push(frame) {
            assert!(message.len() <= framing.max());
        }
        assert!(reassembler.held() <= framing.max());
    }
    survives_framing(data, usize::from(limit) + 1);
}

/// A message that is split is put together again, also one of several frames.
fn survives_framing(data: &[u8], times: usize) {
    let message = WireFrame::Binary(data.repeat(times * 16).into());
    let framing = Framing::chunked(usize::MAX);
    let Ok(frames) = framing.split(message.clone()) else {
        return;
    };
    let mut reassembler = Reassembler::new(framing);
    let last = frames
        .into_iter()
        .map(|frame| reassembler.push(frame))
        .last();
    assert!(matches!(last, Some(Ok(Some(same))) if same == message));
}
