// SPDX-License-Identifier: MIT

use super::*;
use crate::platform::{
    coordinator::Coordinator,
    http::testing::{Act, Server, http, json as json_reply, reply},
    track::{Direction, Kind},
};

const ID: &str = "00000000-0000-0000-0000-000000000000";

/// As runtime 3.10.0 says it.
fn descriptor(state: &str) -> Value {
    json!({"session_id": ID, "state": state, "cluster": "local",
    "model": {"name": "trivial"}, "server_info": {"server_version": "3.10.0"},
    "selected_transport": {"protocol": "webrtc", "version": "1.0"},
    "transports": [{"protocol": "webrtc", "version": "1.0"}],
    "recording": {"enabled": false, "chunk_seconds": 4},
    "step_results": {"enabled": false}, "generation": "streamed",
    "capabilities": {"protocol_version": "v0", "commands": [], "tracks": [
        {"name": "webcam", "kind": "video", "direction": "sendonly"},
        {"name": "main_video", "kind": "video", "direction": "recvonly"},
        {"name": "main_audio", "kind": "audio", "direction": "recvonly"},
    ]}})
}

fn ok(state: &str) -> Act {
    json_reply(200, descriptor(state))
}

fn refused(status: u16, detail: &str) -> Act {
    json_reply(status, json!({ "detail": detail }))
}

async fn runtime(script: impl IntoIterator<Item = Act>) -> (Server, LocalRuntime) {
    let server = Server::start(script).await;
    let runtime = LocalRuntime::new(http(), &server.base, RunningSession::Join).unwrap();
    (server, runtime)
}

#[tokio::test]
async fn session_start_sends_arguments() {
    let (server, runtime) = runtime([ok("waiting"), ok("waiting")]).await;
    let (session, ownership) = runtime.start(None).await.unwrap();
    assert_eq!(ownership, Ownership::Created);
    assert_eq!(session.session_id, ID);
    assert_eq!(session.model_name.as_deref(), Some("trivial"));
    assert_eq!(session.server_version.as_deref(), Some("3.10.0"));
    assert!(session.is_ready() && session.is_live() && !session.is_terminal());
    assert_eq!(session.raw["recording"]["chunk_seconds"], 4);
    let capabilities = session.capabilities.unwrap();
    assert_eq!(capabilities.raw["protocol_version"], "v0");
    let names: Vec<_> = capabilities.tracks.iter().map(|t| &t.name).collect();
    assert_eq!(names, ["webcam", "main_video", "main_audio"]);
    assert_eq!(capabilities.tracks[2].kind, Kind::Audio);
    assert_eq!(capabilities.tracks[0].direction, Direction::SendOnly);
    assert!(server.requests()[0].starts_with("POST /start_session "));
    assert_eq!(server.body(0), json!({}));

    let Value::Object(arguments) = json!({"steps": 3, "mood": "blue"}) else {
        panic!()
    };
    runtime.start(Some(&arguments)).await.unwrap();
    let expected = json!({"steps": 3, "extra_args": {"steps": 3, "mood": "blue"}});
    assert_eq!(server.body(1), expected);
}

#[tokio::test]
async fn running_session_is_joined() {
    for state in ["waiting", "streaming", "orphaned"] {
        let conflict = refused(409, "cannot start session while streaming");
        let (server, runtime) = runtime([conflict, ok(state)]).await;
        let (session, ownership) = runtime.start(None).await.unwrap();
        assert_eq!(ownership, Ownership::Joined);
        assert_eq!(session.state, state);
        assert!(server.requests()[1].starts_with("GET /session "));
    }
}

