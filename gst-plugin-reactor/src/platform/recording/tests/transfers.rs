// SPDX-License-Identifier: MIT

//! Transfers of segments, and their failures.

use std::sync::{Arc, Mutex};

use super::*;

/// A clip of an initialization section and one segment, answered by a function.
async fn serve_one(segment: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
    Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, playlist("init", ["a"])),
        "/init" => Answer::new(200, init_section(1)),
        _ => segment(request),
    })
    .await
}

async fn fail_with(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Error, usize) {
    let server = serve_one(answer).await;
    let error = failure(server.playlist(), quick()).await;
    assert_eq!(error.code, Code::ChunkFetchFailed, "{error}");
    (error, server.count("/a"))
}

#[tokio::test]
async fn byte_ranges_are_fetched_with_and_without_server_support() {
    let whole = [
        init_section(1),
        segment(1, 700),
        segment(2, 900),
        segment(3, 50),
    ];
    let sizes: Vec<_> = whole.iter().map(Vec::len).collect();
    let text = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"all\",BYTERANGE=\"{}@0\"\n\
         #EXTINF:4,\n#EXT-X-BYTERANGE:{}@{}\nall\n\
         #EXTINF:4,\n#EXT-X-BYTERANGE:{}\nall\n\
         #EXTINF:4,\n#EXT-X-BYTERANGE:{}\nall\n#EXT-X-ENDLIST\n",
        sizes[0], sizes[1], sizes[0], sizes[2], sizes[3]
    );
    let file_of = whole.concat();
    // A server that supports ranges, and one that does not.
    for ranges in [true, false] {
        let (text, all) = (text.clone(), file_of.clone());
        let server = Server::with_handler(move |request| match request.path() {
            "/clip.m3u8" => Answer::new(200, text.as_str()),
            _ if ranges => file(&all, request),
            _ => Answer::new(200, all.as_slice()),
        })
        .await;
        let segments = segments(server.playlist(), quick()).await;
        let bytes: Vec<_> = segments.iter().map(|p| p.bytes.to_vec()).collect();
        assert_eq!(bytes, whole, "{ranges}");
        if !ranges {
            // No more is received than a segment may have.
            let limits = DownloadLimits {
                max_segment: 1200,
                ..quick()
            };
            let error = failure(server.playlist(), limits).await;
            assert!(error.message.contains("does not give a part"), "{error}");
        }
    }
}

#[tokio::test]
async fn byte_range_not_served_as_requested_is_refused() {
    let ranged = "#EXTM3U\n#EXT-X-MAP:URI=\"init\"\n#EXTINF:4,\n#EXT-X-BYTERANGE:500@100\na\n#EXT-X-ENDLIST\n";
    let short = segment(1, 300);
    for (answer, says) in [
        (
            Answer::new(206, short.clone()).with_header("content-range", "bytes 0-499/900"),
            "another part",
        ),
        (
            Answer::new(206, short.clone()).with_header("content-range", "bytes 100-700/900"),
            "another part",
        ),
        (Answer::new(206, short.clone()), "another part"),
        (
            Answer::new(206, short.clone()).with_header("content-range", "bytes x"),
            "another part",
        ),
        (
            Answer::new(200, short.clone()),
            "shorter than the playlist says",
        ),
        (Answer::new(416, ""), "416"),
    ] {
        let server = Server::with_handler(move |request| match request.path() {
            "/clip.m3u8" => Answer::new(200, ranged),
            "/init" => Answer::new(200, init_section(1)),
            _ => answer.clone(),
        })
        .await;
        let error = failure(server.playlist(), quick()).await;
        assert_eq!(error.code, Code::ChunkFetchFailed, "{error}");
        assert!(error.message.contains(says), "{error}");
        assert_eq!(server.count("/a"), 1);
    }
}

