// SPDX-License-Identifier: MIT

//! The model's commands as the children of a live element (GstChildProxy): made on
//! the element's event thread once the schema is known, kept until another schema
//! comes. What is set becomes commands: the changes of one turn are one command.
//!
//! Any thread sets properties and looks children up; no lock is held while signals
//! are emitted or control bindings followed, which only the event thread does.

mod child;
mod class;
#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use gst::{glib, prelude::*};

use self::{child::ReactorCommand, class::CommandClass};
use super::{SessionMembership, debug::CAT, errors, pad_children};
use crate::{
    platform::{Code, Error, http::sanitize, schema::Schema},
    session::{lock, run_after},
};

/// Changes of a command's properties within this time of the first are one command.
/// As long as what a program sets in one turn of its main loop may take.
const TURN: Duration = Duration::from_millis(20);

/// The most commands that become children.
const MAX_CHILDREN: usize = 256;

/// The most names that are remembered of children that were looked for too early.
const MAX_ASKED: usize = 64;

thread_local! {
    /// This thread follows control bindings.
    static SYNCING: Cell<bool> = const { Cell::new(false) };
}

/// The membership of an element that has one.
type MembershipOf = fn(&gst::Element) -> Option<&SessionMembership>;

/// The children of an element.
#[derive(Default)]
pub struct CommandChildren(Arc<Inner>);

#[derive(Default)]
struct Inner {
    owner: OnceLock<(glib::WeakRef<gst::Element>, MembershipOf)>,
    state: Mutex<State>,
    automation: Mutex<Automation>,
}

#[derive(Default)]
struct State {
    children: Vec<ReactorCommand>,
    /// There is a session, and its schema is known.
    is_open: bool,
    /// Children are being added: what their signals' handlers set is sent
    /// afterwards.
    is_held: bool,
    /// The end of a turn is awaited.
    in_turn: bool,
    /// What changed, the earliest first.
    changed: Vec<ReactorCommand>,
    /// The names that were looked for before the first schema.
    asked: BTreeSet<String>,
    is_known: bool,
}

/// When control bindings were followed last, in stream time.
#[derive(Default)]
struct Automation {
    last: Option<gst::ClockTime>,
    is_queued: bool,
}

impl Automation {
    /// Whether bindings are to be followed at this position, `rate` times per second at
    /// most. Pads may be at different positions: the one furthest ahead leads, or values
    /// would go to and fro.
    fn follows(&mut self, position: gst::ClockTime, rate: u32) -> bool {
        let interval = gst::ClockTime::SECOND / u64::from(rate.max(1));
        let is_early = |last: gst::ClockTime| position < last + interval;
        if self.is_queued || self.last.is_some_and(is_early) {
            return false;
        }
        self.last = Some(position);
        true
    }
}

impl CommandChildren {
    /// Names the element, once it is made.
    pub fn attach(&self, element: &gst::Element, membership: MembershipOf) {
        let _ = self.0.owner.set((element.downgrade(), membership));
    }

    /// The child of this name: a command, before an element that is `inside`.
    pub fn find(
        &self,
        name: &str,
        inside: impl FnOnce() -> Option<glib::Object>,
    ) -> Option<glib::Object> {
        let command = {
            let state = lock(&self.0.state);
            let child = state.children.iter().find(|child| child.name() == name);
            child.map(|child| child.clone().upcast())
        };
        let found = command.or_else(inside);
        if found.is_none() {
            self.remember_asked(name);
        }
        found
    }

