// SPDX-License-Identifier: MIT

//! What a playlist may do before it is complete.

use super::*;

fn not_yet() -> Answer {
    Answer::new(202, "{}")
}

/// A site whose playlist comes from a function of how often it was asked for.
async fn site(playlist: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Site {
    Site::start(move |request| match request.path() {
        "/clip.m3u8" => playlist(request.nth),
        path if path.starts_with("/init") => Answer::new(200, header(1)),
        _ => Answer::new(200, segment(1, 100)),
    })
    .await
}

fn ready() -> Answer {
    Answer::new(200, playlist("init", ["a", "b"]))
}

#[tokio::test]
async fn waits_until_it_is_ready() {
    let site = site(|n| match n {
        0 => not_yet().with("retry-after", "2"),
        1 => not_yet().with("retry-after", "0"),
        2 => not_yet(),
        _ => ready(),
    })
    .await;
    let limits = Limits {
        ask_again: (Duration::from_millis(20), Duration::from_millis(40)),
        ..quick()
    };
    let (steps, error) = all(site.playlist(), limits).await;
    assert_eq!(error, None);
    // Never longer, and never shorter, whatever the server says.
    let waits = [40, 20, 40].map(|ms| Step::Waiting(Duration::from_millis(ms)));
    assert_eq!(steps[..3], waits);
    assert_eq!(pieces_of(steps).len(), 3);
    let usual = Limits::default().ask_again;
    assert_eq!(usual, (Duration::from_millis(200), 2 * SECOND));
}

#[tokio::test]
async fn does_not_wait_for_ever() {
    let site = site(|_| not_yet()).await;
    let limits = Limits {
        ready_timeout: Some(Duration::from_millis(300)),
        ..quick()
    };
    let error = failure(site.playlist(), limits).await;
    assert_eq!(error.code, Code::ClipNotReady, "{error}");
    assert!(site.requests().len() > 1);
    assert!(error.message.contains("does the model still"), "{error}");
}

#[tokio::test]
async fn the_end_of_the_session_ends_the_wait() {
    let site = site(|_| not_yet()).await;
    let limits = Limits {
        last_wait: Duration::from_millis(80),
        ask_again: (Duration::from_millis(10), Duration::from_millis(10)),
        ..quick()
    };
    let mut download = Download::start(site.playlist(), limits.clone());
    for _ in 0..20 {
        let step = download.next().await;
        assert!(matches!(step, Some(Ok(Step::Waiting(_)))), "{step:?}");
    }
    let asked = site.requests().len();
    download.session_is_over();
    let (_, error) = rest(download).await;
    let error = error.unwrap();
    assert_eq!(error.code, Code::ClipNotReady, "{error}");
    assert!(error.message.contains("the session is over"), "{error}");
    // It had its last chance.
    assert!(site.requests().len() > asked);
    // Over from the beginning, and late.
    let site = self::site(|n| if n < 3 { not_yet() } else { ready() }).await;
    let download = Download::start(site.playlist(), limits);
    download.session_is_over();
    let (steps, error) = rest(download).await;
    assert_eq!((pieces_of(steps).len(), error), (3, None));
}

#[tokio::test]
async fn refusals_of_the_playlist() {
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
        let site = site(move |_| {
            let body = r#"{"detail":"no such thing, nor sig=verysecret0123"}"#;
            Answer::new(status, body).with("location", "http://127.0.0.1:1/")
        })
        .await;
        let playlist = site.at("/clip.m3u8?sig=verysecret0123");
        let error = failure(playlist, quick()).await;
        assert_eq!((error.code, error.http_status), (code, Some(status)));
        assert_eq!(site.requests().len(), tries, "{status}");
        assert!(!error.message.contains("verysecret"), "{}", error.message);
        if status != 206 {
            assert!(error.message.contains("no such thing"), "{}", error.message);
        }
    }
}

