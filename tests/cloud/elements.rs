// SPDX-License-Identifier: MIT

//! The elements and the cloud: keys, tokens, waiting for a GPU, and that no session is left open;
//! with the stand-in coordinator in front of the real runtime.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gst::prelude::*;
use reactor_coordinator::{
    ApiRoute, Coordinator, CoordinatorSettings, Endpoint, GpuWait, Rule, SessionEnd, SessionState,
    digest,
};
use reactor_tests::{
    TIMEOUT,
    actions::reconnect,
    cloud::{KEY, start_coordinator, wait_closed},
    frames::FrameReader,
    http,
    pipeline::{BusError, TestPipeline, status, wait_until},
    process::Process,
    scratch,
    server::Server,
};

/// A reactorsrc for the cloud; `properties` come last and so override the others.
pub fn source(coordinator: &Coordinator, properties: &str) -> TestPipeline {
    TestPipeline::parse(&format!(
        "reactorsrc name=r api-url={} model=playground api-key={KEY} {properties} \
         ! videoconvert ! video/x-raw,format=I420 ! identity name=i \
         ! fakesink sync=false async=false",
        coordinator.url()
    ))
}

/// Plays until pictures arrive.
pub fn play(running: &TestPipeline) -> FrameReader {
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(20, TIMEOUT);
    reader
}

/// The error message of a source that fails.
fn failure(coordinator: &Coordinator, properties: &str) -> BusError {
    let running = source(coordinator, properties);
    // Some errors fail the state change at once.
    let _ = running.pipeline.set_state(gst::State::Playing);
    let failure = running.wait_error(TIMEOUT);
    let shown = format!("{failure:?}");
    assert!(!shown.contains(KEY), "{shown}");
    failure
}

#[test]
fn api_key_opens_session() {
    let server = Server::playground();
    let coordinator = start_coordinator(
        &server,
        CoordinatorSettings {
            waiting: GpuWait::answers(3),
            ..CoordinatorSettings::default()
        },
    );
    let running = source(&coordinator, "arguments={\\\"mood\\\":\\\"calm\\\"}");
    play(&running);
    let element = running.by_name("r");
    let open = coordinator.open_sessions();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].model, "playground");
    assert_eq!(open[0].client_info["sdk_type"], "gstreamer");
    assert_eq!(open[0].extra_args.as_ref().unwrap()["mood"], "calm");
    let id = element.property::<Option<String>>("session-id");
    assert_eq!(id.as_deref(), Some(open[0].session_id.as_str()));
    let stats: gst::Structure = element.property("stats");
    let at = |name| stats.get::<f64>(name).unwrap();
    assert!(
        at("session-ms") < at("gpu-ms") && at("gpu-ms") < at("ready-ms"),
        "{stats:?}"
    );
    let track = stats.get::<gst::Structure>("video_main_video").unwrap();
    let [unit, frame] = ["first-unit-ms", "first-frame-ms"].map(|n| track.get::<f64>(n).unwrap());
    assert!(at("connected-ms") < unit && unit <= frame, "{stats:?}");
    running.stop();
    // READY -> NULL has waited for the end of the session.
    assert!(coordinator.open_sessions().is_empty());
    assert_eq!(coordinator.count(ApiRoute::Tokens), 1);
}

#[test]
fn waiting_for_gpu_reports_progress_and_no_error() {
    let server = Server::playground();
    let coordinator = start_coordinator(
        &server,
        CoordinatorSettings {
            waiting: GpuWait::forever(),
            ..CoordinatorSettings::default()
        },
    );
    // Errors in between do not cost the place in the queue.
    coordinator.next(ApiRoute::Session, 1, Rule::retry_after(429, "1"));
    coordinator.next(ApiRoute::Session, 1, Rule::reply(500, "oops"));
    let running = source(&coordinator, "");
    let reader = FrameReader::watch(&running.pad("i", "src"));
    running.play();
    running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Progress(progress) => {
            let (_, _, text) = progress.get();
            text.contains("Waiting for a GPU").then_some(())
        }
        _ => None,
    });
    wait_until("it asks again", TIMEOUT, || {
        coordinator.count(ApiRoute::Session) >= 4
    });
    assert_eq!(status(&running.by_name("r")), "waiting");
    coordinator.set_waiting(GpuWait::default());
    reader.wait_for(20, TIMEOUT);
    assert_eq!(coordinator.ledger().len(), 1);
    running.stop();
    wait_closed(&coordinator, TIMEOUT);
}

