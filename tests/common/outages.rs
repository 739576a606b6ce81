// SPDX-License-Identifier: MIT

//! A camera, a microphone, a screen and a loudspeaker in one pipeline, and the checks that it
//! passes after an outage.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_coordinator::{Coordinator, CoordinatorSettings};

use crate::{
    TIMEOUT,
    audio::{self, AudioRecorder, ToneMark},
    camera_view::{CameraView, Colour},
    cloud::start_coordinator,
    frames::{Frame, FrameReader, monotonic_us},
    link_down::LinkDown,
    pipeline::{TestPipeline, wait_until},
    random::SplitMix64,
    server::Server,
    trend::median,
};

/// The microphone's tone in Hz, which the playground does not emit.
const MICROPHONE: f64 = 3000.0;
/// The playground's frames per second.
const FPS: u32 = 30;
/// The largest offset of audio against video in ms, in addition to the server's. A busy machine
/// causes 200 ms without any outage; an error in the timestamps after a gap would be as large as
/// the gap.
const MAX_OFFSET: f64 = 450.0;
/// How long after a recovery audio and video are compared.
const COMPARED: Duration = Duration::from_millis(3300);

/// How long the platform keeps a session without a connection; the runtime here does, too.
pub const WINDOW: Duration = Duration::from_secs(30);

/// A runtime that keeps a session as long as the platform does.
pub fn server() -> Server {
    Server::start(&[("ORPHAN_TIMEOUT_SECONDS", &WINDOW.as_secs().to_string())])
}

/// The stand-in coordinator in front of it.
pub fn coordinator(server: &Server) -> Coordinator {
    let settings = CoordinatorSettings {
        resume_window: WINDOW,
        ..CoordinatorSettings::default()
    };
    start_coordinator(server, settings)
}

/// One outage, and the time from its end to the next one if that does not wait for the recovery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outage {
    /// Uninterrupted time before it.
    pub pause: Duration,
    pub length: Duration,
    pub next: Option<Duration>,
    /// When a command is sent, as a fraction of the length.
    pub command: f64,
}

/// Draws `count` outages between `min` and `max` seconds, most of them short. Outages that follow
/// each other without a recovery are, together, never longer than `max`, so that the platform keeps
/// the session.
pub fn random_outages(seed: u64, count: usize, min: f64, max: f64) -> Vec<Outage> {
    let mut random = SplitMix64::new(seed);
    let mut outages: Vec<Outage> = Vec::new();
    let mut dark = 0.0;
    while outages.len() < count {
        // Exponential: the mean is 5 s above `min`.
        let length = loop {
            let length = min - 5.0 * (1.0 - random.next_f64()).ln();
            if length <= max {
                break length;
            }
        };
        let (early, gap) = (random.next_f64() < 0.25, random.next_f64() * 3.0);
        if let Some(last) = outages.last_mut()
            && early
            && dark + gap + length <= max
        {
            last.next = Some(Duration::from_secs_f64(gap));
            dark += gap + length;
        } else {
            dark = length;
        }
        outages.push(Outage {
            pause: Duration::from_secs_f64(random.next_f64() * 1.5),
            length: Duration::from_secs_f64(length),
            next: None,
            command: random.next_f64(),
        });
    }
    outages
}

/// What the bus and the pads have reported so far.
#[derive(Debug, Clone, Default)]
struct Observed {
    errors: Vec<String>,
    /// State changes of the pipeline away from PLAYING.
    left_playing: Vec<String>,
    interrupted: u32,
    resumed: u32,
    restarted: u32,
    /// Buffers whose PTS is not above the previous one of their pad.
    unordered: Vec<String>,
    replies: Vec<Reply>,
}

/// The outcome of a command.
#[derive(Debug, Clone)]
pub struct Reply {
    pub text: String,
    /// The error's code.
    pub error: Option<String>,
}

/// How far audio is behind video, in ms.
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    /// By the timestamps: what a viewer notices.
    pub shown: f64,
    /// By the times of arrival: the part that the server and the network cause. (The runtime plays
    /// audio from a queue, and video at once.)
    pub came: f64,
}

impl Lag {
    /// The part that the element has added.
    pub fn added(self) -> f64 {
        self.shown - self.came
    }

