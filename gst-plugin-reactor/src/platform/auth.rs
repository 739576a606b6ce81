// SPDX-License-Identifier: MIT

//! What lets a client of the cloud in: a token of the user's, or those that
//! an API key is exchanged for.

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

pub use token::Now;
use token::{Age, Token};

const OPERATION: &str = "tokens";

/// When to try again to renew a token that is still good.
const RENEWAL_RETRY: Duration = Duration::from_secs(30);

/// A token of the user's, which may be replaced while sessions run: clones
/// are the same token.
#[derive(Debug, Clone, Default)]
pub struct Jwt(Arc<Mutex<Option<Secret>>>);

impl Jwt {
    /// Every request from now on goes out with this one. None, or an empty
    /// one, leaves it to the API key.
    pub fn set(&self, token: Option<&str>) {
        *lock(&self.0) = token.and_then(secret);
    }

    pub fn is_set(&self) -> bool {
        lock(&self.0).is_some()
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

/// What the user gave to be let in with. The token wins over the key, and is
/// never replaced by one from here.
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

/// What is read from a file or pasted tends to end with a line break.
fn secret(text: &str) -> Option<Secret> {
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::new(text))
}

/// What a token is good for. One that leaks should be worth little.
///
/// There is no token for everything that the key may do, not even when the
/// server refuses a narrower one: the official client does not ask for it
/// then either, and what the refusal says of the model, the session or the
/// key is what the user has to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenScope {
    /// Creates sessions of a model, and reaches those that it created.
    Model(String),
    /// Reaches one session that exists.
    Session(String),
    /// Creates no session, and reaches what the key's sessions recorded.
    Recordings,
}

impl TokenScope {
    fn request(&self) -> Value {
        let resources = match self {
            Self::Model(name) => json!({"models": {"match": [name]}}),
            // There must be models. Without a number of sessions this gives
            // the right to none but the one.
            Self::Recordings => json!({"models": {"all": true}}),
            Self::Session(id) => json!({"models": {"all": true}, "sessions": {"bind": [id]}}),
        };
        json!({"authorization_details": [{"type": "session", "resources": resources}]})
    }
}

