// SPDX-License-Identifier: MIT

//! `max-session-duration`, and what is said of a session that was not created as
//! it was asked for.

use super::*;

fn limited(seconds: u64) -> Policy {
    Policy {
        max_session_duration: Some(Duration::from_secs(seconds)),
        // It ends all the same: nobody is to resume it.
        recoverable: true,
        ..policy()
    }
}

#[test]
fn session_ends_when_its_duration_is_over() {
    let mut harness = Harness::new(limited(3)).until_preparing();
    let end = START + ms(3000);
    assert_eq!(harness.machine.expiration(), Some(end));
    harness.prepare();
    harness.poll_answer(ANSWER);
    harness.connect();
    let out = harness.run((end - harness.now).as_millis().try_into().unwrap());
    let ended = out.into_iter().map(|(_, action)| action).find(|action| {
        matches!(action, Action::Emit(MachineEvent::Ended { reason: Some(reason), .. })
            if reason == "max-session-duration, 3 s, is over")
    });
    assert!(ended.is_some());
    assert_eq!(harness.machine.expiration(), None);
    assert_eq!(harness.machine.session_id(), None);
    let out = harness.handle(Input::Stop);
    assert!(out.is_empty(), "{out:?}");
}

#[test]
fn session_ends_in_time_while_suspended_or_joined() {
    for ownership in [Ownership::Created, Ownership::Joined] {
        let mut harness = Harness::new(limited(3)).ownership(ownership).until_ready();
        harness.handle(Input::Disconnect {
            token: 1,
            recoverable: true,
        });
        let out = harness.run_labels(3000);
        assert!(out.contains("ended"), "{out}");
        // One that another client created is left only.
        assert_eq!(
            out.contains("end "),
            ownership == Ownership::Created,
            "{out}"
        );
    }
}

#[test]
fn session_that_replaces_another_has_the_whole_time() {
    let mut harness = Harness::resumed(Policy {
        reconnect: true,
        restart: true,
        ..limited(40)
    });
    harness.handle(Input::TransportFailed(broken()));
    // It cannot be resumed.
    let out = harness.run_labels(30_000);
    assert!(out.ends_with("begin"), "{out}");
    assert_eq!(harness.machine.expiration(), None);
    // The other one waits for a GPU.
    assert_eq!(harness.run_labels(20_000), "");
    harness.open_session();
    let end = harness.now + Duration::from_secs(40);
    assert_eq!(harness.machine.expiration(), Some(end));
}

#[test]
fn least_limit_of_the_elements_counts() {
    for (first, joined, least) in [(None, 3, 3), (Some(5), 3, 3), (Some(3), 5, 3)] {
        let mut harness = Harness::ready(Policy {
            max_session_duration: first.map(Duration::from_secs),
            ..policy()
        });
        harness
            .machine
            .lower_session_limit(Duration::from_secs(joined));
        let end = harness.machine.expiration().unwrap();
        assert_eq!(end, START + Duration::from_secs(least));
        let out = harness.run_labels((end - harness.now).as_millis().try_into().unwrap());
        assert!(out.contains("ended"), "{out}");
    }
}

#[test]
fn session_without_limit_has_no_expiration() {
    let harness = Harness::ready(policy());
    assert_eq!(harness.machine.expiration(), None);
}

/// The codes of the warnings.
fn warnings(out: &[Action]) -> Vec<&str> {
    let code = |action| match action {
        &Action::Emit(MachineEvent::Warning(ref error)) => Some(error.code.as_str()),
        _ => None,
    };
    out.iter().filter_map(code).collect()
}

#[test]
fn joined_session_is_reported_with_what_was_ignored() {
    let expecting = |model: &str| Policy {
        has_arguments: true,
        model_of_runtime: Some(model.into()),
        ..policy()
    };
    let joined = Action::Emit(MachineEvent::Joined);
    let mut harness = Harness::opening(expecting("m")).ownership(Ownership::Joined);
    let out = harness.open_session();
    assert!(out.contains(&joined));
    let text = "Joined the session that already runs".to_owned();
    let progress = MachineEvent::Progress(Progress::Continue(text));
    assert!(out.contains(&Action::Emit(progress)), "{out:?}");
    assert_eq!(warnings(&out), ["ARGUMENTS_IGNORED"]);
    let mut harness = Harness::opening(expecting("another"));
    let out = harness.open_session();
    assert!(!out.contains(&joined));
    assert_eq!(warnings(&out), ["MODEL_MISMATCH"]);
}
