// SPDX-License-Identifier: MIT

//! What an answer says about ICE (RFC 8839), DTLS (RFC 8842) and BUNDLE
//! (RFC 9143). Pure functions, called by the check of an answer.

use std::net::{IpAddr, Ipv4Addr};

use sdp_types::{Attribute, Media, Session};

use super::{
    errors::{ambiguous_identity, identity_mismatch, malformed_answer},
    fingerprint::Fingerprint,
    media::{bundle_groups, single},
    offer::OfferedSection,
};
use crate::platform::Error;

/// The transport attributes that every m-section must have for webrtcbin, although
/// RFC 8829 (5.3.1) lets an answer state it once per BUNDLE group.
const INHERITED: [&str; 4] = ["ice-ufrag", "ice-pwd", "setup", "fingerprint"];

/// Checks the transport of every m-section, and writes into each what it
/// inherits. Returns the one fingerprint of the peer.
pub(super) fn check_transport(
    session: &mut Session,
    offered: &[OfferedSection],
) -> Result<Fingerprint, Error> {
    let group = bundle_mids(session, offered)?;
    let tag = group
        .first()
        .and_then(|mid| offered.iter().find(|section| section.mid == *mid))
        .map(|section| section.mline_index);
    for section in offered {
        let donor = tag.filter(|_| group.contains(&section.mid));
        for name in INHERITED {
            inherit(session, section.mline_index, donor, name);
        }
    }
    // At session level it fails an assertion of webrtcbin's before 1.24.4.
    session.attributes.retain(|a| a.attribute != "setup");

    let mut fingerprint: Option<Fingerprint> = None;
    let mut common: Option<[&str; 3]> = None;
    for (media, section) in session.medias.iter().zip(offered) {
        let own = Fingerprint::from_attributes(&media.attributes)?.ok_or_else(|| {
            identity_mismatch("the answer announces no certificate by SHA-256, SHA-384 or SHA-512")
        })?;
        match &fingerprint {
            Some(other) if *other != own => return Err(ambiguous_identity()),
            _ => fingerprint = Some(own),
        }
        let transport = ice_and_dtls_parameters(media, &section.mid)?;
        if group.contains(&section.mid) && common.replace(transport).is_some_and(|c| c != transport)
        {
            return Err(malformed_answer(
                "bundled m-sections have different transports",
            ));
        }
    }
    fingerprint.ok_or_else(|| identity_mismatch("the answer announces no certificate"))
}

/// The mids of the answer's BUNDLE group, the first being the one whose
/// transport is used. Empty if there is no group, which is fine for an offer
/// with nothing to bundle.
fn bundle_mids(session: &Session, offered: &[OfferedSection]) -> Result<Vec<String>, Error> {
    let mut groups = bundle_groups(session);
    let mids = groups.next();
    if groups.next().is_some() {
        return Err(malformed_answer("it has two BUNDLE groups"));
    }
    let group: Vec<String> = mids
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    if mids.is_some() && group.is_empty() {
        return Err(malformed_answer("its BUNDLE group is empty"));
    }
    for (n, mid) in group.iter().enumerate() {
        let known = offered.iter().any(|s| s.bundled && s.mid == *mid);
        if !known || group.iter().take(n).any(|other| other == mid) {
            return Err(malformed_answer("its BUNDLE group does not fit the offer"));
        }
    }
    let bundled = offered.iter().filter(|section| section.bundled).count();
    if bundled > 1 && bundled != group.len() {
        return Err(malformed_answer("it does not bundle what was offered so"));
    }
    Ok(group)
}

/// Gives an m-section the attributes of a name that apply to it: those of
/// the session, else those of the m-section at index `donor`.
fn inherit(session: &mut Session, index: usize, donor: Option<usize>, name: &str) {
    let of = |attributes: &[Attribute]| -> Vec<Attribute> {
        let named = attributes.iter().filter(|a| a.attribute == name);
        named.cloned().collect()
    };
    let has = |media: Option<&Media>| media.is_some_and(|media| media.has_attribute(name));
    if has(session.medias.get(index)) {
        return;
    }
    let mut found = of(&session.attributes);
    if found.is_empty()
        && let Some(media) = donor.and_then(|donor| session.medias.get(donor))
    {
        found = of(&media.attributes);
    }
    if let Some(media) = session.medias.get_mut(index) {
        media.attributes.extend(found);
    }
}

/// User fragment, password and DTLS role of an m-section.
fn ice_and_dtls_parameters<'a>(media: &'a Media, mid: &str) -> Result<[&'a str; 3], Error> {
    let get = |name: &str| {
        single(&media.attributes, name)
            .map_err(|e| malformed_answer(&e))?
            .ok_or_else(|| malformed_answer(&format!("m-section {mid} has no {name}")))
    };
    let (ufrag, pwd, setup) = (get("ice-ufrag")?, get("ice-pwd")?, get("setup")?);
    // RFC 8839, 5.4.
    let ice_chars = |text: &str| text.bytes().all(is_ice_char);
    let fits = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&pwd.len());
    if !fits || !ice_chars(ufrag) || !ice_chars(pwd) {
        let what = format!("m-section {mid} has malformed ICE credentials");
        return Err(malformed_answer(&what));
    }
    if !matches!(setup, "active" | "passive") {
        let what = format!("m-section {mid} has no DTLS role of active or passive");
        return Err(malformed_answer(&what));
    }
    Ok([ufrag, pwd, setup])
}

/// How many candidates of an m-section are kept. libnice 0.1.21 checks 100 pairs.
const MAX_CANDIDATES: usize = 100;

/// Leaves only candidates that can be connected to, on the m-sections, where they
/// belong (RFC 8839, 5.1).
pub(super) fn retain_usable_candidates(session: &mut Session) {
    session.attributes.retain(|a| a.attribute != "candidate");
    for media in &mut session.medias {
        let mut kept = 0;
        media.attributes.retain(|attribute| {
            if attribute.attribute != "candidate" {
                return true;
            }
            let value = attribute.value.as_deref();
            let usable = kept < MAX_CANDIDATES && value.is_some_and(is_usable_candidate);
            kept += usize::from(usable);
            usable
        });
    }
}

/// Whether a candidate is well-formed, and has an address rather than a name
/// (webrtcbin before 1.26.7 leaks when it resolves those).
fn is_usable_candidate(value: &str) -> bool {
    let mut fields = value.split_ascii_whitespace();
    let mut field = || fields.next();
    let [
        Some(foundation),
        Some(component),
        Some(transport),
        Some(priority),
        Some(address),
        Some(port),
    ] = std::array::from_fn(|_| field())
    else {
        return false;
    };
    (1..=32).contains(&foundation.len())
        && foundation.bytes().all(is_ice_char)
        && matches!(component.parse::<u16>(), Ok(1..=256))
        && ["udp", "tcp"].contains(&&*transport.to_ascii_lowercase())
        && matches!(priority.parse::<u32>(), Ok(1..))
        && address.parse().is_ok_and(is_unicast)
        && matches!(port.parse::<u16>(), Ok(1..))
        && field() == Some("typ")
        && matches!(field(), Some("host" | "srflx" | "prflx" | "relay"))
}

/// RFC 8839, 5.1.
fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

fn is_unicast(address: IpAddr) -> bool {
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}
