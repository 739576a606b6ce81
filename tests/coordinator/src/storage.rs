// SPDX-License-Identifier: MIT

//! Uploads: a path is reserved at the API; the storage server, which is another host, takes the
//! bytes. It also serves the segments of clips.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::Value;

use crate::{log::Endpoint, presign, refusal::ApiError, routes, shared::CoordinatorState};

/// `POST /sessions/{id}/uploads`.
pub async fn reserve(
    State(shared): State<Arc<CoordinatorState>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let running = shared.running(&headers, &id)?;
    let path = format!("/sessions/{}/uploads", running.runtime_id);
    let answer = shared.ask(Method::POST, &path, &headers, body).await?;
    let Some(mut json) = answer
        .json()
        .filter(|_| answer.status == StatusCode::CREATED)
    else {
        return Ok(answer.into_response());
    };
    let upload = format!(
        "/uploads/{}",
        json["presigned_id"].as_str().unwrap_or_default()
    );
    let storage = shared.storage;
    let url = presign::url(
        &shared.mint,
        &shared.settings,
        storage,
        &Method::PUT,
        &upload,
    );
    json["presigned_url"] = url.into();
    if let Some(path) = json["path"].as_str() {
        json["path"] = Value::String(path.replace(&running.runtime_id, &id));
    }
    Ok((StatusCode::CREATED, Json(json)).into_response())
}

pub fn router(shared: &Arc<CoordinatorState>) -> Router {
    let router = Router::new()
        .route("/uploads/{id}", put(pass))
        .route("/clips/chunks/{recording}/{file}", get(pass))
        .with_state(shared.clone())
        .layer(middleware::from_fn_with_state(shared.clone(), guard));
    routes::watched(router, Endpoint::Storage, shared)
}

/// As with S3: the URL is the only credential, and a second one is an error.
async fn guard(
    State(shared): State<Arc<CoordinatorState>>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().contains_key(header::AUTHORIZATION) {
        let text = "Only one auth mechanism allowed";
        return refusal(StatusCode::BAD_REQUEST, "InvalidArgument", text);
    }
    if !presign::holds(&shared.mint, request.method(), request.uri()) {
        let text = "Request has expired, or the signature is another's";
        return refusal(StatusCode::FORBIDDEN, "AccessDenied", text);
    }
    next.run(request).await
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

async fn pass(
    State(shared): State<Arc<CoordinatorState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let answer = shared.ask(method, uri.path(), &headers, body).await?;
    Ok(answer.into_response())
}
