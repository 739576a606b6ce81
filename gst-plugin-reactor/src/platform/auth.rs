// SPDX-License-Identifier: MIT

//! Authentication towards the cloud: a token of the user's, or tokens that an
//! API key is exchanged for, kept and renewed for the whole process. Called from
//! tokio tasks; a key is sent to `/tokens` only, and never unencrypted.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{
    Code, Error,
    http::{
        Credential, HttpClient, HttpRequest, ServerRole, append_path, display_url, is_loopback,
    },
    lock,
    secret::Secret,
};

#[cfg(test)]
mod tests;
mod token;

pub use token::ClockReading;
use token::{Token, TokenAge};

const OPERATION: &str = "tokens";

/// The longest duration of a session that a token can be asked for; more is
/// refused. (The platform's Python client, 1.13.)
const MAX_SESSION_SECONDS: u64 = 24 * 3600;

/// The pause after a failed renewal of a token that is still valid.
const RENEWAL_RETRY: Duration = Duration::from_secs(30);

/// A token of the user's, which may be replaced while sessions run: clones
/// share it.
#[derive(Debug, Clone, Default)]
pub struct Jwt(Arc<Mutex<Option<Secret>>>);

impl Jwt {
    /// Replaces the token for all later requests. With none, or an empty one,
    /// the API key is used.
    pub fn set(&self, token: Option<&str>) {
        *lock(&self.0) = token.and_then(secret);
    }

    pub fn is_set(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Until when the token is good, in seconds since 1970, if it says so.
    pub fn expiration(&self) -> Option<f64> {
        token::expiration(self.get()?.expose())
    }

    fn get(&self) -> Option<Secret> {
        lock(&self.0).clone()
    }
}

impl PartialEq for Jwt {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

/// The user's credentials. The token wins over the key, and is never replaced
/// by one that the key is exchanged for.
#[derive(Debug, Clone, Default)]
pub struct ApiCredentials {
    key: Option<Secret>,
    jwt: Jwt,
}

impl ApiCredentials {
    pub fn new(key: Option<&str>, jwt: Jwt) -> Self {
        let key = key.and_then(secret);
        Self { key, jwt }
    }
}

/// A secret without the line break that a file or a paste tends to end with.
fn secret(text: &str) -> Option<Secret> {
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::new(text))
}

/// The scope of a token. One that leaks should be worth little.
///
/// There is no token for everything that the key may do, not even when the
/// server refuses a narrower one: the official client does not ask for it
/// then either, and what the refusal says of the model, the session or the
/// key is what the user has to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenScope {
    /// Creates sessions of a model, which may run for a number of seconds at
    /// most, and reaches those that it created.
    Model(String, Option<u64>),
    /// Reaches one session that exists.
    Session(String),
    /// Creates no session, and reaches what the key's sessions recorded.
    Recordings,
}

impl TokenScope {
    /// Limits how long the sessions run that the tokens create.
    #[must_use]
    pub fn with_max_session_duration(mut self, limit: Option<Duration>) -> Self {
        if let Self::Model(_, seconds) = &mut self {
            *seconds = limit.map(|limit| limit.as_secs().clamp(1, MAX_SESSION_SECONDS));
        }
        self
    }

    fn request(&self) -> Value {
        let resources = match self {
            Self::Model(name, _) => json!({"models": {"match": [name]}}),
            // There must be models. Without a number of sessions this gives
            // the right to none but the one.
            Self::Recordings => json!({"models": {"all": true}}),
            Self::Session(id) => json!({"models": {"all": true}, "sessions": {"bind": [id]}}),
        };
        let mut detail = json!({"type": "session", "resources": resources});
        if let Self::Model(_, Some(seconds)) = self {
            detail["constraints"] = json!({"max_session_duration_seconds": seconds});
        }
        json!({"authorization_details": [detail]})
    }
}

/// The tokens of one scope for one server, and the requests that carry them.
#[derive(Debug, Clone)]
pub struct TokenProvider {
    tokens: TokenCache,
    access: ApiCredentials,
    http: HttpClient,
    base: Url,
    scope: TokenScope,
}

