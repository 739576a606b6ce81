// SPDX-License-Identifier: MIT

//! Rules that make the coordinator misbehave.

use std::time::{Duration, Instant};

use reactor_coordinator::{ApiRoute, Rule};
use reqwest::Method;
use serde_json::json;

use crate::client::{Client, KEY, creation};

#[tokio::test]
async fn queued_rules_apply_before_real_reply() {
    let client = Client::new();
    let token = client.unscoped().await;
    let coordinator = &client.coordinator;
    coordinator.next(ApiRoute::CreateSession, 2, Rule::retry_after(429, "2"));
    coordinator.next(
        ApiRoute::CreateSession,
        1,
        Rule::reply(503, r#"{"detail":"x"}"#),
    );
    for status in [429, 429] {
        let reply = client.create(&token, "m").await.expect(status);
        assert_eq!(reply.headers["retry-after"], "2");
    }
    let reply = client.create(&token, "m").await.expect(503);
    assert_eq!(reply.json(), json!({"detail": "x"}));
    assert!(coordinator.ledger().is_empty());
    client.create(&token, "m").await.expect(201);
    assert_eq!(coordinator.ledger().len(), 1);
    let statuses: Vec<_> = coordinator
        .requests(ApiRoute::CreateSession)
        .iter()
        .map(|r| r.status)
        .collect();
    assert_eq!(statuses, [Some(429), Some(429), Some(503), Some(201)]);
}

#[tokio::test]
async fn rule_applies_only_to_its_route() {
    let client = Client::new();
    client
        .coordinator
        .rule(ApiRoute::Tokens, Rule::reply(500, ""));
    for _ in 0..3 {
        client.ask_token(KEY, "null").await.expect(500);
    }
    client.coordinator.rule(ApiRoute::Tokens, Rule::Forward);
    let token = client.unscoped().await;
    let session = client.session(&token).await;
    let path = format!("/sessions/{session}");
    client
        .coordinator
        .rule(ApiRoute::DeleteSession, Rule::reply(502, ""));
    client.get(&path, &token).await.expect(200);
    client
        .get(&format!("{path}/info"), &token)
        .await
        .expect(200);
    client.delete(&path, &token).await.expect(502);
    assert_eq!(client.coordinator.open_sessions().len(), 1);
}

#[tokio::test]
async fn delay_rule_delays_reply() {
    let client = Client::new();
    let token = client.unscoped().await;
    let late = Duration::from_millis(300);
    for rule in [Rule::delay(late), Rule::reply(503, "").after(late)] {
        let expected = if matches!(&rule, Rule::After(_, rule) if matches!(**rule, Rule::Forward)) {
            201
        } else {
            503
        };
        client.coordinator.next(ApiRoute::CreateSession, 1, rule);
        let begun = Instant::now();
        client.create(&token, "m").await.expect(expected);
        assert!(begun.elapsed() >= late);
    }
    assert_eq!(client.coordinator.ledger().len(), 1);
}

#[tokio::test]
async fn hang_and_edit_rules_apply_to_reply() {
    let client = Client::new();
    let token = client.unscoped().await;
    let path = format!("/sessions/{}", client.session(&token).await);
    let coordinator = &client.coordinator;
    coordinator.next(ApiRoute::Session, 1, Rule::Hang);
    let call = client.get(&path, &token);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), call)
            .await
            .is_err()
    );
    let edit = |body: String| body.replace("PENDING", "UNHEARD_OF");
    coordinator.next(ApiRoute::Session, 1, Rule::edit_reply(edit));
    let session = client.get(&path, &token).await.expect(200).json();
    assert_eq!(session["state"], "UNHEARD_OF");
    let statuses: Vec<_> = coordinator
        .requests(ApiRoute::Session)
        .iter()
        .map(|r| r.status)
        .collect();
    assert_eq!(statuses, [None, Some(200)]);
}

#[tokio::test]
async fn admin_api_sets_rules() {
    let client = Client::new();
    let token = client.unscoped().await;
    let rules = "/_coordinator/rules";
    let rule = json!({
        "route": "create_session", "times": 1, "status": 429, "headers": {"Retry-After": "7"},
        "body": "{}",
    });
    client
        .send(Method::POST, rules, &[], rule.to_string())
        .await
        .expect(204);
    let reply = client.create(&token, "m").await.expect(429);
    assert_eq!(reply.headers["retry-after"], "7");
    assert_eq!(reply.text, "{}");
    client.create(&token, "m").await.expect(201);
    let standing = json!({"route": "tokens", "status": 500}).to_string();
    client
        .send(Method::POST, rules, &[], standing)
        .await
        .expect(204);
    client.ask_token(KEY, "").await.expect(500);
    client
        .send(Method::DELETE, rules, &[], "")
        .await
        .expect(204);
    client.ask_token(KEY, "").await.expect(201);
    for wrong in [r#"{"route":"unknown"}"#, r#"{"routes":"tokens"}"#, ""] {
        client
            .send(Method::POST, rules, &[], wrong)
            .await
            .expect(422);
    }
    let waiting = r#"{"answers":1}"#;
    client
        .send(Method::POST, "/_coordinator/waiting", &[], waiting)
        .await
        .expect(204);
    client
        .send(Method::POST, "/_coordinator/withdraw-tokens", &[], "")
        .await
        .expect(204);
    let body = creation("m").to_string();
    client
        .call(Method::POST, "/sessions", &token, &body)
        .await
        .expect(401);
}
