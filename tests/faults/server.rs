// SPDX-License-Identifier: MIT

//! The real server, alive and killed, and what remains on it after a stop.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    actions::send_command,
    http,
    pipeline::{BusError, TestPipeline, wait_until},
    proxy::{Proxy, Rule, RuntimeRoute},
    server::Server,
};

use crate::{
    health,
    support::{
        Expected, OPEN_READ, READ, TIMEOUT, assert_fails, count_buffers, source, stop_and_check,
    },
};

/// Well above a stall-timeout of 3 s, for a busy machine.
const STALLED: Duration = Duration::from_secs(10);

fn streaming(url: &str, properties: &str) -> TestPipeline {
    let running = source(url, properties);
    let frames = count_buffers(&running.pad("sink", "sink"));
    running.play();
    wait_until("streaming", TIMEOUT, || frames() > 10);
    running
}

#[test]
fn killed_server_posts_disconnected() {
    let server = Server::playground();
    let running = streaming(&server.url(), "stall-timeout=3000 reconnect=false");
    server.signal(libc::SIGKILL);
    let failure = running.wait_error(STALLED);
    Expected::gpu("DISCONNECTED", READ, "is the server running?").check("killed", &failure);
    assert!(!failure.detail::<String>("session-id").is_empty());
    stop_and_check(&running);
}

#[test]
fn frozen_server_posts_disconnected_after_stall_timeout() {
    let server = Server::playground();
    let running = streaming(&server.url(), "stall-timeout=3000 reconnect=false");
    server.signal(libc::SIGSTOP);
    let begun = Instant::now();
    let failure = running.wait_error(STALLED);
    // Not earlier: it could be a long pause.
    assert!(begun.elapsed() > Duration::from_secs(2), "too early");
    Expected::gpu("DISCONNECTED", READ, "(stall-timeout)").check("frozen", &failure);
    stop_and_check(&running);
}

/// Both branches have to get EOS before the pipeline posts it.
fn two_branches(url: &str) -> TestPipeline {
    health::watch();
    let running = TestPipeline::parse(&format!(
        "reactorsrc name=src local=true api-url={url} \
         src.video_main_video ! fakesink name=video sync=false \
         src.audio_main_audio ! fakesink name=audio sync=false"
    ));
    let video = count_buffers(&running.pad("video", "sink"));
    let audio = count_buffers(&running.pad("audio", "sink"));
    running.play();
    wait_until("both flow", TIMEOUT, || video() > 10 && audio() > 10);
    running
}

/// Returns the reason that the element tells.
fn assert_stop_sends_eos(body: &str) -> Option<String> {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let running = two_branches(&proxy.url());
    let (sender, reasons) = mpsc::channel();
    let source = running.by_name("src");
    source.connect("session-ended", false, move |values| {
        sender
            .send(values[1].get::<Option<String>>().unwrap())
            .unwrap();
        None
    });
    let stopped = http::post(&format!("{}/stop_session", server.url()), body).unwrap();
    assert_eq!(stopped.status, 200, "{}", stopped.body);

    let message = running.wait_element("reactor-session-ended", TIMEOUT);
    let told: Option<String> = message.get("reason").unwrap();
    assert!(
        message
            .get::<Option<String>>("session-id")
            .unwrap()
            .is_some()
    );
    running.wait_eos(TIMEOUT);
    assert_eq!(reasons.recv_timeout(TIMEOUT).unwrap(), told);
    stop_and_check(&running);
    // It has ended: there is nothing to stop.
    assert_eq!(proxy.count(RuntimeRoute::StopSession), 0);
    told
}

