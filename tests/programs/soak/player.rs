// SPDX-License-Identifier: MIT

//! What the sessions have in common: a count of what happened, and a pipeline that is opened again
//! when it fails.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    frames::FrameReader,
    pipeline::{BusError, TestPipeline},
    watch,
};

/// The longest time without a picture: an outage, the platform's window of 30 s, and another
/// pipeline, on a busy machine.
const STUCK: Duration = Duration::from_secs(120);
/// Between a failure and the next pipeline.
const PAUSE: Duration = Duration::from_secs(2);

/// What happened so far, and whether it is over.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
    /// The ages of the pictures since the last sample, in ms.
    ages: Mutex<Vec<f64>>,
    /// What the network of the first session is like.
    link: Mutex<String>,
    stopped: AtomicBool,
}

impl Tally {
    pub fn add(&self, what: &str) {
        *self
            .counts
            .lock()
            .expect("no panic")
            .entry(what.to_owned())
            .or_default() += 1;
    }

    pub fn count(&self, what: &str) -> u64 {
        let counts = self.counts.lock().expect("no panic");
        counts.get(what).copied().unwrap_or_default()
    }

    pub fn set_link(&self, link: &str) {
        link.clone_into(&mut self.link.lock().expect("no panic"));
    }

    pub fn link(&self) -> String {
        self.link.lock().expect("no panic").clone()
    }

    /// The ages of the pictures since the last call.
    pub fn take_ages(&self) -> Vec<f64> {
        std::mem::take(&mut self.ages.lock().expect("no panic"))
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.lock().expect("no panic");
        let parts: Vec<_> = counts
            .iter()
            .map(|(what, n)| format!("{what} {n}"))
            .collect();
        write!(f, "{}", parts.join(", "))
    }
}

/// Waits; returns early, and true, when it is over.
pub fn pause(tally: &Tally, length: Duration) -> bool {
    let end = Instant::now() + length;
    while !tally.is_stopped() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50).min(end - Instant::now()));
    }
    tally.is_stopped()
}

/// A pipeline that may fail, and what the application does then.
pub struct Player<'a, T> {
    name: &'static str,
    tally: &'a Tally,
    open: Box<dyn Fn() -> T + 'a>,
    parts: fn(&T) -> (&TestPipeline, &FrameReader),
    playing: T,
    last_picture: Instant,
}

impl<'a, T> Player<'a, T> {
    /// `open` makes the pipeline; `parts` says where its pictures arrive.
    pub fn start(
        name: &'static str,
        tally: &'a Tally,
        open: impl Fn() -> T + 'a,
        parts: fn(&T) -> (&TestPipeline, &FrameReader),
    ) -> Self {
        let player = Self {
            name,
            tally,
            playing: open(),
            open: Box::new(open),
            parts,
            last_picture: Instant::now(),
        };
        player.play();
        player
    }

    pub fn playing(&self) -> &T {
        &self.playing
    }

    /// It is no fault of the element that no picture came until now.
    pub fn excuse(&mut self) {
        self.last_picture = Instant::now();
    }

    fn play(&self) {
        watch::timed(format!("the start of {}", self.name), || {
            (self.parts)(&self.playing).0.play();
        });
        self.tally.add("connections");
    }

    /// Reads what came, and opens the pipeline again if it has failed. Returns whether pictures
    /// came.
    pub fn tick(&mut self) -> bool {
        let (running, frames) = (self.parts)(&self.playing);
        let ages: Vec<_> = frames
            .frames()
            .iter()
            .map(|frame| frame.age().as_secs_f64() * 1e3)
            .collect();
        frames.clear();
        let has_pictures = !ages.is_empty();
        self.tally.ages.lock().expect("no panic").extend(ages);
        let failed = self.read_bus(running);
        if has_pictures {
            self.last_picture = Instant::now();
        }
        if self.last_picture.elapsed() > STUCK {
            watch::complain(format!("{}: no picture for {STUCK:?}", self.name));
            self.excuse();
        }
        if failed {
            self.reopen();
        }
        has_pictures
    }

    /// Whether the pipeline is at its end.
    fn read_bus(&self, running: &TestPipeline) -> bool {
        let bus = running.pipeline.bus().expect("a bus");
        let mut failed = false;
        while let Some(message) = bus.pop() {
            let structure = message.structure().map(|s| s.name().as_str());
            match (message.view(), structure) {
                (gst::MessageView::Error(error), _) => {
                    let error = BusError::of(error);
                    let code = error.details.as_ref().and_then(|d| d.get("code").ok());
                    let code: String = code.unwrap_or_else(|| error.error.to_string());
                    self.tally.add(&format!("{} {code}", self.name));
                    failed = true;
                }
                (gst::MessageView::Eos(_), _) => {
                    self.tally.add(&format!("{} EOS", self.name));
                    failed = true;
                }
                (_, Some("reactor-resumed")) => {
                    self.tally.add(&format!("{} resumed", self.name));
                    self.tally.add("connections");
                }
                _ => {}
            }
        }
        failed
    }

    fn reopen(&mut self) {
        self.stop();
        if pause(self.tally, PAUSE) {
            return;
        }
        self.tally.add(&format!("{} opened again", self.name));
        self.playing = (self.open)();
        self.play();
    }

    pub fn stop(&self) {
        watch::timed(format!("the stop of {}", self.name), || {
            (self.parts)(&self.playing).0.stop();
        });
    }
}
