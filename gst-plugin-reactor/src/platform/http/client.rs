// SPDX-License-Identifier: MIT

//! The HTTP client: connections, time-outs and the three ways to send. Called
//! from tasks of the tokio runtime.

use std::{sync::OnceLock, time::Duration};

use percent_encoding::percent_decode_str;
use reqwest::{Body, Method, RequestBuilder, Response, header::CONTENT_TYPE, redirect};
use url::Url;

use super::{
    error::{root_cause, transport_error},
    exchange::observed,
    request::{Credential, HttpRequest, RequestContext, ServerRole, StaticHeader, StreamRequest},
    response::{HttpResponse, within},
    response_stream::ResponseStream,
};
use crate::platform::{Code, Error, secret::Secret};

/// The longest one request may take, from name look-up to the last byte.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest a TCP (and TLS) connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an unused connection is kept. Shorter than the five seconds after
/// which the local runtime's HTTP server closes it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many unused connections are kept for each server: requests that run in
/// parallel need as many again a moment later.
const IDLE_CONNECTIONS: usize = 8;

const USER_AGENT: &str = concat!("gst-plugin-reactor/", env!("CARGO_PKG_VERSION"));

/// The HTTP client that all sessions share.
///
/// It follows no redirect and uses no proxy. HTTPS trusts the certificate authorities that the system trusts (on
/// Linux also `SSL_CERT_FILE` and `SSL_CERT_DIR`), and no setting turns its checks
/// off.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    timeout: Duration,
}

impl HttpClient {
    /// The process's client.
    pub fn shared() -> Result<Self, Error> {
        static SHARED: OnceLock<HttpClient> = OnceLock::new();
        if let Some(http) = SHARED.get() {
            return Ok(http.clone());
        }
        let http = Self::with_timeout(HTTP_TIMEOUT)?;
        Ok(SHARED.get_or_init(|| http).clone())
    }

    /// A client of its own, each of whose requests may take `timeout`.
    pub fn with_timeout(timeout: Duration) -> Result<Self, Error> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(USER_AGENT)
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT.min(timeout))
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .no_proxy()
        };
        // A machine without root certificates can still speak plain HTTP to a
        // local runtime; HTTPS then fails for want of a trusted issuer.
        let client = builder()
            .build()
            .or_else(|_| builder().tls_certs_only([]).build())
            .map_err(|e| {
                let cause = root_cause(&e);
                Error::api(Code::Internal, format!("cannot set up HTTP: {cause}"))
            })?;
        Ok(Self { client, timeout })
    }

    /// Sends one request with `credential` and reads the whole response within
    /// the client's time-out. Anything but a 2xx status is an error.
    pub(in crate::platform) async fn send(
        &self,
        url: Url,
        request: &HttpRequest<'_>,
        role: ServerRole,
        credential: Credential<'_>,
    ) -> Result<HttpResponse, Error> {
        let context = RequestContext::new(&url, role, request.operation, credential);
        let mut builder = self.client.request(request.method.clone(), url);
        builder = with_headers(builder, request.headers, credential, request.operation)?;
        if let Some(body) = &request.body {
            builder = builder.json(body);
        }
        send_and_read(&request.method, builder, context, self.timeout).await
    }

    /// Puts a body to a URL of another server's choice, without a credential or
    /// a header of the API. Anything but a 2xx status within `timeout` is an
    /// error.
    pub(in crate::platform) async fn put(
        &self,
        url: Url,
        content_type: &str,
        body: Body,
        timeout: Duration,
        operation: &'static str,
    ) -> Result<HttpResponse, Error> {
        let context = RequestContext::new(&url, ServerRole::Storage, operation, Credential::None);
        let builder = self.client.put(url).header(CONTENT_TYPE, content_type);
        send_and_read(&Method::PUT, builder.body(body), context, timeout).await
    }

    /// Requests a URL whose body is then read piece by piece. The response must
    /// begin within the client's time-out; anything but a 2xx status is an
    /// error.
    pub(in crate::platform) async fn get(
        &self,
        url: Url,
        request: StreamRequest<'_>,
        credential: Credential<'_>,
    ) -> Result<ResponseStream, Error> {
        let operation = request.operation;
        let mut context = RequestContext::new(&url, request.role, operation, credential);
        context.query = query_secrets(&url);
        let builder = self.client.get(url).headers(request.extra_headers);
        let builder = with_headers(builder, request.headers, credential, operation)?;
        let url = context.url.clone();
        let late = format!("no answer from {url} within {:?}", self.timeout);
        let exchange = async {
            let response = send(builder, &context).await?;
            ResponseStream::open(response, context).await
        };
        let exchange = within(self.timeout, late, operation, exchange);
        observed(&Method::GET, &url, ResponseStream::status, exchange).await
    }
}

fn with_headers(
    mut builder: RequestBuilder,
    headers: &[StaticHeader],
    credential: Credential<'_>,
    operation: &'static str,
) -> Result<RequestBuilder, Error> {
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let credential = credential.header().map_err(|e| e.during(operation))?;
    Ok(match credential {
        Some((name, value)) => builder.header(name, value),
        None => builder,
    })
}

/// Sends a request and waits for the whole response, for at most `timeout`.
async fn send_and_read(
    method: &Method,
    builder: RequestBuilder,
    context: RequestContext,
    timeout: Duration,
) -> Result<HttpResponse, Error> {
    let operation = context.operation;
    let url = context.url.clone();
    let late = format!("no complete answer from {url} within {timeout:?}");
    let exchange = async {
        let response = send(builder, &context).await?;
        HttpResponse::read(response, context).await
    };
    let exchange = within(timeout, late, operation, exchange);
    observed(
        method,
        &url,
        |response: &HttpResponse| response.status,
        exchange,
    )
    .await
}

async fn send(builder: RequestBuilder, context: &RequestContext) -> Result<Response, Error> {
    let sent = builder.send().await;
    sent.map_err(|e| transport_error(&context.url, &e))
}

/// The query of a URL as it is sent, and as a server that repeats it may
/// write it.
fn query_secrets(url: &Url) -> Vec<Secret> {
    let Some(query) = url.query() else {
        return Vec::new();
    };
    let decoded = percent_decode_str(query).decode_utf8_lossy();
    vec![Secret::new(query), Secret::new(decoded)]
}
