// SPDX-License-Identifier: MIT

use std::time::{Duration, Instant, SystemTime};

use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use super::{
    testing::{Act, Server, http, json as json_reply, raw, reply},
    *,
};
use crate::platform::{Code, Error, endpoint::Endpoint};

fn call(path: &'static [&'static str]) -> HttpRequest<'static> {
    HttpRequest::new(Method::GET, path, "session", None)
}

async fn outcome(act: Act) -> Result<Value, Error> {
    let server = Server::start([act]).await;
    let reply = server.endpoint().send(call(&["session"])).await?;
    reply.json()
}

async fn failure(act: Act) -> Error {
    let error = outcome(act).await.unwrap_err();
    assert_eq!(error.operation, Some("session"));
    error
}

#[tokio::test]
async fn request_sends_headers_and_reads_json() {
    let server = Server::start([json_reply(200, json!({"a": 1}))]).await;
    let mut call = call(&["a b", "c/d"]);
    call.method = Method::POST;
    call.body = Some(json!({"x": 2}));
    let reply = server.endpoint().send(call).await.unwrap();
    assert_eq!(reply.json().unwrap(), json!({"a": 1}));
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST /a%20b/c%2Fd HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("reactor-api-version: 1\r\n"), "{request}");
    assert!(request.contains("reactor-api-accept-version: 1\r\n"));
    assert!(request.contains("user-agent: gst-plugin-reactor/"));
    assert!(request.contains("content-type: application/json\r\n"));
    assert_eq!(server.body(0), json!({"x": 2}));
}