#[tokio::test]
async fn init_sections_changing_are_fetched_once_each() {
    let text = "#EXTM3U\n#EXT-X-MAP:URI=\"1.mp4\"\n#EXTINF:4,\na\n#EXT-X-MAP:URI=\"1.mp4\"\n#EXTINF:4,\nb\n\
        #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"2.mp4\"\n#EXTINF:2.5,\nc\n\
        #EXT-X-MAP:URI=\"1.mp4\"\n#EXTINF:4,\nd\n#EXT-X-ENDLIST\n";
    let server = Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text),
        "/1.mp4" => Answer::new(200, init_section(1)).delayed(Duration::from_millis(20)),
        "/2.mp4" => Answer::new(200, init_section(2)),
        _ => Answer::new(200, segment(7, 10)),
    })
    .await;
    let segments = segments(server.playlist(), quick()).await;
    let (one, two, media) = (init_section(1), init_section(2), segment(7, 10));
    let (one, two, media) = (&one[..], &two[..], &media[..]);
    let expected = [
        (true, one),
        (false, media),
        (false, media),
        (true, two),
        (false, media),
        (true, one),
        (false, media),
    ];
    assert_eq!(contents(&segments), expected);
    let broken: Vec<_> = segments
        .iter()
        .map(|segment| segment.discontinuity)
        .collect();
    assert_eq!(broken, [false, false, false, false, true, false, false]);
    assert_eq!(segments[4].duration, Duration::from_millis(2500));
    assert_eq!(segments[3].duration, Duration::ZERO);
    assert_eq!(server.count("/1.mp4"), 1);
}

#[tokio::test]
async fn transfer_interrupted_resumes_with_range() {
    let media = segment(1, 50_000);
    for tag in ["etag", "last-modified", "x"] {
        let value = match tag {
            "etag" => "\"v1\"",
            _ => "Sun, 06 Nov 1994 08:49:37 GMT",
        };
        let all = media.clone();
        let server = serve_one(move |request| {
            let answer = file(&all, request).with_header(tag, value);
            match request.nth {
                0 => answer.cut_after(20_000),
                1 => answer.hanging_after(10_000),
                _ => answer,
            }
        })
        .await;
        let limits = DownloadLimits {
            idle: Duration::from_millis(500),
            ..quick()
        };
        let segments = segments(server.playlist(), limits).await;
        assert_eq!(segments[1].bytes, media);
        let asked: Vec<_> = server
            .requests()
            .into_iter()
            .filter(|r| r.path() == "/a")
            .collect();
        assert_eq!(asked.len(), 3);
        assert_eq!(asked[0].header("range"), None);
        assert_eq!(asked[1].header("range"), Some("bytes=20000-"));
        assert_eq!(asked[2].header("range"), Some("bytes=30000-"));
        let expected = (tag != "x").then_some(value);
        assert_eq!(asked[1].header("if-range"), expected);
    }
}

#[tokio::test]
async fn transfer_that_cannot_resume_restarts() {
    let media = segment(1, 50_000);
    let other = segment(2, 50_000);
    let longer = segment(2, 50_001);
    // The server does not support ranges; has another file by now, and says
    // so, or has one of another size; sends another range; or none.
    for case in 0..5 {
        let (first, second) = match case {
            0 => (media.clone(), media.clone()),
            2 => (media.clone(), longer.clone()),
            _ => (media.clone(), other.clone()),
        };
        let expected = second.clone();
        let server = serve_one(move |request| match (request.nth, case) {
            (0, _) => Answer::new(200, first.as_slice())
                .with_header("etag", "\"1\"")
                .cut_after(20_000),
            (1, 2) => file(&second, request),
            (1, 3) => {
                Answer::new(206, &second[..10]).with_header("content-range", "bytes 0-9/50043")
            }
            (1, 4) => Answer::new(416, ""),
            _ => Answer::new(200, second.as_slice()),
        })
        .await;
        let segments = segments(server.playlist(), quick()).await;
        assert_eq!(segments[1].bytes, expected, "{case}");
        let asked = if case < 2 { 2 } else { 3 };
        assert_eq!(server.count("/a"), asked, "{case}");
    }
}

