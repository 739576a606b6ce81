// SPDX-License-Identifier: MIT

//! Rules: how a test wants requests to be served, so that the server misbehaves on demand.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use crate::socket::Socket;

/// The largest body that is forwarded, in bytes.
pub const MAX_BODY: usize = 64 << 20;

/// Edits the text of a body.
pub type Edit = Arc<dyn Fn(String) -> String + Send + Sync>;

/// How a request is served.
#[derive(Clone)]
pub enum Rule {
    /// Normally.
    Forward,
    /// By the inner rule, after a delay.
    After(Duration, Box<Rule>),
    /// With this reply, without being forwarded.
    Reply {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// Never.
    Hang,
    /// With these raw bytes, whatever they are; then the connection is closed.
    Raw(Vec<u8>),
    /// Forwarded with an edited body.
    EditRequest(Edit),
    /// Forwarded; the body of a 200 reply is edited.
    EditReply(Edit),
}

impl Rule {
    /// A JSON reply.
    pub fn reply(status: u16, body: impl Into<String>) -> Self {
        Self::Reply {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.into(),
        }
    }

    /// Refuses temporarily, with a `Retry-After` in seconds.
    pub fn retry_after(status: u16, seconds: &str) -> Self {
        Self::Reply {
            status,
            headers: vec![("retry-after".into(), seconds.into())],
            body: r#"{"detail":"all GPUs are taken"}"#.into(),
        }
    }

    /// Closes the connection without a reply.
    pub fn drop_connection() -> Self {
        Self::Raw(Vec::new())
    }

    /// Serves normally after a delay.
    pub fn delay(time: Duration) -> Self {
        Self::Forward.after(time)
    }

    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self::After(time, Box::new(self))
    }

    pub fn edit_reply(edit: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        Self::EditReply(Arc::new(edit))
    }

    pub fn edit_request(edit: impl Fn(String) -> String + Send + Sync + 'static) -> Self {
        Self::EditRequest(Arc::new(edit))
    }

    /// Serves a request by this rule; `serve` serves it normally.
    pub async fn apply<F>(
        mut self,
        socket: &Socket,
        parts: Parts,
        body: Bytes,
        serve: impl FnOnce(Parts, Bytes) -> F,
    ) -> Response
    where
        F: Future<Output = Response>,
    {
        while let Self::After(time, rule) = self {
            tokio::time::sleep(time).await;
            self = *rule;
        }
        match self {
            Self::Forward | Self::After(..) => serve(parts, body).await,
            Self::Reply {
                status,
                headers,
                body,
            } => reply(status, &headers, body),
            Self::Hang => std::future::pending().await,
            Self::Raw(bytes) => socket.end(&bytes),
            Self::EditRequest(edit) => {
                let body = edit(String::from_utf8_lossy(&body).into_owned());
                serve(parts, body.into()).await
            }
            Self::EditReply(edit) => edited(serve(parts, body).await, &edit).await,
        }
    }
}

fn reply(status: u16, headers: &[(String, String)], body: String) -> Response {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(name, value);
    }
    reply
        .body(body.into())
        .unwrap_or_else(|_| (StatusCode::INTERNAL_SERVER_ERROR, "no such reply").into_response())
}

async fn edited(reply: Response, edit: &Edit) -> Response {
    if reply.status() != StatusCode::OK {
        return reply;
    }
    let (mut head, body) = reply.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    head.headers.remove(header::CONTENT_LENGTH);
    let body = edit(String::from_utf8_lossy(&body).into_owned());
    Response::from_parts(head, Body::from(body))
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward => f.write_str("Forward"),
            Self::After(time, rule) => write!(f, "After({time:?}, {rule:?})"),
            Self::Reply { status, .. } => write!(f, "Reply({status})"),
            Self::Hang => f.write_str("Hang"),
            Self::Raw(bytes) => write!(f, "Raw({} bytes)", bytes.len()),
            Self::EditRequest(_) => f.write_str("EditRequest"),
            Self::EditReply(_) => f.write_str("EditReply"),
        }
    }
}

/// The rules of each route of a server.
#[derive(Debug)]
pub struct Script<R> {
    /// Rules for a number of requests each; they precede the standing rule.
    next: HashMap<R, Vec<(usize, Rule)>>,
    standing: HashMap<R, Rule>,
}

impl<R> Default for Script<R> {
    fn default() -> Self {
        Self {
            next: HashMap::new(),
            standing: HashMap::new(),
        }
    }
}

impl<R: Copy + Eq + Hash> Script<R> {
    /// Sets the standing rule of a route.
    pub fn rule(&mut self, route: R, rule: Rule) {
        self.standing.insert(route, rule);
    }

    /// Sets the rule for the next `times` requests, after those already queued.
    pub fn next(&mut self, route: R, times: usize, rule: Rule) {
        if times > 0 {
            self.next.entry(route).or_default().push((times, rule));
        }
    }

    /// The rule for the request that has just arrived.
    pub fn take(&mut self, route: R) -> Rule {
        if let Some(next) = self.next.get_mut(&route)
            && let Some((left, rule)) = next.first_mut()
        {
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
