// SPDX-License-Identifier: MIT

//! The offer: made from an engine's local description, and read back. Pure
//! functions; an offer that the server would misread is refused.

use sdp_types::Session;

use super::{
    bandwidth::{BandwidthLines, ReceiveBitrates},
    errors::unusable_offer,
    header_extensions::{PLAYOUT_DELAY_URI, extension_id},
    media::{
        Codec, RedundancyFormat, bundle_groups, codecs, direction_of, kind_of, redundancy, single,
    },
    transport_cc::TRANSPORT_CC_URI,
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
    /// The id under which it offers limits of the playout delay.
    pub playout_delay_id: Option<u8>,
    /// Forward error correction, if it offers that.
    pub redundancy: Option<RedundancyFormat>,
}

/// Makes an engine's local description into the offer that is sent: CRLF line
/// ends, `session_attributes` (as in `name:value`) at the end of the session
/// level, and the `bitrates` that the server may send.
///
/// Refuses an m-section of audio or video that is not clearly one-way: the
/// server takes any section that the client sends on for a track of its own.
pub fn prepare_offer(
    local: &str,
    session_attributes: &[&str],
    bitrates: ReceiveBitrates,
) -> Result<String, Error> {
    // Also the check that it is a usable offer.
    let sections = offered_sections(local)?;
    let bandwidth = BandwidthLines::new(bitrates, &sections);
    let mut sections = sections.iter();
    let mut section = None;
    let mut offer = String::with_capacity(local.len() + 256);
    let mut pending = Some(session_attributes);
    for line in local.lines().filter(|line| !line.is_empty()) {
        if line.starts_with("m=") {
            section = sections.next();
            for attribute in pending.take().unwrap_or_default() {
                let attribute = attribute.strip_prefix("a=").unwrap_or(attribute);
                if attribute.is_empty() || attribute.contains(char::is_control) {
                    return Err(unusable_offer("a session attribute is malformed"));
                }
                push_line(&mut offer, &format!("a={attribute}"));
            }
        }
        let of_section = bandwidth.of_section(section);
        if line.starts_with("b=") && of_section.is_some() {
            continue;
        }
        let (end, next) = bandwidth.after(line, section);
        push_line(&mut offer, &format!("{line}{end}"));
        // It follows the connection data, which webrtcbin's sections have.
        let of_section = of_section.filter(|_| line.starts_with("c="));
        for next in next.as_deref().into_iter().chain(of_section) {
            push_line(&mut offer, next);
        }
    }
    Ok(offer)
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
            transport_cc_id: extension_id(media, TRANSPORT_CC_URI),
            playout_delay_id: extension_id(media, PLAYOUT_DELAY_URI),
            redundancy: redundancy(media),
            bundled: bundle.split_ascii_whitespace().any(|other| other == mid),
            mid: mid.to_owned(),
        });
    }
    if sections.is_empty() {
        return Err(unusable_offer("it has no m-sections"));
    }
    Ok(sections)
}
