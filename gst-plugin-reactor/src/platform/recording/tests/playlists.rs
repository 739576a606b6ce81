// SPDX-License-Identifier: MIT

//! Playlists that are not ready, not complete, or not playlists.

use super::*;

fn not_yet() -> Answer {
    Answer::new(202, "{}")
}

/// A server whose playlist depends on the number of requests before.
async fn server(playlist: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Server {
    Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => playlist(request.nth),
        path if path.starts_with("/init") => Answer::new(200, init_section(1)),
        _ => Answer::new(200, segment(1, 100)),
    })
    .await
}

fn ready() -> Answer {
    Answer::new(200, playlist("init", ["a", "b"]))
}

#[tokio::test]
async fn playlist_not_ready_is_polled_within_limits() {
    let server = server(|n| match n {
        0 => not_yet().with_header("retry-after", "2"),
        1 => not_yet().with_header("retry-after", "0"),
        2 => not_yet(),
        _ => ready(),
    })
    .await;
    let limits = DownloadLimits {
        poll_interval: (Duration::from_millis(20), Duration::from_millis(40)),
        ..quick()
    };
    let (events, error) = all(server.playlist(), limits).await;
    assert_eq!(error, None);
    // Within the limits, whatever the server says.
    let waits = [40, 20, 40].map(|ms| DownloadEvent::NotReady(Duration::from_millis(ms)));
    assert_eq!(events[..3], waits);
    assert_eq!(segments_of(events).len(), 3);
    let usual = DownloadLimits::default().poll_interval;
    assert_eq!(usual, (Duration::from_millis(200), 2 * SECOND));
}

#[tokio::test]
async fn playlist_never_ready_fails_after_timeout() {
    let server = server(|_| not_yet()).await;
    let limits = DownloadLimits {
        ready_timeout: Some(2 * SECOND),
        ..quick()
    };
    let error = failure(server.playlist(), limits).await;
    assert_eq!(error.code, Code::ClipNotReady, "{error}");
    assert!(server.requests().len() > 1);
    assert!(error.message.contains("does the model still"), "{error}");
}

#[tokio::test]
async fn dripping_playlist_fails_after_timeout() {
    // Each of its bytes is in time, and it is never whole.
    let drip = Duration::from_millis(100);
    let server = server(move |_| Answer::new(200, vec![b'#'; 60_000]).paced(1, drip)).await;
    let limits = DownloadLimits {
        ready_timeout: Some(Duration::from_millis(300)),
        ..DownloadLimits::default()
    };
    let begin = std::time::Instant::now();
    let error = failure(server.playlist(), limits).await;
    assert_eq!(error.code, Code::ClipNotReady, "{error}");
    assert!(begin.elapsed() < 10 * SECOND, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn session_over_shortens_wait_for_playlist() {
    let server = server(|_| not_yet()).await;
    let limits = DownloadLimits {
        last_wait: Duration::from_millis(80),
        poll_interval: (Duration::from_millis(10), Duration::from_millis(10)),
        ..quick()
    };
    let mut download = Download::start(server.playlist(), limits.clone());
    for _ in 0..20 {
        let step = download.next().await;
        assert!(
            matches!(step, Some(Ok(DownloadEvent::NotReady(_)))),
            "{step:?}"
        );
    }
    let asked = server.requests().len();
    download.session_is_over();
    let (_, error) = rest(download).await;
    let error = error.unwrap();
    assert_eq!(error.code, Code::ClipNotReady, "{error}");
    assert!(error.message.contains("the session is over"), "{error}");
    // It was requested once more.
    assert!(server.requests().len() > asked);
    // Over from the beginning, and late.
    let server = self::server(|n| if n < 3 { not_yet() } else { ready() }).await;
    let limits = DownloadLimits {
        last_wait: Duration::from_secs(10),
        ..limits
    };
    let download = Download::start(server.playlist(), limits);
    download.session_is_over();
    let (events, error) = rest(download).await;
    assert_eq!((segments_of(events).len(), error), (3, None));
}

#[tokio::test]
async fn playlist_refused_maps_status_to_code() {
    for (status, code, tries) in [
        (400, Code::BadRequest, 1),
        (422, Code::BadRequest, 1),
        (401, Code::Unauthorized, 1),
        (403, Code::Unauthorized, 1),
        (404, Code::ClipGone, 1),
        (410, Code::ClipGone, 1),
        (409, Code::PlaylistFetchFailed, 1),
        (501, Code::PlaylistFetchFailed, 1),
        (302, Code::PlaylistFetchFailed, 1),
        (206, Code::PlaylistFetchFailed, 1),
        (429, Code::PlaylistFetchFailed, 3),
        (500, Code::PlaylistFetchFailed, 3),
        (503, Code::PlaylistFetchFailed, 3),
    ] {
        let server = server(move |_| {
            let body = r#"{"detail":"no such thing, nor sig=verysecret0123"}"#;
            Answer::new(status, body).with_header("location", "http://127.0.0.1:1/")
        })
        .await;
        let playlist = server.playlist_at("/clip.m3u8?sig=verysecret0123");
        let error = failure(playlist, quick()).await;
        assert_eq!((error.code, error.http_status), (code, Some(status)));
        assert_eq!(server.requests().len(), tries, "{status}");
        assert!(!error.message.contains("verysecret"), "{}", error.message);
        if status != 206 {
            assert!(error.message.contains("no such thing"), "{}", error.message);
        }
    }
}

#[tokio::test]
async fn playlist_with_transient_errors_is_retried() {
    let server = server(|n| match n {
        0 => Answer::new(503, "").with_header("retry-after", "0"),
        1 => Answer::new(200, playlist("init", ["a"])).cut_after(30),
        2 => not_yet(),
        3 | 4 => Answer::new(500, ""),
        _ => ready(),
    })
    .await;
    assert_eq!(segments(server.playlist(), quick()).await.len(), 3);
    // No server at all.
    let gone = server.playlist();
    drop(server);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let error = failure(gone, quick()).await;
    assert_eq!(error.code, Code::PlaylistFetchFailed, "{error}");
    assert_eq!(error.http_status, None);
}

#[tokio::test]
async fn playlist_growing_is_followed_until_complete() {
    let text = |names: &[&str]| Answer::new(200, open_playlist("init", names.iter().copied()));
    let server = server(move |n| match n {
        0 => text(&["a"]),
        1 | 2 => text(&["a", "b?signature=1"]),
        3 => Answer::new(503, ""),
        4 => text(&["a", "b?signature=2", "c", "d"]),
        _ => Answer::new(200, playlist("init", ["a", "b", "c", "d", "e"])),
    })
    .await;
    let (events, error) = all(server.playlist(), quick()).await;
    assert_eq!(error, None);
    let listed: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            DownloadEvent::Playlist {
                total, complete, ..
            } => Some((*total, *complete)),
            _ => None,
        })
        .collect();
    assert_eq!(listed.first(), Some(&(2, false)));
    assert_eq!(listed.last(), Some(&(6, true)));
    assert!(listed.is_sorted(), "{listed:?}");
    assert_eq!(segments_of(events).len(), 6);
    for path in ["/init", "/a", "/b", "/c", "/d", "/e"] {
        assert_eq!(server.count(path), 1, "{path}");
    }
}

