// SPDX-License-Identifier: MIT

//! reactorsrc and reactorsink in one session, against the real local runtime:
//! how they find each other, come and go, and what does not go together.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    frames::{Reader, assert_flow},
    inset::{Colour, Inset},
    leaks,
    pipeline::{Running, wait_until},
    proxy::{Proxy, Route},
    server::Server,
    ticks::Ticks,
};

const SOON: Duration = Duration::from_secs(30);

/// A camera for the model at this address; `properties` are the sink's.
fn camera(url: &str, colour: Colour, properties: &str) -> String {
    format!(
        "videotestsrc is-live=true pattern={} name=t \
         ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! reactorsink name=s local=true api-url={url} {properties} ",
        colour.pattern()
    )
}

/// What the model at this address shows; `properties` are the source's.
fn screen(url: &str, properties: &str) -> String {
    format!("reactorsrc name=r local=true api-url={url} {properties} {SCREEN}")
}

const SCREEN: &str = "videoconvert name=c ! video/x-raw,format=I420 \
                      ! identity name=i ! fakesink sync=false async=false ";

/// Shows the picture whenever there is one; a parsed line links only once.
fn inset(running: &Running) -> Inset {
    let sink = running.pad("c", "sink");
    running.by_name("r").connect_pad_added(move |_, pad| {
        if pad.name() == "video_main_video" {
            pad.link(&sink).expect("linked");
        }
    });
    Inset::watch(&running.pad("i", "src"))
}

fn session_id(element: &gst::Element) -> String {
    element
        .property::<Option<String>>("session-id")
        .expect("a session id")
}

fn wait_ready(element: &gst::Element) {
    wait_until("ready", SOON, || status(element) == "ready");
}

fn status(element: &gst::Element) -> String {
    let value = element.property_value("status");
    let (_, status) = gst::glib::EnumValue::from_value(&value).expect("an enumeration");
    status.nick().to_owned()
}

fn sent(sink: &gst::Element) -> u64 {
    let stats: gst::Structure = sink.property("stats");
    let pad = stats.get::<gst::Structure>("video_0").expect("a pad");
    pad.get("sent").unwrap()
}

#[test]
fn elements_of_one_pipeline_share_a_connection() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let url = proxy.url();
    let line = camera(&url, Colour::Red, "") + &screen(&url, "");
    let running = Running::parse(&line);
    let (inset, reader) = (inset(&running), Reader::watch(&running.pad("i", "src")));
    let ticks = Ticks::watch(&running.by_name("r"));
    running.play();
    inset.wait_for(Colour::Red, SOON);
    let seen = reader.len();
    reader.wait_for(seen + 60, SOON);
    assert_flow(&reader.frames()[seen..]);
    assert_eq!(ticks.next(SOON).clients, 1);
    assert_eq!(proxy.count(Route::Connections), 1);
    assert_eq!(proxy.count(Route::Offer), 1);
    let [source, sink] = ["r", "s"].map(|name| running.by_name(name));
    assert_eq!(session_id(&source), session_id(&sink));
    running.stop();
    server.wait_for_state("ready", SOON);
}

#[test]
fn one_of_them_says_where_to_go() {
    let server = Server::playground();
    let on_the_sink = camera(&server.url(), Colour::Blue, "") + "reactorsrc name=r " + SCREEN;
    let where_to = format!("local=true api-url={}", server.url());
    let on_the_source = on_the_sink
        .replace(&where_to, "")
        .replace("name=r", &format!("name=r {where_to}"));
    assert_ne!(on_the_sink, on_the_source);
    for line in [on_the_sink, on_the_source] {
        let running = Running::parse(&line);
        let inset = inset(&running);
        running.play();
        inset.wait_for(Colour::Blue, SOON);
    }
}

/// Two pipelines in one session, the proxy before the server counting.
struct Pair {
    _server: Server,
    proxy: Proxy,
    camera: Running,
    screen: Running,
    inset: Inset,
    ticks: Ticks,
}

