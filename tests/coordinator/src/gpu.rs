// SPDX-License-Identifier: MIT

//! The one GPU, which is the local runtime: who has it, and when it is taken
//! away again.

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
    ledger::End,
    sessions::{Running, now_ms},
    shared::{Shared, lock},
    upstream::{Answer, Upstream},
};

/// How often the runtime is asked how it is.
const PERIOD: Duration = Duration::from_millis(200);
/// A waiting session may become due with time alone.
const TICK: Duration = Duration::from_millis(20);
/// For one answer of the runtime's.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the runtime takes for a reason.
const LONGEST_REASON: usize = 64;

pub async fn run(shared: Arc<Shared>) {
    let Some(upstream) = shared.upstream.clone() else {
        return;
    };
    let keeper = Keeper { shared, upstream };
    loop {
        // Before it looks: who sees that it is not busy may rely on that.
        keeper.shared.busy.store(true, Ordering::Release);
        let waiting = *lock(&keeper.shared.waiting);
        let due = lock(&keeper.shared.sessions).due(waiting);
        match due {
            Some((id, body)) => keeper.serve(&id, &body).await,
            None => {
                keeper.shared.busy.store(false, Ordering::Release);
                let _ = timeout(TICK, keeper.shared.changed.notified()).await;
            }
        }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    upstream: Upstream,
}

impl Keeper {
    /// One session, from its beginning to the moment when the runtime is free
    /// again.
    async fn serve(&self, id: &str, body: &Value) {
        let Some(answer) = self.ask(Method::POST, "/start_session", body).await else {
            return sleep(PERIOD).await;
        };
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                self.shared.finish(id, End::Runtime(answer.text()));
                return;
            }
            // It loads its model, or somebody uses it directly.
            _ => return sleep(PERIOD).await,
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

    /// Returns when the session is over, with what its clients are to know.
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
                self.shared.finish(id, End::Expired);
                continue;
            }
            if let Some(end) = self.look(begun, &mut lost).await {
                self.shared.finish(id, end);
                continue;
            }
            // Other sessions change as well, and that is no harm.
            let _ = timeout(PERIOD, self.shared.changed.notified()).await;
        }
    }

    /// Why the runtime's state ends the session, if it does. A runtime that is
    /// silent is one without a connection.
    async fn look(&self, begun: Instant, lost: &mut Option<Instant>) -> Option<End> {
        let settings = &self.shared.settings;
        let state = match self.ask(Method::GET, "/session", &Value::Null).await {
            Some(answer) => text(&answer.json().unwrap_or_default(), "state"),
            None => "silent".into(),
        };
        match state.as_str() {
            "streaming" => *lost = None,
            "waiting" if begun.elapsed() >= settings.first_connection => {
                return Some(End::Unclaimed);
            }
            "waiting" => {}
            "orphaned" | "silent" => {
                let since = *lost.get_or_insert_with(Instant::now);
                if since.elapsed() >= settings.resume_window {
                    return Some(End::Window);
                }
            }
            _ => return Some(End::Runtime(format!("the runtime is {state}"))),
        }
        None
    }

    /// Ends what runs there, and waits until something else can.
    async fn free(&self, notice: Option<String>) {
        let body = match notice {
            Some(reason) => {
                json!({"reason": reason.chars().take(LONGEST_REASON).collect::<String>()})
            }
            None => json!({}),
        };
        self.ask(Method::POST, "/stop_session", &body).await;
        // Who comes next is refused for as long as this lasts, and tries again.
        sleep(TICK).await;
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Option<Answer> {
        let mut headers = HeaderMap::new();
        let mut bytes = Bytes::new();
        if !body.is_null() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
            bytes = body.to_string().into();
        }
        let asked = self.upstream.ask(method, path, &headers, bytes);
        timeout(PATIENCE, asked).await.ok()?.ok()
    }
}

fn text(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_default().to_owned()
}
