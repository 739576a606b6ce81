// SPDX-License-Identifier: MIT

//! What players and applications are told of the streams: their ids, the
//! collection of them, and tags. Pure, but for GStreamer's objects that it makes.

use sha2::{Digest, Sha256};

use crate::platform::{
    coordinator::SessionDescriptor,
    track::{Kind, Track},
};

/// What the server says of the model, as far as streams tell it.
#[derive(Debug, Default, Clone)]
pub struct ModelInfo {
    name: Option<String>,
    server_version: Option<String>,
    /// The nominal frame rate.
    pub emission_fps: Option<f64>,
}

impl ModelInfo {
    pub fn of(descriptor: &SessionDescriptor) -> Self {
        let capabilities = descriptor.capabilities.as_ref();
        Self {
            name: descriptor.model_name.clone(),
            server_version: descriptor.server_version.clone(),
            emission_fps: capabilities.and_then(|c| c.emission_fps),
        }
    }

    /// Title, encoder and session, of all streams together.
    pub fn tags(&self, session_id: Option<&str>) -> gst::TagList {
        use gst::{TagMergeMode::Replace, tags};
        let mut list = gst::TagList::new();
        let tags = list.make_mut();
        tags.set_scope(gst::TagScope::Global);
        if let Some(name) = &self.name {
            tags.add::<tags::Title>(&name.as_str(), Replace);
        }
        let version = self.server_version.as_deref().unwrap_or_default();
        let encoder = format!("Reactor {version}");
        tags.add::<tags::Encoder>(&encoder.trim_end(), Replace);
        if let Some(id) = session_id {
            let comment = format!("reactor-session-id={id}");
            tags.add::<tags::ExtendedComment>(&comment.as_str(), Replace);
        }
        list
    }
}

/// What the ids of a session's streams begin with. It is the same whenever and
/// wherever the session is joined, and another one for another session; those of
/// local runtimes have one id in common, but not the address.
pub fn stream_id_prefix(server: &str, session_id: Option<&str>) -> String {
    let session = format!("{server} {}", session_id.unwrap_or_default());
    let hash = Sha256::digest(session.as_bytes());
    hash.iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The collection of the streams with these ids.
pub fn collection<'a>(
    prefix: &str,
    streams: impl Iterator<Item = (&'a Track, &'a str)>,
) -> gst::StreamCollection {
    let streams = streams.map(|(track, id)| {
        let stream_type = match track.kind {
            Kind::Video => gst::StreamType::VIDEO,
            Kind::Audio => gst::StreamType::AUDIO,
        };
        gst::Stream::new(Some(id), None, stream_type, gst::StreamFlags::SELECT)
    });
    let collection = gst::StreamCollection::builder(Some(prefix));
    collection.streams(streams).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_ids_are_those_of_one_session_on_one_server() {
        let nil = Some("00000000-0000-0000-0000-000000000000");
        let id = stream_id_prefix("http://127.0.0.1:8080", nil);
        assert_eq!(id, stream_id_prefix("http://127.0.0.1:8080", nil));
        assert_ne!(id, stream_id_prefix("http://127.0.0.1:8081", nil));
        assert_ne!(id, stream_id_prefix("http://127.0.0.1:8080", Some("1")));
        assert_eq!(id.len(), 32);
    }
}
