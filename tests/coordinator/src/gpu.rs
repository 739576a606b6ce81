// SPDX-License-Identifier: MIT

//! The one GPU, which is the local runtime: assigns it to the next session and takes it away.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    ledger::SessionEnd,
    sessions::{Running, now_ms},
    shared::{CoordinatorState, lock},
    upstream::{Upstream, UpstreamReply},
};

/// How often the runtime's state is polled.
const STATE_POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The poll interval for sessions that wait for a time to pass.
const WAIT_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The limit for one reply of the runtime.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest reason that the runtime accepts, in bytes.
const MAX_REASON_BYTES: usize = 64;

pub async fn run(shared: Arc<CoordinatorState>) {
    let Some(upstream) = shared.upstream.clone() else {
        return;
    };
    let task = GpuTask { shared, upstream };
    loop {
        // Set before the look-up: a caller that reads "not busy" may rely on it.
        task.shared.busy.store(true, Ordering::Release);
        let waiting = *lock(&task.shared.waiting);
        let due = lock(&task.shared.sessions).due(waiting);
        match due {
            Some((id, body)) => task.serve(&id, &body).await,
            None => {
                task.shared.busy.store(false, Ordering::Release);
                let _ = timeout(WAIT_POLL_INTERVAL, task.shared.changed.notified()).await;
            }
        }
    }
}

struct GpuTask {
    shared: Arc<CoordinatorState>,
    upstream: Upstream,
}

impl GpuTask {
    /// Serves one session, from its start until the runtime is free again.
    async fn serve(&self, id: &str, body: &Value) {
        let Some(answer) = self.ask(Method::POST, "/start_session", body).await else {
            return sleep(STATE_POLL_INTERVAL).await;
        };
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                self.shared.finish(id, SessionEnd::Runtime(answer.text()));
                return;
            }
            // The runtime still loads its model, or serves a direct client.
            _ => return sleep(STATE_POLL_INTERVAL).await,
        }
        let descriptor = answer.json().unwrap_or_default();
        let running = Running {
            runtime_id: text(&descriptor, "session_id"),
            capabilities: descriptor["capabilities"].clone(),
            selected_transport: descriptor["selected_transport"].clone(),
            since: Instant::now(),
            since_ms: now_ms(),
        };
        lock(&self.shared.sessions).grant(id, running);
        let notice = self.watch(id).await;
        self.free(notice).await;
    }

    /// Returns when the session has ended, with the reason for its clients.
    async fn watch(&self, id: &str) -> Option<String> {
        let begun = Instant::now();
        let longest = lock(&self.shared.sessions).get(id)?.longest;
        let mut lost: Option<Instant> = None;
        loop {
            let end = lock(&self.shared.sessions).get(id)?.end().cloned();
            if let Some(end) = end {
                return end.notice().map(str::to_owned);
            }
            if longest.is_some_and(|longest| begun.elapsed() >= longest) {
                self.shared.finish(id, SessionEnd::Expired);
                continue;
            }
            if let Some(end) = self.look(begun, &mut lost).await {
                self.shared.finish(id, end);
                continue;
            }
            // Changes of other sessions wake this up as well, which is harmless.
            let _ = timeout(STATE_POLL_INTERVAL, self.shared.changed.notified()).await;
        }
    }

    /// Why the runtime's state ends the session, if it does. A runtime that does not reply counts
    /// as one without a connection.
    async fn look(&self, begun: Instant, lost: &mut Option<Instant>) -> Option<SessionEnd> {
        let settings = &self.shared.settings;
        let state = match self.ask(Method::GET, "/session", &Value::Null).await {
            Some(answer) => text(&answer.json().unwrap_or_default(), "state"),
            None => "silent".into(),
        };
        match state.as_str() {
            "streaming" => *lost = None,
            "waiting" if begun.elapsed() >= settings.first_connection => {
                return Some(SessionEnd::Unclaimed);
            }
            "waiting" => {}
            "orphaned" | "silent" => {
                let since = *lost.get_or_insert_with(Instant::now);
                if since.elapsed() >= settings.resume_window {
                    return Some(SessionEnd::Window);
                }
            }
            _ => return Some(SessionEnd::Runtime(format!("the runtime is {state}"))),
        }
        None
    }

    /// Stops the runtime's session and waits until another one can start.
    async fn free(&self, notice: Option<String>) {
        let body = match notice {
            Some(reason) => {
                json!({"reason": reason.chars().take(MAX_REASON_BYTES).collect::<String>()})
            }
            None => json!({}),
        };
        self.ask(Method::POST, "/stop_session", &body).await;
        // The next session is refused until the runtime is ready, and tries again.
        sleep(WAIT_POLL_INTERVAL).await;
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Option<UpstreamReply> {
        let mut headers = HeaderMap::new();
        let mut bytes = Bytes::new();
        if !body.is_null() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
            bytes = body.to_string().into();
        }
        let asked = self.upstream.ask(method, path, &headers, bytes);
        timeout(REPLY_TIMEOUT, asked).await.ok()?.ok()
    }
}

fn text(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_default().to_owned()
}