#[tokio::test]
async fn refused_connection_is_network_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let endpoint = Endpoint::new(http(), &base).unwrap();
    let error = endpoint.send(call(&["session"])).await.unwrap_err();
    assert_eq!(error.code, Code::NetworkError);
    let expected = format!("nothing answers at {base}/session");
    assert!(error.message.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn malformed_http_is_network_error() {
    for act in [
        raw("\x16\x03\x01garbage\0\0\r\n\r\n"),
        raw("HTTP/9.9 lots\r\n\r\n"),
        raw(""),
        Act::Close,
    ] {
        let error = failure(act).await;
        assert_eq!(error.code, Code::NetworkError, "{error}");
        assert!(error.recoverable());
    }
}

#[tokio::test]
async fn silent_server_is_request_timeout() {
    let server = Server::start([Act::Silence]).await;
    let http = HttpClient::with_timeout(Duration::from_millis(150)).unwrap();
    let endpoint = Endpoint::new(http, &server.base).unwrap();
    let started = Instant::now();
    let error = endpoint.send(call(&["session"])).await.unwrap_err();
    assert_eq!(error.code, Code::RequestTimeout, "{error}");
    assert_eq!(error.operation, Some("session"));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn endless_body_is_request_timeout() {
    let server = Server::start([raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")]).await;
    let http = HttpClient::with_timeout(Duration::from_millis(150)).unwrap();
    let endpoint = Endpoint::new(http, &server.base).unwrap();
    let error = endpoint.send(call(&["session"])).await.unwrap_err();
    assert!(
        matches!(error.code, Code::RequestTimeout | Code::NetworkError),
        "{error}"
    );
}

#[tokio::test]
async fn web_page_as_response_is_decode_error() {
    let error = failure(reply(200, "content-type: text/html\r\n", "<html>hi</html>")).await;
    assert_eq!(error.code, Code::DecodeFailed);
    assert_eq!(error.http_status, Some(200));
    assert!(
        error
            .message
            .contains("does not look like a Reactor runtime"),
        "{error}"
    );
}

#[tokio::test]
async fn oversized_body_is_decode_error() {
    let announced = failure(raw("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n{")).await;
    assert_eq!(announced.code, Code::DecodeFailed, "{announced}");
    let piece = vec![b' '; 1 << 20];
    let mut pieces = vec![b"HTTP/1.1 200 OK\r\n\r\n".to_vec()];
    pieces.extend(std::iter::repeat_n(piece, 8));
    let endless = failure(Act::Reply(pieces)).await;
    assert_eq!(endless.code, Code::DecodeFailed, "{endless}");
    assert!(endless.message.contains("larger than"), "{endless}");
}

#[tokio::test]
async fn split_response_is_joined() {
    let whole =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
    let pieces = whole.bytes().map(|byte| vec![byte]).collect();
    assert_eq!(outcome(Act::Reply(pieces)).await.unwrap(), json!({"a": 1}));
}

#[tokio::test]
async fn truncated_body_is_network_error() {
    let error = failure(raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\"")).await;
    assert_eq!(error.code, Code::NetworkError, "{error}");
}

#[tokio::test]
async fn error_status_keeps_server_detail() {
    let body = json!({"detail": format!("still\u{7} \u{202e}loading\n{}", "x".repeat(1000))});
    let error = failure(reply(503, "retry-after: 1\r\n", &body.to_string())).await;
    assert_eq!(error.code, Code::ServerError);
    assert_eq!(error.http_status, Some(503));
    assert_eq!(error.retry_after, Some(Duration::from_secs(1)));
    let message = error
        .message
        .strip_suffix("; the server is busy, try again later");
    let detail = message.unwrap().split_once(": still").unwrap().1;
    assert!(detail.starts_with(" loading xxx"), "{detail}");
    assert!(detail.chars().count() <= 300, "{}", detail.len());

    let list = json!({"detail": [
        {"loc": ["body", "port_range", 0], "msg": "too big", "type": "x"},
        {"msg": "wrong"}, 5,
    ]});
    let error = failure(json_reply(422, list)).await;
    assert_eq!(error.code, Code::BadRequest);
    assert!(
        error
            .message
            .ends_with(": body.port_range.0: too big; wrong"),
        "{error}"
    );

    for (status, code) in [
        (401, Code::Unauthorized),
        (404, Code::NotFound),
        (409, Code::Conflict),
        (426, Code::VersionMismatch),
        (429, Code::RateLimited),
        (500, Code::ServerError),
        (501, Code::VersionMismatch),
    ] {
        let error = failure(reply(status, "", "Internal Server Error")).await;
        assert_eq!((error.code, error.http_status), (code, Some(status)));
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let target = Server::start([json_reply(200, json!({}))]).await;
    let location = format!("location: {}/session\r\n", target.base);
    let error = failure(reply(302, &location, "")).await;
    assert_eq!(error.code, Code::DecodeFailed);
    assert_eq!(error.http_status, Some(302));
    assert!(target.requests().is_empty());
}

#[test]
fn invalid_base_url_is_refused() {
    let endpoint = |base: &str| Endpoint::new(http(), base);
    for base in [
        "",
        "127.0.0.1:8080",
        "localhost:8080",
        "ftp://h",
        "file:///etc",
        "http://",
        "http://u:hunter2@h",
        "u:hunter2@h:1",
        "//u:hunter2@h",
        "http://hunter2@h",
        "http://h?a=hunter2",
        "http://h#hunter2",
        "http://h:99999",
        "\u{202e}\u{7}",
    ] {
        let error = endpoint(base).unwrap_err();
        assert_eq!(error.code, Code::InvalidSettings, "{base}");
        assert!(error.message.contains("expected a URL such as"), "{error}");
        assert!(!error.message.contains("hunter2"), "{error}");
        assert!(!error.message.contains(char::is_control), "{error}");
    }
    let shown = |base| endpoint(base).unwrap().display_url();
    assert_eq!(shown(" http://h:8080/ "), "http://h:8080");
    assert_eq!(shown("https://h/prefix/"), "https://h/prefix");
}

#[tokio::test]
async fn base_url_prefix_is_kept() {
    let server = Server::start([json_reply(200, json!({})), json_reply(200, json!({}))]).await;
    for base in ["/prefix", "/prefix/"] {
        let base = format!("{}{base}", server.base);
        let endpoint = Endpoint::new(http(), &base).unwrap();
        endpoint.send(call(&["session"])).await.unwrap();
    }
    for request in server.requests() {
        assert!(request.starts_with("GET /prefix/session "), "{request}");
    }
}

#[test]
fn displayed_url_has_no_secrets() {
    let url = Url::parse("http://u:p@h:1/x/?token=1#f").unwrap();
    assert_eq!(display_url(&url), "http://h:1/x");
}

#[test]
fn retry_after_is_seconds_or_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
    let seconds = |value| parse_retry_after(value, now).map(|after| after.as_secs_f64());
    assert_eq!(seconds("3"), Some(3.0));
    assert_eq!(seconds(" 1.5 "), Some(1.5));
    assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(77.0));
    assert_eq!(seconds("Sun, 06 Nov 1994 08:40:00 GMT"), Some(0.0));
    for value in [
        "",
        "-1",
        "NaN",
        "inf",
        "1e300",
        "soon",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 99999999999 08:49:37 GMT",
        "Thu, 01 Foo 1970 00:00:00 GMT",
    ] {
        assert_eq!(seconds(value), None, "{value}");
    }
}
