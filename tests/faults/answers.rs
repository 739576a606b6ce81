// SPDX-License-Identifier: MIT

//! The real server's replies, edited in transit; and a session that another client owns.

use std::{sync::mpsc, time::Duration};

use reactor_tests::{
    http,
    pipeline::wait_until,
    process::in_own_process,
    proxy::{Proxy, Rule, RuntimeRoute},
    server::Server,
};
use serde_json::{Value, json};

use crate::health;
use crate::support::{
    CODEC_NOT_FOUND, Expected, NOT_AUTHORIZED, OPEN_READ, READ, TIMEOUT, assert_fails,
    count_buffers, source, stop_and_check,
};

/// Edits the SDP in the member `field` of a JSON body.
fn edit_sdp(
    field: &'static str,
    edit: impl Fn(&str) -> String + Send + Sync + 'static,
) -> impl Fn(String) -> String + Send + Sync + 'static {
    move |body| {
        let mut json: Value = serde_json::from_str(&body).expect("JSON");
        let sdp = edit(json[field].as_str().expect("SDP"));
        json[field] = sdp.into();
        json.to_string()
    }
}

fn answer(edit: impl Fn(&str) -> String + Send + Sync + 'static) -> Rule {
    Rule::edit_reply(edit_sdp("sdp_answer", edit))
}

/// Edits or removes each line.
fn lines(sdp: &str, edit: impl Fn(&str) -> Option<String>) -> String {
    let edited = sdp.lines().filter_map(edit);
    edited.map(|line| line + "\r\n").collect()
}

fn reject_video(sdp: &str) -> String {
    lines(sdp, |line| match line.strip_prefix("m=video ") {
        Some(rest) => {
            let (_, rest) = rest.split_once(' ').unwrap();
            Some(format!("m=video 0 {rest}"))
        }
        None => Some(line.to_owned()),
    })
}

/// Without the first m-section.
fn remove_first_section(sdp: &str) -> String {
    let begin = sdp.find("m=").unwrap();
    let end = begin + 2 + sdp[begin + 2..].find("m=").unwrap();
    format!("{}{}", &sdp[..begin], &sdp[end..])
}

/// With one digit of each fingerprint changed.
fn forge_fingerprint(sdp: &str) -> String {
    lines(sdp, |line| {
        let mut line = line.to_owned();
        if line.starts_with("a=fingerprint:") {
            let last = line.pop();
            line.push(if last == Some('0') { '1' } else { '0' });
        }
        Some(line)
    })
}

fn use_md5_fingerprint(sdp: &str) -> String {
    lines(sdp, |line| match line.starts_with("a=fingerprint:") {
        true => Some(format!("a=fingerprint:md5 {}", ["00"; 16].join(":"))),
        false => Some(line.to_owned()),
    })
}

#[test]
fn invalid_sdp_answer_posts_error() {
    let identity = |text| Expected::gpu("IDENTITY_MISMATCH", NOT_AUTHORIZED, text);
    let track = |text| Expected::gpu("TRACK_REJECTED", CODEC_NOT_FOUND, text);
    type Spoil = fn(&str) -> String;
    let cases: [(&str, Spoil, Expected); 6] = [
        ("rejected", reject_video, track("track 'main_video'")),
        (
            "shortened",
            remove_first_section,
            track("its m-section is missing"),
        ),
        (
            "forged",
            forge_fingerprint,
            identity("not the one its answer announced"),
        ),
        ("weak", use_md5_fingerprint, identity("SHA-256")),
        (
            "unparsable",
            |_| "v=0\r\nnonsense".to_owned(),
            Expected::gpu("DECODE_FAILED", OPEN_READ, "SDP answer is unusable"),
        ),
        (
            "the offer's own direction",
            |sdp| sdp.replace("a=sendonly", "a=sendrecv"),
            Expected::gpu("DECODE_FAILED", OPEN_READ, "only sendonly fits"),
        ),
    ];
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    for (what, edit, expected) in cases {
        proxy.reset();
        proxy.rule(RuntimeRoute::Answer, answer(edit));
        let expected = expected.during("sdp_params");
        let failure = assert_fails(what, &proxy.url(), "", expected);
        assert!(!failure.detail::<String>("session-id").is_empty());
        assert_eq!(proxy.count(RuntimeRoute::StopSession), 1, "{what}");
        server.wait_for_state("ready", TIMEOUT);
    }
}

