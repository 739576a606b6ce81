// SPDX-License-Identifier: MIT

//! An HTTP client for a coordinator of the test's own.

use reactor_coordinator::{Coordinator, CoordinatorSettings};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

pub const KEY: &str = "rk_test";
pub const OTHER_KEY: &str = "rk_other";

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

pub struct Client {
    pub coordinator: Coordinator,
    http: reqwest::Client,
}

impl Client {
    pub fn new() -> Self {
        Self::with(CoordinatorSettings::default())
    }

    /// With two accounts and these settings.
    pub fn with(settings: CoordinatorSettings) -> Self {
        let settings = CoordinatorSettings {
            api_keys: vec![KEY.into(), OTHER_KEY.into()],
            ..settings
        };
        Self {
            coordinator: Coordinator::start(settings).expect("a coordinator"),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Reply {
        let url = match url.strip_prefix('/') {
            Some(path) => format!("{}/{path}", self.coordinator.url()),
            None => url.to_owned(),
        };
        let mut request = self.http.request(method, url).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.send().await.expect("a reply");
        Reply {
            status: reply.status(),
            headers: reply.headers().clone(),
            text: reply.text().await.expect("a body"),
        }
    }

    /// Sends a request with a token.
    pub async fn call(&self, method: Method, path: &str, token: &str, body: &str) -> Reply {
        let bearer = format!("Bearer {token}");
        self.send(method, path, &[("authorization", &bearer)], body)
            .await
    }

    pub async fn get(&self, path: &str, token: &str) -> Reply {
        self.call(Method::GET, path, token, "").await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Reply {
        self.call(Method::DELETE, path, token, "").await
    }

    pub async fn ask_token(&self, key: &str, body: &str) -> Reply {
        let headers = [("reactor-api-key", key)];
        self.send(Method::POST, "/tokens", &headers, body).await
    }

    pub async fn token(&self, body: &Value) -> String {
        let reply = self.ask_token(KEY, &body.to_string()).await;
        jwt(&reply.expect(201))
    }

    pub async fn unscoped(&self) -> String {
        self.token(&Value::Null).await
    }

    pub async fn create(&self, token: &str, model: &str) -> Reply {
        let body = creation(model).to_string();
        self.call(Method::POST, "/sessions", token, &body).await
    }

    /// Creates a session; returns its id.
    pub async fn session(&self, token: &str) -> String {
        id(&self.create(token, "m").await.expect(201))
    }
}

pub fn jwt(reply: &Reply) -> String {
    reply.json()["jwt"].as_str().expect("a token").to_owned()
}

pub fn id(reply: &Reply) -> String {
    reply.json()["session_id"]
        .as_str()
        .expect("an id")
        .to_owned()
}

pub fn creation(model: &str) -> Value {
    json!({
        "model": {"name": model},
        "client_info": {"sdk_version": "0", "sdk_type": "test"},
        "supported_transports": [{"protocol": "webrtc", "version": "1.0"}],
    })
}

/// The body of a request for a token with this scope.
pub fn scope(resources: &Value, constraints: &Value) -> Value {
    let detail = json!({"type": "session", "resources": resources, "constraints": constraints});
    json!({"authorization_details": [detail]})
}
