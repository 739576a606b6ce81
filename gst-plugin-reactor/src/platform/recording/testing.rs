// SPDX-License-Identifier: MIT

//! Clips for unit tests, and what a download makes of them. The server they
//! are on is [`http::testing::Server`](crate::platform::http::testing::Server).

use std::{fmt::Write as _, time::Duration};

use super::{ClipSegment, Download, DownloadEvent, DownloadLimits, PlaylistLocation, SegmentKind};
use crate::platform::Error;
pub(super) use crate::platform::http::testing::{Answer, Request, Server, file, http};

impl Server {
    pub(super) fn playlist(&self) -> PlaylistLocation {
        self.playlist_at("/clip.m3u8")
    }

    pub(super) fn playlist_at(&self, target: &str) -> PlaylistLocation {
        PlaylistLocation::from_url(http(), &format!("{}{target}", self.base), None).unwrap()
    }
}

fn atom(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).unwrap();
    [&size.to_be_bytes()[..], kind, body].concat()
}

/// An initialization section, different for each number.
pub(super) fn init_section(n: u8) -> Vec<u8> {
    [atom(b"ftyp", b"iso5\0\0\0\0"), atom(b"moov", &[n; 30])].concat()
}

/// A segment of `size` bytes of media, different for each number.
pub(super) fn segment(n: usize, size: usize) -> Vec<u8> {
    let mut mdat = vec![0; size];
    let mut state = n as u32 + 1;
    for byte in &mut mdat {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = state.to_be_bytes()[0];
    }
    let moof = atom(b"moof", &n.to_be_bytes());
    [atom(b"styp", b"msdh"), moof, atom(b"mdat", &mdat)].concat()
}

/// A playlist of lines: `map` and then a segment of four seconds for each
/// address.
pub(super) fn playlist<'a>(map: &str, addresses: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = open_playlist(map, addresses);
    text.push_str("#EXT-X-ENDLIST\n");
    text
}

/// A playlist without EXT-X-ENDLIST.
pub(super) fn open_playlist<'a>(map: &str, addresses: impl IntoIterator<Item = &'a str>) -> String {
    let mut text =
        format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"{map}\"\n");
    for address in addresses {
        write!(text, "#EXTINF:4.000,\n{address}\n").unwrap();
    }
    text
}

/// DownloadLimits under which a test does not take long.
pub(super) fn quick() -> DownloadLimits {
    DownloadLimits {
        backoff: Duration::from_millis(5),
        poll_interval: (Duration::from_millis(10), Duration::from_millis(30)),
        reload: (Duration::from_millis(10), Duration::from_millis(20)),
        idle: Duration::from_secs(10),
        tries: 3,
        ..DownloadLimits::default()
    }
}

/// All events of a download, and its error. Nothing follows.
pub(super) async fn all(
    playlist: PlaylistLocation,
    limits: DownloadLimits,
) -> (Vec<DownloadEvent>, Option<Error>) {
    rest(Download::start(playlist, limits)).await
}

pub(super) async fn rest(mut download: Download) -> (Vec<DownloadEvent>, Option<Error>) {
    let mut events = Vec::new();
    let work = async {
        while let Some(event) = download.next().await {
            match event {
                Ok(event) => events.push(event),
                Err(e) => {
                    assert!(download.next().await.is_none());
                    return Some(e);
                }
            }
        }
        assert!(download.next().await.is_none());
        None
    };
    let error = tokio::time::timeout(Duration::from_secs(30), work).await;
    (events, error.unwrap())
}

/// The segments of a download that must succeed.
pub(super) async fn segments(
    playlist: PlaylistLocation,
    limits: DownloadLimits,
) -> Vec<ClipSegment> {
    let (events, error) = all(playlist, limits).await;
    assert_eq!(error, None);
    segments_of(events)
}

pub(super) fn segments_of(events: Vec<DownloadEvent>) -> Vec<ClipSegment> {
    let segment = |event| match event {
        DownloadEvent::Segment(segment) => Some(segment),
        _ => None,
    };
    events.into_iter().filter_map(segment).collect()
}

/// The bytes of segments, and whether each is an initialization section.
pub(super) fn contents(segments: &[ClipSegment]) -> Vec<(bool, &[u8])> {
    let content = |segment: &'_ ClipSegment| segment.kind == SegmentKind::InitSection;
    segments
        .iter()
        .map(|p| (content(p), &p.bytes[..]))
        .collect()
}

/// The error of a download that must fail.
pub(super) async fn failure(playlist: PlaylistLocation, limits: DownloadLimits) -> Error {
    let (_, error) = all(playlist, limits).await;
    let error = error.unwrap();
    assert_eq!(error.operation, Some("clip"), "{error}");
    error
}