impl Pair {
    fn new(properties: &str) -> Self {
        let server = Server::playground();
        let proxy = Proxy::before(&server);
        let camera = Running::parse(&camera(&proxy.url(), Colour::Red, properties));
        let screen = Running::parse(&screen(&proxy.url(), properties));
        Self {
            inset: inset(&screen),
            ticks: Ticks::watch(&camera.by_name("s")),
            _server: server,
            proxy,
            camera,
            screen,
        }
    }

    fn assert_one_connection(&self) {
        assert_eq!(self.proxy.count(Route::StartSession), 1);
        assert_eq!(self.proxy.count(Route::Connections), 1);
        assert_eq!(self.proxy.count(Route::Offer), 1);
        assert_eq!(self.proxy.count(Route::StopSession), 0);
        if status(&self.camera.by_name("s")) == "ready" {
            assert_eq!(self.ticks.next(SOON).clients, 1);
        }
    }

    /// The session ends with the last of the two.
    fn end(self) {
        self.camera.stop();
        self.screen.stop();
        wait_until("the end of the session", SOON, || {
            self.proxy.count(Route::StopSession) == 1
        });
    }
}

/// Waits for so many more pictures.
fn wait_more(inset: &Inset, count: usize) {
    let seen = inset.len();
    wait_until("more pictures", SOON, || inset.len() >= seen + count);
}

#[test]
fn a_source_comes_and_goes_while_the_sink_streams() {
    let pair = Pair::new("session=coming");
    let sink = pair.camera.by_name("s");
    pair.camera.play();
    wait_ready(&sink);
    wait_until("pictures sent", SOON, || sent(&sink) > 15);
    for _ in 0..2 {
        let seen = pair.inset.len();
        pair.screen.play();
        wait_more(&pair.inset, 30);
        assert!(Colour::Red.is_inverted(pair.inset.looks()[seen + 20].inside));
        pair.assert_one_connection();
        let before = sent(&sink);
        pair.screen.stop();
        wait_until("more pictures sent", SOON, || sent(&sink) > before + 15);
        pair.assert_one_connection();
    }
    pair.end();
}

#[test]
fn a_sink_comes_and_goes_while_the_source_plays() {
    let pair = Pair::new("session=going");
    pair.screen.play();
    wait_more(&pair.inset, 30);
    let reader = Reader::watch(&pair.screen.pad("i", "src"));
    for look in pair.inset.looks() {
        assert!(!Colour::Red.is_inverted(look.inside), "{look:?}");
    }
    for colour in [Colour::Red, Colour::Green] {
        let test = pair.camera.by_name("t");
        test.set_property_from_str("pattern", colour.pattern());
        pair.camera.play();
        pair.inset.wait_for(colour, SOON);
        pair.assert_one_connection();
        let begun = Instant::now();
        pair.camera.stop();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(status(&pair.camera.by_name("s")), "disconnected");
        wait_more(&pair.inset, 30);
        pair.assert_one_connection();
    }
    assert_flow(&reader.frames());
    pair.end();
}

#[test]
fn an_application_joins_two_pipelines_by_a_context() {
    let pair = Pair::new("");
    for running in [&pair.camera, &pair.screen] {
        let mut context = gst::Context::new("gst.reactor.session", true);
        let structure = context.get_mut().unwrap().structure_mut();
        structure.set("name", "the application's");
        running.pipeline.set_context(&context);
    }
    pair.screen.play();
    pair.camera.play();
    pair.inset.wait_for(Colour::Red, SOON);
    pair.assert_one_connection();
    pair.end();
}

#[test]
fn two_pipelines_without_a_name_have_nothing_in_common() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let first = Running::parse(&screen(&proxy.url(), ""));
    let second = Running::parse(&screen(&proxy.url(), ""));
    let (a, b) = (inset(&first), inset(&second));
    let ticks = Ticks::watch(&first.by_name("r"));
    first.play();
    wait_more(&a, 10);
    second.play();
    wait_more(&b, 10);
    assert_eq!(proxy.count(Route::Connections), 2);
    assert_eq!(ticks.next(SOON).clients, 2);
}

