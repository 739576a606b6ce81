// SPDX-License-Identifier: MIT

//! A lost connection that is replaced by a new one.

use super::{
    state::{State, state_of},
    *,
};

fn resuming() -> Policy {
    Policy {
        reconnect: true,
        ice_servers: false,
        ..policy()
    }
}

fn restarting() -> Policy {
    Policy {
        restart: true,
        ..resuming()
    }
}

/// The connection is lost and the server is asked for the session's state.
fn lost(policy: Policy) -> Harness {
    let mut harness = Harness::resumed(policy);
    harness.handle(set_paused("main_audio", false));
    assert_eq!(
        harness.handle_labels(Input::TransportFailed(broken())),
        "describe"
    );
    harness.mark();
    harness
}

fn session_is_running() -> Input {
    Input::SessionDescribed(Ok(descriptor("orphaned", "3.10.0")))
}

impl Harness {
    /// From the offer to a session that is ready.
    fn resume_session(&mut self) -> Vec<Action> {
        self.handle(Input::OfferCreated(Ok(local_offer())));
        self.poll_answer(ANSWER);
        self.connect()
    }
}

#[test]
fn running_session_is_resumed() {
    let mut harness = lost(resuming());
    let first = harness.machine.timings();
    harness.now += ms(100);
    let out = harness.handle(session_is_running());
    assert_eq!(
        labels(&out),
        "close interrupted connecting start described build"
    );
    let cause = Error {
        failure: Some(Failure::GpuConnection),
        ..broken()
    };
    assert!(out.contains(&Action::Emit(MachineEvent::Interrupted(Some(cause)))));
    let out = harness.handle(Input::OfferCreated(Ok(local_offer())));
    // With the connection's id, as another offer on it.
    assert!(
        matches!(
            &out[..],
            [Action::PostOffer {
                connection_id: CONNECTION,
                resume: true,
                ..
            }]
        ),
        "{out:?}"
    );
    harness.poll_answer(ANSWER);
    harness.now += ms(400);
    let out = harness.connect();
    assert_eq!(labels(&out), "send send send ready resumed complete");
    // The schema is known. The tracks that were resumed before are resumed again.
    let resumed = ["main_video", "main_audio"].map(|track| harness.resume(track));
    assert_eq!(out[1..3], resumed);
    let timings = harness.machine.timings();
    assert!(timings.outage >= Some(ms(500)), "{timings:?}");
    // The steps are still those of the first connection.
    let expected = Timings {
        reconnects: 1,
        outage: timings.outage,
        ..first
    };
    assert_eq!(timings, expected);
}

#[test]
fn unreachable_server_is_queried_until_the_window_ends() {
    let mut harness = lost(resuming());
    let out = harness.run(29_999);
    let first = labels(&actions(out[..5].to_vec()));
    assert_eq!(first, "close interrupted connecting start describe");
    assert_eq!(out[0].0, 1000);
    let asked: Vec<_> = out
        .iter()
        .filter(|(_, a)| *a == Action::DescribeSession)
        .collect();
    assert!((28..60).contains(&asked.len()), "{} times", asked.len());
    // Never two requests at once, and at short intervals.
    let apart = asked.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(apart.clone().min() >= Some(100), "{:?}", apart.min());
    assert!(apart.clone().max() <= Some(1250), "{:?}", apart.max());
    let out = harness.run_labels(1);
    assert_eq!(out, "30000 error failed end disconnected");
}

#[test]
fn recovery_window_is_thirty_seconds() {
    let mut harness = lost(resuming());
    let error = failure(&actions(harness.run(31_000)));
    assert_eq!(error.code, Code::ReconnectionFailed);
    let text = error.message;
    assert!(text.contains("30 s") && text.contains("SCTP"), "{text}");
}

#[test]
fn backoff_differs_by_seed() {
    let times = |seed| {
        let out = lost(Policy { seed, ..resuming() }).run(10_000);
        out.into_iter().map(|(at, _)| at).collect::<Vec<_>>()
    };
    assert_ne!(times(1), times(3));
    assert_eq!(times(1), times(1));
}

#[test]
fn late_session_description_resumes() {
    let mut harness = lost(resuming());
    harness.run(12_345);
    assert_eq!(
        harness.handle_labels(session_is_running()),
        "described build"
    );
}

