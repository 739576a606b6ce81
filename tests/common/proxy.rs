// SPDX-License-Identifier: MIT

//! An HTTP proxy before the real runtime that misbehaves on demand. It also
//! does without a runtime, where all replies are made up.

use std::{
    collections::HashMap,
    fmt,
    io::Write,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    response::Response,
    serve::IncomingStream,
};
use tokio::{net::TcpListener, runtime::Runtime};

use crate::server::Server;

const MAX_BODY: usize = 16 << 20;

/// The calls of the platform that a test may want to spoil.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    StartSession,
    Session,
    StopSession,
    Connections,
    /// `POST` or `PUT` of `sdp_params`.
    Offer,
    /// `GET` of `sdp_params`.
    Answer,
    Other,
}

impl Route {
    fn of(method: &Method, path: &str) -> Self {
        match path.rsplit('/').next().unwrap_or_default() {
            "start_session" => Self::StartSession,
            "session" => Self::Session,
            "stop_session" => Self::StopSession,
            "connections" => Self::Connections,
            "sdp_params" if method == Method::GET => Self::Answer,
            "sdp_params" => Self::Offer,
            _ => Self::Other,
        }
    }
}

/// Changes the text of a body.
pub type Edit = Arc<dyn Fn(String) -> String + Send + Sync>;

/// What becomes of a request.
#[derive(Clone)]
pub enum Rule {
    Forward,
    /// Forwards after a while.
    Delay(Duration),
    /// Answers without asking the runtime.
    Reply {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Never answers.
    Hang,
    /// Sends these bytes for a reply, whatever they are, and closes.
    Raw(Vec<u8>),
    /// Forwards with another body.
    EditRequest(Edit),
    /// Forwards, and returns a 200 reply with another body.
    EditReply(Edit),
}

impl Rule {
    /// A JSON reply.
    pub fn reply(status: u16, body: impl Into<String>) -> Self {
        Self::Reply {
            status,
            headers: vec![("content-type", "application/json".into())],
            body: body.into(),
        }
    }

    /// Refuses for now, and says when to come back.
    pub fn retry_after(status: u16, seconds: &str) -> Self {
        Self::Reply {
            status,
            headers: vec![("retry-after", seconds.into())],
            body: r#"{"detail":"all GPUs are taken"}"#.into(),
        }
    }

    /// Closes the connection without a word.
    pub fn drop_connection() -> Self {
        Self::Raw(Vec::new())
    }

    pub fn edit_reply(edit: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        Self::EditReply(Arc::new(edit))
    }

    pub fn edit_request(edit: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        Self::EditRequest(Arc::new(edit))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward => f.write_str("Forward"),
            Self::Delay(time) => write!(f, "Delay({time:?})"),
            Self::Reply { status, .. } => write!(f, "Reply({status})"),
            Self::Hang => f.write_str("Hang"),
            Self::Raw(bytes) => write!(f, "Raw({} bytes)", bytes.len()),
            Self::EditRequest(_) => f.write_str("EditRequest"),
            Self::EditReply(_) => f.write_str("EditReply"),
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub route: Route,
    pub path: String,
    pub body: String,
}

#[derive(Debug, Default)]
struct Script {
    /// What holds for so many requests yet, before the standing rule.
    next: HashMap<Route, Vec<(usize, Rule)>>,
    standing: HashMap<Route, Rule>,
    seen: Vec<Seen>,
}

impl Script {
    fn take(&mut self, seen: Seen) -> Rule {
        let route = seen.route;
        self.seen.push(seen);
        let next = self.next.entry(route).or_default();
        if let Some((left, rule)) = next.first_mut() {
            let rule = rule.clone();
            *left -= 1;
            if *left == 0 {
                next.remove(0);
            }
            return rule;
        }
        let standing = self.standing.get(&route);
        standing.cloned().unwrap_or(Rule::Forward)
    }
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    upstream: Option<String>,
    client: reqwest::Client,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    port: u16,
}

impl Proxy {
    /// Forwards to this server what no rule is for.
    pub fn before(server: &Server) -> Self {
        Self::new(Some(server.url()))
    }

