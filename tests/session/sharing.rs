// SPDX-License-Identifier: MIT

//! reactorsrc and reactorsink in one session, against the real local runtime: how they find each
//! other, leave and return, and which settings conflict.

use std::time::{Duration, Instant};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    camera_view::{CameraView, Colour},
    frames::{FrameReader, assert_nearly_contiguous},
    http,
    pipeline::{TestPipeline, status, wait_for_status, wait_until},
    proxy::{Proxy, RuntimeRoute},
    server::Server,
    tick_messages::TickMessages,
};

/// A camera that feeds the model at this address; `properties` are the sink's.
fn camera(url: &str, colour: Colour, properties: &str) -> String {
    format!(
        "videotestsrc is-live=true pattern={} name=t \
         ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! reactorsink name=s local=true api-url={url} {properties} ",
        colour.pattern()
    )
}

/// A display of the model at this address; `properties` are the source's.
fn screen(url: &str, properties: &str) -> String {
    format!("reactorsrc name=r local=true api-url={url} {properties} {SCREEN}")
}

const SCREEN: &str = "videoconvert name=c ! video/x-raw,format=I420 \
                      ! identity name=i ! fakesink sync=false async=false ";

/// Links the video whenever its pad is added; a parsed line links only once.
fn show_camera(running: &TestPipeline) -> CameraView {
    let sink = running.pad("c", "sink");
    running.by_name("r").connect_pad_added(move |_, pad| {
        if pad.name() == "video_main_video" {
            pad.link(&sink).expect("linked");
        }
    });
    CameraView::watch(&running.pad("i", "src"))
}

fn session_id(element: &gst::Element) -> String {
    element
        .property::<Option<String>>("session-id")
        .expect("a session id")
}

fn sent(sink: &gst::Element) -> u64 {
    let stats: gst::Structure = sink.property("stats");
    let pad = stats.get::<gst::Structure>("video_0").expect("a pad");
    pad.get("sent").unwrap()
}

#[test]
fn elements_of_one_pipeline_share_connection() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let url = proxy.url();
    let line = camera(&url, Colour::Red, "") + &screen(&url, "");
    let running = TestPipeline::parse(&line);
    let (view, reader) = (
        show_camera(&running),
        FrameReader::watch(&running.pad("i", "src")),
    );
    let ticks = TickMessages::watch(&running.by_name("r"));
    running.play();
    view.wait_for(Colour::Red, TIMEOUT);
    let seen = reader.len();
    reader.wait_for(seen + 60, TIMEOUT);
    assert_nearly_contiguous(&reader.frames()[seen..]);
    assert_eq!(ticks.next(TIMEOUT).clients, 1);
    assert_eq!(proxy.count(RuntimeRoute::Connections), 1);
    assert_eq!(proxy.count(RuntimeRoute::Offer), 1);
    let [source, sink] = ["r", "s"].map(|name| running.by_name(name));
    assert_eq!(session_id(&source), session_id(&sink));
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn settings_of_one_element_are_inherited() {
    let server = Server::playground();
    let on_the_sink = camera(&server.url(), Colour::Blue, "") + "reactorsrc name=r " + SCREEN;
    let where_to = format!("local=true api-url={}", server.url());
    let on_the_source = on_the_sink
        .replace(&where_to, "")
        .replace("name=r", &format!("name=r {where_to}"));
    assert_ne!(on_the_sink, on_the_source);
    for line in [on_the_sink, on_the_source] {
        let running = TestPipeline::parse(&line);
        let view = show_camera(&running);
        running.play();
        view.wait_for(Colour::Blue, TIMEOUT);
    }
}

