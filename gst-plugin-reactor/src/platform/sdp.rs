// SPDX-License-Identifier: MIT

//! Session descriptions: what is sent, and a strict look at what comes back
//! before any media engine sees it.

use sdp_types::{Attribute, Fmtp, Media, RtpMap, Session};

use super::{
    Code, Error,
    track::{Direction, Kind},
};

mod answer;
mod fingerprint;
#[cfg(test)]
mod tests;
mod transport;

pub use answer::{NegotiatedAnswer, NegotiatedTrack, parse_answer};
pub use fingerprint::Fingerprint;

/// A media format with its payload type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codec {
    pub payload: u8,
    /// In upper case: `VP9`.
    pub name: String,
    /// In Hz.
    pub clock_rate: u32,
    /// Audio channels, where the description says more than one.
    pub channels: Option<u32>,
    /// The format parameters, in their order. One without a value has an empty
    /// one.
    pub fmtp: Vec<(String, String)>,
}

/// An m-section of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedSection {
    pub mid: String,
    /// `None` for the section of the data channels.
    pub kind: Option<Kind>,
    /// `None` for the section of the data channels.
    pub direction: Option<Direction>,
    pub mline_index: usize,
    /// What can be decoded or encoded; retransmission and redundancy formats
    /// are left out.
    pub codecs: Vec<Codec>,
    /// Whether the offer puts it into its BUNDLE group.
    pub bundled: bool,
}

/// Makes an engine's local description into the offer that is sent: CRLF line
/// ends, and `session_attributes` (as in `name:value`) at the end of the
/// session level.
///
/// Refuses an m-section of audio or video that is not clearly one-way: the
/// server takes any section that the client sends on for a track of its own.
pub fn prepare_offer(local: &str, session_attributes: &[&str]) -> Result<String, Error> {
    // Also the check that it is a usable offer.
    offered_sections(local)?;
    let mut offer = String::with_capacity(local.len() + 256);
    let mut pending = Some(session_attributes);
    for line in local.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("m=") {
            for attribute in pending.take().unwrap_or_default() {
                let attribute = attribute.strip_prefix("a=").unwrap_or(attribute);
                if attribute.is_empty() || attribute.contains(char::is_control) {
                    return Err(bad_offer("a session attribute is malformed"));
                }
                push_line(&mut offer, &format!("a={attribute}"));
            }
        }
        push_line(&mut offer, line);
    }
    Ok(offer)
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push_str("\r\n");
}

/// Reads back the m-sections of an offer, in their order.
pub fn offered_sections(offer: &str) -> Result<Vec<OfferedSection>, Error> {
    let session = Session::parse(offer.as_bytes()).map_err(|e| bad_offer(&e.to_string()))?;
    let bundle = bundle_groups(&session).next().unwrap_or_default();
    let mut sections: Vec<OfferedSection> = Vec::new();
    for (mline_index, media) in session.medias.iter().enumerate() {
        let mid = single(&media.attributes, "mid")
            .map_err(|e| bad_offer(&e))?
            .ok_or_else(|| bad_offer("an m-section has no mid"))?;
        if sections.iter().any(|section| section.mid == mid) {
            return Err(bad_offer("two m-sections have the same mid"));
        }
        let kind = kind_of(media)
            .ok_or_else(|| bad_offer(&format!("m-section {mid} is of an unknown kind")))?;
        let direction = match (kind, direction_of(&session, media)) {
            (None, _) => None,
            (_, Ok("recvonly")) => Some(Direction::RecvOnly),
            (_, Ok("sendonly")) => Some(Direction::SendOnly),
            (_, Ok(other)) => {
                let what = format!("m-section {mid} is {other}, not recvonly or sendonly");
                return Err(bad_offer(&what));
            }
            (_, Err(e)) => return Err(bad_offer(&e)),
        };
        sections.push(OfferedSection {
            kind,
            direction,
            mline_index,
            codecs: codecs(media),
            bundled: bundle.split_ascii_whitespace().any(|other| other == mid),
            mid: mid.to_owned(),
        });
    }
    if sections.is_empty() {
        return Err(bad_offer("it has no m-sections"));
    }
    Ok(sections)
}

