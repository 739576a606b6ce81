// SPDX-License-Identifier: MIT

//! The state of the control room. Pure: inputs come in with their time, effects go out.

pub mod command_line;
pub mod completion;
pub mod messages;
pub mod prompt;
pub mod schema;
pub mod session;
pub mod stats;
#[cfg(test)]
pub mod tests;

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::{Map, Value};

use self::{
    command_line::{Command, Line, OWN},
    messages::{Kind, Messages},
    prompt::Prompt,
    session::{Session, SessionEvent},
};

/// How many messages a page up or down scrolls by.
const PAGE: isize = 5;

/// When something happened.
#[derive(Debug, Clone, Default)]
pub struct Moment {
    /// The time of day, to be shown.
    pub clock: String,
    /// Since the start of the application.
    pub elapsed: Duration,
}

#[derive(Debug)]
pub enum Input {
    Key(KeyEvent),
    Paste(String),
    /// The terminal has another size.
    Resized,
    /// The pipeline has another session: its elements' names and the server.
    SessionAdded {
        name: String,
        server: String,
    },
    /// By the index of the session.
    Session(usize, SessionEvent),
    Warning {
        source: String,
        text: String,
    },
    Picture(Picture),
    /// How loud each channel is.
    Levels(Vec<Level>),
    /// The pipeline has failed.
    Failed {
        source: String,
        text: String,
    },
    EndOfStream,
    /// The pipeline is in NULL: no session of its own is left on the server.
    Stopped,
    /// The pipeline goes to PLAYING.
    Started,
    Log(String),
    /// A signal, or the terminal is gone.
    Leave,
}

#[derive(Debug, PartialEq)]
pub enum Effect {
    /// The reply has the same id.
    Send {
        session: usize,
        id: u64,
        name: String,
        arguments: Map<String, Value>,
    },
    Disconnect(usize),
    Reconnect(usize),
    /// Take the pipeline to NULL.
    Stop,
    /// Take it to NULL and to PLAYING again.
    Restart,
    /// End the application.
    Leave,
}

/// A small picture, a byte each for red, green and blue of a pixel, without padding.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

/// How loud a channel is, in dB below full scale.
#[derive(Debug, Clone, Copy)]
pub struct Level {
    pub rms: f64,
    pub peak: f64,
}

/// Where the pipeline stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Run {
    #[default]
    Playing,
    /// The text is the error's.
    Failed(String),
    Ended,
    Stopped,
}

#[derive(Debug, Default)]
pub struct App {
    pub sessions: Vec<Session>,
    /// The index of the one that is shown and steered.
    pub shown: usize,
    pub messages: Messages,
    pub prompt: Prompt,
    pub run: Run,
    /// It ends as soon as the session is.
    pub is_leaving: bool,
    pub now: Moment,
    /// The newest one, if it is to be seen here.
    pub picture: Option<Picture>,
    pub levels: Vec<Level>,
    /// Whether the terminal has 2^24 colors instead of 256.
    pub has_true_color: bool,
    next_id: u64,
}

impl App {
    /// `secrets` are never shown.
    pub fn new(secrets: Vec<String>) -> Self {
        Self {
            messages: Messages::new(secrets),
            ..Self::default()
        }
    }

