// SPDX-License-Identifier: MIT

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    sync::Mutex,
};

use super::*;
use crate::platform::http::testing::{Act, Answer, Server, http, json, raw, reply};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

fn slot(url: &str) -> Act {
    json(
        201,
        json!({"presigned_id": "abc", "presigned_url": url, "path": "x"}),
    )
}

fn cat() -> UploadSource {
    UploadSource::new(&b"meow"[..], "cat.png", None, 0).unwrap()
}

fn uploads(server: &Server) -> UploadClient {
    UploadClient::new(server.endpoint(), NIL)
}

/// For what does not answer.
const SHORT: Duration = Duration::from_millis(300);

async fn failure(script: impl IntoIterator<Item = Act>) -> Error {
    failure_within(UPLOAD_TIMEOUT, script).await
}

async fn failure_within(timeout: Duration, script: impl IntoIterator<Item = Act>) -> Error {
    let server = Server::start(script).await;
    let mut uploads = uploads(&server);
    uploads.timeout = timeout;
    let error = uploads.upload(&cat(), no_progress()).await.unwrap_err();
    assert_eq!(error.operation, Some("upload"));
    error
}

#[tokio::test]
async fn upload_sends_announcement_then_bytes() {
    // The runtime names itself; behind a proxy that is not where it is.
    for (created, stored) in [(201, 200), (200, 201), (201, 204)] {
        let slot = json(
            created,
            json!({"presigned_id": "abc", "presigned_url": "http://localhost:1/uploads/abc?s=1"}),
        );
        let server = Server::start([slot, reply(stored, "", "")]).await;
        let file = uploads(&server)
            .upload(&cat(), no_progress())
            .await
            .unwrap();
        let expected = FileRef {
            upload_id: "abc".into(),
            name: "cat.png".into(),
            mime_type: "image/png".into(),
            size: 4,
        };
        assert_eq!(file, expected);
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        let announced = requests[0].to_lowercase();
        assert!(announced.starts_with(&format!("post /sessions/{NIL}/uploads http")));
        assert!(announced.contains("reactor-api-version: 1"));
        let body = json!({"name": "cat.png", "size": 4, "mime_type": "image/png"});
        assert_eq!(server.body(0), body);
        let sent = requests[1].to_lowercase();
        assert!(sent.starts_with("put /uploads/abc?s=1 http"), "{sent}");
        assert!(sent.contains("\r\ncontent-type: image/png\r\n"));
        assert!(sent.contains("\r\ncontent-length: 4\r\n"));
        assert!(sent.ends_with("\r\n\r\nmeow"));
        assert!(!sent.contains("\r\nreactor-"), "{sent}");
        assert!(!sent.contains("\r\nauthorization:"), "{sent}");
        assert!(!sent.contains("\r\ncookie:"), "{sent}");
    }
}

