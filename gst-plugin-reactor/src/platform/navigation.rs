// SPDX-License-Identifier: MIT

//! Navigation: maps key and mouse events to commands. Pure: the caller has the
//! clock and the events, and sends the commands.

use std::{collections::BTreeMap, time::Duration};

use self::template::{PlaceholderValues, Template};
use super::{
    Error,
    commands::{ModelCommand, bad_request},
    http::sanitize,
    json_text::{self, JsonNode},
};

pub use event::InputEvent;

mod event;
mod template;
#[cfg(test)]
mod tests;

/// The shortest time between the commands of two movements of the mouse. A
/// mouse reports up to 1000 a second; a model shows far fewer pictures.
pub const MOVE_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// How long the release of a key waits for another press of that key. X11
/// repeats a key that is held by releases and presses, back to back.
pub const RELEASE_DELAY: Duration = Duration::from_millis(10);

/// The time after which a press is a new one, even of a key that is held: its
/// release was lost, as when the window loses the focus. Longer than the time
/// after which any desktop starts to repeat a key.
pub const HELD_TIMEOUT: Duration = Duration::from_secs(2);

/// The most keys that are remembered as held; beyond it the oldest is forgotten.
const MAX_HELD: usize = 64;

/// The patterns, for messages.
const PATTERNS: &str = "key:NAME, key-repeat:NAME, key-release:NAME (NAME * is any key), \
                        mouse-move, mouse-press[:BUTTON], mouse-release[:BUTTON], mouse-scroll";

/// The kind of event a pattern is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PatternKind {
    Key,
    KeyRepeat,
    KeyRelease,
    Move,
    Press,
    Release,
    Scroll,
}

impl PatternKind {
    /// The placeholders that mean something for the event.
    fn placeholders(self) -> &'static [&'static str] {
        match self {
            PatternKind::Key | PatternKind::KeyRepeat | PatternKind::KeyRelease => {
                &["key", "pressed"]
            }
            PatternKind::Move => &["x", "y", "nx", "ny"],
            PatternKind::Press | PatternKind::Release => {
                &["x", "y", "nx", "ny", "button", "pressed"]
            }
            PatternKind::Scroll => &["x", "y", "nx", "ny", "dx", "dy"],
        }
    }
}

/// Which event: its kind, and a key or a button. `None` is any.
type Pattern = (PatternKind, Option<String>);

/// A mapping of events to commands, with the state of the keys and the mouse.
/// All times are of one clock, which does not go backwards.
#[derive(Debug, Clone, Default)]
pub struct Navigation {
    patterns: BTreeMap<Pattern, Vec<Template>>,
    /// The keys that are down, and the time of the last event of each.
    held_keys: BTreeMap<String, Duration>,
    /// The releases that are held back, with the time at which each is due.
    pending_releases: Vec<(Duration, String)>,
    last_move: Option<Duration>,
    /// The commands of a movement within [`MOVE_INTERVAL`] of the last.
    pending_move: Option<Vec<ModelCommand>>,
}

impl Navigation {
    /// Parses a mapping, in JSON5: an object of patterns, each with commands in one
    /// of the forms that [`ModelCommand::parse_list`] takes. Blank text maps nothing.
    ///
    /// The patterns are
    /// * `key:NAME`: the key goes down; `*` is any key with no pattern of its own;
    /// * `key-repeat:NAME`: the key goes down, and for every repetition;
    /// * `key-release:NAME`: the key goes up;
    /// * `mouse-move`, `mouse-scroll`;
    /// * `mouse-press`, `mouse-release`, with `:1`, `:2`... for one button.
    ///
    /// The text of an argument may hold placeholders: `$x` and `$y` (the pixel
    /// of the model's picture, from 0), `$nx` and `$ny` (0.0 to 1.0), `$button`,
    /// `$dx`, `$dy`, `$key` and `$pressed` (whether the key or button went down).
    /// Text that is nothing else becomes a number, a boolean or a text;
    /// otherwise the placeholder is replaced as text. `$$` is a `$`. Unlike in
    /// [`ModelCommand::parse_list`], no argument names a file.
    ///
    /// Fails with [`super::Code::BadRequest`]; the message names the pattern and
    /// what is allowed.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut navigation = Self::default();
        if text.trim().is_empty() {
            return Ok(navigation);
        }
        let JsonNode::Object(members) = json_text::parse(text, "the navigation")? else {
            return Err(bad_request(
                "the navigation is not an object; expected one such as \
                 {'key:w':{move:{direction:'forward'}}}",
            ));
        };
        for (text, node) in members {
            let place = format!("navigation: \"{}\"", sanitize(&text));
            let Some(pattern) = parse_pattern(&text) else {
                return Err(bad_request(format!(
                    "{place} is not an event; expected one of {PATTERNS}"
                )));
            };
            let allowed = pattern.0.placeholders();
            let templates = ModelCommand::from_node(node, &place, ModelCommand::literal)?
                .into_iter()
                .map(|command| Template::new(command, allowed, &place))
                .collect::<Result<_, _>>()?;
            if navigation.patterns.insert(pattern, templates).is_some() {
                return Err(bad_request(format!(
                    "{place} is there twice; merge the two"
                )));
            }
        }
        Ok(navigation)
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The commands to send for an event, in order. `size` is that of the
    /// model's picture in pixels; without one (0) commands that need it are
    /// left out. May hold something back: see [`Navigation::deadline`].
    pub fn commands(
        &mut self,
        now: Duration,
        event: &InputEvent,
        size: (u32, u32),
    ) -> Vec<ModelCommand> {
        let mut commands = self.flush(now);
        commands.extend(match event {
            InputEvent::KeyPress(key) => self.key_press(now, key),
            InputEvent::KeyRelease(key) => self.key_release(now, key),
            _ => self.mouse(now, event, size),
        });
        commands
    }