    /// The element may present anything between perfect sync and the order of arrival.
    fn is_good(self) -> bool {
        let (least, most) = (self.came.min(0.0), self.came.max(0.0));
        (least - MAX_OFFSET..most + MAX_OFFSET).contains(&self.shown)
    }
}

/// The outcome of an outage.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// From the end of the outage to the first picture that arrived after it.
    pub first_frame: Duration,
    /// Whether there is a new connection.
    pub reconnected: bool,
    pub lag: Lag,
    /// The outcomes of the commands sent during the outage.
    pub replies: Vec<Reply>,
}

/// The pipeline and its probes.
#[derive(Debug)]
pub struct DuplexPipeline {
    pub running: TestPipeline,
    pub session: String,
    /// Measured before any outage.
    pub lag_at_first: Option<Lag>,
    view: CameraView,
    reader: FrameReader,
    listener: AudioRecorder,
    observed: Arc<Mutex<Observed>>,
}

impl DuplexPipeline {
    /// Plays until all streams flow. Both elements get the properties.
    pub fn open(url: &str, properties: &str) -> Self {
        let both = format!("api-url={url} {properties}");
        let camera = Colour::Red.pattern();
        let caps = audio::CAPS;
        let running = TestPipeline::parse(&format!(
            "videotestsrc is-live=true pattern={camera} \
             ! video/x-raw,width=320,height=180,framerate=15/1 ! reactorsink name=s {both} \
             audiotestsrc is-live=true freq={MICROPHONE} volume=0.05 ! audioconvert ! s. \
             reactorsrc name=r {both} \
             r.video_main_video ! videoconvert ! video/x-raw,format=I420 \
             ! identity name=i ! queue ! fakesink sync=true \
             r.audio_main_audio ! audioconvert ! audioresample ! {caps} \
             ! identity name=a ! queue ! fakesink sync=true"
        ));
        let (video, audio) = (running.pad("i", "src"), running.pad("a", "src"));
        let observed = Arc::new(Mutex::new(Observed::default()));
        watch_bus(&running, &observed);
        for pad in [&video, &audio] {
            watch_order(pad, &observed);
        }
        let mut duplex = Self {
            view: CameraView::watch(&video),
            reader: FrameReader::watch(&video),
            listener: AudioRecorder::watch(&audio),
            observed,
            running,
            session: String::new(),
            lag_at_first: None,
        };
        duplex.running.play();
        duplex.wait_for_all();
        duplex.clear();
        std::thread::sleep(COMPARED);
        duplex.lag_at_first = duplex.lag();
        duplex.session = duplex.session_id().expect("a session");
        duplex
    }

    /// The pictures that passed since the last [`Self::clear`].
    pub fn frames(&self) -> Vec<Frame> {
        self.reader.frames()
    }

    pub fn chunks(&self) -> Vec<audio::AudioChunk> {
        self.listener.chunks()
    }

    pub fn session_id(&self) -> Option<String> {
        self.running.by_name("r").property("session-id")
    }

    /// Waits until the camera is visible and the microphone audible.
    fn wait_for_all(&self) {
        self.view.wait_for(Colour::Red, TIMEOUT);
        wait_until("the microphone", TIMEOUT, || {
            let chunks = self.listener.chunks();
            let last = &chunks[chunks.len().saturating_sub(20)..];
            let samples: Vec<i16> = last.iter().flat_map(|p| p.samples.clone()).collect();
            audio::amplitude(&samples, MICROPHONE) > 0.02
        });
    }

    fn heard(&self) -> Observed {
        self.observed.lock().unwrap().clone()
    }

    /// Drops all pictures and audio recorded so far.
    pub fn clear(&self) {
        self.view.clear();
        self.reader.clear();
        self.listener.clear();
    }

    /// Sends a command that the playground answers with its text.
    pub fn echo(&self, text: &str) {
        let observed = self.observed.clone();
        let sent = text.to_owned();
        let promise = gst::Promise::with_change_func(move |reply| {
            let error = match reply {
                Ok(Some(reply)) => reply
                    .get::<gst::Structure>("error")
                    .ok()
                    .map(|error| error.get::<String>("code").unwrap_or_default()),
                other => Some(format!("{other:?}")),
            };
            let text = sent.clone();
            observed.lock().unwrap().replies.push(Reply { text, error });
        });
        let json = serde_json::json!({ "text": text }).to_string();
        let source = self.running.by_name("r");
        source.emit_by_name::<()>("send-command", &[&"echo", &json, &promise]);
    }