impl TokenProvider {
    /// Makes no request.
    ///
    /// Fails with [`Code::InvalidSettings`] where secrets would travel in the
    /// clear.
    pub fn new(
        http: HttpClient,
        base: Url,
        access: ApiCredentials,
        tokens: TokenCache,
        scope: TokenScope,
    ) -> Result<Self, Error> {
        if base.scheme() != "https" && !is_loopback(&base) {
            let message = format!(
                "the api-key or jwt would go to {} unencrypted; use https",
                display_url(&base)
            );
            return Err(Error::api(Code::InvalidSettings, message));
        }
        Ok(Self {
            tokens,
            access,
            http,
            base,
            scope,
        })
    }

    pub(super) fn http(&self) -> &HttpClient {
        &self.http
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// The tokens of another scope.
    #[must_use]
    pub fn scoped(&self, scope: TokenScope) -> Self {
        Self {
            scope,
            ..self.clone()
        }
    }

    /// The token for the next request.
    ///
    /// Fails as the exchange of the key does, or with
    /// [`Code::InvalidSettings`] if there is no key.
    pub async fn token(&self, now: ClockReading) -> Result<Secret, Error> {
        if let Some(jwt) = self.access.jwt.get() {
            return Ok(jwt);
        }
        let Some(key) = &self.access.key else {
            let message = "the cloud lets nobody in without api-key (or REACTOR_API_KEY) or jwt";
            return Err(Error::api(Code::InvalidSettings, message));
        };
        let exchange = async || self.exchange_key(key, now).await;
        self.slot(key, now).token(now, exchange).await
    }

    /// Sends a request with the token.
    ///
    /// A token that the server refuses (401) is replaced, if another can be
    /// obtained, and the request is sent once more: the server has not acted
    /// on it. A refused scope (403) is final.
    pub(super) async fn send<T, F>(&self, send: impl Fn(Secret) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let token = self.token(ClockReading::now()).await?;
        let refusal = match send(token.clone()).await {
            Err(e) if e.http_status == Some(401) => e,
            other => return other,
        };
        match self.replace_refused(&token, ClockReading::now()).await? {
            Some(token) => send(token).await,
            None => Err(refusal),
        }
    }

    /// The token to use instead of one that the server refused, if there is
    /// another.
    pub async fn replace_refused(
        &self,
        refused: &Secret,
        now: ClockReading,
    ) -> Result<Option<Secret>, Error> {
        if let Some(jwt) = self.access.jwt.get() {
            // It may have been replaced meanwhile.
            return Ok(Some(jwt).filter(|jwt| jwt != refused));
        }
        let Some(key) = &self.access.key else {
            return Ok(None);
        };
        self.slot(key, now).invalidate(refused);
        self.token(now).await.map(Some)
    }

    /// Uses the token that created a session for that session too: of the other
    /// tokens, only one exchanged for the session by its id reaches it.
    pub fn share_token(&self, created_with: &Secret, session: &Self, now: ClockReading) {
        if let Some(key) = &self.access.key
            && let Some(token) = self.slot(key, now).find(created_with)
        {
            lock(&session.slot(key, now).state).token = Some(token);
        }
    }

    /// Forgets the token, once its session is over.
    pub fn forget(&self) {
        if let Some(key) = &self.access.key {
            lock(&self.tokens.0).remove(&self.token_key(key));
        }
    }

    fn slot(&self, key: &Secret, now: ClockReading) -> Arc<TokenSlot> {
        self.tokens.slot(self.token_key(key), now)
    }

    fn token_key(&self, key: &Secret) -> TokenKey {
        TokenKey {
            key: Sha256::digest(key.expose()).into(),
            server: self.base.to_string(),
            scope: self.scope.clone(),
        }
    }

    /// Exchanges the key for a token.
    async fn exchange_key(&self, key: &Secret, now: ClockReading) -> Result<Token, Error> {
        let call = HttpRequest {
            method: Method::POST,
            path: &["tokens"],
            operation: OPERATION,
            headers: &[],
            body: Some(self.scope.request()),
        };
        let url = append_path(&self.base, call.path);
        let credential = Credential::ApiKey(key);
        let reply = self
            .http
            .send(url, &call, ServerRole::Cloud, credential)
            .await?;
        let answer = reply.unredacted_json()?;
        let jwt = answer.get("jwt").and_then(Value::as_str).and_then(secret);
        let jwt = jwt.ok_or_else(|| reply.protocol_error("the answer holds no token"))?;
        // From before the request on: it cannot be older than that.
        Ok(Token::new(jwt, now))
    }
}

/// The tokens of the process: one for each key, server and scope.
#[derive(Clone, Default)]
pub struct TokenCache(Arc<Mutex<HashMap<TokenKey, Arc<TokenSlot>>>>);

impl TokenCache {
    pub fn shared() -> Self {
        static SHARED: OnceLock<TokenCache> = OnceLock::new();
        SHARED.get_or_init(Self::default).clone()
    }