#[test]
fn waiting_timeout_posts_busy() {
    let coordinator = Coordinator::start(CoordinatorSettings::default()).unwrap();
    let failure = failure(&coordinator, "waiting-timeout=1500");
    assert_eq!(failure.code(), "WAITING_TIMEOUT");
    assert!(
        failure.error.matches(gst::ResourceError::Busy),
        "{failure:?}"
    );
    // The session does not wait any more.
    wait_closed(&coordinator, TIMEOUT);
}

#[test]
fn invalid_credentials_post_error() {
    let coordinator = Coordinator::start(CoordinatorSettings {
        models: vec!["playground".into()],
        ..CoordinatorSettings::default()
    })
    .unwrap();
    let wrong = failure(&coordinator, "api-key=rk_wrong");
    assert!(
        wrong.error.matches(gst::ResourceError::NotAuthorized),
        "{wrong:?}"
    );
    assert!(!format!("{wrong:?}").contains("rk_wrong"));
    let stale = failure(&coordinator, "jwt=eyJhbGciOiJIUzI1NiJ9.e30.nonsense");
    assert!(
        stale.error.matches(gst::ResourceError::NotAuthorized),
        "{stale:?}"
    );
    assert!(!format!("{stale:?}").contains("nonsense"));
    let unknown = failure(&coordinator, "model=nowhere/nothing");
    let code = unknown.code();
    assert!(
        ["NOT_FOUND", "UNAUTHORIZED"].contains(&code.as_str()),
        "{unknown:?}"
    );
    let nameless = failure(&coordinator, "model=\"\"");
    assert!(
        nameless.error.matches(gst::ResourceError::Settings),
        "{nameless:?}"
    );
    let keyless = failure(&coordinator, "api-key=\"\"");
    let text = keyless.error.to_string();
    assert!(
        text.contains("REACTOR_API_KEY") && text.contains("local=true"),
        "{text}"
    );
    assert!(coordinator.ledger().is_empty());
}

#[test]
fn api_key_over_plain_http_is_refused() {
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=r api-url=http://192.0.2.1 model=m api-key={KEY} ! fakesink"
    ));
    assert!(running.pipeline.set_state(gst::State::Playing).is_err());
    let failure = running.wait_error(TIMEOUT);
    let text = failure.error.to_string();
    assert!(
        failure.error.matches(gst::ResourceError::Settings),
        "{failure:?}"
    );
    assert!(text.contains("https") && !text.contains(KEY), "{text}");
}