#[tokio::test]
async fn large_upload_reports_progress_and_has_length() {
    let server = Server::with_handler(|request| match request.path() {
        "/put" => Answer::new(200, ""),
        _ => Answer::new(201, r#"{"presigned_id":"a","presigned_url":"/put"}"#),
    })
    .await;
    for (size, reported) in [(PROGRESS_MIN_SIZE - 1, false), (PROGRESS_MIN_SIZE, true)] {
        let states = Arc::new(Mutex::new(Vec::new()));
        let sink = states.clone();
        let progress: UploadProgress = Arc::new(move |state| sink.lock().unwrap().push(state));
        let source = UploadSource::new(vec![7; size as usize], "a.bin", None, 0).unwrap();
        uploads(&server).upload(&source, progress).await.unwrap();
        let requests = server.requests();
        let put = requests.iter().rfind(|r| r.path() == "/put").unwrap();
        assert_eq!(put.header("content-length"), Some(&*size.to_string()));
        assert_eq!(put.header("transfer-encoding"), None);
        let states = states.lock().unwrap();
        assert_eq!(!states.is_empty(), reported);
        let last = states
            .last()
            .map(|state| (state.name.as_str(), state.sent, state.size));
        assert!(
            last.is_none_or(|last| last == ("a.bin", size, size)),
            "{last:?}"
        );
        assert!(states.is_sorted_by_key(|state| state.sent));
    }
}

#[tokio::test]
async fn upload_to_other_host_sends_no_api_headers() {
    // Not an address of this machine's, so it is not replaced; none can be there.
    let error = failure_within(SHORT, [slot("http://255.255.255.255/x?signature=secret")]).await;
    assert!(error.message.contains("255.255.255.255/x"), "{error}");
    assert!(!error.message.contains("secret"), "{error}");
    assert!(matches!(
        error.code,
        Code::NetworkError | Code::RequestTimeout
    ));
}

#[tokio::test]
async fn upload_refused_by_server_reports_status() {
    for (status, code) in [
        (400, Code::BadRequest),
        (401, Code::Unauthorized),
        (404, Code::NotFound),
        (409, Code::Conflict),
        (422, Code::BadRequest),
        (500, Code::ServerError),
        (307, Code::DecodeFailed),
    ] {
        let no = || reply(status, "location: /y\r\n", r#"{"detail":"no such thing"}"#);
        let error = failure([no()]).await;
        assert_eq!((&error.code, error.http_status), (&code, Some(status)));
        assert!(error.message.contains("/uploads answered"), "{error}");
        assert!(error.message.contains(": no such thing"), "{error}");
        let error = failure([slot("/uploads/abc"), no()]).await;
        assert_eq!((&error.code, error.http_status), (&code, Some(status)));
        assert!(error.message.contains("/uploads/abc answered"), "{error}");
    }
}

#[tokio::test]
async fn upload_with_malformed_response_is_decode_error() {
    for body in [
        json!(null),
        json!([]),
        json!({}),
        json!({"presigned_id": "a"}),
        json!({"presigned_id": "", "presigned_url": "/x"}),
        json!({"presigned_id": 5, "presigned_url": "/x"}),
        json!({"presigned_id": "a", "presigned_url": null}),
        json!({"presigned_id": "a", "presigned_url": "http://"}),
        json!({"presigned_id": "a", "presigned_url": "file:///etc/passwd"}),
        json!({"presigned_id": "a", "presigned_url": "http://me:pw@host/x"}),
    ] {
        let error = failure([json(201, body.clone())]).await;
        assert_eq!(error.code, Code::DecodeFailed, "{body}: {error}");
        assert!(!error.message.contains("pw"), "{error}");
    }
    let error = failure([reply(201, "", "<html>")]).await;
    assert_eq!(error.code, Code::DecodeFailed);
    assert!(error.message.contains("is not JSON"));
}

#[tokio::test]
async fn upload_to_closed_server_is_network_error() {
    let error = failure([Act::Close]).await;
    assert_eq!(error.code, Code::NetworkError);
    for act in [
        Act::Close,
        raw("HTTP/1.1 200 X\r\ncontent-le"),
        raw("?\r\n"),
    ] {
        let error = failure([slot("/uploads/abc"), act]).await;
        assert_eq!(error.code, Code::NetworkError);
    }
    let error = failure_within(SHORT, [slot("/uploads/abc"), Act::Silence]).await;
    assert_eq!(error.code, Code::RequestTimeout);
    assert!(error.message.contains("300ms"), "{error}");
}

#[test]
fn upload_timeout_grows_with_size() {
    assert_eq!(upload_timeout(1, UPLOAD_TIMEOUT), Duration::from_secs(30));
    assert_eq!(
        upload_timeout(1 << 20, UPLOAD_TIMEOUT),
        Duration::from_secs(46)
    );
    let most = upload_timeout(512 << 20, UPLOAD_TIMEOUT);
    assert_eq!(most, Duration::from_secs(30 + 8192));
}

#[test]
fn upload_target_of_runtime_is_resolved() {
    let base = Url::parse("https://api.example.com:8443/reactor").unwrap();
    for (text, expected) in [
        (
            "uploads/a",
            "https://api.example.com:8443/reactor/uploads/a",
        ),
        (
            "/uploads/a?b=c",
            "https://api.example.com:8443/uploads/a?b=c",
        ),
        ("http://localhost:80/a", "https://api.example.com:8443/a"),
        ("http://LOCALHOST./a", "https://api.example.com:8443/a"),
        ("http://x.localhost/a", "https://api.example.com:8443/a"),
        ("http://127.1.2.3/a", "https://api.example.com:8443/a"),
        ("http://0.0.0.0:8080/a", "https://api.example.com:8443/a"),
        ("http://[::1]:8080/a", "https://api.example.com:8443/a"),
        (
            "http://[::ffff:127.0.0.1]/a",
            "https://api.example.com:8443/a",
        ),
        ("http://[::]/a", "https://api.example.com:8443/a"),
        (
            "https://localhost.example.com/a",
            "https://localhost.example.com/a",
        ),
        ("http://10.0.0.1:9/a?x=%2F", "http://10.0.0.1:9/a?x=%2F"),
    ] {
        assert_eq!(
            resolve_target(text, &base, Trust::Runtime)
                .unwrap()
                .as_str(),
            expected
        );
    }
    let local = Url::parse("http://127.0.0.1:8080").unwrap();
    for (text, expected) in [
        ("http://localhost:1234/a", "http://127.0.0.1:8080/a"),
        ("https://localhost/a", "http://127.0.0.1:8080/a"),
        ("uploads/a", "http://127.0.0.1:8080/uploads/a"),
    ] {
        assert_eq!(
            resolve_target(text, &local, Trust::Runtime)
                .unwrap()
                .as_str(),
            expected
        );
    }
    let plain = Url::parse("http://runtime").unwrap();
    let url = resolve_target("http://localhost:8080/a", &plain, Trust::Runtime).unwrap();
    assert_eq!(url.as_str(), "http://runtime/a");
}

#[test]
fn upload_target_of_cloud_is_restricted() {
    let to = |text, base| {
        let base = Url::parse(base).unwrap();
        resolve_target(text, &base, Trust::Server).map(|url| url.to_string())
    };
    let (cloud, stand_in) = ("https://api.example.com/v1", "http://127.0.0.1:80/v1");
    let bucket = "https://bucket.example.net/a?signature=b%2Fc";
    assert_eq!(to(bucket, cloud).unwrap(), bucket);
    assert_eq!(
        to("uploads/a", cloud).unwrap(),
        "https://api.example.com/v1/uploads/a"
    );
    for text in [
        "http://bucket.example.net/a",
        "https://localhost/a",
        "http://127.0.0.1:8080/a",
        "https://[::1]/a",
    ] {
        assert!(to(text, cloud).is_err(), "{text}");
    }
    let other = "http://127.0.0.1:8080/a";
    assert_eq!(to(other, stand_in).unwrap(), other);
    assert_eq!(to("/a", stand_in).unwrap(), "http://127.0.0.1/a");
}

#[test]
fn upload_source_has_name_type_and_size() {
    for (name, mime, told) in [
        ("a.png", None, ("a.png", "image/png")),
        ("A.JPEG", None, ("A.JPEG", "image/jpeg")),
        ("a.mp4", None, ("a.mp4", "video/mp4")),
        ("a.wav", None, ("a.wav", "audio/wav")),
        ("a.txt", None, ("a.txt", "text/plain")),
        ("a", None, ("a", DEFAULT_MIME_TYPE)),
        ("", None, ("upload", DEFAULT_MIME_TYPE)),
        ("a.png", Some("image/webp"), ("a.png", "image/webp")),
    ] {
        let source = UploadSource::new(vec![1], name, mime, 0).unwrap();
        assert_eq!((source.name(), source.mime_type()), told);
    }
    for mime in ["", "png", "image/png\r\nX: y", "bild/\u{e4}\0"] {
        let error = UploadSource::new(vec![1], "a", Some(mime), 0).unwrap_err();
        assert_eq!(error.code, Code::BadRequest, "{mime:?}");
    }
    assert!(UploadSource::new(vec![], "a", None, 0).is_err());
    assert_eq!(
        format!("{:?}", cat()),
        "UploadSource { name: \"cat.png\", mime_type: \"image/png\", size: 4 }"
    );
}

/// A directory of its own for a test's files.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("reactor-upload-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn upload_file_is_read() {
    let directory = Directory::new("read");
    let path = directory.file("a cat.png", b"meow");
    let source = read_file(&path, None, None, DEFAULT_MAX_SIZE)
        .await
        .unwrap();
    let expected = UploadSource::new(&b"meow"[..], "a cat.png", None, 0).unwrap();
    assert_eq!(source, expected);
    let source = read_file(&path, None, Some("x/y"), 0).await.unwrap();
    assert_eq!((source.mime_type(), source.size()), ("x/y", 4));
    // The type follows from the name that is given, and then from the file's own.
    for (name, mime_type) in [("b.webp", "image/webp"), ("b", "image/png")] {
        let source = read_file(&path, Some(name), None, 0).await.unwrap();
        assert_eq!((source.name(), source.mime_type()), (name, mime_type));
    }
}

#[tokio::test]
async fn unusable_upload_file_is_refused() {
    let directory = Directory::new("refused");
    let empty = directory.file("empty", b"");
    let large = directory.0.join("large");
    let file = File::create(&large).unwrap();
    file.set_len(DEFAULT_MAX_SIZE + 1).unwrap();
    for (path, part) in [
        (directory.0.join("missing.png"), "there is no file \""),
        (directory.0.clone(), "is a directory; give a file"),
        (empty, "is empty"),
        (
            large,
            "has 67108865 bytes, more than the 67108864 of max-upload-size",
        ),
        (directory.0.join("nul\0"), "cannot be read"),
        (PathBuf::new(), "there is no file \"\""),
        (PathBuf::from("/dev/null"), "is not a regular file"),
    ] {
        let error = read_file(&path, None, None, DEFAULT_MAX_SIZE)
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::BadRequest);
        assert_eq!(error.operation, Some("upload"));
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn upload_file_changed_while_read_is_refused() {
    let directory = Directory::new("changes");
    let path = directory.file("a", b"meow");
    let append = || {
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"!").unwrap();
    };
    let shrink = || {
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1)
            .unwrap()
    };
    let touch = || {
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    let changes: [&dyn Fn(); 3] = [&append, &shrink, &touch];
    for change in changes {
        let error = read_bytes(&path, 0, change).unwrap_err();
        assert!(
            error.message.contains("changed while it was read"),
            "{error}"
        );
    }
    read_bytes(&path, 0, || ()).unwrap();
}

#[test]
fn upload_client_is_described_by_its_server() {
    let client = UploadClient::new(Endpoint::new(http(), "http://127.0.0.1:1").unwrap(), "x");
    assert!(format!("{client:?}").contains("127.0.0.1"));
}
