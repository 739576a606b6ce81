// SPDX-License-Identifier: MIT

//! The part of a local runtime's HTTP API that a client needs.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use super::{Offer, PeerState, connection, log};

const SESSION: &str = "00000000-0000-0000-0000-000000000000";
const CONNECTION: u32 = 5001;

pub(super) fn router(shared: Arc<PeerState>) -> Router {
    let transport = format!("/sessions/{SESSION}/transport/webrtc");
    let connection = format!("{transport}/connections/{CONNECTION}");
    Router::new()
        .route("/health", get(health))
        .route("/start_session", post(start))
        .route("/session", get(describe))
        .route("/stop_session", post(stop))
        .route(&format!("{transport}/ice_servers"), get(ice_servers))
        .route(&format!("{transport}/connections"), post(register))
        .route(
            &format!("{connection}/sdp_params"),
            post(offer).put(offer).get(answer),
        )
        .route(&format!("{connection}/ice_candidates"), post(candidates))
        .with_state(shared)
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

fn is_live(shared: &PeerState) -> bool {
    matches!(
        &**shared.state.lock().unwrap(),
        "waiting" | "streaming" | "orphaned"
    )
}

fn descriptor(shared: &PeerState) -> Json<Value> {
    let tracks: Vec<_> = shared
        .config
        .tracks
        .iter()
        .map(|(name, encoding)| {
            json!({ "name": name, "kind": encoding.kind(), "direction": "recvonly" })
        })
        .collect();
    Json(json!({
        "session_id": SESSION,
        "state": *shared.state.lock().unwrap(),
        "cluster": "local",
        "model": { "name": "peer" },
        "server_info": { "server_version": shared.config.server_version },
        "selected_transport": { "protocol": "webrtc", "version": "1.0" },
        "capabilities": { "protocol_version": "v0", "commands": [], "tracks": tracks },
    }))
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "healthy", "state": "available", "detail": null }))
}

async fn start(State(shared): State<Arc<PeerState>>) -> Response {
    if is_live(&shared) {
        return refusal(StatusCode::CONFLICT, "cannot start session while waiting");
    }
    shared.set_state("waiting");
    descriptor(&shared).into_response()
}

async fn describe(State(shared): State<Arc<PeerState>>) -> Json<Value> {
    descriptor(&shared)
}

async fn stop(State(shared): State<Arc<PeerState>>) -> Response {
    if !is_live(&shared) {
        return refusal(StatusCode::CONFLICT, "cannot stop session while ready");
    }
    shared.set_state("ready");
    descriptor(&shared).into_response()
}

async fn ice_servers() -> Json<Value> {
    Json(json!({ "ice_servers": [] }))
}

async fn register(State(shared): State<Arc<PeerState>>) -> Response {
    if !is_live(&shared) {
        return refusal(StatusCode::BAD_REQUEST, "No session running");
    }
    let body = json!({ "connection_id": CONNECTION });
    (StatusCode::CREATED, Json(body)).into_response()
}

async fn offer(State(shared): State<Arc<PeerState>>, Json(body): Json<Value>) -> Response {
    let Some(offer) = Offer::read(&body) else {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "unreadable offer");
    };
    shared.offers.lock().unwrap().push(offer.clone());
    shared.candidates.lock().unwrap().clear();
    // As with the real server, a negotiation that fails is never answered.
    tokio::spawn(async move {
        if let Err(error) = connection::open(&shared, &offer).await {
            log(format!("no answer: {error:#}\n{}", offer.sdp));
        }
    });
    let body = json!({ "connection_id": CONNECTION });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

async fn answer(State(shared): State<Arc<PeerState>>) -> Response {
    match shared.answer.lock().unwrap().take() {
        Some(sdp) => {
            Json(json!({ "sdp_answer": sdp, "connection_id": CONNECTION })).into_response()
        }
        None => StatusCode::ACCEPTED.into_response(),
    }
}

/// Candidates that the client finds after its offer.
async fn candidates(State(shared): State<Arc<PeerState>>, Json(body): Json<Value>) -> Response {
    let Some(list) = body["candidates"].as_array() else {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "no candidates");
    };
    let read = |candidate: &Value| {
        let mline = u32::try_from(candidate["sdp_mline_index"].as_u64()?).ok()?;
        Some((mline, candidate["candidate"].as_str()?.to_owned()))
    };
    let Some(list) = list.iter().map(read).collect::<Option<Vec<_>>>() else {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "unreadable candidate");
    };
    let texts = list.iter().map(|(_, text)| text.clone());
    shared.trickled.lock().unwrap().extend(texts);
    shared.candidates.lock().unwrap().extend(list);
    if let Some(connection) = shared.connection() {
        connection.add_candidates(&shared);
    }
    StatusCode::ACCEPTED.into_response()
}