    pub fn session(&self) -> Option<&Session> {
        self.sessions.get(self.shown)
    }

    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        self.now = now;
        match input {
            Input::Key(key) if key.kind != KeyEventKind::Release => return self.key(key),
            Input::Key(_) | Input::Resized => {}
            Input::Paste(text) => self.prompt.paste(&text),
            Input::SessionAdded { name, server } => {
                self.sessions.push(Session::new(name, server));
            }
            Input::Session(index, event) => self.session_event(index, event),
            Input::Warning { source, text } => {
                self.say(Kind::Warning, &format!("{source}: {text}"));
            }
            Input::Failed { source, text } => return self.failed(&source, &text),
            Input::EndOfStream => {
                self.say(Kind::Status, "end of the stream; :restart plays it again");
                return self.stop(Run::Ended);
            }
            Input::Stopped if self.is_leaving => return vec![Effect::Leave],
            Input::Stopped => {
                if self.run == Run::Playing {
                    self.run = Run::Stopped;
                }
            }
            Input::Started => self.run = Run::Playing,
            Input::Picture(picture) => self.picture = Some(picture),
            Input::Levels(levels) => self.levels = levels,
            Input::Log(line) => self.say(Kind::Log, &line),
            Input::Leave => return self.leave(),
        }
        Vec::new()
    }

    fn say(&mut self, kind: Kind, text: &str) {
        self.messages.push(&self.now.clock, kind, text);
    }

    fn session_event(&mut self, index: usize, event: SessionEvent) {
        let several = self.sessions.len() > 1;
        let Some(session) = self.sessions.get_mut(index) else {
            return;
        };
        if let Some((kind, text)) = session.handle(self.now.elapsed, event) {
            let text = match several {
                true => format!("{}: {text}", session.name),
                false => text,
            };
            self.say(kind, &text);
        }
    }

    fn failed(&mut self, source: &str, text: &str) -> Vec<Effect> {
        let text = format!("{source}: {text}");
        self.say(Kind::Error, &text);
        match &self.run {
            // What follows from the first error is no other one.
            Run::Failed(_) => Vec::new(),
            _ => self.stop(Run::Failed(text)),
        }
    }

    fn stop(&mut self, run: Run) -> Vec<Effect> {
        self.run = run;
        vec![Effect::Stop]
    }

    /// The first time, the session is ended before; the second time nothing is waited for.
    fn leave(&mut self) -> Vec<Effect> {
        if self.is_leaving {
            return vec![Effect::Leave];
        }
        self.is_leaving = true;
        self.say(Kind::Status, "ending the session");
        vec![Effect::Stop]
    }

    fn key(&mut self, key: KeyEvent) -> Vec<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'q') if control => return self.leave(),
            KeyCode::Char('d') if control && self.prompt.input.value().is_empty() => {
                return self.leave();
            }
            KeyCode::Enter => return self.enter(),
            KeyCode::PageUp => self.messages.scroll(PAGE),
            KeyCode::PageDown => self.messages.scroll(-PAGE),
            KeyCode::F(1) => self.help(),
            KeyCode::F(2) => self.next(),
            _ => {
                let session = self.sessions.get(self.shown);
                let schema = session.and_then(|session| session.schema.as_ref());
                self.prompt.key(key, schema);
            }
        }
        Vec::new()
    }

    fn enter(&mut self) -> Vec<Effect> {
        let line = self.prompt.take();
        if line.is_empty() {
            return Vec::new();
        }
        self.messages.hidden_below = 0;
        self.say(Kind::Command, &line);
        let schema = self.session().and_then(|session| session.schema.as_ref());
        match command_line::parse(&line, schema) {
            Ok(Line::Own(name)) => self.execute(name),
            Ok(Line::Commands(commands)) => self.send(commands),
            Err(error) => {
                self.say(Kind::Error, &error);
                Vec::new()
            }
        }
    }

    fn send(&mut self, commands: Vec<Command>) -> Vec<Effect> {
        let index = self.shown;
        let is_playing = self.run == Run::Playing;
        let Some(session) = self.sessions.get_mut(index).filter(|_| is_playing) else {
            self.say(Kind::Error, "there is no session to send it to");
            return Vec::new();
        };
        let commands = commands.into_iter().map(|(name, arguments)| {
            self.next_id += 1;
            session.sent(self.next_id, &name, self.now.elapsed);
            Effect::Send {
                session: index,
                id: self.next_id,
                name,
                arguments,
            }
        });
        commands.collect()
    }

    fn execute(&mut self, name: &str) -> Vec<Effect> {
        match name {
            ":quit" => return self.leave(),
            ":restart" => {
                self.say(Kind::Status, "starting again");
                return vec![Effect::Restart];
            }
            ":disconnect" if self.session().is_some() => {
                return vec![Effect::Disconnect(self.shown)];
            }
            ":reconnect" if self.session().is_some() => return vec![Effect::Reconnect(self.shown)],
            ":clear" => self.messages.clear(),
            ":next" => self.next(),
            ":help" => self.help(),
            _ => self.say(Kind::Error, "there is no session"),
        }
        Vec::new()
    }

    fn next(&mut self) {
        self.shown = (self.shown + 1) % self.sessions.len().max(1);
    }

    fn help(&mut self) {
        let mut lines = vec![
            "Tab completes, ↑ ↓ recall, Page ↑ ↓ scroll, Esc empties the line".to_owned(),
            "NAME TEXT, NAME PARAMETER=VALUE..., NAME {JSON5} or [{NAME:{JSON5}},...]".to_owned(),
        ];
        lines.extend(OWN.iter().map(|(name, what)| format!("{name}: {what}")));
        let schema = self.session().and_then(|session| session.schema.as_ref());
        for command in schema.map_or(&[][..], |schema| &schema.commands) {
            let usage = command.usage();
            lines.push(match command.summary.is_empty() {
                true => usage,
                false => format!("{usage}: {}", command.summary),
            });
        }
        for line in lines {
            self.say(Kind::Status, &line);
        }
    }

    /// What the line says so far: how the command is typed, or how to begin.
    pub fn hint(&self) -> String {
        let name = self.prompt.input.value().split_whitespace().next();
        let newer = self.messages.hidden_below;
        if newer > 0 && name.is_none() {
            return format!("{newer} newer messages are below: PgDn");
        }
        let session = self.session();
        let schema = session.and_then(|session| session.schema.as_ref());
        let command = name.and_then(|name| schema?.command(name));
        match (command, name) {
            (Some(command), _) => format!("{}  {}", command.usage(), command.summary),
            (None, None) => {
                "Tab complete  ↑↓ history  PgUp PgDn scroll  F1 help  q⏎ quit".to_owned()
            }
            (None, Some(name)) => {
                let own = OWN.iter().find(|(own, _)| *own == name);
                own.map_or_else(String::new, |(_, what)| (*what).to_owned())
            }
        }
    }
}
