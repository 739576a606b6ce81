// SPDX-License-Identifier: MIT

//! The watchdog, and a session whose connection is lost.

use super::{
    state::{State, state_of},
    *,
};

fn stalling(limit: Option<u64>) -> Policy {
    Policy {
        stall_limit: limit.map(ms),
        ..policy()
    }
}

/// The connection is lost and the server is asked for the session's state.
fn querying(restart: bool) -> Harness {
    let mut harness = Harness::resumed(Policy {
        restart,
        ..policy()
    });
    assert_eq!(
        harness.handle(Input::TransportFailed(broken())),
        [Action::DescribeSession]
    );
    harness.mark();
    harness
}

fn described(harness: &mut Harness, result: Result<SessionDescriptor, Error>) -> Vec<Action> {
    harness.handle(Input::SessionDescribed(result))
}

#[test]
fn silent_server_is_probed_then_lost() {
    let mut harness = Harness::resumed(stalling(Some(5000)));
    let ask = harness.v1(&ClientMessage::RequestSchema, "ctrl_2");
    let ping = harness.v1(&ClientMessage::Ping, "");
    let out = harness.run(5000);
    assert_eq!(
        out,
        [(2600, ask), (5000, ping), (5100, Action::DescribeSession)]
    );
    let out = actions(harness.run(QUERY_LIMIT.as_millis().try_into().unwrap()));
    let error = failure(&out);
    let text = "nothing was received for 5000 ms (stall-timeout)";
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::Disconnected, text)
    );
    assert_eq!(labels(&out), "close error lost disconnected");
}

#[test]
fn answered_probe_restarts_the_watchdog() {
    let mut harness = Harness::resumed(stalling(Some(3000)));
    for n in 2..6 {
        harness.mark();
        assert_eq!(harness.run_labels(1499), "", "probe {n}");
        let ask = harness.v1(&ClientMessage::RequestSchema, &format!("ctrl_{n}"));
        let out = harness.run(1);
        assert!(out.contains(&(1500, ask)), "{out:?}");
        harness.handle(Input::Tick);
        harness.receive_control(server::schema(&format!("ctrl_{n}")));
        harness.machine_pings();
    }
    // The next probe is not answered.
    harness.mark();
    assert_eq!(harness.run_labels(3000), "1500 send, 3000 describe");
}

impl Harness {
    /// Delays the ping, so that only the watchdog sends.
    fn machine_pings(&mut self) {
        let Phase::Ready(live) = &mut self.machine.phase else {
            panic!("{:?}", self.machine.phase);
        };
        live.next_ping = self.now + ms(60_000);
    }
}

#[test]
fn received_media_restarts_the_watchdog() {
    let mut harness = Harness::resumed(stalling(Some(3000)));
    for _ in 0..100 {
        harness.now += ms(1400);
        harness.machine_pings();
        harness.handle(media("main_video", harness.now));
        assert_eq!(harness.handle_labels(Input::Tick), "");
    }
    // Media arrives between ticks: its arrival time counts.
    harness.now += ms(1000);
    harness.handle(media("main_video", harness.now - ms(400)));
    harness.mark();
    assert_eq!(harness.run_labels(2600), "1100 send, 2600 describe");
}

#[test]
fn older_reception_time_is_ignored() {
    let mut harness = Harness::resumed(stalling(Some(3000)));
    let first = harness.now;
    harness.machine_pings();
    assert_eq!(harness.run_labels(1500), "1600 send");
    harness.handle(media("main_video", first));
    harness.handle(media("main_video", first - ms(50)));
    assert_eq!(harness.run_labels(1500), "3100 describe");
}

#[test]
fn invalid_frame_restarts_the_watchdog() {
    let mut harness = Harness::resumed(stalling(Some(3000)));
    harness.machine_pings();
    harness.run(2900);
    harness.receive_control(server::garbage());
    harness.mark();
    assert_eq!(harness.run_labels(3000), "1500 send, 3000 describe");
}

#[test]
fn without_stall_limit_silence_is_no_loss() {
    let mut harness = Harness::resumed(stalling(None));
    let out = harness.run(100_000);
    let ping = harness.v1(&ClientMessage::Ping, "");
    assert_eq!(out.len(), 20);
    assert!(out.iter().all(|(_, action)| *action == ping), "{out:?}");
}

#[test]
fn lost_connection_of_ended_session_ends() {
    let gone = Error::api(Code::NotFound, "no such session").with_status(404);
    let terminal = Error::api(Code::SessionTerminal, "over");
    let over = ["ready", "closing"].map(|state| Ok(descriptor(state, "3.10.0")));
    for result in over.into_iter().chain([Err(gone), Err(terminal)]) {
        let mut harness = querying(false);
        let out = described(&mut harness, result);
        let expected = [
            Action::Emit(MachineEvent::Ended {
                reason: None,
                requested: false,
            }),
            Action::CloseTransport,
            Action::Emit(MachineEvent::Status(Status::Disconnected)),
        ];
        assert_eq!(out, expected);
    }
}

