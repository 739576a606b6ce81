// SPDX-License-Identifier: MIT

//! Which server receives which request and which credential.

use serde_json::json;
use url::Url;

use super::{super::location::MAX_ADDRESS, *};
use crate::platform::{
    auth::{ApiCredentials, Jwt, TokenCache, TokenProvider, TokenScope},
    endpoint::Endpoint,
};

const JWT: &str = "header.0123456789abcdef.signature";

fn bearer(base: &str, key: Option<&str>, jwt: Option<&str>) -> TokenProvider {
    let token = Jwt::default();
    token.set(jwt);
    let access = ApiCredentials::new(key, token);
    let base = Url::parse(base).unwrap();
    TokenProvider::new(
        http(),
        base,
        access,
        TokenCache::default(),
        TokenScope::Model("m".into(), None),
    )
    .unwrap()
}

fn authorized(request: &Request) -> bool {
    request.header("authorization") == Some(&format!("Bearer {JWT}"))
}

fn api(request: &Request) -> bool {
    request.header("reactor-api-version").is_some()
}

#[tokio::test]
async fn token_is_sent_to_playlist_server_only() {
    let other = Server::with_files([("/far", segment(2, 10)), ("/init", init_section(1))]).await;
    let text = playlist(
        &format!("{}/init?sig=x", other.base),
        ["near", &format!("{}/far?sig=y", other.base)],
    );
    let server = Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        _ => Answer::new(200, segment(1, 10)),
    })
    .await;
    let url = format!("{}/clip.m3u8", server.base);
    let token = bearer(&server.base, None, Some(JWT));
    let playlist = PlaylistLocation::from_url(http(), &url, Some(token.clone())).unwrap();
    assert!(!format!("{playlist:?}").contains(JWT));
    assert_eq!(segments(playlist, quick()).await.len(), 3);
    assert!(server.requests().iter().all(authorized));
    assert_eq!(server.requests().len(), 2);
    // A session's server receives the headers of all its calls.
    let endpoint = Endpoint::cloud(token);
    let playlist = PlaylistLocation::of_clip(&endpoint, "/clip.m3u8").unwrap();
    assert_eq!(segments(playlist, quick()).await.len(), 3);
    let own = &server.requests()[2..];
    assert!(own.len() == 2 && own.iter().all(|r| authorized(r) && api(r)));
    for request in other.requests() {
        assert_eq!(request.header("authorization"), None);
        assert!(!api(&request));
    }
    assert_eq!(other.requests().len(), 4);
    // A token for another server is not sent.
    let far = bearer("http://127.0.0.1:1", None, Some(JWT));
    let playlist = PlaylistLocation::from_url(http(), &url, Some(far)).unwrap();
    assert_eq!(segments(playlist, quick()).await.len(), 3);
    assert!(!server.requests()[4..].iter().any(authorized));
}

#[tokio::test]
async fn token_expired_during_download_is_renewed() {
    let tokens = ["first-token-0123456789", "other-token-0123456789"];
    let server = Server::with_handler(move |request| {
        let sent = request.header("authorization");
        let sent = sent.and_then(|text| text.strip_prefix("Bearer "));
        match request.path() {
            "/tokens" => {
                let body = json!({"jwt": tokens[request.nth]}).to_string();
                Answer::new(201, body)
            }
            // The first one ends once the playlist is there.
            "/clips" if sent == Some(tokens[0]) && request.nth == 0 => {
                Answer::new(200, playlist("init", ["a", "b"]))
            }
            _ if sent != Some(tokens[1]) => Answer::new(401, ""),
            "/init" => Answer::new(200, init_section(1)),
            _ => Answer::new(200, segment(1, 10)),
        }
    })
    .await;
    let endpoint = Endpoint::cloud(bearer(&server.base, Some("rk_key"), None));
    let playlist = PlaylistLocation::of_clip(&endpoint, "/clips?start=0&end=8").unwrap();
    assert_eq!(segments(playlist, quick()).await.len(), 3);
    assert_eq!(server.count("/tokens"), 2);
}