    /// Has nothing behind it: what no rule is for is a 404.
    pub fn alone() -> Self {
        Self::new(None)
    }

    fn new(upstream: Option<String>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()
            .expect("a runtime");
        // The runtime closes idle connections at moments of its own.
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client");
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            upstream,
            client,
        });
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let service = router.into_make_service_with_connect_info::<Socket>();
        runtime.spawn(async move { axum::serve(listener, service).await });
        Self {
            shared,
            runtime: Some(runtime),
            port,
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on.
    pub fn rule(&self, route: Route, rule: Rule) {
        self.script().standing.insert(route, rule);
    }

    /// For the next so many requests, after those already announced.
    pub fn next(&self, route: Route, times: usize, rule: Rule) {
        assert!(times > 0);
        let mut script = self.script();
        script.next.entry(route).or_default().push((times, rule));
    }

    /// Forgets all rules and requests.
    pub fn reset(&self) {
        *self.script() = Script::default();
    }

    pub fn count(&self, route: Route) -> usize {
        self.requests(route).len()
    }

    pub fn requests(&self, route: Route) -> Vec<Seen> {
        let script = self.script();
        let of_route = script.seen.iter().filter(|seen| seen.route == route);
        of_route.cloned().collect()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Requests that hang are not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The connection that a request came on, to be able to spoil it.
#[derive(Debug, Clone)]
struct Socket(Arc<TcpStream>);

impl Connected<IncomingStream<'_, TcpListener>> for Socket {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let socket = stream.io().as_fd().try_clone_to_owned().expect("dup");
        Self(Arc::new(socket.into()))
    }
}

impl Socket {
    /// Sends these bytes as they are, closes, and leaves nothing to answer on.
    fn end(&self, bytes: &[u8]) -> Response {
        let _ = (&*self.0).write_all(bytes);
        let _ = self.0.shutdown(Shutdown::Both);
        Response::new(Body::empty())
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(socket): ConnectInfo<Socket>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return socket.end(&[]);
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    let seen = Seen {
        route: Route::of(&parts.method, parts.uri.path()),
        path: parts.uri.path().to_owned(),
        body: text.clone(),
    };
    let rule = shared.script.lock().unwrap().take(seen);
    match rule {
        Rule::Forward => forward(&shared, &socket, parts, body, None).await,
        Rule::Delay(time) => {
            tokio::time::sleep(time).await;
            forward(&shared, &socket, parts, body, None).await
        }
        Rule::Reply {
            status,
            headers,
            body,
        } => {
            let mut reply = Response::builder().status(status);
            for (name, value) in headers {
                reply = reply.header(name, value);
            }
            reply.body(body.into()).expect("a reply")
        }
        Rule::Hang => std::future::pending().await,
        Rule::Raw(bytes) => socket.end(&bytes),
        Rule::EditRequest(edit) => {
            let body = edit(text).into();
            forward(&shared, &socket, parts, body, None).await
        }
        Rule::EditReply(edit) => forward(&shared, &socket, parts, body, Some(edit)).await,
    }
}

/// A runtime that does not answer is passed on as a connection that breaks.
async fn forward(
    shared: &Shared,
    socket: &Socket,
    parts: Parts,
    body: Bytes,
    edit: Option<Edit>,
) -> Response {
    let Some(upstream) = &shared.upstream else {
        let reply = Response::builder().status(StatusCode::NOT_FOUND);
        return reply.body(Body::empty()).expect("a reply");
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = shared
        .client
        .request(parts.method, format!("{upstream}{path}"))
        .headers(end_to_end(&parts.headers))
        .body(body);
    let Ok(reply) = request.send().await else {
        return socket.end(&[]);
    };
    let (status, headers) = (reply.status(), end_to_end(reply.headers()));
    let Ok(mut body) = reply.bytes().await else {
        return socket.end(&[]);
    };
    if let Some(edit) = edit.filter(|_| status == StatusCode::OK) {
        body = edit(String::from_utf8_lossy(&body).into_owned()).into();
    }
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Without what belongs to one connection, or to the body as it was.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    headers
}
