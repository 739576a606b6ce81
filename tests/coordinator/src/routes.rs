// SPDX-License-Identifier: MIT

//! The API's routes: tokens and sessions here, the rest in rooms of its own.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State},
    http::{HeaderMap, Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    admin, clips,
    ledger::End,
    log::{Face, Seen},
    refusal::Refusal,
    rules::MAX_BODY,
    sessions::{Create, Session},
    shared::{Shared, lock},
    signaling,
    socket::{Ended, Socket},
    storage,
};

type Answer = Result<Response, Refusal>;

/// The calls of the platform that a test may want to spoil or to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    Tokens,
    CreateSession,
    Session,
    SessionInfo,
    DeleteSession,
    IceServers,
    Connections,
    /// `POST` or `PUT` of `sdp_params`.
    Offer,
    /// `GET` of `sdp_params`.
    Answer,
    Candidates,
    Uploads,
    Clips,
    /// `PUT` to the storage.
    Store,
    /// `GET` from the storage.
    Fetch,
    Other,
}

impl Route {
    fn of(face: Face, method: &Method, path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (face, method, parts.as_slice()) {
            (Face::Storage, &Method::PUT, _) => Self::Store,
            (Face::Storage, &Method::GET, _) => Self::Fetch,
            (Face::Api, _, ["tokens"]) => Self::Tokens,
            (Face::Api, _, ["sessions"]) => Self::CreateSession,
            (Face::Api, &Method::DELETE, ["sessions", _]) => Self::DeleteSession,
            (Face::Api, _, ["sessions", _]) => Self::Session,
            (Face::Api, _, ["sessions", _, "info"]) => Self::SessionInfo,
            (Face::Api, _, ["sessions", _, "uploads"]) => Self::Uploads,
            (Face::Api, _, ["clips"]) => Self::Clips,
            (Face::Api, method, ["sessions", _, "transport", "webrtc", rest @ ..]) => {
                Self::of_signaling(method, rest)
            }
            _ => Self::Other,
        }
    }

    fn of_signaling(method: &Method, rest: &[&str]) -> Self {
        match rest {
            ["ice_servers"] => Self::IceServers,
            ["connections"] => Self::Connections,
            ["connections", _, "sdp_params"] if method == Method::GET => Self::Answer,
            ["connections", _, "sdp_params"] => Self::Offer,
            ["connections", _, "ice_candidates"] => Self::Candidates,
            _ => Self::Other,
        }
    }
}

pub fn api(shared: &Arc<Shared>) -> Router {
    let platform = Router::new()
        .route("/tokens", post(token))
        .route("/sessions", post(create))
        .route("/sessions/{id}", get(session).delete(delete))
        .route("/sessions/{id}/info", get(info))
        .route("/sessions/{id}/uploads", post(storage::reserve))
        .route(
            "/sessions/{id}/transport/webrtc/{*rest}",
            any(signaling::serve),
        )
        .route("/clips", get(clips::manifest))
        .fallback(unknown)
        .with_state(shared.clone())
        .layer(middleware::from_fn_with_state(shared.clone(), version));
    watched(platform, Face::Api, shared).merge(admin::router(shared))
}

/// Logs what comes, and lets the rules have it first.
pub fn watched(router: Router, face: Face, shared: &Arc<Shared>) -> Router {
    let state = (face, shared.clone());
    router
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(state, watch))
}

async fn watch(
    State((face, shared)): State<(Face, Arc<Shared>)>,
    ConnectInfo(socket): ConnectInfo<Socket>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return socket.end(&[]);
    };
    let route = Route::of(face, &parts.method, parts.uri.path());
    let number = {
        let mut log = lock(&shared.log);
        log.push(Seen::new(face, route, &parts, &body));
        log.len() - 1
    };
    let rule = lock(&shared.script).take(route);
    let serve = |parts, body| next.run(Request::from_parts(parts, Body::from(body)));
    let reply = rule.apply(&socket, parts, body, serve).await;
    if reply.extensions().get::<Ended>().is_none() {
        lock(&shared.log)[number].status = Some(reply.status().as_u16());
    }
    reply
}

/// Who sends no version (a hand with curl, the clip downloader) is not asked.
async fn version(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let ours = shared.settings.api_version;
    let theirs = request.headers().get("reactor-api-version");
    let theirs = theirs.map(|value| value.to_str().unwrap_or_default().parse::<u32>());
    let refusal = match theirs {
        Some(Err(_)) => Refusal::bad_request("no such API version"),
        Some(Ok(theirs)) if theirs < ours => {
            Refusal::new(StatusCode::UPGRADE_REQUIRED, "the client is too old")
        }
        Some(Ok(theirs)) if theirs > ours => {
            Refusal::new(StatusCode::NOT_IMPLEMENTED, "the server is too old")
        }
        _ => return next.run(request).await,
    };
    refusal.into_response()
}

async fn unknown() -> Refusal {
    Refusal::not_found("Not Found")
}

async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Answer {
    let open = |account: &str, id: &str| {
        let sessions = lock(&shared.sessions);
        let session = sessions.get(id);
        session.is_some_and(|session| session.account == account && !session.is_over())
    };
    let jwt = shared.mint.issue(&headers, &body, open)?;
    Ok((StatusCode::CREATED, Json(json!({"jwt": jwt}))).into_response())
}

async fn create(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Answer {
    let claims = shared.mint.check(&headers)?;
    let wanted: Create =
        serde_json::from_slice(&body).map_err(|error| Refusal::invalid(error.to_string()))?;
    let transports = &wanted.supported_transports;
    if !transports
        .iter()
        .any(|transport| transport.protocol == "webrtc")
    {
        return Err(Refusal::invalid("none of these transports is served"));
    }
    let name = &wanted.model.name;
    let models = &shared.settings.models;
    if name.is_empty() || !(models.is_empty() || models.contains(name)) {
        return Err(Refusal::not_found(format!("no such model: {name}")));
    }
    let mut sessions = lock(&shared.sessions);
    let detail = claims.creation(name, sessions.created_by(&claims.jti))?;
    let allowed = detail.and_then(|detail| detail.max_session_seconds());
    let longest = [
        allowed.map(Duration::from_secs),
        shared.settings.session_lifetime,
    ];
    let longest = longest.into_iter().flatten().min();
    let session = Session::new(wanted, &claims.sub, &claims.jti, longest);
    let reply = (StatusCode::CREATED, Json(session.slim())).into_response();
    sessions.add(session);
    shared.changed.notify_one();
    Ok(reply)
}

async fn session(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let json = shared.with_session(&headers, &id, Session::polled)?;
    shared.changed.notify_one();
    Ok(Json(json).into_response())
}

async fn info(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let json = shared.with_session(&headers, &id, |session| session.info())?;
    Ok(Json(json).into_response())
}

/// What is over already is not there to be ended: 404, which every client has
/// to take for a success.
async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    shared.with_session(&headers, &id, |_| ())?;
    let reason = reason(&body)?;
    if shared.finish(&id, End::Deleted { reason }) {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Refusal::not_found("the session is over"))
    }
}

fn reason(body: &[u8]) -> Result<Option<String>, Refusal> {
    if body.is_empty() {
        return Ok(None);
    }
    let json: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::invalid(error.to_string()))?;
    match json.get("reason") {
        None => Ok(None),
        Some(Value::String(reason)) => Ok(Some(reason.clone())),
        Some(_) => Err(Refusal::invalid("reason: a string")),
    }
}
