// SPDX-License-Identifier: MIT

//! An HTTP proxy in front of the real runtime that misbehaves on demand. Without a runtime, rules
//! make up all replies.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::{
    Router,
    body::{Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use reactor_coordinator::{
    rules::{MAX_BODY, Script},
    socket::Socket,
    upstream::Upstream,
};
use tokio::{net::TcpListener, runtime::Runtime};

use crate::server::Server;

pub use reactor_coordinator::rules::{Edit, Rule};

/// The calls of the runtime that a test may intercept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuntimeRoute {
    StartSession,
    Session,
    StopSession,
    Connections,
    /// `POST` or `PUT` of `sdp_params`.
    Offer,
    /// `GET` of `sdp_params`.
    Answer,
    /// Candidates that the client sends after its offer.
    Candidates,
    Other,
}

impl RuntimeRoute {
    fn of(method: &Method, path: &str) -> Self {
        match path.rsplit('/').next().unwrap_or_default() {
            "start_session" => Self::StartSession,
            "session" => Self::Session,
            "stop_session" => Self::StopSession,
            "connections" => Self::Connections,
            "sdp_params" if method == Method::GET => Self::Answer,
            "sdp_params" => Self::Offer,
            "ice_candidates" => Self::Candidates,
            _ => Self::Other,
        }
    }
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct ProxiedRequest {
    pub route: RuntimeRoute,
    pub path: String,
    pub body: String,
}

#[derive(Debug)]
struct ProxyState {
    script: Mutex<Script<RuntimeRoute>>,
    seen: Mutex<Vec<ProxiedRequest>>,
    upstream: Option<Upstream>,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<ProxyState>,
    runtime: Option<Runtime>,
    port: u16,
}

impl Proxy {
    /// Forwards requests without a rule to this server.
    pub fn before(server: &Server) -> Self {
        Self::before_url(&server.url())
    }

    /// The same for a server that is not a child of this process.
    pub fn before_url(url: &str) -> Self {
        Self::new(Some(url.to_owned()))
    }

    /// Has no server behind it: requests without a rule get 404.
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
        let shared = Arc::new(ProxyState {
            script: Mutex::default(),
            seen: Mutex::default(),
            upstream: upstream.map(|url| Upstream::new(&url).expect("a client")),
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

    /// Sets the standing rule of a route.
    pub fn rule(&self, route: RuntimeRoute, rule: Rule) {
        self.script().rule(route, rule);
    }

    /// Sets the rule for the next `times` requests, after those already queued.
    pub fn next(&self, route: RuntimeRoute, times: usize, rule: Rule) {
        assert!(times > 0);
        self.script().next(route, times, rule);
    }

    /// Drops all rules and recorded requests.
    pub fn reset(&self) {
        *self.script() = Script::default();
        self.shared.seen.lock().unwrap().clear();
    }

    pub fn count(&self, route: RuntimeRoute) -> usize {
        self.requests(route).len()
    }

    pub fn requests(&self, route: RuntimeRoute) -> Vec<ProxiedRequest> {
        let seen = self.shared.seen.lock().unwrap();
        let of_route = seen.iter().filter(|seen| seen.route == route);
        of_route.cloned().collect()
    }

    fn script(&self) -> MutexGuard<'_, Script<RuntimeRoute>> {
        self.shared.script.lock().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Does not wait for requests that hang.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(
    State(shared): State<Arc<ProxyState>>,
    ConnectInfo(socket): ConnectInfo<Socket>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return socket.end(&[]);
    };
    let route = RuntimeRoute::of(&parts.method, parts.uri.path());
    shared.seen.lock().unwrap().push(ProxiedRequest {
        route,
        path: parts.uri.path().to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let rule = shared.script.lock().unwrap().take(route);
    let serve = |parts, body| forward(&shared, &socket, parts, body);
    rule.apply(&socket, parts, body, serve).await
}

/// A runtime that does not reply appears as a connection that breaks.
async fn forward(shared: &ProxyState, socket: &Socket, parts: Parts, body: Bytes) -> Response {
    let Some(upstream) = &shared.upstream else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let asked = upstream.ask(parts.method, path, &parts.headers, body);
    match asked.await {
        Ok(answer) => answer.into_response(),
        Err(_) => socket.end(&[]),
    }
}
