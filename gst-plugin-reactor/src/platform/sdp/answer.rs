// SPDX-License-Identifier: MIT

//! The strict check of an answer. webrtcbin 1.22 aborts the process on some
//! answers that a peer can send (a rejected m-section with a linked sink, for
//! one), and reads others to mean something else than they say.

use sdp_types::{Media, Session};

use super::{
    answer_transport,
    errors::{malformed_answer, no_data_channels, rejected_track, unknown_framing},
    fingerprint::Fingerprint,
    header_extensions::{self, PLAYOUT_DELAY_URI},
    media::{Codec, RedundancyFormat, codecs, direction_of, kind_of, redundancy, single},
    offer::OfferedSection,
    transport_cc,
};
use crate::platform::{
    Error,
    http::sanitize,
    track::{Direction, Kind},
    trailer,
    wire::chunking,
};

/// The largest answer that is parsed, in bytes.
const MAX_ANSWER: usize = 256 << 10;

/// A track that both sides agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedTrack {
    pub mid: String,
    pub kind: Kind,
    /// From the client's point of view, as offered.
    pub direction: Direction,
    pub mline_index: usize,
    /// The codecs that were offered and accepted, in the answer's order; never
    /// empty. The first is what the server sends.
    pub codecs: Vec<Codec>,
    /// Both sides agree on transport-wide sequence numbers and the feedback
    /// about them.
    pub transport_cc: bool,
    /// The server accepts limits of the playout delay.
    pub playout_delay: bool,
    /// Forward error correction that both sides agree on.
    pub redundancy: Option<RedundancyFormat>,
}

/// An answer that fits its offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedAnswer {
    /// The text to give to webrtcbin: the answer written out anew, with CRLF
    /// line ends, with the transport attributes in every m-section, and
    /// only with candidates that can be connected to.
    pub sdp: String,
    pub tracks: Vec<NegotiatedTrack>,
    /// Of the one certificate that the peer may present.
    pub fingerprint: Fingerprint,
    /// If the server agrees to framed data-channel messages: the largest
    /// message it takes, in bytes. Means nothing if framing was not offered.
    pub chunking: Option<usize>,
    /// The largest unframed message the server takes, in bytes, if it says;
    /// 0 means any.
    pub max_message_size: Option<usize>,
    /// Frames may end in a trailer, both ways. Means nothing if that was not
    /// offered.
    pub frame_metadata: bool,
}

impl NegotiatedAnswer {
    /// Whether it names a candidate that can be connected to over UDP. (A server
    /// without an address of its own names one over TCP that only connects itself.)
    pub fn has_udp_candidates(&self) -> bool {
        let lines = self.sdp.lines();
        let mut candidates = lines.filter_map(|line| line.strip_prefix("a=candidate:"));
        candidates.any(|candidate| {
            let transport = candidate.split_ascii_whitespace().nth(2);
            transport.is_some_and(|transport| transport.eq_ignore_ascii_case("udp"))
        })
    }

    /// Whether the server learns from transport-wide feedback how all received
    /// tracks arrive; `None` if none is received.
    pub fn has_receive_feedback(&self) -> Option<bool> {
        let mut received = self
            .tracks
            .iter()
            .filter(|track| track.direction == Direction::RecvOnly)
            .peekable();
        received.peek()?;
        Some(received.all(|track| track.transport_cc))
    }
}

/// Checks an answer against the offer it is for.
pub fn parse_answer(answer: &str, offered: &[OfferedSection]) -> Result<NegotiatedAnswer, Error> {
    if answer.len() > MAX_ANSWER {
        let what = format!("it is larger than {MAX_ANSWER} bytes");
        return Err(malformed_answer(&what));
    }
    let mut session = Session::parse(answer.as_bytes())
        .map_err(|e| malformed_answer(&sanitize(&e.to_string())))?;
    check_section_count(&session, offered)?;
    let mut tracks = Vec::new();
    let mut max_message_size = None;
    for (media, section) in session.medias.iter().zip(offered) {
        check_section(media, section)?;
        check_numbers(media)?;
        match (section.kind, section.direction) {
            (Some(kind), Some(direction)) => {
                let codecs = accepted_codecs(&session, media, section, offered)?;
                tracks.push(NegotiatedTrack {
                    mid: section.mid.clone(),
                    kind,
                    direction,
                    mline_index: section.mline_index,
                    codecs,
                    transport_cc: transport_cc::is_agreed(media, section.transport_cc_id),
                    playout_delay: header_extensions::is_agreed(
                        media,
                        PLAYOUT_DELAY_URI,
                        section.playout_delay_id,
                    ),
                    redundancy: redundancy(media)
                        .filter(|answered| section.redundancy == Some(*answered)),
                });
            }
            _ => max_message_size = check_data_channels(media)?,
        }
    }
    let fingerprint = answer_transport::check_transport(&mut session, offered)?;
    let chunking = chunking_limit(&session)?;
    let frame_metadata = has_frame_metadata(&session);
    Ok(NegotiatedAnswer {
        sdp: write_checked(&mut session)?,
        tracks,
        fingerprint,
        chunking,
        max_message_size,
        frame_metadata,
    })
}