    /// How far audio is behind video: the medians over all marks.
    pub fn lag(&self) -> Option<Lag> {
        let (frames, marks) = (self.reader.frames(), audio::marks(&self.listener.chunks()));
        let lags = marks.iter().filter_map(|mark| lag_of(mark, &frames));
        let (mut shown, mut came): (Vec<_>, Vec<_>) = lags.unzip();
        Some(Lag {
            shown: median(&mut shown)?,
            came: median(&mut came)?,
        })
    }

    /// Takes the network down and up again for each outage, then checks that everything is as
    /// before.
    pub fn run_outages(&self, server: &Server, outages: &[Outage]) -> Result<Recovery, String> {
        let before = self.heard();
        let replied = before.replies.len();
        let mut must_reply = Vec::new();
        let mut back = 0;
        for (n, outage) in outages.iter().enumerate() {
            if n == 0 {
                std::thread::sleep(outage.pause);
            }
            let link_down = LinkDown::begin(server);
            std::thread::sleep(outage.length.mul_f64(outage.command));
            let observed = self.heard();
            let text = format!("{}.{n}", observed.replies.len());
            if observed.interrupted > observed.resumed + observed.restarted {
                must_reply.push(text.clone());
            }
            self.echo(&text);
            std::thread::sleep(outage.length.mul_f64(1.0 - outage.command));
            self.clear();
            back = monotonic_us();
            drop(link_down);
            if let Some(gap) = outage.next {
                std::thread::sleep(gap);
            }
        }
        poll_until("a picture", || !self.reader.is_empty())?;
        let seen = self.reader.frames()[0].seen;
        let first_frame = Duration::from_micros(u64::from(seen.wrapping_sub(back)));
        self.check_flow()?;
        let mut replies = Vec::new();
        poll_until("the replies", || {
            replies = self.heard().replies.split_off(replied);
            replies.len() >= outages.len()
        })?;
        check_replies(&replies, &must_reply)?;
        self.check_uninterrupted()?;
        let lag = self.lag().ok_or("no mark of the sound was heard")?;
        if !lag.is_good() {
            return Err(format!("sound and pictures are apart: {lag:?}"));
        }
        Ok(Recovery {
            first_frame,
            reconnected: self.heard().resumed > before.resumed,
            lag,
            replies,
        })
    }

    /// Checks video, audio, the camera and the microphone.
    fn check_flow(&self) -> Result<(), String> {
        poll_until("the connection", || {
            let observed = self.heard();
            observed.interrupted == observed.resumed + observed.restarted
        })?;
        // What was in flight may arrive before the recovery.
        self.clear();
        poll_until("sound", || self.listener.seconds() > 0.5)?;
        std::thread::sleep(COMPARED);
        poll_until("the camera", || {
            let look = self.view.last();
            look.is_some_and(|look| Colour::Red.is_inverted(look.inside))
        })?;
        poll_until("the microphone", || {
            let chunks = self.listener.chunks();
            let last = &chunks[chunks.len().saturating_sub(20)..];
            let samples: Vec<i16> = last.iter().flat_map(|p| p.samples.clone()).collect();
            audio::amplitude(&samples, MICROPHONE) > 0.02
        })
    }

    /// Checks that the application has noticed nothing but a gap.
    fn check_uninterrupted(&self) -> Result<(), String> {
        let observed = self.heard();
        for (what, list) in [
            ("errors", &observed.errors),
            ("states", &observed.left_playing),
            ("times", &observed.unordered),
        ] {
            if !list.is_empty() {
                return Err(format!("{what}: {list:?}"));
            }
        }
        let state = self.running.pipeline.state(gst::ClockTime::ZERO);
        if state.1 != gst::State::Playing || state.2 != gst::State::VoidPending {
            return Err(format!("the pipeline is {state:?}"));
        }
        let id = self.session_id();
        if id.as_deref() != Some(&self.session) {
            return Err(format!("the session is {id:?}, not {}", self.session));
        }
        Ok(())
    }
}