/// No media and no message of a peer with the wrong fingerprint gets through.
#[test]
fn peer_with_forged_fingerprint_is_ignored() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::Answer, answer(forge_fingerprint));
    let running = source(&proxy.url(), "");
    let buffers = count_buffers(&running.pad("sink", "sink"));
    running.play();
    let failure = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Error(error) => Some(error.details().map(|d| d.to_owned())),
        gst::MessageView::Element(element) => {
            let name = element.structure().map(|s| s.name().to_string());
            let heard = ["reactor-message", "reactor-runtime-message"];
            assert!(!heard.contains(&name.as_deref().unwrap_or_default()));
            None
        }
        _ => None,
    });
    let code = failure.map(|details| details.get::<String>("code").unwrap());
    assert_eq!(code.as_deref(), Some("IDENTITY_MISMATCH"));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(buffers(), 0);
    stop_and_check(&running);
}

/// webrtcbin asks for the pads of its data channels when SCTP is established. GStreamer's log says
/// when that is, and holds it up until the element stops.
#[test]
fn stop_while_data_channels_are_linked_is_clean() {
    if !in_own_process("answers::stop_while_data_channels_are_linked_is_clean") {
        return;
    }
    let server = Server::playground();
    let running = source(&server.url(), "");
    let (sender, established) = mpsc::channel();
    gst::log::set_threshold_for_name("webrtcbin", gst::DebugLevel::Debug);
    gst::log::remove_default_log_function();
    gst::log::add_log_function(move |_, _, _, _, _, _, message| {
        if message
            .get()
            .is_some_and(|text| text.contains("SCTP association established"))
        {
            let _ = sender.send(());
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    running.play();
    established.recv_timeout(TIMEOUT).expect("SCTP");
    stop_and_check(&running);
    std::thread::sleep(Duration::from_secs(1));
    health::assert_clean();
    server.wait_for_state("ready", TIMEOUT);
}

/// The candidates of both sides lead to a port that nothing listens on.
#[test]
fn unreachable_candidates_post_error() {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let misled = move |sdp: &str| {
        lines(sdp, |line| {
            let mut fields: Vec<_> = line.split(' ').map(str::to_owned).collect();
            if line.starts_with("a=candidate:") {
                if fields[2].eq_ignore_ascii_case("tcp") {
                    return None;
                }
                fields[5] = port.to_string();
            }
            Some(fields.join(" "))
        })
    };
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::Answer, answer(misled));
    let offer = Rule::edit_request(edit_sdp("sdp_offer", misled));
    proxy.rule(RuntimeRoute::Offer, offer);
    let none = |_| json!({"candidates": [], "is_final": false}).to_string();
    proxy.rule(RuntimeRoute::Candidates, Rule::edit_request(none));
    let running = source(&proxy.url(), "");
    running.play();
    // The element's own limit of 30 s, or an ICE agent that gives up before.
    let failure = running.wait_error(Duration::from_secs(45));
    match failure.code().as_str() {
        "REQUEST_TIMEOUT" => Expected::gpu("REQUEST_TIMEOUT", OPEN_READ, "is UDP blocked?")
            .during("connect")
            .check("timeout", &failure),
        _ => Expected::gpu("DISCONNECTED", READ, "no way to the server's media port")
            .check("ICE", &failure),
    }
    stop_and_check(&running);
    assert_eq!(proxy.count(RuntimeRoute::StopSession), 1);
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn running_session_is_joined_and_not_stopped() {
    let server = Server::playground();
    let url = server.url();
    let begun = http::post(&format!("{url}/start_session"), "{}").unwrap();
    assert_eq!(begun.status, 200, "{}", begun.body);
    let session: Value = serde_json::from_str(&begun.body).unwrap();
    let adopted = format!(
        "adopt-session-id={}",
        session["session_id"].as_str().unwrap()
    );
    let proxy = Proxy::before(&server);
    for (properties, asked) in [("", 1), (adopted.as_str(), 0)] {
        proxy.reset();
        let running = source(&proxy.url(), properties);
        let frames = count_buffers(&running.pad("sink", "sink"));
        running.play();
        wait_until("streaming", TIMEOUT, || frames() > 5);
        stop_and_check(&running);
        assert_eq!(proxy.count(RuntimeRoute::StartSession), asked);
        assert_eq!(proxy.count(RuntimeRoute::StopSession), 0);
        let state = server.session_state();
        let live = ["waiting", "streaming", "orphaned"].contains(&state.as_str());
        assert!(live, "{state}");
    }
}