/// The error for a track that the server rejects.
fn reject_track(section: &OfferedSection, why: &str) -> Error {
    let kind = section.kind.map_or("data", Kind::as_str);
    let mut names: Vec<&str> = section.codecs.iter().map(|c| c.name.as_str()).collect();
    names.dedup();
    let message = format!(
        "the server rejects the {kind} track of m-section {} (mid {}): {why}; offered {}",
        section.mline_index,
        section.mid,
        names.join(", ")
    );
    rejected_track(message)
}

/// Checks that an answer has exactly the m-sections of its offer.
fn check_section_count(session: &Session, offered: &[OfferedSection]) -> Result<(), Error> {
    if session.medias.len() > offered.len() {
        return Err(malformed_answer("it has more m-sections than the offer"));
    }
    if session.medias.len() == offered.len() {
        return Ok(());
    }
    let answered = |section: &&OfferedSection| {
        let mid = Some(Some(section.mid.as_str()));
        let mut medias = session.medias.iter();
        medias.any(|media| media.get_first_attribute_value("mid") == mid)
    };
    match offered.iter().find(|section| !answered(section)) {
        Some(section) if section.kind.is_none() => Err(no_data_channels("the answer lacks them")),
        Some(section) => Err(reject_track(section, "its m-section is missing")),
        None => Err(malformed_answer("it has fewer m-sections than the offer")),
    }
}

/// Checks that an m-section is the one offered at its index.
fn check_section(media: &Media, section: &OfferedSection) -> Result<(), Error> {
    let place = format!("m-section {} (mid {})", section.mline_index, section.mid);
    if kind_of(media) != Some(section.kind) {
        return Err(malformed_answer(&format!("{place} is of another kind")));
    }
    let mid = single(&media.attributes, "mid").map_err(|e| malformed_answer(&e))?;
    if mid != Some(section.mid.as_str()) {
        return Err(malformed_answer(&format!("{place} has another mid")));
    }
    Ok(())
}

/// Checks the numbers that the media engine computes with, whether or not the codec
/// or stream is used: a clock rate of 0 (RFC 8866, 6.6), an SSRC of more than 32 bits
/// (RFC 5576, 4.1).
fn check_numbers(media: &Media) -> Result<(), Error> {
    for attribute in &media.attributes {
        let value = attribute.value.as_deref().unwrap_or_default().trim();
        let is_valid = match attribute.attribute.as_str() {
            "rtpmap" => is_valid_rtpmap(value),
            "ssrc" => is_ssrc(value.split(' ').next().unwrap_or_default()),
            "ssrc-group" => value.split(' ').skip(1).all(is_ssrc),
            _ => true,
        };
        if !is_valid {
            let line = sanitize(&format!("a={}:{value}", attribute.attribute));
            return Err(malformed_answer(&format!("\"{line}\" makes no sense")));
        }
    }
    Ok(())
}

