// SPDX-License-Identifier: MIT

//! The answering peer connection and the media it sends.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use gst::{glib, prelude::*};
use gst_webrtc::{
    WebRTCDataChannel, WebRTCICEGatheringState, WebRTCRTPTransceiver,
    WebRTCRTPTransceiverDirection, WebRTCSDPType, WebRTCSessionDescription,
};

use super::{
    Encoding, HEIGHT, Offer, PeerState, Section, WIDTH, hostile::Tampering, log, messages,
};

/// webrtcbin may never report that gathering is complete.
const GATHERING_LIMIT: Duration = Duration::from_secs(2);

/// The SSRC of the first track, where the answer announces it.
const SSRC: u32 = 0x5EED_0000;

#[derive(Debug)]
pub(super) struct Connection {
    // webrtcbin 1.22 must outlive its data channels: they are dropped first.
    channels: Mutex<Vec<WebRTCDataChannel>>,
    tracks: HashMap<String, Sender>,
    /// The offer is applied: candidates can be added.
    negotiated: AtomicBool,
    pub(super) tampering: OnceLock<Tampering>,
    pub(super) webrtcbin: gst::Element,
    pipeline: gst::Pipeline,
}

/// A track from its source to webrtcbin.
#[derive(Debug)]
struct Sender {
    bin: gst::Bin,
    sent: Arc<AtomicU64>,
}

/// Answers an offer. Stores the answer and the connection in `shared`.
pub(super) async fn open(shared: &Arc<PeerState>, offer: &Offer) -> Result<()> {
    let connection = Arc::new(Connection::new(shared, offer)?);
    let previous = shared
        .connection
        .lock()
        .unwrap()
        .replace(connection.clone());
    drop(previous);
    let mut answer = connection.negotiate(offer).await?;
    connection.negotiated.store(true, Ordering::Release);
    connection.add_candidates(shared);
    if shared.config.rejects_channels {
        let (media, data) = answer.split_once("m=application ").context("channels")?;
        let (_port, rest) = data.split_once(' ').context("a port")?;
        answer = format!("{media}m=application 0 {rest}");
    }
    if let Some(size) = shared.config.chunking {
        let line = format!("a=x-reactor-dc-chunking:1 max-message-size={size}\r\n");
        let media = answer.find("m=").context("an m-line")?;
        answer.insert_str(media, &line);
    }
    log(format!("answer:\n{answer}"));
    shared.set_state("streaming");
    *shared.answer.lock().unwrap() = Some(answer);
    Ok(())
}

impl Connection {
    fn new(shared: &Arc<PeerState>, offer: &Offer) -> Result<Self> {
        let webrtcbin = gst::ElementFactory::make("webrtcbin")
            .property_from_str("bundle-policy", "max-bundle")
            .build()?;
        restrict_candidates(&webrtcbin);
        let pipeline = gst::Pipeline::new();
        pipeline.add(&webrtcbin)?;
        watch(&pipeline);
        let mut connection = Self {
            channels: Mutex::default(),
            tracks: HashMap::new(),
            negotiated: AtomicBool::new(false),
            tampering: OnceLock::new(),
            webrtcbin,
            pipeline,
        };
        connection.listen(shared);
        connection.pipeline.set_state(gst::State::Ready)?;
        // In the order of the m-lines: webrtcbin 1.22 pairs the transceivers of the answer with
        // them in this order.
        for section in offer.sections.iter().filter(|s| s.kind != "application") {
            connection.add_track(shared, section)?;
        }
        connection.pipeline.set_state(gst::State::Playing)?;
        Ok(connection)
    }

    fn listen(&self, shared: &Arc<PeerState>) {
        let weak = Arc::downgrade(shared);
        let on_channel = move |channel: WebRTCDataChannel| {
            messages::attach(&weak, &channel);
            if let Some(connection) = weak.upgrade().and_then(|shared| shared.connection()) {
                connection.channels.lock().unwrap().push(channel);
            }
        };
        self.webrtcbin
            .connect("on-data-channel", false, move |values| {
                on_channel(values[1].get().expect("a channel"));
                None
            });
    }

