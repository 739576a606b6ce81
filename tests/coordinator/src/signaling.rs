// SPDX-License-Identifier: MIT

//! Everything below `/sessions/{id}/transport/webrtc`, forwarded to the runtime under the runtime's
//! session id.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    refusal::ApiError,
    shared::{CoordinatorState, lock},
};

pub async fn serve(
    State(shared): State<Arc<CoordinatorState>>,
    Path((id, rest)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    if rest == "ice_servers"
        && method == Method::GET
        && let Some(servers) = &shared.settings.ice_servers
    {
        return ice_servers(&shared, &headers, &id, servers);
    }
    let running = shared.running(&headers, &id)?;
    if let Some(connection) = rest.strip_prefix("connections/") {
        known(&shared, &id, connection)?;
    }
    let path = format!("/sessions/{}/transport/webrtc/{rest}", running.runtime_id);
    let answer = shared.ask(method, &path, &headers, body).await?;
    if rest == "connections" && answer.status == StatusCode::CREATED {
        let json = answer.json();
        if let Some(connection) = json.and_then(|json| json["connection_id"].as_u64()) {
            lock(&shared.sessions).register(&id, connection);
        }
    }
    Ok(answer.into_response())
}

/// A list from the settings is available while the session waits, too.
fn ice_servers(
    shared: &CoordinatorState,
    headers: &HeaderMap,
    id: &str,
    servers: &serde_json::Value,
) -> Result<Response, ApiError> {
    let over = shared.with_session(headers, id, |session| session.is_over())?;
    if over {
        return Err(ApiError::bad_request("the session is over"));
    }
    Ok(Json(json!({"ice_servers": servers})).into_response())
}

/// The cloud knows its connections; the runtime accepts any id.
fn known(shared: &CoordinatorState, id: &str, rest: &str) -> Result<(), ApiError> {
    let number = rest.split('/').next().unwrap_or_default().parse();
    match number {
        Ok(number) if lock(&shared.sessions).has_connection(id, number) => Ok(()),
        _ => Err(ApiError::not_found("no such connection")),
    }
}
