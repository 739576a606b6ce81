// SPDX-License-Identifier: MIT

//! A server that speaks HTTP, or something else, and gives no session. Only rules answer: no
//! runtime is needed.

use std::time::{Duration, Instant};

use reactor_tests::{
    pipeline::{TestPipeline, wait_until},
    process::Process,
    proxy::{Proxy, Rule, RuntimeRoute},
    server::{Server, free_port},
};

use crate::support::{
    BUSY, CODEC_NOT_FOUND, Expected, NOT_AUTHORIZED, NOT_FOUND, OPEN_READ, SETTINGS, TIMEOUT,
    assert_fails, count_buffers, source, stop_and_check,
};

/// A session with one video track to receive.
const SESSION: &str = r#"{"session_id":"s-1","state":"waiting","model":{"name":"m"},
    "selected_transport":{"protocol":"webrtc","version":"1.0"},
    "capabilities":{"tracks":[{"name":"v","kind":"video","direction":"recvonly"}]}}"#;

/// The session in a state that cannot be joined.
fn closing_session() -> String {
    SESSION.replace("\"waiting\"", "\"closing\"")
}

/// A server that accepts an offer and never answers it.
fn accept_offers_only(proxy: &Proxy) {
    proxy.reset();
    proxy.rule(RuntimeRoute::StartSession, Rule::reply(200, SESSION));
    proxy.rule(RuntimeRoute::Session, Rule::reply(200, SESSION));
    proxy.rule(RuntimeRoute::StopSession, Rule::reply(200, SESSION));
    let connection = r#"{"connection_id":5001}"#;
    proxy.rule(RuntimeRoute::Connections, Rule::reply(201, connection));
    proxy.rule(RuntimeRoute::Offer, Rule::reply(202, connection));
    proxy.rule(RuntimeRoute::Answer, Rule::reply(202, ""));
}

/// Nothing answers where the variables point.
#[test]
fn proxies_of_environment_are_not_used() {
    let server = Server::playground();
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"];
    let line = format!(
        "reactorsrc local=true api-url={} ! identity eos-after=5 ! fakesink",
        server.url()
    );
    let environment = names.map(|name| (name, nowhere.as_str()));
    Process::gst_launch("no-proxy", &[], &line, &environment).assert_succeeds(TIMEOUT);
}

fn status(status: u16) -> Rule {
    Rule::reply(status, r#"{"detail":"says the server"}"#)
}

#[test]
fn no_server_posts_network_error() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let expected =
        Expected::api("NETWORK_ERROR", OPEN_READ, "is the server running?").during("start_session");
    let failure = assert_fails("nothing", &url, "", expected);
    assert!(failure.error.message().contains(&url), "{}", failure.error);
}