    /// When [`Navigation::flush`] has something to give, unless an event comes
    /// first. `None` if nothing is held back.
    pub fn deadline(&self) -> Option<Duration> {
        let moved = self.pending_move.as_ref().map(|_| self.next_move());
        let released = self.pending_releases.iter().map(|(due, _)| *due).min();
        moved.into_iter().chain(released).min()
    }

    /// The commands that were held back until now: the newest position of the
    /// mouse, and the release of keys.
    pub fn flush(&mut self, now: Duration) -> Vec<ModelCommand> {
        let held_back = std::mem::take(&mut self.pending_releases);
        let (due, waiting): (Vec<_>, _) = held_back.into_iter().partition(|(due, _)| *due <= now);
        self.pending_releases = waiting;
        let mut commands = Vec::new();
        for (_, key) in due {
            commands.extend(self.send_release(&key));
        }
        if self.pending_move.is_some() && now >= self.next_move() {
            commands.extend(self.send_move(now));
        }
        commands
    }

    fn key_press(&mut self, now: Duration, key: &str) -> Vec<ModelCommand> {
        // A release right before it was no release, but a repetition.
        self.pending_releases.retain(|(_, held)| held != key);
        let last = self.held_keys.insert(key.to_owned(), now);
        let repeated = last.is_some_and(|last| now.saturating_sub(last) < HELD_TIMEOUT);
        if self.held_keys.len() > MAX_HELD {
            let oldest = self.held_keys.iter().min_by_key(|(_, last)| **last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.held_keys.remove(&oldest);
            }
        }
        let values = PlaceholderValues::key(key, true);
        let mut commands = Vec::new();
        if !repeated {
            commands.extend(self.render(PatternKind::Key, key, &values));
        }
        commands.extend(self.render(PatternKind::KeyRepeat, key, &values));
        commands
    }

    fn key_release(&mut self, now: Duration, key: &str) -> Vec<ModelCommand> {
        if !self.pending_releases.iter().any(|(_, held)| held == key) {
            self.pending_releases
                .push((now + RELEASE_DELAY, key.to_owned()));
        }
        // Many at once are no repetitions.
        if self.pending_releases.len() <= MAX_HELD {
            return Vec::new();
        }
        let (_, key) = self.pending_releases.remove(0);
        self.send_release(&key)
    }

    fn send_release(&mut self, key: &str) -> Vec<ModelCommand> {
        self.held_keys.remove(key);
        let values = PlaceholderValues::key(key, false);
        self.render(PatternKind::KeyRelease, key, &values)
    }

    fn mouse(&mut self, now: Duration, event: &InputEvent, size: (u32, u32)) -> Vec<ModelCommand> {
        let Some(values) = PlaceholderValues::mouse(event, size) else {
            return Vec::new();
        };
        let (kind, which) = match event {
            InputEvent::MousePress { button, .. } => (PatternKind::Press, button.to_string()),
            InputEvent::MouseRelease { button, .. } => (PatternKind::Release, button.to_string()),
            InputEvent::Scroll { .. } => (PatternKind::Scroll, String::new()),
            _ => {
                let commands = self.render(PatternKind::Move, "", &values);
                self.pending_move = (!commands.is_empty()).then_some(commands);
                return match self.last_move {
                    Some(last) if now >= last && now < self.next_move() => Vec::new(),
                    _ => self.send_move(now),
                };
            }
        };
        // A click comes after the movement to its position.
        let mut commands = self.send_move(now);
        commands.extend(self.render(kind, &which, &values));
        commands
    }

    fn send_move(&mut self, now: Duration) -> Vec<ModelCommand> {
        let commands = self.pending_move.take();
        if commands.is_some() {
            self.last_move = Some(now);
        }
        commands.unwrap_or_default()
    }

    fn next_move(&self) -> Duration {
        self.last_move
            .map_or(Duration::ZERO, |last| last + MOVE_INTERVAL)
    }

    fn render(
        &self,
        kind: PatternKind,
        which: &str,
        values: &PlaceholderValues,
    ) -> Vec<ModelCommand> {
        let own = self.patterns.get(&(kind, Some(which.to_owned())));
        let templates = own.or_else(|| self.patterns.get(&(kind, None)));
        templates
            .into_iter()
            .flatten()
            .filter_map(|template| template.render(values))
            .collect()
    }
}

fn parse_pattern(text: &str) -> Option<Pattern> {
    let (kind, which) = match text.split_once(':') {
        Some((kind, which)) => (kind, Some(which).filter(|which| !which.is_empty())?),
        None => (text, ""),
    };
    let any = which == "*";
    let kind = match (kind, which) {
        ("key" | "key-repeat" | "key-release", "") => return None,
        ("key", _) => PatternKind::Key,
        ("key-repeat", _) => PatternKind::KeyRepeat,
        ("key-release", _) => PatternKind::KeyRelease,
        ("mouse-move", "") => PatternKind::Move,
        ("mouse-scroll", "") => PatternKind::Scroll,
        ("mouse-press", _) => PatternKind::Press,
        ("mouse-release", _) => PatternKind::Release,
        _ => return None,
    };
    let which = match kind {
        PatternKind::Press | PatternKind::Release if !which.is_empty() && !any => {
            which.parse::<i32>().ok()?.to_string()
        }
        _ => which.to_owned(),
    };
    Some((kind, (!any && !which.is_empty()).then_some(which)))
}