/// The sink starts the session, and would let it run for ever.
#[test]
fn settings_of_second_element_count_or_are_warned_of() {
    let server = Server::playground();
    let url = server.url();
    let line = camera(&url, Colour::Red, "")
        + &screen(&url, "max-session-duration=5 stall-timeout=4000 latency=90");
    let running = TestPipeline::parse(&line);
    show_camera(&running);
    running.play();
    let warning = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.details()?.to_owned()),
        _ => None,
    });
    assert_eq!(warning.get::<&str>("property").unwrap(), "stall-timeout");
    assert_eq!(warning.get::<&str>("code").unwrap(), "INVALID_SETTINGS");
    let expiration = || running.by_name("s").property::<f64>("session-expiration");
    wait_until("the sink knows the end", TIMEOUT, || expiration() > 0.0);
    let ended = running.wait_element("reactor-session-ended", TIMEOUT);
    let reason: String = ended.get("reason").unwrap();
    assert!(reason.contains("max-session-duration, 5 s"), "{reason}");
    server.wait_for_state("ready", TIMEOUT);
    running.stop();
}

/// Two pipelines in one session; the proxy counts their requests.
struct Pair {
    server: Server,
    proxy: Proxy,
    camera: TestPipeline,
    screen: TestPipeline,
    view: CameraView,
    ticks: TickMessages,
}

impl Pair {
    fn new(properties: &str) -> Self {
        let server = Server::playground();
        let proxy = Proxy::before(&server);
        let camera = TestPipeline::parse(&camera(&proxy.url(), Colour::Red, properties));
        let screen = TestPipeline::parse(&screen(&proxy.url(), properties));
        Self {
            view: show_camera(&screen),
            ticks: TickMessages::watch(&camera.by_name("s")),
            server,
            proxy,
            camera,
            screen,
        }
    }

    fn assert_one_connection(&self) {
        assert_eq!(self.proxy.count(RuntimeRoute::StartSession), 1);
        assert_eq!(self.proxy.count(RuntimeRoute::Connections), 1);
        assert_eq!(self.proxy.count(RuntimeRoute::Offer), 1);
        assert_eq!(self.proxy.count(RuntimeRoute::StopSession), 0);
        if status(&self.camera.by_name("s")) == "ready" {
            assert_eq!(self.ticks.next(TIMEOUT).clients, 1);
        }
    }

    /// The session ends with the last of the two.
    fn end(self) {
        self.camera.stop();
        self.screen.stop();
        wait_until("the end of the session", TIMEOUT, || {
            self.proxy.count(RuntimeRoute::StopSession) == 1
        });
    }
}

/// Waits for `count` more pictures.
fn wait_more(view: &CameraView, count: usize) {
    let seen = view.len();
    wait_until("more pictures", TIMEOUT, || view.len() >= seen + count);
}

#[test]
fn source_can_leave_and_return_while_sink_streams() {
    let pair = Pair::new("session=coming");
    let sink = pair.camera.by_name("s");
    pair.camera.play();
    wait_for_status(&sink, "ready", TIMEOUT);
    wait_until("pictures sent", TIMEOUT, || sent(&sink) > 15);
    for _ in 0..2 {
        let seen = pair.view.len();
        pair.screen.play();
        wait_more(&pair.view, 30);
        assert!(Colour::Red.is_inverted(pair.view.colours()[seen + 20].inside));
        pair.assert_one_connection();
        let before = sent(&sink);
        pair.screen.stop();
        wait_until("more pictures sent", TIMEOUT, || sent(&sink) > before + 15);
        pair.assert_one_connection();
    }
    pair.end();
}

#[test]
fn sink_can_leave_and_return_while_source_plays() {
    let pair = Pair::new("session=going");
    pair.screen.play();
    wait_more(&pair.view, 30);
    let reader = FrameReader::watch(&pair.screen.pad("i", "src"));
    for look in pair.view.colours() {
        assert!(!Colour::Red.is_inverted(look.inside), "{look:?}");
    }
    for colour in [Colour::Red, Colour::Green] {
        let test = pair.camera.by_name("t");
        test.set_property_from_str("pattern", colour.pattern());
        pair.camera.play();
        pair.view.wait_for(colour, TIMEOUT);
        pair.assert_one_connection();
        let begun = Instant::now();
        pair.camera.stop();
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(status(&pair.camera.by_name("s")), "disconnected");
        wait_more(&pair.view, 30);
        pair.assert_one_connection();
    }
    assert_nearly_contiguous(&reader.frames());
    pair.end();
}

