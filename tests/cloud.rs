// SPDX-License-Identifier: MIT

//! The elements and the cloud: keys, tokens, waiting for a GPU, and that no
//! session is left open, with the stand-in coordinator before the real runtime.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_coordinator::{
    Coordinator, End, Entry, Face, Route, Rule, Settings, State, Waiting, digest,
};
use reactor_tests::{
    frames::Reader,
    installed,
    pipeline::{Failure, Running, wait_until},
    server::Server,
};

const KEY: &str = "rk_test";
const SOON: Duration = Duration::from_secs(30);

fn before(server: &Server, settings: Settings) -> Coordinator {
    Coordinator::start(Settings {
        runtime: Some(server.url()),
        ..settings
    })
    .expect("a coordinator")
}

/// A source of the cloud's; `properties` come last and so count.
fn source(coordinator: &Coordinator, properties: &str) -> Running {
    Running::parse(&format!(
        "reactorsrc name=r api-url={} model=playground api-key={KEY} {properties} \
         ! videoconvert ! video/x-raw,format=I420 ! identity name=i \
         ! fakesink sync=false async=false",
        coordinator.url()
    ))
}

/// Plays until pictures come.
fn play(running: &Running) -> Reader {
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(20, SOON);
    reader
}

fn wait_closed(coordinator: &Coordinator, limit: Duration) -> Vec<Entry> {
    wait_until("the ledger is empty", limit, || {
        coordinator.open_sessions().is_empty()
    });
    coordinator.ledger()
}

/// What the user gets to hear when it does not work.
fn failure(coordinator: &Coordinator, properties: &str) -> Failure {
    let running = source(coordinator, properties);
    // Some of it is known at once.
    let _ = running.pipeline.set_state(gst::State::Playing);
    let failure = running.wait_error(SOON);
    let shown = format!("{failure:?}");
    assert!(!shown.contains(KEY), "{shown}");
    failure
}

