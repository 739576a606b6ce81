// SPDX-License-Identifier: MIT

//! A server of the platform: base URL, HTTP client and tokens. Called from
//! tokio tasks; it sends a token only to the server that the token is for.

use url::Url;

use super::{
    Code, Error,
    auth::TokenProvider,
    http::{
        Credential, HttpClient, HttpRequest, HttpResponse, ServerRole, append_path, display_url,
        sanitize,
    },
    secret::Secret,
    url_policy::Trust,
};

/// An HTTP client, a server's base URL and the tokens for it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    http: HttpClient,
    base: Url,
    /// `None` for a local runtime, which needs no token.
    token_provider: Option<TokenProvider>,
}

impl Endpoint {
    /// A local runtime, at a base URL as a user writes it.
    pub fn new(http: HttpClient, base: &str) -> Result<Self, Error> {
        Ok(Self {
            http,
            base: parse_base(base, "http://127.0.0.1:8080")?,
            token_provider: None,
        })
    }

    /// The server that the tokens are for.
    pub fn cloud(token_provider: TokenProvider) -> Self {
        Self {
            http: token_provider.http().clone(),
            base: token_provider.base().clone(),
            token_provider: Some(token_provider),
        }
    }

    /// The URL for messages: without user, password and query.
    pub fn display_url(&self) -> String {
        display_url(&self.base)
    }

    /// The base URL of the calls.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    pub fn is_local(&self) -> bool {
        self.token_provider.is_none()
    }

    fn role(&self) -> ServerRole {
        match self.token_provider {
            Some(_) => ServerRole::Cloud,
            None => ServerRole::Runtime,
        }
    }

    /// How far the server is trusted to know its own address.
    pub(super) fn trust(&self) -> Trust {
        match self.token_provider {
            Some(_) => Trust::Server,
            None => Trust::Runtime,
        }
    }

    /// The client for requests to other servers, which carry neither a header
    /// of the API nor a secret.
    pub(super) fn http(&self) -> &HttpClient {
        &self.http
    }

    /// The tokens, where they are needed.
    pub(super) fn token_provider(&self) -> Option<&TokenProvider> {
        self.token_provider.as_ref()
    }

    /// Sends one request, as [`TokenProvider::send`] does where tokens are needed.
    /// Anything but a 2xx answer is an error.
    pub async fn send(&self, call: HttpRequest<'_>) -> Result<HttpResponse, Error> {
        // Below the base, so on the server that the token is for; and since
        // redirects are not followed, on no other.
        let url = append_path(&self.base, call.path);
        let role = self.role();
        let Some(token_provider) = &self.token_provider else {
            return self.http.send(url, &call, role, Credential::None).await;
        };
        let (url, call) = (&url, &call);
        let send = async |token: Secret| {
            let credential = Credential::Bearer(&token);
            self.http.send(url.clone(), call, role, credential).await
        };
        token_provider.send(send).await
    }
}

/// Parses a base URL as a user writes it; `example` stands in the error.
///
/// Fails with [`Code::InvalidSettings`], without repeating what may be a password.
pub fn parse_base(base: &str, example: &str) -> Result<Url, Error> {
    let invalid = |what: &str| {
        let message = format!("{what}; expected a URL such as {example}");
        Err(Error::api(Code::InvalidSettings, message))
    };
    let base = base.trim();
    // What may hold a password is not repeated.
    let quoted = match base.split(['?', '#']).next() {
        Some(text) if !text.contains('@') => format!("\"{}\"", sanitize(text)),
        _ => "the server's address".to_owned(),
    };
    let Ok(url) = Url::parse(base) else {
        return invalid(&format!("{quoted} is not a URL"));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("the server's URL must not hold a user name or password");
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return invalid(&format!("{quoted} is not an HTTP URL"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return invalid("the server's URL must not have a query or a fragment");
    }
    Ok(url)
}