#[test]
fn http_refusal_maps_to_error() {
    use gst::ResourceError as Resource;
    let cases = [
        (401, "UNAUTHORIZED", Resource::NotAuthorized),
        (403, "UNAUTHORIZED", Resource::NotAuthorized),
        (404, "NOT_FOUND", Resource::NotFound),
        (409, "CONFLICT", Resource::Busy),
        (410, "NOT_FOUND", Resource::NotFound),
        (418, "BAD_REQUEST", Resource::OpenRead),
        (426, "VERSION_MISMATCH", Resource::Settings),
        (501, "VERSION_MISMATCH", Resource::Settings),
    ];
    for (status, code, domain) in cases {
        let coordinator = Coordinator::start(CoordinatorSettings::default()).unwrap();
        coordinator.rule(ApiRoute::CreateSession, Rule::reply(status, "no"));
        let failure = failure(&coordinator, "");
        assert_eq!(failure.code(), code, "{status}");
        assert!(failure.error.matches(domain), "{status}: {failure:?}");
        assert_eq!(failure.detail::<u32>("http-status"), u32::from(status));
        assert!(!failure.detail::<bool>("recoverable"), "{status}");
        assert_eq!(failure.detail::<String>("component"), "api");
    }
    // Temporary refusals are retried, here not for long.
    for (status, code) in [(429, "RATE_LIMITED"), (503, "SERVER_ERROR")] {
        let coordinator = Coordinator::start(CoordinatorSettings::default()).unwrap();
        coordinator.rule(ApiRoute::CreateSession, Rule::retry_after(status, "1"));
        let failure = failure(&coordinator, "waiting-timeout=2500");
        assert_eq!(failure.code(), code);
        assert!(failure.error.matches(Resource::Busy), "{failure:?}");
        assert!(failure.detail::<bool>("recoverable"));
        assert_eq!(failure.detail::<u64>("retry-after"), 1000);
        assert!(coordinator.count(ApiRoute::CreateSession) >= 2);
    }
}

#[test]
fn session_ended_by_platform_sends_eos() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let running = source(&coordinator, "");
    play(&running);
    let id = coordinator.open_sessions()[0].session_id.clone();
    assert!(coordinator.end_session(&id, SessionState::Closed));
    running.wait_eos(TIMEOUT);
    running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn adopted_session_is_not_deleted() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let owner = source(&coordinator, "");
    play(&owner);
    let id = coordinator.open_sessions()[0].session_id.clone();
    let guest = source(
        &coordinator,
        &format!("adopt-session-id={id} session=guest"),
    );
    play(&guest);
    guest.stop();
    assert_eq!(coordinator.open_sessions().len(), 1);
    assert_eq!(coordinator.count(ApiRoute::DeleteSession), 0);
    owner.stop();
    wait_closed(&coordinator, TIMEOUT);
    // A session that has ended cannot be joined.
    let late = failure(&coordinator, &format!("adopt-session-id={id}"));
    // The request for a token may fail before the one for the session.
    let codes = ["NOT_FOUND", "UNAUTHORIZED", "SESSION_TERMINAL"];
    assert!(codes.contains(&late.code().as_str()), "{late:?}");
}

#[test]
fn expired_tokens_are_renewed_without_interruption() {
    let server = Server::playground();
    let coordinator = start_coordinator(
        &server,
        CoordinatorSettings {
            token_lifetime: Duration::from_secs(2),
            ..CoordinatorSettings::default()
        },
    );
    let running = source(&coordinator, "");
    let reader = play(&running);
    let element = running.by_name("r");
    for _ in 0..3 {
        // Longer than a token's lifetime: the next request needs another one.
        std::thread::sleep(Duration::from_millis(2500));
        reconnect(&element);
        running.wait_element("reactor-resumed", TIMEOUT);
        let seen = reader.len();
        reader.wait_for(seen + 20, TIMEOUT);
    }
    assert!(coordinator.count(ApiRoute::Tokens) >= 4);
    assert_eq!(coordinator.ledger().len(), 1);
    running.stop();
    assert!(coordinator.open_sessions().is_empty());
}

#[test]
fn late_reply_to_abandoned_offer_is_ignored() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let running = source(&coordinator, "");
    let reader = play(&running);
    // Each offer is given 5 s. The failure of the first arrives during the next one, which it does
    // not concern.
    let seconds = Duration::from_secs;
    coordinator.next(ApiRoute::Offer, 1, Rule::reply(500, "no").after(seconds(7)));
    coordinator.next(ApiRoute::Offer, 1, Rule::delay(seconds(3)));
    let before = coordinator.count(ApiRoute::Offer);
    let element = running.by_name("r");
    reconnect(&element);
    running.wait_element("reactor-resumed", TIMEOUT);
    assert_eq!(coordinator.count(ApiRoute::Offer) - before, 2);
    let seen = reader.len();
    reader.wait_for(seen + 20, TIMEOUT);
}

