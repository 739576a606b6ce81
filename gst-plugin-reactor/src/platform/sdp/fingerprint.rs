// SPDX-License-Identifier: MIT

//! The hash that ties a DTLS certificate to a session description (RFC 8122).
//! Read by the check of an answer, compared on the transport thread; it never
//! accepts a hash that can be forged (MD5, SHA-1).

use std::fmt::Write as _;

use sdp_types::Attribute;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::errors::{ambiguous_identity, identity_mismatch};
use crate::platform::Error;

/// A certificate's hash, by an algorithm without known collisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sha-256`, `sha-384` or `sha-512`.
    pub algorithm: &'static str,
    pub digest: Vec<u8>,
}

impl Fingerprint {
    /// Compares with a certificate in PEM form, as GStreamer's DTLS transport
    /// has it in `remote-certificate`.
    pub fn matches_pem(&self, pem: &str) -> Result<(), Error> {
        let Ok(certificate) = pem::parse(pem) else {
            return Err(identity_mismatch(
                "the peer has presented no readable certificate",
            ));
        };
        if certificate.tag() != "CERTIFICATE" {
            return Err(identity_mismatch("the peer has presented no certificate"));
        }
        let der = certificate.contents();
        let digest = match self.algorithm {
            "sha-256" => Sha256::digest(der).to_vec(),
            "sha-384" => Sha384::digest(der).to_vec(),
            _ => Sha512::digest(der).to_vec(),
        };
        if digest == self.digest {
            return Ok(());
        }
        Err(identity_mismatch(&format!(
            "the peer's certificate is not the one its answer announced ({} {}, expected {})",
            self.algorithm,
            abbreviate(&digest),
            abbreviate(&self.digest)
        )))
    }

    /// The usable fingerprint among the attributes of one level, if any.
    ///
    /// Hashes that can be forged are ignored; a malformed reliable one, or two
    /// different ones, are an error.
    pub(super) fn from_attributes(attributes: &[Attribute]) -> Result<Option<Self>, Error> {
        let mut found: Option<Self> = None;
        for attribute in attributes.iter().filter(|a| a.attribute == "fingerprint") {
            let value = attribute.value.as_deref().unwrap_or_default();
            let Some(fingerprint) = Self::parse(value)? else {
                continue;
            };
            match &found {
                Some(other) if *other != fingerprint => return Err(ambiguous_identity()),
                _ => found = Some(fingerprint),
            }
        }
        Ok(found)
    }

    /// `Ok(None)` for an algorithm that is unknown or can be forged.
    fn parse(value: &str) -> Result<Option<Self>, Error> {
        let malformed = || identity_mismatch("the answer's certificate fingerprint is malformed");
        let (algorithm, hex) = value.trim().split_once(' ').ok_or_else(malformed)?;
        let (algorithm, length) = match algorithm.to_ascii_lowercase().as_str() {
            "sha-256" => ("sha-256", 32),
            "sha-384" => ("sha-384", 48),
            "sha-512" => ("sha-512", 64),
            _ => return Ok(None),
        };
        let byte = |hex: &str| match hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            true => u8::from_str_radix(hex, 16).ok(),
            false => None,
        };
        let digest: Vec<u8> = hex
            .trim()
            .split(':')
            .map(byte)
            .collect::<Option<_>>()
            .filter(|digest: &Vec<u8>| digest.len() == length)
            .ok_or_else(malformed)?;
        Ok(Some(Self { algorithm, digest }))
    }
}

/// The first four bytes of a digest, enough to tell two apart.
fn abbreviate(digest: &[u8]) -> String {
    digest.iter().take(4).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}:");
        text
    }) + ".."
}