fn bad_offer(what: &str) -> Error {
    Error::gpu(Code::Internal, format!("unusable offer: {what}")).during("sdp_params")
}

/// The kind of an m-section: `Some(None)` is data channels, `None` unknown.
fn kind_of(media: &Media) -> Option<Option<Kind>> {
    match media.media.as_str() {
        "audio" => Some(Some(Kind::Audio)),
        "video" => Some(Some(Kind::Video)),
        "application" => Some(None),
        _ => None,
    }
}

/// The mids of each BUNDLE group, separated by spaces.
fn bundle_groups(session: &Session) -> impl Iterator<Item = &str> {
    session
        .attributes
        .iter()
        .filter(|attribute| attribute.attribute == "group")
        .filter_map(|attribute| attribute.value.as_deref()?.strip_prefix("BUNDLE"))
        .filter(|mids| mids.is_empty() || mids.starts_with(' '))
}

/// The direction in force: the section's own, else the session's, else both
/// ways (RFC 8866, 6.7). Several at one level are an error.
fn direction_of(session: &Session, media: &Media) -> Result<&'static str, String> {
    for attributes in [&media.attributes, &session.attributes] {
        let mut found = None;
        for attribute in attributes {
            let direction = match attribute.attribute.as_str() {
                "sendrecv" => "sendrecv",
                "sendonly" => "sendonly",
                "recvonly" => "recvonly",
                "inactive" => "inactive",
                _ => continue,
            };
            if found.replace(direction).is_some() {
                return Err("an m-section has two directions".to_owned());
            }
        }
        if let Some(direction) = found {
            return Ok(direction);
        }
    }
    Ok("sendrecv")
}

/// The value of an attribute that may be there once. Repeated with the same
/// value is fine.
fn single<'a>(attributes: &'a [Attribute], name: &str) -> Result<Option<&'a str>, String> {
    let mut found = None;
    for attribute in attributes.iter().filter(|a| a.attribute == name) {
        let value = attribute.value.as_deref().unwrap_or_default().trim();
        match found {
            Some(other) if other != value => {
                return Err(format!("the attribute \"{name}\" contradicts itself"));
            }
            _ => found = Some(value),
        }
    }
    Ok(found.filter(|value| !value.is_empty()))
}

/// The codecs of an m-section in its order of preference. A payload type that
/// nothing describes is left out, like all that only accompanies a codec.
fn codecs(media: &Media) -> Vec<Codec> {
    let maps: Vec<RtpMap> = media.attributes_typed().filter_map(Result::ok).collect();
    let parameters: Vec<Fmtp> = media.attributes_typed().filter_map(Result::ok).collect();
    let mut seen = [false; 256];
    let mut codecs: Vec<Codec> = Vec::new();
    for payload in media.fmt.split_ascii_whitespace() {
        let Ok(payload) = payload.parse::<u8>() else {
            continue;
        };
        if std::mem::replace(&mut seen[usize::from(payload)], true) {
            continue;
        }
        let Some(map) = maps.iter().find(|map| map.payload_type == payload) else {
            continue;
        };
        let name = map.encoding_name.trim().to_ascii_uppercase();
        if accompanies(&name) {
            continue;
        }
        let channels = map.encoding_params.as_deref();
        let fmtp = parameters
            .iter()
            .filter(|fmtp| fmtp.fmt == payload)
            .flat_map(|fmtp| &fmtp.format_specific_params)
            .map(|p| {
                (
                    trimmed(&p.param),
                    p.val.as_deref().map(trimmed).unwrap_or_default(),
                )
            })
            .filter(|(name, _)| !name.is_empty())
            .collect();
        codecs.push(Codec {
            payload,
            name,
            clock_rate: map.clock_rate,
            channels: channels
                .and_then(|n| n.trim().parse().ok())
                .filter(|n| *n > 1),
            fmtp,
        });
    }
    codecs
}

fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}

/// Whether a format is no codec of its own.
fn accompanies(name: &str) -> bool {
    matches!(
        name,
        "" | "RTX" | "RED" | "ULPFEC" | "CN" | "TELEPHONE-EVENT"
    ) || name.starts_with("FLEXFEC")
}