/// A token for everything that the key may do.
fn mint_token(coordinator: &Coordinator) -> String {
    let url = format!("{}/tokens", coordinator.url());
    let key = [("Reactor-API-Key", KEY)];
    let reply = http::request("POST", &url, &key, "null").unwrap();
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    body["jwt"].as_str().unwrap().to_owned()
}

#[test]
fn session_ends_after_its_maximum_duration() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    // The token sets no limit: the element keeps it.
    let token = mint_token(&coordinator);
    let properties = format!("api-key=\"\" jwt={token} max-session-duration=3 recoverable=true");
    let running = source(&coordinator, &properties);
    let element = running.by_name("r");
    let (sender, expirations) = std::sync::mpsc::channel();
    element.connect("session-expiration-changed", false, move |args| {
        let (element, told) = (args[0].get::<gst::Element>(), args[1].get::<f64>());
        // A property may be read there.
        assert_eq!(
            element.unwrap().property::<f64>("session-expiration"),
            told.clone().unwrap()
        );
        sender.send(told.unwrap()).unwrap();
        None
    });
    play(&running);
    // First the end of the token is known, then that of the session.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let of_token = expirations.recv_timeout(TIMEOUT).unwrap();
    assert!(of_token > now.as_secs_f64() + 60.0, "{of_token}");
    let end = expirations.recv_timeout(TIMEOUT).unwrap();
    assert!((end - now.as_secs_f64()).abs() < 4.0, "{end}, now {now:?}");
    assert_eq!(element.property::<f64>("session-expiration"), end);
    let ended = running.wait_element("reactor-session-ended", TIMEOUT);
    let reason = ended.get::<&str>("reason").unwrap();
    assert_eq!(reason, "max-session-duration, 3 s, is over");
    running.wait_eos(TIMEOUT);
    let ledger = wait_closed(&coordinator, TIMEOUT);
    let deleted = |end: &Option<SessionEnd>| matches!(end, Some(SessionEnd::Deleted { .. }));
    assert!(deleted(&ledger[0].end), "{ledger:?}");
    assert_eq!(expirations.recv_timeout(TIMEOUT), Ok(0.0));
    assert_eq!(element.property::<Option<gst::Structure>>("tracks"), None);
}

#[test]
fn jwt_property_can_be_replaced_while_playing() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let token = || mint_token(&coordinator);
    let running = source(&coordinator, &format!("api-key=\"\" jwt={}", token()));
    let reader = play(&running);
    coordinator.withdraw_tokens();
    let element = running.by_name("r");
    element.set_property("jwt", token());
    reconnect(&element);
    running.wait_element("reactor-resumed", TIMEOUT);
    let seen = reader.len();
    reader.wait_for(seen + 20, TIMEOUT);
    running.stop();
    let open = coordinator.open_sessions();
    assert!(
        open.is_empty(),
        "{open:?} {:?}",
        coordinator.requests(ApiRoute::DeleteSession)
    );
}

