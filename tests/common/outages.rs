// SPDX-License-Identifier: MIT

//! A camera, a microphone, a screen and a loudspeaker in one pipeline, and
//! what has to be true of them when the network was down for a while.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_coordinator::{Coordinator, Settings};

use crate::{
    blackout::Blackout,
    frames::{Frame, Reader, monotonic_us},
    inset::{Colour, Inset},
    pipeline::{Running, wait_until},
    server::Server,
    sound::{self, Listener, Mark},
};

pub const KEY: &str = "rk_test";
const SOON: Duration = Duration::from_secs(30);
/// The microphone's tone, none of the playground's own.
const MICROPHONE: f64 = 3000.0;
/// The playground's pictures a second.
const FPS: u32 = 30;
/// How far sound may be from its picture, in ms, besides what the server is
/// late with. Much, as a machine that is busy makes 200 of it without any
/// outage; a mistake in the time after a gap would be as long as the gap.
const APART: f64 = 450.0;
/// For how long after a recovery sound and pictures are compared.
const COMPARED: Duration = Duration::from_millis(3300);

/// The platform keeps a session for so long, and so does the runtime here.
pub const WINDOW: Duration = Duration::from_secs(30);

/// A runtime that keeps a session as long as the platform does.
pub fn server() -> Server {
    Server::start(&[("ORPHAN_TIMEOUT_SECONDS", &WINDOW.as_secs().to_string())])
}

/// The stand-in for the cloud before it.
pub fn coordinator(server: &Server) -> Coordinator {
    Coordinator::start(Settings {
        runtime: Some(server.url()),
        resume_window: WINDOW,
        ..Settings::default()
    })
    .expect("a coordinator")
}

/// One blackout, and how long after its end the next one begins if that does
/// not wait for the recovery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outage {
    /// Of quiet before it.
    pub pause: Duration,
    pub length: Duration,
    pub next: Option<Duration>,
    /// When a command is sent, as a part of the length.
    pub command: f64,
}

/// All of them: between `min` and `max` seconds, most of them short. Those
/// that follow each other without a recovery are, together, never longer than
/// the longest one, so that the platform keeps the session.
pub fn draw(seed: u64, count: usize, min: f64, max: f64) -> Vec<Outage> {
    let mut dice = Dice(seed);
    let mut outages: Vec<Outage> = Vec::new();
    let mut dark = 0.0;
    while outages.len() < count {
        // Exponential: the mean is 5 s above the least.
        let length = loop {
            let length = min - 5.0 * (1.0 - dice.roll()).ln();
            if length <= max {
                break length;
            }
        };
        let (early, gap) = (dice.roll() < 0.25, dice.roll() * 3.0);
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
            pause: Duration::from_secs_f64(dice.roll() * 1.5),
            length: Duration::from_secs_f64(length),
            next: None,
            command: dice.roll(),
        });
    }
    outages
}

/// SplitMix64, Sebastiano Vigna, 2015.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// From 0 up to 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What the bus and the pads have said so far.
#[derive(Debug, Clone, Default)]
struct Heard {
    errors: Vec<String>,
    /// The pipeline was, or wanted to be, in another state than PLAYING.
    left_playing: Vec<String>,
    interrupted: u32,
    resumed: u32,
    restarted: u32,
    /// A PTS that is not above the one before on its pad.
    unordered: Vec<String>,
    replies: Vec<Reply>,
}

/// What became of a command.
#[derive(Debug, Clone)]
pub struct Reply {
    pub text: String,
    /// The error's code.
    pub error: Option<String>,
}

/// How far sound is behind its picture, in ms.
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    /// By the timestamps: what a viewer notices.
    pub shown: f64,
    /// In how they came: what of it is the server's and the network's. (The
    /// runtime plays sound from a queue, and pictures at once.)
    pub came: f64,
}

impl Lag {
    /// What the element has added.
    pub fn added(self) -> f64 {
        self.shown - self.came
    }

    /// From as it should be to as it came is what the element may make of it.
    fn is_good(self) -> bool {
        let (least, most) = (self.came.min(0.0), self.came.max(0.0));
        (least - APART..most + APART).contains(&self.shown)
    }
}

/// What became of an outage.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// From the end of the blackout to the first picture that came after it.
    pub first_frame: Duration,
    /// The connection was made anew.
    pub reconnected: bool,
    pub lag: Lag,
    /// What became of the commands sent in the dark.
    pub replies: Vec<Reply>,
}

/// The pipeline, and all that is watched of it.
#[derive(Debug)]
pub struct Studio {
    pub running: Running,
    pub session: String,
    /// Before any outage.
    pub lag_at_first: Option<Lag>,
    inset: Inset,
    reader: Reader,
    listener: Listener,
    heard: Arc<Mutex<Heard>>,
}

