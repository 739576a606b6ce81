// SPDX-License-Identifier: MIT

//! Parses media playlists (RFC 8216, section 4). Pure functions, called on a
//! thread that may block. Never accepts a tag that would change the bytes of
//! a segment and that is not supported, nor an unsafe address.

use std::time::Duration;

use m3u8_rs::{KeyMethod, MediaSegment};
use url::Url;

use super::{location::check_length, segment::SegmentKind};
use crate::platform::{
    http::sanitize,
    url_policy::{self, Trust},
};

/// The most segments of one clip: nine days of segments of 4 s. It limits the
/// memory that a playlist takes...
const MAX_SEGMENTS: usize = 200_000;

/// ...and so does this, the sum of their addresses, in bytes: an address of a few bytes is a
/// long one where that of the playlist is.
const MAX_ADDRESSES: usize = 64 << 20;

/// One version of a clip's media playlist.
pub(super) struct MediaPlaylist {
    /// In the order in which they play.
    pub(super) entries: Vec<PlaylistEntry>,
    /// EXT-X-ENDLIST: no segment will be added.
    pub(super) complete: bool,
    /// EXT-X-TARGETDURATION: the longest duration of a segment.
    pub(super) target_duration: Duration,
    /// The sum of the segments' durations.
    pub(super) duration: Duration,
    /// EXT-X-MEDIA-SEQUENCE: the number of the first segment.
    media_sequence: u64,
}

/// A segment in a playlist. Its address may hold a signature.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PlaylistEntry {
    pub(super) kind: SegmentKind,
    pub(super) url: Url,
    pub(super) range: Option<ByteRange>,
    pub(super) duration: Duration,
    pub(super) discontinuity: bool,
}

/// EXT-X-BYTERANGE: a part of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteRange {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl ByteRange {
    /// The offset after the last byte; None if the range is empty or too large.
    fn end(self) -> Option<u64> {
        let end = self.offset.checked_add(self.length)?;
        (self.length > 0).then_some(end)
    }
}

impl MediaPlaylist {
    /// Parses a playlist that was fetched from `url`. Errors continue the
    /// sentence "the playlist".
    pub(super) fn parse(text: &[u8], url: &Url, trust: Trust) -> Result<Self, String> {
        let (text, durations) = normalize(text)?;
        let playlist = match m3u8_rs::parse_playlist(text.as_bytes()) {
            Ok((b"", m3u8_rs::Playlist::MediaPlaylist(playlist))) => playlist,
            Ok((_, m3u8_rs::Playlist::MasterPlaylist(_))) => {
                let what = "lists other playlists; give the address of one of those";
                return Err(what.to_owned());
            }
            _ => return Err("cannot be understood".to_owned()),
        };
        if playlist.i_frames_only {
            return Err("lists single pictures only (EXT-X-I-FRAMES-ONLY)".to_owned());
        }
        // The parser skips what it cannot parse.
        if playlist.segments.len() != durations.len() {
            return Err("cannot be understood".to_owned());
        }
        let mut builder = EntriesBuilder {
            url,
            trust,
            init_section: None,
            previous_end: None,
            addresses: 0,
            entries: Vec::with_capacity(durations.len() + 1),
        };
        for (n, (segment, duration)) in playlist.segments.iter().zip(durations).enumerate() {
            let result = builder.add_segment(segment, duration);
            result.map_err(|e| format!("says of its segment {}: {e}", n + 1))?;
        }
        let entries = builder.entries;
        if playlist.end_list && entries.is_empty() {
            return Err("lists nothing".to_owned());
        }
        let mut durations = entries.iter().map(|entry| entry.duration);
        let duration = durations.try_fold(Duration::ZERO, Duration::checked_add);
        Ok(Self {
            entries,
            complete: playlist.end_list,
            target_duration: Duration::from_secs(playlist.target_duration),
            duration: duration.ok_or("lasts longer than anything can")?,
            media_sequence: playlist.media_sequence,
        })
    }

