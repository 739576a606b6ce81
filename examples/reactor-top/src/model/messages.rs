// SPDX-License-Identifier: MIT

//! The list of messages, which scrolls.

use std::collections::VecDeque;

/// How many messages are kept.
const KEPT: usize = 1000;
/// How many characters of a message are kept.
const MAX_LENGTH: usize = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was typed.
    Command,
    Reply,
    Model,
    Platform,
    Status,
    Warning,
    Error,
    /// What libraries write to standard error.
    Log,
}

#[derive(Debug, Clone)]
pub struct Message {
    /// The time of day.
    pub time: String,
    pub kind: Kind,
    pub text: String,
    /// How often it came in a row.
    pub count: usize,
}

#[derive(Debug, Default)]
pub struct Messages {
    list: VecDeque<Message>,
    /// How many of the newest are below the window; 0 follows what comes.
    pub hidden_below: usize,
    /// What is never shown.
    secrets: Vec<String>,
}

impl Messages {
    pub fn new(secrets: Vec<String>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        Self {
            secrets: secrets.collect(),
            ..Self::default()
        }
    }

    pub fn push(&mut self, time: &str, kind: Kind, text: &str) {
        let text = self.clean(text);
        if let Some(last) = self.list.back_mut()
            && (last.kind, &last.text) == (kind, &text)
        {
            last.count += 1;
            time.clone_into(&mut last.time);
            return;
        }
        if self.list.len() == KEPT {
            self.list.pop_front();
        }
        self.list.push_back(Message {
            time: time.to_owned(),
            kind,
            text,
            count: 1,
        });
        if self.hidden_below > 0 {
            self.scroll(1);
        }
    }

    /// Without secrets, without characters that control a terminal, and not too long.
    fn clean(&self, text: &str) -> String {
        let mut text = text.trim_end().to_owned();
        for secret in &self.secrets {
            text = text.replace(secret, "•••");
        }
        let length = text.chars().count();
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let mut clean: String = text.chars().map(visible).take(MAX_LENGTH).collect();
        if length > MAX_LENGTH {
            clean += &format!("… ({length} characters)");
        }
        clean
    }

    /// Scrolls to older messages, or with a negative number to newer ones.
    pub fn scroll(&mut self, lines: isize) {
        let last = self.list.len().saturating_sub(1);
        self.hidden_below = self.hidden_below.saturating_add_signed(lines).min(last);
    }

    pub fn clear(&mut self) {
        self.list.clear();
        self.hidden_below = 0;
    }

    /// From the lowest one in the window upwards.
    pub fn upwards(&self) -> impl Iterator<Item = &Message> {
        self.list.iter().rev().skip(self.hidden_below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(messages: &Messages) -> Vec<&str> {
        messages.upwards().map(|message| &*message.text).collect()
    }

    #[test]
    fn text_is_cleaned() {
        let mut messages = Messages::new(vec!["rk_secret".to_owned(), String::new()]);
        messages.push("", Kind::Model, "\u{1b}[2J rk_secret\nédité 🌲\n");
        assert_eq!(texts(&messages), [" [2J ••• édité 🌲"]);
        messages.push("", Kind::Model, &"🌲".repeat(1_000_000));
        let length = messages
            .upwards()
            .next()
            .map(|message| message.text.chars().count());
        assert_eq!(
            length,
            Some(MAX_LENGTH + "… (1000000 characters)".chars().count())
        );
    }

    #[test]
    fn window_keeps_its_place_while_messages_come() {
        let mut messages = Messages::default();
        for n in 0..2 * KEPT {
            messages.push("", Kind::Model, &n.to_string());
        }
        assert_eq!(texts(&messages).len(), KEPT);
        messages.scroll(10);
        let seen = texts(&messages)[0].to_owned();
        messages.push("", Kind::Model, "new");
        assert_eq!(texts(&messages)[0], seen);
        messages.scroll(isize::MIN);
        assert_eq!(texts(&messages)[0], "new");
        messages.scroll(isize::MAX);
        assert_eq!(texts(&messages).len(), 1);
        messages.clear();
        messages.scroll(5);
        assert!(texts(&messages).is_empty());
    }

    #[test]
    fn repeated_message_is_counted() {
        let mut messages = Messages::default();
        for text in ["a", "a", "b"] {
            messages.push("", Kind::Log, text);
        }
        let counts: Vec<_> = messages.upwards().map(|message| message.count).collect();
        assert_eq!(counts, [1, 2]);
    }
}