/// Name, reply, and the error that it has to cause.
type Reply = (&'static str, Rule, Expected);

/// Replies that are no refusals of the platform.
fn invalid_replies() -> Vec<Reply> {
    let broken = Expected::api("NETWORK_ERROR", OPEN_READ, "broke off");
    let odd = Expected::api("DECODE_FAILED", OPEN_READ, "does not look like a Reactor").status(200);
    let large = Expected::api("DECODE_FAILED", OPEN_READ, "larger than");
    let moved = Expected::api("DECODE_FAILED", OPEN_READ, "give the final address").status(302);
    let html = Rule::Reply {
        status: 200,
        headers: vec![("content-type".into(), "text/html".into())],
        body: "<!DOCTYPE html><html><body>Welcome!</body></html>".into(),
    };
    let bytes = Rule::Raw(b"\x00\xffSSH-2.0\r\n\r\n".into());
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"session_id\":";
    vec![
        ("bytes", bytes, broken),
        ("a closed door", Rule::drop_connection(), broken),
        ("half a reply", Rule::Raw(half.into()), broken),
        ("HTML", html, odd),
        ("JSON", Rule::reply(200, r#"{"ok":true}"#), odd),
        ("a list", Rule::reply(200, "[]"), odd),
        ("too much", Rule::reply(200, "x".repeat(5 << 20)), large),
        ("a redirect", Rule::reply(302, ""), moved),
    ]
}

fn refusals() -> Vec<Reply> {
    let refused = |what, code, kind, http: u16| {
        let expected = Expected::api(code, kind, "says the server");
        (what, status(http), expected.status(http.into()))
    };
    let complaint = r#"{"detail":[{"loc":["body","steps"],"msg":"too many"}]}"#;
    let invalid = Expected::api("BAD_REQUEST", OPEN_READ, "body.steps: too many").status(422);
    vec![
        refused("401", "UNAUTHORIZED", NOT_AUTHORIZED, 401),
        refused("403", "UNAUTHORIZED", NOT_AUTHORIZED, 403),
        refused("404", "NOT_FOUND", NOT_FOUND, 404),
        ("422", Rule::reply(422, complaint), invalid),
        refused("426", "VERSION_MISMATCH", SETTINGS, 426),
        refused("500", "SERVER_ERROR", OPEN_READ, 500),
        refused("501", "VERSION_MISMATCH", SETTINGS, 501),
        // Only a server that sends Retry-After is retried.
        refused("503", "SERVER_ERROR", OPEN_READ, 503),
    ]
}

#[test]
fn invalid_session_reply_posts_error() {
    let proxy = Proxy::alone();
    for (what, rule, expected) in invalid_replies().into_iter().chain(refusals()) {
        accept_offers_only(&proxy);
        proxy.rule(RuntimeRoute::StartSession, rule);
        assert_fails(what, &proxy.url(), "", expected.during("start_session"));
        assert_eq!(proxy.count(RuntimeRoute::StartSession), 1, "{what}");
        assert_eq!(proxy.count(RuntimeRoute::StopSession), 0, "{what}");
    }
}

#[test]
fn unusable_session_posts_error_and_is_stopped() {
    let proxy = Proxy::alone();
    let no_outputs = SESSION.replace("recvonly", "sendonly");
    let other_transport = SESSION.replace("\"webrtc\"", "\"livekit\"");
    let cases = [
        (
            "no outputs",
            no_outputs,
            1,
            Expected::api("BAD_REQUEST", OPEN_READ, "the model has no output tracks"),
        ),
        (
            "another transport",
            other_transport,
            0,
            Expected::api("VERSION_MISMATCH", SETTINGS, "only webrtc is supported")
                .during("session"),
        ),
    ];
    for (what, session, ended, expected) in cases {
        accept_offers_only(&proxy);
        proxy.rule(RuntimeRoute::StartSession, Rule::reply(200, session));
        assert_fails(what, &proxy.url(), "", expected);
        assert_eq!(proxy.count(RuntimeRoute::StopSession), ended, "{what}");
    }
}

/// Calls that fail between the session and its answer.
fn failing_calls() -> Vec<(RuntimeRoute, Reply)> {
    let fails = |what, code, kind, http: u16| {
        let expected = Expected::api(code, kind, "says the server");
        let expected = expected.during("sdp_params").status(http.into());
        (what, status(http), expected)
    };
    let refused = Expected::api("SERVER_ERROR", OPEN_READ, "says the server").status(503);
    let odd = Expected::api("DECODE_FAILED", OPEN_READ, "connection id").status(201);
    let odd_id = Rule::reply(201, r#"{"connection_id":"one"}"#);
    let [refused, odd] = [refused, odd].map(|expected| expected.during("connections"));
    vec![
        (
            RuntimeRoute::Connections,
            ("no connection", status(503), refused),
        ),
        (
            RuntimeRoute::Connections,
            ("an odd connection", odd_id, odd),
        ),
        (
            RuntimeRoute::Offer,
            fails("404", "NOT_FOUND", NOT_FOUND, 404),
        ),
        (RuntimeRoute::Offer, fails("409", "CONFLICT", BUSY, 409)),
        (
            RuntimeRoute::Offer,
            fails("500", "SERVER_ERROR", OPEN_READ, 500),
        ),
        (
            RuntimeRoute::Answer,
            fails("500", "SERVER_ERROR", OPEN_READ, 500),
        ),
    ]
}

fn no_answers() -> Vec<(RuntimeRoute, Reply)> {
    let answer = |sdp: &str| Rule::reply(200, format!(r#"{{"sdp_answer":"{sdp}"}}"#));
    let half = answer("v=0\\r\\no=- 1 1 IN IP4 127.0.0.1\\r\\ns=-\\r\\nt=0 0\\r\\n");
    let late = Expected::api("REQUEST_TIMEOUT", OPEN_READ, "max-sdp-attempts=2");
    let empty = Expected::api("DECODE_FAILED", OPEN_READ, "holds no SDP").status(200);
    let odd = Expected::gpu("DECODE_FAILED", OPEN_READ, "SDP answer is unusable");
    let rejected = Expected::gpu("TRACK_REJECTED", CODEC_NOT_FOUND, "track 'v'");
    let cases = [
        ("no answer", Rule::reply(202, ""), late),
        ("a silent poll", Rule::Hang, late),
        ("an empty answer", answer(""), empty),
        ("words for an answer", answer("hello"), odd),
        ("half an answer", half, rejected),
    ];
    cases
        .map(|(what, rule, expected)| {
            (
                RuntimeRoute::Answer,
                (what, rule, expected.during("sdp_params")),
            )
        })
        .into()
}

#[test]
fn session_without_answer_posts_error() {
    let proxy = Proxy::alone();
    for (route, (what, rule, expected)) in failing_calls().into_iter().chain(no_answers()) {
        accept_offers_only(&proxy);
        proxy.rule(route, rule);
        let failure = assert_fails(what, &proxy.url(), "max-sdp-attempts=2", expected);
        let id: String = failure.detail("session-id");
        assert_eq!(id, "s-1", "{what}");
        // The session is stopped, once.
        assert_eq!(proxy.count(RuntimeRoute::StopSession), 1, "{what}");
    }
}

#[test]
fn full_server_is_retried_until_free() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.next(RuntimeRoute::StartSession, 1, Rule::retry_after(503, "1"));
    proxy.next(RuntimeRoute::StartSession, 1, Rule::retry_after(429, "0.3"));
    let running = source(&proxy.url(), "");
    let frames = count_buffers(&running.pad("sink", "sink"));
    let begun = Instant::now();
    running.play();
    for _ in 0..2 {
        let text = running.wait_message(TIMEOUT, waiting_text);
        assert!(text.contains("all GPUs are taken"), "{text}");
    }
    wait_until("streaming", TIMEOUT, || frames() > 5);
    assert!(begun.elapsed() >= Duration::from_millis(1300));
    assert_eq!(proxy.count(RuntimeRoute::StartSession), 3);
    stop_and_check(&running);
}

/// The text of a progress message about waiting.
fn waiting_text(message: &gst::Message) -> Option<String> {
    let gst::MessageView::Progress(progress) = message.view() else {
        return None;
    };
    let (kind, code, text) = progress.get();
    let waiting = text.starts_with("Waiting for a GPU");
    (kind == gst::ProgressType::Continue && code == "connect" && waiting).then(|| text.to_owned())
}

#[test]
fn waiting_timeout_posts_last_error() {
    let given_up = |code, kind| Expected::api(code, kind, "gave up after waiting-timeout, 700 ms");
    let cases = [
        (
            "503",
            Rule::retry_after(503, "0.2"),
            given_up("SERVER_ERROR", BUSY)
                .during("start_session")
                .status(503)
                .retry_after(200),
        ),
        (
            "503, much later",
            Rule::retry_after(503, "3600"),
            given_up("SERVER_ERROR", BUSY)
                .during("start_session")
                .status(503)
                .retry_after(3_600_000),
        ),
        (
            "429",
            status(429),
            given_up("RATE_LIMITED", BUSY)
                .during("start_session")
                .status(429),
        ),
        (
            "409, ending",
            status(409),
            given_up("CONFLICT", BUSY)
                .during("start_session")
                .status(409)
                .retries(),
        ),
        (
            "silence",
            Rule::Hang,
            given_up("REQUEST_TIMEOUT", OPEN_READ).during("session"),
        ),
    ];
    let proxy = Proxy::alone();
    for (what, rule, expected) in cases {
        accept_offers_only(&proxy);
        proxy.rule(RuntimeRoute::Session, Rule::reply(200, closing_session()));
        proxy.rule(RuntimeRoute::StartSession, rule);
        let begun = Instant::now();
        // A request in flight may still create a session, so its reply is awaited.
        let properties = "waiting-timeout=700 close-timeout=500";
        assert_fails(what, &proxy.url(), properties, expected);
        assert!(begun.elapsed() >= Duration::from_millis(700), "{what}");
        assert_eq!(proxy.count(RuntimeRoute::StopSession), 0, "{what}");
    }
}

/// Without a waiting-timeout there are still limits: 10 s for one request, and 10 s for a session
/// that is ending.
#[test]
fn silent_server_posts_timeout_without_waiting_timeout() {
    let silent = Proxy::alone();
    silent.rule(RuntimeRoute::StartSession, Rule::Hang);
    let ending = Proxy::alone();
    ending.rule(RuntimeRoute::StartSession, status(409));
    ending.rule(RuntimeRoute::Session, Rule::reply(200, closing_session()));
    let first = source(&silent.url(), "");
    let second = source(&ending.url(), "");
    first.play();
    second.play();
    let fails = |running: &TestPipeline, what, expected: Expected| {
        expected.check(what, &running.wait_error(TIMEOUT));
        stop_and_check(running);
    };
    let expected = Expected::api("REQUEST_TIMEOUT", OPEN_READ, "no complete answer");
    fails(&first, "silence", expected.during("start_session"));
    let expected = Expected::api("CONFLICT", BUSY, "says the server").during("start_session");
    fails(&second, "409", expected.status(409).retries());
    assert!(ending.count(RuntimeRoute::StartSession) > 5);
}

/// However long Retry-After is, the element can be stopped.
#[test]
fn absurd_retry_after_can_be_stopped() {
    let proxy = Proxy::alone();
    for seconds in ["10000000000000000000", "1e300", "-1", "NaN"] {
        accept_offers_only(&proxy);
        proxy.next(
            RuntimeRoute::StartSession,
            1,
            Rule::retry_after(429, seconds),
        );
        let running = source(&proxy.url(), "waiting-timeout=1000");
        running.play();
        running.wait_message(TIMEOUT, waiting_text);
        let failure = running.wait_error(TIMEOUT);
        assert_eq!(failure.code(), "RATE_LIMITED", "{seconds}");
        stop_and_check(&running);
    }
}

/// A server that always sends `Retry-After: 0` must not be polled without a pause.
#[test]
fn retry_after_zero_does_not_busy_loop() {
    let proxy = Proxy::alone();
    proxy.rule(RuntimeRoute::StartSession, Rule::retry_after(503, "0"));
    let expected = Expected::api("SERVER_ERROR", BUSY, "gave up after waiting-timeout");
    let expected = expected.during("start_session").status(503).retry_after(0);
    assert_fails("0", &proxy.url(), "waiting-timeout=1000", expected);
    let asked = proxy.count(RuntimeRoute::StartSession);
    assert!(asked <= 21, "asked {asked} times in a second");
}