impl Studio {
    /// Plays until everything flows. The properties are those of both elements.
    pub fn open(url: &str, properties: &str) -> Self {
        let both = format!("api-url={url} {properties}");
        let camera = Colour::Red.pattern();
        let caps = sound::CAPS;
        let running = Running::parse(&format!(
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
        let heard = Arc::new(Mutex::new(Heard::default()));
        watch_bus(&running, &heard);
        for pad in [&video, &audio] {
            watch_order(pad, &heard);
        }
        let mut studio = Self {
            inset: Inset::watch(&video),
            reader: Reader::watch(&video),
            listener: Listener::watch(&audio),
            heard,
            running,
            session: String::new(),
            lag_at_first: None,
        };
        studio.running.play();
        studio.wait_for_all();
        studio.forget();
        std::thread::sleep(COMPARED);
        studio.lag_at_first = studio.lag();
        studio.session = studio.session_id().expect("a session");
        studio
    }

    /// The pictures seen, and the pieces of sound heard.
    pub fn frames(&self) -> Vec<Frame> {
        self.reader.frames()
    }

    pub fn pieces(&self) -> Vec<sound::Piece> {
        self.listener.pieces()
    }

    pub fn session_id(&self) -> Option<String> {
        self.running.by_name("r").property("session-id")
    }

    /// Until the camera is seen, the microphone heard, and both for a while.
    fn wait_for_all(&self) {
        self.inset.wait_for(Colour::Red, SOON);
        wait_until("the microphone", SOON, || {
            let pieces = self.listener.pieces();
            let last = &pieces[pieces.len().saturating_sub(20)..];
            let samples: Vec<i16> = last.iter().flat_map(|p| p.samples.clone()).collect();
            sound::amplitude(&samples, MICROPHONE) > 0.02
        });
    }

    fn heard(&self) -> Heard {
        self.heard.lock().unwrap().clone()
    }

    /// What was seen and heard so far.
    pub fn forget(&self) {
        self.inset.clear();
        self.reader.clear();
        self.listener.clear();
    }

    /// A command that the playground answers with the same text.
    pub fn echo(&self, text: &str) {
        let heard = self.heard.clone();
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
            heard.lock().unwrap().replies.push(Reply { text, error });
        });
        let json = serde_json::json!({ "text": text }).to_string();
        let source = self.running.by_name("r");
        source.emit_by_name::<()>("send-command", &[&"echo", &json, &promise]);
    }

    /// How far sound is behind its picture: the medians of all marks heard.
    pub fn lag(&self) -> Option<Lag> {
        let (frames, marks) = (self.reader.frames(), sound::marks(&self.listener.pieces()));
        let lags = marks.iter().filter_map(|mark| lag_of(mark, &frames));
        let (mut shown, mut came): (Vec<_>, Vec<_>) = lags.unzip();
        shown.sort_by(f64::total_cmp);
        came.sort_by(f64::total_cmp);
        let middle = shown.len() / 2;
        Some(Lag {
            shown: *shown.get(middle)?,
            came: *came.get(middle)?,
        })
    }