#[test]
fn a_key_is_all_it_takes() {
    let server = Server::playground();
    let coordinator = before(
        &server,
        Settings {
            waiting: Waiting::answers(3),
            ..Settings::default()
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
    // READY -> NULL has waited for that.
    assert!(coordinator.open_sessions().is_empty());
    assert_eq!(coordinator.count(Route::Tokens), 1);
}

#[test]
fn waiting_is_told_and_is_no_error() {
    let server = Server::playground();
    let coordinator = before(
        &server,
        Settings {
            waiting: Waiting::forever(),
            ..Settings::default()
        },
    );
    // Errors in between do not cost the place.
    coordinator.next(Route::Session, 1, Rule::retry_after(429, "1"));
    coordinator.next(Route::Session, 1, Rule::reply(500, "oops"));
    let running = source(&coordinator, "");
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    running.wait_message(SOON, |message| match message.view() {
        gst::MessageView::Progress(progress) => {
            let (_, _, text) = progress.get();
            text.contains("Waiting for a GPU").then_some(())
        }
        _ => None,
    });
    wait_until("it asks again", SOON, || {
        coordinator.count(Route::Session) >= 4
    });
    assert_eq!(status(&running), "waiting");
    coordinator.set_waiting(Waiting::default());
    reader.wait_for(20, SOON);
    assert_eq!(coordinator.ledger().len(), 1);
    running.stop();
    wait_closed(&coordinator, SOON);
}

#[test]
fn the_wait_may_have_an_end() {
    let coordinator = Coordinator::start(Settings::default()).unwrap();
    let failure = failure(&coordinator, "waiting-timeout=1500");
    assert_eq!(failure.code(), "WAITING_TIMEOUT");
    assert!(
        failure.error.matches(gst::ResourceError::Busy),
        "{failure:?}"
    );
    // Nobody waits for it any more.
    wait_closed(&coordinator, SOON);
}

#[test]
fn who_is_not_let_in_hears_why() {
    let coordinator = Coordinator::start(Settings {
        models: vec!["playground".into()],
        ..Settings::default()
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
fn secrets_do_not_travel_in_the_clear() {
    let running = Running::parse(&format!(
        "reactorsrc name=r api-url=http://192.0.2.1 model=m api-key={KEY} ! fakesink"
    ));
    assert!(running.pipeline.set_state(gst::State::Playing).is_err());
    let failure = running.wait_error(SOON);
    let text = failure.error.to_string();
    assert!(
        failure.error.matches(gst::ResourceError::Settings),
        "{failure:?}"
    );
    assert!(text.contains("https") && !text.contains(KEY), "{text}");
}

#[test]
fn each_refusal_has_its_error() {
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
        let coordinator = Coordinator::start(Settings::default()).unwrap();
        coordinator.rule(Route::CreateSession, Rule::reply(status, "no"));
        let failure = failure(&coordinator, "");
        assert_eq!(failure.code(), code, "{status}");
        assert!(failure.error.matches(domain), "{status}: {failure:?}");
        assert_eq!(failure.detail::<u32>("http-status"), u32::from(status));
        assert!(!failure.detail::<bool>("recoverable"), "{status}");
        assert_eq!(failure.detail::<String>("component"), "api");
    }
    // Those that pass are waited for, here not for long.
    for (status, code) in [(429, "RATE_LIMITED"), (503, "SERVER_ERROR")] {
        let coordinator = Coordinator::start(Settings::default()).unwrap();
        coordinator.rule(Route::CreateSession, Rule::retry_after(status, "1"));
        let failure = failure(&coordinator, "waiting-timeout=2500");
        assert_eq!(failure.code(), code);
        assert!(failure.error.matches(Resource::Busy), "{failure:?}");
        assert!(failure.detail::<bool>("recoverable"));
        assert_eq!(failure.detail::<u64>("retry-after"), 1000);
        assert!(coordinator.count(Route::CreateSession) >= 2);
    }
}

#[test]
fn a_session_that_the_platform_ends_is_an_end() {
    let server = Server::playground();
    let coordinator = before(&server, Settings::default());
    let running = source(&coordinator, "");
    play(&running);
    let id = coordinator.open_sessions()[0].session_id.clone();
    assert!(coordinator.end_session(&id, State::Closed));
    running.wait_eos(SOON);
    running.stop();
    server.wait_for_state("ready", SOON);
}

#[test]
fn a_session_may_be_adopted_and_is_left_alone() {
    let server = Server::playground();
    let coordinator = before(&server, Settings::default());
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
    assert_eq!(coordinator.count(Route::DeleteSession), 0);
    owner.stop();
    wait_closed(&coordinator, SOON);
    // What is over cannot be joined.
    let late = failure(&coordinator, &format!("adopt-session-id={id}"));
    // Of the two servers one may be asked first: that for tokens.
    let codes = ["NOT_FOUND", "UNAUTHORIZED", "SESSION_TERMINAL"];
    assert!(codes.contains(&late.code().as_str()), "{late:?}");
}

#[test]
fn tokens_that_end_interrupt_nothing() {
    let server = Server::playground();
    let coordinator = before(
        &server,
        Settings {
            token_lifetime: Duration::from_secs(2),
            ..Settings::default()
        },
    );
    let running = source(&coordinator, "");
    let reader = play(&running);
    let element = running.by_name("r");
    for _ in 0..3 {
        // Longer than a token lasts: the next request needs another.
        std::thread::sleep(Duration::from_millis(2500));
        element.emit_by_name::<()>("reconnect", &[]);
        running.wait_element("reactor-resumed", SOON);
        let seen = reader.len();
        reader.wait_for(seen + 20, SOON);
    }
    assert!(coordinator.count(Route::Tokens) >= 4);
    assert_eq!(coordinator.ledger().len(), 1);
    running.stop();
    assert!(coordinator.open_sessions().is_empty());
}

#[test]
fn what_a_slow_server_says_to_an_offer_given_up_counts_no_more() {
    let server = Server::playground();
    let coordinator = before(&server, Settings::default());
    let running = source(&coordinator, "");
    let reader = play(&running);
    // Each offer is given 5 s. The failure comes while the next one is handed
    // in, which it does not concern.
    let seconds = Duration::from_secs;
    coordinator.next(Route::Offer, 1, Rule::reply(500, "no").after(seconds(7)));
    coordinator.next(Route::Offer, 1, Rule::delay(seconds(3)));
    let before = coordinator.count(Route::Offer);
    let element = running.by_name("r");
    element.emit_by_name::<()>("reconnect", &[]);
    running.wait_element("reactor-resumed", SOON);
    assert_eq!(coordinator.count(Route::Offer) - before, 2);
    let seen = reader.len();
    reader.wait_for(seen + 20, SOON);
}

#[test]
fn the_users_token_may_be_replaced_while_it_runs() {
    let server = Server::playground();
    let coordinator = before(&server, Settings::default());
    let token = || {
        let url = format!("{}/tokens", coordinator.url());
        let key = [("Reactor-API-Key", KEY)];
        let reply = reactor_tests::http::request("POST", &url, &key, "null").unwrap();
        let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        body["jwt"].as_str().unwrap().to_owned()
    };
    let running = source(&coordinator, &format!("api-key=\"\" jwt={}", token()));
    let reader = play(&running);
    coordinator.withdraw_tokens();
    let element = running.by_name("r");
    element.set_property("jwt", token());
    element.emit_by_name::<()>("reconnect", &[]);
    running.wait_element("reactor-resumed", SOON);
    let seen = reader.len();
    reader.wait_for(seen + 20, SOON);
    running.stop();
    let open = coordinator.open_sessions();
    assert!(
        open.is_empty(),
        "{open:?} {:?}",
        coordinator.requests(Route::DeleteSession)
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let server = Server::playground();
    let coordinator = before(&server, Settings::default());
    let log = std::env::temp_dir().join(format!("reactor-secrets-{}.log", std::process::id()));
    let told = log.with_extension("txt");
    let line = format!(
        "reactorsrc name=r model=playground api-url={} ! fakesink",
        coordinator.url()
    );
    let mut child = launch(&line)
        .env("GST_DEBUG", "5,reactor*:9,webrtc*:6")
        .env("GST_DEBUG_FILE", &log)
        .env("GST_DEBUG_NO_COLOR", "1")
        .env("GST_DEBUG_DUMP_DOT_DIR", std::env::temp_dir())
        .env("REACTOR_API_KEY", KEY)
        .args(["-v", "-m"])
        .stdout(std::fs::File::create(&told).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Writing all that takes its time.
    wait_until("connected", Duration::from_secs(90), || {
        let answers = coordinator.requests(Route::Answer);
        answers.iter().any(|answer| answer.status == Some(200))
    });
    std::thread::sleep(Duration::from_secs(2));
    interrupt(child.id());
    child.wait().unwrap();
    wait_closed(&coordinator, SOON);
    let mut shown = std::fs::read(&told).unwrap();
    assert!(String::from_utf8_lossy(&shown).contains("Connecting to the model"));
    std::fs::remove_file(&told).unwrap();
    let logged = std::fs::read(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert!(logged.len() > 100_000, "{} bytes", logged.len());
    shown.extend(logged);
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("reactor"));
    // The key, and what each token begins with (PROTOCOL: a JWT).
    for secret in [KEY, "eyJ"] {
        assert!(!shown.contains(secret), "{secret} is in the log");
    }
    // Nor did the token go anywhere else.
    let seen = coordinator.log();
    assert!(seen.iter().all(|seen| seen.face == Face::Api));
    let key = digest(KEY);
    let with_key = seen
        .iter()
        .filter(|seen| format!("{seen:?}").contains(&key));
    assert!(with_key.clone().all(|seen| seen.route == Route::Tokens));
    assert_eq!(with_key.count(), 1);
}

#[test]
fn whatever_ends_the_process_ends_the_session() {
    let server = Server::playground();
    let coordinator = before(
        &server,
        Settings {
            waiting: Waiting::time(Duration::from_millis(300)),
            ..Settings::default()
        },
    );
    let line = format!(
        "reactorsrc model=playground api-key={KEY} api-url={} ! fakesink",
        coordinator.url()
    );
    // A multiple of something odd, over the time that connecting takes.
    for n in 0..20 {
        let mut child = launch(&line)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + n * 83 % 1500));
        interrupt(child.id());
        let deadline = Instant::now() + SOON;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{n}: it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        let open = coordinator.open_sessions();
        assert!(open.is_empty(), "{n}: {open:?}");
    }
    assert!(
        coordinator.ledger().len() >= 5,
        "{:?}",
        coordinator.ledger()
    );
}

/// GStreamer 1.22's gst-launch-1.0 does not handle SIGTERM: it is as good as
/// killed, and no plugin can help that.
#[test]
fn what_is_killed_is_left_to_the_platform() {
    let server = Server::playground();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let coordinator = before(
            &server,
            Settings {
                resume_window: Duration::from_secs(1),
                ..Settings::default()
            },
        );
        let line = format!(
            "reactorsrc model=playground api-key={KEY} api-url={} ! fakesink",
            coordinator.url()
        );
        let mut child = launch(&line)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("connected", SOON, || server.session_state() == "streaming");
        self::signal(child.id(), signal);
        child.wait().unwrap();
        // After the window, once the runtime has noticed.
        let ledger = wait_closed(&coordinator, 2 * SOON);
        let end = ledger[0].end.clone().unwrap();
        // A later gst-launch-1.0 may take SIGTERM for Ctrl-C.
        let in_order = signal == libc::SIGTERM && matches!(end, End::Deleted { .. });
        assert!(end == End::Window || in_order, "{end:?}");
        server.wait_for_state("ready", SOON);
    }
}

#[test]
fn going_to_null_at_any_moment_ends_the_session() {
    let server = Server::playground();
    let coordinator = before(&server, Settings::default());
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

fn launch(line: &str) -> Command {
    let scratch = env!("CARGO_TARGET_TMPDIR");
    let mut command = Command::new("gst-launch-1.0");
    installed::equip(command.args(line.split_whitespace()), scratch);
    command
}

fn interrupt(pid: u32) {
    signal(pid, libc::SIGINT);
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: plain numbers; the child is not waited for yet, so the number
    // is its own.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(pid.cast_signed(), signal);
    }
}

fn status(running: &Running) -> String {
    let value = running.by_name("r").property_value("status");
    let (_, status) = gst::glib::EnumValue::from_value(&value).unwrap();
    status.nick().to_owned()
}
