// SPDX-License-Identifier: MIT

//! What a playlist says a clip consists of.

use std::time::Duration;

use m3u8_rs::{KeyMethod, MediaPlaylist, MediaSegment};
use url::Url;

use super::PieceKind;
use crate::platform::{
    http::sanitize,
    url_policy::{self, Trust},
};

/// The most segments of one clip: nine days of the usual ones. It bounds what
/// a playlist takes in memory.
const MAX_SEGMENTS: usize = 200_000;

/// What there is to be fetched, in the order in which it plays.
pub(super) struct Listing {
    pub(super) parts: Vec<Part>,
    /// Nothing will be added.
    pub(super) complete: bool,
    /// How long a segment lasts at most.
    pub(super) target: Duration,
    /// How long all of it plays.
    pub(super) duration: Duration,
    /// The number of the first segment.
    sequence: u64,
}

/// Where one piece lies. Its address may hold a signature.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: PieceKind,
    pub(super) url: Url,
    pub(super) range: Option<Range>,
    pub(super) duration: Duration,
    pub(super) discontinuity: bool,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Range {
    /// The offset of what comes after it, of a range that is one.
    fn end(self) -> Option<u64> {
        let end = self.offset.checked_add(self.length)?;
        (self.length > 0).then_some(end)
    }
}

impl Listing {
    /// Reads a playlist that came from an address. What is said in an error
    /// goes on from "the playlist".
    pub(super) fn parse(text: &[u8], url: &Url, word: Trust) -> Result<Self, String> {
        let (text, durations) = essence(text)?;
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
        // What the parser does not know how to read it passes over.
        if playlist.segments.len() != durations.len() {
            return Err("cannot be understood".to_owned());
        }
        let mut reader = Reader {
            url,
            word,
            header: None,
            end: None,
            parts: Vec::with_capacity(durations.len() + 1),
        };
        for (n, (segment, duration)) in playlist.segments.iter().zip(durations).enumerate() {
            let told = reader.segment(segment, duration);
            told.map_err(|e| format!("says of its segment {}: {e}", n + 1))?;
        }
        Self::of(&playlist, reader.parts)
    }

    fn of(playlist: &MediaPlaylist, parts: Vec<Part>) -> Result<Self, String> {
        if playlist.end_list && parts.is_empty() {
            return Err("lists nothing".to_owned());
        }
        let duration = parts
            .iter()
            .try_fold(Duration::ZERO, |sum, part| sum.checked_add(part.duration));
        Ok(Self {
            parts,
            complete: playlist.end_list,
            target: Duration::from_secs(playlist.target_duration),
            duration: duration.ok_or("lasts longer than anything can")?,
            sequence: playlist.media_sequence,
        })
    }

    /// Fails if this is not what an earlier state of the playlist has become.
    /// What is signed anew has another query, and may be on another server.
    pub(super) fn continues(&self, earlier: &Self) -> Result<(), &'static str> {
        if self.sequence != earlier.sequence {
            return Err(
                "is that of a live stream, of which a part is lost already; only what is kept from its beginning can be saved",
            );
        }
        let same = |(new, old): (&Part, &Part)| {
            (new.kind, new.range, new.discontinuity) == (old.kind, old.range, old.discontinuity)
                && new.url.path() == old.url.path()
        };
        let kept = self.parts.len() >= earlier.parts.len()
            && self.parts.iter().zip(&earlier.parts).all(same);
        let ended = earlier.complete && (!self.complete || self.parts.len() > earlier.parts.len());
        match kept && !ended {
            true => Ok(()),
            false => Err("takes back what it has said of the clip"),
        }
    }
}