/// How far this mark is behind its picture, by timestamps and by arrival, in ms.
fn lag_of(mark: &ToneMark, frames: &[Frame]) -> Option<(f64, f64)> {
    let lags = frames.iter().filter_map(|frame| {
        // The picture that the mark belongs to, or a neighbour of one that was dropped.
        let off = f64::from((frame.counter + FPS / 2) % FPS) - f64::from(FPS / 2);
        let off_ms = off * 1000.0 / f64::from(FPS);
        let shown = (mark.pts.nseconds() as f64 - frame.pts?.nseconds() as f64) / 1e6;
        let came = f64::from(mark.seen.wrapping_sub(frame.seen) as i32) / 1e3;
        Some((off.abs(), (shown + off_ms, came + off_ms)))
    });
    let near = lags.filter(|(off, (shown, _))| *off <= 3.0 && shown.abs() < 500.0);
    near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, lag)| lag)
}

/// Each command is answered; one that was in flight when the network went down may fail with
/// DISCONNECTED, or time out after 10 s.
fn check_replies(replies: &[Reply], must_reply: &[String]) -> Result<(), String> {
    for Reply { text, error } in replies {
        match error.as_deref() {
            None => {}
            Some("DISCONNECTED" | "REQUEST_TIMEOUT") if !must_reply.contains(text) => {}
            Some(code) => return Err(format!("the command {text} was answered with {code}")),
        }
    }
    Ok(())
}

fn poll_until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + TIMEOUT;
    while !condition() {
        if Instant::now() >= deadline {
            return Err(format!("not within {TIMEOUT:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn watch_bus(running: &TestPipeline, observed: &Arc<Mutex<Observed>>) {
    let pipeline = running.pipeline.downgrade();
    let observed = observed.clone();
    let bus = running.pipeline.bus().expect("a bus");
    let played = std::sync::atomic::AtomicBool::new(false);
    bus.set_sync_handler(move |_, message| {
        use std::sync::atomic::Ordering::Relaxed;
        let mut observed = observed.lock().unwrap();
        let name = message.structure().map(|s| s.name().as_str());
        let by_source = message.src().is_some_and(|src| src.name() == "r");
        match (message.view(), name) {
            (gst::MessageView::Error(error), _) => {
                observed
                    .errors
                    .push(format!("{} {:?}", error.error(), error.debug()));
            }
            (gst::MessageView::StateChanged(changed), _) => {
                let ours = message.src() == pipeline.upgrade().as_ref().map(|p| p.upcast_ref());
                if ours && changed.current() == gst::State::Playing {
                    played.store(true, Relaxed);
                } else if ours && played.load(Relaxed) {
                    observed.left_playing.push(format!("{changed:?}"));
                }
            }
            (_, Some("reactor-interrupted")) if by_source => observed.interrupted += 1,
            (_, Some("reactor-resumed")) if by_source => {
                let structure = message.structure().expect("it has a name");
                match structure.get::<bool>("restarted").expect("a field") {
                    true => observed.restarted += 1,
                    false => observed.resumed += 1,
                }
            }
            _ => {}
        }
        // Nothing else reads them.
        gst::BusSyncReply::Drop
    });
}

fn watch_order(pad: &gst::Pad, observed: &Arc<Mutex<Observed>>) {
    let observed = observed.clone();
    let last = Mutex::new(None::<gst::ClockTime>);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let pts = info.buffer().and_then(|buffer| buffer.pts());
        let before = std::mem::replace(&mut *last.lock().unwrap(), pts);
        if pts.is_none() || before >= pts {
            let what = format!("{}: {pts:?} after {before:?}", pad.name());
            observed.lock().unwrap().unordered.push(what);
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_outages_of_one_seed_are_equal() {
        let outages = random_outages(7, 1000, 1.0, 25.0);
        assert_eq!(outages, random_outages(7, 1000, 1.0, 25.0));
        assert_ne!(outages, random_outages(8, 1000, 1.0, 25.0));
        assert_eq!(outages[..3], random_outages(7, 4, 1.0, 25.0)[..3]);
        let mean = outages.iter().map(|o| o.length.as_secs_f64()).sum::<f64>() / 1000.0;
        assert!((5.0..7.0).contains(&mean), "{mean}");
        let mut dark = 0.0;
        for outage in outages {
            let length = outage.length.as_secs_f64();
            assert!((1.0..=25.0).contains(&length));
            dark += length;
            assert!(dark <= 25.0);
            dark = outage.next.map_or(0.0, |gap| dark + gap.as_secs_f64());
        }
    }
}
