// SPDX-License-Identifier: MIT

//! A connection that is lost, closed or replaced while the session goes on: against the real local
//! runtime.

use std::time::Duration;

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT,
    actions::{PendingReply, disconnect, emit_action, reconnect, with_track},
    camera_view::Colour,
    link_down::{LinkDown, exclusive_network},
    pipeline::{TestPipeline, is_v0, wait_for, wait_for_status, wait_until},
    proxy::{Proxy, RuntimeRoute},
    server::Server,
};

use super::loopback::{LoopbackSession, Track};

#[test]
fn reconnect_action_resumes_session_on_new_connection() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    let loopback = LoopbackSession::open(&proxy.url(), "");
    let id = loopback.session_id();
    let reply = reconnect(&loopback.source());
    let resumed = loopback.wait_resumed();
    reply.wait_ok(TIMEOUT);
    assert!(!resumed.get::<bool>("restarted").unwrap());
    loopback.wait_for_more();
    assert_eq!(loopback.session_id(), id);
    assert_eq!(loopback.ticks.next(TIMEOUT).clients, 1);
    assert_eq!(proxy.count(RuntimeRoute::Connections), 1);
    assert_eq!(proxy.count(RuntimeRoute::Offer), 2);
    loopback.assert_plays_without_error();
    loopback.times.assert_discont_once();
}

