// SPDX-License-Identifier: MIT

//! A webrtcbin that plays the server, for what the real runtime cannot do: send H.264, speak JSON
//! only, close the connection or refuse on demand.

mod connection;
mod hostile;
mod messages;
mod offer;
mod routes;
mod v1;

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;
use tokio::sync::oneshot;

use crate::pipeline::wait_for;
use connection::Connection;
pub use hostile::Tamper;
pub use messages::{ClientMessage, ReceivedMessage};
pub use offer::{Offer, Section};

pub const WIDTH: i32 = 320;
pub const HEIGHT: i32 = 240;

/// The codec of a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    H264,
    Vp8,
    Vp9,
    /// Needs rtpav1pay, which is not in GStreamer 1.22.
    Av1,
    Opus,
}

impl Encoding {
    /// The name in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::Opus => "OPUS",
        }
    }

    pub fn kind(self) -> &'static str {
        match self {
            Self::Opus => "audio",
            _ => "video",
        }
    }
}

#[derive(Debug, Clone)]
pub struct PeerConfig {
    /// The output tracks, by name.
    pub tracks: Vec<(String, Encoding)>,
    /// The version in the session's description.
    pub server_version: String,
    /// Binary messages are neither understood nor answered.
    pub v0_only: bool,
    /// The answer announces the SSRC of each track, as the real server's does. webrtcbin itself
    /// does not need it.
    pub announces_ssrc: bool,
    /// The answer rejects the data channels' m-section.
    pub rejects_channels: bool,
    /// Messages of the data channels are framed, up to this size in bytes.
    pub chunking: Option<usize>,
}

impl PeerConfig {
    /// A server of the newest version, with one track of each encoding: `main`, `main1`...
    pub fn sending(encodings: &[Encoding]) -> Self {
        let name = |n| match n {
            0 => "main".to_owned(),
            n => format!("main{n}"),
        };
        let tracks = encodings.iter().enumerate();
        Self {
            tracks: tracks.map(|(n, encoding)| (name(n), *encoding)).collect(),
            server_version: "3.10.0".to_owned(),
            v0_only: false,
            announces_ssrc: true,
            rejects_channels: false,
            chunking: None,
        }
    }

    #[must_use]
    pub fn v0_only(mut self, server_version: &str) -> Self {
        self.v0_only = true;
        self.server_version = server_version.to_owned();
        self
    }
}

/// The running server; it stops when dropped.
#[derive(Debug)]
pub struct Peer {
    shared: Arc<PeerState>,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The state that HTTP, the connection and the test share.
#[derive(Debug)]
struct PeerState {
    config: PeerConfig,
    /// The session's state, as the runtime names it.
    state: Mutex<String>,
    offers: Mutex<Vec<Offer>>,
    /// Handed out once.
    answer: Mutex<Option<String>>,
    connection: Mutex<Option<Arc<Connection>>>,
    /// The client's candidates that the connection does not have yet: index of the m-line, text.
    candidates: Mutex<Vec<(u32, String)>>,
    /// All of the client's candidates that did not come in an offer.
    trickled: Mutex<Vec<String>>,
    received: Mutex<Vec<ReceivedMessage>>,
    /// Whether the client's first message was binary.
    binary: Mutex<Option<bool>>,
}

impl PeerState {
    fn connection(&self) -> Option<Arc<Connection>> {
        self.connection.lock().unwrap().clone()
    }

    fn set_state(&self, state: &str) {
        state.clone_into(&mut self.state.lock().unwrap());
    }
}

impl Peer {
    pub fn start(config: PeerConfig) -> Self {
        crate::init();
        let shared = Arc::new(PeerState {
            config,
            state: Mutex::new("ready".to_owned()),
            offers: Mutex::default(),
            answer: Mutex::default(),
            connection: Mutex::default(),
            candidates: Mutex::default(),
            trickled: Mutex::default(),
            received: Mutex::default(),
            binary: Mutex::default(),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("address").port();
        let (stop, stopped) = oneshot::channel();
        let router = routes::router(shared.clone());
        let thread = std::thread::spawn(move || serve(listener, router, stopped));
        Self {
            shared,
            port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits for the first offer.
    pub fn offer(&self, limit: Duration) -> Offer {
        wait_for(limit, "an offer", || {
            self.shared.offers.lock().unwrap().first().cloned()
        })
    }

    /// The number of offers so far: each is for another connection.
    pub fn offers(&self) -> usize {
        self.shared.offers.lock().unwrap().len()
    }

    /// The client's messages so far, in order.
    pub fn received(&self) -> Vec<ReceivedMessage> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Waits until the client has sent this message `times` times.
    pub fn wait_for_message(&self, message: &ClientMessage, times: usize, limit: Duration) {
        wait_for(limit, &format!("{times} x {message:?}"), || {
            let received = self.received();
            let count = received
                .iter()
                .filter(|received| received.message == *message)
                .count();
            (count >= times).then_some(())
        });
    }

    /// Sends a message of the model, in the client's encoding.
    pub fn send_model_message(&self, name: &str, data: &Value) {
        messages::send_model_message(&self.shared, name, data);
    }

    /// The number of RTP packets of a track that were handed to the connection.
    pub fn sent(&self, track: &str) -> u64 {
        let connection = self.shared.connection();
        connection.map_or(0, |connection| connection.sent(track))
    }

    /// Changes the state in the session's description.
    pub fn set_state(&self, state: &str) {
        self.shared.set_state(state);
    }

    pub fn state(&self) -> String {
        self.shared.state.lock().unwrap().clone()
    }

    /// Closes the connection without notice.
    pub fn close_connection(&self) {
        let connection = self.shared.connection.lock().unwrap().take();
        drop(connection);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.close_connection();
    }
}

fn serve(listener: TcpListener, router: axum::Router, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("non-blocking");
        let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
        tokio::select! {
            result = async { axum::serve(listener, router).await } => result.expect("HTTP"),
            _ = stopped => {}
        }
    });
}

/// Logs to standard error if REACTOR_TEST_SERVER_LOG is set.
fn log(what: impl std::fmt::Display) {
    if std::env::var_os("REACTOR_TEST_SERVER_LOG").is_some() {
        eprintln!("peer: {what}");
    }
}
