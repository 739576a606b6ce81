// SPDX-License-Identifier: MIT

//! reactorsrc against the real local runtime, with encoded streams or RTP packets downstream.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use gst::{glib, prelude::*};
use reactor_tests::{
    TIMEOUT,
    audio::{self, AudioRecorder},
    frames::{FrameReader, assert_nearly_contiguous},
    media,
    pipeline::{TestPipeline, wait_until},
    process::in_own_process,
    scratch::TempFile,
    server::Server,
};

/// `reactorsrc name=r` for this server, followed by `rest`.
fn parse(server: &Server, rest: &str) -> TestPipeline {
    TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} name=r {rest}",
        server.url()
    ))
}

/// Which of the buffers that pass a pad are keyframes.
#[derive(Clone, Default)]
struct Keyframes(Arc<Mutex<Vec<bool>>>);

impl Keyframes {
    fn watch(pad: &gst::Pad) -> Self {
        let this = Self::default();
        let list = this.0.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                let delta = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
                list.lock().unwrap().push(!delta);
            }
            gst::PadProbeReturn::Ok
        });
        this
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn wait_for(&self, count: usize) {
        wait_until("buffers", TIMEOUT, || self.len() >= count);
    }

    /// The number of keyframes from this buffer on.
    fn since(&self, index: usize) -> usize {
        let list = self.0.lock().unwrap();
        list[index..].iter().filter(|key| **key).count()
    }
}

/// Records both tracks without transcoding, for four seconds.
fn record(video: &str, muxer: &str, file: &Path) {
    let server = Server::playground_640x360();
    let running = parse(
        &server,
        &format!(
            "r. ! queue ! {video} ! identity name=v ! mux. \
             r. ! queue ! audio/x-opus ! mux. \
             {muxer} name=mux ! filesink location={}",
            file.display()
        ),
    );
    let passed = Keyframes::watch(&running.pad("v", "src"));
    running.play();
    passed.wait_for(120);
    let caps = running.pad("r", "video_main_video").current_caps().unwrap();
    let structure = caps.structure(0).unwrap();
    assert_eq!(structure.name(), video);
    let size = ["width", "height"].map(|field| structure.get::<i32>(field).ok());
    assert_eq!(size, [Some(640), Some(360)], "{caps}");
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    running.stop();

    let streams = media::probe(file);
    let video = media::stream(&streams, "video");
    let audio = media::stream(&streams, "audio");
    assert_eq!((video.width, video.height), (640, 360));
    assert_eq!(audio.codec, "opus");
    let (video, audio) = (video.duration, audio.duration);
    assert!(
        (video - audio).abs() < 0.3,
        "video {video} s, audio {audio} s"
    );
    media::assert_decodes(file);
    let counters = media::counters(file);
    assert!(counters.len() >= 120, "{} pictures", counters.len());
    media::assert_nearly_contiguous(&counters);
    audio::assert_playground_tone(&media::samples(file)[audio::RATE as usize..]);
}

#[test]
fn vp9_and_opus_into_matroskamux_record_valid_file() {
    let file = TempFile::new("encoded-vp9.mkv");
    record("video/x-vp9", "matroskamux", &file.0);
    assert_eq!(media::stream(&media::probe(&file.0), "video").codec, "vp9");
}

#[test]
fn vp8_and_opus_into_webmmux_record_valid_file() {
    let file = TempFile::new("encoded-vp8.webm");
    record("video/x-vp8", "webmmux", &file.0);
    assert_eq!(media::stream(&media::probe(&file.0), "video").codec, "vp8");
}

/// mp4mux 1.22 crashes on VP9 without its chroma site.
#[test]
fn vp9_into_mp4mux_records_valid_file() {
    let server = Server::playground_640x360();
    for parser in ["", "! vp9parse"] {
        let file = TempFile::new("encoded-vp9.mp4");
        let running = parse(
            &server,
            &format!(
                "r.video_main_video {parser} ! mux.video_0 mp4mux name=mux ! filesink name=f location={}",
                file.0.display()
            ),
        );
        let passed = Keyframes::watch(&running.pad("f", "sink"));
        running.play();
        passed.wait_for(40);
        running.pipeline.send_event(gst::event::Eos::new());
        running.wait_eos(TIMEOUT);
        running.stop();
        assert_eq!(media::stream(&media::probe(&file.0), "video").codec, "vp9");
        media::assert_nearly_contiguous(&media::counters(&file.0));
        server.wait_for_state("ready", TIMEOUT);
    }
}

#[test]
fn muxer_caps_alone_select_encoded_stream() {
    let server = Server::playground_640x360();
    let file = TempFile::new("encoded-bare.webm");
    let running = parse(
        &server,
        &format!(
            "r.video_main_video ! identity name=v ! webmmux ! filesink location={}",
            file.0.display()
        ),
    );
    let passed = Keyframes::watch(&running.pad("v", "src"));
    running.play();
    passed.wait_for(60);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    running.stop();
    media::assert_nearly_contiguous(&media::counters(&file.0));
}

