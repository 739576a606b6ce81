// SPDX-License-Identifier: MIT

//! Exchanges API keys for tokens, and authenticates requests by their token.

use std::{
    collections::HashSet,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    log::digest, refusal::ApiError, scope::Detail, settings::CoordinatorSettings, shared::lock,
};

pub const KEY_HEADER: &str = "reactor-api-key";

/// The claims of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    /// The account: a digest of its key.
    pub sub: String,
    pub jti: String,
    iat: u64,
    exp: u64,
    /// None: everything that the account may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Vec<Detail>>,
}

impl Claims {
    /// The detail that allows a new session of this model, if there is one; an unscoped token needs
    /// none.
    pub fn creation(&self, model: &str, created: usize) -> Result<Option<&Detail>, ApiError> {
        let Some(details) = &self.authorization_details else {
            return Ok(None);
        };
        let allowing = |detail: &&Detail| detail.allows_creation(model, created);
        let found = details.iter().find(allowing);
        found.map(Some).ok_or_else(|| {
            ApiError::forbidden(format!("the token allows no (further) session on {model}"))
        })
    }

    /// Whether it may access a session of its account: a scoped token reaches only the sessions
    /// that it created or was bound to.
    pub fn reaches(&self, id: &str, model: &str, creator: &str) -> bool {
        let Some(details) = &self.authorization_details else {
            return true;
        };
        details.iter().any(|detail| {
            let bound = detail
                .bound()
                .is_some_and(|ids| ids.iter().any(|i| i == id));
            (bound || self.jti == creator) && detail.reaches_model(model)
        })
    }
}

/// The body of `POST /tokens`, where it has one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    authorization_details: Option<Vec<Detail>>,
    expires_after: Option<u64>,
}

impl Wanted {
    /// An empty body and `null` ask for an unscoped token; `{}` does not, and 422 is a guess of the
    /// platform's reply.
    fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let json =
            serde_json::from_slice(body).map_err(|error| ApiError::invalid(error.to_string()))?;
        let wanted: Self = match json {
            Value::Null => return Ok(Self::default()),
            Value::Object(members) if members.is_empty() => {
                return Err(ApiError::invalid(
                    "an empty object asks for nothing; send null",
                ));
            }
            json => serde_json::from_value(json)
                .map_err(|error| ApiError::invalid(error.to_string()))?,
        };
        if wanted.expires_after == Some(0) {
            return Err(ApiError::invalid("expires_after: at least 1"));
        }
        match &wanted.authorization_details {
            Some(details) if details.is_empty() => {
                Err(ApiError::invalid("authorization_details: none"))
            }
            Some(details) => match details.iter().find_map(Detail::complaint) {
                Some(complaint) => Err(ApiError::invalid(complaint)),
                None => Ok(wanted),
            },
            None => Ok(wanted),
        }
    }

    fn bound(&self) -> impl Iterator<Item = &String> {
        let details = self.authorization_details.iter().flatten();
        details.filter_map(Detail::bound).flatten()
    }
}

/// Issues and verifies tokens.
pub struct TokenIssuer {
    keys: Vec<String>,
    encoding: EncodingKey,
    decoding: DecodingKey,
    lifetime: u64,
    /// The ids of the tokens that are valid.
    valid: Mutex<HashSet<String>>,
}

impl TokenIssuer {
    pub fn new(settings: &CoordinatorSettings) -> Result<Self> {
        let lifetime = settings.token_lifetime.as_secs();
        ensure!(
            lifetime > 0,
            "a token lasts whole seconds, and at least one"
        );
        let secret = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat();
        Ok(Self {
            keys: settings.api_keys.clone(),
            encoding: EncodingKey::from_secret(&secret),
            decoding: DecodingKey::from_secret(&secret),
            lifetime,
            valid: Mutex::default(),
        })
    }

    /// The reply to `POST /tokens`. `open_session` tells whether the account has this session, and
    /// it has not ended.
    pub fn issue(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        open_session: impl Fn(&str, &str) -> bool,
    ) -> Result<String, ApiError> {
        let key = headers.get(KEY_HEADER).and_then(|key| key.to_str().ok());
        let key = key.ok_or_else(|| ApiError::unauthorized("no API key"))?;
        if !self.keys.iter().any(|known| known == key) {
            return Err(ApiError::unauthorized("unknown API key"));
        }
        let wanted = Wanted::from_body(body)?;
        let account = digest(key);
        if let Some(id) = wanted.bound().find(|id| !open_session(&account, id)) {
            let detail = format!("no open session {id} of this account");
            return Err(ApiError::forbidden(detail));
        }
        let now = now().as_secs();
        let lifetime = wanted.expires_after.unwrap_or(self.lifetime);
        let claims = Claims {
            sub: account,
            jti: Uuid::new_v4().to_string(),
            iat: now,
            exp: now + lifetime.min(self.lifetime),
            authorization_details: wanted.authorization_details,
        };
        lock(&self.valid).insert(claims.jti.clone());
        self.sign(&claims)
            .ok_or_else(|| ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "signing"))
    }

    /// Signs claims of any kind; presigned URLs use it, too.
    pub fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let header = Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, claims, &self.encoding).ok()
    }

    /// Verifies the signature only, not the expiry.
    pub fn verify<C: for<'de> Deserialize<'de> + Clone>(&self, token: &str) -> Option<C> {
        let mut rules = Validation::new(Algorithm::HS256);
        // `is_past` is exact to the second, and needs no leeway between clocks.
        rules.validate_exp = false;
        let data = jsonwebtoken::decode(token, &self.decoding, &rules);
        data.ok().map(|data| data.claims)
    }

    /// The claims of this request's token.
    pub fn check(&self, headers: &HeaderMap) -> Result<Claims, ApiError> {
        let value = headers.get(header::AUTHORIZATION);
        let value = value.and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| ApiError::unauthorized("no bearer token"))?;
        let claims: Claims = self
            .verify(token)
            .ok_or_else(|| ApiError::unauthorized("not a token of ours"))?;
        if is_past(claims.exp) {
            return Err(ApiError::unauthorized("the token has expired"));
        }
        if !lock(&self.valid).contains(&claims.jti) {
            return Err(ApiError::unauthorized("the token was withdrawn"));
        }
        Ok(claims)
    }

    /// Refuses all tokens issued so far.
    pub fn withdraw_all(&self) {
        lock(&self.valid).clear();
    }
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenIssuer").finish_non_exhaustive()
    }
}

pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Whether this time, in seconds since the Unix epoch, has passed.
pub fn is_past(expiry: u64) -> bool {
    now().as_secs() >= expiry
}
