// SPDX-License-Identifier: MIT

//! A server with a recording of any length: one part of a real recording, repeated at the times at
//! which it would come.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};

use crate::mp4;

/// In seconds. It contains a whole number of AAC frames at 48 kHz and of pictures, so that the
/// repeated part continues without a seam.
const PERIOD: u64 = 8;

/// A server that ends with the process.
#[derive(Debug)]
pub struct RecordingServer {
    address: SocketAddr,
    shared: Arc<RecordingState>,
}

#[derive(Debug)]
struct RecordingState {
    header: Bytes,
    /// The chunks of one period.
    chunks: Vec<Vec<u8>>,
    /// By track id.
    timescales: HashMap<u32, u64>,
    segments: usize,
    latency: Duration,
    requests: AtomicUsize,
}

impl RecordingServer {
    /// Serves `segments` segments, each after `latency`. `clip` is a clip of the playground as the
    /// platform's own client downloads it, from its beginning and one chunk longer than [`PERIOD`].
    pub fn serve(clip: &[u8], segments: usize, latency: Duration) -> Self {
        let boxes = mp4::split(clip);
        let first = boxes
            .iter()
            .position(|b| b.name == "styp")
            .expect("a chunk");
        let begin = boxes[first].begin;
        let mut begins: Vec<_> = boxes
            .iter()
            .filter(|b| b.name == "styp")
            .map(|b| b.begin)
            .collect();
        begins.push(clip.len());
        let mut chunks: Vec<_> = begins
            .windows(2)
            .map(|pair| clip[pair[0]..pair[1]].to_vec())
            .collect();
        // The first one contains the encoder's priming, which occurs once.
        chunks.remove(0);
        let of_period = PERIOD as usize / 2;
        assert!(chunks.len() >= of_period, "{} chunks", chunks.len());
        chunks.truncate(of_period);
        let shared = Arc::new(RecordingState {
            header: Bytes::copy_from_slice(&clip[..begin]),
            chunks,
            timescales: mp4::timescales(&clip[..begin]),
            segments,
            latency,
            requests: AtomicUsize::new(0),
        });
        Self {
            address: start(shared.clone()),
            shared,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/clip.m3u8", self.address)
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

fn start(shared: Arc<RecordingState>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket");
    let router = Router::new()
        .route("/clip.m3u8", get(playlist))
        .route("/init.mp4", get(header))
        .route("/chunk/{number}", get(chunk))
        .with_state(shared);
    thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            axum::serve(listener, router).await.expect("a server");
        });
    });
    address
}

type Served = State<Arc<RecordingState>>;

async fn begin(shared: &RecordingState) {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(shared.latency).await;
}

async fn playlist(State(shared): Served) -> String {
    begin(&shared).await;
    let mut text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n\
                    #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MAP:URI=\"init.mp4\"\n"
        .to_owned();
    for number in 0..shared.segments {
        text += &format!("#EXTINF:2.000,\nchunk/{number}.m4s\n");
    }
    text + "#EXT-X-ENDLIST\n"
}

async fn header(State(shared): Served) -> Bytes {
    begin(&shared).await;
    shared.header.clone()
}

async fn chunk(State(shared): Served, Path(name): Path<String>) -> Result<Vec<u8>, StatusCode> {
    begin(&shared).await;
    let number = name.strip_suffix(".m4s").and_then(|n| n.parse().ok());
    let number: usize = number.ok_or(StatusCode::NOT_FOUND)?;
    let mut bytes = shared.chunks[number % shared.chunks.len()].clone();
    let seconds = (number / shared.chunks.len()) as u64 * PERIOD;
    mp4::delay(&mut bytes, seconds, &shared.timescales);
    Ok(bytes)
}
