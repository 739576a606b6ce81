// SPDX-License-Identifier: MIT

//! One request for a segment, or for the bytes of it that are missing, and
//! the body that arrives. Called by the task of the segment. Never retries.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};

use super::{
    errors::{clip_error, is_of_clip, is_transient},
    limits::DownloadLimits,
    media_playlist::{ByteRange, PlaylistEntry},
    memory_limit::MemoryPermit,
    playlist_loader::PlaylistLoader,
};
use crate::platform::{
    Code, Error,
    http::{ResponseStream, ServerRole, display_url},
};

/// Why a request failed.
pub(super) enum TransferFailure {
    /// The segment may have another address by now.
    Moved(Error),
    /// A retry may succeed, and continues where this request ended.
    Transient(Error),
    /// The segment arrived complete, but is not MP4.
    Corrupt(Error),
    Fatal(Error),
}

/// The bytes of a segment that have arrived.
#[derive(Default)]
pub(super) struct PartialSegment {
    bytes: Vec<u8>,
    /// For If-Range: identifies this version of the file.
    validator: Option<HeaderValue>,
    /// The size of the complete file, in bytes.
    size: Option<u64>,
}

impl PartialSegment {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }

    /// Range and If-Range for the missing bytes (RFC 9110, sections 13.1.5 and
    /// 14.2).
    fn range_headers(&self, range: Option<ByteRange>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let first = self.len() as u64 + range.map_or(0, |range| range.offset);
        let text = match range {
            Some(range) => format!("bytes={first}-{}", range.offset + range.length - 1),
            None if first > 0 => format!("bytes={first}-"),
            None => return headers,
        };
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(RANGE, value);
        }
        if let Some(validator) = self.validator.clone().filter(|_| self.len() > 0) {
            headers.insert(IF_RANGE, validator);
        }
        headers
    }
}

/// The bytes of a response body that are wanted.
struct WantedBytes {
    /// To be skipped at the beginning.
    skip: u64,
    /// Wanted from there; None: to the end of the body.
    length: Option<u64>,
}

/// Requests the missing bytes of a segment, and adds those that arrive.
/// `limit` is the largest size of the segment, in bytes.
pub(super) async fn request_missing(
    loader: &PlaylistLoader,
    entry: &PlaylistEntry,
    limit: usize,
    partial: &mut PartialSegment,
    permit: &mut MemoryPermit,
) -> Result<(), TransferFailure> {
    let received = partial.len() as u64;
    if entry.range.is_some_and(|range| range.length == received) {
        return Ok(());
    }
    let headers = partial.range_headers(entry.range);
    let response = loader
        .location
        .get(&entry.url, headers, ServerRole::Segments);
    let response = response.await.map_err(|e| classify(e, entry, partial))?;
    let wanted = match response.status() {
        200 => accept_whole_file(&response, entry, limit, partial)?,
        206 => accept_range(&response, entry, partial)?,
        status => {
            let reason = format!("answered {status} where a piece of a clip was due");
            let error = segment_error(entry, &reason).with_status(status);
            return Err(TransferFailure::Fatal(error));
        }
    };
    let length = wanted.length.unwrap_or_default();
    if partial.len() as u64 + length > limit as u64 {
        return Err(too_large(entry, limit));
    }
    read_body(
        response,
        &loader.limits,
        entry,
        limit,
        wanted,
        partial,
        permit,
    )
    .await
}

/// What a failed request means for the next one.
fn classify(e: Error, entry: &PlaylistEntry, partial: &mut PartialSegment) -> TransferFailure {
    match e.http_status {
        _ if is_transient(&e) => TransferFailure::Transient(e),
        _ if !is_of_clip(&e) => TransferFailure::Fatal(e),
        // A signed address is valid for minutes, and some storage answers 400
        // after that. Whether a segment is gone, the playlist tells.
        Some(401 | 403 | 404 | 410) => TransferFailure::Moved(e),
        Some(400) if entry.url.query().is_some() => TransferFailure::Moved(e),
        Some(416) if partial.len() > 0 => {
            partial.clear();
            TransferFailure::Transient(e)
        }
        _ => TransferFailure::Fatal(e),
    }
}