    /// The network goes down and comes back, as often as the outages say
    /// before there is time to recover; then everything has to be as before.
    pub fn survive(&self, server: &Server, outages: &[Outage]) -> Result<Recovery, String> {
        let before = self.heard();
        let replied = before.replies.len();
        let mut must_reply = Vec::new();
        let mut back = 0;
        for (n, outage) in outages.iter().enumerate() {
            if n == 0 {
                std::thread::sleep(outage.pause);
            }
            let blackout = Blackout::begin(server);
            std::thread::sleep(outage.length.mul_f64(outage.command));
            let heard = self.heard();
            let text = format!("{}.{n}", heard.replies.len());
            if heard.interrupted > heard.resumed + heard.restarted {
                must_reply.push(text.clone());
            }
            self.echo(&text);
            std::thread::sleep(outage.length.mul_f64(1.0 - outage.command));
            self.forget();
            back = monotonic_us();
            drop(blackout);
            if let Some(gap) = outage.next {
                std::thread::sleep(gap);
            }
        }
        within("a picture", || !self.reader.is_empty())?;
        let seen = self.reader.frames()[0].seen;
        let first_frame = Duration::from_micros(u64::from(seen.wrapping_sub(back)));
        self.check_flow()?;
        let mut replies = Vec::new();
        within("the replies", || {
            replies = self.heard().replies.split_off(replied);
            replies.len() >= outages.len()
        })?;
        check_replies(&replies, &must_reply)?;
        self.check_quiet()?;
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

    /// Pictures, sound, the camera and the microphone.
    fn check_flow(&self) -> Result<(), String> {
        within("the connection", || {
            let heard = self.heard();
            heard.interrupted == heard.resumed + heard.restarted
        })?;
        // What was on its way may be seen before the recovery.
        self.forget();
        within("sound", || self.listener.seconds() > 0.5)?;
        std::thread::sleep(COMPARED);
        within("the camera", || {
            let look = self.inset.last();
            look.is_some_and(|look| Colour::Red.is_inverted(look.inside))
        })?;
        within("the microphone", || {
            let pieces = self.listener.pieces();
            let last = &pieces[pieces.len().saturating_sub(20)..];
            let samples: Vec<i16> = last.iter().flat_map(|p| p.samples.clone()).collect();
            sound::amplitude(&samples, MICROPHONE) > 0.02
        })
    }

    /// The user of the pipeline has noticed nothing but a gap.
    fn check_quiet(&self) -> Result<(), String> {
        let heard = self.heard();
        for (what, list) in [
            ("errors", &heard.errors),
            ("states", &heard.left_playing),
            ("times", &heard.unordered),
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

/// How far this mark is behind its picture, in timestamps and in arrival.
fn lag_of(mark: &Mark, frames: &[Frame]) -> Option<(f64, f64)> {
    let lags = frames.iter().filter_map(|frame| {
        // The picture that the mark belongs to, or a neighbour of one that was
        // left out.
        let off = f64::from((frame.counter + FPS / 2) % FPS) - f64::from(FPS / 2);
        let off_ms = off * 1000.0 / f64::from(FPS);
        let shown = (mark.pts.nseconds() as f64 - frame.pts?.nseconds() as f64) / 1e6;
        let came = f64::from(mark.seen.wrapping_sub(frame.seen) as i32) / 1e3;
        Some((off.abs(), (shown + off_ms, came + off_ms)))
    });
    let near = lags.filter(|(off, (shown, _))| *off <= 3.0 && shown.abs() < 500.0);
    near.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, lag)| lag)
}

/// A command is answered; one that was on its way when the network went down
/// may be answered with that, or after 10 s with no more than that.
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

fn within(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + SOON;
    while !condition() {
        if Instant::now() >= deadline {
            return Err(format!("not within {SOON:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn watch_bus(running: &Running, heard: &Arc<Mutex<Heard>>) {
    let pipeline = running.pipeline.downgrade();
    let heard = heard.clone();
    let bus = running.pipeline.bus().expect("a bus");
    let played = std::sync::atomic::AtomicBool::new(false);
    bus.set_sync_handler(move |_, message| {
        use std::sync::atomic::Ordering::Relaxed;
        let mut heard = heard.lock().unwrap();
        let name = message.structure().map(|s| s.name().as_str());
        let by_source = message.src().is_some_and(|src| src.name() == "r");
        match (message.view(), name) {
            (gst::MessageView::Error(error), _) => {
                heard
                    .errors
                    .push(format!("{} {:?}", error.error(), error.debug()));
            }
            (gst::MessageView::StateChanged(changed), _) => {
                let ours = message.src() == pipeline.upgrade().as_ref().map(|p| p.upcast_ref());
                if ours && changed.current() == gst::State::Playing {
                    played.store(true, Relaxed);
                } else if ours && played.load(Relaxed) {
                    heard.left_playing.push(format!("{changed:?}"));
                }
            }
            (_, Some("reactor-interrupted")) if by_source => heard.interrupted += 1,
            (_, Some("reactor-resumed")) if by_source => {
                let structure = message.structure().expect("it has a name");
                match structure.get::<bool>("restarted").expect("a field") {
                    true => heard.restarted += 1,
                    false => heard.resumed += 1,
                }
            }
            _ => {}
        }
        // Nobody else reads them.
        gst::BusSyncReply::Drop
    });
}

fn watch_order(pad: &gst::Pad, heard: &Arc<Mutex<Heard>>) {
    let heard = heard.clone();
    let last = Mutex::new(None::<gst::ClockTime>);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let pts = info.buffer().and_then(|buffer| buffer.pts());
        let before = std::mem::replace(&mut *last.lock().unwrap(), pts);
        if pts.is_none() || before >= pts {
            let what = format!("{}: {pts:?} after {before:?}", pad.name());
            heard.lock().unwrap().unordered.push(what);
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_has_the_same_outages() {
        let outages = draw(7, 1000, 1.0, 25.0);
        assert_eq!(outages, draw(7, 1000, 1.0, 25.0));
        assert_ne!(outages, draw(8, 1000, 1.0, 25.0));
        assert_eq!(outages[..3], draw(7, 4, 1.0, 25.0)[..3]);
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