#[tokio::test]
async fn error_of_server_repeating_token_hides_it() {
    let server = Server::with_handler(|request| {
        let heard = request.header("authorization").unwrap_or_default();
        Answer::new(403, json!({"detail": format!("not {heard}")}).to_string())
    })
    .await;
    let url = format!("{}/clip?x=signature0123456", server.base);
    let token = bearer(&server.base, None, Some(JWT));
    let playlist = PlaylistLocation::from_url(http(), &url, Some(token)).unwrap();
    let error = failure(playlist, quick()).await;
    assert_eq!(error.code, Code::Unauthorized);
    assert!(error.message.contains("not Bearer ***"), "{error}");
    assert!(error.message.contains("check jwt or api-key"), "{error}");
    assert!(!error.message.contains("signature012"), "{error}");
}

#[tokio::test]
async fn redirect_of_segment_is_refused() {
    let target = Server::start([]).await;
    let location = format!("{}/x", target.base);
    let server = Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, playlist("init", ["a"])),
        "/init" => Answer::new(200, init_section(1)),
        _ => Answer::new(302, "").with_header("location", &location),
    })
    .await;
    let error = failure(server.playlist(), quick()).await;
    assert_eq!(error.code, Code::ChunkFetchFailed);
    assert_eq!(error.http_status, Some(302));
    assert!(
        error.message.ends_with("redirects are not followed"),
        "{error}"
    );
    assert!(target.requests().is_empty());
}

#[test]
fn clip_address_is_moved_to_session_server() {
    let endpoint = |base: &str| Endpoint::new(http(), base).unwrap();
    let url = |base: &str, path: &str| {
        let playlist = PlaylistLocation::of_clip(&endpoint(base), path)?;
        Ok::<_, Error>(playlist.url.to_string())
    };
    for (base, path, expected) in [
        ("http://h:81", "/clips?a=b&c=d", "http://h:81/clips?a=b&c=d"),
        ("http://h:81/", "clips?a=b", "http://h:81/clips?a=b"),
        (
            "https://h",
            "http://localhost:8080/clips?a",
            "https://h/clips?a",
        ),
        (
            "http://h:81",
            "https://api.example.com/v1/clips",
            "http://h:81/v1/clips",
        ),
        ("http://h:81", "//evil:9/../../clips", "http://h:81/clips"),
    ] {
        assert_eq!(url(base, path).unwrap(), expected);
    }
    for path in [
        "",
        "file:///etc/passwd",
        "data:,x",
        "http://",
        "http://u:hunter2@h/x",
    ] {
        let error = url("http://h", path).unwrap_err();
        assert_eq!(error.code, Code::InvalidPlaylist, "{path}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
    let error = url("http://h", &"p".repeat(MAX_ADDRESS)).unwrap_err();
    assert_eq!(error.code, Code::InvalidPlaylist);
    assert!(error.message.contains("longer than 8192 bytes"), "{error}");
}

#[test]
fn user_url_without_http_or_with_password_is_refused() {
    let at = |url: &str| PlaylistLocation::from_url(http(), url, None);
    let playlist = at(" https://h:1/a.m3u8?signature=hunter2#x ").unwrap();
    assert_eq!(playlist.display_url(), "https://h:1/a.m3u8");
    assert!(!format!("{playlist:?}").contains("hunter2"));
    for url in [
        "",
        "a.m3u8",
        "file:///a.m3u8",
        "http://",
        "http://u:hunter2@h/a",
        "http://hunter2@h/",
    ] {
        let error = at(url).unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings, "{url}");
        assert!(error.message.contains("expected a URL such as"), "{error}");
        assert!(!error.message.contains("hunter2"), "{error}");
    }
    let error = at(&format!("http://h/{}", "p".repeat(MAX_ADDRESS))).unwrap_err();
    assert_eq!(error.code, Code::InvalidSettings);
    assert!(error.message.contains("longer than 8192 bytes"), "{error}");
}
