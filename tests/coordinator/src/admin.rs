// SPDX-License-Identifier: MIT

//! HTTP control of the stand-in, below `/_coordinator`, without a token:
//!
//! | | |
//! |---|---|
//! | `GET ledger` | every session: its account, when it began and ended, how it ended |
//! | `GET requests` | every request, with digests in place of secrets |
//! | `POST rules` | how the next requests are served, see below |
//! | `DELETE rules` | all requests are served normally again |
//! | `POST waiting` | `{"answers":2,"ms":500}`: how long no GPU is free |
//! | `POST sessions/{id}/end` | `{"state":"CLOSED"}` or `INACTIVE` |
//! | `POST withdraw-tokens` | every token issued so far is refused |
//!
//! ```text
//! curl -X POST localhost:9080/_coordinator/rules -d '{"route":"create_session","times":1,
//!     "delay_ms":500,"status":429,"headers":{"Retry-After":"2"},"body":"{}"}'
//! ```
//!
//! Without `times` a rule holds until the rules are deleted; without `status` the request is only
//! delayed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    ledger::{LedgerEntry, SessionEnd, SessionState},
    log::RecordedRequest,
    refusal::ApiError,
    routes::ApiRoute,
    rules::{Rule, Script},
    settings::GpuWait,
    shared::{CoordinatorState, lock},
};

pub(crate) fn router(shared: &Arc<CoordinatorState>) -> Router {
    Router::new()
        .route("/_coordinator/ledger", get(ledger))
        .route("/_coordinator/requests", get(requests))
        .route("/_coordinator/rules", post(rule).delete(forget))
        .route("/_coordinator/waiting", post(waiting))
        .route("/_coordinator/sessions/{id}/end", post(end))
        .route("/_coordinator/withdraw-tokens", post(withdraw))
        .with_state(shared.clone())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedRule {
    route: ApiRoute,
    times: Option<usize>,
    #[serde(default)]
    delay_ms: u64,
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedWaiting {
    #[serde(default)]
    answers: usize,
    #[serde(default)]
    ms: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedEnd {
    state: SessionState,
}

/// Ignores the content type: `curl -d` sends `application/x-www-form-urlencoded`.
fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(error.to_string()))
}

async fn ledger(State(shared): State<Arc<CoordinatorState>>) -> Json<Vec<LedgerEntry>> {
    Json(lock(&shared.sessions).ledger())
}

async fn requests(State(shared): State<Arc<CoordinatorState>>) -> Json<Vec<RecordedRequest>> {
    Json(lock(&shared.log).clone())
}

async fn rule(
    State(shared): State<Arc<CoordinatorState>>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let wanted: WantedRule = json(&body)?;
    let rule = match wanted.status {
        Some(status) => Rule::Reply {
            status,
            headers: wanted.headers.into_iter().collect(),
            body: wanted.body,
        },
        None => Rule::Forward,
    };
    let rule = rule.after(Duration::from_millis(wanted.delay_ms));
    let mut script = lock(&shared.script);
    match wanted.times {
        Some(times) => script.next(wanted.route, times, rule),
        None => script.rule(wanted.route, rule),
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn forget(State(shared): State<Arc<CoordinatorState>>) -> StatusCode {
    *lock(&shared.script) = Script::default();
    StatusCode::NO_CONTENT
}

async fn waiting(
    State(shared): State<Arc<CoordinatorState>>,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let wanted: WantedWaiting = json(&body)?;
    *lock(&shared.waiting) = GpuWait {
        answers: wanted.answers,
        time: Duration::from_millis(wanted.ms),
    };
    shared.changed.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

async fn end(
    State(shared): State<Arc<CoordinatorState>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, ApiError> {
    let wanted: WantedEnd = json(&body)?;
    if shared.finish(&id, SessionEnd::Terminated(wanted.state)) {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(ApiError::not_found("no such session, or it is over"))
    }
}

async fn withdraw(State(shared): State<Arc<CoordinatorState>>) -> StatusCode {
    shared.mint.withdraw_all();
    StatusCode::NO_CONTENT
}
