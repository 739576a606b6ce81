// SPDX-License-Identifier: MIT

//! The stand-in coordinator in front of the real runtime: the official client takes it for the
//! cloud.

use std::time::{Duration, Instant};

use reactor_coordinator::{
    ApiRoute, Coordinator, CoordinatorSettings, GpuWait, LedgerEntry, RecordedRequest, SessionEnd,
    SessionState,
};
use reactor_tests::{
    TIMEOUT,
    cloud::{KEY, start_coordinator},
    http::{self, Reply},
    official_client,
    server::Server,
};
use serde_json::{Value, json};

/// The server takes some time to notice that a client has gone.
const LATER: Duration = Duration::from_secs(90);

/// An account's access to the API.
struct Account<'a> {
    coordinator: &'a Coordinator,
    bearer: String,
}

impl<'a> Account<'a> {
    fn new(coordinator: &'a Coordinator, wanted: &Value) -> Self {
        let url = format!("{}/tokens", coordinator.url());
        let key = [("Reactor-API-Key", KEY)];
        let reply = http::request("POST", &url, &key, &wanted.to_string()).unwrap();
        let token = json(&reply, 201)["jwt"].as_str().unwrap().to_owned();
        Self {
            coordinator,
            bearer: format!("Bearer {token}"),
        }
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Reply {
        let url = format!("{}{path}", self.coordinator.url());
        let headers = [("Authorization", self.bearer.as_str())];
        http::request(method, &url, &headers, body).unwrap()
    }

    /// Creates a session; returns its path.
    fn create(&self) -> String {
        let body = json!({
            "model": {"name": "playground"},
            "supported_transports": [{"protocol": "webrtc", "version": "1.0"}],
        });
        let reply = self.call("POST", "/sessions", &body.to_string());
        let session = json(&reply, 201);
        format!("/sessions/{}", session["session_id"].as_str().unwrap())
    }

    fn get(&self, path: &str) -> Value {
        json(&self.call("GET", path, ""), 200)
    }

    /// Polls the session until this holds.
    fn wait(&self, path: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let session = self.get(path);
            if holds(&session) {
                return session;
            }
            assert!(Instant::now() < deadline, "never {what}: {session}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_ready(&self, path: &str) -> Value {
        self.wait(path, "ready", |session| {
            session["capabilities"].is_object() && session["selected_transport"].is_object()
        })
    }
}

#[track_caller]
fn json(reply: &Reply, status: u16) -> Value {
    assert_eq!(reply.status, status, "{}", reply.body);
    serde_json::from_str(&reply.body).expect("JSON")
}

/// The only session of the ledger, once it has ended.
fn wait_for_end(coordinator: &Coordinator, limit: Duration) -> LedgerEntry {
    let deadline = Instant::now() + limit;
    while !coordinator.open_sessions().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", coordinator.ledger());
        std::thread::sleep(Duration::from_millis(50));
    }
    let ledger = coordinator.ledger();
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    ledger[0].clone()
}

#[test]
fn official_client_completes_session() {
    let server = Server::recording();
    let waiting = GpuWait::answers(2);
    let coordinator = start_coordinator(
        &server,
        CoordinatorSettings {
            models: vec!["playground".into()],
            waiting,
            ..CoordinatorSettings::default()
        },
    );
    let told = official_client::use_cloud(&coordinator, KEY, &[]);
    let statuses = json!(["connecting", "waiting", "ready", "disconnected"]);
    assert_eq!(told["statuses"], statuses);
    assert_eq!(told["enough_frames"], true);
    assert_eq!(told["echo"]["data"]["text"], "hello");
    assert!(told["upload"].as_u64() > Some(0), "{told}");
    assert_eq!(told["set_image"], Value::Null);
    // At least one moof: pictures, and not only their description.
    assert_eq!(told["clip_boxes"][0], "ftyp");
    assert!(told["clip_boxes"][1].as_u64() > Some(0), "{told}");
    assert_eq!(told["clip_session"], told["session_id"]);

    let entry = wait_for_end(&coordinator, TIMEOUT);
    assert_eq!(told["session_id"], entry.session_id);
    assert_eq!(entry.model, "playground");
    assert_eq!(entry.client_info["sdk_type"], "python");
    assert_eq!(entry.end, Some(SessionEnd::Deleted { reason: None }));
    assert!(entry.started_ms >= Some(entry.created_ms), "{entry:?}");
    // It polls while it waits, and once more.
    assert!(coordinator.count(ApiRoute::Session) > waiting.answers);
    server.wait_for_state("ready", TIMEOUT);
    assert_tokens_are_sent_to_api_only(&coordinator);
}

fn assert_tokens_are_sent_to_api_only(coordinator: &Coordinator) {
    let log = coordinator.log();
    for seen in &log {
        let bearer = seen.header("authorization").is_some();
        let expected = !matches!(
            seen.route,
            ApiRoute::Tokens | ApiRoute::Store | ApiRoute::Fetch
        );
        assert_eq!(bearer, expected, "{seen:?}");
        assert!(seen.status.is_some_and(|status| status < 300), "{seen:?}");
    }
    assert_eq!(coordinator.count(ApiRoute::Store), 1);
    // At least an init segment and a media segment.
    assert!(coordinator.count(ApiRoute::Fetch) >= 2);
    assert_eq!(coordinator.count(ApiRoute::DeleteSession), 1);
    let asked: Value =
        serde_json::from_str(&coordinator.requests(ApiRoute::Tokens)[0].body).unwrap();
    let resources = &asked["authorization_details"][0]["resources"];
    assert_eq!(resources["models"], json!({"match": ["playground"]}));
}

#[test]
fn official_client_reconnects_and_second_client_joins() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let told = official_client::use_cloud(&coordinator, KEY, &["--again"]);
    for (which, text) in [
        ("after_reconnect", "back"),
        ("second", "joined"),
        ("after_second", "still"),
    ] {
        assert_eq!(told[which]["data"]["text"], text, "{told}");
    }
    let offers = coordinator.requests(ApiRoute::Offer);
    let methods: Vec<&str> = offers.iter().map(|seen| seen.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PUT", "POST"]);
    // A client that joins uses a token of its own, and does not end the session.
    let bearer = |seen: &RecordedRequest| seen.header("authorization").map(str::to_owned);
    assert_eq!(bearer(&offers[0]), bearer(&offers[1]));
    assert_ne!(bearer(&offers[0]), bearer(&offers[2]));
    let deletions = coordinator.requests(ApiRoute::DeleteSession);
    assert_eq!(deletions.len(), 1);
    assert_eq!(bearer(&deletions[0]), bearer(&offers[0]));
    let reason = None;
    assert_eq!(
        wait_for_end(&coordinator, TIMEOUT).end,
        Some(SessionEnd::Deleted { reason })
    );
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn vanished_client_loses_session_after_window() {
    let server = Server::playground();
    let window = Duration::from_secs(1);
    let coordinator = start_coordinator(
        &server,
        CoordinatorSettings {
            resume_window: window,
            ..CoordinatorSettings::default()
        },
    );
    let told = official_client::use_cloud(&coordinator, KEY, &["--vanish"]);
    let entry = wait_for_end(&coordinator, LATER);
    assert_eq!(told["session_id"], entry.session_id);
    assert_eq!(entry.end, Some(SessionEnd::Window));
    let lasted = entry.ended_ms.unwrap() - entry.started_ms.unwrap();
    assert!(lasted >= u64::try_from(window.as_millis()).unwrap());
    assert_eq!(coordinator.count(ApiRoute::DeleteSession), 0);
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn second_session_waits_for_the_gpu() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let account = Account::new(&coordinator, &Value::Null);
    let first = account.create();
    let session = account.wait_ready(&first);
    assert_eq!(session["state"], "ACTIVE");
    assert_eq!(session["selected_transport"]["protocol"], "webrtc");
    let tracks = session["capabilities"]["tracks"].as_array().unwrap();
    assert!(tracks.iter().any(|track| track["name"] == "main_video"));

    let second = account.create();
    for _ in 0..5 {
        let waiting = account.get(&second);
        assert!(waiting["capabilities"].is_null(), "{waiting}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(account.get(&second)["state"], "WAITING");
    assert_eq!(account.call("DELETE", &first, "").status, 204);
    account.wait_ready(&second);
    assert_eq!(account.call("DELETE", &second, "").status, 204);
    assert!(coordinator.open_sessions().is_empty());
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn connections_and_uploads_belong_to_session() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let account = Account::new(&coordinator, &Value::Null);
    let session = account.create();
    account.wait_ready(&session);

    let signaling = format!("{session}/transport/webrtc");
    let servers = account.get(&format!("{signaling}/ice_servers"));
    assert!(servers["ice_servers"].is_array(), "{servers}");
    let reply = account.call("POST", &format!("{signaling}/connections"), "{}");
    let connection = json(&reply, 201)["connection_id"].as_u64().unwrap();
    let answer = |id| format!("{signaling}/connections/{id}/sdp_params");
    assert_eq!(account.call("GET", &answer(connection), "").status, 202);
    // The runtime itself would accept this one.
    assert_eq!(account.call("GET", &answer(1001), "").status, 404);
    assert_eq!(account.call("POST", &answer(1001), "{}").status, 404);

    let wanted = json!({"name": "a.txt", "size": 5, "mime_type": "text/plain"}).to_string();
    let reserve = || {
        json(
            &account.call("POST", &format!("{session}/uploads"), &wanted),
            201,
        )
    };
    let upload = reserve();
    let path = upload["path"].as_str().unwrap();
    assert!(path.starts_with(&session[1..]), "{path}");
    let url = upload["presigned_url"].as_str().unwrap();
    assert!(url.starts_with(&coordinator.storage_url()), "{url}");
    let put = |url: &str, headers: &[(&str, &str)]| {
        http::request("PUT", url, headers, "hello").unwrap().status
    };
    assert_eq!(put(url, &[("Authorization", &account.bearer)]), 400);
    // A signature is valid for its own path only.
    let other = reserve()["presigned_url"].as_str().unwrap().to_owned();
    let (other, _) = other.split_once('?').unwrap();
    let (_, signature) = url.split_once('?').unwrap();
    assert_eq!(put(&format!("{other}?{signature}"), &[]), 403);
    assert_eq!(put(url, &[]), 200);
    assert_eq!(put(url, &[]), 409);

    assert_eq!(account.call("DELETE", &session, "").status, 204);
    let lost = account.call("POST", &format!("{signaling}/connections"), "{}");
    assert_eq!(lost.status, 400, "{}", lost.body);
}

#[test]
fn sessions_end_at_their_limits() {
    let server = Server::playground();
    let short = Duration::from_secs(1);
    let unclaimed = CoordinatorSettings {
        first_connection: short,
        ..CoordinatorSettings::default()
    };
    let limited = CoordinatorSettings {
        session_lifetime: Some(short),
        ..CoordinatorSettings::default()
    };
    let all = json!({"models": {"all": true}});
    let constraints = json!({"max_session_duration_seconds": 1});
    let detail = json!({"type": "session", "resources": all, "constraints": constraints});
    let of_token = json!({"authorization_details": [detail]});
    let cases = [
        (
            unclaimed,
            Value::Null,
            SessionEnd::Unclaimed,
            SessionState::Inactive,
        ),
        (
            limited,
            Value::Null,
            SessionEnd::Expired,
            SessionState::Closed,
        ),
        (
            CoordinatorSettings::default(),
            of_token,
            SessionEnd::Expired,
            SessionState::Closed,
        ),
    ];
    for (settings, wanted, end, state) in cases {
        let coordinator = start_coordinator(&server, settings);
        let account = Account::new(&coordinator, &wanted);
        let session = account.create();
        account.wait_ready(&session);
        assert_eq!(wait_for_end(&coordinator, TIMEOUT).end, Some(end));
        let over = account.get(&session);
        assert_eq!(over["state"], serde_json::to_value(state).unwrap());
        assert!(over["capabilities"].is_null(), "{over}");
        server.wait_for_state("ready", TIMEOUT);
    }
}

#[test]
fn session_ended_by_runtime_is_inactive() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let account = Account::new(&coordinator, &Value::Null);
    let session = account.create();
    account.wait_ready(&session);
    http::post(&format!("{}/stop_session", server.url()), "{}").unwrap();
    let entry = wait_for_end(&coordinator, TIMEOUT);
    assert!(
        matches!(entry.end, Some(SessionEnd::Runtime(_))),
        "{entry:?}"
    );
    assert_eq!(account.get(&session)["state"], "INACTIVE");
}

#[test]
fn end_all_frees_runtime() {
    let server = Server::playground();
    let coordinator = start_coordinator(&server, CoordinatorSettings::default());
    let account = Account::new(&coordinator, &Value::Null);
    account.wait_ready(&account.create());
    account.create();
    coordinator.end_all(TIMEOUT);
    assert!(coordinator.open_sessions().is_empty());
    drop(coordinator);
    server.wait_for_state("ready", TIMEOUT);
}
