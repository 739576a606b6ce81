// SPDX-License-Identifier: MIT

//! Keys, tokens and their scopes.

use std::time::{Duration, Instant};

use reactor_coordinator::{ApiRoute, CoordinatorSettings, digest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, KEY, OTHER_KEY, creation, id, jwt, scope};

/// The times in a token's claims: issued at, expiry.
fn times(token: &str) -> (u64, u64) {
    let data = jsonwebtoken::dangerous::insecure_decode::<Value>(token).expect("a JWT");
    let time = |name: &str| data.claims[name].as_u64().expect(name);
    (time("iat"), time("exp"))
}

#[tokio::test]
async fn token_request_without_valid_key_is_refused() {
    let client = Client::new();
    let without = client.send(Method::POST, "/tokens", &[], "null").await;
    without.expect(401);
    // A key is no token.
    let bearer = [("authorization", "Bearer rk_test")];
    let reply = client.send(Method::POST, "/tokens", &bearer, "null").await;
    reply.expect(401);
    client.ask_token("rk_wrong", "null").await.expect(401);
    let token = jwt(&client.ask_token(KEY, "null").await.expect(201));
    let (issued, expiry) = times(&token);
    assert_eq!(expiry - issued, 6 * 3600);
}

#[tokio::test]
async fn token_request_body_is_validated() {
    let client = Client::new();
    let all = json!({"models": {"all": true}});
    let seconds = |seconds: i64| scope(&all, &json!({"max_session_duration_seconds": seconds}));
    let both = json!({"models": {"all": true, "match": ["m"]}});
    let cases = [
        (String::new(), 201),
        ("null".into(), 201),
        ("{}".into(), 422),
        ("[]".into(), 422),
        ("nonsense".into(), 422),
        (json!({"expires_after": 60}).to_string(), 201),
        (json!({"expires_after": 0}).to_string(), 422),
        (json!({"expires_after": "1"}).to_string(), 422),
        (json!({"authorization_details": []}).to_string(), 422),
        (json!({"authorisation_details": []}).to_string(), 422),
        (scope(&all, &json!({})).to_string(), 201),
        (
            scope(&json!({"models": {"match": ["m"]}}), &json!({})).to_string(),
            201,
        ),
        (
            scope(&json!({"models": {"match": []}}), &json!({})).to_string(),
            422,
        ),
        (scope(&json!({"models": {}}), &json!({})).to_string(), 422),
        (scope(&both, &json!({})).to_string(), 422),
        (scope(&json!({}), &json!({})).to_string(), 422),
        (seconds(1).to_string(), 201),
        (seconds(86_400).to_string(), 201),
        (seconds(0).to_string(), 422),
        (seconds(86_401).to_string(), 422),
        (scope(&all, &json!({"max_sessions": 0})).to_string(), 422),
        (
            scope(
                &json!({"models": {"all": true}, "sessions": {"bind": ["x"]}}),
                &json!({}),
            )
            .to_string(),
            403,
        ),
        (
            json!({"authorization_details": [{"type": "x", "resources": all}]}).to_string(),
            422,
        ),
    ];
    for (body, status) in cases {
        let reply = client.ask_token(KEY, &body).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
    }
}

#[tokio::test]
async fn token_lifetime_is_clamped() {
    let client = Client::with(CoordinatorSettings {
        token_lifetime: Duration::from_secs(100),
        ..CoordinatorSettings::default()
    });
    for (asked, given) in [(60, 60), (100, 100), (1_000_000, 100)] {
        let token = client.token(&json!({"expires_after": asked})).await;
        let (issued, expiry) = times(&token);
        assert_eq!(expiry - issued, given, "{asked}");
    }
}

#[tokio::test]
async fn request_without_valid_token_is_refused() {
    let client = Client::new();
    let token = client.unscoped().await;
    let session = client.session(&token).await;
    // The same claims, signed with another key.
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&token).unwrap();
    let key = jsonwebtoken::EncodingKey::from_secret(b"a guess");
    let forged = jsonwebtoken::encode(&claims.header, &claims.claims, &key).unwrap();
    let signaling = format!("/sessions/{session}/transport/webrtc");
    let calls = [
        (
            Method::POST,
            "/sessions".to_owned(),
            creation("m").to_string(),
        ),
        (Method::GET, format!("/sessions/{session}"), String::new()),
        (
            Method::GET,
            format!("/sessions/{session}/info"),
            String::new(),
        ),
        (
            Method::DELETE,
            format!("/sessions/{session}"),
            String::new(),
        ),
        (
            Method::POST,
            format!("/sessions/{session}/uploads"),
            String::new(),
        ),
        (
            Method::GET,
            format!("{signaling}/ice_servers"),
            String::new(),
        ),
        (
            Method::POST,
            format!("{signaling}/connections"),
            String::new(),
        ),
        (
            Method::GET,
            format!("{signaling}/connections/5000/sdp_params"),
            String::new(),
        ),
        (
            Method::GET,
            format!("/clips?session_id={session}&start=0&end=1"),
            String::new(),
        ),
        (Method::GET, "/clips".into(), String::new()),
        // It is not revealed either whether such a session exists.
        (Method::GET, "/sessions/unknown".into(), String::new()),
    ];
    for (method, path, body) in calls {
        let without = client.send(method.clone(), &path, &[], body.clone()).await;
        assert_eq!(without.status, 401, "{path}");
        assert_eq!(without.headers["www-authenticate"], "Bearer");
        for token in ["", "garbage", KEY, &forged] {
            let reply = client.call(method.clone(), &path, token, &body).await;
            assert_eq!(reply.status, 401, "{path} with {token}");
        }
    }
    client
        .get(&format!("/sessions/{session}"), &token)
        .await
        .expect(200);
    assert_eq!(client.coordinator.ledger().len(), 1);
}

