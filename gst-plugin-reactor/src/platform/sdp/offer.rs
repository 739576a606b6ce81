// SPDX-License-Identifier: MIT

//! The offer: made from an engine's local description, and read back. Pure
//! functions; an offer that the server would misread is refused.

use sdp_types::Session;

use super::{
    errors::unusable_offer,
    media::{Codec, bundle_groups, codecs, direction_of, kind_of, single},
    transport_cc,
};
use crate::platform::{
    Error,
    track::{Direction, Kind},
};

/// An m-section of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedSection {
    pub mid: String,
    /// `None` for the section of the data channels.
    pub kind: Option<Kind>,
    /// `None` for the section of the data channels.
    pub direction: Option<Direction>,
    pub mline_index: usize,
    /// Formats that can be decoded or encoded, without those for
    /// retransmission and redundancy.
    pub codecs: Vec<Codec>,
    /// Whether the offer puts it into its BUNDLE group.
    pub bundled: bool,
    /// The id under which it offers transport-wide sequence numbers.
    pub transport_cc_id: Option<u8>,
}

/// Makes an engine's local description into the offer that is sent: CRLF line
/// ends, `session_attributes` (as in `name:value`) at the end of the session
/// level, and the bandwidth of received video (`b=AS`, RFC 8866, 5.8), where
/// `max_video_bitrate` bounds that of all sections together, in bits per second.
///
/// Refuses an m-section of audio or video that is not clearly one-way: the
/// server takes any section that the client sends on for a track of its own.
pub fn prepare_offer(
    local: &str,
    session_attributes: &[&str],
    max_video_bitrate: Option<u32>,
) -> Result<String, Error> {
    // Also the check that it is a usable offer.
    let sections = offered_sections(local)?;
    let bandwidth = max_video_bitrate.map(|bitrate| bandwidth_line(&sections, bitrate));
    let mut receives_video = sections.iter().map(OfferedSection::receives_video);
    let mut offer = String::with_capacity(local.len() + 256);
    let mut pending = Some(session_attributes);
    let mut in_received_video = false;
    for line in local.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("m=") {
            for attribute in pending.take().unwrap_or_default() {
                let attribute = attribute.strip_prefix("a=").unwrap_or(attribute);
                if attribute.is_empty() || attribute.contains(char::is_control) {
                    return Err(unusable_offer("a session attribute is malformed"));
                }
                push_line(&mut offer, &format!("a={attribute}"));
            }
        }
        // It follows the connection data, which webrtcbin's sections have.
        if line.starts_with("b=") && bandwidth.is_some() {
            continue;
        }
        push_line(&mut offer, line);
        if line.starts_with("m=") {
            in_received_video = receives_video.next().unwrap_or(false);
        } else if line.starts_with("c=")
            && in_received_video
            && let Some(bandwidth) = &bandwidth
        {
            push_line(&mut offer, bandwidth);
        }
    }
    Ok(offer)
}

/// An equal share for each section of received video.
fn bandwidth_line(sections: &[OfferedSection], max_video_bitrate: u32) -> String {
    let tracks = sections.iter().filter(|s| s.receives_video()).count();
    let tracks = u32::try_from(tracks).unwrap_or(u32::MAX).max(1);
    // In kilobits per second; 0 would mean that nothing may be sent.
    format!("b=AS:{}", (max_video_bitrate / tracks / 1000).max(1))
}

impl OfferedSection {
    fn receives_video(&self) -> bool {
        (self.kind, self.direction) == (Some(Kind::Video), Some(Direction::RecvOnly))
    }
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push_str("\r\n");
}

/// Reads back the m-sections of an offer, in their order.
pub fn offered_sections(offer: &str) -> Result<Vec<OfferedSection>, Error> {
    let session = Session::parse(offer.as_bytes()).map_err(|e| unusable_offer(&e.to_string()))?;
    let bundle = bundle_groups(&session).next().unwrap_or_default();
    let mut sections: Vec<OfferedSection> = Vec::new();
    for (mline_index, media) in session.medias.iter().enumerate() {
        let mid = single(&media.attributes, "mid")
            .map_err(|e| unusable_offer(&e))?
            .ok_or_else(|| unusable_offer("an m-section has no mid"))?;
        if sections.iter().any(|section| section.mid == mid) {
            return Err(unusable_offer("two m-sections have the same mid"));
        }
        let kind = kind_of(media)
            .ok_or_else(|| unusable_offer(&format!("m-section {mid} is of an unknown kind")))?;
        let direction = match (kind, direction_of(&session, media)) {
            (None, _) => None,
            (_, Ok("recvonly")) => Some(Direction::RecvOnly),
            (_, Ok("sendonly")) => Some(Direction::SendOnly),
            (_, Ok(other)) => {
                let what = format!("m-section {mid} is {other}, not recvonly or sendonly");
                return Err(unusable_offer(&what));
            }
            (_, Err(e)) => return Err(unusable_offer(&e)),
        };
        sections.push(OfferedSection {
            kind,
            direction,
            mline_index,
            codecs: codecs(media),
            transport_cc_id: transport_cc::extension_id(media),
            bundled: bundle.split_ascii_whitespace().any(|other| other == mid),
            mid: mid.to_owned(),
        });
    }
    if sections.is_empty() {
        return Err(unusable_offer("it has no m-sections"));
    }
    Ok(sections)
}