#[tokio::test]
async fn range_shorter_than_requested_is_continued() {
    let media = segment(1, 50_000);
    let all = media.clone();
    let server = serve_one(move |request| {
        let Some(first) = request.header("range") else {
            return Answer::new(200, all.as_slice()).cut_after(20_000);
        };
        let first: usize = first[6..first.len() - 1].parse().unwrap();
        let last = (first + 25_000).min(all.len()) - 1;
        let range = format!("bytes {first}-{last}/{}", all.len());
        Answer::new(206, &all[first..=last]).with_header("content-range", &range)
    })
    .await;
    let segments = segments(server.playlist(), quick()).await;
    assert_eq!(segments[1].bytes, media);
    assert_eq!(server.count("/a"), 3);
}

#[tokio::test]
async fn request_failing_is_retried_up_to_limit() {
    let media = segment(1, 5000);
    let (error, asked) = fail_with(|_| Answer::new(503, "")).await;
    assert_eq!((error.http_status, asked), (Some(503), 3));
    let all = media.clone();
    let (error, asked) = fail_with(move |_| Answer::new(200, all.as_slice()).cut_after(10)).await;
    assert_eq!(asked, 3, "{error}");
    // A body larger than Content-Length is cut, a smaller one breaks off.
    let all = media.clone();
    let (error, asked) =
        fail_with(move |_| Answer::new(200, all.as_slice()).with_content_length(6000)).await;
    assert_eq!(asked, 3, "{error}");
    // One that always brings some bytes, and then restarts.
    let large = segment(1, 600 << 10);
    let (error, asked) = fail_with(move |request| match request.header("range") {
        Some(_) => Answer::new(416, ""),
        None => Answer::new(200, large.as_slice()).cut_after(500 << 10),
    })
    .await;
    assert!(asked <= 4, "{error}: {asked}");
    for status in [204, 302, 409, 501] {
        let (error, asked) = fail_with(move |_| Answer::new(status, "")).await;
        assert_eq!((error.http_status, asked), (Some(status), 1));
    }
}

#[tokio::test]
async fn body_idle_or_slow_fails() {
    let server = serve_one(|_| Answer::new(200, segment(1, 5000)).hanging_after(100)).await;
    let limits = DownloadLimits {
        idle: Duration::from_millis(50),
        ..quick()
    };
    let error = failure(server.playlist(), limits).await;
    assert_eq!(error.code, Code::ChunkFetchFailed);
    assert!(error.message.contains("nothing more came"), "{error}");
    // Never idle, and never done.
    let pause = Duration::from_millis(5);
    let server = serve_one(move |_| Answer::new(200, segment(1, 5000)).paced(1, pause)).await;
    let limits = DownloadLimits {
        grace: Duration::from_millis(60),
        ..quick()
    };
    let error = failure(server.playlist(), limits).await;
    assert_eq!(error.code, Code::ChunkFetchFailed);
    assert!(
        error.message.contains("too slowly") || error.message.contains("nothing more came"),
        "{error}"
    );
    assert_eq!(server.count("/a"), 3);
}

