// SPDX-License-Identifier: MIT

//! One session of the pipeline: its status, and what is said of it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{messages::Kind, schema::Schema, stats::Stats};

#[derive(Debug)]
pub enum SessionEvent {
    Status {
        status: String,
        id: Option<String>,
    },
    Progress(String),
    /// The local runtime had the session already.
    Joined,
    /// The model said something; the data is JSON.
    Said {
        kind: String,
        data: String,
    },
    PlatformSaid {
        kind: String,
        data: String,
    },
    Schema(Value),
    /// To what was typed, by its id.
    Reply {
        id: u64,
        outcome: Outcome,
    },
    /// To a command of the pipeline's own.
    OtherReply {
        command: String,
        outcome: Outcome,
    },
    Interrupted(String),
    Resumed {
        outage_ms: u64,
        restarted: bool,
    },
    Ended(String),
    Upload {
        name: String,
        sent: u64,
        size: u64,
    },
    Stats {
        element: String,
        main: bool,
        fields: Map<String, Value>,
    },
}

/// `type data`, or nothing if the model replied nothing; or the error.
pub type Outcome = Result<Option<String>, String>;

#[derive(Debug)]
pub struct Session {
    /// Those of its elements.
    pub name: String,
    pub server: String,
    pub status: String,
    pub id: Option<String>,
    /// The newest step of connecting.
    pub progress: String,
    pub schema: Option<Schema>,
    pub stats: Stats,
    /// Since when it has been ready, without an outage.
    pub ready_since: Option<Duration>,
    pub is_interrupted: bool,
    pub outages: usize,
    /// What was sent and is not answered yet: name and time.
    pub pending: BTreeMap<u64, (String, Duration)>,
    /// A reply that is a message comes as that as well, before or after: it is said once.
    newest_reply: Option<String>,
}

impl Session {
    pub fn new(name: String, server: String) -> Self {
        Self {
            name,
            server,
            status: "disconnected".to_owned(),
            id: None,
            progress: String::new(),
            schema: None,
            stats: Stats::default(),
            ready_since: None,
            is_interrupted: false,
            outages: 0,
            pending: BTreeMap::new(),
            newest_reply: None,
        }
    }

    pub fn sent(&mut self, id: u64, name: &str, at: Duration) {
        self.pending.insert(id, (name.to_owned(), at));
    }

    /// Returns what is to be said of it.
    pub fn handle(&mut self, at: Duration, event: SessionEvent) -> Option<(Kind, String)> {
        let status = |text: String| Some((Kind::Status, text));
        match event {
            SessionEvent::Status { status: new, id } => self.set_status(at, new, id),
            SessionEvent::Progress(text) => {
                self.progress.clone_from(&text);
                status(text)
            }
            SessionEvent::Joined => {
                status("joined a session that somebody else started".to_owned())
            }
            SessionEvent::Said { kind, data } => {
                let text = format!("{kind} {data}");
                let is_reply = self.newest_reply.take_if(|reply| *reply == text).is_some();
                (!is_reply).then_some((Kind::Model, text))
            }
            SessionEvent::PlatformSaid { kind, data } => {
                Some((Kind::Platform, format!("{kind} {data}")))
            }
            SessionEvent::Schema(document) => {
                let schema = Schema::parse(&document);
                let count = schema.commands.len();
                let is_new = self.schema.replace(schema).is_none();
                is_new.then(|| {
                    (
                        Kind::Status,
                        format!("the model takes {count} commands: F1 lists them"),
                    )
                })
            }
            SessionEvent::Reply { id, outcome } => {
                let (command, sent) = self.pending.remove(&id)?;
                self.newest_reply = outcome.as_ref().ok().cloned().flatten();
                let took = at.saturating_sub(sent).as_millis();
                let (kind, text) = describe(&command, outcome);
                Some((kind, format!("{text} ({took} ms)")))
            }
            SessionEvent::OtherReply { command, outcome } => Some(describe(&command, outcome)),
            SessionEvent::Interrupted(error) => {
                (self.is_interrupted, self.ready_since) = (true, None);
                self.outages += 1;
                self.stats.interrupt();
                Some((Kind::Warning, format!("connection lost: {error}")))
            }
            SessionEvent::Resumed {
                outage_ms,
                restarted,
            } => {
                (self.is_interrupted, self.ready_since) = (false, Some(at));
                let what = if restarted {
                    "another session"
                } else {
                    "the same session"
                };
                let seconds = Duration::from_millis(outage_ms).as_secs_f64();
                status(format!("connected again after {seconds:.1} s: {what}"))
            }
            SessionEvent::Ended(reason) => {
                Some((Kind::Warning, format!("the session ended: {reason}")))
            }
            SessionEvent::Upload { name, sent, size } => {
                status(format!("uploading {name}: {sent} of {size} bytes"))
            }
            SessionEvent::Stats {
                element,
                main,
                fields,
            } => {
                if self.is_interrupted && main {
                    self.stats.interrupt();
                } else {
                    // Until it is ready there is nothing to draw.
                    let is_drawn = main && self.ready_since.is_some();
                    self.stats.update(&element, fields, is_drawn);
                }
                None
            }
        }
    }

    fn set_status(
        &mut self,
        at: Duration,
        new: String,
        id: Option<String>,
    ) -> Option<(Kind, String)> {
        let is_ready = new == "ready";
        if is_ready != self.ready_since.is_some() {
            self.ready_since = is_ready.then_some(at);
        }
        if new == "disconnected" || is_ready {
            self.is_interrupted = false;
        }
        self.id = id.or(self.id.take()).filter(|_| new != "disconnected");
        let text = format!("status: {new}");
        self.status = new;
        Some((Kind::Status, text))
    }
}

fn describe(command: &str, outcome: Outcome) -> (Kind, String) {
    match outcome {
        Ok(None) => (Kind::Reply, format!("{command}: done")),
        Ok(Some(reply)) => (Kind::Reply, format!("{command}: {reply}")),
        Err(error) => (Kind::Error, format!("{command}: {error}")),
    }
}