#[test]
fn lost_connection_of_running_session_fails() {
    for state in ["waiting", "streaming", "orphaned"] {
        let out = described(&mut querying(false), Ok(descriptor(state, "3.10.0")));
        let mut error = broken();
        error.message = "the SCTP association is gone; the session itself is still there".into();
        assert_eq!(failure(&out), error);
        assert_eq!(labels(&out), "close error lost disconnected");
        let class = classed_failure(&out).failure;
        assert_eq!(class, Some(Failure::GpuConnection));
    }
}

#[test]
fn crashed_runtime_fails() {
    let out = described(&mut querying(false), Ok(descriptor("terminated", "3.10.0")));
    let error = failure(&out);
    assert_eq!(error.code, Code::SessionTerminal);
    assert!(!error.recoverable());
    assert!(error.message.contains("terminated"), "{error}");
    // There is nothing left that could be ended.
    assert_eq!(labels(&out), "error failed close disconnected");
}

#[test]
fn unreachable_server_fails() {
    let out = described(&mut querying(false), Err(busy(503, None)));
    let error = failure(&out);
    assert_eq!(error.code, Code::TransportError);
    assert_eq!(error.message, "the SCTP association is gone; answered 503");
    assert_eq!(error.http_status, Some(503));
}

#[test]
fn silent_session_query_fails() {
    let mut harness = querying(false);
    assert_eq!(harness.run_labels(999), "");
    let out = harness.run(1);
    assert_eq!(out[0].0, 1000);
    assert_eq!(failure(&actions(out)), broken());
    // A late reply still says that it is over.
    let over = described(&mut harness, Ok(descriptor("closing", "3.10.0")));
    assert_eq!(labels(&over), "ended disconnected no-id closed");
}

#[test]
fn second_loss_is_ignored() {
    let mut harness = querying(false);
    assert_eq!(harness.handle_labels(Input::TransportFailed(network())), "");
    assert_eq!(harness.receive_control(server::session_ended("bye")), []);
    assert_eq!(harness.handle_labels(set_paused("main_audio", false)), "");
    assert_eq!(harness.handle_labels(Input::Stop), "end close disconnected");
}

#[test]
fn requests_while_lost_fail() {
    let mut harness = Harness::resumed(policy());
    harness.handle(request(1, command("go")));
    harness.handle(Input::TransportFailed(broken()));
    let out = harness.handle(request(2, command("go")));
    assert_eq!(refusals(&out), [(2, Code::Disconnected)]);
    let out = described(&mut harness, Ok(descriptor("streaming", "3.10.0")));
    let text = "the SCTP association is gone; the session itself is still there";
    let replies = replies(&out);
    assert_eq!(replies.len(), 1);
    assert_eq!(replies[0].0, 1);
    assert_eq!(replies[0].1.as_ref().unwrap_err().message, text);
}

#[test]
fn session_lost_during_the_v1_probe_has_no_probe_deadline() {
    let mut harness = Harness::new(policy()).without_chunking().until_ready();
    harness.run(1900);
    harness.handle(Input::TransportFailed(broken()));
    // The deadline of the v1 probe was within this second.
    assert_eq!(harness.run_labels(999), "");
    assert_eq!(state_of(&harness.machine), State::QueryingSession);
    assert_eq!(harness.run_labels(1), "2900 close error lost disconnected");
}

/// Lost, and kept for the user.
/// `restart-session` is for sessions that cannot be resumed.
fn kept(restart: bool) -> Harness {
    let mut harness = querying(restart);
    let out = described(&mut harness, Ok(descriptor("orphaned", "3.10.0")));
    assert_eq!(labels(&out), "close error lost disconnected");
    harness.handle(Input::TransportClosed);
    harness.mark();
    harness
}