#[test]
fn context_joins_two_pipelines() {
    let pair = Pair::new("");
    for running in [&pair.camera, &pair.screen] {
        let mut context = gst::Context::new("gst.reactor.session", true);
        let structure = context.get_mut().unwrap().structure_mut();
        structure.set("name", "the application's");
        running.pipeline.set_context(&context);
    }
    pair.screen.play();
    pair.camera.play();
    pair.view.wait_for(Colour::Red, TIMEOUT);
    pair.assert_one_connection();
    pair.end();
}

#[test]
fn unnamed_pipelines_have_separate_sessions() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let first = TestPipeline::parse(&screen(&proxy.url(), ""));
    let second = TestPipeline::parse(&screen(&proxy.url(), ""));
    let (a, b) = (show_camera(&first), show_camera(&second));
    let ticks = TickMessages::watch(&first.by_name("r"));
    first.play();
    wait_more(&a, 10);
    second.play();
    wait_more(&b, 10);
    assert_eq!(proxy.count(RuntimeRoute::Connections), 2);
    assert_eq!(ticks.next(TIMEOUT).clients, 2);
}

// Conflicts.

#[test]
fn second_source_in_session_is_refused() {
    let server = Server::playground();
    let url = server.url();
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=one local=true api-url={url} ! fakesink \
         reactorsrc name=two local=true api-url={url} ! fakesink"
    ));
    assert!(running.pipeline.set_state(gst::State::Playing).is_err());
    let failure = running.wait_error(TIMEOUT);
    assert!(failure.error.matches(gst::ResourceError::Settings));
    let text = failure.error.message().to_owned();
    assert!(
        text.contains("GstReactorSrc:one") || text.contains("GstReactorSrc:two"),
        "{text}"
    );
}

#[test]
fn pipeline_with_refused_element_stops_and_starts_nothing() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let properties = format!("local=true api-url={}", proxy.url());
    let line = format!("reactorsrc name=r {properties} ! fakesink async=false");
    let running = TestPipeline::launch(&line);
    wait_for_status(&running.by_name("r"), "ready", TIMEOUT);
    let make = |factory: &str| {
        let element = gst::ElementFactory::make(factory);
        let element = element.property("local", true).build().unwrap();
        element.set_property("api-url", proxy.url());
        running.pipeline.add(&element).unwrap();
        element
    };
    assert!(make("reactorsrc").sync_state_with_parent().is_err());
    // The pipeline brings these two to PAUSED on its way down.
    make("reactorfilter");
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
    assert_eq!(proxy.count(RuntimeRoute::StartSession), 1);

    let running = TestPipeline::launch(&line);
    let source = running.by_name("r");
    wait_for_status(&source, "ready", TIMEOUT);
    source.set_state(gst::State::Null).unwrap();
    running.pipeline.set_state(gst::State::Paused).unwrap();
    // Joining a session takes a few milliseconds.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(status(&source), "disconnected");
    // What was not started on the way down starts on the way up.
    running.play();
    wait_for_status(&source, "ready", TIMEOUT);
    assert_eq!(proxy.count(RuntimeRoute::StartSession), 3);
}

#[test]
fn different_api_url_in_session_is_refused() {
    let server = Server::playground();
    let first = TestPipeline::parse(&camera(&server.url(), Colour::Red, "session=where"));
    first.play();
    let second = TestPipeline::parse(&screen("http://localhost:1", "session=where"));
    assert!(second.pipeline.set_state(gst::State::Playing).is_err());
    let failure = second.wait_error(TIMEOUT);
    assert!(failure.error.matches(gst::ResourceError::Settings));
    let text = failure.error.message().to_owned();
    assert!(
        text.contains("'api-url'") && text.contains("GstReactorSink:s"),
        "{text}"
    );
    // The other element is not affected.
    wait_for_status(&first.by_name("s"), "ready", TIMEOUT);
}

