// SPDX-License-Identifier: MIT

//! The replies to requests. Each is given once, on the driver's task or the
//! command queue's: what receives it must hand over and return.

use super::machine::closed_error;
use crate::platform::{
    Error,
    wire::{FileRef, ServerMessage},
};

type Receiver<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

/// Receives the reply to one request, once: if it is dropped, because nothing is
/// left that could answer, the error for a session that is closed.
pub struct Reply<T>(Option<Receiver<T>>);

/// Receives the server's reply to a request.
pub type ReplyCallback = Reply<ServerMessage>;

/// Receives the reference to an uploaded file.
pub type UploadCallback = Reply<FileRef>;

impl<T> Reply<T> {
    pub fn new(receive: impl FnOnce(Result<T, Error>) + Send + 'static) -> Self {
        Self(Some(Box::new(receive)))
    }

    /// For a request whose reply does not matter.
    pub fn ignored() -> Self {
        Self(None)
    }

    pub fn send(mut self, result: Result<T, Error>) {
        self.take(result);
    }

    fn take(&mut self, result: Result<T, Error>) {
        if let Some(receive) = self.0.take() {
            receive(result);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        self.take(Err(closed_error()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::platform::Code;

    #[test]
    fn reply_is_given_once_even_if_dropped() {
        let (sender, received) = mpsc::channel();
        let reply = |sender: &mpsc::Sender<Result<u8, Error>>| {
            let sender = sender.clone();
            Reply::new(move |result| sender.send(result).unwrap())
        };
        reply(&sender).send(Ok(1));
        assert_eq!(received.try_recv().unwrap().unwrap(), 1);
        drop(reply(&sender));
        let error = received.try_recv().unwrap().unwrap_err();
        assert_eq!(error.code, Code::Disconnected);
        assert!(received.try_recv().is_err());
        Reply::<u8>::ignored().send(Ok(1));
    }
}
