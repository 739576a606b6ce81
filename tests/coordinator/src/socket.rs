// SPDX-License-Identifier: MIT

//! The TCP connection of a request, for replies that violate HTTP.

use std::{
    io::Write,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::Arc,
};

use axum::{
    body::Body, extract::connect_info::Connected, response::Response, serve::IncomingStream,
};
use tokio::net::TcpListener;

/// A second handle on a connection; none if the system is out of descriptors.
#[derive(Debug, Clone)]
pub struct Socket(Option<Arc<TcpStream>>);

impl Connected<IncomingStream<'_, TcpListener>> for Socket {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let socket = stream.io().as_fd().try_clone_to_owned();
        Self(socket.ok().map(|socket| Arc::new(socket.into())))
    }
}

/// Marks a reply that is not sent.
#[derive(Debug, Clone, Copy)]
pub struct Ended;

impl Socket {
    /// Sends these bytes as they are and closes the connection.
    pub fn end(&self, bytes: &[u8]) -> Response {
        if let Some(socket) = &self.0 {
            let _ = (&**socket).write_all(bytes);
            let _ = socket.shutdown(Shutdown::Both);
        }
        let mut reply = Response::new(Body::empty());
        reply.extensions_mut().insert(Ended);
        reply
    }
}
