// SPDX-License-Identifier: MIT

//! The pipelines that the steps work on, the server, and what must hold once they are gone.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use reactor_coordinator::{Coordinator, CoordinatorSettings};
use reactor_tests::{
    cloud::{KEY, start_coordinator},
    pipeline::status,
    random::SplitMix64,
    server::Server,
    watch,
};

use super::promises;

/// The pipelines at most.
const MAX_PIPELINES: usize = 3;
/// The pipelines at most whose elements are kept after their end.
const MAX_ENDED: usize = 4;
/// How long something may be left after all pipelines are in NULL.
const SETTLED: Duration = Duration::from_secs(5);
/// How long a runtime on a busy machine may take to close a session that it was asked to end.
const CLOSED: Duration = Duration::from_secs(20);
/// A runtime gives a session up that its client does not end.
const ORPHAN_TIMEOUT: &str = "3600";

/// $ stands for the properties of the server, % for a queue that never blocks, see [`unblock`].
const LINES: [&str; 10] = [
    "reactorsrc $ ! % ! fakesink",
    "reactorsrc name=r $ r. ! % ! fakesink r. ! % ! fakesink",
    "videotestsrc is-live=true ! video/x-raw,width=160,height=120 ! reactorsink $",
    "videotestsrc is-live=true ! video/x-raw,width=160,height=120 ! reactorfilter $ ! % ! fakesink",
    "audiotestsrc is-live=true ! reactorsink name=s $ \
     videotestsrc is-live=true ! video/x-raw,width=160,height=120 ! s. \
     reactorsrc $ ! % ! fakesink",
    "videotestsrc num-buffers=30 ! video/x-raw,width=160,height=120 ! \
     reactorfilter $ drain-time=100 ! % ! fakesink",
    "videotestsrc num-buffers=60 ! video/x-raw,width=160,height=120 ! reactorsink $",
    "reactorsrc $ ! % ! fakesink reactorclip request=now duration=1 ! % ! fakesink",
    "reactorsrc $ reactorsink $",
    "reactorsrc $ waiting-timeout=500 ! % ! fakesink sync=false async=false",
];

/// What the next callback of the application does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Mischief {
    Nothing,
    StopPipeline,
    StopElement,
    PausePipeline,
    PlayPipeline,
    WaitForReply,
    Sleep,
}

impl Mischief {
    pub const ALL: [Self; 7] = [
        Self::Nothing,
        Self::StopPipeline,
        Self::StopElement,
        Self::PausePipeline,
        Self::PlayPipeline,
        Self::WaitForReply,
        Self::Sleep,
    ];
}

/// The mischief that waits for a callback: it is done once.
#[derive(Debug, Clone, Default)]
pub struct Armed {
    mischief: Arc<AtomicUsize>,
    /// The callbacks that do some at the moment.
    running: Arc<AtomicUsize>,
}

impl Armed {
    pub fn arm(&self, mischief: Mischief) {
        self.mischief.store(mischief as usize, Ordering::SeqCst);
    }

