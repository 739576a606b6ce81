// SPDX-License-Identifier: MIT

//! Playlists that are parsed, refused, or damaged.

use std::time::Instant;

use super::{super::location::MAX_ADDRESS, *};

const HOST: &str = "https://h.example.com:1/a/clip.m3u8?secret";

fn read_at(text: &str, url: &str, trust: Trust) -> Result<MediaPlaylist, String> {
    MediaPlaylist::parse(text.as_bytes(), &Url::parse(url).unwrap(), trust)
}

fn read(text: &str) -> Result<MediaPlaylist, String> {
    read_at(text, HOST, Trust::Server)
}

/// A playlist of these lines and one segment.
fn with(lines: &str) -> String {
    format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"i\"\n{lines}\n#EXTINF:4,\ns\n#EXT-X-ENDLIST\n"
    )
}

fn refusal(text: &str) -> String {
    let read = read(text).map(|playlist| playlist.entries.len());
    read.expect_err(&text[..text.len().min(300)])
}

#[test]
fn runtime_playlist_is_parsed() {
    let text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n\
        #EXT-X-MAP:URI=\"/clips/chunks/r/init.mp4\"\n#EXTINF:4.000,\n/clips/chunks/r/chunk_00000.m4s\n\
        #EXTINF:3.967,\n/clips/chunks/r/chunk_00001.m4s\n#EXT-X-ENDLIST";
    // As it is, with other line ends, and with a mark at its beginning.
    for text in [
        text.to_owned(),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}\n\n"),
    ] {
        let playlist = read_at(&text, "http://127.0.0.1:80/clips?a", Trust::Runtime).unwrap();
        assert!(playlist.complete);
        assert_eq!(playlist.target_duration, Duration::from_secs(4));
        assert_eq!(playlist.duration, Duration::from_millis(7967));
        let urls: Vec<_> = playlist
            .entries
            .iter()
            .map(|entry| entry.url.as_str())
            .collect();
        let base = "http://127.0.0.1/clips/chunks/r/";
        let names = ["init.mp4", "chunk_00000.m4s", "chunk_00001.m4s"];
        assert_eq!(urls, names.map(|name| format!("{base}{name}")));
    }
}

#[test]
fn irrelevant_tags_are_ignored() {
    for lines in [
        "#EXT-X-KEY:METHOD=NONE",
        "# a comment, with=things",
        "#EXT-X-DATERANGE:ID=\"a",
        "#EXT-X-PROGRAM-DATE-TIME:never",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-DISCONTINUITY-SEQUENCE:x",
        "#EXT-X-NEW-THING:1,2",
        "\n\n",
    ] {
        let playlist = read(&with(lines)).unwrap();
        assert_eq!(playlist.entries.len(), 2, "{lines}");
        assert!(!playlist.entries[1].discontinuity);
    }
    let titled = with("").replace("#EXTINF:4,", "#EXTINF:4,a title, with=commas,\"");
    assert_eq!(read(&titled).unwrap().entries.len(), 2);
}

#[test]
fn unsupported_playlist_is_refused() {
    for (lines, says) in [
        ("#EXT-X-KEY:METHOD=AES-128,URI=\"k\"", "encrypted"),
        ("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\",IV=0x1", "encrypted"),
        ("#EXT-X-KEY:URI=\"METHOD=NONE\"", "encrypted"),
        ("#EXT-X-I-FRAMES-ONLY", "single pictures"),
        ("#EXT-X-GAP", "is missing on the server"),
        ("#EXT-X-SKIP:SKIPPED-SEGMENTS=3", "not understood"),
        ("#EXT-X-DEFINE:NAME=\"a\",VALUE=\"b\"", "not understood"),
        ("#EXT-X-BYTERANGE:x", "not understood"),
        ("#EXT-X-BYTERANGE:10", "no beginning"),
        ("#EXT-X-BYTERANGE:0@5", "range of bytes is none"),
        (
            "#EXT-X-BYTERANGE:5@18446744073709551615",
            "range of bytes is none",
        ),
        ("#EXT-X-MAP:URI=\"i", "makes no sense"),
        ("#EXT-X-MAP:URI", "makes no sense"),
        ("#EXT-X-MAP:URI=i", "not understood"),
        ("#EXT-X-MAP:URI=\"i\",junk", "cannot be understood"),
        ("#EXT-X-TARGETDURATION:x", "not understood"),
        ("stray", "cannot be understood"),
        ("#EXTINF:4,", "cannot be understood"),
        ("#EXT-X-STREAM-INF:BANDWIDTH=1", ""),
    ] {
        let error = refusal(&with(lines));
        assert!(error.contains(says), "{lines}: {error}");
        assert!(!error.contains("secret"));
    }
    let no_init_section = "#EXTM3U\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n";
    assert!(refusal(no_init_section).contains("only fragmented MP4"));
    for time in ["-1", "nan", "inf", "1e30", "x"] {
        let text = with("").replace("#EXTINF:4", &format!("#EXTINF:{time}"));
        let error = refusal(&text);
        assert!(
            error.contains(&format!("lasts \"{time}\" seconds")),
            "{error}"
        );
    }
    let endless = format!("{}{}", with(""), "#EXTINF:1e19,\na\n".repeat(2));
    assert!(refusal(&endless).contains("lasts longer"));
    assert!(
        MediaPlaylist::parse(b"#EXTM3U\n\xff", &Url::parse(HOST).unwrap(), Trust::Server).is_err()
    );
}

