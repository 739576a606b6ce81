// SPDX-License-Identifier: MIT

use std::time::{Instant, SystemTime};

use super::*;
use crate::platform::{
    endpoint::Endpoint,
    http::testing::{Act, Server, http, json as json_reply, reply},
};

const KEY: &str = "rk_0123456789abcdef";
const HOUR: u64 = 3600;

/// A token of the server's that says nothing of its life, which is six hours.
fn minted(token: &str) -> Act {
    json_reply(201, json!({"jwt": token, "more": 1}))
}

fn model(name: &str) -> TokenScope {
    TokenScope::Model(name.to_owned(), None)
}

fn token_provider_with(
    server: &Server,
    access: ApiCredentials,
    tokens: &TokenCache,
) -> TokenProvider {
    let base = Url::parse(&server.base).unwrap();
    TokenProvider::new(http(), base, access, tokens.clone(), model("m")).unwrap()
}

fn token_provider(server: &Server) -> TokenProvider {
    let access = ApiCredentials::new(Some(KEY), Jwt::default());
    token_provider_with(server, access, &TokenCache::default())
}

/// A time some seconds after the first.
fn clock() -> impl Fn(u64) -> ClockReading {
    let (steady, wall) = (Instant::now(), SystemTime::now());
    move |seconds| ClockReading {
        steady: steady + Duration::from_secs(seconds),
        wall: wall + Duration::from_secs(seconds),
    }
}

async fn token(token_provider: &TokenProvider, now: ClockReading) -> String {
    token_provider.token(now).await.unwrap().expose().to_owned()
}

fn call() -> HttpRequest<'static> {
    HttpRequest::new(Method::GET, &["x"], "session", None)
}

#[tokio::test]
async fn api_key_is_exchanged_for_scoped_token() {
    let server = Server::start([minted(" a.b.c\n"), minted("d")]).await;
    let token_provider = token_provider(&server);
    assert_eq!(token(&token_provider, ClockReading::now()).await, "a.b.c");
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST /tokens HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains(&format!("\r\nreactor-api-key: {KEY}\r\n")));
    assert!(request.contains("\r\ncontent-type: application/json\r\n"));
    assert!(!request.contains("authorization: "), "{request}");
    let asked =
        |resources| json!({"authorization_details": [{"type": "session", "resources": resources}]});
    assert_eq!(server.body(0), asked(json!({"models": {"match": ["m"]}})));

    let session = token_provider.scoped(TokenScope::Session("s1".into()));
    assert_eq!(token(&session, ClockReading::now()).await, "d");
    let resources = json!({"models": {"all": true}, "sessions": {"bind": ["s1"]}});
    assert_eq!(server.body(1), asked(resources));
}

#[test]
fn token_limits_duration_of_sessions_within_bounds() {
    for (limit, seconds) in [(0, 1), (60, 60), (1 << 40, 86400)] {
        let scope = model("m").with_max_session_duration(Some(Duration::from_secs(limit)));
        let constraints = &scope.request()["authorization_details"][0]["constraints"];
        let expected = json!({"max_session_duration_seconds": seconds});
        assert_eq!(constraints, &expected);
    }
    let request = model("m").with_max_session_duration(None).request();
    assert!(!request.to_string().contains("constraints"));
}