#[test]
fn outage_resumes_session_on_new_connection() {
    let server = Server::playground();
    let loopback = LoopbackSession::open(&server.url(), "stall-timeout=2000");
    let id = loopback.session_id();
    let link_down = LinkDown::begin(&server);
    std::thread::sleep(Duration::from_secs(6));
    drop(link_down);
    let resumed = loopback.wait_resumed();
    let outage = resumed.get::<u64>("outage-ms").unwrap();
    assert!(outage > 3000, "{outage}");
    let source = loopback.source();
    let last: gst::Structure = wait_for(TIMEOUT, "last-error", || source.property("last-error"));
    assert_eq!(last.get::<&str>("code").unwrap(), "DISCONNECTED");
    loopback.wait_for_more();
    assert_eq!(loopback.session_id(), id);
    assert_eq!(loopback.ticks.next(TIMEOUT).clients, 1);
    loopback.assert_plays_without_error();
    loopback.times.assert_discont_once();
    loopback.running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

/// The longest time between two buffers, not counting the first second.
fn longest_gap(track: &Track) -> gst::ClockTime {
    let begin = track[0].0 + gst::ClockTime::SECOND;
    let pairs = track.windows(2).filter(|pair| pair[0].0 > begin);
    pairs.map(|pair| pair[1].0 - pair[0].0).max().unwrap()
}

/// A muxer or a broadcast downstream does not see a gap.
fn assert_keeps_frame_rate(on_gap: &str) -> LoopbackSession {
    let server = Server::playground();
    let loopback = LoopbackSession::open(
        &server.url(),
        &format!("stall-timeout=2000 on-gap={on_gap}"),
    );
    let colours = loopback.view.len();
    let link_down = LinkDown::begin(&server);
    std::thread::sleep(Duration::from_secs(5));
    // During the outage, and not only afterwards.
    let meanwhile = loopback.view.len();
    assert!(meanwhile > colours + 60, "{colours} {meanwhile}");
    drop(link_down);
    loopback.wait_resumed();
    loopback.wait_for_more();
    loopback.assert_plays_without_error();
    let [video, audio] = &loopback.times.all()[..] else {
        unreachable!()
    };
    // Of an outage of 5 s, on a machine that may be busy.
    let gaps = (longest_gap(video), longest_gap(audio));
    assert!(gaps.0 < gst::ClockTime::SECOND, "{gaps:?}");
    assert!(gaps.1 < gst::ClockTime::SECOND, "{gaps:?}");
    loopback
}

#[test]
fn on_gap_hold_last_frame_repeats_picture() {
    let loopback = assert_keeps_frame_rate("hold-last-frame");
    // The last picture is repeated: none is undecodable, but for the black one with which the
    // runtime begins when the model has none yet.
    assert!(loopback.reader.unreadable() <= 1);
}

#[test]
fn on_gap_black_sends_black_frames() {
    let loopback = assert_keeps_frame_rate("black");
    assert!(loopback.reader.unreadable() > 60);
}

#[test]
fn disconnect_recoverable_can_be_reconnected() {
    let server = Server::playground();
    let loopback = LoopbackSession::open(&server.url(), "");
    let id = loopback.session_id();
    disconnect(&loopback.source(), true).wait_ok(TIMEOUT);
    loopback
        .running
        .wait_element("reactor-interrupted", TIMEOUT);
    wait_for_status(&loopback.source(), "disconnected", TIMEOUT);
    // What has been received may still be decoded.
    std::thread::sleep(Duration::from_secs(3));
    let seen = loopback.reader.len();
    // With that, longer than a server takes to notice that a connection is gone.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(loopback.reader.len(), seen, "something flows");
    assert_eq!(server.session_state(), "orphaned");
    reconnect(&loopback.source()).wait_ok(TIMEOUT);
    loopback.running.wait_element("reactor-resumed", TIMEOUT);
    loopback.wait_for_more();
    assert_eq!(loopback.session_id(), id);
    loopback.assert_plays_without_error();
}

#[test]
fn disconnect_without_recovery_ends_session() {
    let server = Server::playground();
    let loopback = LoopbackSession::open(&server.url(), "");
    let reply = disconnect(&loopback.source(), false);
    let ended = loopback
        .running
        .wait_element("reactor-session-ended", TIMEOUT);
    let reason = ended.get::<&str>("reason").unwrap();
    assert_eq!(reason, "disconnected by the application");
    loopback.running.wait_eos(TIMEOUT);
    reply.wait_ok(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
    // There is nothing left to come back to.
    let code = reconnect(&loopback.source()).error_code(TIMEOUT);
    assert!(
        matches!(code.as_deref(), Some("INVALID_STATE" | "DISCONNECTED")),
        "{code:?}"
    );
}

/// Without `reconnect` the application decides, as handlers written for the platform's clients do:
/// after a recoverable error they wait for `retry-after` and reconnect.
#[test]
fn lost_session_is_kept_for_reconnect_action() {
    let server = Server::playground();
    // A server on a busy machine may be silent for 1.5 s later on.
    let loopback = LoopbackSession::open(&server.url(), "stall-timeout=4000 reconnect=false");
    let source = loopback.source();
    let id = loopback.session_id();
    let link_down = LinkDown::begin(&server);
    let lost = loopback.running.wait_error(TIMEOUT);
    assert_eq!(lost.code(), "DISCONNECTED");
    assert_eq!(lost.detail::<String>("class"), "GPU_CONNECTION_ERROR");
    assert!(lost.detail::<bool>("recoverable"));
    assert!(lost.detail::<f64>("timestamp") > 1.7e9);
    // Either element may be the first to report it.
    let last: gst::Structure = wait_for(TIMEOUT, "last-error", || source.property("last-error"));
    assert_eq!(last.get::<&str>("code").unwrap(), "DISCONNECTED");
    // What is not known without a connection, is not shown; the session is still there.
    wait_for_status(&source, "disconnected", TIMEOUT);
    for name in ["capabilities", "session-info"] {
        assert_eq!(
            source.property::<Option<gst::Structure>>(name),
            None,
            "{name}"
        );
    }
    assert_eq!(loopback.session_id(), id);
    drop(link_down);
    std::thread::sleep(Duration::from_millis(lost.detail("retry-after")));
    reconnect(&source).wait_ok(TIMEOUT);
    assert!(
        source
            .property::<Option<gst::Structure>>("capabilities")
            .is_some()
    );
    loopback.wait_for_more();
    assert_eq!(loopback.session_id(), id);
    // The sink posted the error, too.
    while loopback.running.pop_error().is_some() {}
    loopback.assert_plays_without_error();
    loopback.running.stop();
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn unpublished_track_can_be_published_again() {
    let server = Server::playground();
    let loopback = LoopbackSession::open(&server.url(), "");
    let source = loopback.source();
    with_track(&source, "unpublish-track", "camera").wait_ok(TIMEOUT);
    // Another client may feed the track now, until it unpublishes it.
    let other = TestPipeline::launch(&format!(
        "videotestsrc is-live=true pattern={} ! video/x-raw,width=320,height=180,framerate=15/1 \
         ! reactorsink name=o local=true api-url={} session=other",
        Colour::Blue.pattern(),
        server.url()
    ));
    loopback.view.wait_for(Colour::Blue, TIMEOUT);
    // Until then it is refused, which is a matter of this track only.
    let published = with_track(&source, "publish-track", "camera");
    if !is_v0() {
        let refused = wait_for_warning(&loopback.running, "publish_refused");
        assert_eq!(refused.get::<&str>("track").unwrap(), "camera");
        assert_eq!(
            refused.get::<&str>("class").unwrap(),
            "TRACK_PUBLISH_FAILED"
        );
        let code = published.error_code(TIMEOUT);
        assert_eq!(code.as_deref(), Some("publish_refused"));
    }
    // It is requested again for a while.
    let published = with_track(&source, "publish-track", "camera");
    std::thread::sleep(Duration::from_millis(700));
    let feeder = other.by_name("o");
    with_track(&feeder, "unpublish-track", "camera").wait_ok(TIMEOUT);
    if !is_v0() {
        published.wait_ok(TIMEOUT);
    }
    loopback.wait_for_more();
    loopback.running.assert_no_error();
    let wrong = [("nothing", "NOT_FOUND"), ("main_video", "NOT_FOUND")];
    for (track, expected) in wrong {
        let code = with_track(&source, "publish-track", track).error_code(TIMEOUT);
        assert_eq!(code.as_deref(), Some(expected), "{track}");
    }
}

/// The details of the next warning with this code.
fn wait_for_warning(running: &TestPipeline, code: &str) -> gst::Structure {
    running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => {
            let details = warning.details()?;
            (details.get::<&str>("code") == Ok(code)).then(|| details.to_owned())
        }
        _ => None,
    })
}

#[test]
fn file_input_waits_during_disconnect() {
    let _exclusive = exclusive_network();
    let server = Server::playground();
    let running = TestPipeline::parse(&format!(
        "videotestsrc num-buffers=120 pattern={} ! video/x-raw,width=320,height=180,framerate=30/1 \
         ! reactorsink name=s local=true api-url={}",
        Colour::Red.pattern(),
        server.url()
    ));
    let sent = |name: &str| {
        let pad = running.pad_stats("s", "video_0");
        pad.get::<u64>(name).unwrap()
    };
    running.play();
    wait_until("something is sent", TIMEOUT, || sent("sent") > 30);
    disconnect(&running.by_name("s"), true);
    running.wait_element("reactor-interrupted", TIMEOUT);
    let before = sent("sent");
    std::thread::sleep(Duration::from_secs(2));
    assert!(sent("sent") <= before + 1, "{before}, {}", sent("sent"));
    reconnect(&running.by_name("s"));
    running.wait_eos(TIMEOUT);
    assert!(
        sent("sent") + sent("dropped") == 120,
        "{} of 120",
        sent("sent")
    );
    assert!(sent("dropped") <= 2, "{} dropped", sent("dropped"));
}

#[test]
fn actions_in_any_state_are_answered_and_no_error() {
    let _exclusive = exclusive_network();
    let server = Server::playground();
    let all = |element: &gst::Element| -> Vec<PendingReply> {
        // The promise may be missing.
        element.emit_by_name::<()>("reconnect", &[&None::<gst::Promise>]);
        element.emit_by_name::<()>("disconnect", &[&true, &None::<gst::Promise>]);
        let mut replies = vec![
            reconnect(element),
            disconnect(element, true),
            disconnect(element, true),
            reconnect(element),
            reconnect(element),
            disconnect(element, false),
            reconnect(element),
        ];
        for action in [
            "publish-track",
            "unpublish-track",
            "pause-track",
            "resume-track",
        ] {
            for track in [Some("camera"), Some("nothing"), None] {
                replies.push(emit_action(element, action, vec![track.to_value()]));
            }
        }
        replies
    };
    for wait in [0, 50, 150, 300, 600, 1500] {
        // A parsed line links its pads once.
        let running = TestPipeline::parse(&format!(
            "reactorsrc name=r local=true api-url={} ! fakesink",
            server.url()
        ));
        let element = running.by_name("r");
        // There is no session yet.
        for reply in all(&element) {
            let code = reply.error_code(TIMEOUT);
            assert_eq!(code.as_deref(), Some("INVALID_STATE"));
        }
        running.pipeline.set_state(gst::State::Ready).unwrap();
        let mut replies = all(&element);
        running.play();
        std::thread::sleep(Duration::from_millis(wait));
        replies.extend(all(&element));
        running.wait_element("reactor-session-ended", TIMEOUT);
        replies.extend(all(&element));
        // What the application asked for is never an error. The replies come after what the
        // element says of the end, and NULL empties the bus.
        for reply in replies.drain(..) {
            reply.wait(TIMEOUT);
        }
        running.assert_no_error();
        running.stop();
        replies.extend(all(&element));
        for reply in replies {
            reply.wait(TIMEOUT);
        }
        server.wait_for_state("ready", TIMEOUT);
    }
}