#[test]
fn second_feeder_of_track_is_refused() {
    let server = Server::playground();
    let first = TestPipeline::parse(&camera(&server.url(), Colour::Red, "session=feed"));
    first.play();
    wait_for_status(&first.by_name("s"), "ready", TIMEOUT);
    let second = TestPipeline::parse(&camera(&server.url(), Colour::Green, "session=feed"));
    second.play();
    let failure = second.wait_error(TIMEOUT);
    assert!(
        failure.error.matches(gst::ResourceError::Busy),
        "{failure:?}"
    );
    let text = failure.error.message().to_owned();
    assert!(text.contains("'camera'"), "{text}");
    second.stop();
    let sink = first.by_name("s");
    let before = sent(&sink);
    wait_until("more pictures sent", TIMEOUT, || sent(&sink) > before + 15);
}

// The end of a session.

/// The other one stays in the session that is over, and leaves it when there is a new one.
#[test]
fn element_that_restarts_alone_after_the_end_begins_new_session() {
    let pair = Pair::new("session=again");
    let (source, sink) = (pair.screen.by_name("r"), pair.camera.by_name("s"));
    pair.camera.play();
    wait_for_status(&sink, "ready", TIMEOUT);
    pair.screen.play();
    pair.view.wait_for(Colour::Red, TIMEOUT);
    let stop = format!("{}/stop_session", pair.server.url());
    let stopped = http::post(&stop, "").unwrap();
    assert_eq!(stopped.status, 200, "{}", stopped.body);
    pair.screen.wait_eos(TIMEOUT);
    pair.server.wait_for_state("ready", TIMEOUT);
    wait_for_status(&sink, "disconnected", TIMEOUT);

    pair.screen.stop();
    pair.view.clear();
    pair.screen.play();
    wait_more(&pair.view, 30);
    assert_eq!(status(&source), "ready");
    assert_eq!(status(&sink), "disconnected");
    assert_eq!(pair.proxy.count(RuntimeRoute::StartSession), 2);

    pair.camera.stop();
    wait_more(&pair.view, 10);
    pair.camera.play();
    pair.view.wait_for(Colour::Red, TIMEOUT);
    assert_eq!(pair.proxy.count(RuntimeRoute::StartSession), 2);
    pair.end();
}

#[test]
fn adopted_session_is_not_stopped() {
    let server = Server::playground();
    let owner = TestPipeline::parse(&screen(&server.url(), ""));
    let seen = show_camera(&owner);
    owner.play();
    wait_more(&seen, 10);
    let id = session_id(&owner.by_name("r"));
    let proxy = Proxy::before(&server);
    let properties = format!("adopt-session-id={id}");
    let guest = TestPipeline::parse(&camera(&proxy.url(), Colour::Red, &properties));
    guest.play();
    seen.wait_for(Colour::Red, TIMEOUT);
    let begun = Instant::now();
    guest.stop();
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(proxy.count(RuntimeRoute::StopSession), 0);
    wait_more(&seen, 30);
    assert_eq!(status(&owner.by_name("r")), "ready");
}

/// The code of the next warning.
fn next_warning(running: &TestPipeline) -> String {
    running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => warning.details()?.get::<String>("code").ok(),
        _ => None,
    })
}

