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

/// One request for a segment.
pub(super) struct Transfer<'a> {
    pub(super) loader: &'a PlaylistLoader,
    pub(super) entry: &'a PlaylistEntry,
    /// The largest size of the segment, in bytes.
    pub(super) limit: usize,
    pub(super) partial: &'a mut PartialSegment,
    pub(super) permit: &'a mut MemoryPermit,
}

impl Transfer<'_> {
    /// Requests the missing bytes of the segment, and adds those that arrive.
    pub(super) async fn request_missing(mut self) -> Result<(), TransferFailure> {
        let range = self.entry.range;
        if range.is_some_and(|range| range.length == self.partial.len() as u64) {
            return Ok(());
        }
        let headers = self.partial.range_headers(range);
        let location = &self.loader.location;
        let response = location.get(&self.entry.url, headers, ServerRole::Segments);
        let response = match response.await {
            Ok(response) => response,
            Err(e) => return Err(self.classify(e)),
        };
        let wanted = match response.status() {
            200 => self.accept_whole_file(&response)?,
            206 => self.accept_range(&response)?,
            status => {
                let reason = format!("answered {status} where a piece of a clip was due");
                let error = self.error(&reason).with_status(status);
                return Err(TransferFailure::Fatal(error));
            }
        };
        let length = wanted.length.unwrap_or_default();
        if self.partial.len() as u64 + length > self.limit as u64 {
            return Err(self.too_large());
        }
        self.read_body(response, wanted).await
    }

    /// What a failed request means for the next one.
    fn classify(&mut self, e: Error) -> TransferFailure {
        match e.http_status {
            _ if is_transient(&e) => TransferFailure::Transient(e),
            _ if !is_of_clip(&e) => TransferFailure::Fatal(e),
            // A signed address is valid for minutes, and some storage answers 400
            // after that. Whether a segment is gone, the playlist tells.
            Some(401 | 403 | 404 | 410) => TransferFailure::Moved(e),
            Some(400) if self.entry.url.query().is_some() => TransferFailure::Moved(e),
            Some(416) if self.partial.len() > 0 => {
                self.partial.clear();
                TransferFailure::Transient(e)
            }
            _ => TransferFailure::Fatal(e),
        }
    }

    fn error(&self, reason: &str) -> Error {
        let message = format!("{} {reason}", display_url(&self.entry.url));
        clip_error(Code::ChunkFetchFailed, message)
    }

    fn too_large(&self) -> TransferFailure {
        let limit = self.limit;
        let reason = format!("is larger than the {limit} bytes that a piece of a clip may have");
        TransferFailure::Fatal(self.error(&reason))
    }

    /// A response with the complete file: the segment, or a file with the segment
    /// in it.
    fn accept_whole_file(
        &mut self,
        response: &ResponseStream,
    ) -> Result<WantedBytes, TransferFailure> {
        let length = response.length();
        *self.partial = PartialSegment {
            size: length,
            validator: validator(response),
            ..PartialSegment::default()
        };
        let Some(range) = self.entry.range else {
            return Ok(WantedBytes { skip: 0, length });
        };
        let end = range.offset.saturating_add(range.length);
        if length.is_some_and(|size| size < end) {
            let error = self.error("is shorter than the playlist says");
            return Err(TransferFailure::Fatal(error));
        }
        if end > self.limit as u64 {
            let reason = "is large, and its server does not give a part of it (Range)";
            return Err(TransferFailure::Fatal(self.error(reason)));
        }
        Ok(WantedBytes {
            skip: range.offset,
            length: Some(range.length),
        })
    }

    /// A response with a part of the file, which must be the requested one.
    fn accept_range(&mut self, response: &ResponseStream) -> Result<WantedBytes, TransferFailure> {
        let range = response.header(CONTENT_RANGE).and_then(parse_content_range);
        let received = self.partial.len() as u64;
        let requested = self.entry.range;
        let first = received + requested.map_or(0, |range| range.offset);
        let last = requested.map(|range| range.offset + range.length - 1);
        let is_requested = |(from, to, _): &(u64, u64, Option<u64>)| {
            *from == first && last.is_none_or(|last| *to <= last)
        };
        let Some((from, to, size)) = range.filter(is_requested) else {
            let error = self.error("gave another part of itself than was asked for");
            self.partial.clear();
            return Err(match received {
                0 => TransferFailure::Fatal(error),
                _ => TransferFailure::Transient(error),
            });
        };
        if received == 0 {
            self.partial.validator = validator(response);
            self.partial.size = size;
        } else if size.is_some() && self.partial.size.is_some() && size != self.partial.size {
            self.partial.clear();
            let error = self.error("is not the same any more as when it was begun");
            return Err(TransferFailure::Transient(error));
        }
        let length = Some(to - from + 1);
        Ok(WantedBytes { skip: 0, length })
    }

    /// Adds the wanted bytes of a body.
    async fn read_body(
        &mut self,
        mut response: ResponseStream,
        wanted: WantedBytes,
    ) -> Result<(), TransferFailure> {
        let limit = self.limit;
        if let Some(length) = wanted.length {
            // Not more than the limit, which was checked.
            let length = usize::try_from(length).unwrap_or(limit);
            self.permit.grow_to(self.partial.len() + length).await;
            self.partial.bytes.reserve_exact(length);
        }
        let mut rate = TransferRate::default();
        let (mut skip, mut missing) = (wanted.skip, wanted.length);
        while missing != Some(0) {
            let Some(timeout) = rate.next_timeout(&self.loader.limits) else {
                let reason = format!("comes too slowly, {} bytes so far", rate.bytes);
                return Err(TransferFailure::Transient(self.error(&reason)));
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
            let received = self.partial.len() + chunk.len();
            if received > limit {
                return Err(self.too_large());
            }
            self.permit.grow_to(received).await;
            self.partial.bytes.extend_from_slice(&chunk);
        }
        let size = self.entry.range.map(|range| range.length);
        let received = self.partial.len() as u64;
        match size.or(self.partial.size).or(wanted.length) {
            // A response with a part may be shorter than the requested range.
            Some(size) if received < size => {
                let error = self.error(&format!("broke off after {received} bytes"));
                Err(TransferFailure::Transient(error))
            }
            _ => Ok(()),
        }
    }
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
