// SPDX-License-Identifier: MIT

//! The client's SDP offer.

use std::collections::HashMap;

use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Offer {
    pub sdp: String,
    pub sections: Vec<Section>,
}

/// An m-section.
#[derive(Debug, Clone, Default)]
pub struct Section {
    pub kind: String,
    pub mid: String,
    /// The track that the client's `track_mapping` assigns.
    pub track: Option<String>,
    /// Payload types and names, in the offer's order.
    pub formats: Vec<(u8, String)>,
}

impl Offer {
    /// Reads the body of the client's request.
    pub fn read(body: &Value) -> Option<Self> {
        let sdp = body["sdp_offer"].as_str()?.to_owned();
        let names: HashMap<_, _> = body["track_mapping"]
            .as_array()?
            .iter()
            .filter_map(|entry| Some((entry["mid"].as_str()?, entry["name"].as_str()?)))
            .collect();
        let mut sections: Vec<Section> = Vec::new();
        for line in sdp.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                sections.push(Section {
                    kind: media.split(' ').next()?.to_owned(),
                    ..Section::default()
                });
            }
            let Some(section) = sections.last_mut() else {
                continue;
            };
            if let Some(mid) = line.strip_prefix("a=mid:") {
                mid.clone_into(&mut section.mid);
                section.track = names.get(mid).map(|name| (*name).to_owned());
            } else if let Some(map) = line.strip_prefix("a=rtpmap:") {
                let (payload, name) = map.split_once(' ')?;
                let name = name.split('/').next()?.to_uppercase();
                section.formats.push((payload.parse().ok()?, name));
            }
        }
        Some(Self { sdp, sections })
    }

    /// The names of the codecs that are offered for audio or video.
    pub fn codecs(&self, kind: &str) -> Vec<&str> {
        let sections = self.sections.iter().filter(|s| s.kind == kind);
        let names = sections.flat_map(|s| &s.formats).map(|(_, name)| &**name);
        names
            .filter(|name| !matches!(*name, "RTX" | "RED" | "ULPFEC"))
            .collect()
    }

    /// The payload type of a codec.
    pub fn payload(&self, codec: &str) -> Option<u8> {
        let mut formats = self.sections.iter().flat_map(|s| &s.formats);
        formats
            .find(|(_, name)| name == codec)
            .map(|(payload, _)| *payload)
    }
}
