// SPDX-License-Identifier: MIT

//! The HTTP server of the unit tests, on 127.0.0.1: scripted connection by
//! connection ([`Server::start`]), or with a handler for each request
//! ([`Server::with_handler`]), for example of files with ranges.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    ops::Deref,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::platform::{endpoint::Endpoint, http::HttpClient};

/// What to do with one connection.
pub(crate) enum Act {
    /// Read the request, send these pieces, close.
    Reply(Vec<Vec<u8>>),
    /// Answer with that status and the whole request, as JSON and as text.
    Echo(u16),
    /// Read the request, never answer.
    Silence,
    /// Close at once.
    Close,
}

/// A request: its text, head and body.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    text: String,
    /// Path and query.
    pub(crate) target: String,
    /// The number of earlier requests for the path.
    pub(crate) nth: usize,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Deref for Request {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The response of a handler.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// The announced length, instead of that of the body.
    length: Option<u64>,
    /// Closes the connection after this number of bytes of the body.
    cut: Option<usize>,
    /// The bytes of one write, and the pause after each.
    pace: Option<(usize, Duration)>,
    delay: Duration,
    /// Sends no `content-length`.
    no_length: bool,
    /// Keeps the connection open after the last byte.
    hang: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        write!(self.headers, "{name}: {value}\r\n").unwrap();
        self
    }

    pub(crate) fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn with_content_length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    pub(crate) fn without_content_length(mut self) -> Self {
        self.no_length = true;
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub(crate) fn paced(mut self, bytes: usize, pause: Duration) -> Self {
        self.pace = Some((bytes, pause));
        self
    }

    pub(crate) fn hanging_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self.hang = true;
        self
    }
}

/// The response of a server that supports ranges (RFC 9110, 14).
pub(crate) fn file(bytes: &[u8], request: &Request) -> Answer {
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
    Answer::new(206, &bytes[first..=last]).with_header("content-range", &range)
}

/// The number of requests in progress, now and at most.
#[derive(Default)]
struct Load {
    now: AtomicUsize,
    most: AtomicUsize,
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

/// What a server has seen.
#[derive(Default)]
struct Record {
    requests: Mutex<Vec<Request>>,
    /// The number of open connections to a handler.
    open: AtomicUsize,
    load: Load,
}

impl Record {
    fn push(&self, text: String) -> Request {
        let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut request = Request {
            text,
            target,
            nth: 0,
        };
        let mut requests = self.requests.lock().unwrap();
        let earlier = requests.iter().filter(|r| r.path() == request.path());
        request.nth = earlier.count();
        requests.push(request.clone());
        request
    }
}

pub(crate) struct Server {
    pub(crate) base: String,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

impl Server {
    /// A server that handles one connection after the other as scripted, and
    /// then answers no more.
    pub(crate) async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let script: Vec<_> = script.into_iter().collect();
        Self::run(async move |listener, record| {
            let mut silent = Vec::new();
            for act in script {
                let (stream, _) = listener.accept().await.unwrap();
                silent.extend(perform(act, stream, &record).await);
            }
            std::future::pending::<()>().await;
        })
        .await
    }

    /// A server that answers all requests as `handler` says, in parallel.
    pub(crate) async fn with_handler(
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let handler: Arc<Handler> = Arc::new(handler);
        Self::run(async move |listener, record| {
            let mut tasks = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (handler, record) = (handler.clone(), record.clone());
                tasks.spawn(async move {
                    record.open.fetch_add(1, Ordering::SeqCst);
                    serve(stream, &*handler, &record).await;
                    record.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        })
        .await
    }

    /// A server of files, by their paths.
    pub(crate) async fn with_files(
        files: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
    ) -> Self {
        let files: HashMap<_, _> = files.into_iter().collect();
        Self::with_handler(move |request| match files.get(request.path()) {
            Some(bytes) => file(bytes, request),
            None => Answer::new(404, ""),
        })
        .await
    }

    async fn run<F>(serve: impl FnOnce(TcpListener, Arc<Record>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let record: Arc<Record> = Arc::default();
        let task = tokio::spawn(serve(listener, record.clone()));
        Self { base, record, task }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new(http(), &self.base).unwrap()
    }

    /// The requests until now.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.record.requests.lock().unwrap().clone()
    }

    /// The number of requests for a path.
    pub(crate) fn count(&self, path: &str) -> usize {
        let requests = self.requests();
        requests.iter().filter(|r| r.path() == path).count()
    }

    /// The JSON body of a request.
    pub(crate) fn body(&self, n: usize) -> Value {
        let request = self.requests()[n].clone();
        serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// The number of open connections to a handler.
    pub(crate) fn connections(&self) -> usize {
        self.record.open.load(Ordering::SeqCst)
    }

    /// The most requests that were in progress at once since the last call.
    pub(crate) fn most_at_once(&self) -> usize {
        self.record.load.most.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Performs an act on a connection. Returns the connection if it stays open.
async fn perform(act: Act, mut stream: TcpStream, record: &Record) -> Option<TcpStream> {
    if let Act::Close = act {
        return None;
    }
    let request = read_request(&mut stream).await;
    let act = match act {
        Act::Echo(status) => echo(status, &request),
        act => act,
    };
    record.push(request);
    let Act::Reply(pieces) = act else {
        return Some(stream);
    };
    for piece in pieces {
        if stream.write_all(&piece).await.is_err() {
            break;
        }
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    None
}

/// Answers the requests of a connection.
async fn serve(mut stream: TcpStream, handler: &Handler, record: &Record) {
    loop {
        let text = read_request(&mut stream).await;
        if !text.contains("\r\n\r\n") {
            return;
        }
        let answer = handler(&record.push(text));
        let load = &record.load;
        let now = load.now.fetch_add(1, Ordering::SeqCst) + 1;
        load.most.fetch_max(now, Ordering::SeqCst);
        sleep(answer.delay).await;
        load.now.fetch_sub(1, Ordering::SeqCst);
        if !send(&mut stream, &answer).await {
            return;
        }
    }
}

/// Sends a response. Returns whether the connection can be used again.
async fn send(stream: &mut TcpStream, answer: &Answer) -> bool {
    let length = answer.length.unwrap_or(answer.body.len() as u64);
    let mut head = format!("HTTP/1.1 {} X\r\n{}", answer.status, answer.headers);
    if !answer.no_length {
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
        // Until the client closes the connection.
        let _ = stream.read(&mut [0; 16]).await;
    }
    answer.cut.is_none() && answer.length.is_none()
}

pub(crate) fn http() -> HttpClient {
    HttpClient::with_timeout(Duration::from_secs(2)).unwrap()
}

pub(crate) fn raw(text: impl AsRef<[u8]>) -> Act {
    Act::Reply(vec![text.as_ref().to_vec()])
}

pub(crate) fn reply(status: u16, headers: &str, body: &str) -> Act {
    let length = body.len();
    raw(format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

pub(crate) fn json(status: u16, body: Value) -> Act {
    reply(status, "", &body.to_string())
}

/// The response of a server that repeats the request, in turn under the two
/// names of an error and as plain text.
fn echo(status: u16, request: &str) -> Act {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let repeated = request.replace("\r\n", " ");
    match TURN.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => json(status, json!({ "detail": repeated })),
        1 => json(status, json!({ "error": { "message": repeated } })),
        _ => reply(
            status,
            "content-type: text/plain; charset=utf-8\r\n",
            &repeated,
        ),
    }
}

/// The next request with its body; what has arrived if the client closes.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut data = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&data).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text,
            Ok(n) => data.extend_from_slice(&buffer[..n]),
        }
    }
}
