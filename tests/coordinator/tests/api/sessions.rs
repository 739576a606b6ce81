// SPDX-License-Identifier: MIT

//! Sessions that never get a GPU: there is no runtime.

use reactor_coordinator::{CoordinatorSettings, SessionEnd, SessionState};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, creation};

#[tokio::test]
async fn new_session_without_gpu_waits() {
    let client = Client::new();
    let token = client.unscoped().await;
    let created = client.create(&token, "m").await.expect(201).json();
    assert_eq!(created["state"], "CREATED");
    assert_eq!(created["model"], json!({"name": "m"}));
    for member in ["cluster", "server_info"] {
        assert!(!created[member].is_null(), "{member}");
    }
    let path = format!("/sessions/{}", created["session_id"].as_str().unwrap());
    for state in ["PENDING", "WAITING", "WAITING"] {
        let session = client.get(&path, &token).await.expect(200).json();
        assert_eq!(session["state"], state);
        assert!(session["capabilities"].is_null(), "{session}");
        assert!(session["selected_transport"].is_null(), "{session}");
    }
    let info = client
        .get(&format!("{path}/info"), &token)
        .await
        .expect(200)
        .json();
    let expected = json!({
        "session_id": created["session_id"], "state": "WAITING", "cluster": created["cluster"],
    });
    assert_eq!(info, expected);
}

#[tokio::test]
async fn session_request_is_validated_and_recorded() {
    let client = Client::with(CoordinatorSettings {
        models: vec!["m".into(), "n".into()],
        ..CoordinatorSettings::default()
    });
    let token = client.unscoped().await;
    let mut whole = creation("n");
    whole["model"]["version"] = "2".into();
    whole["extra_args"] = json!({"seed": 7});
    whole["something_new"] = json!([]);
    let reply = client
        .call(Method::POST, "/sessions", &token, &whole.to_string())
        .await;
    assert_eq!(
        reply.expect(201).json()["model"],
        json!({"name": "n", "version": "2"})
    );
    let entry = &client.coordinator.ledger()[0];
    assert_eq!(entry.extra_args, Some(json!({"seed": 7})));
    assert_eq!(entry.client_info["sdk_type"], "test");
    assert_eq!((entry.started_ms, entry.ended_ms), (None, None));

    let without = |member: &str| {
        let mut body = creation("m");
        body.as_object_mut().unwrap().remove(member);
        body
    };
    let mut livekit = creation("m");
    livekit["supported_transports"] = json!([{"protocol": "livekit", "version": "1.0"}]);
    let cases = [
        (creation("unknown"), 404),
        (without("model"), 422),
        (without("supported_transports"), 422),
        (livekit, 422),
        (Value::Null, 422),
    ];
    for (body, status) in cases {
        let reply = client
            .call(Method::POST, "/sessions", &token, &body.to_string())
            .await;
        assert_eq!(reply.status, status, "{body}");
    }
    assert_eq!(client.coordinator.ledger().len(), 1);
}

