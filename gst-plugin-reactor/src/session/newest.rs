// SPDX-License-Identifier: MIT

//! What is known of the last few of something, by name. Knows no lock.

use std::collections::VecDeque;

/// At most `MAX` values; the newest are kept.
pub(super) struct Newest<T, const MAX: usize>(VecDeque<(String, T)>);

impl<T, const MAX: usize> Newest<T, MAX> {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Takes the place of the name's older value.
    pub(super) fn insert(&mut self, name: &str, value: T) {
        self.remove(name);
        if self.0.len() == MAX {
            self.0.pop_front();
        }
        self.0.push_back((name.to_owned(), value));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name);
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value)
    }
}