    fn slot(&self, key: TokenKey, now: ClockReading) -> Arc<TokenSlot> {
        let mut slots = lock(&self.0);
        if let Some(slot) = slots.get(&key) {
            return slot.clone();
        }
        slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_valid(now));
        slots.entry(key).or_default().clone()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCache({})", lock(&self.0).len())
    }
}

#[derive(PartialEq, Eq, Hash)]
struct TokenKey {
    /// Its SHA-256.
    key: [u8; 32],
    server: String,
    scope: TokenScope,
}

/// The cache entry of one token. A caller waits for another caller's exchange
/// only without a valid token.
#[derive(Default)]
struct TokenSlot {
    state: Mutex<SlotState>,
    /// Held while the key is exchanged.
    exchange_lock: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct SlotState {
    token: Option<Token>,
    /// The number of exchanges, and why the last one failed.
    attempts: u64,
    failure: Option<Error>,
    /// The time of a failed renewal, and the pause before the next.
    renewal_pause: Option<(ClockReading, Duration)>,
}

/// The token of a slot at a time.
enum Lookup {
    Valid(Secret),
    /// Valid, and to be renewed.
    RenewalDue(Secret),
    Missing,
}

impl TokenSlot {
    async fn token(
        &self,
        now: ClockReading,
        exchange: impl AsyncFnOnce() -> Result<Token, Error>,
    ) -> Result<Secret, Error> {
        let attempts = lock(&self.state).attempts;
        match self.lookup(now) {
            Lookup::Valid(secret) => Ok(secret),
            Lookup::RenewalDue(old) => {
                let Ok(_guard) = self.exchange_lock.try_lock() else {
                    return Ok(old);
                };
                Ok(self.store(exchange().await, now).unwrap_or(old))
            }
            Lookup::Missing => {
                let _guard = self.exchange_lock.lock().await;
                // Another caller may have exchanged the key meanwhile.
                if let Lookup::Valid(secret) | Lookup::RenewalDue(secret) = self.lookup(now) {
                    return Ok(secret);
                }
                match self.failed_since(attempts) {
                    Some(error) => Err(error),
                    None => self.store(exchange().await, now),
                }
            }
        }
    }

    fn lookup(&self, now: ClockReading) -> Lookup {
        let state = lock(&self.state);
        let Some(token) = &state.token else {
            return Lookup::Missing;
        };
        let renewal_pause = state.renewal_pause;
        let waiting = renewal_pause.is_some_and(|(since, time)| now.since(since) < time);
        match token.age(now) {
            TokenAge::Fresh => Lookup::Valid(token.secret.clone()),
            TokenAge::RenewalDue if waiting => Lookup::Valid(token.secret.clone()),
            TokenAge::RenewalDue => Lookup::RenewalDue(token.secret.clone()),
            TokenAge::Expired => Lookup::Missing,
        }
    }

    fn failed_since(&self, attempts: u64) -> Option<Error> {
        let state = lock(&self.state);
        state.failure.clone().filter(|_| state.attempts > attempts)
    }

    fn store(&self, result: Result<Token, Error>, now: ClockReading) -> Result<Secret, Error> {
        let mut state = lock(&self.state);
        state.attempts += 1;
        match result {
            Ok(token) => {
                let secret = token.secret.clone();
                *state = SlotState {
                    token: Some(token),
                    attempts: state.attempts,
                    ..SlotState::default()
                };
                Ok(secret)
            }
            Err(error) => {
                let wait = error.retry_after.unwrap_or_default().max(RENEWAL_RETRY);
                state.renewal_pause = Some((now, wait));
                state.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Drops a token that the server refused, unless it is replaced already.
    fn invalidate(&self, refused: &Secret) {
        let mut state = lock(&self.state);
        if state.token.as_ref().is_some_and(|t| t.secret == *refused) {
            state.token = None;
        }
    }

    fn find(&self, secret: &Secret) -> Option<Token> {
        let state = lock(&self.state);
        state.token.clone().filter(|token| token.secret == *secret)
    }

    fn is_valid(&self, now: ClockReading) -> bool {
        !matches!(self.lookup(now), Lookup::Missing)
    }
}