    /// Remembers a name that was looked for in vain. gst-launch-1.0 sets what it
    /// does not find when a child is added, and says nothing if none ever is.
    fn remember_asked(&self, name: &str) {
        let mut state = lock(&self.0.state);
        if !state.is_known && state.asked.len() < MAX_ASKED {
            state.asked.insert(name.to_owned());
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        // Few: there are at most MAX_CHILDREN.
        u32::try_from(lock(&self.0.state).children.len()).unwrap_or(u32::MAX)
    }

    /// The child with this index: the commands in alphabetical order, and then
    /// what is `inside`.
    pub fn nth(
        &self,
        index: u32,
        inside: impl FnOnce(u32) -> Option<glib::Object>,
    ) -> Option<glib::Object> {
        let command = {
            let state = lock(&self.0.state);
            let child = state.children.get(index as usize);
            child.map(|child| child.clone().upcast())
        };
        command.or_else(|| inside(index.checked_sub(self.count())?))
    }

    /// Whether an object is such a child.
    pub fn is_command(object: &glib::Object) -> bool {
        object.is::<ReactorCommand>()
    }

    /// Makes children of the commands of a session, and sends what was set. A
    /// command that another model takes in another way is another child, with the
    /// values that this model takes as well.
    pub fn update(&self, element: &gst::Element, schema: &Schema) {
        let Some(proxy) = element.dynamic_cast_ref::<gst::ChildProxy>() else {
            return;
        };
        let (classes, left_out) = command_classes(schema);
        let before = lock(&self.0.state).children.clone();
        let mut added = Vec::new();
        let children = classes.into_iter().filter_map(|class| {
            let is_it = |child: &&ReactorCommand| {
                child
                    .class_of_command()
                    .is_some_and(|of| Arc::ptr_eq(of, &class))
            };
            if let Some(child) = before.iter().find(is_it) {
                return Some(child.clone());
            }
            let child = ReactorCommand::new(class, element, Arc::downgrade(&self.0))?;
            added.push(child.clone());
            Some(child)
        });
        let children: Vec<_> = children.collect();
        let is_gone = |child: &&ReactorCommand| !children.contains(child);
        let removed: Vec<_> = before.iter().filter(is_gone).cloned().collect();
        let asked = {
            let mut state = lock(&self.0.state);
            state.children.clone_from(&children);
            // A trigger has no value, so that nothing else sends it.
            state.changed.retain(|child| children.contains(child));
            (state.is_open, state.is_held, state.is_known) = (true, true, true);
            std::mem::take(&mut state.asked)
        };
        let lost = keep_values(&removed, &added);
        for child in removed {
            proxy.child_removed(&child, &child.name());
            child.unparent();
        }
        for child in &added {
            proxy.child_added(child, &child.name());
        }
        let untouched = self.0.release(&children);
        self.0.flush();
        if left_out > 0 && !added.is_empty() {
            warn_of_left_out(element, left_out);
        }
        for name in asked {
            self.0.warn_if_unset(element, schema, &name, &untouched);
        }
        if !lost.is_empty() {
            let text = format!(
                "the session has another model now, which does not take what was set of {}",
                lost.join(", ")
            );
            warn(element, &Error::api(Code::BadRequest, text));
        }
    }

    /// Sends nothing any more: the session was left. What was set stays.
    pub fn close(&self) {
        let children = {
            let mut state = lock(&self.0.state);
            state.is_open = false;
            state.changed.clear();
            state.children.clone()
        };
        for child in children {
            child.reset();
        }
        *lock(&self.0.automation) = Automation::default();
    }

    /// Takes the children off the element, which is disposed of.
    pub fn dispose(&self) {
        let children = std::mem::take(&mut lock(&self.0.state).children);
        for child in children {
            child.unparent();
        }
    }

    /// Follows the control bindings on the event thread: media of this stream time
    /// has passed. At most `rate` times per second of media.
    pub fn follow(&self, membership: &SessionMembership, position: gst::ClockTime, rate: u32) {
        if !lock(&self.0.automation).follows(position, rate) {
            return;
        }
        let children = lock(&self.0.state).children.clone();
        if !children
            .iter()
            .any(|child| child.has_active_control_bindings())
        {
            return;
        }
        let Ok(joined) = membership.require_session() else {
            return;
        };
        lock(&self.0.automation).is_queued = true;
        let inner = self.0.clone();
        (joined.reply_executor)(Box::new(move || inner.sync(&children, position)));
    }

    /// Media may come from an earlier position: after a seek, or without a pad that led.
    pub fn restart_following(&self) {
        lock(&self.0.automation).last = None;
    }
}

impl Inner {
    /// Lets go of what the handlers of signals have set, and adds what was set for
    /// another session. Returns the names of the commands with no value at all.
    fn release(&self, children: &[ReactorCommand]) -> BTreeSet<String> {
        let mut untouched = BTreeSet::new();
        let mut state = lock(&self.state);
        state.is_held = false;
        for child in children {
            let is_new = !state.changed.contains(child);
            if child.change_all() && is_new {
                state.changed.push(child.clone());
            } else if is_new {
                untouched.insert(child.name().to_string());
            }
        }
        untouched
    }

    /// A child's property was set.
    fn changed(self: &Arc<Self>, child: &ReactorCommand) {
        {
            let mut state = lock(&self.state);
            if !state.children.contains(child) {
                drop(state);
                return self.refuse_stale(child);
            }
            // `sync` sends what it has changed itself.
            if !state.is_open || SYNCING.with(Cell::get) {
                return;
            }
            if !state.changed.contains(child) {
                state.changed.push(child.clone());
            }
            if state.is_held || std::mem::replace(&mut state.in_turn, true) {
                return;
            }
        }
        let weak = Arc::downgrade(self);
        run_after(TURN, move || {
            if let Some(inner) = weak.upgrade() {
                inner.flush();
            }
        });
    }

    /// Sends what has changed, as far as it is complete.
    fn flush(&self) {
        let changed = {
            let mut state = lock(&self.state);
            state.in_turn = false;
            if !state.is_open || state.is_held {
                return;
            }
            std::mem::take(&mut state.changed)
        };
        self.send(changed);
    }

    fn send(&self, children: Vec<ReactorCommand>) {
        self.with_owner(|element, membership| {
            for child in children {
                if let Some((command, by_binding)) = child.take() {
                    membership.send_child_command(element, command, by_binding);
                }
            }
        });
    }

