// SPDX-License-Identifier: MIT

//! The body of a fuzz target: a clip's media playlist.

use url::Url;

use super::media_playlist::MediaPlaylist;
use crate::platform::url_policy::Trust;

pub fn playlist(data: &[u8]) {
    for (base, trust) in [
        ("https://clips.example/a/list.m3u8?token=1", Trust::Server),
        ("http://127.0.0.1:8080/clips/list.m3u8", Trust::Runtime),
    ] {
        let Ok(base) = Url::parse(base) else {
            continue;
        };
        let playlist = match MediaPlaylist::parse(data, &base, trust) {
            Ok(playlist) => playlist,
            Err(why) => {
                assert!(!why.contains(char::is_control), "{why:?}");
                continue;
            }
        };
        assert!(playlist.entries.len() <= data.len());
        for entry in &playlist.entries {
            assert!(matches!(entry.url.scheme(), "http" | "https"));
            assert!(entry.url.username().is_empty() && entry.url.password().is_none());
            assert!(entry.range.is_none_or(|range| {
                range.length > 0 && range.offset.checked_add(range.length).is_some()
            }));
            assert!(entry.duration <= playlist.duration);
        }
        assert_eq!(playlist.check_continues(&playlist), Ok(()));
    }
}