fn is_ssrc(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

/// `PAYLOAD NAME/CLOCK-RATE[/CHANNELS]`
fn is_valid_rtpmap(value: &str) -> bool {
    let Some((payload, format)) = value.split_once(' ') else {
        return false;
    };
    let mut parts = format.trim().split('/');
    let name = parts.next().unwrap_or_default();
    let is_number = |text: &str| {
        text.parse::<u32>()
            .is_ok_and(|n| n > 0 && n <= i32::MAX as u32)
    };
    payload.parse::<u8>().is_ok_and(|payload| payload < 128)
        && !name.is_empty()
        && parts.next().is_some_and(is_number)
        && parts.next().is_none_or(is_number)
}

/// The codecs to use on an m-section of audio or video.
///
/// An answer has to be the mirror of a one-way offer, or `inactive`
/// (RFC 8829, 5.3.1, and RFC 3264, 6.1). `sendrecv`, also by leaving the
/// direction out, is as wrong as the offer's own direction.
fn accepted_codecs(
    session: &Session,
    media: &Media,
    section: &OfferedSection,
    offered: &[OfferedSection],
) -> Result<Vec<Codec>, Error> {
    if media.port == 0 {
        let why = "it supports none of the codecs, or not this track";
        return Err(reject_track(section, why));
    }
    let direction = direction_of(session, media).map_err(|e| malformed_answer(&e))?;
    let expected = match section.direction {
        Some(Direction::SendOnly) => "recvonly",
        _ => "sendonly",
    };
    if direction == "inactive" {
        return Err(reject_track(section, "it sets the track to inactive"));
    }
    let mid = &section.mid;
    if direction != expected {
        let what = format!("m-section {mid} is {direction} where only {expected} fits the offer");
        return Err(malformed_answer(&what));
    }
    if !media.proto.contains("TLS/RTP/SAVP") || !media.has_attribute("rtcp-mux") {
        let what = format!("m-section {mid} is not DTLS-SRTP with rtcp-mux");
        return Err(malformed_answer(&what));
    }
    let same = |a: &Codec, b: &Codec| {
        (a.name.as_str(), a.clock_rate, a.channels) == (b.name.as_str(), b.clock_rate, b.channels)
    };
    let mut accepted = codecs(media);
    accepted.retain(|codec| section.codecs.iter().any(|offer| same(codec, offer)));
    if accepted.is_empty() {
        return Err(reject_track(section, "it supports none of the codecs"));
    }
    // A payload type means one thing in all of a BUNDLE group (RFC 9143, 9.1).
    let mut known = offered.iter().flat_map(|section| &section.codecs);
    let clashes = |a: &Codec, b: &Codec| a.payload == b.payload && !same(a, b);
    if known.any(|a| accepted.iter().any(|b| clashes(a, b))) {
        let what = format!("m-section {mid} uses a payload type for another codec");
        return Err(malformed_answer(&what));
    }
    Ok(accepted)
}

/// Checks that the data channels are accepted. Returns the size limit for a
/// message in bytes, if one is stated.
fn check_data_channels(media: &Media) -> Result<Option<usize>, Error> {
    if media.port == 0 {
        return Err(no_data_channels("it rejects their m-section"));
    }
    if !media.proto.contains("DTLS/SCTP") {
        return Err(no_data_channels("its m-section has another protocol"));
    }
    let get = |name: &str| single(&media.attributes, name).map_err(|e| malformed_answer(&e));
    let port = get("sctp-port")?.or(get("sctpmap")?.and_then(|map| map.split(' ').next()));
    if !matches!(port.map(str::parse::<u16>), Some(Ok(1..))) {
        return Err(no_data_channels("no SCTP port"));
    }
    match get("max-message-size")? {
        None => Ok(None),
        Some(size) => match size.parse::<u64>() {
            Ok(size) => Ok(Some(usize::try_from(size).unwrap_or(usize::MAX))),
            Err(_) => Err(malformed_answer("its maximum message size is not a number")),
        },
    }
}

/// The size in bytes of `a=x-reactor-dc-chunking:1 max-message-size=N`, if it is there.
fn chunking_limit(session: &Session) -> Result<Option<usize>, Error> {
    let Some(value) =
        single(&session.attributes, chunking::ATTRIBUTE).map_err(|e| malformed_answer(&e))?
    else {
        return Ok(None);
    };
    let mut fields = value.split_ascii_whitespace();
    let version = fields.next().unwrap_or_default();
    if version != "1" {
        return Err(unknown_framing(&sanitize(version)));
    }
    fields
        .find_map(|field| field.strip_prefix("max-message-size="))
        .and_then(|size| size.parse::<u64>().ok())
        .filter(|size| *size > 0)
        .map(|size| Some(usize::try_from(size).unwrap_or(usize::MAX)))
        .ok_or_else(|| malformed_answer("its framing of messages has no usable size limit"))
}

/// Whether the server repeats the offered attribute. Another version of it was
/// not offered, and so means nothing.
fn has_frame_metadata(session: &Session) -> bool {
    session.attributes.iter().any(|a| match &a.value {
        Some(value) => format!("{}:{}", a.attribute, value.trim()) == trailer::ATTRIBUTE,
        None => false,
    })
}

/// The description as text, written out anew, so that the media engine reads
/// exactly what was checked.
fn write_checked(session: &mut Session) -> Result<String, Error> {
    answer_transport::retain_usable_candidates(session);
    let mut text = Vec::new();
    let written = session.write(&mut text);
    match (written, String::from_utf8(text)) {
        (Ok(()), Ok(text)) => Ok(text),
        _ => Err(malformed_answer("it cannot be written out")),
    }
}