#[tokio::test]
async fn playlist_stalled_fails_after_known_segments() {
    let server = server(|_| Answer::new(200, open_playlist("init", ["a", "b"]))).await;
    let limits = DownloadLimits {
        stall: Duration::from_millis(100),
        ..quick()
    };
    let (events, error) = all(server.playlist(), limits).await;
    assert_eq!(segments_of(events).len(), 3);
    let error = error.unwrap();
    assert_eq!(error.code, Code::ClipNotReady, "{error}");
    assert!(error.message.contains("does not grow"), "{error}");
}

#[tokio::test]
async fn growing_playlist_that_drips_fails_after_known_segments() {
    let drip = Duration::from_millis(100);
    let server = server(move |n| match n {
        0 => Answer::new(200, open_playlist("init", ["a", "b"])),
        _ => Answer::new(200, vec![b'#'; 60_000]).paced(1, drip),
    })
    .await;
    let limits = DownloadLimits {
        stall: Duration::from_millis(300),
        ..quick()
    };
    let begin = std::time::Instant::now();
    let (events, error) = all(server.playlist(), limits).await;
    assert_eq!(segments_of(events).len(), 3);
    let error = error.unwrap();
    assert_eq!(error.code, Code::ClipNotReady, "{error}");
    assert!(begin.elapsed() < 10 * SECOND, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn playlist_changing_earlier_entries_is_refused() {
    for (text, says) in [
        (playlist("init", ["a"]), "takes back"),
        (playlist("init", ["a", "x"]), "takes back"),
        (playlist("init2", ["a", "b"]), "takes back"),
        (
            playlist("init", ["b", "c"])
                .replace("4\n#EXT-X-MAP", "4\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-MAP"),
            "live stream",
        ),
        ("<html>".into(), "is no HLS playlist"),
    ] {
        let server = server(move |n| match n {
            0 => Answer::new(200, open_playlist("init", ["a", "b"])),
            _ => Answer::new(200, text.as_str()),
        })
        .await;
        let (events, error) = all(server.playlist(), quick()).await;
        let error = error.unwrap();
        assert_eq!(error.code, Code::InvalidPlaylist, "{error}");
        assert!(error.message.contains(says), "{error}");
        // The segments known before were delivered.
        assert_eq!(segments_of(events).len(), 3);
    }
}

#[tokio::test]
async fn response_not_a_clip_playlist_is_refused() {
    for (text, says) in [
        ("<html>sorry</html>".to_owned(), "is no HLS playlist"),
        (String::new(), "is no HLS playlist"),
        ("#EXTM3U\n#EXT-X-ENDLIST\n".into(), "lists nothing"),
        (
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n".into(),
            "other playlists",
        ),
        (
            playlist("file:///etc/passwd", ["a"]),
            "segment 1: its address is not an HTTP URL",
        ),
    ] {
        let server = server(move |_| Answer::new(200, text.as_str())).await;
        let error = failure(server.playlist_at("/clip.m3u8?s=verysecret0123"), quick()).await;
        assert_eq!(error.code, Code::InvalidPlaylist, "{error}");
        assert!(error.message.contains(says), "{error}");
        assert!(error.message.contains("/clip.m3u8 "), "{error}");
        assert!(!error.message.contains("verysecret"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn playlist_large_is_read_up_to_limit() {
    let names: Vec<_> = (0..50_000).map(|n| format!("{n}.m4s")).collect();
    let text = playlist("init", names.iter().map(String::as_str));
    assert!(text.lines().count() > 100_000);
    let server = server(move |_| Answer::new(200, text.as_str())).await;
    let mut download = Download::start(server.playlist(), quick());
    let step = tokio::time::timeout(20 * SECOND, download.next()).await;
    let listed = DownloadEvent::Playlist {
        total: 50_001,
        complete: true,
        duration: 200_000 * SECOND,
    };
    assert_eq!(step.unwrap().unwrap(), Ok(listed));
    drop(download);
    let limits = DownloadLimits {
        max_playlist: 1000,
        ..quick()
    };
    let error = failure(server.playlist(), limits).await;
    assert_eq!(error.code, Code::PlaylistFetchFailed, "{error}");
    assert!(error.message.contains("larger than 1000 bytes"), "{error}");
}