    fn add_track(&mut self, shared: &PeerState, section: &Section) -> Result<()> {
        let name = section.track.as_ref().context("a track for every m-line")?;
        let tracks = &shared.config.tracks;
        let (_, encoding) = tracks
            .iter()
            .find(|(track, _)| track == name)
            .with_context(|| format!("no track {name}"))?;
        let (payload, _) = section
            .formats
            .iter()
            .find(|(_, codec)| codec == encoding.name())
            .with_context(|| format!("{} is not offered", encoding.name()))?;
        let mut rtp = rtp_caps(*encoding, *payload);
        if shared.config.announces_ssrc {
            // The SSRC of the caps gets into the answer.
            rtp.make_mut().set("ssrc", SSRC + self.tracks.len() as u32);
        }
        let line = format!("{} ! capsfilter caps=\"{rtp}\"", chain(*encoding));
        let bin = gst::parse::bin_from_description(&line, true)?;
        self.pipeline.add(&bin)?;
        let source = bin.static_pad("src").context("a source pad")?;
        let sink = self.webrtcbin.request_pad_simple("sink_%u");
        let sink = sink.context("a sink pad")?;
        let transceiver: WebRTCRTPTransceiver = sink.property("transceiver");
        transceiver.set_property("direction", WebRTCRTPTransceiverDirection::Sendonly);
        transceiver.set_property("codec-preferences", rtp);
        source.link(&sink)?;
        let sent = count(&source);
        self.tracks.insert(name.clone(), Sender { bin, sent });
        Ok(())
    }

    async fn negotiate(&self, offer: &Offer) -> Result<String> {
        let sdp = gst_sdp::SDPMessage::parse_buffer(offer.sdp.as_bytes())?;
        let offer = WebRTCSessionDescription::new(WebRTCSDPType::Offer, sdp);
        self.call("set-remote-description", &offer).await?;
        let reply = self.call("create-answer", &None::<gst::Structure>).await?;
        let answer: WebRTCSessionDescription = reply.context("an answer")?.get("answer")?;
        self.call("set-local-description", &answer).await?;
        let deadline = Instant::now() + GATHERING_LIMIT;
        while self.gathering() != WebRTCICEGatheringState::Complete && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let local: WebRTCSessionDescription = self.webrtcbin.property("local-description");
        Ok(local.sdp().as_text()?)
    }

    /// Adds the client's candidates that have arrived, once the offer is applied.
    pub(super) fn add_candidates(&self, shared: &PeerState) {
        if !self.negotiated.load(Ordering::Acquire) {
            return;
        }
        for (mline, candidate) in shared.candidates.lock().unwrap().drain(..) {
            self.webrtcbin
                .emit_by_name::<()>("add-ice-candidate", &[&mline, &candidate]);
        }
    }

    /// Emits an action of webrtcbin; returns its reply.
    async fn call(
        &self,
        action: &str,
        argument: &(dyn ToValue + Sync),
    ) -> Result<Option<gst::Structure>> {
        let (promise, reply) = gst::Promise::new_future();
        self.webrtcbin
            .emit_by_name::<()>(action, &[argument, &promise]);
        let reply = reply
            .await
            .map_err(|error| anyhow::anyhow!("{action}: {error:?}"))?;
        let reply = reply.map(|reply| reply.to_owned());
        match reply.as_ref().map(|s| s.get::<glib::Error>("error")) {
            Some(Ok(error)) => Err(error).context(action.to_owned()),
            _ => Ok(reply),
        }
    }

    fn gathering(&self) -> WebRTCICEGatheringState {
        self.webrtcbin.property("ice-gathering-state")
    }

    pub(super) fn channel(&self, label: &str) -> Option<WebRTCDataChannel> {
        let channels = self.channels.lock().unwrap();
        let mut channels = channels.iter();
        channels
            .find(|c| c.label().as_deref() == Some(label))
            .cloned()
    }

    pub(super) fn sent(&self, track: &str) -> u64 {
        let sender = self.tracks.get(track);
        sender.map_or(0, |sender| sender.sent.load(Ordering::Relaxed))
    }

