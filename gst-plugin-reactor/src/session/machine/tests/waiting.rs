// SPDX-License-Identifier: MIT

//! A session of the cloud that waits for its GPU.

use super::{
    state::{State, state_of},
    *,
};

fn cloud() -> Policy {
    Policy {
        queues: true,
        ..policy()
    }
}

/// The session as the cloud describes it before it has a GPU.
fn descriptor_without_tracks(state: &str) -> SessionDescriptor {
    SessionDescriptor {
        capabilities: None,
        selected_transport: None,
        ..descriptor(state, "1.0")
    }
}

fn described(state: &str) -> Input {
    Input::SessionDescribed(Ok(descriptor_without_tracks(state)))
}

fn ready_descriptor() -> Input {
    Input::SessionDescribed(Ok(descriptor("ACTIVE", "1.0")))
}

impl Harness {
    pub(super) fn queued(policy: Policy) -> Self {
        let mut harness = Self::opening(policy);
        harness.handle(Input::SessionOpened(Ok((
            descriptor_without_tracks("CREATED"),
            Ownership::Created,
        ))));
        harness.mark();
        harness
    }

    /// The time until the next poll.
    fn poll_after(&mut self) -> u64 {
        self.mark();
        assert_eq!(labels(&self.tick_at_deadline()), "describe");
        self.time()
    }
}

#[test]
fn session_without_gpu_is_polled() {
    let mut harness = Harness::opening(cloud());
    let out = harness.handle(Input::SessionOpened(Ok((
        descriptor_without_tracks("CREATED"),
        Ownership::Created,
    ))));
    assert_eq!(labels(&out), "id waiting described continue");
    assert_eq!(state_of(&harness.machine), State::Waiting);
    harness.mark();
    assert_eq!(harness.run_labels(199), "");
    assert_eq!(harness.run_labels(1), "200 describe");
    // One poll at a time.
    assert_eq!(harness.run_labels(60_000), "");
    // The state is reported when it changes.
    assert_eq!(harness.handle_labels(described("CREATED")), "");
    harness.poll_after();
    assert_eq!(
        harness.handle_labels(described("WAITING")),
        "waiting described continue"
    );
    harness.poll_after();
    let out = harness.handle_labels(ready_descriptor());
    assert_eq!(out, "described continue announce register ice");
    let timings = harness.machine.timings();
    assert!(timings.session < timings.described, "{timings:?}");
}

#[test]
fn polls_slow_down_and_never_end() {
    let mut harness = Harness::queued(cloud());
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pauses.push(harness.poll_after());
        harness.handle(described("WAITING"));
    }
    let expected = [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];
    assert_eq!(pauses, expected);
    for _ in 0..100_000 {
        harness.poll_after();
        harness.handle(described("WAITING"));
    }
    assert_eq!(state_of(&harness.machine), State::Waiting);
}

#[test]
fn waiting_fails_at_the_waiting_limit() {
    let mut harness = Harness::queued(Policy {
        waiting_limit: Some(ms(5000)),
        ..cloud()
    });
    let mut out = Vec::new();
    for _ in 0..20 {
        out = harness.tick_at_deadline();
        if labels(&out) != "describe" {
            break;
        }
        harness.handle(described("WAITING"));
    }
    assert_eq!(harness.time(), 5000);
    assert_eq!(failure(&out).code, Code::WaitedTooLong);
    assert_eq!(labels(&out), "error failed end disconnected");
}

#[test]
fn occasional_poll_errors_are_retried() {
    let mut harness = Harness::queued(cloud());
    for error in [busy(429, Some(7000)), busy(500, None), network()] {
        harness.poll_after();
        let after = error.retry_after;
        assert_eq!(
            harness.handle_labels(Input::SessionDescribed(Err(error))),
            ""
        );
        let pause = harness.poll_after();
        assert!(after.is_none_or(|after| ms(pause) == after), "{pause}");
        harness.handle(described("WAITING"));
    }
    // But not for ever.
    let begun = harness.now;
    let failed = loop {
        harness.tick_at_deadline();
        let out = harness.handle(Input::SessionDescribed(Err(busy(500, None))));
        if !out.is_empty() {
            break out;
        }
    };
    assert!((ms(60_000)..ms(80_000)).contains(&(harness.now - begun)));
    assert_eq!(failure(&failed).http_status, Some(500));
}

#[test]
fn permanent_poll_errors_fail() {
    for (status, code) in [
        (401, Code::Unauthorized),
        (403, Code::Unauthorized),
        (404, Code::NotFound),
        (426, Code::VersionMismatch),
    ] {
        let mut harness = Harness::queued(cloud());
        harness.poll_after();
        let out = harness.handle(Input::SessionDescribed(Err(busy(status, None))));
        assert_eq!(failure(&out).code, code);
    }
}

#[test]
fn session_ended_while_waiting_fails() {
    for state in ["CLOSED", "INACTIVE"] {
        let mut harness = Harness::queued(cloud());
        harness.poll_after();
        let out = harness.handle(described(state));
        assert_eq!(failure(&out).code, Code::SessionTerminal);
        // The session needs no request to end it.
        assert_eq!(labels(&out), "error failed disconnected no-id closed");
    }
}

#[test]
fn stop_while_waiting_ends_the_session() {
    let mut harness = Harness::queued(cloud());
    assert_eq!(
        harness.handle_labels(Input::Stop),
        "canceled end disconnected"
    );
    let mut harness = Harness::queued(cloud());
    harness.poll_after();
    assert_eq!(
        harness.handle_labels(Input::Stop),
        "canceled end disconnected"
    );
    // The reply comes too late.
    assert_eq!(harness.handle_labels(ready_descriptor()), "");
    assert_eq!(
        harness.handle_labels(Input::SessionEnded(Ok(()))),
        "no-id closed"
    );
}

#[test]
fn server_error_on_open_is_retried_three_times() {
    let mut harness = Harness::opening(cloud());
    for _ in 0..3 {
        assert!(
            harness
                .handle_labels(Input::SessionOpened(Err(busy(500, None))))
                .contains("continue")
        );
        assert_eq!(labels(&harness.tick_at_deadline()), "begin");
    }
    let out = harness.handle(Input::SessionOpened(Err(busy(500, None))));
    assert_eq!(failure(&out).http_status, Some(500));
    // A lost reply may have been a session, which must not be opened twice.
    let mut harness = Harness::opening(cloud());
    let out = harness.handle(Input::SessionOpened(Err(network())));
    assert_eq!(failure(&out).code, Code::NetworkError);
}

#[test]
fn other_inputs_while_waiting_are_ignored() {
    let mut harness = Harness::queued(cloud());
    for input in [
        Input::TransportFailed(broken()),
        Input::PeerConnected,
        request(1, command("go")),
        set_paused("main_audio", false),
        Input::SessionDescribed(Err(network())),
    ] {
        assert_eq!(harness.handle_labels(input), "");
    }
    let park = Input::Disconnect {
        token: 9,
        recoverable: true,
    };
    // There is nothing yet to come back to.
    assert_eq!(refusals(&harness.handle(park)), [(9, Code::InvalidState)]);
    let reconnect = Input::Reconnect { token: 8 };
    assert_eq!(
        refusals(&harness.handle(reconnect)),
        [(8, Code::InvalidState)]
    );
    let end = Input::Disconnect {
        token: 9,
        recoverable: false,
    };
    assert_eq!(harness.handle_labels(end), "ended reply end disconnected");
}
