// SPDX-License-Identifier: MIT

//! Descriptions for logs. Pure.

/// Attributes whose value is a secret: whoever has the ICE password can take the
/// place of a peer in connectivity checks (RFC 8445), and the key of SDES is that
/// of the media (RFC 4568).
const SECRETS: [&str; 2] = ["a=ice-pwd:", "a=crypto:"];

/// A description without the secrets in it.
pub fn without_secrets(sdp: &str) -> String {
    let lines = sdp.lines().map(|line| {
        let secret = SECRETS.iter().find(|name| line.starts_with(**name));
        secret.map_or_else(|| line.to_owned(), |name| format!("{name}***"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_left_out_and_fingerprint_stays() {
        let sdp = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\n\
                   a=fingerprint:sha-256 AB:CD\r\na=crypto:1 AES_CM_128 inline:key\r\n";
        let shown = "v=0\na=ice-ufrag:abcd\na=ice-pwd:***\na=fingerprint:sha-256 AB:CD\n\
                     a=crypto:***";
        assert_eq!(without_secrets(sdp), shown);
    }
}