/// What matters of a playlist, and how long its segments last.
///
/// The rest goes: titles, dates, comments. The parser takes what follows a
/// comma in a title for an address, looks for the end of an attribute in all
/// that follows, and passes over a duration that it cannot read.
fn essence(text: &[u8]) -> Result<(String, Vec<Duration>), String> {
    const ALONE: [&str; 4] = [
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-ENDLIST",
        "#EXT-X-I-FRAMES-ONLY",
        "#EXT-X-GAP",
    ];
    const NUMBERS: [&str; 3] = [
        "#EXT-X-TARGETDURATION:",
        "#EXT-X-MEDIA-SEQUENCE:",
        "#EXT-X-BYTERANGE:",
    ];
    const ATTRIBUTES: [&str; 6] = [
        "#EXT-X-MAP:",
        "#EXT-X-KEY:",
        "#EXT-X-STREAM-INF:",
        "#EXT-X-I-FRAME-STREAM-INF:",
        // They would change what the rest means.
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
        if let Some(told) = line.strip_prefix("#EXTINF:") {
            durations.push(duration(told)?);
            out.push_str("#EXTINF:0,");
        } else if begins_with(&ATTRIBUTES) {
            if !line.contains('=') || line.matches('"').count() % 2 != 0 {
                return Err(format!("has a line that makes no sense: {}", tag_of(line)));
            }
            out.push_str(line);
        } else if !line.starts_with('#') || ALONE.contains(&line) || begins_with(&NUMBERS) {
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

/// `4.000,title`.
fn duration(told: &str) -> Result<Duration, String> {
    let seconds = told.split(',').next().unwrap_or_default().trim();
    let duration = seconds.parse().map(Duration::try_from_secs_f64);
    duration
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| format!("has a segment that lasts \"{}\" seconds", sanitize(seconds)))
}

fn tag_of(line: &str) -> String {
    sanitize(line.split(':').next().unwrap_or_default())
}

struct Reader<'a> {
    url: &'a Url,
    word: Trust,
    /// The header of the segments that follow.
    header: Option<Part>,
    /// Where the range of the segment before ends.
    end: Option<(Url, u64)>,
    parts: Vec<Part>,
}

impl Reader<'_> {
    fn segment(&mut self, segment: &MediaSegment, duration: Duration) -> Result<(), String> {
        check_tags(segment)?;
        if let Some(map) = &segment.map {
            let range = map.byte_range.as_ref().map(|range| Range {
                offset: range.offset.unwrap_or_default(),
                length: range.length,
            });
            let header = Part {
                kind: PieceKind::Header,
                url: self.address(&map.uri)?,
                range: checked(range)?,
                duration: Duration::ZERO,
                discontinuity: false,
            };
            if self.header.as_ref() != Some(&header) {
                self.header = Some(header.clone());
                self.parts.push(header);
            }
        }
        if self.header.is_none() {
            return Err(
                "it has no header (EXT-X-MAP); only fragmented MP4 can be saved".to_owned(),
            );
        }
        let url = self.address(&segment.uri)?;
        let range = self.range(segment, &url)?;
        self.end = range.and_then(Range::end).map(|end| (url.clone(), end));
        self.parts.push(Part {
            kind: PieceKind::Segment,
            url,
            range,
            duration,
            discontinuity: segment.discontinuity,
        });
        Ok(())
    }

    fn address(&self, text: &str) -> Result<Url, String> {
        let url = match text.trim() {
            "" => Err("is missing"),
            text => url_policy::target(text, self.url, self.url, self.word),
        };
        let url = url.and_then(|url| match url_policy::in_the_clear(&url, self.url) {
            true => Err("is not encrypted, but that of the playlist is"),
            false => Ok(url),
        });
        url.map_err(|e| format!("its address {e}"))
    }

    /// Without an offset it goes on where the one before ends.
    fn range(&self, segment: &MediaSegment, url: &Url) -> Result<Option<Range>, String> {
        let Some(told) = &segment.byte_range else {
            return Ok(None);
        };
        let before = || self.end.as_ref().filter(|(file, _)| file == url);
        let offset = told.offset.or_else(|| before().map(|(_, end)| *end));
        checked(Some(Range {
            offset: offset.ok_or("its range of bytes has no beginning")?,
            length: told.length,
        }))
    }
}

fn checked(range: Option<Range>) -> Result<Option<Range>, String> {
    match range {
        Some(range) if range.end().is_none() => Err("its range of bytes is none".to_owned()),
        range => Ok(range),
    }
}

/// Fails for what would make something else of a segment's bytes.
fn check_tags(segment: &MediaSegment) -> Result<(), String> {
    let mut plain = segment
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
            // The parser wants an IV for no encryption.
            "X-KEY" => plain &= rest.split(',').any(|part| part.trim() == "METHOD=NONE"),
            tag => return Err(format!("#EXT-{} is not understood", sanitize(tag))),
        }
    }
    match plain {
        true => Ok(()),
        false => Err("it is encrypted (EXT-X-KEY), which is not supported".to_owned()),
    }
}

#[cfg(test)]
mod tests;