#[tokio::test]
async fn token_is_shared_by_key_server_and_scope() {
    let server = Server::start(["a", "b", "c"].map(minted)).await;
    let other_server = Server::start([minted("d")]).await;
    let tokens = TokenCache::default();
    let access = |key: &str| ApiCredentials::new(Some(key), Jwt::default());
    let now = ClockReading::now();
    let first = token_provider_with(&server, access(KEY), &tokens);
    let again = token_provider_with(&server, access(&format!(" {KEY}\n")), &tokens);
    let other_key = token_provider_with(&server, access("rk_other"), &tokens);
    let other_place = token_provider_with(&other_server, access(KEY), &tokens);
    let other_model = first.scoped(model("n"));
    let mut seen = Vec::new();
    for token_provider in [
        &first,
        &again,
        &other_key,
        &other_model,
        &other_place,
        &first,
        &other_key,
    ] {
        seen.push(token(token_provider, now).await);
    }
    assert_eq!(seen, ["a", "a", "b", "c", "d", "a", "b"]);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn concurrent_requests_exchange_key_once() {
    let failure = || json_reply(500, json!({"detail": "no"}));
    let server = Server::start([failure(), minted("a"), failure()]).await;
    let token_provider = token_provider(&server);
    let at = clock();
    let all = async |now| {
        let callers = [(); 8].map(|()| {
            let token_provider = token_provider.clone();
            tokio::spawn(async move { token_provider.token(now).await })
        });
        let mut results = Vec::new();
        for caller in callers {
            results.push(caller.await.unwrap());
        }
        results
    };
    for result in all(at(0)).await {
        assert_eq!(result.unwrap_err().code, Code::ServerError);
    }
    assert_eq!(server.requests().len(), 1);
    for result in all(at(1)).await {
        assert_eq!(result.unwrap().expose(), "a");
    }
    assert_eq!(server.requests().len(), 2);
    // Due: one asks, in vain, and that is nobody's error.
    for result in all(at(5 * HOUR)).await {
        assert_eq!(result.unwrap().expose(), "a");
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn token_near_expiry_is_renewed() {
    let no = || reply(503, "retry-after: 100\r\n", "");
    let script = [minted("a"), no(), no(), minted("b"), no()];
    let server = Server::start(script).await;
    let token_provider = token_provider(&server);
    let at = clock();
    // Four fifths of six hours.
    let due = 6 * HOUR / 5 * 4;
    for (now, expected, asked) in [
        (0, "a", 1),
        (due - 1, "a", 1),
        (due, "a", 2),
        (due + 99, "a", 2),
        (due + 100, "a", 3),
        (due + 199, "a", 3),
        (due + 200, "b", 4),
        (2 * due + 199, "b", 4),
    ] {
        assert_eq!(token(&token_provider, at(now)).await, expected, "{now}");
        assert_eq!(server.requests().len(), asked, "{now}");
    }
    let error = token_provider
        .token(at(due + 200 + 6 * HOUR))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code, error.operation),
        (Code::ServerError, Some("tokens"))
    );
}

#[tokio::test]
async fn user_token_wins_and_can_be_replaced() {
    let server = Server::start([minted("ours")]).await;
    let jwt = Jwt::default();
    jwt.set(Some("theirs\n"));
    let access = ApiCredentials::new(Some(KEY), jwt.clone());
    let token_provider = token_provider_with(&server, access, &TokenCache::default());
    let at = clock();
    assert_eq!(token(&token_provider, at(0)).await, "theirs");
    assert_eq!(token(&token_provider, at(100 * HOUR)).await, "theirs");
    let refused = Secret::new("theirs");
    assert_eq!(
        token_provider.replace_refused(&refused, at(0)).await,
        Ok(None)
    );
    jwt.set(Some("new"));
    assert_eq!(token(&token_provider, at(0)).await, "new");
    let other = token_provider
        .replace_refused(&refused, at(0))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(other.expose(), "new");
    assert!(server.requests().is_empty());
    jwt.set(Some(" "));
    assert_eq!(token(&token_provider, at(0)).await, "ours");
}

#[tokio::test]
async fn missing_credentials_send_nothing() {
    let server = Server::start([minted("a")]).await;
    for key in [None, Some(""), Some(" \n")] {
        let access = ApiCredentials::new(key, Jwt::default());
        let endpoint =
            Endpoint::cloud(token_provider_with(&server, access, &TokenCache::default()));
        let error = endpoint.send(call()).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings);
        assert!(error.message.contains("REACTOR_API_KEY"), "{error}");
    }
    let access = ApiCredentials::new(Some("rk\nhunter2"), Jwt::default());
    let error = token_provider_with(&server, access, &TokenCache::default())
        .token(ClockReading::now())
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.code, Code::InvalidSettings);
    assert!(!error.message.contains("hunter2"), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn refused_api_key_reports_status() {
    for (status, code, advice) in [
        (400, Code::BadRequest, "no such"),
        (401, Code::Unauthorized, "check api-key"),
        (403, Code::Unauthorized, "may use that model"),
        (404, Code::NotFound, "api-url"),
        (429, Code::RateLimited, "quota"),
        (500, Code::ServerError, "no such"),
        (302, Code::DecodeFailed, "redirects"),
    ] {
        let no = json_reply(status, json!({"detail": "no such"}));
        let server = Server::start([no]).await;
        let error = token_provider(&server)
            .token(ClockReading::now())
            .await
            .unwrap_err();
        assert_eq!((&error.code, error.http_status), (&code, Some(status)));
        assert!(error.message.contains(": no such"), "{error}");
        assert!(error.message.contains(advice), "{error}");
    }
    for body in [
        "",
        "[]",
        "{}",
        r#"{"jwt":""}"#,
        r#"{"jwt":" "}"#,
        r#"{"jwt":5}"#,
        "<html>",
    ] {
        let server = Server::start([reply(200, "", body)]).await;
        let error = token_provider(&server)
            .token(ClockReading::now())
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::DecodeFailed, "{body}: {error}");
    }
}

