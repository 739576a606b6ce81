// SPDX-License-Identifier: MIT

use std::time::Duration;

use super::*;
use crate::platform::{
    auth::Jwt,
    coordinator::{Coordinator, Ownership},
    http::testing::{Act, Server, http, json as json_reply, reply},
    signaling::Signaling,
    upload::{UploadClient, UploadSource, no_progress},
};

const KEY: &str = "rk_test_0123456789abcdef";
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl";
const ID: &str = "2b1e7c0a-5d8f-4c58-9c4f-0b5a4a1f9f11";

fn minted() -> Act {
    json_reply(201, json!({ "jwt": TOKEN }))
}

/// As the cloud tells of a session that waits for a GPU.
fn slim(state: &str) -> Value {
    json!({"session_id": ID, "state": state, "cluster": "eu", "new": {"a": 1},
    "model": {"name": "m", "version": "2"}, "server_info": {"server_version": "9"}})
}

fn ready() -> Value {
    let mut session = slim("ACTIVE");
    session["selected_transport"] = json!({"protocol": "webrtc", "version": "1.0"});
    session["capabilities"] = json!({"protocol_version": "v1", "tracks": [
        {"name": "main_video", "kind": "video", "direction": "recvonly"}]});
    session
}

fn with(server: &Server, name: &str, access: ApiCredentials) -> Cloud {
    over(http(), server, name, access)
}

fn over(http: HttpClient, server: &Server, name: &str, access: ApiCredentials) -> Cloud {
    let version = None;
    let model = ModelName {
        name: name.to_owned(),
        version,
    };
    Cloud::new(
        http,
        &server.base,
        Some(model),
        None,
        access,
        TokenCache::default(),
    )
    .unwrap()
}

async fn cloud(script: impl IntoIterator<Item = Act>) -> (Server, Cloud) {
    let server = Server::start(script).await;
    let access = ApiCredentials::new(Some(KEY), Jwt::default());
    let cloud = with(&server, "m", access);
    (server, cloud)
}

/// With a token of the user's, so that every request is one of the calls.
async fn plain(script: impl IntoIterator<Item = Act>) -> (Server, Cloud) {
    let server = Server::start(script).await;
    let jwt = Jwt::default();
    jwt.set(Some(TOKEN));
    let cloud = with(&server, "m", ApiCredentials::new(None, jwt));
    (server, cloud)
}

fn head(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().0
}

#[tokio::test]
async fn session_created_polled_and_ended_sends_expected_requests() {
    let script = [
        minted(),
        json_reply(201, slim("CREATED")),
        json_reply(200, slim("WAITING")),
        json_reply(200, ready()),
        json_reply(200, json!({"ice_servers": []})),
        reply(204, "", ""),
    ];
    let (server, cloud) = cloud(script).await;
    let coordinator = Coordinator::Cloud(cloud);
    let Value::Object(arguments) = json!({"mood": "blue"}) else {
        panic!()
    };
    let (session, ownership) = coordinator.begin(None, Some(&arguments)).await.unwrap();
    assert_eq!(ownership, Ownership::Created);
    assert_eq!((&*session.session_id, &*session.state), (ID, "CREATED"));
    assert!(!session.is_ready() && !session.is_live() && !session.is_terminal());
    assert_eq!(session.raw["new"]["a"], 1);
    let waiting = coordinator.describe(ID).await.unwrap();
    assert!(!waiting.is_ready() && !waiting.is_live());
    let session = coordinator.describe(ID).await.unwrap();
    assert!(session.is_ready() && session.is_live());
    assert_eq!(session.capabilities.unwrap().tracks.len(), 1);
    coordinator.signaling(ID).ice_servers().await.unwrap();
    coordinator.end(ID).await.unwrap();

    let requests = server.requests();
    let lines: Vec<_> = requests.iter().map(|r| r.lines().next().unwrap()).collect();
    let session = format!("/sessions/{ID}");
    assert_eq!(
        lines,
        [
            "POST /tokens HTTP/1.1".to_owned(),
            "POST /sessions HTTP/1.1".to_owned(),
            format!("GET {session} HTTP/1.1"),
            format!("GET {session} HTTP/1.1"),
            format!("GET {session}/transport/webrtc/ice_servers HTTP/1.1"),
            format!("DELETE {session} HTTP/1.1"),
        ]
    );
    for request in &requests[1..] {
        assert!(request.contains(&format!("authorization: Bearer {TOKEN}\r\n")));
        assert!(request.contains("reactor-api-version: 1\r\n"), "{request}");
        assert!(request.contains("reactor-api-accept-version: 1\r\n"));
        assert!(!request.contains("reactor-api-key"), "{request}");
    }
    let client = json!({"sdk_version": env!("CARGO_PKG_VERSION"), "sdk_type": "gstreamer"});
    let expected = json!({"model": {"name": "m"}, "client_info": client,
        "supported_transports": [{"protocol": "webrtc", "version": "1.0"}],
        "extra_args": {"mood": "blue"}});
    assert_eq!(server.body(1), expected);
}

