// SPDX-License-Identifier: MIT

//! The API's routes: tokens and sessions are served here, the rest in modules of its own.

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
    ledger::SessionEnd,
    log::{Endpoint, RecordedRequest},
    refusal::ApiError,
    rules::MAX_BODY,
    sessions::{Create, Session},
    shared::{CoordinatorState, lock},
    signaling,
    socket::{Ended, Socket},
    storage,
};

type ApiResult = Result<Response, ApiError>;

/// The calls of the platform that a test may intercept or inspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiRoute {
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

impl ApiRoute {
    fn of(face: Endpoint, method: &Method, path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (face, method, parts.as_slice()) {
            (Endpoint::Storage, &Method::PUT, _) => Self::Store,
            (Endpoint::Storage, &Method::GET, _) => Self::Fetch,
            (Endpoint::Api, _, ["tokens"]) => Self::Tokens,
            (Endpoint::Api, _, ["sessions"]) => Self::CreateSession,
            (Endpoint::Api, &Method::DELETE, ["sessions", _]) => Self::DeleteSession,
            (Endpoint::Api, _, ["sessions", _]) => Self::Session,
            (Endpoint::Api, _, ["sessions", _, "info"]) => Self::SessionInfo,
            (Endpoint::Api, _, ["sessions", _, "uploads"]) => Self::Uploads,
            (Endpoint::Api, _, ["clips"]) => Self::Clips,
            (Endpoint::Api, method, ["sessions", _, "transport", "webrtc", rest @ ..]) => {
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

pub fn api(shared: &Arc<CoordinatorState>) -> Router {
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
    watched(platform, Endpoint::Api, shared).merge(admin::router(shared))
}

/// Logs each request, and applies the rules before it is served.
pub fn watched(router: Router, face: Endpoint, shared: &Arc<CoordinatorState>) -> Router {
    let state = (face, shared.clone());
    router
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(state, watch))
}

async fn watch(
    State((face, shared)): State<(Endpoint, Arc<CoordinatorState>)>,
    ConnectInfo(socket): ConnectInfo<Socket>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return socket.end(&[]);
    };
    let route = ApiRoute::of(face, &parts.method, parts.uri.path());
    let number = {
        let mut log = lock(&shared.log);
        log.push(RecordedRequest::new(face, route, &parts, &body));
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

/// Requests without a version (from curl, or from the clip downloader) are accepted.
async fn version(
    State(shared): State<Arc<CoordinatorState>>,
    request: Request,
    next: Next,
) -> Response {
    let ours = shared.settings.api_version;
    let theirs = request.headers().get("reactor-api-version");
    let theirs = theirs.map(|value| value.to_str().unwrap_or_default().parse::<u32>());
    let refusal = match theirs {
        Some(Err(_)) => ApiError::bad_request("no such API version"),
        Some(Ok(theirs)) if theirs < ours => {
            ApiError::new(StatusCode::UPGRADE_REQUIRED, "the client is too old")
        }
        Some(Ok(theirs)) if theirs > ours => {
            ApiError::new(StatusCode::NOT_IMPLEMENTED, "the server is too old")
        }
        _ => return next.run(request).await,
    };
    refusal.into_response()
}

async fn unknown() -> ApiError {
    ApiError::not_found("Not Found")
}

async fn token(
    State(shared): State<Arc<CoordinatorState>>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult {
    let open = |account: &str, id: &str| {
        let sessions = lock(&shared.sessions);
        let session = sessions.get(id);
        session.is_some_and(|session| session.account == account && !session.is_over())
    };
    let jwt = shared.mint.issue(&headers, &body, open)?;
    Ok((StatusCode::CREATED, Json(json!({"jwt": jwt}))).into_response())
}

async fn create(
    State(shared): State<Arc<CoordinatorState>>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult {
    let claims = shared.mint.check(&headers)?;
    let wanted: Create =
        serde_json::from_slice(&body).map_err(|error| ApiError::invalid(error.to_string()))?;
    let transports = &wanted.supported_transports;
    if !transports
        .iter()
        .any(|transport| transport.protocol == "webrtc")
    {
        return Err(ApiError::invalid("none of these transports is served"));
    }
    let name = &wanted.model.name;
    let models = &shared.settings.models;
    if name.is_empty() || !(models.is_empty() || models.contains(name)) {
        return Err(ApiError::not_found(format!("no such model: {name}")));
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
    State(shared): State<Arc<CoordinatorState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult {
    let json = shared.with_session(&headers, &id, Session::polled)?;
    shared.changed.notify_one();
    Ok(Json(json).into_response())
}

async fn info(
    State(shared): State<Arc<CoordinatorState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult {
    let json = shared.with_session(&headers, &id, |session| session.info())?;
    Ok(Json(json).into_response())
}

/// A session that has ended cannot be ended again: 404, which every client has to accept as a
/// success.
async fn delete(
    State(shared): State<Arc<CoordinatorState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> ApiResult {
    shared.with_session(&headers, &id, |_| ())?;
    let reason = reason(&body)?;
    if shared.finish(&id, SessionEnd::Deleted { reason }) {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ApiError::not_found("the session is over"))
    }
}

fn reason(body: &[u8]) -> Result<Option<String>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let json: Value =
        serde_json::from_slice(body).map_err(|error| ApiError::invalid(error.to_string()))?;
    match json.get("reason") {
        None => Ok(None),
        Some(Value::String(reason)) => Ok(Some(reason.clone())),
        Some(_) => Err(ApiError::invalid("reason: a string")),
    }
}