/// The right to make calls to a server of the cloud's.
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

    /// The same for something else.
    #[must_use]
    pub fn scoped(&self, scope: TokenScope) -> Self {
        let mut other = self.clone();
        other.scope = scope;
        other
    }

    /// The token for the next request.
    ///
    /// Fails as the exchange of the key does, or with
    /// [`Code::InvalidSettings`] if there is no key.
    pub async fn token(&self, now: Now) -> Result<Secret, Error> {
        if let Some(jwt) = self.access.jwt.get() {
            return Ok(jwt);
        }
        let Some(key) = &self.access.key else {
            let message = "the cloud lets nobody in without api-key (or REACTOR_API_KEY) or jwt";
            return Err(Error::api(Code::InvalidSettings, message));
        };
        let slot = self.tokens.slot(self.place(key), now);
        slot.token(now, || self.mint(key, now)).await
    }

    /// Sends a request with the token.
    ///
    /// One that the server does not take (401) is replaced, if there is
    /// another to be had, and the request is sent once more: the server has
    /// done nothing about it. That what the token is for is refused (403) is
    /// final.
    pub(super) async fn send<T, F>(&self, send: impl Fn(Secret) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let token = self.token(Now::read()).await?;
        let refusal = match send(token.clone()).await {
            Err(e) if e.http_status == Some(401) => e,
            other => return other,
        };
        match self.instead_of(&token, Now::read()).await? {
            Some(token) => send(token).await,
            None => Err(refusal),
        }
    }

    /// The token to try instead of one that the server did not take, if there
    /// can be another.
    pub async fn instead_of(&self, refused: &Secret, now: Now) -> Result<Option<Secret>, Error> {
        if let Some(jwt) = self.access.jwt.get() {
            // It may have been replaced meanwhile.
            return Ok(Some(jwt).filter(|jwt| jwt != refused));
        }
        let Some(key) = &self.access.key else {
            return Ok(None);
        };
        self.tokens.slot(self.place(key), now).invalidate(refused);
        self.token(now).await.map(Some)
    }

    /// Lets the token that created a session serve for that session too; no
    /// other that was not asked for it by name reaches it.
    pub fn hand_on(&self, created_with: &Secret, session: &Self, now: Now) {
        if let Some(key) = &self.access.key
            && let Some(token) = self.tokens.slot(self.place(key), now).find(created_with)
        {
            let slot = self.tokens.slot(session.place(key), now);
            lock(&slot.kept).token = Some(token);
        }
    }

    /// Forgets the token: what it was for is over.
    pub fn forget(&self) {
        if let Some(key) = &self.access.key {
            lock(&self.tokens.0).remove(&self.place(key));
        }
    }

    fn place(&self, key: &Secret) -> Place {
        Place {
            key: Sha256::digest(key.expose()).into(),
            server: self.base.to_string(),
            scope: self.scope.clone(),
        }
    }

    /// Exchanges the key for a token.
    async fn mint(&self, key: &Secret, now: Now) -> Result<Token, Error> {
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

/// The tokens of the process: everybody with the same key, server and purpose
/// shares one.
#[derive(Clone, Default)]
pub struct TokenCache(Arc<Mutex<HashMap<Place, Arc<Slot>>>>);

impl TokenCache {
    pub fn shared() -> Self {
        static SHARED: OnceLock<TokenCache> = OnceLock::new();
        SHARED.get_or_init(Self::default).clone()
    }

    fn slot(&self, place: Place, now: Now) -> Arc<Slot> {
        let mut slots = lock(&self.0);
        if let Some(slot) = slots.get(&place) {
            return slot.clone();
        }
        slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_good(now));
        slots.entry(place).or_default().clone()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCache({})", lock(&self.0).len())
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Place {
    /// Its SHA-256.
    key: [u8; 32],
    server: String,
    scope: TokenScope,
}

/// A place for one token. Nobody waits for another's request but who has no
/// token that is still good.
#[derive(Default)]
struct Slot {
    kept: Mutex<Kept>,
    /// Held by who asks the server.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    token: Option<Token>,
    /// How often the server was asked, and why the last time was in vain.
    asked: u64,
    failure: Option<Error>,
    /// A renewal failed then, and is not tried again for so long.
    patience: Option<(Now, Duration)>,
}

/// What a slot has to offer.
enum Found {
    Good(Secret),
    /// Good, but better renewed.
    Due(Secret),
    Nothing,
}

impl Slot {
    async fn token<F>(&self, now: Now, mint: impl FnOnce() -> F) -> Result<Secret, Error>
    where
        F: Future<Output = Result<Token, Error>>,
    {
        let asked = lock(&self.kept).asked;
        match self.look(now) {
            Found::Good(secret) => Ok(secret),
            Found::Due(old) => {
                let Ok(_asking) = self.asking.try_lock() else {
                    return Ok(old);
                };
                Ok(self.keep(mint().await, now).unwrap_or(old))
            }
            Found::Nothing => {
                let _asking = self.asking.lock().await;
                // Somebody else may have asked while this one waited.
                match self.look(now) {
                    Found::Good(secret) | Found::Due(secret) => return Ok(secret),
                    Found::Nothing => {}
                }
                let failure = self.failure_since(asked);
                match failure {
                    Some(error) => Err(error),
                    None => self.keep(mint().await, now),
                }
            }
        }
    }

    fn look(&self, now: Now) -> Found {
        let kept = lock(&self.kept);
        let Some(token) = &kept.token else {
            return Found::Nothing;
        };
        let patience = kept.patience;
        let waiting = patience.is_some_and(|(since, time)| now.since(since) < time);
        match token.age(now) {
            Age::Fresh => Found::Good(token.secret.clone()),
            Age::Due if waiting => Found::Good(token.secret.clone()),
            Age::Due => Found::Due(token.secret.clone()),
            Age::Over => Found::Nothing,
        }
    }

    fn failure_since(&self, asked: u64) -> Option<Error> {
        let kept = lock(&self.kept);
        kept.failure.clone().filter(|_| kept.asked > asked)
    }

    fn keep(&self, result: Result<Token, Error>, now: Now) -> Result<Secret, Error> {
        let mut kept = lock(&self.kept);
        kept.asked += 1;
        match result {
            Ok(token) => {
                let secret = token.secret.clone();
                *kept = Kept {
                    token: Some(token),
                    asked: kept.asked,
                    ..Kept::default()
                };
                Ok(secret)
            }
            Err(error) => {
                let wait = error.retry_after.unwrap_or_default().max(RENEWAL_RETRY);
                kept.patience = Some((now, wait));
                kept.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Drops a token that the server does not take, unless it has been
    /// replaced already.
    fn invalidate(&self, refused: &Secret) {
        let mut kept = lock(&self.kept);
        if kept.token.as_ref().is_some_and(|t| t.secret == *refused) {
            kept.token = None;
        }
    }

    fn find(&self, secret: &Secret) -> Option<Token> {
        let kept = lock(&self.kept);
        kept.token.clone().filter(|token| token.secret == *secret)
    }

    fn is_good(&self, now: Now) -> bool {
        !matches!(self.look(now), Found::Nothing)
    }
}
