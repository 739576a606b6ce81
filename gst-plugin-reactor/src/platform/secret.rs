// SPDX-License-Identifier: MIT

//! Secrets: keys, tokens, passwords. A [`Secret`] has no readable debug output,
//! and masks itself in text of the other side. Pure; used on any thread.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// The number of characters in a row from which a part of a secret is masked.
/// Shorter parts are words that happen to be in both, or the rest of a secret
/// that was cut short, and reveal nothing.
const MIN_MATCH: usize = 12;

/// The text in place of a secret.
const MASK: &str = "***";

/// Text that no log and no debug output shows.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Somebody else's text without this secret, in whatever case, and without
    /// any larger part of it.
    pub fn redact(&self, text: &str) -> String {
        let secret: Vec<_> = self.0.chars().map(|c| c.to_ascii_lowercase()).collect();
        let enough = secret.len().min(MIN_MATCH);
        if enough == 0 {
            return text.to_owned();
        }
        let lower: Vec<_> = text.chars().map(|c| c.to_ascii_lowercase()).collect();
        let mut out = String::new();
        let mut skip = 0;
        for (n, c) in text.chars().enumerate() {
            if skip == 0 {
                skip = longest_match(&secret, &lower[n..]);
                if skip >= enough {
                    out.push_str(MASK);
                } else {
                    skip = 0;
                    out.push(c);
                    continue;
                }
            }
            skip -= 1;
        }
        out
    }

    /// Masks the secret in all strings of a document, but only where they hold
    /// it as a whole: they are data, of which no innocent part may be lost.
    pub fn redact_json(&self, value: &mut Value) {
        match value {
            Value::String(text) if self.0.len() >= MIN_MATCH && text.contains(&self.0) => {
                *text = text.replace(&self.0, MASK);
            }
            Value::Array(list) => list.iter_mut().for_each(|v| self.redact_json(v)),
            Value::Object(map) => map.values_mut().for_each(|v| self.redact_json(v)),
            _ => {}
        }
    }
}

/// The length of the longest beginning of the text that is in the secret, in
/// characters.
fn longest_match(secret: &[char], text: &[char]) -> usize {
    let common = |at: usize| {
        let pairs = secret[at..].iter().zip(text);
        pairs.take_while(|(a, b)| a == b).count()
    };
    (0..secret.len()).map(common).max().unwrap_or_default()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