#[test]
fn opus_pad_alone_linked_leaves_video_paused() {
    let server = Server::playground_640x360();
    let running = parse(
        &server,
        &format!(
            "r.audio_main_audio ! audio/x-opus ! opusdec ! audioconvert ! {} \
             ! identity name=a ! fakesink",
            audio::CAPS
        ),
    );
    let audio = AudioRecorder::watch(&running.pad("a", "src"));
    running.play();
    // Some of its marks may be broken, see `assert_playground_tone`.
    audio.wait_for(5.0, TIMEOUT);
    let samples: Vec<i16> = audio
        .chunks()
        .iter()
        .flat_map(|p| p.samples.clone())
        .collect();
    audio::assert_playground_tone(&samples[audio::RATE as usize / 2..]);
    let stats: gst::Structure = running.by_name("r").property("stats");
    let video: gst::Structure = stats.get("video_main_video").unwrap();
    assert_eq!(video.get::<u64>("received").unwrap(), 0);
}

/// The sequence number of each packet and, at the start of a picture, the picture id.
type Packets = Arc<Mutex<Vec<(u16, Option<u16>)>>>;

fn watch_packets(pad: &gst::Pad) -> Packets {
    let packets = Packets::default();
    let list = packets.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            let map = buffer.map_readable().expect("readable");
            list.lock().unwrap().push(read_packet(&map));
        }
        gst::PadProbeReturn::Ok
    });
    packets
}

/// Parses a packet by RFC 3550 and, for the payload, RFC 9628 (VP9).
fn read_packet(packet: &[u8]) -> (u16, Option<u16>) {
    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
    let mut at = 12 + 4 * usize::from(packet[0] & 0x0f);
    if packet[0] & 0x10 != 0 {
        let words = u16::from_be_bytes([packet[at + 2], packet[at + 3]]);
        at += 4 + 4 * usize::from(words);
    }
    let [flags, high, low] = [packet[at], packet[at + 1], packet[at + 2]];
    let (has_id, begins) = (flags & 0x80 != 0, flags & 0x08 != 0);
    let id = u16::from_be_bytes([high & 0x7f, low]);
    (sequence, (has_id && begins).then_some(id))
}

#[test]
fn rtp_caps_pass_packets_unchanged() {
    let server = Server::playground_640x360();
    let running = parse(
        &server,
        "! application/x-rtp,media=video,encoding-name=VP9 ! identity name=p ! rtpvp9depay \
         ! vp9dec ! identity name=i ! fakesink sync=false",
    );
    let packets = watch_packets(&running.pad("p", "src"));
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(90, TIMEOUT);
    let caps = running.pad("r", "video_main_video").current_caps().unwrap();
    running.stop();
    let description = caps.structure(0).unwrap();
    assert_eq!(description.name(), "application/x-rtp");
    assert_eq!(description.get::<i32>("clock-rate").unwrap(), 90_000);
    assert!(description.has_field("payload"));

    // No packet and no picture is lost on the way. (A picture that an overloaded server drops is in
    // no packet.)
    let packets = packets.lock().unwrap();
    for pair in packets.windows(2) {
        assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "sequence numbers");
    }
    let mut ids: Vec<_> = packets.iter().filter_map(|(_, id)| *id).collect();
    ids.dedup();
    let frames = reader.frames();
    assert!(
        ids.len() <= frames.len() + 5,
        "{} of {}",
        frames.len(),
        ids.len()
    );
    assert_eq!(reader.unreadable(), 0);
    assert_nearly_contiguous(&frames);
}

#[test]
fn force_key_unit_requests_keyframe() {
    // The handler of criticals is the whole process's.
    if !in_own_process("encoded_streams::force_key_unit_requests_keyframe") {
        return;
    }
    let server = Server::playground_640x360();
    let complaints = Arc::new(Mutex::new(Vec::new()));
    let list = complaints.clone();
    glib::log_set_handler(
        Some("GStreamer"),
        glib::LogLevels::LEVEL_CRITICAL,
        false,
        false,
        move |_, _, text| list.lock().unwrap().push(text.to_owned()),
    );
    let running = parse(&server, "! video/x-vp8 ! fakesink name=s sync=false");
    let passed = Keyframes::watch(&running.pad("s", "sink"));
    running.play();
    passed.wait_for(90);
    // The first one, and perhaps one that a busy server adds while it starts.
    let settled = 45;
    assert_eq!(passed.since(settled), 0, "keyframes nobody asked for");
    let before = passed.len();
    let request = gst_video::UpstreamForceKeyUnitEvent::builder()
        .all_headers(true)
        .build();
    assert!(running.pad("s", "sink").push_event(request));
    wait_until("a keyframe", Duration::from_secs(3), || {
        passed.since(before) > 0
    });
    assert!(complaints.lock().unwrap().is_empty(), "{complaints:?}");
}
