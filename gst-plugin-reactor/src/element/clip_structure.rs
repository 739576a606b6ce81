// SPDX-License-Identifier: MIT

//! A clip as a GstStructure: the reply to `request-clip`, and the property
//! `clip` of reactorclip. Called on the driver's task and at READY -> PAUSED;
//! never fetches a clip.

use crate::{
    platform::{Code, Error, endpoint::Endpoint, wire::Clip},
    session::recording_endpoints,
};

/// The structure of a clip. The clip's server is in it if a session of this
/// process has recorded it.
pub fn to_structure(clip: &Clip) -> gst::structure::Builder {
    let endpoint = recording_endpoints::find_endpoint(&clip.session_id);
    let local = endpoint.as_ref().map(Endpoint::is_local);
    gst::Structure::builder("reactor-reply")
        .field("type", "clipReady")
        .field("session-id", &clip.session_id)
        .field("kind", &clip.kind)
        .field("start", clip.start_marker)
        .field("end", clip.end_marker)
        .field("now", clip.now_marker)
        .field("predicted-ready-at-ms", clip.predicted_ready_at_ms)
        .field("playlist-url", &clip.playlist_url)
        .field_if_some("api-url", endpoint.map(|e| e.display_url()))
        .field_if_some("local", local)
}

/// The server of a clip, as far as the structure names it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClipServer {
    pub api_url: Option<String>,
    pub local: Option<bool>,
}

/// Parses a structure.
///
/// # Errors
///
/// [`Code::InvalidSettings`] when it is not a reply to `request-clip` or
/// `request-recording` with a clip.
pub fn parse(structure: &gst::StructureRef) -> Result<(Clip, ClipServer), Error> {
    let invalid = |what: &str| {
        let text = format!("the clip {what}; set what request-clip or request-recording answers");
        Error::api(Code::InvalidSettings, text)
    };
    if let Ok(error) = structure.get::<gst::Structure>("error") {
        let why = error.get::<String>("message").unwrap_or_default();
        return Err(invalid(&format!("is none, but an error ({why})")));
    }
    let text = |name: &str| structure.get::<String>(name).ok().filter(|t| !t.is_empty());
    let number = |name: &str| structure.get::<f64>(name).ok().filter(|n| n.is_finite());
    let clip = Clip {
        session_id: text("session-id").ok_or_else(|| invalid("has no session-id"))?,
        kind: text("kind").unwrap_or_default(),
        start_marker: number("start").unwrap_or_default(),
        end_marker: number("end").ok_or_else(|| invalid("has no end"))?,
        now_marker: number("now").unwrap_or_default(),
        predicted_ready_at_ms: structure.get("predicted-ready-at-ms").unwrap_or_default(),
        playlist_url: text("playlist-url").ok_or_else(|| invalid("has no playlist-url"))?,
    };
    let server = ClipServer {
        api_url: text("api-url"),
        local: structure.get("local").ok(),
    };
    Ok((clip, server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clip_structure_roundtrip_keeps_fields() {
        gst::init().unwrap();
        let clip = Clip {
            session_id: "of nobody".into(),
            kind: "snap".into(),
            start_marker: 1.5,
            end_marker: 11.5,
            now_marker: 11.5,
            predicted_ready_at_ms: 1_700_000_000_000,
            playlist_url: "/clips?session_id=x&start=1.500&end=11.500".into(),
        };
        let structure = to_structure(&clip).build();
        assert_eq!(parse(&structure).unwrap(), (clip, ClipServer::default()));
    }

    #[test]
    fn structure_without_clip_is_refused() {
        gst::init().unwrap();
        let details = gst::Structure::builder("reactor-error")
            .field("message", "no media")
            .build();
        let replies = [
            gst::Structure::new_empty("reactor-reply"),
            gst::Structure::builder("reactor-reply")
                .field("error", details)
                .build(),
            gst::Structure::builder("reactor-reply")
                .field("session-id", "x")
                .field("playlist-url", "/clips")
                .field("end", f64::NAN)
                .build(),
        ];
        for reply in replies {
            let error = parse(&reply).unwrap_err();
            assert_eq!(error.code, Code::InvalidSettings, "{reply}");
        }
    }
}
