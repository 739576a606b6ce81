// SPDX-License-Identifier: MIT

//! What an m-section says about its media: kind, direction, codecs. Pure
//! functions that both the offer and the answer are read with; they judge
//! neither.

use sdp_types::{Attribute, Fmtp, Media, RtpMap, Session};

use crate::platform::track::Kind;

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

/// The kind of an m-section: `Some(None)` is data channels, `None` unknown.
pub(super) fn kind_of(media: &Media) -> Option<Option<Kind>> {
    match media.media.as_str() {
        "audio" => Some(Some(Kind::Audio)),
        "video" => Some(Some(Kind::Video)),
        "application" => Some(None),
        _ => None,
    }
}

/// The mids of each BUNDLE group, separated by spaces.
pub(super) fn bundle_groups(session: &Session) -> impl Iterator<Item = &str> {
    session
        .attributes
        .iter()
        .filter(|attribute| attribute.attribute == "group")
        .filter_map(|attribute| attribute.value.as_deref()?.strip_prefix("BUNDLE"))
        .filter(|mids| mids.is_empty() || mids.starts_with(' '))
}

/// The direction in force: the section's own, else the session's, else
/// `sendrecv` (RFC 8866, 6.7). More than one at a level is an error.
pub(super) fn direction_of(session: &Session, media: &Media) -> Result<&'static str, String> {
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

/// The value of an attribute that may occur once. Repeated with an equal value
/// is fine.
pub(super) fn single<'a>(
    attributes: &'a [Attribute],
    name: &str,
) -> Result<Option<&'a str>, String> {
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
/// nothing describes is left out, like a format that only accompanies a codec.
pub(super) fn codecs(media: &Media) -> Vec<Codec> {
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
        let channels = channels.and_then(|n| n.trim().parse().ok());
        let fmtp = parameters
            .iter()
            .filter(|fmtp| fmtp.fmt == payload)
            .flat_map(|fmtp| &fmtp.format_specific_params)
            .map(|p| (p.param.trim(), p.val.as_deref().unwrap_or_default().trim()))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .filter(|(name, _)| !name.is_empty())
            .collect();
        codecs.push(Codec {
            payload,
            name,
            clock_rate: map.clock_rate,
            channels: channels.filter(|n| *n > 1),
            fmtp,
        });
    }
    codecs
}

/// The payload types of an m-section's forward error correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedundancyFormat {
    /// What wraps each packet (RFC 2198).
    pub red: u8,
    /// The packets in it that protect others (RFC 5109).
    pub ulpfec: u8,
}

/// `None` if the section lacks one of the two.
pub(super) fn redundancy(media: &Media) -> Option<RedundancyFormat> {
    let maps: Vec<RtpMap> = media.attributes_typed().filter_map(Result::ok).collect();
    let payload = |name: &str| {
        let mut maps = maps.iter();
        let map = maps.find(|map| map.encoding_name.trim().eq_ignore_ascii_case(name));
        map.map(|map| map.payload_type)
    };
    Some(RedundancyFormat {
        red: payload("red")?,
        ulpfec: payload("ulpfec")?,
    })
}

/// Whether a format is no codec of its own.
fn accompanies(name: &str) -> bool {
    matches!(
        name,
        "" | "RTX" | "RED" | "ULPFEC" | "CN" | "TELEPHONE-EVENT"
    ) || name.starts_with("FLEXFEC")
}