#[test]
fn segment_address_is_resolved_by_url_policy() {
    let to = |text: &str, base: &str, trust| {
        let text = with("").replace("\ns\n", &format!("\n{text}\n"));
        let playlist = read_at(&text, base, trust);
        playlist.map(|playlist| playlist.entries[1].url.to_string())
    };
    let at = |text| to(text, HOST, Trust::Server);
    for (text, expected) in [
        ("s", "https://h.example.com:1/a/s"),
        ("/s?x=%2F", "https://h.example.com:1/s?x=%2F"),
        (
            "../../../../etc/passwd",
            "https://h.example.com:1/etc/passwd",
        ),
        ("//b.example.com/s", "https://b.example.com/s"),
        (
            "https://bucket.example.com/s?sig=a%2Fb",
            "https://bucket.example.com/s?sig=a%2Fb",
        ),
    ] {
        assert_eq!(at(text).unwrap(), expected);
    }
    for (text, says) in [
        ("file:///etc/passwd", "not an HTTP URL"),
        ("data:video/mp4;base64,AAAA", "not an HTTP URL"),
        ("ftp://h/s", "not an HTTP URL"),
        ("http://h.example.com:1/s", "not encrypted"),
        ("https://u:hunter2@h/s", "user name or password"),
        ("https://hunter2@h/s", "user name or password"),
        ("https://localhost/s", "this machine's"),
        ("https://127.0.0.1:9/s?hunter2", "this machine's"),
        ("https://[::1]/s", "this machine's"),
        ("http://", "URL"),
    ] {
        let error = at(text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    // What is here may lead anywhere here; a runtime means itself.
    let here = "http://127.0.0.1:80/clip";
    assert_eq!(
        to("http://localhost:9/s", here, Trust::Server).unwrap(),
        "http://localhost:9/s"
    );
    let runtime = "https://runtime.example.com/clip";
    let moved = to("http://localhost:8080/s", runtime, Trust::Runtime);
    assert_eq!(moved.unwrap(), "https://runtime.example.com/s");
    let error = to("http://other/s", runtime, Trust::Runtime).unwrap_err();
    assert!(error.contains("not encrypted"), "{error}");
}

#[test]
fn addresses_that_take_too_much_memory_are_refused() {
    let list = |segment: &str, count: usize, path: usize| {
        let lines = format!("#EXTINF:4,\n{segment}\n").repeat(count);
        let base = format!("https://h.example.com/{}/clip.m3u8", "p".repeat(path));
        let read = read_at(&format!("{}{lines}", with("")), &base, Trust::Server);
        read.map(|playlist| playlist.entries.len())
    };
    assert_eq!(list(&"s".repeat(MAX_ADDRESS / 2), 1, 9), Ok(3));
    let error = list(&"s".repeat(MAX_ADDRESS), 1, 9).unwrap_err();
    assert!(error.contains("segment 2"), "{error}");
    assert!(error.contains("longer than 8192 bytes"), "{error}");
    // By its URL, in which each of these characters has nine.
    let error = list(&"€".repeat(MAX_ADDRESS / 8), 1, 9).unwrap_err();
    assert!(error.contains("longer than 8192 bytes"), "{error}");
    // Each of them has that of the playlist before it.
    let (long, enough) = (MAX_ADDRESS / 2, MAX_ADDRESSES / (MAX_ADDRESS / 2) + 1);
    assert_eq!(list("s", enough / 2, long), Ok(enough / 2 + 2));
    let error = list("s", enough, long).unwrap_err();
    assert!(error.contains("more than 67108864 bytes"), "{error}");
}

#[test]
fn large_playlist_is_parsed_in_linear_time() {
    let large = |segments: usize| {
        let lines = "#EXTINF:4.000,a, b\n/clips/chunks/0123456789/chunk.m4s?signature=abc\n";
        format!("{}{}", with(""), lines.repeat(segments))
    };
    let since = Instant::now();
    assert_eq!(read(&large(100_000)).unwrap().entries.len(), 100_002);
    println!("100,000 segments took {:?}", since.elapsed());
    assert!(refusal(&large(MAX_SEGMENTS)).contains("too many"));
    // An attribute without a value sends the parser to the end of all.
    let attributes = "#EXT-X-MAP:URI\n".repeat(1 << 20);
    assert!(refusal(&with(&attributes)).contains("makes no sense"));
    let attributes = "#EXT-X-MAP:URI=\"a\",b\n".repeat(300_000);
    assert!(refusal(&with(&attributes)).contains("understood"));
    assert!(since.elapsed() < Duration::from_secs(60));
}

#[test]
fn mutated_playlist_does_not_panic() {
    let text = with("#EXT-X-BYTERANGE:5@1\n#EXT-X-KEY:METHOD=NONE\n#EXT-X-DISCONTINUITY");
    let bytes = text.as_bytes();
    let mut state = 1_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let url = Url::parse(HOST).unwrap();
    for _ in 0..20_000 {
        let mut broken = bytes.to_vec();
        for _ in 0..=random(3) {
            let at = random(broken.len());
            // A part of it remains.
            match random(3) {
                0 => broken[at] = b"\n\r,:=\"@#x9\xff\0"[random(12)],
                1 if at > 0 => drop(broken.remove(at)),
                _ => broken.truncate(at.max(1)),
            }
        }
        // Either result will do.
        let _ = MediaPlaylist::parse(&broken, &url, Trust::Server);
    }
}
