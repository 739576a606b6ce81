// SPDX-License-Identifier: MIT

//! Downloads from a server on 127.0.0.1.

mod credentials;
mod playlists;
mod transfers;

use std::time::Duration;

use super::{testing::*, *};
use crate::platform::{Code, Error};

const SECOND: Duration = Duration::from_secs(1);

/// As in the default limits.
const PARALLEL: usize = 6;
const RENEWALS: u32 = 3;

#[tokio::test]
async fn segments_arriving_out_of_order_are_delivered_in_order() {
    let addresses: Vec<_> = (0..20).map(|n| format!("/s/{n}.m4s")).collect();
    let text = playlist("/s/init.mp4", addresses.iter().map(String::as_str));
    let server = Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/s/init.mp4" => file(&init_section(1), request),
        path => {
            let n: usize = path[3..path.len() - 4].parse().unwrap();
            // The later ones are faster.
            let delay = Duration::from_millis(if n.is_multiple_of(3) { 15 } else { 0 });
            file(&segment(n, 500 + n), request).delayed(delay)
        }
    })
    .await;
    let (events, error) = all(server.playlist(), quick()).await;
    assert_eq!(error, None);
    let listed = DownloadEvent::Playlist {
        total: 21,
        complete: true,
        duration: 80 * SECOND,
    };
    assert_eq!(events[0], listed);
    let segments = segments_of(events);
    assert_eq!(segments.len(), 21);
    assert_eq!(segments[0].kind, SegmentKind::InitSection);
    assert_eq!(segments[0].bytes, init_section(1));
    for (n, fetched) in segments[1..].iter().enumerate() {
        assert_eq!(fetched.bytes, segment(n, 500 + n), "{n}");
        assert_eq!(
            (fetched.duration, fetched.discontinuity),
            (4 * SECOND, false)
        );
    }
    assert_eq!(server.requests().len(), 22);
}

#[tokio::test]
async fn segments_are_fetched_in_parallel_up_to_limit() {
    const LATE: Duration = Duration::from_millis(20);
    let addresses: Vec<_> = (0..60).map(|n| format!("{n}")).collect();
    let text = playlist("init", addresses.iter().map(String::as_str));
    let server = Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/init" => Answer::new(200, init_section(1)).delayed(LATE),
        _ => Answer::new(200, segment(1, 5000)).delayed(LATE),
    })
    .await;
    for parallel in [1, PARALLEL] {
        let since = std::time::Instant::now();
        let limits = DownloadLimits {
            parallel,
            ..quick()
        };
        assert_eq!(segments(server.playlist(), limits).await.len(), 61);
        println!("{parallel} at once took {:?}", since.elapsed());
        assert_eq!(server.most_at_once(), parallel);
    }
}

#[tokio::test]
async fn clip_larger_than_memory_limit_is_complete() {
    const SIZE: usize = 100 << 10;
    let names: Vec<_> = (0..12).map(|n| format!("{n}")).collect();
    let text = playlist("init", names.iter().map(String::as_str));
    let server = Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/init" => Answer::new(200, init_section(1)),
        _ => Answer::new(200, segment(1, SIZE)),
    })
    .await;
    // Less than one segment, a few, and nothing.
    for memory in [0, SIZE / 2, 2 * SIZE + 2048, 64 * SIZE] {
        let limits = DownloadLimits { memory, ..quick() };
        assert_eq!(
            segments(server.playlist(), limits).await.len(),
            13,
            "{memory}"
        );
    }
}

#[tokio::test]
async fn download_not_received_fetches_only_ahead() {
    let names: Vec<_> = (0..12).map(|n| format!("{n}")).collect();
    let text = playlist("init", names.iter().map(String::as_str));
    let server = Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/init" => Answer::new(200, init_section(1)),
        _ => Answer::new(200, segment(1, 10)),
    })
    .await;
    let mut download = Download::start(server.playlist(), quick());
    let listed = download.next().await;
    assert!(matches!(listed, Some(Ok(DownloadEvent::Playlist { .. }))));
    until(|| server.requests().len() > PARALLEL).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Two on the way to us, and those that are fetched ahead.
    let asked = server.requests().len() - 1;
    assert!((PARALLEL..=PARALLEL + 2).contains(&asked), "{asked}");
    let (events, error) = rest(download).await;
    assert_eq!((segments_of(events).len(), error), (13, None));
}

#[tokio::test]
async fn download_dropped_closes_connections() {
    let names: Vec<_> = (0..12).map(|n| format!("{n}")).collect();
    let text = playlist("init", names.iter().map(String::as_str));
    let server = Server::with_handler(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/init" => Answer::new(200, init_section(1)),
        // They begin, and never end.
        _ => Answer::new(200, segment(1, 5000)).hanging_after(1000),
    })
    .await;
    let limits = DownloadLimits {
        idle: 60 * SECOND,
        ..quick()
    };
    let mut download = Download::start(server.playlist(), limits);
    for _ in 0..2 {
        assert!(download.next().await.unwrap().is_ok());
    }
    until(|| server.connections() == PARALLEL).await;
    drop(download);
    until(|| server.connections() == 0).await;
    let asked = server.requests().len();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.requests().len(), asked);
}

/// Waits for what is bound to come.
async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(10 * SECOND, wait).await.unwrap();
}

#[test]
fn window_of_query_needs_start_before_end() {
    let window = |query: &str| {
        let url = format!("http://h/clips?{query}");
        PlaylistLocation::from_url(http(), &url, None)
            .unwrap()
            .window()
    };
    assert_eq!(
        window("session_id=x&start=1.500&end=4.25"),
        Some((1.5, 4.25))
    );
    assert_eq!(window("end=4&start=0"), Some((0.0, 4.0)));
    for query in [
        "",
        "start=1",
        "end=1",
        "start=2&end=1",
        "start=-1&end=1",
        "start=NaN&end=1",
        "start=0&end=inf",
        "start=a&end=b",
        "start=1&end=1",
    ] {
        assert_eq!(window(query), None, "{query}");
    }
}