#[tokio::test]
async fn deleted_session_cannot_be_deleted_again() {
    let client = Client::new();
    let token = client.unscoped().await;
    for (body, status, reason) in [
        ("", 204, None),
        ("{}", 204, None),
        (r#"{"reason":"enough"}"#, 204, Some("enough")),
    ] {
        let session = client.session(&token).await;
        assert_eq!(client.coordinator.open_sessions().len(), 1);
        let path = format!("/sessions/{session}");
        client
            .call(Method::DELETE, &path, &token, body)
            .await
            .expect(status);
        assert_eq!(client.coordinator.open_sessions().len(), 0);
        let reason = reason.map(str::to_owned);
        let entry = client.coordinator.ledger().pop().unwrap();
        assert_eq!(entry.end, Some(SessionEnd::Deleted { reason }));
        assert!(entry.ended_ms >= Some(entry.created_ms));
        client.delete(&path, &token).await.expect(404);
        let session = client.get(&path, &token).await.expect(200).json();
        assert_eq!(session["state"], "CLOSED");
    }
    let session = client.session(&token).await;
    let path = format!("/sessions/{session}");
    client
        .call(Method::DELETE, &path, &token, "[")
        .await
        .expect(422);
    assert_eq!(client.coordinator.open_sessions().len(), 1);
    client.delete("/sessions/unknown", &token).await.expect(404);
    client.get("/sessions/unknown", &token).await.expect(404);
}

#[tokio::test]
async fn session_ended_by_test_is_terminal() {
    let client = Client::new();
    let token = client.unscoped().await;
    for state in [SessionState::Inactive, SessionState::Closed] {
        let session = client.session(&token).await;
        assert!(client.coordinator.end_session(&session, state));
        assert!(!client.coordinator.end_session(&session, state));
        let path = format!("/sessions/{session}");
        let json = client.get(&path, &token).await.expect(200).json();
        assert_eq!(json["state"], serde_json::to_value(state).unwrap());
        let connections = format!("{path}/transport/webrtc/connections");
        client
            .call(Method::POST, &connections, &token, "{}")
            .await
            .expect(400);
        let entry = client.coordinator.ledger().pop().unwrap();
        assert_eq!(entry.end, Some(SessionEnd::Terminated(state)));
    }
    // Through the HTTP control.
    let session = client.session(&token).await;
    let path = format!("/_coordinator/sessions/{session}/end");
    for status in [204, 404] {
        let reply = client
            .send(Method::POST, &path, &[], r#"{"state":"INACTIVE"}"#)
            .await;
        reply.expect(status);
    }
    assert_eq!(client.coordinator.open_sessions().len(), 0);
}

#[tokio::test]
async fn waiting_session_refuses_connections() {
    let turn = json!([
        {"uris": ["stun:127.0.0.1:3478"]},
        {"uris": ["turn:127.0.0.1:3478", "turns:127.0.0.1:5349"],
         "credentials": {"username": "u", "password": "p"}},
    ]);
    let client = Client::with(CoordinatorSettings {
        ice_servers: Some(turn.clone()),
        ..CoordinatorSettings::default()
    });
    let token = client.unscoped().await;
    let path = format!("/sessions/{}", client.session(&token).await);
    let signaling = format!("{path}/transport/webrtc");
    let servers = client
        .get(&format!("{signaling}/ice_servers"), &token)
        .await;
    assert_eq!(servers.expect(200).json(), json!({"ice_servers": turn}));
    let connections = format!("{signaling}/connections");
    client
        .call(Method::POST, &connections, &token, "{}")
        .await
        .expect(409);
    let uploads = format!("{path}/uploads");
    client
        .call(Method::POST, &uploads, &token, "{}")
        .await
        .expect(409);
    client.get("/clips?start=0&end=1", &token).await.expect(422);
    client
        .get("/clips?session_id=unknown&start=0&end=1", &token)
        .await
        .expect(404);
    client.get("/unknown", &token).await.expect(404);
}

#[tokio::test]
async fn api_version_mismatch_is_refused() {
    for (ours, theirs, status) in [
        (1, "1", 201),
        (2, "1", 426),
        (0, "1", 501),
        (1, "2", 501),
        (1, "x", 400),
    ] {
        let client = Client::with(CoordinatorSettings {
            api_version: ours,
            ..CoordinatorSettings::default()
        });
        let bearer = format!("Bearer {}", client.unscoped().await);
        let headers = [
            ("authorization", bearer.as_str()),
            ("reactor-api-version", theirs),
        ];
        let body = creation("m").to_string();
        let reply = client.send(Method::POST, "/sessions", &headers, body).await;
        assert_eq!(reply.status, status, "{theirs} at {ours}");
    }
}

#[tokio::test]
async fn storage_accepts_signature_and_refuses_token() {
    let client = Client::new();
    let token = client.unscoped().await;
    let url = format!("{}/uploads/x", client.coordinator.storage_url());
    assert_ne!(url_host(&url), url_host(&client.coordinator.url()));
    client
        .call(Method::PUT, &url, &token, "x")
        .await
        .expect(400);
    client.send(Method::PUT, &url, &[], "x").await.expect(403);
    // A token is not a signature.
    let signed = format!("{url}?signature={token}");
    client
        .send(Method::PUT, &signed, &[], "x")
        .await
        .expect(403);
    let log = client
        .coordinator
        .requests(reactor_coordinator::ApiRoute::Store);
    assert_eq!(log.len(), 3);
    assert!(
        log[0]
            .header("authorization")
            .is_some_and(|value| !value.contains(&token))
    );
    assert_eq!((log[1].header("authorization"), log[1].size), (None, 1));
}

fn url_host(url: &str) -> String {
    let url = url::Url::parse(url).unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap())
}