// What does not go together.

#[test]
fn one_session_has_one_source() {
    let server = Server::playground();
    let url = server.url();
    let running = Running::parse(&format!(
        "reactorsrc name=one local=true api-url={url} ! fakesink \
         reactorsrc name=two local=true api-url={url} ! fakesink"
    ));
    assert!(running.pipeline.set_state(gst::State::Playing).is_err());
    let failure = running.wait_error(SOON);
    assert!(failure.error.matches(gst::ResourceError::Settings));
    let text = failure.error.message().to_owned();
    assert!(
        text.contains("GstReactorSrc:one") || text.contains("GstReactorSrc:two"),
        "{text}"
    );
}

#[test]
fn one_session_has_one_address() {
    let server = Server::playground();
    let first = Running::parse(&camera(&server.url(), Colour::Red, "session=where"));
    first.play();
    let second = Running::parse(&screen("http://localhost:1", "session=where"));
    assert!(second.pipeline.set_state(gst::State::Playing).is_err());
    let failure = second.wait_error(SOON);
    assert!(failure.error.matches(gst::ResourceError::Settings));
    let text = failure.error.message().to_owned();
    assert!(
        text.contains("'api-url'") && text.contains("GstReactorSink:s"),
        "{text}"
    );
    // The other is none the worse.
    wait_ready(&first.by_name("s"));
}

#[test]
fn one_track_has_one_feeder() {
    let server = Server::playground();
    let first = Running::parse(&camera(&server.url(), Colour::Red, "session=feed"));
    first.play();
    wait_ready(&first.by_name("s"));
    let second = Running::parse(&camera(&server.url(), Colour::Green, "session=feed"));
    second.play();
    let failure = second.wait_error(SOON);
    assert!(
        failure.error.matches(gst::ResourceError::Busy),
        "{failure:?}"
    );
    let text = failure.error.message().to_owned();
    assert!(text.contains("'camera'"), "{text}");
    second.stop();
    let sink = first.by_name("s");
    let before = sent(&sink);
    wait_until("more pictures sent", SOON, || sent(&sink) > before + 15);
}

// The end of it.

#[test]
fn an_adopted_session_is_left_alone() {
    let server = Server::playground();
    let owner = Running::parse(&screen(&server.url(), ""));
    let seen = inset(&owner);
    owner.play();
    wait_more(&seen, 10);
    let id = session_id(&owner.by_name("r"));
    let proxy = Proxy::before(&server);
    let properties = format!("adopt-session-id={id}");
    let guest = Running::parse(&camera(&proxy.url(), Colour::Red, &properties));
    guest.play();
    seen.wait_for(Colour::Red, SOON);
    let begun = Instant::now();
    guest.stop();
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(proxy.count(Route::StopSession), 0);
    wait_more(&seen, 30);
    assert_eq!(status(&owner.by_name("r")), "ready");
}

/// What a process holds after so many cycles of a camera and a screen.
fn cycle(count: usize, environment: &[(&str, &str)]) -> (Vec<serde_json::Value>, String) {
    let server = Server::playground();
    let output = Command::new(env!("CARGO_BIN_EXE_reactor-cycle"))
        .args([server.url(), count.to_string(), "camera".to_owned()])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {errors}", output.status);
    let lines = String::from_utf8(output.stdout).expect("text");
    let figures = lines
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"));
    (figures.collect(), errors)
}

#[test]
fn no_thread_or_descriptor_is_left_behind() {
    let (cycles, _) = cycle(10, &[]);
    println!("{cycles:#?}");
    // A thread of a pool may come or go, but there is no trend.
    for name in ["threads", "descriptors"] {
        let [warm, last] = [4, 9].map(|n: usize| cycles[n][name].as_u64().unwrap());
        assert!(last <= warm + 3, "{name}: {warm}, then {last}");
    }
}

#[test]
fn no_object_is_left_behind() {
    let (_, log) = cycle(3, &leaks::ENVIRONMENT);
    leaks::assert_none(&log);
}
