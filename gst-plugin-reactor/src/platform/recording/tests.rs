// SPDX-License-Identifier: MIT

mod transfers;
mod waiting;
mod whom;

use std::time::Duration;

use super::{testing::*, *};
use crate::platform::http::testing::http;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_clip_is_fetched_in_order() {
    let addresses: Vec<_> = (0..20).map(|n| format!("/s/{n}.m4s")).collect();
    let text = playlist("/s/init.mp4", addresses.iter().map(String::as_str));
    let site = Site::start(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/s/init.mp4" => file(&header(1), request),
        path => {
            let n: usize = path[3..path.len() - 4].parse().unwrap();
            // The later ones are faster.
            let delay = Duration::from_millis(if n.is_multiple_of(3) { 15 } else { 0 });
            file(&segment(n, 500 + n), request).late(delay)
        }
    })
    .await;
    let (steps, error) = all(site.playlist(), quick()).await;
    assert_eq!(error, None);
    let listed = Step::Listed {
        total: 21,
        complete: true,
        duration: 80 * SECOND,
    };
    assert_eq!(steps[0], listed);
    let pieces = pieces_of(steps);
    assert_eq!(pieces.len(), 21);
    assert_eq!(pieces[0].kind, PieceKind::Header);
    assert_eq!(pieces[0].bytes, header(1));
    for (n, piece) in pieces[1..].iter().enumerate() {
        assert_eq!(piece.bytes, segment(n, 500 + n), "{n}");
        assert_eq!((piece.duration, piece.discontinuity), (4 * SECOND, false));
    }
    assert_eq!(site.requests().len(), 22);
}

#[tokio::test]
async fn pieces_are_fetched_side_by_side() {
    const LATE: Duration = Duration::from_millis(20);
    let addresses: Vec<_> = (0..60).map(|n| format!("{n}")).collect();
    let text = playlist("init", addresses.iter().map(String::as_str));
    let site = Site::start(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/init" => Answer::new(200, header(1)).late(LATE),
        _ => Answer::new(200, segment(1, 5000)).late(LATE),
    })
    .await;
    for parallel in [1, PARALLEL] {
        let since = std::time::Instant::now();
        let limits = Limits {
            parallel,
            ..quick()
        };
        assert_eq!(pieces(site.playlist(), limits).await.len(), 61);
        println!("{parallel} at once took {:?}", since.elapsed());
        assert_eq!(site.most_at_once(), parallel);
    }
}

#[tokio::test]
async fn a_clip_larger_than_the_budget() {
    const SIZE: usize = 100 << 10;
    let names: Vec<_> = (0..12).map(|n| format!("{n}")).collect();
    let text = playlist("init", names.iter().map(String::as_str));
    let site = Site::start(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/init" => Answer::new(200, header(1)),
        _ => Answer::new(200, segment(1, SIZE)),
    })
    .await;
    // Less than one piece, a few, and nothing.
    for budget in [0, SIZE / 2, 2 * SIZE + 2048, 64 * SIZE] {
        let limits = Limits { budget, ..quick() };
        assert_eq!(pieces(site.playlist(), limits).await.len(), 13, "{budget}");
    }
}

#[tokio::test]
async fn what_nobody_takes_is_not_fetched() {
    let names: Vec<_> = (0..12).map(|n| format!("{n}")).collect();
    let text = playlist("init", names.iter().map(String::as_str));
    let site = Site::start(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/init" => Answer::new(200, header(1)),
        _ => Answer::new(200, segment(1, 10)),
    })
    .await;
    let mut download = Download::start(site.playlist(), quick());
    let listed = download.next().await;
    assert!(matches!(listed, Some(Ok(Step::Listed { .. }))));
    until(|| site.requests().len() > PARALLEL).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Two on the way to us, and those that are fetched ahead.
    let asked = site.requests().len() - 1;
    assert!((PARALLEL..=PARALLEL + 2).contains(&asked), "{asked}");
    let (steps, error) = rest(download).await;
    assert_eq!((pieces_of(steps).len(), error), (13, None));
}

#[tokio::test]
async fn dropping_it_ends_everything() {
    let names: Vec<_> = (0..12).map(|n| format!("{n}")).collect();
    let text = playlist("init", names.iter().map(String::as_str));
    let site = Site::start(move |request| match request.path() {
        "/clip.m3u8" => Answer::new(200, text.as_str()),
        "/init" => Answer::new(200, header(1)),
        // They begin, and never end.
        _ => Answer::new(200, segment(1, 5000)).hanging_after(1000),
    })
    .await;
    let limits = Limits {
        idle: 60 * SECOND,
        ..quick()
    };
    let mut download = Download::start(site.playlist(), limits);
    for _ in 0..2 {
        assert!(download.next().await.unwrap().is_ok());
    }
    until(|| site.connections() == PARALLEL).await;
    drop(download);
    until(|| site.connections() == 0).await;
    let asked = site.requests().len();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(site.requests().len(), asked);
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
fn windows() {
    let window = |query: &str| {
        let url = format!("http://h/clips?{query}");
        Playlist::at(http(), &url, None).unwrap().window()
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
