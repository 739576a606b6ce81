// SPDX-License-Identifier: MIT

//! A server of clips on 127.0.0.1 with scripted answers, and clips for it.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::{ClipSegment, Download, DownloadEvent, DownloadLimits, PlaylistLocation, SegmentKind};
use crate::platform::{Error, http::testing::http};

/// One request, as a test's handler sees it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Path and query.
    pub(super) target: String,
    head: String,
    /// How many requests for that path came before.
    pub(super) nth: usize,
}

impl Request {
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// What a handler answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// Instead of the length of the body.
    length: Option<u64>,
    /// Closes the connection after so many bytes of the body.
    cut: Option<usize>,
    /// Bytes that are sent at once, and the pause after each.
    pace: Option<(usize, Duration)>,
    delay: Duration,
    /// Says nothing of a length.
    silent: bool,
    /// Keeps the connection after what has been sent, and says no more.
    hang: bool,
}

impl Answer {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        write!(self.headers, "{name}: {value}\r\n").unwrap();
        self
    }

    pub(super) fn late(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(super) fn said_to_have(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    pub(super) fn of_no_length(mut self) -> Self {
        self.silent = true;
        self
    }

    pub(super) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub(super) fn paced(mut self, bytes: usize, pause: Duration) -> Self {
        self.pace = Some((bytes, pause));
        self
    }

    pub(super) fn hanging_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self.hang = true;
        self
    }
}

/// A file as a good server serves it, with ranges.
pub(super) fn file(bytes: &[u8], request: &Request) -> Answer {
    let size = bytes.len();
    let Some(range) = request.header("range") else {
        return Answer::new(200, bytes);
    };
    let (first, last) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(size).min(size.saturating_sub(1));
    if first > last {
        return Answer::new(416, "");
    }
    let range = format!("bytes {first}-{last}/{size}");
    Answer::new(206, &bytes[first..=last]).with("content-range", &range)
}

/// How many requests are answered at once, and were at most.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

pub(super) struct ClipServer {
    pub(super) base: String,
    log: Arc<Mutex<Vec<Request>>>,
    /// Connections that are there.
    open: Arc<AtomicUsize>,
    busy: Arc<Busy>,
    task: JoinHandle<()>,
}

impl Drop for ClipServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ClipServer {
    pub(super) async fn start(
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let open: Arc<AtomicUsize> = Arc::default();
        let busy: Arc<Busy> = Arc::default();
        let (requests, connections, load) = (log.clone(), open.clone(), busy.clone());
        let handler: Arc<Handler> = Arc::new(handler);
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (log, open) = (requests.clone(), connections.clone());
                let busy = load.clone();
                let handler = handler.clone();
                tasks.spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    serve(stream, &*handler, &log, &busy).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            base,
            log,
            open,
            busy,
            task,
        }
    }

    /// A server of files, by their paths.
    pub(super) async fn of(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let files: HashMap<_, _> = files.into_iter().collect();
        Self::start(move |request| match files.get(request.path()) {
            Some(bytes) => file(bytes, request),
            None => Answer::new(404, ""),
        })
        .await
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }

    /// How often a path was asked for.
    pub(super) fn count(&self, path: &str) -> usize {
        let requests = self.requests();
        requests.iter().filter(|r| r.path() == path).count()
    }

    pub(super) fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The most requests that were answered at once, since this was last
    /// asked for.
    pub(super) fn most_at_once(&self) -> usize {
        self.busy.most.swap(0, Ordering::SeqCst)
    }

    pub(super) fn playlist(&self) -> PlaylistLocation {
        self.at("/clip.m3u8")
    }

    pub(super) fn at(&self, target: &str) -> PlaylistLocation {
        PlaylistLocation::from_url(http(), &format!("{}{target}", self.base), None).unwrap()
    }
}

async fn serve(mut stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>, busy: &Busy) {
    while let Some(head) = read_head(&mut stream).await {
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let request = {
            let mut log = log.lock().unwrap();
            let path = target.split('?').next();
            let same = |r: &&Request| Some(r.path()) == path;
            let nth = log.iter().filter(same).count();
            let request = Request { target, head, nth };
            log.push(request.clone());
            request
        };
        let answer = handler(&request);
        let now = busy.now.fetch_add(1, Ordering::SeqCst) + 1;
        busy.most.fetch_max(now, Ordering::SeqCst);
        sleep(answer.delay).await;
        busy.now.fetch_sub(1, Ordering::SeqCst);
        if !send(&mut stream, &answer).await {
            return;
        }
    }
}

