// SPDX-License-Identifier: MIT

//! A session of the cloud that waits for its GPU.

use super::{
    state::{State, observe},
    *,
};

fn cloud() -> Policy {
    Policy {
        queues: true,
        ..policy()
    }
}

/// The session as the cloud knows it before a GPU has taken it.
fn slim(state: &str) -> SessionDescriptor {
    SessionDescriptor {
        capabilities: None,
        selected_transport: None,
        ..descriptor(state, "1.0")
    }
}

fn described(state: &str) -> Input {
    Input::SessionDescribed(Ok(slim(state)))
}

fn ready() -> Input {
    Input::SessionDescribed(Ok(descriptor("ACTIVE", "1.0")))
}

impl Rig {
    pub(super) fn queued(policy: Policy) -> Self {
        let mut rig = Self::asked(policy);
        rig.give(Input::SessionOpened(Ok((
            slim("CREATED"),
            Ownership::Created,
        ))));
        rig.mark();
        rig
    }

    /// How long until it asks again.
    fn polls(&mut self) -> u64 {
        self.mark();
        assert_eq!(labels(&self.tick_at_deadline()), "describe");
        self.time()
    }
}

#[test]
fn a_session_without_a_gpu_waits_for_one() {
    let mut rig = Rig::asked(cloud());
    let out = rig.give(Input::SessionOpened(Ok((
        slim("CREATED"),
        Ownership::Created,
    ))));
    assert_eq!(labels(&out), "id waiting continue");
    assert_eq!(observe(&rig.machine), State::Waiting);
    rig.mark();
    assert_eq!(rig.passes(199), "");
    assert_eq!(rig.passes(1), "200 describe");
    // Asked once at a time.
    assert_eq!(rig.passes(60_000), "");
    // What it is called is said when it changes.
    assert_eq!(rig.told(described("CREATED")), "");
    rig.polls();
    assert_eq!(rig.told(described("WAITING")), "waiting continue");
    rig.polls();
    let out = rig.told(ready());
    assert_eq!(out, "described continue announce register ice");
    let timings = rig.machine.timings();
    assert!(timings.session < timings.described, "{timings:?}");
}

#[test]
fn it_asks_less_and_less_often_and_for_ever() {
    let mut rig = Rig::queued(cloud());
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pauses.push(rig.polls());
        rig.give(described("WAITING"));
    }
    let expected = [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];
    assert_eq!(pauses, expected);
    for _ in 0..100_000 {
        rig.polls();
        rig.give(described("WAITING"));
    }
    assert_eq!(observe(&rig.machine), State::Waiting);
}

#[test]
fn it_gives_up_when_the_user_wants_that() {
    let mut rig = Rig::queued(Policy {
        waiting_limit: Some(ms(5000)),
        ..cloud()
    });
    let mut out = Vec::new();
    for _ in 0..20 {
        out = rig.tick_at_deadline();
        if labels(&out) != "describe" {
            break;
        }
        rig.give(described("WAITING"));
    }
    assert_eq!(rig.time(), 5000);
    assert_eq!(failure(&out).code, Code::WaitedTooLong);
    assert_eq!(labels(&out), "error failed end disconnected");
}

#[test]
fn an_error_now_and_then_does_not_cost_the_place() {
    let mut rig = Rig::queued(cloud());
    for error in [busy(429, Some(7000)), busy(500, None), network()] {
        rig.polls();
        let after = error.retry_after;
        assert_eq!(rig.told(Input::SessionDescribed(Err(error))), "");
        let pause = rig.polls();
        assert!(after.is_none_or(|after| ms(pause) == after), "{pause}");
        rig.give(described("WAITING"));
    }
    // But there is an end to it.
    let begun = rig.now;
    let failed = loop {
        rig.tick_at_deadline();
        let out = rig.give(Input::SessionDescribed(Err(busy(500, None))));
        if !out.is_empty() {
            break out;
        }
    };
    assert!((ms(60_000)..ms(80_000)).contains(&(rig.now - begun)));
    assert_eq!(failure(&failed).http_status, Some(500));
}

#[test]
fn what_is_no_accident_ends_the_wait() {
    for (status, code) in [
        (401, Code::Unauthorized),
        (403, Code::Unauthorized),
        (404, Code::NotFound),
        (426, Code::VersionMismatch),
    ] {
        let mut rig = Rig::queued(cloud());
        rig.polls();
        let out = rig.give(Input::SessionDescribed(Err(busy(status, None))));
        assert_eq!(failure(&out).code, code);
    }
}

#[test]
fn a_session_that_ends_before_it_began_is_an_error() {
    for state in ["CLOSED", "INACTIVE"] {
        let mut rig = Rig::queued(cloud());
        rig.polls();
        let out = rig.give(described(state));
        assert_eq!(failure(&out).code, Code::SessionTerminal);
        // There is nothing left to end.
        assert_eq!(labels(&out), "error failed disconnected no-id closed");
    }
}

#[test]
fn whoever_stops_gives_the_place_up() {
    let mut rig = Rig::queued(cloud());
    assert_eq!(rig.told(Input::Stop), "canceled end disconnected");
    let mut rig = Rig::queued(cloud());
    rig.polls();
    assert_eq!(rig.told(Input::Stop), "canceled end disconnected");
    // The answer comes too late.
    assert_eq!(rig.told(ready()), "");
    assert_eq!(rig.told(Input::SessionEnded(Ok(()))), "no-id closed");
}

#[test]
fn a_server_that_fails_to_create_is_asked_again_a_few_times() {
    let mut rig = Rig::asked(cloud());
    for _ in 0..3 {
        assert!(
            rig.told(Input::SessionOpened(Err(busy(500, None))))
                .contains("continue")
        );
        assert_eq!(labels(&rig.tick_at_deadline()), "begin");
    }
    let out = rig.give(Input::SessionOpened(Err(busy(500, None))));
    assert_eq!(failure(&out).http_status, Some(500));
    // An answer that is lost may have been a session: one is enough.
    let mut rig = Rig::asked(cloud());
    let out = rig.give(Input::SessionOpened(Err(network())));
    assert_eq!(failure(&out).code, Code::NetworkError);
}

#[test]
fn nothing_else_happens_meanwhile() {
    let mut rig = Rig::queued(cloud());
    for input in [
        Input::Reconnect,
        Input::TransportFailed(broken()),
        Input::PeerConnected,
        request(1, command("go")),
        set_paused("main_audio", false),
        Input::SessionDescribed(Err(network())),
    ] {
        assert_eq!(rig.told(input), "");
    }
    let park = Input::Disconnect { recoverable: true };
    assert_eq!(rig.told(park), "warning");
    let end = Input::Disconnect { recoverable: false };
    assert_eq!(rig.told(end), "ended reply end disconnected");
}