#[test]
fn retry_after_of_session_query_is_respected() {
    let mut harness = lost(resuming());
    let out = harness.handle_labels(Input::SessionDescribed(Err(busy(503, Some(4000)))));
    assert_eq!(out, "close interrupted connecting start");
    assert_eq!(harness.run_labels(3999), "");
    assert_eq!(harness.run_labels(1), "4000 describe");
    // Without `Retry-After`: the platform's 3 s.
    harness.handle(Input::SessionDescribed(Err(busy(500, None))));
    harness.mark();
    assert_eq!(harness.run_labels(2999), "");
    assert_eq!(harness.run_labels(1), "3000 describe");
}

#[test]
fn ended_session_is_not_resumed() {
    let mut harness = lost(resuming());
    let out = harness.handle_labels(Input::SessionDescribed(Ok(descriptor("closing", "3.10.0"))));
    assert_eq!(out, "ended close disconnected");
}

#[test]
fn session_ended_during_outage_fails() {
    for result in [
        Ok(descriptor("ready", "3.10.0")),
        Ok(descriptor("CLOSED", "")),
        Err(Error::api(Code::NotFound, "no such session").with_status(404)),
    ] {
        let mut harness = lost(resuming());
        harness.run(5000);
        let out = harness.handle(Input::SessionDescribed(result));
        // The session needs no request to end it.
        assert_eq!(labels(&out), "error failed disconnected no-id closed");
        assert_eq!(failure(&out).code, Code::ReconnectionFailed);
    }
}

#[test]
fn errors_that_are_not_retryable_fail() {
    let denied = Error::api(Code::Unauthorized, "expired").with_status(401);
    let mut harness = lost(restarting());
    let out = harness.handle(Input::SessionDescribed(Err(denied)));
    assert_eq!(failure(&out).http_status, Some(401));

    let mut harness = lost(restarting());
    harness.handle(session_is_running());
    harness.handle(Input::OfferCreated(Ok(local_offer())));
    harness.poll_answer(ANSWER);
    harness.handle(Input::PeerConnected);
    let impostor = Error::gpu(Code::IdentityMismatch, "another certificate");
    let out = harness.handle(Input::PeerVerified(Err(impostor)));
    assert_eq!(failure(&out).code, Code::IdentityMismatch);
}

#[test]
fn failed_step_is_retried() {
    let steps: [fn(&mut Harness) -> String; 5] = [
        |harness| harness.handle_labels(Input::OfferCreated(Err(broken()))),
        |harness| {
            harness.handle(Input::OfferCreated(Ok(local_offer())));
            harness.handle_labels(Input::OfferPosted(Err(network())))
        },
        |harness| {
            harness.handle(Input::OfferCreated(Ok(local_offer())));
            harness.handle(Input::OfferPosted(Ok(())));
            harness.tick_at_deadline();
            harness.handle_labels(Input::AnswerPolled(Err(network())))
        },
        |harness| {
            harness.handle(Input::OfferCreated(Ok(local_offer())));
            harness.poll_answer(ANSWER);
            harness.handle_labels(Input::TransportFailed(broken()))
        },
        |harness| {
            harness.handle(Input::OfferCreated(Ok(local_offer())));
            harness.poll_answer(ANSWER);
            // ICE fails: the limit is shorter than on the first connection.
            labels(&actions(harness.run(5000)))
        },
    ];
    for (n, step) in steps.into_iter().enumerate() {
        let mut harness = lost(resuming());
        harness.handle(session_is_running());
        let out = step(&mut harness);
        assert!(out.starts_with("continue close"), "{n}: {out}");
        let out = labels(&actions(harness.run(2000)));
        assert!(out.starts_with("describe") || n == 4, "{n}: {out}");
        assert_eq!(
            harness.handle_labels(session_is_running()),
            "described build",
            "{n}"
        );
        assert!(labels(&harness.resume_session()).contains("resumed"), "{n}");
    }
}