#[tokio::test]
async fn model_version_is_sent_and_absent_arguments_are_not() {
    let (server, mut cloud) = plain([json_reply(201, slim("PENDING"))]).await;
    cloud.model.as_mut().unwrap().version = Some("7".to_owned());
    cloud.create(None).await.unwrap();
    let body = server.body(0);
    assert_eq!(body["model"], json!({"name": "m", "version": "7"}));
    assert!(body.get("extra_args").is_none());
}

#[tokio::test]
async fn session_without_model_is_refused() {
    let server = Server::start([]).await;
    for name in [None, Some("")] {
        let mut cloud = with(&server, "m", ApiCredentials::default());
        cloud.model = name.map(|name: &str| ModelName {
            name: name.into(),
            version: None,
        });
        let error = cloud.create(None).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings);
        assert!(error.message.contains("set model"), "{error}");
    }
}

#[tokio::test]
async fn adopted_session_must_not_be_over() {
    let script = [slim("WAITING"), slim("INACTIVE"), slim("CLOSED")].map(|s| json_reply(200, s));
    let gone = json_reply(404, json!({"message": "no session"}));
    let script = script.into_iter().chain([gone, json_reply(410, json!({}))]);
    let (server, cloud) = plain(script).await;
    let coordinator = Coordinator::Cloud(cloud);
    let (session, ownership) = coordinator.begin(Some(ID), None).await.unwrap();
    assert_eq!((&*session.state, ownership), ("WAITING", Ownership::Joined));
    let failure = async |id| coordinator.begin(Some(id), None).await.unwrap_err();
    for state in ["INACTIVE", "CLOSED"] {
        let error = failure(ID).await;
        assert_eq!(error.code, Code::SessionTerminal);
        assert!(error.message.contains(state), "{error}");
        assert!(!error.recoverable());
    }
    let error = failure(ID).await;
    assert_eq!(error.code, Code::NotFound);
    assert!(
        error.message.contains(": no session; the session is over"),
        "{error}"
    );
    assert_eq!(failure("a/../b").await.code, Code::NotFound);
    assert!(server.requests()[4].starts_with("GET /sessions/a%2F..%2Fb HTTP"));
    for id in ["", ".", ".."] {
        assert_eq!(failure(id).await.code, Code::InvalidSettings);
    }
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn adopted_session_token_is_bound_to_it() {
    let (server, cloud) = cloud([minted(), json_reply(200, ready())]).await;
    cloud.adopt(ID).await.unwrap();
    let details = server.body(0)["authorization_details"][0]["resources"].clone();
    assert_eq!(details["sessions"]["bind"], json!([ID]));
}

#[tokio::test]
async fn unusable_created_session_is_ended() {
    let mut other = ready();
    other["selected_transport"]["protocol"] = json!("livekit");
    let mut broken = slim("CREATED");
    broken["state"] = json!(5);
    for (session, code) in [(other, Code::VersionMismatch), (broken, Code::DecodeFailed)] {
        let (server, cloud) = plain([json_reply(201, session), reply(204, "", "")]).await;
        assert_eq!(cloud.create(None).await.unwrap_err().code, code);
        assert!(server.requests()[1].starts_with(&format!("DELETE /sessions/{ID} ")));
    }
    for id in [json!(".."), json!(""), json!(null), json!(5)] {
        let session = json!({"session_id": id, "state": "CREATED"});
        let (server, cloud) = plain([json_reply(201, session)]).await;
        let error = cloud.create(None).await.unwrap_err();
        assert_eq!(error.code, Code::DecodeFailed);
        assert_eq!(server.requests().len(), 1);
    }
    let (_server, cloud) = plain([json_reply(201, slim("CLOSED"))]).await;
    assert_eq!(
        cloud.create(None).await.unwrap_err().code,
        Code::SessionTerminal
    );
}

#[tokio::test]
async fn session_ended_twice_succeeds() {
    let script = [200, 404, 410, 500, 403].map(|status| reply(status, "", ""));
    let (server, cloud) = plain(script).await;
    for _ in 0..3 {
        cloud.end(ID).await.unwrap();
    }
    assert_eq!(cloud.end(ID).await.unwrap_err().code, Code::ServerError);
    assert_eq!(cloud.end(ID).await.unwrap_err().code, Code::Unauthorized);
    assert!(server.requests()[0].starts_with(&format!("DELETE /sessions/{ID} ")));
    // That there is no token for it is something else.
    let (_server, cloud) = self::cloud([reply(404, "", "")]).await;
    let error = cloud.end(ID).await.unwrap_err();
    assert_eq!(
        (error.code, error.operation),
        (Code::NotFound, Some("tokens"))
    );
}

#[tokio::test]
async fn refused_request_advises_user() {
    for (status, code, recoverable, advice) in [
        (400, Code::BadRequest, false, ": no"),
        (401, Code::Unauthorized, false, "check api-key"),
        (402, Code::BadRequest, false, "quota"),
        (403, Code::Unauthorized, false, "check the model's name"),
        (404, Code::NotFound, false, "a model of that name"),
        (409, Code::Conflict, false, ": no"),
        (410, Code::NotFound, false, ": no"),
        (422, Code::BadRequest, false, ": no"),
        (426, Code::VersionMismatch, false, "this plugin is too old"),
        (429, Code::RateLimited, true, "quota"),
        (500, Code::ServerError, true, ": no"),
        (501, Code::VersionMismatch, false, "the server is too old"),
        (503, Code::ServerError, true, "busy"),
    ] {
        let no = reply(status, "retry-after: 7\r\n", r#"{"error":"no"}"#);
        let (_server, cloud) = plain([no]).await;
        let error = cloud.create(None).await.unwrap_err();
        assert_eq!((&error.code, error.http_status), (&code, Some(status)));
        assert_eq!(error.recoverable(), recoverable);
        assert!(error.message.contains(": no"), "{error}");
        assert!(error.message.contains(advice), "{error}");
        assert!(!error.message.contains("runtime"), "{error}");
        assert_eq!(error.operation, Some("start_session"));
        let wait = (code != Code::VersionMismatch).then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after, wait, "{status}");
    }
    let (_server, cloud) = plain([reply(200, "", "<html>")]).await;
    let error = cloud.describe(ID).await.unwrap_err();
    assert_eq!(error.code, Code::DecodeFailed);
    assert!(error.message.contains("Reactor's API"), "{error}");
}

#[tokio::test]
async fn token_goes_to_its_server_only() {
    let storage = Server::start([reply(200, "", ""), json_reply(200, ready())]).await;
    // A stand-in's storage is another server on this machine, and stays it.
    let url = format!("{}/put?signature=s", storage.base);
    let slot = json_reply(201, json!({"presigned_id": "u", "presigned_url": url}));
    let elsewhere = format!("location: {}/sessions/{ID}\r\n", storage.base);
    let redirect = [301, 302, 303, 307, 308].map(|status| reply(status, &elsewhere, ""));
    let (server, cloud) = plain([slot].into_iter().chain(redirect)).await;
    let source = UploadSource::new(&b"meow"[..], "cat.png", None, 0).unwrap();
    let file = UploadClient::new(cloud.endpoint(ID), ID)
        .upload(&source, no_progress())
        .await
        .unwrap();
    assert_eq!(file.upload_id, "u");
    assert!(server.requests()[0].starts_with(&format!("POST /sessions/{ID}/uploads ")));
    assert!(server.requests()[0].contains(TOKEN));
    let sent = storage.requests()[0].to_lowercase();
    assert!(sent.starts_with("put /put?signature=s "), "{sent}");
    for header in ["authorization", "reactor-", "cookie"] {
        assert!(!head(&sent).contains(header), "{sent}");
    }
    for _ in 0..5 {
        let error = cloud.describe(ID).await.unwrap_err();
        assert_eq!(error.code, Code::DecodeFailed);
        assert!(
            error.message.contains("redirects are not followed"),
            "{error}"
        );
    }
    assert_eq!(storage.requests().len(), 1);
}

#[tokio::test]
async fn cloud_url_unusable_is_refused() {
    let access = || ApiCredentials::new(Some(KEY), Jwt::default());
    let new = |base| Coordinator::cloud(base, None, None, access());
    for base in ["", "ftp://x", "https://u:p@h", "http://api.example.com"] {
        let error = new(base).unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings, "{base}");
        assert!(error.message.contains("https"), "{error}");
    }
    new("https://api.example.com").unwrap();
    Coordinator::cloud("http://127.0.0.1:1", None, None, ApiCredentials::default()).unwrap();
}