#[test]
fn stopped_session_sends_eos_with_reason() {
    // The runtime 3.10.0 aborts SCTP right after the message, which a busy machine loses then (5 of 70
    // runs beside two busy processes).
    let told = (0..3).find_map(|_| assert_stop_sends_eos(r#"{"reason":"out of credits"}"#));
    assert_eq!(told.as_deref(), Some("out of credits"));
}

#[test]
fn stopped_session_without_reason_sends_eos() {
    assert_stop_sends_eos("");
}

/// A model that crashes has not ended its session in order: a recording of it must not look
/// complete. The runtime exits with the model, so it may or may not report the end.
#[test]
fn crashed_model_posts_error_and_no_eos() {
    let crash = r#"{"starting_input":{"commands":[{"command":"crash","data":{}}]}}"#;
    let terminated = r#"{"session_id":"00000000-0000-0000-0000-000000000000",
        "state":"terminated"}"#;
    for rule in [Rule::reply(200, terminated), Rule::drop_connection()] {
        let server = Server::playground();
        let proxy = Proxy::before(&server);
        let what = format!("{rule:?}");
        proxy.rule(RuntimeRoute::Session, rule);
        let running = source(&proxy.url(), "");
        let src = running.by_name("src");
        src.set_property("arguments", crash);
        src.set_property("reconnect", false);
        running.play();
        let failure = running.wait_message(TIMEOUT, |message| match message.view() {
            gst::MessageView::Eos(_) => panic!("{what}: an EOS"),
            gst::MessageView::Error(error) => Some(BusError::of(error)),
            _ => None,
        });
        // It may exit before the connection is established.
        let codes = [
            "DISCONNECTED",
            "BAD_REQUEST",
            "NETWORK_ERROR",
            "SESSION_TERMINAL",
        ];
        let code = failure.code();
        assert!(codes.contains(&code.as_str()), "{what}: {failure:?}");
        let recoverable = failure.detail::<bool>("recoverable");
        assert!(code != "SESSION_TERMINAL" || !recoverable, "{what}");
        let stopped = proxy.count(RuntimeRoute::StopSession);
        assert!(
            code != "SESSION_TERMINAL" || stopped == 0,
            "{what}: it was asked to stop"
        );
        stop_and_check(&running);
    }
}

/// While it plays, against the runtime itself: one error, which no handler takes for a cause to
/// reconnect where the runtime still says that it is over, and nothing after it.
#[test]
fn crash_while_playing_is_one_error() {
    let server = Server::playground();
    let running = streaming(&server.url(), "");
    let src = running.by_name("src");
    send_command(&src, "crash", "{}");
    let failure = running.wait_error(2 * TIMEOUT);
    let text = failure.error.to_string();
    assert!(!text.contains("503"), "{failure:?}");
    let is_final = failure.code() == "SESSION_TERMINAL";
    assert!(
        is_final != failure.detail::<bool>("recoverable"),
        "{failure:?}"
    );
    std::thread::sleep(Duration::from_secs(3));
    running.assert_no_error();
    let last: gst::Structure = src.property("last-error");
    assert_eq!(last.get::<String>("code").unwrap(), failure.code());
    stop_and_check(&running);
}

#[test]
fn server_killed_while_connecting_posts_error() {
    let server = Server::playground();
    let running = source(&server.url(), "");
    running.play();
    running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Element(element) => {
            let structure = element.structure()?;
            let id = structure.get::<Option<String>>("session-id").ok().flatten();
            (structure.name() == "reactor-status" && id.is_some()).then_some(())
        }
        _ => None,
    });
    server.signal(libc::SIGKILL);
    let failure = running.wait_error(Duration::from_secs(45));
    let code = failure.code();
    let lost = ["NETWORK_ERROR", "DISCONNECTED", "REQUEST_TIMEOUT"];
    assert!(lost.contains(&code.as_str()), "{failure:?}");
    stop_and_check(&running);
}

#[test]
fn broken_http_connection_posts_network_error() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    for (route, operation) in [
        (RuntimeRoute::Connections, "connections"),
        (RuntimeRoute::Offer, "sdp_params"),
        (RuntimeRoute::Answer, "sdp_params"),
    ] {
        proxy.reset();
        proxy.rule(route, Rule::drop_connection());
        let broken = Expected::api("NETWORK_ERROR", OPEN_READ, "broke off");
        let what = format!("{route:?}");
        assert_fails(&what, &proxy.url(), "", broken.during(operation));
        server.wait_for_state("ready", TIMEOUT);
    }
}

/// Stopped at any moment while it connects, it stops in time, and leaves no session that is billed.
#[test]
fn stop_while_connecting_leaves_no_session() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    for step in 0..20 {
        let running = source(&proxy.url(), "");
        running.play();
        std::thread::sleep(Duration::from_millis(step * 42));
        let took = stop_and_check(&running);
        assert!(took < Duration::from_secs(3), "{step}: {took:?}");
        server.wait_for_state("ready", TIMEOUT);
    }
    let (started, stopped) = (
        proxy.count(RuntimeRoute::StartSession),
        proxy.count(RuntimeRoute::StopSession),
    );
    assert_eq!(started, stopped, "sessions started and stopped");
    assert!(started > 10);
}
