// SPDX-License-Identifier: MIT

//! A request's body that counts the bytes that are taken from it to be sent.
//! Polled by the HTTP client's task.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The bytes that are taken at a time.
const CHUNK: usize = 64 << 10;

/// Bytes of known number, and what is told how many of them were taken.
pub(super) struct CountedBody<F> {
    left: Bytes,
    taken: u64,
    report: F,
}

impl<F: FnMut(u64)> CountedBody<F> {
    pub(super) fn new(bytes: Bytes, report: F) -> Self {
        Self {
            left: bytes,
            taken: 0,
            report,
        }
    }
}

impl<F: FnMut(u64) + Unpin> Body for CountedBody<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.left.is_empty() {
            return Poll::Ready(None);
        }
        let chunk = this.left.split_to(this.left.len().min(CHUNK));
        this.taken += chunk.len() as u64;
        (this.report)(this.taken);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    /// Exact, so that the request has a Content-Length: storage asks for one.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}
