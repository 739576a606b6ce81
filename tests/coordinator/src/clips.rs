// SPDX-License-Identifier: MIT

//! `GET /clips`: the runtime's manifest, with presigned segments.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use url::form_urlencoded;

use crate::{presign, refusal::ApiError, shared::CoordinatorState, upstream::UpstreamReply};

/// A session's recording is named after it, and is available after its end, too.
pub async fn manifest(
    State(shared): State<Arc<CoordinatorState>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let query = uri.query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let id = pairs.find(|(name, _)| name == "session_id");
    let Some((_, id)) = id else {
        shared.mint.check(&headers)?;
        return Err(ApiError::invalid("session_id is required"));
    };
    shared.with_session(&headers, &id, |_| ())?;
    let path = format!("/clips?{query}");
    let answer = shared
        .ask(Method::GET, &path, &headers, Bytes::new())
        .await?;
    if answer.status != StatusCode::OK {
        return Ok(answer.into_response());
    }
    let signed = |path: &str| {
        let storage = shared.storage;
        presign::url(&shared.mint, &shared.settings, storage, &Method::GET, path)
    };
    let body = rewrite(&answer.text(), signed).into();
    Ok(UpstreamReply { body, ..answer }.into_response())
}

/// Replaces every URI of a playlist.
fn rewrite(playlist: &str, signed: impl Fn(&str) -> String) -> String {
    let line = |line: &str| match line.split_once("URI=\"") {
        Some((tag, rest)) if line.starts_with('#') => match rest.split_once('"') {
            Some((uri, rest)) => format!("{tag}URI=\"{}\"{rest}\n", signed(uri)),
            None => format!("{line}\n"),
        },
        _ if line.starts_with('#') || line.trim().is_empty() => format!("{line}\n"),
        _ => format!("{}\n", signed(line.trim())),
    };
    playlist.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn playlist_rewrite_changes_only_uris() {
        let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"/a/init.mp4\",X=1\n\
                        #EXTINF:4.000,\n/a/0.m4s\n#EXT-X-ENDLIST\n";
        let expected = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"h:/a/init.mp4\",X=1\n\
                        #EXTINF:4.000,\nh:/a/0.m4s\n#EXT-X-ENDLIST\n";
        assert_eq!(rewrite(playlist, |path| format!("h:{path}")), expected);
    }
}
