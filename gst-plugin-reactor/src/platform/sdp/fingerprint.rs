// SPDX-License-Identifier: MIT

//! The hash that ties a DTLS certificate to a session description (RFC 8122).

use std::fmt::Write as _;

use sdp_types::Attribute;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::super::{Code, Error};

/// A certificate's hash, by an algorithm that can be relied on.
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
            return Err(mismatch("the peer has presented no readable certificate"));
        };
        if certificate.tag() != "CERTIFICATE" {
            return Err(mismatch("the peer has presented no certificate"));
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
        Err(mismatch(&format!(
            "the peer's certificate is not the one its answer announced ({} {}, expected {})",
            self.algorithm,
            short(&digest),
            short(&self.digest)
        )))
    }

    /// The usable fingerprint among the attributes of one level, if any.
    ///
    /// Hashes that can be forged are ignored; that a reliable one is malformed,
    /// or that there are two of them, is an error.
    pub(super) fn of(attributes: &[Attribute]) -> Result<Option<Self>, Error> {
        let mut found: Option<Self> = None;
        for attribute in attributes.iter().filter(|a| a.attribute == "fingerprint") {
            let value = attribute.value.as_deref().unwrap_or_default();
            let Some(fingerprint) = Self::parse(value)? else {
                continue;
            };
            match &found {
                Some(other) if *other != fingerprint => return Err(ambiguous()),
                _ => found = Some(fingerprint),
            }
        }
        Ok(found)
    }

    /// `Ok(None)` for an algorithm that is unknown or not to be relied on.
    fn parse(value: &str) -> Result<Option<Self>, Error> {
        let malformed = || mismatch("the answer's certificate fingerprint is malformed");
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

pub(super) fn mismatch(what: &str) -> Error {
    Error::gpu(Code::IdentityMismatch, what).during("sdp_params")
}

pub(super) fn ambiguous() -> Error {
    mismatch("the answer announces more than one certificate")
}

/// The first bytes of a digest, enough to tell two apart.
fn short(digest: &[u8]) -> String {
    digest.iter().take(4).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}:");
        text
    }) + ".."
}