    /// No callback does anything any more, or will.
    fn disarm(&self) {
        self.arm(Mischief::Nothing);
        while self.running.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Called in a callback of this element.
    pub fn go_off(&self, pipeline: &glib::WeakRef<gst::Pipeline>, element: &gst::Element) {
        self.running.fetch_add(1, Ordering::SeqCst);
        let mischief = Mischief::ALL[self.mischief.swap(0, Ordering::SeqCst)];
        if let Some(pipeline) = pipeline.upgrade() {
            Self::do_now(mischief, &pipeline, element);
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn do_now(mischief: Mischief, pipeline: &gst::Pipeline, element: &gst::Element) {
        watch::timed(format!("{mischief:?} in a callback"), || match mischief {
            Mischief::Nothing => {}
            Mischief::StopPipeline => set_state(pipeline, gst::State::Null),
            Mischief::PausePipeline => set_state(pipeline, gst::State::Paused),
            Mischief::PlayPipeline => set_state(pipeline, gst::State::Playing),
            Mischief::StopElement => set_state(element, gst::State::Null),
            Mischief::WaitForReply => wait_for_reply(element),
            Mischief::Sleep => std::thread::sleep(Duration::from_millis(700)),
        });
    }
}

/// Waits for a while for the reply to a command.
fn wait_for_reply(element: &gst::Element) {
    if glib::subclass::SignalId::lookup("send-command", element.type_()).is_none() {
        return;
    }
    let (sender, answered) = std::sync::mpsc::channel();
    let promise = promises::new("send-command in a callback", move || {
        let _ = sender.send(());
    });
    element.emit_by_name::<()>("send-command", &[&"echo", &r#"{"text":"x"}"#, &promise]);
    let _ = answered.recv_timeout(Duration::from_secs(2));
}

/// Sets a state; whether that succeeds is not the question here.
pub fn set_state(element: &impl IsA<gst::Element>, state: gst::State) {
    let _ = element.set_state(state);
}

/// One pipeline of the application.
#[derive(Debug)]
pub struct Player {
    pub pipeline: gst::Pipeline,
    /// The elements of this plugin, in the pipeline or taken out of it.
    pub reactors: Vec<gst::Element>,
    pub armed: Armed,
    /// A source that is not live waits until an element takes what it pushes.
    pub waits: bool,
    elements: Vec<gst::Element>,
}

impl Player {
    fn new(line: &str) -> Self {
        let pipeline = gst::Pipeline::new();
        let bin = gst::parse::bin_from_description(line, false).expect(line);
        let elements: Vec<gst::Element> = bin.children();
        pipeline.add(&bin).expect("a bin");
        let is_reactor = |element: &&gst::Element| {
            let factory = element.factory();
            factory.is_some_and(|factory| factory.name().starts_with("reactor"))
        };
        let player = Self {
            reactors: elements.iter().filter(is_reactor).cloned().collect(),
            pipeline,
            armed: Armed::default(),
            waits: line.contains("num-buffers"),
            elements,
        };
        let queues = player.elements.iter();
        for element in queues.filter(|element| element.name().starts_with("queue")) {
            unblock(element);
        }
        watch::watch(player.pipeline.upcast_ref());
        for element in &player.reactors {
            player.watch_callbacks(element);
        }
        player
    }

    fn watch_callbacks(&self, element: &gst::Element) {
        let go_off = {
            let (pipeline, armed) = (self.pipeline.downgrade(), self.armed.clone());
            move |element: &gst::Element| armed.go_off(&pipeline, element)
        };
        for signal in ["message", "runtime-message", "session-ended"] {
            if glib::subclass::SignalId::lookup(signal, element.type_()).is_some() {
                let go_off = go_off.clone();
                element.connect(signal, false, move |args| {
                    go_off(&args[0].get().expect("an element"));
                    None
                });
            }
        }
        if element.has_property("status") {
            let go_off = go_off.clone();
            element.connect_notify(Some("status"), move |element, _| go_off(element));
        }
        element.connect_pad_added(move |element, _| go_off(element));
    }

    /// Takes a callback's mischief for a promise of this element.
    pub fn promise(&self, action: &str, element: &gst::Element) -> gst::Promise {
        let (pipeline, armed) = (self.pipeline.downgrade(), self.armed.clone());
        let element = element.downgrade();
        promises::new(action, move || {
            if let Some(element) = element.upgrade() {
                armed.go_off(&pipeline, &element);
            }
        })
    }
}

/// Whoever stops a source alone waits for a sink that waits for preroll, in GStreamer itself: not
/// behind a queue that drops, unless a serialized query waits for its turn in there. Nor does such a
/// query survive an EOS that is followed by a new stream at once: the queue keeps it after its sender
/// has freed it, and aborts when it drops it (GStreamer 1.22 to 1.28).
pub fn unblock(queue: &gst::Element) {
    let pad = queue.static_pad("sink").expect("a pad");
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        match info.query().is_some_and(|query| query.is_serialized()) {
            true => gst::PadProbeReturn::Drop,
            false => gst::PadProbeReturn::Ok,
        }
    });
}

/// All that the steps work on.
pub struct World {
    pub players: Vec<Player>,
    server: Server,
    coordinator: Option<Coordinator>,
    started: usize,
    /// The elements of the last pipelines that ended. A link that gst_parse_launch makes on
    /// `pad-added` points at elements that it does not hold (GStreamer 1.22), and a source may add a
    /// pad on its event thread at the moment at which its pipeline ends.
    ended: VecDeque<Vec<gst::Element>>,
}

impl World {
    /// Serves the model, directly or by the stand-in coordinator.
    pub fn new(local: bool) -> Self {
        let server = Server::start_recording(&[("ORPHAN_TIMEOUT_SECONDS", ORPHAN_TIMEOUT)]);
        let coordinator =
            (!local).then(|| start_coordinator(&server, CoordinatorSettings::default()));
        Self {
            players: Vec::new(),
            server,
            coordinator,
            started: 0,
            ended: VecDeque::new(),
        }
    }

    fn properties(&self) -> String {
        match &self.coordinator {
            Some(coordinator) => {
                let url = coordinator.url();
                format!("model=playground api-key={KEY} api-url={url} close-timeout=1500")
            }
            None => format!(
                "local=true api-url={} close-timeout=1500",
                self.server.url()
            ),
        }
    }

    /// Starts another pipeline, or ends the oldest one.
    pub fn add_or_end_pipeline(&mut self, random: &mut SplitMix64) {
        if self.players.len() >= MAX_PIPELINES || (!self.players.is_empty() && random.one_in(3)) {
            let player = self.players.remove(0);
            return self.end(player);
        }
        let mut properties = self.properties();
        if random.one_in(3) {
            properties += " session=shared";
        }
        let line = random.pick(&LINES).replace('$', &properties);
        let line = line.replace('%', "queue leaky=downstream");
        let player = Player::new(&line);
        if !random.one_in(4) {
            set_state(&player.pipeline, gst::State::Playing);
        }
        self.started += 1;
        self.players.push(player);
    }

    /// One of the pipelines.
    pub fn pick_player(&mut self, random: &mut SplitMix64) -> Option<&Player> {
        let index = random.below(self.players.len());
        self.players.get(index)
    }

    /// One of the plugin's elements, with its pipeline.
    pub fn pick(&mut self, random: &mut SplitMix64) -> Option<(&Player, gst::Element)> {
        let player = self.pick_player(random)?;
        let element = random.pick(&player.reactors).clone();
        Some((player, element))
    }

    /// What nobody reads would accumulate.
    pub fn drain_buses(&self) {
        for player in &self.players {
            let bus = player.pipeline.bus().expect("a bus");
            while bus.pop().is_some() {}
        }
    }

    /// Ends all pipelines; nothing of them may be left.
    pub fn clear(&mut self) {
        while let Some(player) = self.players.pop() {
            self.end(player);
        }
        promises::wait_answered(SETTLED);
        let begin = Instant::now();
        while let Some(left) = self.open_session() {
            let limit = if left == "closing" { CLOSED } else { SETTLED };
            if begin.elapsed() > limit {
                watch::complain(format!("left a session: {left}"));
                return self.restart();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.ended.clear();
    }

    fn end(&mut self, player: Player) {
        end(&player);
        self.ended.push_back(player.elements);
        if self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
    }

    /// The next pipelines would join the session that is left.
    fn restart(&mut self) {
        let local = self.coordinator.is_none();
        let started = self.started;
        *self = Self::new(local);
        self.started = started;
    }

    fn open_session(&self) -> Option<String> {
        if let Some(coordinator) = &self.coordinator {
            let open = coordinator.open_sessions();
            return open.first().map(|session| format!("{session:?}"));
        }
        let state = self.server.session_state();
        (state != "ready").then_some(state)
    }

    /// How many pipelines there were.
    pub fn started(&self) -> usize {
        self.started
    }
}

/// A bin that is in NULL already fails if a child posts an error meanwhile: it returns what GstBin has
/// noted of the error (GStreamer 1.22, 33 of 20,000 times with a child that posts all the time). Such
/// a bin is asked again.
fn reaches_null(element: &gst::Element) -> bool {
    let is_null = element.current_state() == gst::State::Null;
    let reaches = || element.set_state(gst::State::Null).is_ok();
    reaches() || (is_null && reaches())
}

/// Ends a pipeline, and the elements that were taken out of it.
fn end(player: &Player) {
    watch::timed("mischief", || player.armed.disarm());
    // Whoever pushes into an element that was taken out waits for it.
    for element in player
        .reactors
        .iter()
        .filter(|element| element.parent().is_none())
    {
        watch::timed("the end of an element", || {
            set_state(element, gst::State::Null)
        });
    }
    watch::timed("the end of a pipeline", || {
        if !reaches_null(player.pipeline.upcast_ref()) {
            watch::complain("a pipeline refuses NULL".into());
            watch::print_states(player.pipeline.upcast_ref(), 0);
            let bus = player.pipeline.bus().expect("a bus");
            while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
                println!("{message:?}");
            }
        }
    });
    for element in &player.reactors {
        watch::timed("the end of an element", || {
            element.set_locked_state(false);
            if !reaches_null(element) {
                watch::complain(format!("{} refuses NULL", element.name()));
            }
            if element.has_property("status") && status(element) != "disconnected" {
                watch::complain(format!("{} is {} in NULL", element.name(), status(element)));
            }
        });
    }
}
