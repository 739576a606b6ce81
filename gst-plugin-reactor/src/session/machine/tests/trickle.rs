// SPDX-License-Identifier: MIT

//! Trickle ICE: when candidates are posted, and what comes of a refusal.

use super::*;

fn text(n: u32) -> String {
    format!("candidate:{n} 1 UDP 2015363327 10.0.0.{n} 40000 typ host")
}

/// One that was found, for the m-line of the BUNDLE group's transport.
pub(super) fn candidate(n: u32) -> Input {
    Input::CandidateFound {
        mline: 0,
        candidate: text(n),
    }
}

fn posted(candidates: &[u32]) -> Action {
    let candidates = candidates.iter().map(|n| IceCandidate {
        candidate: text(*n),
        sdp_mid: "video0".into(),
        sdp_mline_index: 0,
    });
    Action::PostCandidates {
        connection_id: CONNECTION,
        candidates: candidates.collect(),
        is_end: false,
    }
}

#[test]
fn candidates_found_together_are_posted_together() {
    let mut harness = polling();
    assert_eq!(harness.handle_labels(candidate(1)), "");
    assert_eq!(harness.run_labels(10), "");
    assert_eq!(harness.handle_labels(candidate(2)), "");
    assert_eq!(harness.run(15), [(25, posted(&[1, 2]))]);
    // The end must be the last that arrives.
    harness.handle(candidate(3));
    assert_eq!(harness.handle_labels(Input::CandidatesGathered), "");
    let next = harness.handle(Input::CandidatesPosted(Ok(())));
    assert_eq!(next, [posted(&[3])]);
    assert_eq!(
        harness.handle_labels(Input::CandidatesPosted(Ok(()))),
        "candidates-end"
    );
    assert_eq!(harness.handle_labels(Input::CandidatesPosted(Ok(()))), "");
}

#[test]
fn candidates_wait_until_offer_is_accepted() {
    let mut harness = Harness::new(policy()).until_preparing();
    harness.handle(candidate(1));
    harness.prepare();
    harness.handle(candidate(2));
    assert_eq!(harness.handle_labels(Input::CandidatesGathered), "");
    assert_eq!(harness.run_labels(100), "");
    let out = harness.handle(Input::OfferPosted(Ok(())));
    assert_eq!(out, [posted(&[1, 2])]);
    assert_eq!(
        harness.handle_labels(Input::CandidatesPosted(Ok(()))),
        "candidates-end"
    );
}

#[test]
fn candidates_of_the_offer_are_not_posted_again() {
    let mut harness = Harness::new(policy()).until_preparing();
    harness.handle(Input::ConnectionRegistered(Ok(CONNECTION)));
    harness.handle(Input::IceServersFetched(Ok(ice_servers())));
    harness.handle(Input::TracksPlanned(Ok(tracks())));
    harness.handle(candidate(1));
    let offer = format!("{}a={}\n", local_offer(), text(1));
    harness.handle(Input::OfferCreated(Ok(offer)));
    harness.handle(candidate(1));
    assert_eq!(
        harness.handle_labels(Input::OfferPosted(Ok(()))),
        "",
        "nothing to post"
    );
    assert_eq!(
        harness.handle_labels(Input::CandidatesGathered),
        "candidates-end"
    );
}

/// A relay's candidate may be the last, and the end may have been reported early.
#[test]
fn late_candidate_is_posted() {
    let mut harness = Harness::new(policy()).until_connecting();
    assert_eq!(
        harness.handle_labels(Input::CandidatesGathered),
        "candidates-end"
    );
    harness.handle(Input::CandidatesPosted(Ok(())));
    assert_eq!(harness.handle(candidate(7)), [posted(&[7])]);
    assert_eq!(harness.handle_labels(Input::CandidatesPosted(Ok(()))), "");
}