    /// Starts a track, from a keyframe on, or stops it.
    pub(super) fn set_flowing(&self, track: &str, flowing: bool) {
        let Some(sender) = self.tracks.get(track) else {
            return;
        };
        let gate = sender.bin.by_name("gate").expect("the gate");
        gate.set_property("drop", !flowing);
        if flowing && let Some(encoder) = sender.bin.by_name("encoder") {
            let event = gst_video::UpstreamForceKeyUnitEvent::builder()
                .all_headers(true)
                .build();
            encoder.send_event(event);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        self.channels.lock().unwrap().clear();
    }
}

/// No multicast for a router (UPnP), no unused candidates (ICE-TCP).
fn restrict_candidates(webrtcbin: &gst::Element) {
    let ice: gst::Object = webrtcbin.property("ice-agent");
    let agent: glib::Object = ice.property("agent");
    agent.set_property("upnp", false);
    agent.set_property("ice-tcp", false);
}

/// Errors are expected when the client leaves; nothing reads the messages.
fn watch(pipeline: &gst::Pipeline) {
    let bus = pipeline.bus().expect("a bus");
    bus.set_sync_handler(|_, message| {
        if let gst::MessageView::Error(error) = message.view() {
            log(format!("{} {:?}", error.error(), error.debug()));
        }
        gst::BusSyncReply::Drop
    });
}

/// Without the format's parameters: the answer copies them from the offer.
fn rtp_caps(encoding: Encoding, payload: u8) -> gst::Caps {
    let clock_rate = match encoding {
        Encoding::Opus => 48_000,
        _ => 90_000,
    };
    gst::Caps::builder("application/x-rtp")
        .field("media", encoding.kind())
        .field("encoding-name", encoding.name())
        .field("payload", i32::from(payload))
        .field("clock-rate", clock_rate)
        .build()
}

/// The elements from source to packets. Nothing passes the valve before the client asks.
fn chain(encoding: Encoding) -> String {
    let source = match encoding {
        Encoding::Opus => "audiotestsrc is-live=true samplesperbuffer=480 volume=0.1 ! \
             audio/x-raw,rate=48000,channels=2"
            .to_owned(),
        _ => format!(
            "videotestsrc is-live=true pattern=ball ! \
             video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate=30/1"
        ),
    };
    let encoder = match encoding {
        Encoding::H264 => {
            "x264enc name=encoder tune=zerolatency speed-preset=ultrafast bitrate=500 \
             key-int-max=300 ! video/x-h264,profile=constrained-baseline ! \
             rtph264pay aggregate-mode=zero-latency config-interval=-1"
        }
        Encoding::Vp8 => {
            "vp8enc name=encoder deadline=1 cpu-used=8 keyframe-max-dist=300 ! rtpvp8pay"
        }
        Encoding::Vp9 => {
            "vp9enc name=encoder deadline=1 cpu-used=8 keyframe-max-dist=300 ! rtpvp9pay"
        }
        Encoding::Av1 => {
            "av1enc name=encoder cpu-used=8 usage-profile=realtime keyframe-max-dist=30 ! \
             av1parse ! rtpav1pay"
        }
        Encoding::Opus => "opusenc ! rtpopuspay",
    };
    format!("{source} ! valve name=gate drop=true ! {encoder}")
}

/// Counts the packets that pass a pad.
fn count(pad: &gst::Pad) -> Arc<AtomicU64> {
    let counter = Arc::new(AtomicU64::new(0));
    let count = counter.clone();
    let what = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(what, move |_, info| {
        let packets = match &info.data {
            Some(gst::PadProbeData::BufferList(list)) => list.len() as u64,
            _ => 1,
        };
        count.fetch_add(packets, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    counter
}

/// Starts or stops a track, if there is a connection.
pub(super) fn set_flowing(shared: &Weak<PeerState>, track: &str, flowing: bool) {
    if let Some(connection) = shared.upgrade().and_then(|shared| shared.connection()) {
        connection.set_flowing(track, flowing);
    }
}
