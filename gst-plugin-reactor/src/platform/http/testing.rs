// SPDX-License-Identifier: MIT

//! A tiny scripted HTTP server on 127.0.0.1.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::platform::{endpoint::Endpoint, http::HttpClient};

/// What to do with one connection.
pub(crate) enum Act {
    /// Read the request, send these pieces, close.
    Reply(Vec<Vec<u8>>),
    /// Answer with that status and the whole request, as JSON and as text.
    Echo(u16),
    /// Read the request, never answer.
    Silence,
    /// Close at once.
    Close,
}

pub(crate) struct Server {
    pub(crate) base: String,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let script: Vec<_> = script.into_iter().collect();
        let log = requests.clone();
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            for act in script {
                let (mut stream, _) = listener.accept().await.unwrap();
                if let Act::Close = act {
                    continue;
                }
                let request = read_request(&mut stream).await;
                log.lock().unwrap().push(request.clone());
                let act = match act {
                    Act::Echo(status) => echo(status, &request),
                    act => act,
                };
                match act {
                    Act::Reply(pieces) => {
                        for piece in pieces {
                            if stream.write_all(&piece).await.is_err() {
                                break;
                            }
                            stream.flush().await.unwrap();
                            tokio::task::yield_now().await;
                        }
                    }
                    _ => silent.push(stream),
                }
            }
            std::future::pending::<()>().await;
        });
        Self {
            base,
            requests,
            task,
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new(http(), &self.base).unwrap()
    }

    /// The requests so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The JSON body of a request.
    pub(crate) fn body(&self, n: usize) -> Value {
        let request = self.requests()[n].clone();
        serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn http() -> HttpClient {
    HttpClient::with_timeout(Duration::from_secs(2)).unwrap()
}

pub(crate) fn raw(text: impl AsRef<[u8]>) -> Act {
    Act::Reply(vec![text.as_ref().to_vec()])
}

pub(crate) fn reply(status: u16, headers: &str, body: &str) -> Act {
    let length = body.len();
    raw(format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

pub(crate) fn json(status: u16, body: Value) -> Act {
    reply(status, "", &body.to_string())
}

/// What a misbehaving server says: whatever it has heard, in turn under the
/// name of an error and as plain text.
fn echo(status: u16, request: &str) -> Act {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let heard = request.replace("\r\n", " ");
    match TURN.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => json(status, json!({ "detail": heard })),
        1 => json(status, json!({ "error": { "message": heard } })),
        _ => reply(
            status,
            "content-type: text/plain; charset=utf-8\r\n",
            &heard,
        ),
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut data = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&data).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text,
            Ok(n) => data.extend_from_slice(&buffer[..n]),
        }
    }
}
