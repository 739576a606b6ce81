// SPDX-License-Identifier: MIT

//! The pipeline: made of the options, played, stopped and asked.

mod bus;
mod playback;
mod requests;
mod structure;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use gst::prelude::*;
use serde_json::{Map, Value};

use crate::{
    Options,
    model::{Effect, Input, session::SessionEvent},
    send,
};

/// The plugin's live elements that are a session's participants. A reactorfilter is a bin with one
/// of each.
const LIVE_ELEMENTS: [&str; 2] = ["reactorsrc", "reactorsink"];
/// How often the elements are asked for their statistics.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Player {
    pipeline: gst::Pipeline,
    sessions: Sessions,
    /// To the thread that changes the pipeline's state, which may take seconds.
    states: Sender<Request>,
    inputs: Sender<Input>,
}

#[derive(Debug)]
enum Request {
    Play,
    Stop,
}

/// The sessions of the pipeline, in the order in which their first elements were found.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<Vec<SessionElements>>>);

/// The elements that share a session.
#[derive(Debug)]
struct SessionElements {
    /// What makes them share it: their property `session`.
    name: Option<String>,
    /// The first one is asked, and both post what is said of the session.
    elements: Vec<gst::Element>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Vec<SessionElements>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the index of the session that is new with this element, if it is.
    fn add(&self, element: &gst::Element) -> Option<usize> {
        let name = element.property::<Option<String>>("session");
        let mut sessions = self.lock();
        let shared = sessions.iter_mut().find(|session| session.name == name);
        if let Some(session) = shared {
            session.elements.push(element.clone());
            return None;
        }
        let elements = vec![element.clone()];
        sessions.push(SessionElements { name, elements });
        Some(sessions.len() - 1)
    }

    /// The index of the session that an element is of, and whether it is the one that is asked.
    fn find(&self, element: &gst::Object) -> Option<(usize, bool)> {
        let sessions = self.lock();
        let mut found = sessions.iter().enumerate().flat_map(|(index, session)| {
            let elements = session.elements.iter().enumerate();
            elements.map(move |(position, entry)| (entry, index, position == 0))
        });
        let (_, index, is_main) = found.find(|(entry, ..)| *entry == element)?;
        Some((index, is_main))
    }

    fn main(&self, index: usize) -> Option<gst::Element> {
        let sessions = self.lock();
        sessions.get(index)?.elements.first().cloned()
    }
}

impl Player {
    pub fn new(options: &Options, inputs: &Sender<Input>) -> Result<Self> {
        let pipeline = match options.pipeline.is_empty() {
            true => playback::pipeline(options, inputs)?,
            false => parse(&options.pipeline)?,
        };
        let sessions = Sessions::default();
        let live = find_live_elements(&pipeline);
        for element in &live {
            add_element(&sessions, element, inputs);
        }
        let has_uri = options.pipeline.iter().any(|word| word.contains("reactor"));
        if live.is_empty() && !has_uri {
            bail!(
                "no element of the plugin in this pipeline: reactorsrc, reactorsink, \
                 reactorfilter, or what plays a reactor:// URI"
            );
        }
        let (weak_inputs, added) = (inputs.clone(), sessions.clone());
        // uridecodebin3 and others make the element later.
        pipeline.connect_deep_element_added(move |_, _, element| {
            if is_live_element(element) {
                add_element(&added, element, &weak_inputs);
            }
        });
        bus::forward(&pipeline, &sessions, inputs)?;
        let (states, requests) = channel();
        let (weak, replies) = (pipeline.downgrade(), inputs.clone());
        thread::spawn(move || {
            for request in requests {
                let Some(pipeline) = weak.upgrade() else {
                    return;
                };
                change_state(&pipeline, &request, &replies);
            }
        });
        let (asked, stats) = (sessions.clone(), inputs.clone());
        // Not by their messages: their interval is the pipeline's own.
        thread::spawn(move || {
            loop {
                thread::sleep(STATS_INTERVAL);
                send_stats(&asked, &stats);
            }
        });
        Ok(Self {
            pipeline,
            sessions,
            states,
            inputs: inputs.clone(),
        })
    }

    pub fn play(&self) {
        self.request(Request::Play);
    }

    fn request(&self, request: Request) {
        // The thread ends after this.
        let _ = self.states.send(request);
    }

    pub fn perform(&self, effect: Effect) {
        match effect {
            Effect::Stop => self.request(Request::Stop),
            Effect::Restart => {
                self.request(Request::Stop);
                self.request(Request::Play);
            }
            Effect::Send {
                session,
                id,
                name,
                arguments,
            } => {
                if let Some(element) = self.sessions.main(session) {
                    let inputs = self.inputs.clone();
                    let command = requests::Command {
                        inputs,
                        session,
                        id,
                        name,
                        arguments,
                    };
                    command.send(&element);
                }
            }
            Effect::Disconnect(session) => self.ask(session, "disconnect"),
            Effect::Reconnect(session) => self.ask(session, "reconnect"),
            Effect::Leave => {}
        }
    }