/// Whether the connection is still good.
async fn send(stream: &mut TcpStream, answer: &Answer) -> bool {
    let length = answer.length.unwrap_or(answer.body.len() as u64);
    let mut head = format!("HTTP/1.1 {} X\r\n{}", answer.status, answer.headers);
    if !answer.silent {
        write!(head, "content-length: {length}\r\n").unwrap();
    }
    head.push_str("\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    let end = answer
        .cut
        .unwrap_or(answer.body.len())
        .min(answer.body.len());
    let (step, pause) = answer.pace.unwrap_or((usize::MAX, Duration::ZERO));
    for chunk in answer.body[..end].chunks(step) {
        if stream.write_all(chunk).await.is_err() {
            return false;
        }
        sleep(pause).await;
    }
    if answer.hang {
        // Until the other side goes.
        let _ = stream.read(&mut [0; 16]).await;
    }
    answer.cut.is_none() && answer.length.is_none()
}

/// The head of the next request. Its body, if it has one, is left out.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut data = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&data);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |n| n.parse().unwrap()) {
                return Some(head.to_owned());
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => data.extend_from_slice(&buffer[..n]),
        }
    }
}

fn atom(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).unwrap();
    [&size.to_be_bytes()[..], kind, body].concat()
}

/// An initialization section, different for each number.
pub(super) fn init_section(n: u8) -> Vec<u8> {
    [atom(b"ftyp", b"iso5\0\0\0\0"), atom(b"moov", &[n; 30])].concat()
}

/// A segment of `size` bytes of media, different for each number.
pub(super) fn segment(n: usize, size: usize) -> Vec<u8> {
    let mut mdat = vec![0; size];
    let mut state = n as u32 + 1;
    for byte in &mut mdat {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = state.to_be_bytes()[0];
    }
    let moof = atom(b"moof", &n.to_be_bytes());
    [atom(b"styp", b"msdh"), moof, atom(b"mdat", &mdat)].concat()
}

/// A playlist of lines: `map` and then a segment of four seconds for each
/// address.
pub(super) fn playlist<'a>(map: &str, addresses: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = open_playlist(map, addresses);
    text.push_str("#EXT-X-ENDLIST\n");
    text
}

/// A playlist without EXT-X-ENDLIST.
pub(super) fn open_playlist<'a>(map: &str, addresses: impl IntoIterator<Item = &'a str>) -> String {
    let mut text =
        format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"{map}\"\n");
    for address in addresses {
        write!(text, "#EXTINF:4.000,\n{address}\n").unwrap();
    }
    text
}

/// DownloadLimits under which a test does not take long.
pub(super) fn quick() -> DownloadLimits {
    DownloadLimits {
        backoff: Duration::from_millis(5),
        poll_interval: (Duration::from_millis(10), Duration::from_millis(30)),
        reload: (Duration::from_millis(10), Duration::from_millis(20)),
        idle: Duration::from_secs(10),
        tries: 3,
        ..DownloadLimits::default()
    }
}

/// All events of a download, and its error. Nothing follows.
pub(super) async fn all(
    playlist: PlaylistLocation,
    limits: DownloadLimits,
) -> (Vec<DownloadEvent>, Option<Error>) {
    rest(Download::start(playlist, limits)).await
}

pub(super) async fn rest(mut download: Download) -> (Vec<DownloadEvent>, Option<Error>) {
    let mut events = Vec::new();
    let work = async {
        while let Some(event) = download.next().await {
            match event {
                Ok(event) => events.push(event),
                Err(e) => {
                    assert!(download.next().await.is_none());
                    return Some(e);
                }
            }
        }
        assert!(download.next().await.is_none());
        None
    };
    let error = tokio::time::timeout(Duration::from_secs(30), work).await;
    (events, error.unwrap())
}

/// The segments of a download that must succeed.
pub(super) async fn segments(
    playlist: PlaylistLocation,
    limits: DownloadLimits,
) -> Vec<ClipSegment> {
    let (events, error) = all(playlist, limits).await;
    assert_eq!(error, None);
    segments_of(events)
}

pub(super) fn segments_of(events: Vec<DownloadEvent>) -> Vec<ClipSegment> {
    let segment = |event| match event {
        DownloadEvent::Segment(segment) => Some(segment),
        _ => None,
    };
    events.into_iter().filter_map(segment).collect()
}

/// The bytes of segments, and whether each is an initialization section.
pub(super) fn contents(segments: &[ClipSegment]) -> Vec<(bool, &[u8])> {
    let content = |segment: &'_ ClipSegment| segment.kind == SegmentKind::InitSection;
    segments
        .iter()
        .map(|p| (content(p), &p.bytes[..]))
        .collect()
}

/// The error of a download that must fail.
pub(super) async fn failure(playlist: PlaylistLocation, limits: DownloadLimits) -> Error {
    let (_, error) = all(playlist, limits).await;
    let error = error.unwrap();
    assert_eq!(error.operation, Some("clip"), "{error}");
    error
}