    /// Sets what is bound, and sends what has changed by that at once. What is set by
    /// hand waits for the end of its turn.
    fn sync(self: &Arc<Self>, children: &[ReactorCommand], position: gst::ClockTime) {
        let bound = children.iter();
        let bound = bound.filter(|child| child.has_active_control_bindings());
        let mut bound: Vec<_> = bound.cloned().collect();
        SYNCING.with(|syncing| syncing.set(true));
        for child in &bound {
            // Fails for a binding without a value at this time.
            let _ = child.sync_values(position);
        }
        SYNCING.with(|syncing| syncing.set(false));
        lock(&self.automation).is_queued = false;
        {
            let state = lock(&self.state);
            if !state.is_open || state.is_held {
                return;
            }
            let is_due =
                |child: &_| state.children.contains(child) && !state.changed.contains(child);
            bound.retain(is_due);
        }
        self.send(bound);
    }

    /// A child that was removed has been set: the application has kept it.
    fn refuse_stale(&self, child: &ReactorCommand) {
        let name = child.name();
        let text = format!(
            "this child \"{}\" is of a model that the session had before: get the present one by \
             gst_child_proxy_get_child_by_name()",
            sanitize(&name)
        );
        self.report(&name, Error::api(Code::BadRequest, text));
    }

    /// Says on the bus what is wrong with a value.
    fn report(&self, command: &str, error: Error) {
        self.with_owner(|element, membership| {
            membership.refuse_child_command(element, command, error);
        });
    }

    /// Says that a name which was looked for early is none, or that what was to be
    /// set then was not.
    fn warn_if_unset(
        &self,
        element: &gst::Element,
        schema: &Schema,
        name: &str,
        untouched: &BTreeSet<String>,
    ) {
        let is_element = element
            .downcast_ref::<gst::Bin>()
            .is_some_and(|bin| bin.by_name(name).is_some());
        if is_element || pad_children::find(element, name).is_some() {
            return;
        }
        let error = match schema.commands().any(|command| command == name) {
            false => schema.unknown_command(name),
            true if untouched.contains(name) => {
                let text = format!(
                    "nothing was set of the command \"{name}\", which was looked for before it \
                     was known: no such property, or a value that it does not take{}",
                    schema.describe_parameters(name)
                );
                Error::api(Code::BadRequest, text)
            }
            true => return,
        };
        warn(element, &error);
    }

    fn with_owner(&self, run: impl FnOnce(&gst::Element, &SessionMembership)) {
        if let Some((element, membership)) = self.owner.get()
            && let Some(element) = element.upgrade()
            && let Some(membership) = membership(&element)
        {
            run(&element, membership);
        }
    }
}

fn warn(element: &gst::Element, error: &Error) {
    gst::warning!(CAT, obj = element, "{error}");
    errors::post_warning(element, error, None);
}

/// The classes of the commands that become children, and the number of the others.
fn command_classes(schema: &Schema) -> (Vec<Arc<CommandClass>>, usize) {
    let names = schema.commands().take(MAX_CHILDREN);
    let classes: Vec<_> = names
        .filter_map(|name| CommandClass::of(schema, name))
        .collect();
    let left_out = schema.commands().count() - classes.len();
    (classes, left_out)
}

fn warn_of_left_out(element: &gst::Element, count: usize) {
    let text = format!(
        "{count} of the model's commands are no children: a model has at most {MAX_CHILDREN}, and a \
         process {} that differ; the action send-command sends them all",
        class::MAX_CLASSES
    );
    warn(element, &Error::api(Code::BadRequest, text));
}

/// Gives the children of another model what was set of those before. Returns the
/// properties whose values no child has now.
fn keep_values(removed: &[ReactorCommand], added: &[ReactorCommand]) -> Vec<String> {
    let lost = removed.iter().flat_map(|before| {
        let now = added.iter().find(|child| child.name() == before.name());
        match now {
            Some(child) => child.keep_values(before),
            None => before.set_properties(),
        }
    });
    lost.collect()
}

/// Has the control bindings of an element's children follow the media of its pad.
pub fn follow_media(pad: &gst::Pad, membership: MembershipOf) {
    let mask = gst::PadProbeType::BUFFER
        | gst::PadProbeType::BUFFER_LIST
        | gst::PadProbeType::EVENT_DOWNSTREAM
        | gst::PadProbeType::EVENT_FLUSH;
    pad.add_probe(mask, move |pad, info| {
        let pts = match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => buffer.pts(),
            Some(gst::PadProbeData::BufferList(list)) => list.get(0).and_then(|b| b.pts()),
            Some(gst::PadProbeData::Event(event)) => {
                let begins = [gst::EventType::Segment, gst::EventType::FlushStop];
                if begins.contains(&event.type_())
                    && let Some(element) = pad.parent_element()
                    && let Some(membership) = membership(&element)
                {
                    membership.commands.restart_following();
                }
                None
            }
            _ => None,
        };
        if let Some(pts) = pts
            && let Some(segment) = pad.sticky_event::<gst::event::Segment>(0)
            && let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>()
            && let Some(position) = segment.to_stream_time(pts)
            && let Some(element) = pad.parent_element()
            && let Some(membership) = membership(&element)
        {
            membership.follow_controls(position);
        }
        gst::PadProbeReturn::Ok
    });
}