    fn ask(&self, session: usize, action: &'static str) {
        if let Some(element) = self.sessions.main(session) {
            requests::ask(&element, &self.inputs, session, action);
        }
    }
}

impl Drop for Player {
    /// Ends the session, if that was not done before.
    fn drop(&mut self) {
        // A failure has no consequence: the process ends.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn change_state(pipeline: &gst::Pipeline, request: &Request, inputs: &Sender<Input>) {
    match request {
        Request::Stop => {
            let _ = pipeline.set_state(gst::State::Null);
            send(inputs, Input::Stopped);
        }
        Request::Play => {
            send(inputs, Input::Started);
            // If this fails, the bus has an error message with the reason.
            let _ = pipeline.set_state(gst::State::Playing);
        }
    }
}

/// Takes a description as gst-launch-1.0 does; one word is a whole description.
fn parse(words: &[String]) -> Result<gst::Pipeline> {
    let description = words.join(" ");
    // They would be seen by all users of this machine in the list of processes.
    for secret in ["api-key=", "jwt="] {
        if description.contains(secret) {
            bail!("{secret} is read from the environment only: REACTOR_API_KEY or REACTOR_JWT");
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let element = match words[..] {
        [description] => gst::parse::launch(description)?,
        _ => gst::parse::launchv(&words)?,
    };
    match element.downcast::<gst::Pipeline>() {
        Ok(pipeline) => Ok(pipeline),
        Err(element) => {
            let pipeline = gst::Pipeline::new();
            pipeline.add(&element)?;
            Ok(pipeline)
        }
    }
}

fn is_live_element(element: &gst::Element) -> bool {
    let factory = element.factory();
    factory.is_some_and(|factory| LIVE_ELEMENTS.contains(&factory.name().as_str()))
}

/// Sources first: they are asked.
fn find_live_elements(pipeline: &gst::Pipeline) -> Vec<gst::Element> {
    let elements = pipeline.iterate_recurse().into_iter().flatten();
    let mut live: Vec<_> = elements.filter(is_live_element).collect();
    // The iterator begins with what was added last.
    live.reverse();
    live.sort_by_key(|element| {
        let factory = element.factory();
        factory.is_none_or(|factory| factory.name() != LIVE_ELEMENTS[0])
    });
    live
}

fn add_element(sessions: &Sessions, element: &gst::Element, inputs: &Sender<Input>) {
    if sessions.add(element).is_some() {
        let name = element.name().into();
        let server = server(element);
        send(inputs, Input::SessionAdded { name, server });
    }
}

/// Reading statistics never waits. The main element's come last: with them the gauges are drawn.
fn send_stats(sessions: &Sessions, inputs: &Sender<Input>) {
    let all = sessions
        .lock()
        .iter()
        .map(|session| session.elements.clone())
        .collect::<Vec<_>>();
    for (index, elements) in all.into_iter().enumerate() {
        for (position, element) in elements.iter().enumerate().rev() {
            let fields = element.property::<Option<gst::Structure>>("stats");
            let Some(fields) = fields else { continue };
            let mut fields = structure::to_json(&fields);
            if let Some(tracks) = element.property::<Option<gst::Structure>>("tracks") {
                add_codecs(&mut fields, &structure::to_json(&tracks));
            }
            let ends_in = seconds_left(element.property("session-expiration"));
            fields.extend(ends_in.map(|seconds| ("ends-in".to_owned(), seconds.into())));
            let event = SessionEvent::Stats {
                element: element.name().into(),
                main: position == 0,
                fields,
            };
            send(inputs, Input::Session(index, event));
        }
    }
}

/// From now until this Unix time in seconds; 0 is one that is not known.
fn seconds_left(expiration: f64) -> Option<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    (expiration > 0.0).then(|| (expiration - now.as_secs_f64()).max(0.0))
}

/// Gives each pad's statistics the codec of its track.
fn add_codecs(fields: &mut Map<String, Value>, tracks: &Map<String, Value>) {
    for (pad, fields) in fields {
        let track = pad.split_once('_').and_then(|(_, name)| tracks.get(name));
        if let (Some(fields), Some(track)) = (fields.as_object_mut(), track) {
            let codec = track.get("codec").cloned().unwrap_or_default();
            fields.entry("codec").or_insert(codec);
        }
    }
}

/// The host that an element connects to; its URL may have more in it than may be seen.
fn server(element: &gst::Element) -> String {
    let url = element.property::<Option<String>>("api-url");
    let url = url.unwrap_or_default();
    let url = match (element.property::<bool>("local"), url.as_str()) {
        (true, "https://api.reactor.inc") => "http://localhost:8080",
        _ => &url,
    };
    let host = url.split_once("://").map_or(url, |(_, host)| host);
    let host = host.split('/').next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.to_owned()
}