#[tokio::test]
async fn expired_token_is_refused() {
    let client = Client::with(CoordinatorSettings {
        token_lifetime: Duration::from_secs(2),
        ..CoordinatorSettings::default()
    });
    let token = client.unscoped().await;
    let path = format!("/sessions/{}", client.session(&token).await);
    let begun = Instant::now();
    while client.get(&path, &token).await.status == 200 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it never expires"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.get(&path, &token).await.expect(401);
    // A new token of the account continues where the old one was.
    let renewed = client.unscoped().await;
    client.get(&path, &renewed).await.expect(200);
}

#[tokio::test]
async fn withdrawn_token_is_refused() {
    let client = Client::new();
    let token = client.unscoped().await;
    let path = format!("/sessions/{}", client.session(&token).await);
    client.coordinator.withdraw_tokens();
    client.get(&path, &token).await.expect(401);
    client
        .get(&path, &client.unscoped().await)
        .await
        .expect(200);
}

#[tokio::test]
async fn scoped_token_reaches_only_its_model_and_sessions() {
    let client = Client::new();
    let only_m = scope(&json!({"models": {"match": ["m"]}}), &json!({}));
    let token = client.token(&only_m).await;
    client.create(&token, "another").await.expect(403);
    let session = id(&client.create(&token, "m").await.expect(201));
    let path = format!("/sessions/{session}");
    client.get(&path, &token).await.expect(200);
    // Of the same account and model, but not the session's creator.
    let second = client.token(&only_m).await;
    client.get(&path, &second).await.expect(403);
    client.delete(&path, &second).await.expect(403);
    // A token for all models does not reach it either, if it is scoped.
    let all = client
        .token(&scope(&json!({"models": {"all": true}}), &json!({})))
        .await;
    client.get(&path, &all).await.expect(403);
    client
        .get(&path, &client.unscoped().await)
        .await
        .expect(200);
}

#[tokio::test]
async fn bound_token_reaches_only_its_session() {
    let client = Client::new();
    let owner = client.unscoped().await;
    let (session, other) = (client.session(&owner).await, client.session(&owner).await);
    let resources = json!({"models": {"all": true}, "sessions": {"bind": [session]}});
    let bound = client.token(&scope(&resources, &json!({}))).await;
    client
        .get(&format!("/sessions/{session}"), &bound)
        .await
        .expect(200);
    client
        .get(&format!("/sessions/{other}"), &bound)
        .await
        .expect(403);
    client.create(&bound, "m").await.expect(403);
    // The bound session counts: this allows one more.
    let two = client
        .token(&scope(&resources, &json!({"max_sessions": 2})))
        .await;
    client.create(&two, "m").await.expect(201);
    client.create(&two, "m").await.expect(403);
    // Only while it is open, and only for its account.
    let body = scope(&resources, &json!({})).to_string();
    client.ask_token(OTHER_KEY, &body).await.expect(403);
    client
        .delete(&format!("/sessions/{session}"), &bound)
        .await
        .expect(204);
    client.ask_token(KEY, &body).await.expect(403);
}

#[tokio::test]
async fn session_of_other_account_is_refused() {
    let client = Client::new();
    let session = client.session(&client.unscoped().await).await;
    let other = jwt(&client.ask_token(OTHER_KEY, "").await.expect(201));
    client
        .get(&format!("/sessions/{session}"), &other)
        .await
        .expect(403);
    client
        .delete(&format!("/sessions/{session}"), &other)
        .await
        .expect(403);
    assert_eq!(client.coordinator.open_sessions()[0].account, digest(KEY));
}

#[tokio::test]
async fn log_and_ledger_contain_no_secret() {
    let client = Client::new();
    let token = client.unscoped().await;
    let session = client.session(&token).await;
    client
        .get(&format!("/sessions/{session}"), &token)
        .await
        .expect(200);
    let stored = format!(
        "{}/uploads/x?signature={token}",
        client.coordinator.storage_url()
    );
    client.send(Method::PUT, &stored, &[], "").await.expect(403);
    let log = client
        .send(Method::GET, "/_coordinator/requests", &[], "")
        .await;
    let ledger = client
        .send(Method::GET, "/_coordinator/ledger", &[], "")
        .await;
    for text in [&log.text, &ledger.text] {
        assert!(!text.contains(&token) && !text.contains(KEY), "{text}");
    }
    // The log still shows which secret was sent where.
    let asked = &client.coordinator.requests(ApiRoute::Tokens)[0];
    assert_eq!(asked.header("reactor-api-key"), Some(digest(KEY).as_str()));
    let bearer = format!("Bearer {}", digest(&token));
    let got = &client.coordinator.requests(ApiRoute::Session)[0];
    assert_eq!(got.header("authorization"), Some(bearer.as_str()));
    assert_eq!(got.status, Some(200));
}