#[test]
fn unknown_connection_is_registered_again() {
    let mut harness = lost(resuming());
    harness.handle(session_is_running());
    harness.handle(Input::OfferCreated(Ok(local_offer())));
    let gone = Error::api(Code::NotFound, "no such connection").with_status(404);
    assert_eq!(
        harness.handle_labels(Input::OfferPosted(Err(gone))),
        "continue close"
    );
    harness.run(3000);
    assert_eq!(
        harness.handle_labels(session_is_running()),
        "described register build"
    );
    harness.handle(Input::ConnectionRegistered(Ok(5030)));
    let out = harness.handle(Input::OfferCreated(Ok(local_offer())));
    assert!(
        matches!(
            &out[..],
            [Action::PostOffer {
                connection_id: 5030,
                resume: false,
                ..
            }]
        ),
        "{out:?}"
    );
}

#[test]
fn requests_during_outage_are_sent_on_the_next_connection() {
    let mut harness = Harness::resumed(resuming());
    harness.handle(request(1, command("before")));
    harness.handle(Input::TransportFailed(broken()));
    assert_eq!(harness.handle_labels(request(2, command("meanwhile"))), "");
    let out = harness.handle(session_is_running());
    // It is unknown whether the server acted on it.
    assert_eq!(refusals(&out), [(1, Code::Disconnected)]);
    assert_eq!(harness.handle_labels(request(3, command("later"))), "");
    let out = harness.resume_session();
    assert_eq!(labels(&out), "send send send send ready resumed complete");
    assert_eq!(replies(&out), []);
}

#[test]
fn repeated_losses_are_retried_with_backoff() {
    let mut harness = lost(resuming());
    let mut waits = Vec::new();
    for _ in 0..6 {
        harness.handle(session_is_running());
        harness.resume_session();
        harness.mark();
        let out = harness.handle_labels(Input::TransportFailed(broken()));
        let wait = match out.as_str() {
            "describe" => 0,
            _ => harness.run(2000).first().unwrap().0,
        };
        waits.push(wait);
    }
    assert!(waits.iter().all(|wait| *wait >= 150), "{waits:?}");
    // A connection that lasted resets the backoff.
    harness.handle(session_is_running());
    harness.resume_session();
    harness.run(100);
    harness.receive_control(server::schema("ctrl_9"));
    for _ in 0..11 {
        harness.now += ms(1000);
        harness.handle(media("main_video", harness.now));
        harness.handle(Input::Tick);
    }
    assert_eq!(
        harness.handle_labels(Input::TransportFailed(broken())),
        "describe"
    );
}

#[test]
fn stop_during_recovery_ends_the_session() {
    let mut harness = lost(resuming());
    harness.run(5000);
    assert_eq!(
        harness.handle_labels(Input::Stop),
        "canceled end disconnected"
    );
    let mut harness = lost(resuming());
    harness.handle(session_is_running());
    assert_eq!(
        harness.handle_labels(Input::Stop),
        "canceled end close disconnected"
    );
    assert_eq!(harness.handle_labels(Input::TransportClosed), "");
    assert_eq!(
        harness.handle_labels(Input::SessionEnded(Ok(()))),
        "no-id closed"
    );
}

#[test]
fn lost_session_is_replaced_with_restart_session() {
    let mut harness = lost(restarting());
    let out = harness.run(30_000);
    let out = labels(&actions(out));
    assert!(out.ends_with("warning no-id continue begin"), "{out}");
    assert_eq!(state_of(&harness.machine), State::Asking);
    let other = SessionDescriptor {
        session_id: "s-2".into(),
        ..descriptor("waiting", "3.10.0")
    };
    let out = harness.handle_labels(Input::SessionOpened(Ok((other, Ownership::Created))));
    // The elements have planned already.
    assert_eq!(out, "id waiting described continue register build");
    harness.handle(Input::ConnectionRegistered(Ok(5031)));
    let out = harness.resume_session();
    let resumed = out.iter().find_map(|action| match action {
        Action::Emit(MachineEvent::Resumed { restarted, .. }) => Some(*restarted),
        _ => None,
    });
    assert_eq!(resumed, Some(true));
    assert_eq!(harness.machine.session_id(), Some("s-2"));
    assert_eq!(harness.handle_labels(Input::Stop), "end close disconnected");
}

