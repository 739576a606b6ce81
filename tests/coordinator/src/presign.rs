// SPDX-License-Identifier: MIT

//! Presigned URLs: valid without a token, they carry a signature of their path, method and expiry.

use std::net::SocketAddr;

use axum::http::{Method, Uri};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::{settings::CoordinatorSettings, tokens};

pub const SIGNATURE: &str = "signature";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct PresignedClaims {
    method: String,
    path: String,
    exp: u64,
}

/// A URL of the storage server for one method and path, valid for a limited time.
pub fn url(
    mint: &tokens::TokenIssuer,
    settings: &CoordinatorSettings,
    storage: SocketAddr,
    method: &Method,
    path: &str,
) -> String {
    let grant = PresignedClaims {
        method: method.to_string(),
        path: path.to_owned(),
        exp: (tokens::now() + settings.presign_lifetime).as_secs(),
    };
    let signature = mint.sign(&grant).unwrap_or_default();
    format!("http://{storage}{path}?{SIGNATURE}={signature}")
}

/// Whether the URL was signed for this method and path, and has not expired.
pub fn holds(mint: &tokens::TokenIssuer, method: &Method, uri: &Uri) -> bool {
    let mut query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let signature = query.find(|(name, _)| name == SIGNATURE);
    let grant = signature.and_then(|(_, signature)| mint.verify::<PresignedClaims>(&signature));
    grant.is_some_and(|grant| {
        grant.method == method.as_str() && grant.path == uri.path() && !tokens::is_past(grant.exp)
    })
}