#[tokio::test]
async fn segment_larger_than_limit_is_refused() {
    let (error, asked) =
        fail_with(|_| Answer::new(200, segment(1, 10)).with_content_length(10_000_000_000)).await;
    assert!(
        error.message.contains("is larger than the 67108864 bytes"),
        "{error}"
    );
    assert_eq!(asked, 1);
    // Without Content-Length.
    let server = serve_one(|_| {
        let mut body = b"500000\r\n".to_vec();
        body.resize(0x50_0000 + 8, 0);
        let answer = Answer::new(200, body).without_content_length();
        answer.with_header("transfer-encoding", "chunked")
    })
    .await;
    let limits = DownloadLimits {
        max_segment: 1 << 20,
        ..quick()
    };
    let error = failure(server.playlist(), limits).await;
    assert!(
        error.message.contains("is larger than the 1048576 bytes"),
        "{error}"
    );
    // An initialization section must be smaller.
    let server = Server::with_handler(|request| match request.path() {
        "/clip.m3u8" => Answer::new(200, playlist("init", ["a"])),
        _ => Answer::new(200, "").with_content_length(5 << 20),
    })
    .await;
    let error = failure(server.playlist(), quick()).await;
    assert!(
        error.message.contains("is larger than the 4194304 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn segment_not_mp4_is_fetched_once_more() {
    for (body, says) in [
        (b"<html>Please log in</html>".to_vec(), "is not MP4"),
        (Vec::new(), "is empty"),
        (segment(1, 100)[..80].to_vec(), "is cut short or damaged"),
        (init_section(1), "holds no fragment"),
    ] {
        let (error, asked) = fail_with(move |_| Answer::new(200, body.as_slice())).await;
        assert!(error.message.contains(says), "{error}");
        assert!(error.message.contains("/a ("), "{error}");
        assert_eq!(asked, 2);
    }
    // The fault may be transient.
    let server = serve_one(|request| match request.nth {
        0 => Answer::new(200, "<html>"),
        _ => Answer::new(200, segment(1, 10)),
    })
    .await;
    assert_eq!(segments(server.playlist(), quick()).await.len(), 2);
}

#[tokio::test]
async fn signed_address_expired_reloads_playlist() {
    let valid = Arc::new(Mutex::new(0));
    for status in [400, 401, 403, 410] {
        let names: Vec<_> = (0..8).map(|n| format!("{n}")).collect();
        let valid = valid.clone();
        let server = Server::with_handler(move |request| {
            let mut valid = valid.lock().unwrap();
            if request.path() == "/clip.m3u8" {
                *valid += 1;
                let signed: Vec<_> = names.iter().map(|n| format!("{n}?s={valid}")).collect();
                let text = playlist("init", signed.iter().map(String::as_str));
                return Answer::new(200, text);
            }
            let signed = request.target.ends_with(&format!("?s={valid}"));
            match request.path() {
                "/init" => Answer::new(200, init_section(1)),
                _ if !signed => Answer::new(status, "s=expired0123456789"),
                // Ends twice: at the third segment, and at the sixth.
                "/2" | "/5" if request.nth == 0 => {
                    *valid += 1;
                    Answer::new(status, "")
                }
                _ => Answer::new(200, segment(1, 10)),
            }
        })
        .await;
        let limits = DownloadLimits {
            parallel: 2,
            ..quick()
        };
        assert_eq!(
            segments(server.playlist(), limits).await.len(),
            9,
            "{status}"
        );
        assert_eq!(server.count("/clip.m3u8"), 3, "{status}");
    }
}

#[tokio::test]
async fn signed_address_never_accepted_fails_after_renewals() {
    // New ones each time, that are not taken either.
    let server = Server::with_handler(|request| match request.path() {
        "/clip.m3u8" => {
            let signed = format!("a?signature=secret012345-{}", request.nth);
            Answer::new(200, playlist("init", [signed.as_str()]))
        }
        "/init" => Answer::new(200, init_section(1)),
        _ => Answer::new(403, format!("no: {}", request.target))
            .with_header("content-type", "text/plain"),
    })
    .await;
    let error = failure(server.playlist(), quick()).await;
    assert_eq!(error.code, Code::ChunkFetchFailed);
    assert_eq!(error.http_status, Some(403));
    assert!(!error.message.contains("secret012345"), "{error}");
    assert_eq!(server.count("/a"), 1 + RENEWALS as usize);
    // The address is unchanged: no further request.
    for status in [403, 404] {
        let server = serve_one(move |_| Answer::new(status, "")).await;
        let error = failure(server.playlist(), quick()).await;
        assert_eq!(error.code, Code::ChunkFetchFailed);
        assert_eq!((server.count("/clip.m3u8"), server.count("/a")), (2, 1));
    }
    // The clip is gone meanwhile.
    let server = Server::with_handler(|request| match (request.path(), request.nth) {
        ("/clip.m3u8", 0) => Answer::new(200, playlist("init", ["a"])),
        ("/init", _) => Answer::new(200, init_section(1)),
        _ => Answer::new(410, ""),
    })
    .await;
    let error = failure(server.playlist(), quick()).await;
    assert_eq!(error.code, Code::ClipGone);
    assert_eq!(error.http_status, Some(410));
}
