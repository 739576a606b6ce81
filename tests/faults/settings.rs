// SPDX-License-Identifier: MIT

//! Invalid settings, and settings about a session that another client owns.

use std::time::Duration;

use gst::prelude::*;
use reactor_tests::{
    pipeline::{TestPipeline, wait_until},
    proxy::{Proxy, Rule, RuntimeRoute},
    server::Server,
};
use serde_json::{Value, json};

use crate::{
    health,
    support::{
        CORE_FAILED, Expected, NOT_FOUND, OPEN_READ, SETTINGS, TIMEOUT, assert_fails,
        count_buffers, source, stop_and_check,
    },
};

/// A source that refuses to start. Returns the text of all its messages.
fn refuses_to_start(properties: &str, text: &'static str) -> String {
    health::watch();
    let running = TestPipeline::parse(&format!("reactorsrc name=src {properties} ! fakesink"));
    let source = running.by_name("src");
    assert!(running.pipeline.set_state(gst::State::Playing).is_err());
    let mut said = String::new();
    let failure = {
        let bus = running.pipeline.bus().unwrap();
        let mut failure = None;
        while let Some(message) = bus.pop() {
            said += &format!("{message:?}");
            if let gst::MessageView::Error(error) = message.view()
                && message.src() == Some(source.upcast_ref())
            {
                said += &format!(
                    "{} {:?} {:?}",
                    error.error(),
                    error.debug(),
                    error.details()
                );
                failure.get_or_insert(reactor_tests::pipeline::BusError::of(error));
            }
        }
        failure.expect("an error message")
    };
    Expected::api("INVALID_SETTINGS", SETTINGS, text).check(properties, &failure);
    said += &format!("{:?}", source.property::<gst::Structure>("last-error"));
    stop_and_check(&running);
    said
}

#[test]
fn invalid_settings_refuse_state_change() {
    refuses_to_start("", "set local=true");
    refuses_to_start("local=false api-url=http://127.0.0.1:1", "set local=true");
    for url in ["nonsense", "http://", "127.0.0.1:8080", "http://[::1"] {
        refuses_to_start(
            &format!("local=true api-url={url}"),
            "expected a URL such as",
        );
    }
    refuses_to_start("local=true api-url=ftp://x", "is not an HTTP URL");
    refuses_to_start("local=true api-url=http://x?key=1", "query");
}

#[test]
fn password_in_url_is_never_shown() {
    for url in [
        "http://user:hunter2@127.0.0.1:8080",
        "http://hunter2@127.0.0.1:8080",
        "http://user:hunter2@host:port",
        "user:hunter2@host",
        "http://127.0.0.1:8080?token=hunter2",
        "nonsense?token=hunter2",
    ] {
        let said = refuses_to_start(&format!("local=true api-url={url}"), "expected a URL");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn unknown_session_id_posts_not_found() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let not_found = |text| Expected::api("NOT_FOUND", NOT_FOUND, text).during("session");
    let url = proxy.url();
    let unknown = "adopt-session-id=11111111-2222-3333-4444-555555555555";
    assert_fails(
        "unknown",
        &url,
        unknown,
        not_found("has no session 11111111"),
    );
    // The runtime describes the session that it could start.
    let nil = "adopt-session-id=00000000-0000-0000-0000-000000000000";
    assert_fails("idle", &url, nil, not_found("no running session to join"));
    assert_eq!(proxy.count(RuntimeRoute::StartSession), 0);
    assert_eq!(proxy.count(RuntimeRoute::StopSession), 0);
}

#[test]
fn connection_id_and_arguments_reach_server() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let running = source(&proxy.url(), "connection-id=1234");
    let arguments = json!({"mood": "calm", "generation": "streamed"});
    let source = running.by_name("src");
    source.set_property("arguments", arguments.to_string());
    let frames = count_buffers(&running.pad("sink", "sink"));
    running.play();
    wait_until("streaming", TIMEOUT, || frames() > 5);
    stop_and_check(&running);

    assert_eq!(proxy.count(RuntimeRoute::Connections), 0);
    let offers = proxy.requests(RuntimeRoute::Offer);
    assert!(
        offers[0].path.ends_with("/connections/1234/sdp_params"),
        "{}",
        offers[0].path
    );
    let begun: Value =
        serde_json::from_str(&proxy.requests(RuntimeRoute::StartSession)[0].body).unwrap();
    assert_eq!(begun["extra_args"], arguments);
    // The runtime's own keys count at the top level only.
    assert_eq!(begun["generation"], "streamed");
}

/// The server's refusal of a connection id is passed on with its text.
#[test]
fn refused_connection_id_posts_bad_request() {
    let server = Server::playground();
    let expected = Expected::api("BAD_REQUEST", OPEN_READ, "connection")
        .during("sdp_params")
        .status(422);
    assert_fails("id 7", &server.url(), "connection-id=7", expected);
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn arguments_other_than_object_refuse_state_change() {
    for text in ["nonsense", "[1]", "7", "{a"] {
        let running = source("http://127.0.0.1:1", "");
        running.by_name("src").set_property("arguments", text);
        assert!(running.pipeline.set_state(gst::State::Playing).is_err());
        let failure = running.wait_error(TIMEOUT);
        assert_eq!(failure.code(), "INVALID_SETTINGS", "{text}");
        let said = failure.error.message();
        assert!(said.contains("the property arguments"), "{text}: {said}");
        stop_and_check(&running);
    }
}

/// No pad exists that could pass EOS on: without an error the application would wait for it
/// forever.
#[test]
fn eos_before_any_stream_posts_error() {
    let proxy = Proxy::alone();
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    let running = source(&proxy.url(), "close-timeout=500");
    running.play();
    assert!(running.pipeline.send_event(gst::event::Eos::new()));
    let failure = running.wait_error(TIMEOUT);
    Expected::api("ABORTED", CORE_FAILED, "nothing was received").check("EOS", &failure);
    stop_and_check(&running);
}

/// close-timeout bounds the one wait of a state change.
#[test]
fn close_timeout_bounds_state_change() {
    let proxy = Proxy::alone();
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    for limit in [0, 300, 1500] {
        let running = source(&proxy.url(), &format!("close-timeout={limit}"));
        running.play();
        wait_until("asked", TIMEOUT, || {
            proxy.count(RuntimeRoute::StartSession) > 0
        });
        let took = stop_and_check(&running);
        let limit = Duration::from_millis(limit);
        assert!(
            took >= limit && took < limit + Duration::from_secs(2),
            "{took:?}"
        );
        proxy.reset();
        proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    }
}

/// Set while a session runs, a property that is read at the start changes nothing.
#[test]
fn property_set_too_late_posts_warning() {
    let proxy = Proxy::alone();
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    let running = source(&proxy.url(), "close-timeout=100");
    let element = running.by_name("src");
    element.set_property("stall-timeout", 4000u32);
    running.play();
    element.set_property("latency", 80u32);
    element.set_property("stall-timeout", 3000u32);
    let warning = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.details()?.to_owned()),
        _ => None,
    });
    assert_eq!(warning.get::<&str>("property").unwrap(), "stall-timeout");
    assert_eq!(warning.get::<&str>("code").unwrap(), "INVALID_SETTINGS");
    running.stop();
}