#[tokio::test]
async fn what_passes_is_waited_out() {
    let site = site(|n| match n {
        0 => Answer::new(503, "").with("retry-after", "0"),
        1 => Answer::new(200, playlist("init", ["a"])).cut_after(30),
        2 => not_yet(),
        3 | 4 => Answer::new(500, ""),
        _ => ready(),
    })
    .await;
    assert_eq!(pieces(site.playlist(), quick()).await.len(), 3);
    // Nobody there at all.
    let gone = site.playlist();
    drop(site);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let error = failure(gone, quick()).await;
    assert_eq!(error.code, Code::PlaylistFetchFailed, "{error}");
    assert_eq!(error.http_status, None);
}

#[tokio::test]
async fn a_playlist_that_grows() {
    let text = |names: &[&str]| Answer::new(200, open_playlist("init", names.iter().copied()));
    let site = site(move |n| match n {
        0 => text(&["a"]),
        1 | 2 => text(&["a", "b?signature=1"]),
        3 => Answer::new(503, ""),
        4 => text(&["a", "b?signature=2", "c", "d"]),
        _ => Answer::new(200, playlist("init", ["a", "b", "c", "d", "e"])),
    })
    .await;
    let (steps, error) = all(site.playlist(), quick()).await;
    assert_eq!(error, None);
    let listed: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Listed {
                total, complete, ..
            } => Some((*total, *complete)),
            _ => None,
        })
        .collect();
    assert_eq!(listed.first(), Some(&(2, false)));
    assert_eq!(listed.last(), Some(&(6, true)));
    assert!(listed.is_sorted(), "{listed:?}");
    assert_eq!(pieces_of(steps).len(), 6);
    for path in ["/init", "/a", "/b", "/c", "/d", "/e"] {
        assert_eq!(site.count(path), 1, "{path}");
    }
}

#[tokio::test]
async fn a_playlist_that_stops_growing() {
    let site = site(|_| Answer::new(200, open_playlist("init", ["a", "b"]))).await;
    let limits = Limits {
        stall: Duration::from_millis(100),
        ..quick()
    };
    let (steps, error) = all(site.playlist(), limits).await;
    assert_eq!(pieces_of(steps).len(), 3);
    let error = error.unwrap();
    assert_eq!(error.code, Code::ClipNotReady, "{error}");
    assert!(error.message.contains("does not grow"), "{error}");
}

#[tokio::test]
async fn a_playlist_that_takes_back_what_it_said() {
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
        let site = site(move |n| match n {
            0 => Answer::new(200, open_playlist("init", ["a", "b"])),
            _ => Answer::new(200, text.as_str()),
        })
        .await;
        let (steps, error) = all(site.playlist(), quick()).await;
        let error = error.unwrap();
        assert_eq!(error.code, Code::InvalidPlaylist, "{error}");
        assert!(error.message.contains(says), "{error}");
        // What it did say was handed on.
        assert_eq!(pieces_of(steps).len(), 3);
    }
}

#[tokio::test]
async fn what_is_no_playlist_of_a_clip() {
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
        let site = site(move |_| Answer::new(200, text.as_str())).await;
        let error = failure(site.at("/clip.m3u8?s=verysecret0123"), quick()).await;
        assert_eq!(error.code, Code::InvalidPlaylist, "{error}");
        assert!(error.message.contains(says), "{error}");
        assert!(error.message.contains("/clip.m3u8 "), "{error}");
        assert!(!error.message.contains("verysecret"), "{error}");
        assert_eq!(site.requests().len(), 1);
    }
}

#[tokio::test]
async fn large_playlists() {
    let names: Vec<_> = (0..50_000).map(|n| format!("{n}.m4s")).collect();
    let text = playlist("init", names.iter().map(String::as_str));
    assert!(text.lines().count() > 100_000);
    let site = site(move |_| Answer::new(200, text.as_str())).await;
    let mut download = Download::start(site.playlist(), quick());
    let step = tokio::time::timeout(20 * SECOND, download.next()).await;
    let listed = Step::Listed {
        total: 50_001,
        complete: true,
        duration: 200_000 * SECOND,
    };
    assert_eq!(step.unwrap().unwrap(), Ok(listed));
    drop(download);
    let limits = Limits {
        max_playlist: 1000,
        ..quick()
    };
    let error = failure(site.playlist(), limits).await;
    assert_eq!(error.code, Code::PlaylistFetchFailed, "{error}");
    assert!(error.message.contains("larger than 1000 bytes"), "{error}");
}
