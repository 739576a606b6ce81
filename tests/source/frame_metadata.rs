// SPDX-License-Identifier: MIT

//! Metadata of single frames, in both directions, against the real local runtime.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::prelude::*;
use gstreactor::FrameMeta;
use reactor_tests::{
    TIMEOUT, frames, model_messages,
    pipeline::{TestPipeline, wait_until},
    server::Server,
};
use serde::Deserialize;

const TAGGED: (&str, &str) = ("PLAYGROUND_METADATA", "1");

/// A picture's counter, its metadata and its capture time.
type Seen = Arc<Mutex<Vec<(u32, Option<FrameMeta>, Option<gst::ClockTime>)>>>;

/// Records the decodable pictures that pass a pad.
fn watch(pad: &gst::Pad) -> Seen {
    let seen = Seen::default();
    let list = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        let video = gst_video::VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &video).unwrap();
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let stride = frame.plane_stride()[0] as usize;
        if let Some((counter, _)) =
            frames::decode_frame_code(frame.plane_data(0).unwrap(), stride, width, height)
        {
            let meta = FrameMeta::from_buffer(buffer);
            list.lock()
                .unwrap()
                .push((counter, meta, capture_time(buffer)));
        }
        gst::PadProbeReturn::Ok
    });
    seen
}

fn capture_time(buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
    let caps = gst::Caps::new_empty_simple("timestamp/x-reactor-capture");
    buffer
        .iter_meta::<gst::ReferenceTimestampMeta>()
        .find(|meta| meta.reference() == caps.as_ref())
        .map(|meta| meta.timestamp())
}

fn pictures(server: &Server, between: &str) -> (TestPipeline, Seen) {
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} ! {between} videoconvert \
         ! video/x-raw,format=I420 ! fakesink name=f sync=false",
        server.url()
    ));
    let seen = watch(&running.pad("f", "sink"));
    running.play();
    (running, seen)
}

/// Each picture carries the metadata that the model attached.
fn assert_every_frame_is_tagged(environment: &[(&str, &str)], between: &str) {
    let server = Server::start(&[&[TAGGED], environment].concat());
    let (_running, seen) = pictures(&server, between);
    wait_until("pictures", TIMEOUT, || seen.lock().unwrap().len() >= 60);
    // Not locked where an assertion may fail.
    let seen = seen.lock().unwrap().clone();
    let mut before = FrameMeta::default();
    let mut stale = 0;
    for (counter, meta, time) in &seen {
        let meta = meta.as_ref().expect("metadata");
        let text = String::from_utf8_lossy(&meta.user_data);
        let tagged: u32 = text.strip_prefix("frame-").unwrap().parse().unwrap();
        // On a busy machine runtime 3.10.0 now and then puts the trailer of an earlier picture, also
        // of one that it did not send, behind a picture, and is right again with the next.
        if tagged != *counter {
            assert!(tagged < *counter, "{text} on {counter}");
            stale += 1;
        }
        // The server repeats the last picture while it has no other.
        let order = (meta.frame_id, before.frame_id);
        assert!(order.0 >= order.1, "{order:?}");
        assert!(meta.capture_time_us >= before.capture_time_us);
        let reference = gst::ClockTime::from_useconds(meta.capture_time_us);
        assert_eq!(*time, Some(reference));
        before = meta.clone();
    }
    assert!(before.capture_time_us > 0);
    assert!(
        stale <= seen.len() / 10,
        "{stale} of {} pictures",
        seen.len()
    );
}

#[test]
fn decoded_vp9_frames_carry_metadata() {
    assert_every_frame_is_tagged(&[("WEBRTC_VIDEO_CODECS", "VP9")], "");
}

#[test]
fn decoded_vp8_frames_carry_metadata() {
    assert_every_frame_is_tagged(&[("WEBRTC_VIDEO_CODECS", "VP8")], "");
}

#[test]
fn encoded_frames_carry_metadata() {
    let own_decoder = "video/x-vp9 ! vp9dec !";
    assert_every_frame_is_tagged(&[("WEBRTC_VIDEO_CODECS", "VP9")], own_decoder);
}

#[test]
fn frames_without_model_metadata_carry_none() {
    let server = Server::playground();
    let (_running, seen) = pictures(&server, "");
    wait_until("pictures", TIMEOUT, || seen.lock().unwrap().len() >= 30);
    let seen = seen.lock().unwrap().clone();
    for (_, meta, time) in seen {
        assert_eq!((meta, time), (None, None));
    }
}

/// The model's report of the metadata of the camera's pictures.
#[derive(Debug, Clone, Deserialize)]
struct Heard {
    text: String,
    capture_time_us: u64,
}

/// A camera whose pictures `tag` attaches metadata to, by their number; returns the model's
/// reports.
fn camera(
    server: &Server,
    between: &str,
    tag: impl Fn(&mut gst::BufferRef, u64) + Send + Sync + 'static,
) -> (TestPipeline, Arc<Mutex<Vec<Heard>>>) {
    let running = TestPipeline::parse(&format!(
        "videotestsrc is-live=true name=t \
         ! video/x-raw,format=RGB,width=320,height=180,framerate=15/1 \
         ! {between} reactorsink name=s local=true api-url={}",
        server.url()
    ));
    let heard = model_messages::collect(&running.by_name("s"), "camera_metadata");
    let number = Mutex::new(0);
    let pad = running.pad("t", "src");
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let mut number = number.lock().unwrap();
        *number += 1;
        tag(info.buffer_mut().unwrap().make_mut(), *number);
        gst::PadProbeReturn::Ok
    });
    running.play();
    (running, heard)
}

fn attach_number(buffer: &mut gst::BufferRef, number: u64) {
    let meta = FrameMeta {
        frame_id: number,
        capture_time_us: number * 1000,
        user_data: format!("picture {number}").into_bytes(),
    };
    meta.attach(buffer).unwrap();
}

/// The metadata of incoming frames reaches the model.
fn assert_model_receives_metadata(between: &str) {
    let server = Server::start(&[TAGGED]);
    let (_running, heard) = camera(&server, between, attach_number);
    wait_until("metadata", TIMEOUT, || heard.lock().unwrap().len() >= 10);
    let heard = heard.lock().unwrap().clone();
    for heard in heard {
        let number = heard.capture_time_us / 1000;
        assert_eq!(heard.text, format!("picture {number}"));
    }
}

#[test]
fn raw_sink_frames_keep_metadata_through_encoder() {
    assert_model_receives_metadata("");
}

#[test]
fn encoded_sink_frames_keep_metadata() {
    assert_model_receives_metadata("videoconvert ! vp9enc deadline=1 cpu-used=8 lag-in-frames=0 !");
}

#[test]
fn reference_timestamp_alone_is_sent_as_capture_time() {
    let server = Server::start(&[TAGGED]);
    let (_running, heard) = camera(&server, "", |buffer, number| {
        let caps = gst::Caps::new_empty_simple("timestamp/x-reactor-capture");
        let time = gst::ClockTime::from_mseconds(number);
        gst::ReferenceTimestampMeta::add(buffer, &caps, time, gst::ClockTime::NONE);
    });
    // A frame without a stamp would have the time of a clock that counts from the machine's start.
    let stamped = |h: &Heard| (1000..60_000_000).contains(&h.capture_time_us);
    wait_until("a time", TIMEOUT, || {
        let heard = heard.lock().unwrap().clone();
        heard.iter().any(|h| h.text.is_empty() && stamped(h))
    });
}