    /// Fails if this is not a later version of the `earlier` playlist. A new
    /// signature may change the query and the server of an address.
    pub(super) fn check_continues(&self, earlier: &Self) -> Result<(), &'static str> {
        if self.media_sequence != earlier.media_sequence {
            return Err(
                "is that of a live stream, of which a part is lost already; only what is kept from its beginning can be saved",
            );
        }
        let is_unchanged = |(new, old): (&PlaylistEntry, &PlaylistEntry)| {
            (new.kind, new.range, new.discontinuity) == (old.kind, old.range, old.discontinuity)
                && new.url.path() == old.url.path()
        };
        let (count, earlier_count) = (self.entries.len(), earlier.entries.len());
        let mut pairs = self.entries.iter().zip(&earlier.entries);
        let is_kept = count >= earlier_count && pairs.all(is_unchanged);
        let is_reopened = earlier.complete && (!self.complete || count > earlier_count);
        match is_kept && !is_reopened {
            true => Ok(()),
            false => Err("takes back what it has said of the clip"),
        }
    }
}

/// The lines of a playlist that matter, and the durations of its segments,
/// which are replaced by 0 in the lines.
///
/// The rest goes: titles, dates, comments. The parser takes what follows a
/// comma in a title for an address, looks for the end of an attribute in all
/// that follows, and passes over a duration that it cannot read.
fn normalize(text: &[u8]) -> Result<(String, Vec<Duration>), String> {
    const TAGS_WITHOUT_VALUE: [&str; 4] = [
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-ENDLIST",
        "#EXT-X-I-FRAMES-ONLY",
        "#EXT-X-GAP",
    ];
    const TAGS_WITH_NUMBER: [&str; 3] = [
        "#EXT-X-TARGETDURATION:",
        "#EXT-X-MEDIA-SEQUENCE:",
        "#EXT-X-BYTERANGE:",
    ];
    const TAGS_WITH_ATTRIBUTES: [&str; 6] = [
        "#EXT-X-MAP:",
        "#EXT-X-KEY:",
        "#EXT-X-STREAM-INF:",
        "#EXT-X-I-FRAME-STREAM-INF:",
        // They would change the meaning of the other lines.
        "#EXT-X-SKIP:",
        "#EXT-X-DEFINE:",
    ];
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = str::from_utf8(text).map_err(|_| "is no HLS playlist")?;
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some("#EXTM3U") {
        return Err("is no HLS playlist; is the address right?".to_owned());
    }
    let mut out = String::with_capacity(text.len());
    out.push_str("#EXTM3U\n");
    let mut durations = Vec::new();
    for line in lines {
        let begins_with = |tags: &[&str]| tags.iter().any(|tag| line.starts_with(tag));
        if let Some(value) = line.strip_prefix("#EXTINF:") {
            durations.push(parse_duration(value)?);
            out.push_str("#EXTINF:0,");
        } else if begins_with(&TAGS_WITH_ATTRIBUTES) {
            if !line.contains('=') || line.matches('"').count() % 2 != 0 {
                return Err(format!(
                    "has a line that makes no sense: {}",
                    tag_name(line)
                ));
            }
            out.push_str(line);
        } else if !line.starts_with('#')
            || TAGS_WITHOUT_VALUE.contains(&line)
            || begins_with(&TAGS_WITH_NUMBER)
        {
            out.push_str(line);
        } else {
            continue;
        }
        out.push('\n');
    }
    match durations.len() {
        0..=MAX_SEGMENTS => Ok((out, durations)),
        segments => Err(format!("lists {segments} segments, which is too many")),
    }
}

/// The duration in a value of EXTINF such as `4.000,title`.
fn parse_duration(value: &str) -> Result<Duration, String> {
    let seconds = value.split(',').next().unwrap_or_default().trim();
    let duration = seconds.parse().map(Duration::try_from_secs_f64);
    duration
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| format!("has a segment that lasts \"{}\" seconds", sanitize(seconds)))
}

fn tag_name(line: &str) -> String {
    sanitize(line.split(':').next().unwrap_or_default())
}

/// Makes entries of a playlist's segments.
struct EntriesBuilder<'a> {
    url: &'a Url,
    trust: Trust,
    /// The initialization section of the segments that follow.
    init_section: Option<PlaylistEntry>,
    /// The file of the segment before, and the end of its byte range.
    previous_end: Option<(Url, u64)>,
    /// The sum of the entries' addresses, in bytes.
    addresses: usize,
    entries: Vec<PlaylistEntry>,
}

