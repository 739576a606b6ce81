// SPDX-License-Identifier: MIT

//! The line that commands are typed into: editing, history and completion.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent};
use tui_input::{Input, backend::crossterm::EventHandler};

use super::{completion::Candidates, schema::Schema};

/// How many lines are kept.
const KEPT: usize = 500;
/// How many characters a line may have; a pasted one is cut.
const MAX_LENGTH: usize = 10_000;

#[derive(Debug, Default)]
pub struct Prompt {
    pub input: Input,
    history: Vec<String>,
    /// The line of the history that is shown, and what had been typed before.
    recalled: Option<(usize, String)>,
    pub completion: Option<Completion>,
}

/// Tab was pressed, and there is more than one word that fits.
#[derive(Debug)]
pub struct Completion {
    candidates: Candidates,
    /// The one that is in the line.
    pub chosen: Option<usize>,
}

impl Completion {
    pub fn words(&self) -> &[String] {
        &self.candidates.words
    }
}

impl Prompt {
    /// Takes the line, which goes into the history.
    pub fn take(&mut self) -> String {
        let line = self.input.value().trim().to_owned();
        self.input = Input::default();
        (self.recalled, self.completion) = (None, None);
        if !line.is_empty() && self.history.last() != Some(&line) {
            self.history.push(line.clone());
            if self.history.len() > KEPT {
                self.history.remove(0);
            }
        }
        line
    }

    pub fn key(&mut self, key: KeyEvent, schema: Option<&Schema>) {
        match key.code {
            KeyCode::Tab => return self.complete(schema, 1),
            KeyCode::BackTab => return self.complete(schema, -1),
            KeyCode::Esc if self.completion.is_none() => self.set(String::new()),
            KeyCode::Up => self.recall(-1),
            KeyCode::Down => self.recall(1),
            KeyCode::Char(_) if self.input.value().chars().count() >= MAX_LENGTH => {}
            _ => {
                self.input.handle_event(&Event::Key(key));
            }
        }
        self.completion = None;
    }

    /// Puts a text in at the cursor; its lines become one.
    pub fn paste(&mut self, text: &str) {
        let (value, cursor) = (self.input.value(), self.input.cursor());
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let free = MAX_LENGTH.saturating_sub(value.chars().count());
        let pasted: String = text.trim_end().chars().map(visible).take(free).collect();
        let (before, after) = value.split_at(byte_index(value, cursor));
        let cursor = cursor + pasted.chars().count();
        self.input = Input::new(format!("{before}{pasted}{after}")).with_cursor(cursor);
        self.completion = None;
    }

    fn set(&mut self, line: String) {
        self.input = Input::new(line);
    }

    fn recall(&mut self, step: isize) {
        let (at, typed) = self
            .recalled
            .take()
            .unwrap_or_else(|| (self.history.len(), self.input.value().to_owned()));
        let at = at.saturating_add_signed(step).min(self.history.len());
        let line = self.history.get(at).unwrap_or(&typed).clone();
        self.set(line);
        self.recalled = (at < self.history.len()).then_some((at, typed));
    }

    /// The first Tab completes what all candidates have in common, another one chooses the next.
    fn complete(&mut self, schema: Option<&Schema>, step: isize) {
        if let Some(mut completion) = self.completion.take() {
            let count = completion.words().len();
            let next = match completion.chosen {
                None if step > 0 => 0,
                None => count - 1,
                Some(chosen) => (chosen + count).wrapping_add_signed(step) % count,
            };
            completion.chosen = Some(next);
            let word = completion.words()[next].clone();
            self.replace(completion.candidates.start, &word);
            self.completion = Some(completion);
            return;
        }
        let (start, word) = {
            let candidates = Candidates::of(self.before_cursor(), schema);
            let (start, common) = (candidates.start, candidates.common_prefix());
            self.completion = (candidates.words.len() > 1).then_some(Completion {
                candidates,
                chosen: None,
            });
            (start, common)
        };
        if !word.is_empty() {
            self.replace(start, &word);
        }
    }

    fn before_cursor(&self) -> &str {
        let value = self.input.value();
        &value[..byte_index(value, self.input.cursor())]
    }

    /// Replaces what is between a byte of the line and the cursor.
    fn replace(&mut self, start: usize, word: &str) {
        let value = self.input.value();
        let after = &value[byte_index(value, self.input.cursor())..];
        let before = format!("{}{word}", &value[..start]);
        let cursor = before.chars().count();
        self.input = Input::new(format!("{before}{after}")).with_cursor(cursor);
    }
}

/// Where a character of a text begins.
fn byte_index(text: &str, character: usize) -> usize {
    let mut indices = text.char_indices().map(|(index, _)| index);
    indices.nth(character).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyModifiers;

    use super::{super::schema::tests::playground, *};

    fn press(prompt: &mut Prompt, keys: &[KeyCode]) {
        for code in keys {
            prompt.key(
                KeyEvent::new(*code, KeyModifiers::NONE),
                Some(&playground()),
            );
        }
    }

    fn type_text(prompt: &mut Prompt, text: &str) {
        let keys: Vec<_> = text.chars().map(KeyCode::Char).collect();
        press(prompt, &keys);
    }

    #[test]
    fn tab_completes_then_chooses() {
        let mut prompt = Prompt::default();
        type_text(&mut prompt, "set_p");
        press(&mut prompt, &[KeyCode::Tab]);
        assert_eq!(prompt.input.value(), "set_p");
        let mut seen = Vec::new();
        for key in [KeyCode::Tab, KeyCode::Tab, KeyCode::Tab, KeyCode::BackTab] {
            press(&mut prompt, &[key]);
            seen.push(prompt.input.value().to_owned());
        }
        assert_eq!(
            seen,
            ["set_paused ", "set_prompt ", "set_paused ", "set_prompt "]
        );
        type_text(&mut prompt, "x");
        assert!(prompt.completion.is_none());
        assert_eq!(prompt.take(), "set_prompt x");
        type_text(&mut prompt, "set_res");
        press(&mut prompt, &[KeyCode::Tab]);
        type_text(&mut prompt, "w");
        press(&mut prompt, &[KeyCode::Tab]);
        assert_eq!(prompt.input.value(), "set_resolution width=");
        type_text(&mut prompt, "é");
        press(&mut prompt, &[KeyCode::Tab, KeyCode::BackTab]);
        assert_eq!(prompt.take(), "set_resolution width=é");
    }

    #[test]
    fn history_is_recalled() {
        let mut prompt = Prompt::default();
        for line in ["one", "two", "two", "  "] {
            type_text(&mut prompt, line);
            prompt.take();
        }
        type_text(&mut prompt, "thr");
        let mut seen = Vec::new();
        for key in [
            KeyCode::Up,
            KeyCode::Up,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Down,
        ] {
            press(&mut prompt, &[key]);
            seen.push(prompt.input.value().to_owned());
        }
        assert_eq!(seen, ["two", "one", "one", "two", "thr"]);
        press(&mut prompt, &[KeyCode::Esc]);
        assert_eq!(prompt.input.value(), "");
    }

    #[test]
    fn pasted_lines_become_one() {
        let mut prompt = Prompt::default();
        type_text(&mut prompt, "é!");
        press(&mut prompt, &[KeyCode::Left]);
        prompt.paste("a\nb\u{1b}🌲\n");
        assert_eq!(prompt.input.value(), "éa b 🌲!");
        prompt.paste(&"x".repeat(2 * MAX_LENGTH));
        assert_eq!(prompt.take().chars().count(), MAX_LENGTH);
    }
}