/// All that the calls of one session say, to a server that repeats whatever
/// it hears.
async fn all_that_is_said(http: &HttpClient, script: Vec<Act>, access: ApiCredentials) -> String {
    let server = Server::start(script).await;
    let cloud = over(http.clone(), &server, "m", access);
    let source = UploadSource::new(&b"meow"[..], "cat.png", None, 0).unwrap();
    let mut said = String::new();
    let mut hear = |debug: String, error: Option<Error>| {
        said.push_str(&debug);
        if let Some(error) = error {
            said.push_str(&format!(
                "\n{error} {error:?} {error:#?} {}\n",
                error.message
            ));
        }
    };
    let created = cloud.create(None).await;
    hear(format!("{created:#?}"), created.err());
    let joined = cloud.adopt(ID).await;
    hear(format!("{joined:?}"), joined.err());
    let described = cloud.describe(ID).await;
    hear(format!("{described:?}"), described.err());
    let signaling = Signaling::new(cloud.endpoint(ID), ID);
    let servers = signaling.ice_servers().await;
    hear(format!("{signaling:?} {servers:?}"), servers.err());
    let id = signaling.register().await;
    hear(format!("{id:?}"), id.err());
    let offered = signaling.offer(7, "v=0", &[], None, false).await;
    hear(format!("{offered:?}"), offered.err());
    let answer = signaling.answer(7).await;
    hear(format!("{answer:?}"), answer.err());
    let uploads = UploadClient::new(cloud.endpoint(ID), ID);
    let uploaded = uploads.upload(&source, no_progress()).await;
    hear(format!("{uploads:?} {uploaded:?}"), uploaded.err());
    let ended = cloud.end(ID).await;
    hear(format!("{ended:?}"), ended.err());
    let coordinator = Coordinator::Cloud(cloud);
    hear(format!("{coordinator:?} {coordinator:#?}"), None);
    assert!(!server.requests().is_empty());
    said
}