impl EntriesBuilder<'_> {
    fn add_segment(&mut self, segment: &MediaSegment, duration: Duration) -> Result<(), String> {
        check_tags(segment)?;
        if let Some(map) = &segment.map {
            let range = map.byte_range.as_ref().map(|range| ByteRange {
                offset: range.offset.unwrap_or_default(),
                length: range.length,
            });
            let init_section = PlaylistEntry {
                kind: SegmentKind::InitSection,
                url: self.resolve(&map.uri)?,
                range: check_range(range)?,
                duration: Duration::ZERO,
                discontinuity: false,
            };
            if self.init_section.as_ref() != Some(&init_section) {
                self.init_section = Some(init_section.clone());
                self.push(init_section)?;
            }
        }
        if self.init_section.is_none() {
            return Err(
                "it has no header (EXT-X-MAP); only fragmented MP4 can be saved".to_owned(),
            );
        }
        let url = self.resolve(&segment.uri)?;
        let range = self.byte_range(segment, &url)?;
        let end = range.and_then(ByteRange::end);
        self.previous_end = end.map(|end| (url.clone(), end));
        self.push(PlaylistEntry {
            kind: SegmentKind::Media,
            url,
            range,
            duration,
            discontinuity: segment.discontinuity,
        })
    }

    fn push(&mut self, entry: PlaylistEntry) -> Result<(), String> {
        self.addresses += entry.url.as_str().len();
        if self.addresses > MAX_ADDRESSES {
            return Err(format!(
                "its address and those before it have more than {MAX_ADDRESSES} bytes"
            ));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The URL of an address in the playlist.
    fn resolve(&self, text: &str) -> Result<Url, String> {
        let url = match text.trim() {
            "" => Err("is missing"),
            text => url_policy::resolve(text, self.url, self.url, self.trust),
        };
        let url = url.and_then(|url| match url_policy::is_downgrade(&url, self.url) {
            true => Err("is not encrypted, but that of the playlist is"),
            false => Ok(url),
        });
        let url = url.map_err(str::to_owned);
        let url = url.and_then(|url| check_length(&url).map(|()| url));
        url.map_err(|e| format!("its address {e}"))
    }

    /// RFC 8216, section 4.3.2.2: without an offset it begins at the end of the
    /// segment before, in the same file.
    fn byte_range(&self, segment: &MediaSegment, url: &Url) -> Result<Option<ByteRange>, String> {
        let Some(range) = &segment.byte_range else {
            return Ok(None);
        };
        let previous = || self.previous_end.as_ref().filter(|(file, _)| file == url);
        let offset = range.offset.or_else(|| previous().map(|(_, end)| *end));
        check_range(Some(ByteRange {
            offset: offset.ok_or("its range of bytes has no beginning")?,
            length: range.length,
        }))
    }
}

fn check_range(range: Option<ByteRange>) -> Result<Option<ByteRange>, String> {
    match range {
        Some(range) if range.end().is_none() => Err("its range of bytes is none".to_owned()),
        range => Ok(range),
    }
}

/// Fails for tags that change the bytes of a segment.
fn check_tags(segment: &MediaSegment) -> Result<(), String> {
    let mut unencrypted = segment
        .key
        .as_ref()
        .is_none_or(|key| key.method == KeyMethod::None);
    for unknown in &segment.unknown_tags {
        let rest = unknown.rest.as_deref().unwrap_or_default();
        match unknown.tag.as_str() {
            "X-GAP" => {
                let what = "it is missing on the server (EXT-X-GAP); ask for a clip without it";
                return Err(what.to_owned());
            }
            // m3u8-rs requires an IV even for METHOD=NONE.
            "X-KEY" => unencrypted &= rest.split(',').any(|part| part.trim() == "METHOD=NONE"),
            tag => return Err(format!("#EXT-{} is not understood", sanitize(tag))),
        }
    }
    match unencrypted {
        true => Ok(()),
        false => Err("it is encrypted (EXT-X-KEY), which is not supported".to_owned()),
    }
}

#[cfg(test)]
mod tests;
