// SPDX-License-Identifier: MIT

//! What nobody but the server it is for may see: keys, tokens, passwords.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

#[cfg(test)]
mod tests;

/// So much of a secret in a row is taken for the secret, not for a word that
/// happens to be in both. The rest of one that was cut short tells nothing.
const PART: usize = 12;

/// What stands where a secret was.
const MASK: &str = "***";

/// Text that no log shows.
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
        let enough = secret.len().min(PART);
        if enough == 0 {
            return text.to_owned();
        }
        let lower: Vec<_> = text.chars().map(|c| c.to_ascii_lowercase()).collect();
        let mut out = String::new();
        let mut skip = 0;
        for (n, c) in text.chars().enumerate() {
            if skip == 0 {
                skip = longest_part(&secret, &lower[n..]);
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

    /// The same for all the texts of a document. Only where they hold all of
    /// the secret: they are data, of which no innocent part may go missing.
    pub fn redact_json(&self, value: &mut Value) {
        match value {
            Value::String(text) if self.0.len() >= PART && text.contains(&self.0) => {
                *text = text.replace(&self.0, MASK);
            }
            Value::Array(list) => list.iter_mut().for_each(|v| self.redact_json(v)),
            Value::Object(map) => map.values_mut().for_each(|v| self.redact_json(v)),
            _ => {}
        }
    }
}

/// How much of the text's beginning is in the secret as well, anywhere.
fn longest_part(secret: &[char], text: &[char]) -> usize {
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
