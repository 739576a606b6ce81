// SPDX-License-Identifier: MIT

//! One request for a piece, or for what is missing of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};

use super::{
    Limits, OPERATION,
    fetch::judge,
    listing::{Part, Range},
    memory_limit::MemoryPermit,
    source::Source,
};
use crate::platform::{
    Code, Error,
    http::{ResponseStream, ServerRole, display_url},
};

/// Why a try failed.
pub(super) enum Failure {
    /// It may lie elsewhere by now.
    Moved(Error),
    /// The next try may succeed, and goes on where this one ended.
    Passing(Error),
    /// All of it came, but it is no such piece.
    Broken(Error),
    Final(Error),
}

/// What has come of a piece.
#[derive(Default)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    /// What tells that the file is still the same.
    validator: Option<HeaderValue>,
    /// The size of the whole file.
    size: Option<u64>,
}

impl Partial {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn take(self) -> Bytes {
        self.bytes.into()
    }

    /// What to ask for, besides the address.
    fn headers(&self, range: Option<Range>) -> HeaderMap {
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

/// What is to be taken of an answer.
struct Portion {
    /// Left out at its beginning.
    skip: u64,
    /// Taken from there; all that comes if it is not known.
    length: Option<u64>,
}

/// Asks for what is missing of a piece, and takes what comes.
pub(super) async fn attempt(
    source: &Source,
    part: &Part,
    limit: usize,
    got: &mut Partial,
    room: &mut MemoryPermit,
) -> Result<(), Failure> {
    if part
        .range
        .is_some_and(|range| got.len() as u64 == range.length)
    {
        return Ok(());
    }
    let headers = got.headers(part.range);
    let answer = source
        .playlist
        .get(&part.url, headers, ServerRole::Segments)
        .await;
    let answer = answer.map_err(|e| judge(e, part, got))?;
    let portion = match answer.status() {
        200 => whole(&answer, part, limit, got)?,
        206 => portion(&answer, part, got)?,
        status => {
            let what = format!("answered {status} where a piece of a clip was due");
            return Err(Failure::Final(wrong(part, &what).with_status(status)));
        }
    };
    if portion
        .length
        .is_some_and(|length| got.len() as u64 + length > limit as u64)
    {
        return Err(too_large(part, limit));
    }
    take(answer, &source.limits, part, limit, portion, got, room).await
}

fn wrong(part: &Part, what: &str) -> Error {
    let message = format!("{} {what}", display_url(&part.url));
    Error::api(Code::ChunkFetchFailed, message).during(OPERATION)
}

fn too_large(part: &Part, limit: usize) -> Failure {
    let what = format!("is larger than the {limit} bytes that a piece of a clip may have");
    Failure::Final(wrong(part, &what))
}

/// An answer with all of the file: the beginning of it, or what is to be cut
/// out of it.
fn whole(
    answer: &ResponseStream,
    part: &Part,
    limit: usize,
    got: &mut Partial,
) -> Result<Portion, Failure> {
    got.clear();
    got.size = answer.length();
    got.validator = validator(answer);
    let Some(range) = part.range else {
        return Ok(Portion {
            skip: 0,
            length: answer.length(),
        });
    };
    let end = range.offset.saturating_add(range.length);
    if answer.length().is_some_and(|size| size < end) {
        let what = "is shorter than the playlist says";
        return Err(Failure::Final(wrong(part, what)));
    }
    if end > limit as u64 {
        let what = "is large, and its server does not give a part of it (Range)";
        return Err(Failure::Final(wrong(part, what)));
    }
    Ok(Portion {
        skip: range.offset,
        length: Some(range.length),
    })
}

/// An answer with a part of the file, which must be the one asked for.
fn portion(answer: &ResponseStream, part: &Part, got: &mut Partial) -> Result<Portion, Failure> {
    let told = answer.header(CONTENT_RANGE).and_then(content_range);
    let first = got.len() as u64 + part.range.map_or(0, |range| range.offset);
    let last = part.range.map(|range| range.offset + range.length - 1);
    let fits = |(from, to, _): &(u64, u64, Option<u64>)| {
        *from == first && last.is_none_or(|last| *to <= last)
    };
    let Some((from, to, size)) = told.filter(fits) else {
        let error = wrong(part, "gave another part of itself than was asked for");
        return Err(match got.len() {
            0 => Failure::Final(error),
            _ => {
                got.clear();
                Failure::Passing(error)
            }
        });
    };
    if got.len() == 0 {
        got.validator = validator(answer);
        got.size = size;
    } else if size.is_some() && got.size.is_some() && size != got.size {
        got.clear();
        let error = wrong(part, "is not the same any more as when it was begun");
        return Err(Failure::Passing(error));
    }
    Ok(Portion {
        skip: 0,
        length: Some(to - from + 1),
    })
}

/// What tells one state of a file from another: a strong ETag, or its date
/// (RFC 9110, 13.1.5).
fn validator(answer: &ResponseStream) -> Option<HeaderValue> {
    let tag = answer.header(ETAG).filter(|tag| tag.starts_with('"'));
    let value = tag.or_else(|| answer.header(LAST_MODIFIED))?;
    HeaderValue::from_str(value).ok()
}

/// `bytes 0-9/100` or `bytes 0-9/*` (RFC 9110, 14.4).
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
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

/// Takes what comes.
async fn take(
    mut answer: ResponseStream,
    limits: &Limits,
    part: &Part,
    limit: usize,
    portion: Portion,
    got: &mut Partial,
    room: &mut MemoryPermit,
) -> Result<(), Failure> {
    if let Some(length) = portion.length {
        // Not more than the limit, which was checked.
        let length = usize::try_from(length).unwrap_or(limit);
        room.cover(got.len() + length).await;
        got.bytes.reserve_exact(length);
    }
    let mut pace = Pace::default();
    let (mut skip, mut missing) = (portion.skip, portion.length);
    while missing != Some(0) {
        let Some(patience) = pace.patience(limits) else {
            let what = format!("comes too slowly, {} bytes so far", pace.bytes);
            return Err(Failure::Passing(wrong(part, &what)));
        };
        let since = Instant::now();
        let chunk = answer
            .next_chunk(patience)
            .await
            .map_err(Failure::Passing)?;
        let Some(mut chunk) = chunk else { break };
        pace.count(since.elapsed(), chunk.len());
        let skipped = skip.min(chunk.len() as u64);
        skip -= skipped;
        // Both are no more than the length of the chunk.
        drop(chunk.split_to(usize::try_from(skipped).unwrap_or_default()));
        if let Some(missing) = &mut missing {
            let taken = (*missing).min(chunk.len() as u64);
            *missing -= taken;
            chunk.truncate(usize::try_from(taken).unwrap_or_default());
        }
        if got.len() + chunk.len() > limit {
            return Err(too_large(part, limit));
        }
        room.cover(got.len() + chunk.len()).await;
        got.bytes.extend_from_slice(&chunk);
    }
    let whole = part.range.map(|range| range.length).or(got.size);
    match whole.or(portion.length) {
        // An answer with a part may hold less than was asked for.
        Some(whole) if (got.len() as u64) < whole => {
            let what = format!("broke off after {} bytes", got.len());
            Err(Failure::Passing(wrong(part, &what)))
        }
        _ => Ok(()),
    }
}

/// How fast something comes. Time in which nobody reads does not count.
#[derive(Default)]
struct Pace {
    spent: Duration,
    bytes: u64,
}

impl Pace {
    fn count(&mut self, time: Duration, bytes: usize) {
        self.spent += time;
        self.bytes += bytes as u64;
    }

    /// How long the next bytes may take to come.
    fn patience(&self, limits: &Limits) -> Option<Duration> {
        let granted = Duration::from_secs(self.bytes / limits.bytes_per_second.max(1));
        let left = (limits.grace + granted).saturating_sub(self.spent);
        (!left.is_zero()).then(|| left.min(limits.idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_answers() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0, 9, Some(100))));
        assert_eq!(content_range(" bytes 5-5/*"), Some((5, 5, None)));
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
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    #[test]
    fn patience_ends() {
        let limits = Limits::default();
        let mut pace = Pace::default();
        assert_eq!(pace.patience(&limits), Some(super::super::IDLE));
        pace.count(Duration::from_secs(25), 0);
        assert_eq!(pace.patience(&limits), Some(Duration::from_secs(5)));
        pace.count(Duration::from_secs(5), 1000);
        assert_eq!(pace.patience(&limits), None);
        pace.count(Duration::ZERO, 2 << 14);
        assert_eq!(pace.patience(&limits), Some(Duration::from_secs(2)));
    }
}
