// SPDX-License-Identifier: MIT

//! Where the recordings are that sessions of this process have told of: a
//! clip can be fetched long after its session has ended, by whoever was given
//! the clip and nothing else.

use std::{collections::VecDeque, sync::Mutex};

use super::lock;
use crate::platform::endpoint::Endpoint;

/// How many are remembered. A session has one recording.
const MAX_REMEMBERED: usize = 64;

static KNOWN: Mutex<VecDeque<(String, Endpoint)>> = Mutex::new(VecDeque::new());

/// A recording's id and the server that it is on.
pub(super) fn remember(recording: &str, endpoint: Endpoint) {
    let mut known = lock(&KNOWN);
    known.retain(|(id, _)| id != recording);
    if known.len() == MAX_REMEMBERED {
        known.pop_front();
    }
    known.push_back((recording.to_owned(), endpoint));
}

/// The server of a recording, with the right to fetch it.
pub fn endpoint_of(recording: &str) -> Option<Endpoint> {
    let known = lock(&KNOWN);
    let found = known.iter().find(|(id, _)| id == recording);
    found.map(|(_, endpoint)| endpoint.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::HttpClient;

    #[test]
    fn the_oldest_are_forgotten() {
        let endpoint = |port| {
            let http = HttpClient::shared().unwrap();
            Endpoint::new(http, &format!("http://127.0.0.1:{port}")).unwrap()
        };
        remember("first", endpoint(1));
        remember("first", endpoint(2));
        let first = endpoint_of("first").unwrap();
        assert_eq!(first.display_url(), "http://127.0.0.1:2");
        for number in 0..MAX_REMEMBERED {
            remember(&format!("number {number}"), endpoint(3));
        }
        assert!(endpoint_of("first").is_none());
        assert!(endpoint_of("number 0").is_some());
    }
}
