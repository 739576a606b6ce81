// SPDX-License-Identifier: MIT

//! The requests that wait for a response, and the ids that tell them apart. Pure:
//! time is an argument, of the caller's clock; it sets no timer.

use std::time::Duration;

use super::frame::Channel;

/// Requests that wait for an answer, in the order they were made.
#[derive(Debug)]
pub struct PendingRequests<T> {
    entries: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    deadline: Duration,
    /// Its id and value.
    request: (String, T),
}

impl<T> Default for PendingRequests<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
        }
    }
}

impl<T> PendingRequests<T> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a request. Returns the one that it replaces under that id, if any.
    pub fn insert(&mut self, id: impl Into<String>, deadline: Duration, value: T) -> Option<T> {
        let id = id.into();
        let replaced = self.take(&id);
        let request = (id, value);
        self.entries.push(Entry { deadline, request });
        replaced
    }

    /// The request an answer with this id is for. Nothing for an answer that
    /// came too late, which is to be dropped.
    pub fn take(&mut self, id: &str) -> Option<T> {
        let at = self.entries.iter().position(|e| e.request.0 == id)?;
        Some(self.entries.remove(at).request.1)
    }

    /// The oldest request of a kind: answers of v0 have no id and come in the
    /// order of the requests.
    pub fn take_oldest(&mut self, kind: impl Fn(&T) -> bool) -> Option<(String, T)> {
        let at = self.entries.iter().position(|e| kind(&e.request.1))?;
        Some(self.entries.remove(at).request)
    }

    /// When [`PendingRequests::expire`] is due next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.entries.iter().map(|entry| entry.deadline).min()
    }

    /// Removes the requests past their deadline, the earliest deadline first.
    pub fn expire(&mut self, now: Duration) -> Vec<(String, T)> {
        let mut expired: Vec<_> = self
            .entries
            .extract_if(.., |entry| entry.deadline <= now)
            .collect();
        expired.sort_by_key(|entry| entry.deadline);
        expired.into_iter().map(|entry| entry.request).collect()
    }

    /// Removes all requests, the oldest first, when no response can come any more.
    pub fn drain(&mut self) -> Vec<(String, T)> {
        self.entries.drain(..).map(|entry| entry.request).collect()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The ids of requests: `ctrl_1`, `ctrl_2`, ... and `data_1`, `data_2`, ...
///
/// They stay short. With an id of 91 or 123 bytes the first bytes of a v1
/// message would be those of a JSON document to the server.
#[derive(Debug, Clone, Default)]
pub struct RequestIds {
    control: u64,
    data: u64,
}

impl RequestIds {
    pub fn new() -> Self {
        Self::default()
    }

    /// A new id for a request on this channel.
    pub fn mint(&mut self, channel: Channel) -> String {
        let (prefix, counter) = match channel {
            Channel::Control => ("ctrl", &mut self.control),
            Channel::Data => ("data", &mut self.data),
        };
        *counter = counter.wrapping_add(1);
        format!("{prefix}_{counter}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::{ClientMessage, UploadReferences, WireVersion, encode};
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pairs(list: &[(&str, i32)]) -> Vec<(String, i32)> {
        let owned = |(id, value): &(&str, i32)| ((*id).to_owned(), *value);
        list.iter().map(owned).collect()
    }

    #[test]
    fn response_in_any_order_finds_request() {
        let mut pending = PendingRequests::new();
        assert_eq!(pending.insert("a", seconds(1), 1), None);
        assert_eq!(pending.insert("b", seconds(1), 2), None);
        assert_eq!(pending.take("b"), Some(2));
        assert_eq!(pending.take("b"), None);
        assert_eq!(pending.take("c"), None);
        assert_eq!(pending.take("a"), Some(1));
        assert!(pending.is_empty());
    }

    #[test]
    fn duplicate_id_returns_replaced_request() {
        let mut pending = PendingRequests::new();
        pending.insert("a", seconds(1), 1);
        assert_eq!(pending.insert("a", seconds(2), 2), Some(1));
        assert_eq!(pending.len(), 1);
        assert_eq!(pending.next_deadline(), Some(seconds(2)));
    }

    #[test]
    fn request_past_deadline_expires() {
        let mut pending = PendingRequests::new();
        assert_eq!(pending.next_deadline(), None);
        pending.insert("late", seconds(9), 1);
        pending.insert("second", seconds(5), 2);
        pending.insert("first", seconds(3), 3);
        assert_eq!(pending.next_deadline(), Some(seconds(3)));
        assert_eq!(pending.expire(seconds(2)), []);
        let expired = pending.expire(seconds(5));
        assert_eq!(expired, pairs(&[("first", 3), ("second", 2)]));
        assert_eq!(pending.next_deadline(), Some(seconds(9)));
        assert_eq!(pending.take("first"), None);
    }

    #[test]
    fn response_without_id_takes_oldest_of_kind() {
        let mut pending = PendingRequests::new();
        for (at, value) in [10, 1, 20, 2].into_iter().enumerate() {
            pending.insert(format!("r{at}"), seconds(1), value);
        }
        let small = |value: &i32| *value < 10;
        assert_eq!(pending.take_oldest(small), Some(("r1".into(), 1)));
        assert_eq!(pending.take_oldest(small), Some(("r3".into(), 2)));
        assert_eq!(pending.take_oldest(small), None);
        assert_eq!(pending.drain(), pairs(&[("r0", 10), ("r2", 20)]));
        assert!(pending.is_empty());
    }

    /// The server's rule, written down once more.
    fn looks_like_json(bytes: &[u8]) -> bool {
        let spaces = [b' ', b'\t', b'\n', b'\r', 0x0b, 0x0c];
        let start = bytes.iter().position(|byte| !spaces.contains(byte));
        start.is_some_and(|at| bytes[at] == b'{' || bytes[at] == b'[')
    }

    #[test]
    fn minted_id_keeps_message_unlike_json() {
        let mut ids = RequestIds::new();
        let command = ClientMessage::Command {
            name: "c".into(),
            data: Map::new(),
            uploads: UploadReferences::new(),
        };
        assert_eq!(ids.mint(Channel::Control), "ctrl_1");
        assert_eq!(ids.mint(Channel::Data), "data_1");
        for _ in 0..100_000 {
            for message in [&ClientMessage::RequestSchema, &command] {
                let id = ids.mint(message.channel(WireVersion::V1));
                let (_, frame) = encode(WireVersion::V1, message, Some(&id)).unwrap();
                assert!(!looks_like_json(frame.as_bytes()), "{id}");
            }
        }
        assert_eq!(ids.mint(Channel::Data), "data_100002");
        // Nor does the longest there can be.
        ids.control = u64::MAX - 1;
        let id = ids.mint(Channel::Control);
        encode(WireVersion::V1, &ClientMessage::RequestSchema, Some(&id)).unwrap();
    }
}