fn segment_error(entry: &PlaylistEntry, reason: &str) -> Error {
    let message = format!("{} {reason}", display_url(&entry.url));
    clip_error(Code::ChunkFetchFailed, message)
}

fn too_large(entry: &PlaylistEntry, limit: usize) -> TransferFailure {
    let reason = format!("is larger than the {limit} bytes that a piece of a clip may have");
    TransferFailure::Fatal(segment_error(entry, &reason))
}

/// A response with the complete file: the segment, or a file with the segment
/// in it.
fn accept_whole_file(
    response: &ResponseStream,
    entry: &PlaylistEntry,
    limit: usize,
    partial: &mut PartialSegment,
) -> Result<WantedBytes, TransferFailure> {
    partial.clear();
    partial.size = response.length();
    partial.validator = validator(response);
    let Some(range) = entry.range else {
        return Ok(WantedBytes {
            skip: 0,
            length: response.length(),
        });
    };
    let end = range.offset.saturating_add(range.length);
    if response.length().is_some_and(|size| size < end) {
        let reason = "is shorter than the playlist says";
        return Err(TransferFailure::Fatal(segment_error(entry, reason)));
    }
    if end > limit as u64 {
        let reason = "is large, and its server does not give a part of it (Range)";
        return Err(TransferFailure::Fatal(segment_error(entry, reason)));
    }
    Ok(WantedBytes {
        skip: range.offset,
        length: Some(range.length),
    })
}

/// A response with a part of the file, which must be the requested one.
fn accept_range(
    response: &ResponseStream,
    entry: &PlaylistEntry,
    partial: &mut PartialSegment,
) -> Result<WantedBytes, TransferFailure> {
    let range = response.header(CONTENT_RANGE).and_then(parse_content_range);
    let first = partial.len() as u64 + entry.range.map_or(0, |range| range.offset);
    let last = entry.range.map(|range| range.offset + range.length - 1);
    let is_requested = |(from, to, _): &(u64, u64, Option<u64>)| {
        *from == first && last.is_none_or(|last| *to <= last)
    };
    let Some((from, to, size)) = range.filter(is_requested) else {
        let error = segment_error(entry, "gave another part of itself than was asked for");
        return Err(match partial.len() {
            0 => TransferFailure::Fatal(error),
            _ => {
                partial.clear();
                TransferFailure::Transient(error)
            }
        });
    };
    if partial.len() == 0 {
        partial.validator = validator(response);
        partial.size = size;
    } else if size.is_some() && partial.size.is_some() && size != partial.size {
        partial.clear();
        let error = segment_error(entry, "is not the same any more as when it was begun");
        return Err(TransferFailure::Transient(error));
    }
    Ok(WantedBytes {
        skip: 0,
        length: Some(to - from + 1),
    })
}

/// A strong ETag, or Last-Modified (RFC 9110, section 13.1.5).
fn validator(response: &ResponseStream) -> Option<HeaderValue> {
    let tag = response.header(ETAG).filter(|tag| tag.starts_with('"'));
    let value = tag.or_else(|| response.header(LAST_MODIFIED))?;
    HeaderValue::from_str(value).ok()
}

/// First byte, last byte and size of `bytes 0-9/100` or `bytes 0-9/*`
/// (RFC 9110, section 14.4).
fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, to) = range.trim().split_once('-')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    let size = match size.trim() {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    let fits = from <= to && to < u64::MAX && size.is_none_or(|size| to < size);
    fits.then_some((from, to, size))
}