#[tokio::test]
async fn refused_token_is_replaced_once() {
    let no = || json_reply(401, json!({"detail": "expired"}));
    let yes = || json_reply(200, json!({"a": 1}));
    let script = [
        minted("a"),
        no(),
        minted("b"),
        yes(),
        no(),
        minted("c"),
        no(),
    ];
    let server = Server::start(script).await;
    let endpoint = Endpoint::cloud(token_provider(&server));
    endpoint.send(call()).await.unwrap();
    let error = endpoint.send(call()).await.unwrap_err();
    assert_eq!(error.code, Code::Unauthorized);
    assert!(
        error.message.contains(": expired; check api-key"),
        "{error}"
    );
    let sent: Vec<_> = server
        .requests()
        .iter()
        .filter_map(|r| {
            r.split("authorization: Bearer ")
                .nth(1)?
                .split("\r\n")
                .next()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(sent, ["a", "b", "b", "c"]);
}

#[tokio::test]
async fn forbidden_request_is_not_retried() {
    let no = || json_reply(403, json!({"detail": "not yours"}));
    let server = Server::start([minted("a"), no(), minted("b")]).await;
    let error = Endpoint::cloud(token_provider(&server))
        .send(call())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code, error.http_status),
        (Code::Unauthorized, Some(403))
    );
    assert_eq!(server.requests().len(), 2);

    // Nor is the user's own token replaced, or sent twice.
    let jwt = Jwt::default();
    jwt.set(Some("theirs"));
    let unauthorized = json_reply(401, json!({"detail": "expired"}));
    let server = Server::start([unauthorized, minted("b")]).await;
    let token_provider = token_provider_with(
        &server,
        ApiCredentials::new(Some(KEY), jwt),
        &TokenCache::default(),
    );
    let error = Endpoint::cloud(token_provider)
        .send(call())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unauthorized);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn credentials_over_plain_http_are_refused() {
    let token_provider = |base: &str| {
        let access = ApiCredentials::new(Some(KEY), Jwt::default());
        let base = Url::parse(base).unwrap();
        TokenProvider::new(http(), base, access, TokenCache::default(), model("m"))
    };
    for base in [
        "https://api.reactor.inc",
        "https://10.0.0.1:8443/api",
        "http://localhost:8080",
        "http://127.0.0.2",
        "http://[::1]:8080",
        "http://[::ffff:127.0.0.1]",
    ] {
        token_provider(base).unwrap();
    }
    for base in [
        "http://api.reactor.inc",
        "http://localhost.example.com",
        "http://a.localhost",
        "http://10.0.0.1",
        "http://0.0.0.0:8080",
        "http://[::ffff:10.0.0.1]",
        "http://127.0.0.1.example.com",
    ] {
        let error = token_provider(base).unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings);
        assert!(error.message.ends_with("use https"), "{error}");
    }
}

#[tokio::test]
async fn ended_session_token_is_forgotten() {
    let server = Server::start(["a", "b", "c", "d"].map(minted)).await;
    let token_provider = token_provider(&server);
    let at = clock();
    let session = |id: &str| token_provider.scoped(TokenScope::Session(id.to_owned()));
    token(&token_provider, at(0)).await;
    token_provider.share_token(&Secret::new("a"), &session("1"), at(0));
    token_provider.share_token(&Secret::new("old"), &session("2"), at(0));
    assert_eq!(token(&session("1"), at(0)).await, "a");
    assert_eq!(token(&session("2"), at(0)).await, "b");
    assert_eq!(format!("{:?}", token_provider.tokens), "TokenCache(3)");
    session("1").forget();
    assert_eq!(token(&session("1"), at(0)).await, "c");
    // And what has expired, at the next occasion.
    assert_eq!(token(&session("3"), at(7 * HOUR)).await, "d");
    assert_eq!(format!("{:?}", token_provider.tokens), "TokenCache(1)");
}