#[test]
fn refused_candidates_warn_once_and_explain_failure() {
    let mut harness = Harness::new(policy()).until_connecting();
    let refusal = || Err(busy(404, None));
    let out = harness.handle(Input::CandidatesPosted(refusal()));
    assert_eq!(warning(&out).code, Code::NotFound);
    assert_eq!(
        harness.handle_labels(Input::CandidatesPosted(refusal())),
        ""
    );
    let error = failure(&harness.handle(Input::TransportFailed(broken())));
    assert_eq!(error.code, broken().code);
    let why = "the server did not take the ICE candidates: answered 404";
    assert!(error.message.ends_with(why), "{error}");
}

#[test]
fn refused_candidates_do_not_matter_to_a_connection_that_is_up() {
    let mut harness = Harness::resumed(policy());
    harness.handle(Input::CandidatesGathered);
    let refusal = Input::CandidatesPosted(Err(busy(503, None)));
    assert_eq!(harness.handle_labels(refusal), "");
}

#[test]
fn next_connection_trickles_anew() {
    let mut harness = Harness::resumed(Policy {
        reconnect: true,
        ..policy()
    });
    harness.handle(candidate(1));
    harness.handle(Input::TransportFailed(broken()));
    assert_eq!(harness.handle_labels(candidate(2)), "", "of the old one");
    let described = descriptor("orphaned", "3.10.0");
    harness.handle(Input::SessionDescribed(Ok(described)));
    harness.handle(Input::IceServersFetched(Ok(ice_servers())));
    harness.handle(candidate(3));
    harness.handle(Input::OfferCreated(Ok(local_offer())));
    harness.run(30);
    let out = harness.handle(Input::OfferPosted(Ok(())));
    assert_eq!(out, [posted(&[3])]);
}

/// An SDP without candidates that can be connected to.
fn unreachable(sdp: &str) -> String {
    let is_udp = |line: &str| line.starts_with("a=candidate:") && line.contains(" udp ");
    let lines = sdp.lines().filter(|line| !is_udp(line));
    lines.map(|line| format!("{line}\r\n")).collect()
}

/// The first connection, or the next one of its session, whose answer has arrived.
fn connecting(resuming: bool, ours: bool, theirs: bool) -> Harness {
    let policy = Policy {
        reconnect: true,
        ..policy()
    };
    let mut harness = match resuming {
        true => Harness::resumed(policy),
        false => Harness::new(policy).until_preparing(),
    };
    if resuming {
        harness.handle(Input::TransportFailed(broken()));
        let described = descriptor("orphaned", "3.10.0");
        harness.handle(Input::SessionDescribed(Ok(described)));
        harness.handle(Input::IceServersFetched(Ok(ice_servers())));
    } else {
        harness.prepare();
    }
    if resuming {
        harness.handle(Input::OfferCreated(Ok(unreachable(&local_offer()))));
    }
    harness.handle(Input::OfferPosted(Ok(())));
    if ours {
        harness.handle(candidate(1));
    }
    harness.handle(match theirs {
        true => answer(ANSWER),
        false => answer(&unreachable(ANSWER)),
    });
    harness
}

/// What has no address yet may get one; that takes another connection.
#[test]
fn resumed_connection_without_candidates_is_given_up_soon() {
    let waits = |resuming, ours, theirs| {
        let harness = connecting(resuming, ours, theirs);
        let begin = harness.now;
        harness.machine.deadline().unwrap() - begin
    };
    assert_eq!(waits(true, false, false), NO_CANDIDATES_LIMIT);
    assert_eq!(waits(true, false, true), RECOVERY_STEP_LIMIT);
    assert_eq!(waits(false, false, false), CONNECT_LIMIT);
    let mut harness = connecting(true, true, false);
    harness.run(1100);
    assert!(matches!(harness.machine.phase, Phase::Connecting(_)));

    let mut harness = connecting(true, false, false);
    let labels = harness.run_labels(1100);
    assert!(labels.contains("close"), "{labels}");
    let labels = harness.run_labels(600);
    assert!(labels.contains("describe"), "{labels}");
}