/// No twelve characters of a secret in a row.
fn assert_nothing_of(secret: &str, said: &str) {
    for start in 0..=secret.len() - 12 {
        let part = &secret[start..start + 12];
        assert!(!said.contains(part), "\"{part}\" in {said}");
    }
}

#[tokio::test]
async fn secret_echoed_by_server_is_masked() {
    let key = || ApiCredentials::new(Some(KEY), Jwt::default());
    let jwt = || {
        let jwt = Jwt::default();
        jwt.set(Some(TOKEN));
        ApiCredentials::new(Some(KEY), jwt)
    };
    let http = http();
    let echoes = |status, n| (0..n).map(move |_| Act::Echo(status));
    for status in [400, 401, 403, 404, 409, 422, 429, 500, 503, 302, 200] {
        // The exchange of the key is refused.
        let said = all_that_is_said(&http, echoes(status, 20).collect(), key()).await;
        assert_nothing_of(KEY, &said);
        assert!(said.contains("***"), "{said}");
        // The user's token is.
        let said = all_that_is_said(&http, echoes(status, 20).collect(), jwt()).await;
        assert_nothing_of(TOKEN, &said);
        assert_nothing_of(KEY, &said);
        assert!(said.contains("***"), "{said}");
        // TokenCache that a key was exchanged for are.
        let mut script = Vec::new();
        for call in 0..9 {
            // The first creates, the second is the first for the session.
            script.extend((call < 2).then(minted));
            script.push(Act::Echo(status));
            if status == 401 {
                script.extend([minted(), Act::Echo(status)]);
            }
        }
        let said = all_that_is_said(&http, script, key()).await;
        assert_nothing_of(TOKEN, &said);
        assert_nothing_of(KEY, &said);
        assert!(said.contains("***"), "{said}");
    }
    // Not even as data.
    let mut session = ready();
    session["you"] = json!(["sent", format!("Bearer {TOKEN}")]);
    session["selected_transport"]["protocol"] = json!(TOKEN);
    let script = (0..9).map(|_| json_reply(200, session.clone())).collect();
    let said = all_that_is_said(&http, script, jwt()).await;
    assert_nothing_of(TOKEN, &said);
}