#[test]
fn restart_is_retried_while_the_network_is_down() {
    let mut harness = lost(restarting());
    harness.run(30_000);
    let mut asked = 0;
    let end = harness.now + ms(30_000);
    while harness.now < end {
        assert_eq!(
            harness.handle_labels(Input::SessionOpened(Err(network()))),
            "continue"
        );
        let out = harness.run(1250);
        assert_eq!(labels(&actions(out)), "begin");
        asked += 1;
    }
    assert!(asked > 20, "{asked}");
    // For as long as resuming was tried, and no longer.
    let out = harness.handle(Input::SessionOpened(Err(network())));
    assert_eq!(labels(&out), "error failed disconnected no-id closed");
    assert_eq!(failure(&out).code, Code::NetworkError);
}

#[test]
fn connections_are_counted() {
    let mut harness = lost(resuming());
    let first = harness.machine.connections();
    harness.run(5000);
    assert_eq!(harness.machine.connections(), first);
    harness.handle(session_is_running());
    assert_eq!(harness.machine.connections(), first + 1);
    harness.handle(Input::OfferCreated(Ok(local_offer())));
    // The server is slow: its reply to this offer comes too late.
    harness.run(7000);
    assert_eq!(harness.machine.connections(), first + 1);
    harness.handle(session_is_running());
    assert_eq!(harness.machine.connections(), first + 2);
    assert!(labels(&harness.resume_session()).contains("resumed"));
    assert_eq!(harness.machine.connections(), first + 2);
}

#[test]
fn restarted_session_with_the_same_id_stays_ours() {
    let mut harness = lost(restarting());
    harness.run(30_000);
    let same = descriptor("orphaned", "3.10.0");
    harness.handle(Input::SessionOpened(Ok((same, Ownership::Joined))));
    // It is ours to end nevertheless.
    assert_eq!(
        harness.handle_labels(Input::Stop),
        "canceled end close disconnected"
    );
}

#[test]
fn adopted_session_is_not_replaced() {
    let policy = Policy {
        adopt: Some(ID.into()),
        ..restarting()
    };
    let mut harness = Harness::new(policy)
        .ownership(Ownership::Joined)
        .until_resumed();
    harness.handle(Input::TransportFailed(broken()));
    let out = labels(&actions(harness.run(30_000)));
    assert!(
        out.ends_with("error failed disconnected no-id closed"),
        "{out}"
    );
}

#[test]
fn restarted_session_with_other_tracks_fails() {
    let mut harness = lost(restarting());
    harness.run(30_000);
    let mut other = descriptor("waiting", "3.10.0");
    if let Some(capabilities) = &mut other.capabilities {
        capabilities.tracks.clear();
    }
    let out = harness.handle(Input::SessionOpened(Ok((other, Ownership::Created))));
    assert_eq!(failure(&out).code, Code::TrackRejected);
    assert!(labels(&out).contains("end"));
}

#[test]
fn disconnect_recoverable_then_reconnect_resumes() {
    let mut harness = Harness::resumed(resuming());
    let out = harness.handle_labels(Input::Disconnect {
        token: 9,
        recoverable: true,
    });
    assert_eq!(out, "close interrupted disconnected reply");
    assert_eq!(harness.run_labels(29_000), "");
    assert_eq!(harness.handle_labels(request(1, command("go"))), "reply");
    assert_eq!(
        harness.handle_labels(Input::Reconnect { token: 8 }),
        "describe connecting start"
    );
    assert_eq!(harness.handle_labels(request(2, command("go"))), "");
    assert_eq!(
        harness.handle_labels(session_is_running()),
        "described build"
    );
    assert_eq!(
        labels(&harness.resume_session()),
        "send send send ready resumed reply complete"
    );
    // The server has dropped it in the meantime: that is no regular end.
    harness.handle(Input::Disconnect {
        token: 9,
        recoverable: true,
    });
    harness.handle(Input::Reconnect { token: 8 });
    let out = harness.handle(Input::SessionDescribed(Ok(descriptor("ready", "3.10.0"))));
    assert_eq!(failure(&out).code, Code::ReconnectionFailed);
}

#[test]
fn reconnect_action_works_without_the_property() {
    let mut harness = Harness::resumed(Policy {
        reconnect: false,
        ..resuming()
    });
    assert_eq!(
        harness.handle_labels(Input::Reconnect { token: 8 }),
        "describe"
    );
    assert_eq!(
        harness.handle_labels(session_is_running()),
        "close interrupted connecting start described build"
    );
    assert!(labels(&harness.resume_session()).contains("resumed"));
}