#[test]
fn lost_session_is_kept_for_reconnect() {
    let mut harness = kept(true);
    assert_eq!(harness.machine.session_id(), Some(ID));
    assert_eq!(
        refusals(&harness.handle(request(1, command("go")))),
        [(1, Code::Disconnected)]
    );
    // The platform's handlers wait for `retry-after` first.
    assert_eq!(harness.run_labels(3000), "");
    assert_eq!(
        harness.handle_labels(Input::Reconnect { token: 5 }),
        "describe connecting start"
    );
    let out = described(&mut harness, Ok(descriptor("orphaned", "3.10.0")));
    assert_eq!(labels(&out), "described ice");
    harness.handle(Input::IceServersFetched(Ok(ice_servers())));
    harness.handle(Input::OfferCreated(Ok(local_offer())));
    harness.poll_answer(ANSWER);
    let out = harness.connect();
    assert_eq!(labels(&out), "send send ready resumed reply complete");
    let resumed = out.iter().find_map(|action| match action {
        Action::Emit(MachineEvent::Resumed { outage, .. }) => Some(*outage),
        _ => None,
    });
    assert!(resumed >= Some(ms(3000)), "since the loss: {resumed:?}");
    assert!(
        replies(&out)
            .iter()
            .all(|(token, reply)| *token == 5 && reply.is_ok())
    );
}

#[test]
fn kept_session_lasts_as_long_as_on_the_server() {
    let mut harness = kept(false);
    assert_eq!(
        harness.run_labels(41_000),
        "30000 describe, 35000 describe, 40000 describe"
    );
    // A local runtime keeps it for longer than the platform.
    assert!(described(&mut harness, Ok(descriptor("orphaned", "3.10.0"))).is_empty());
    assert!(described(&mut harness, Err(network())).is_empty());
    let out = described(&mut harness, Ok(descriptor("ready", "3.10.0")));
    assert_eq!(labels(&out), "ended disconnected no-id closed");
    let out = harness.handle(Input::Reconnect { token: 5 });
    assert_eq!(refusals(&out), [(5, Code::InvalidState)]);
    // A server that is never reached has ended it, too.
    let mut harness = kept(false);
    harness.run(60_000);
    let out = described(&mut harness, Err(network()));
    assert_eq!(labels(&out), "ended disconnected no-id closed");
}

#[test]
fn stopped_session_without_connection_is_ended() {
    assert_eq!(kept(false).handle_labels(Input::Stop), "end disconnected");
}

#[test]
fn reconnect_while_lost_session_is_queried_resumes_it() {
    let mut harness = querying(false);
    assert_eq!(
        harness.handle_labels(Input::Reconnect { token: 5 }),
        "describe"
    );
    let out = described(&mut harness, Ok(descriptor("orphaned", "3.10.0")));
    assert_eq!(
        labels(&out),
        "close interrupted connecting start described ice"
    );
    // It cannot be resumed: the promise says why.
    harness.mark();
    let out = actions(harness.run(40_000));
    assert_eq!(refusals(&out), [(5, Code::ReconnectionFailed)]);
    let error = classed_failure(&out);
    assert_eq!(error.failure, Some(Failure::Reconnection));
}

#[test]
fn connection_taken_by_another_client_is_not_taken_back() {
    for reconnect in [true, false] {
        let mut harness = Harness::resumed(Policy {
            reconnect,
            restart: true,
            connection_id: Some(CONNECTION),
            ..policy()
        });
        harness.handle(Input::ConnectionClosed(broken()));
        let streaming = || Ok(descriptor("streaming", "3.10.0"));
        // A session that ends may be described so, too.
        assert_eq!(labels(&described(&mut harness, streaming())), "");
        let out = labels(&actions(harness.run(500)));
        assert!(out.ends_with("describe"), "{out}");
        let out = described(&mut harness, streaming());
        let error = classed_failure(&out);
        assert_eq!(error.code, Code::Conflict);
        assert!(!error.recoverable());
        // The other client goes on with it.
        assert!(!out.contains(&Action::EndSession), "{out:?}");
        assert!(labels(&out).starts_with("error failed"), "{out:?}");
    }
}

/// The session of a client that slept: the cloud has it as ACTIVE while it waits for a client, and a
/// local runtime as streaming where there is another one.
#[test]
fn connection_whose_number_nobody_else_knows_is_made_anew() {
    for state in ["streaming", "ACTIVE"] {
        let mut harness = Harness::resumed(Policy {
            reconnect: true,
            ..policy()
        });
        harness.handle(Input::ConnectionClosed(broken()));
        let out = described(&mut harness, Ok(descriptor(state, "3.10.0")));
        assert!(labels(&out).contains("described"), "{out:?}");
    }
}

#[test]
fn connection_closed_by_server_is_made_anew_without_another_client() {
    let mut harness = Harness::resumed(Policy {
        reconnect: true,
        connection_id: Some(CONNECTION),
        ..policy()
    });
    harness.handle(Input::ConnectionClosed(broken()));
    assert_eq!(
        labels(&described(
            &mut harness,
            Ok(descriptor("streaming", "3.10.0"))
        )),
        ""
    );
    harness.run(500);
    let out = described(&mut harness, Ok(descriptor("orphaned", "3.10.0")));
    assert!(labels(&out).contains("described"), "{out:?}");
}