#[tokio::test]
async fn running_session_is_restarted_or_refused() {
    let conflict = || refused(409, "cannot start session while streaming");
    let script = [conflict(), ok("streaming"), ok("ready")];
    let (server, mut runtime) = runtime(script).await;
    runtime.running = RunningSession::Restart;
    let error = runtime.start(None).await.unwrap_err();
    // The session is told to end, and starting is to be tried again.
    assert!(server.requests()[2].starts_with("POST /stop_session "));
    assert_eq!(error.retry_after, Some(CLOSING_RETRY));

    let (server, mut runtime) = self::runtime([conflict(), ok("streaming")]).await;
    runtime.running = RunningSession::Refuse;
    let error = runtime.start(None).await.unwrap_err();
    assert_eq!((&error.code, error.retry_after), (&Code::Conflict, None));
    assert!(error.message.contains("local-session=error"), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn closing_session_is_conflict_with_retry_after() {
    for state in ["closing", "ready", "terminated"] {
        let conflict = refused(409, "cannot start session while closing");
        let (_server, runtime) = runtime([conflict, ok(state)]).await;
        let error = runtime.start(None).await.unwrap_err();
        assert_eq!(error.code, Code::Conflict);
        assert_eq!(error.retry_after, Some(CLOSING_RETRY));
        assert!(error.message.contains("while closing"), "{error}");
    }
}

#[tokio::test]
async fn loading_model_keeps_retry_after() {
    let loading = reply(503, "retry-after: 1\r\n", r#"{"detail":"still loading"}"#);
    let (_server, runtime) = runtime([loading]).await;
    let error = runtime.start(None).await.unwrap_err();
    assert_eq!(error.code, Code::ServerError);
    assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
    assert_eq!(error.operation, Some("start_session"));
}

#[tokio::test]
async fn adopted_session_must_be_running() {
    let states = ["streaming", "streaming", "ready", "closing", "terminated"];
    let (_server, runtime) = runtime(states.map(ok)).await;
    assert_eq!(runtime.adopt(ID).await.unwrap().state, "streaming");
    let code = async |id| runtime.adopt(id).await.unwrap_err().code;
    assert_eq!(code("another\u{7}").await, Code::NotFound);
    assert_eq!(code(ID).await, Code::NotFound);
    assert_eq!(code(ID).await, Code::SessionTerminal);
    assert_eq!(code(ID).await, Code::SessionTerminal);
}

#[tokio::test]
async fn session_stopped_twice_succeeds() {
    let script = [
        reply(200, "", ""),
        refused(409, "cannot stop session while ready"),
        refused(404, "Not Found"),
        refused(503, "terminated"),
        Act::Close,
    ];
    let (server, runtime) = runtime(script).await;
    for _ in 0..3 {
        runtime.stop().await.unwrap();
    }
    assert_eq!(runtime.stop().await.unwrap_err().code, Code::ServerError);
    assert_eq!(runtime.stop().await.unwrap_err().code, Code::NetworkError);
    assert!(server.requests()[0].starts_with("POST /stop_session "));
}

#[tokio::test]
async fn session_with_other_transport_is_refused() {
    let mut other = descriptor("waiting");
    other["selected_transport"]["protocol"] = json!("livekit");
    let (_server, runtime) = runtime([json_reply(200, other)]).await;
    let error = runtime.describe().await.unwrap_err();
    assert_eq!(error.code, Code::VersionMismatch);
    assert!(error.message.contains("livekit"));
}

#[tokio::test]
async fn malformed_session_is_refused() {
    let changes: [fn(&mut Value); 10] = [
        |d| *d = json!([]),
        |d| *d = json!(null),
        |d| *d = json!("text"),
        |d| d["session_id"] = json!(5),
        |d| d["session_id"] = json!(""),
        |d| d["state"] = json!(null),
        |d| d["capabilities"] = json!(1),
        |d| d["capabilities"]["tracks"] = json!({}),
        |d| d["capabilities"]["tracks"][0] = json!({"name": 1}),
        |d| d["selected_transport"] = json!("webrtc"),
    ];
    for change in changes {
        let mut value = descriptor("waiting");
        change(&mut value);
        let (_server, runtime) = runtime([json_reply(200, value.clone())]).await;
        let error = runtime.describe().await.unwrap_err();
        assert_eq!(error.code, Code::DecodeFailed, "{value}");
        assert!(error.message.contains("Reactor runtime"), "{error}");
    }
}

#[test]
fn session_with_unknown_fields_is_accepted() {
    let parse = |value| SessionDescriptor::from_value(value).unwrap();
    let slim = parse(
        json!({"session_id": "s", "state": "PENDING", "capabilities": null,
        "selected_transport": null, "model": 5, "new": {"a": 1}}),
    );
    assert!(!slim.is_ready() && !slim.is_terminal() && !slim.is_live());
    assert_eq!(slim.raw["new"]["a"], 1);
    assert_eq!(slim.model_name, None);
    for state in ["INACTIVE", "CLOSED", "terminated"] {
        assert!(parse(json!({"session_id": "s", "state": state})).is_terminal());
    }
    let mut future = descriptor("waiting");
    future["capabilities"]["tracks"][0]["kind"] = json!("haptic");
    let future = parse(future).capabilities.unwrap();
    assert_eq!(future.tracks.len(), 2);
    assert_eq!(future.raw["tracks"][0]["kind"], "haptic");
}

#[test]
fn runtime_url_unusable_is_refused() {
    for base in ["", "ftp://x", "http://u:p@h"] {
        let error = Coordinator::local(base, RunningSession::Join).unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings);
    }
    Coordinator::local("http://127.0.0.1:8080", RunningSession::Join).unwrap();
}