/// As another process does: it shares nothing but the server.
#[test]
fn running_local_session_is_joined_refused_or_restarted() {
    let server = Server::playground();
    let line = |name: &str, properties: &str| {
        let url = server.url();
        let line = format!("reactorsrc name=r local=true api-url={url} session={name} ");
        TestPipeline::parse(&(line + properties + " ! fakesink"))
    };
    let first = line("first", "local-session=error model=playground@1");
    first.play();
    wait_for_status(&first.by_name("r"), "ready", TIMEOUT);
    let track = |name: &str| {
        let tracks = first
            .by_name("r")
            .property::<Option<gst::Structure>>("tracks")?;
        tracks.get::<gst::Structure>(name).ok()
    };
    wait_until("the video is received", TIMEOUT, || {
        track("main_video")
            .is_some_and(|track| track.get("paused") == Ok(false) && track.has_field("codec"))
    });
    let video = track("main_video").unwrap();
    assert_eq!(video.get::<&str>("kind").unwrap(), "video");
    assert_eq!(video.get::<&str>("direction").unwrap(), "recvonly");
    assert_eq!(video.get::<&str>("codec").unwrap(), "VP9");
    assert!(!video.get::<&str>("mid").unwrap().is_empty());
    // Nothing is linked to it.
    assert!(track("main_audio").unwrap().get::<bool>("paused").unwrap());
    let camera = track("camera").unwrap();
    assert!(!camera.get::<bool>("published").unwrap());

    let second = line("second", "arguments=\"{\\\"a\\\":1}\" model=other");
    second.play();
    second.wait_element("reactor-session-joined", TIMEOUT);
    assert_eq!(next_warning(&second), "ARGUMENTS_IGNORED");
    assert_eq!(next_warning(&second), "MODEL_MISMATCH");
    wait_for_status(&second.by_name("r"), "ready", TIMEOUT);
    // It did not create the session, so that goes on.
    second.stop();
    assert_eq!(server.session_state(), "streaming");

    let third = line("third", "local-session=error");
    let _ = third.pipeline.set_state(gst::State::Playing);
    assert_eq!(third.wait_error(TIMEOUT).code(), "CONFLICT");
    third.stop();

    let fourth = line("fourth", "local-session=restart");
    fourth.play();
    wait_for_status(&fourth.by_name("r"), "ready", TIMEOUT);
    first.wait_eos(TIMEOUT);
    first.stop();
    fourth.stop();
    server.wait_for_state("ready", TIMEOUT);
}

/// A client of its own: its elements share no connection with others here.
fn client(line: &str, session: &str) -> TestPipeline {
    TestPipeline::launch(&line.replace("local=true", &format!("local=true session={session}")))
}

#[test]
fn track_of_client_that_left_is_free_at_once() {
    // The server notices only after some 6 s that a client is gone.
    const SOON: Duration = Duration::from_secs(5);
    let server = Server::playground();
    let viewer = TestPipeline::parse(&screen(&server.url(), ""));
    let view = show_camera(&viewer);
    viewer.play();
    wait_for_status(&viewer.by_name("r"), "ready", TIMEOUT);
    let first = client(&camera(&server.url(), Colour::Red, ""), "first");
    view.wait_for(Colour::Red, TIMEOUT);
    first.stop();
    let second = client(&camera(&server.url(), Colour::Blue, ""), "second");
    let sink = second.by_name("s");
    wait_for_status(&sink, "ready", TIMEOUT);
    wait_until("the track is granted", SOON, || {
        let tracks = sink.property::<Option<gst::Structure>>("tracks");
        let camera = tracks.and_then(|tracks| tracks.get::<gst::Structure>("camera").ok());
        camera.is_some_and(|camera| camera.get("published") == Ok(true))
    });
    view.wait_for(Colour::Blue, TIMEOUT);
    second.assert_no_error();
}

#[test]
fn newer_client_takes_connection_over() {
    let server = Server::playground();
    let line = format!(
        "reactorsrc name=r local=true api-url={} connection-id=4000 ! {SCREEN}",
        server.url()
    );
    let older = client(&line, "older");
    wait_for_status(&older.by_name("r"), "ready", TIMEOUT);
    let newer = client(&line, "newer");
    let reader = FrameReader::watch(&newer.pad("i", "src"));
    let taken = older.wait_error(TIMEOUT);
    assert_eq!(taken.code(), "CONFLICT");
    assert!(!taken.detail::<bool>("recoverable"));
    older.stop();
    // It is not taken back, nor ended.
    reader.wait_for(60, TIMEOUT);
    newer.assert_no_error();
    assert_eq!(server.session_state(), "streaming");
}