/// Adds the wanted bytes of a body.
async fn read_body(
    mut response: ResponseStream,
    limits: &DownloadLimits,
    entry: &PlaylistEntry,
    limit: usize,
    wanted: WantedBytes,
    partial: &mut PartialSegment,
    permit: &mut MemoryPermit,
) -> Result<(), TransferFailure> {
    if let Some(length) = wanted.length {
        // Not more than the limit, which was checked.
        let length = usize::try_from(length).unwrap_or(limit);
        permit.grow_to(partial.len() + length).await;
        partial.bytes.reserve_exact(length);
    }
    let mut rate = TransferRate::default();
    let (mut skip, mut missing) = (wanted.skip, wanted.length);
    while missing != Some(0) {
        let Some(timeout) = rate.next_timeout(limits) else {
            let reason = format!("comes too slowly, {} bytes so far", rate.bytes);
            let error = segment_error(entry, &reason);
            return Err(TransferFailure::Transient(error));
        };
        let since = Instant::now();
        let chunk = response.next_chunk(timeout).await;
        let Some(mut chunk) = chunk.map_err(TransferFailure::Transient)? else {
            break;
        };
        rate.count(since.elapsed(), chunk.len());
        let skipped = skip.min(chunk.len() as u64);
        skip -= skipped;
        // Both are no more than the length of the chunk.
        drop(chunk.split_to(usize::try_from(skipped).unwrap_or_default()));
        if let Some(missing) = &mut missing {
            let taken = (*missing).min(chunk.len() as u64);
            *missing -= taken;
            chunk.truncate(usize::try_from(taken).unwrap_or_default());
        }
        if partial.len() + chunk.len() > limit {
            return Err(too_large(entry, limit));
        }
        permit.grow_to(partial.len() + chunk.len()).await;
        partial.bytes.extend_from_slice(&chunk);
    }
    let size = entry.range.map(|range| range.length).or(partial.size);
    match size.or(wanted.length) {
        // A response with a part may be shorter than the requested range.
        Some(size) if (partial.len() as u64) < size => {
            let reason = format!("broke off after {} bytes", partial.len());
            let error = segment_error(entry, &reason);
            Err(TransferFailure::Transient(error))
        }
        _ => Ok(()),
    }
}

/// How fast a body arrives. Only time spent in waiting for it counts.
#[derive(Default)]
struct TransferRate {
    waited: Duration,
    bytes: u64,
}

impl TransferRate {
    fn count(&mut self, waited: Duration, bytes: usize) {
        self.waited += waited;
        self.bytes += bytes as u64;
    }

    /// How long the next bytes may take; None when the body is too slow.
    fn next_timeout(&self, limits: &DownloadLimits) -> Option<Duration> {
        let granted = Duration::from_secs(self.bytes / limits.bytes_per_second.max(1));
        let left = (limits.grace + granted).saturating_sub(self.waited);
        (!left.is_zero()).then(|| left.min(limits.idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_parsed_only_if_valid() {
        assert_eq!(
            parse_content_range("bytes 0-9/100"),
            Some((0, 9, Some(100)))
        );
        assert_eq!(parse_content_range(" bytes 5-5/*"), Some((5, 5, None)));
        for text in [
            "",
            "bytes",
            "bytes 0-9",
            "bytes */100",
            "bytes 9-0/100",
            "bytes 0-100/100",
            "bytes 0-18446744073709551615/*",
            "items 0-9/100",
            "bytes -1-9/100",
        ] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }

    #[test]
    fn timeout_shrinks_with_time_and_grows_with_bytes() {
        let limits = DownloadLimits::default();
        let mut rate = TransferRate::default();
        assert_eq!(rate.next_timeout(&limits), Some(limits.idle));
        rate.count(Duration::from_secs(25), 0);
        assert_eq!(rate.next_timeout(&limits), Some(Duration::from_secs(5)));
        rate.count(Duration::from_secs(5), 1000);
        assert_eq!(rate.next_timeout(&limits), None);
        rate.count(Duration::ZERO, 2 << 14);
        assert_eq!(rate.next_timeout(&limits), Some(Duration::from_secs(2)));
    }
}
