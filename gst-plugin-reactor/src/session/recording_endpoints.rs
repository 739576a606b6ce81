// SPDX-License-Identifier: MIT

//! The servers of the recordings that sessions of this process have made, by the
//! recording's id: a clip can be fetched long after its session has ended, by an
//! element that was given the clip and nothing else. Used from any thread; makes
//! no request.

use std::sync::Mutex;

use super::newest::Newest;
use crate::platform::{endpoint::Endpoint, lock};

/// At most this number of recordings is kept, the newest. A session has one
/// recording.
const MAX_ENDPOINTS: usize = 64;

static ENDPOINTS: Mutex<Newest<Endpoint, MAX_ENDPOINTS>> = Mutex::new(Newest::new());

/// Stores the server of the recording with this id.
pub(super) fn remember_endpoint(recording: &str, endpoint: Endpoint) {
    lock(&ENDPOINTS).insert(recording, endpoint);
}

/// The server of the recording with this id, with the credentials to fetch it.
pub fn find_endpoint(recording: &str) -> Option<Endpoint> {
    lock(&ENDPOINTS).get(recording).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::http::HttpClient;

    #[test]
    fn endpoints_beyond_the_limit_replace_the_oldest() {
        let endpoint = |port| {
            let http = HttpClient::shared().unwrap();
            Endpoint::new(http, &format!("http://127.0.0.1:{port}")).unwrap()
        };
        remember_endpoint("first", endpoint(1));
        remember_endpoint("first", endpoint(2));
        let first = find_endpoint("first").unwrap();
        assert_eq!(first.display_url(), "http://127.0.0.1:2");
        for number in 0..MAX_ENDPOINTS {
            remember_endpoint(&format!("number {number}"), endpoint(3));
        }
        assert!(find_endpoint("first").is_none());
        assert!(find_endpoint("number 0").is_some());
    }
}