#[test]
fn debug_log_contains_no_secret() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let log = scratch::path("secrets.log");
    let line = format!(
        "reactorsrc name=r model=playground api-url={} ! fakesink",
        coordinator.url()
    );
    let temporary = std::env::temp_dir();
    let environment = [
        ("GST_DEBUG", "5,reactor*:9,webrtc*:6"),
        ("GST_DEBUG_FILE", log.to_str().unwrap()),
        ("GST_DEBUG_NO_COLOR", "1"),
        ("GST_DEBUG_DUMP_DOT_DIR", temporary.to_str().unwrap()),
        ("REACTOR_API_KEY", KEY),
    ];
    let mut launch = Process::gst_launch("secrets", &["-v", "-m"], &line, &environment);
    // The debug log slows it down.
    wait_until("connected", Duration::from_secs(90), || {
        let answers = coordinator.requests(ApiRoute::Answer);
        answers.iter().any(|answer| answer.status == Some(200))
    });
    std::thread::sleep(Duration::from_secs(2));
    launch.signal(libc::SIGINT);
    launch.wait(TIMEOUT);
    wait_closed(&coordinator, TIMEOUT);
    let mut shown = launch.output().into_bytes();
    assert!(String::from_utf8_lossy(&shown).contains("Connecting to the model"));
    let logged = std::fs::read(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert!(logged.len() > 100_000, "{} bytes", logged.len());
    shown.extend(logged);
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("reactor"));
    // The key, and the beginning of every token (a JWT).
    for secret in [KEY, "eyJ"] {
        assert!(!shown.contains(secret), "{secret} is in the log");
    }
    // The key went to no other server.
    let seen = coordinator.log();
    assert!(seen.iter().all(|seen| seen.face == Endpoint::Api));
    let key = digest(KEY);
    let with_key = seen
        .iter()
        .filter(|seen| format!("{seen:?}").contains(&key));
    assert!(with_key.clone().all(|seen| seen.route == ApiRoute::Tokens));
    assert_eq!(with_key.count(), 1);
}

#[test]
fn sigint_at_any_moment_ends_session() {
    let server = Server::playground();
    let coordinator = start_coordinator(
        &server,
        CoordinatorSettings {
            waiting: GpuWait::time(Duration::from_millis(300)),
            ..CoordinatorSettings::default()
        },
    );
    let line = format!(
        "reactorsrc model=playground api-key={KEY} api-url={} ! fakesink",
        coordinator.url()
    );
    // Multiples of 83 ms modulo 1.5 s, which is longer than connecting takes.
    for n in 0..20 {
        let mut launch = Process::gst_launch("interrupted", &[], &line, &[]);
        std::thread::sleep(Duration::from_millis(60 + n * 83 % 1500));
        launch.signal(libc::SIGINT);
        launch.wait(TIMEOUT);
        let open = coordinator.open_sessions();
        assert!(open.is_empty(), "{n}: {open:?}");
    }
    assert!(
        coordinator.ledger().len() >= 5,
        "{:?}",
        coordinator.ledger()
    );
}

/// gst-launch-1.0 of GStreamer 1.22 does not handle SIGTERM, which kills it like SIGKILL; no plugin
/// can change that.
#[test]
fn session_of_killed_process_ends_after_window() {
    let server = Server::playground();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let coordinator = start_coordinator(
            &server,
            CoordinatorSettings {
                resume_window: Duration::from_secs(1),
                ..CoordinatorSettings::default()
            },
        );
        let line = format!(
            "reactorsrc model=playground api-key={KEY} api-url={} ! fakesink",
            coordinator.url()
        );
        let mut launch = Process::gst_launch("killed", &[], &line, &[]);
        wait_until("connected", TIMEOUT, || {
            server.session_state() == "streaming"
        });
        launch.signal(signal);
        launch.wait(TIMEOUT);
        // After the window, once the runtime has noticed.
        let ledger = wait_closed(&coordinator, 2 * TIMEOUT);
        let end = ledger[0].end.clone().unwrap();
        // A later gst-launch-1.0 may handle SIGTERM like Ctrl-C.
        let in_order = signal == libc::SIGTERM && matches!(end, SessionEnd::Deleted { .. });
        assert!(end == SessionEnd::Window || in_order, "{end:?}");
        server.wait_for_state("ready", TIMEOUT);
    }
}

#[test]
fn null_at_any_moment_ends_session() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    for n in 0..20 {
        let running = source(&coordinator, "");
        running.play();
        std::thread::sleep(Duration::from_millis(n * 61 % 900));
        running.stop();
        let open = coordinator.open_sessions();
        assert!(open.is_empty(), "{n}: {open:?}");
    }
    assert!(
        coordinator.ledger().len() >= 5,
        "{:?}",
        coordinator.ledger()
    );
}
