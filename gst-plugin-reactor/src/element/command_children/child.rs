// SPDX-License-Identifier: MIT

//! [`ReactorCommand`]: a command of the model's as a GObject, whose properties are
//! the parameters. Any thread may set them; the element's [`CommandChildren`](super)
//! decides when the command is sent.

use gst::{glib, prelude::*, subclass::prelude::*};

use super::{CommandClass, Inner};
use crate::platform::commands::ModelCommand;

/// The property that says what the command does.
pub const SUMMARY: &str = "command-summary";

glib::wrapper! {
    /// The parent of all classes of commands.
    pub struct ReactorCommand(ObjectSubclass<imp::ReactorCommand>) @extends gst::Object;
}

impl ReactorCommand {
    /// Makes the child of an element for a command. It has to be unparented before
    /// the element is disposed of.
    pub(super) fn new(
        class: std::sync::Arc<CommandClass>,
        element: &gst::Element,
        owner: std::sync::Weak<Inner>,
    ) -> Option<Self> {
        let mut properties = [
            ("name", class.name.to_value()),
            ("parent", element.upcast_ref::<gst::Object>().to_value()),
        ];
        let object = glib::Object::with_mut_values(class.type_, &mut properties);
        let object = object.downcast::<Self>().ok()?;
        let _ = object.imp().setup.set(imp::Setup { class, owner });
        Some(object)
    }

    pub(super) fn class_of_command(&self) -> Option<&std::sync::Arc<CommandClass>> {
        self.imp().setup.get().map(|setup| &setup.class)
    }

    /// The command, if it has changed and no required parameter is missing, and
    /// whether all changes come from control bindings.
    pub(super) fn take(&self) -> Option<(ModelCommand, bool)> {
        self.imp().take()
    }

    /// Counts all that was set as changed, for a new session; returns whether there
    /// is any.
    pub(super) fn change_all(&self) -> bool {
        self.imp().change_all()
    }

    /// Forgets that the command was to be sent.
    pub(super) fn reset(&self) {
        self.imp().reset();
    }

    /// Takes over what was set of the same command of another model. Returns the
    /// properties whose values this one does not take.
    pub(super) fn keep_values(&self, of: &Self) -> Vec<String> {
        self.imp().keep_values(of.imp())
    }

    /// The properties that have a value, `COMMAND::PROPERTY`.
    pub(super) fn set_properties(&self) -> Vec<String> {
        self.imp().set_properties()
    }
}

mod imp {
    use std::{
        cell::Cell,
        collections::BTreeMap,
        path::Path,
        sync::{Arc, LazyLock, Mutex, OnceLock, Weak},
    };

    use serde_json::{Map, Value};

    use super::{
        super::{
            SYNCING,
            class::{Argument, Target, fits, parse_arguments, to_argument, to_property},
        },
        *,
    };
    use crate::{
        platform::{Error, commands::CommandFile},
        session::lock,
    };

    pub struct Setup {
        pub class: Arc<CommandClass>,
        pub owner: Weak<Inner>,
    }

    #[derive(Default)]
    #[allow(
        missing_debug_implementations,
        reason = "a GObject is described by its properties"
    )]
    pub struct ReactorCommand {
        pub(super) setup: OnceLock<Setup>,
        state: Mutex<State>,
    }

    #[derive(Default)]
    struct State {
        /// By the index of the parameter.
        given: BTreeMap<usize, Argument>,
        /// Of a command whose parameters are not known.
        arguments: Option<Map<String, Value>>,
        /// To be sent.
        changed: bool,
        /// By anything but a control binding.
        changed_by_hand: bool,
        /// A control binding holds the trigger.
        is_triggered: bool,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for ReactorCommand {
        const NAME: &'static str = "GstReactorCommand";
        type Type = super::ReactorCommand;
        type ParentType = gst::Object;
    }

    impl ObjectImpl for ReactorCommand {
        fn properties() -> &'static [glib::ParamSpec] {
            static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
                let spec = glib::ParamSpecString::builder(SUMMARY).nick("Summary");
                let spec = spec.blurb("What the model's author says about the command");
                vec![spec.read_only().build()]
            });
            &PROPERTIES
        }

        fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
            let Some(setup) = self.setup.get() else {
                return;
            };
            let Some(owner) = setup.owner.upgrade() else {
                return;
            };
            match self.change(&setup.class, value, pspec.name()) {
                Ok(true) => owner.changed(&self.obj()),
                Ok(false) => {}
                Err(error) => owner.report(&setup.class.name, error),
            }
        }

        fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
            let default = || pspec.default_value().clone();
            let Some(class) = self.setup.get().map(|setup| &setup.class) else {
                return default();
            };
            if pspec.name() == SUMMARY {
                return class.summary.to_value();
            }
            let state = lock(&self.state);
            let value = match class.target(pspec.name()) {
                Some(Target::Parameter(n)) => {
                    let given = state.given.get(&n);
                    given.and_then(|argument| to_property(argument, pspec.value_type()))
                }
                Some(Target::Arguments) => {
                    let arguments = state.arguments.clone();
                    arguments.map(|arguments| Value::from(arguments).to_string().to_value())
                }
                Some(Target::Trigger) | None => None,
            };
            value.unwrap_or_else(default)
        }
    }

    impl GstObjectImpl for ReactorCommand {}

    impl ReactorCommand {
        /// Takes a property's value; returns whether the command is to be sent.
        fn change(
            &self,
            class: &CommandClass,
            value: &glib::Value,
            property: &str,
        ) -> Result<bool, Error> {
            let by_hand = !SYNCING.with(Cell::get);
            let Some(target) = class.target(property) else {
                return Ok(false);
            };
            let mut state = lock(&self.state);
            match target {
                Target::Trigger => {
                    let is_true = value.get().unwrap_or(false);
                    // A binding sets what it has set before: a command is where it becomes
                    // true.
                    let was_true = !by_hand && std::mem::replace(&mut state.is_triggered, is_true);
                    if !is_true || was_true {
                        return Ok(false);
                    }
                }
                Target::Arguments => {
                    let text = value.get::<Option<String>>().ok().flatten();
                    let text = text.filter(|text| !text.trim().is_empty());
                    let parse = |text: String| parse_arguments(&class.name, &text);
                    state.arguments = text.map(parse).transpose()?;
                }
                Target::Parameter(n) => {
                    let Some(parameter) = class.parameters.get(n) else {
                        return Ok(false);
                    };
                    let argument = to_argument(&class.name, parameter, value)?;
                    // A binding sets what it has set before.
                    if !by_hand && argument.as_ref() == state.given.get(&n) {
                        return Ok(false);
                    }
                    match argument {
                        Some(argument) => state.given.insert(n, argument),
                        None => state.given.remove(&n),
                    };
                }
            }
            state.changed = true;
            state.changed_by_hand |= by_hand;
            Ok(true)
        }

        pub(super) fn change_all(&self) -> bool {
            let mut state = lock(&self.state);
            let any = !state.given.is_empty() || state.arguments.is_some();
            state.changed |= any;
            state.changed_by_hand |= any;
            any
        }

        pub(super) fn reset(&self) {
            let mut state = lock(&self.state);
            (state.changed, state.changed_by_hand) = (false, false);
        }

        pub(super) fn keep_values(&self, of: &Self) -> Vec<String> {
            let (Some(ours), Some(theirs)) = (self.setup.get(), of.setup.get()) else {
                return Vec::new();
            };
            let (given, arguments) = {
                let state = lock(&of.state);
                (state.given.clone(), state.arguments.clone())
            };
            let (mut kept, mut lost) = (BTreeMap::new(), Vec::new());
            for (n, argument) in given {
                let name = theirs.class.parameters.get(n).map(|p| &p.name);
                let mut parameters = ours.class.parameters.iter();
                let same = parameters.position(|p| Some(&p.name) == name && fits(&argument, p));
                match same {
                    Some(same) => {
                        kept.insert(same, argument);
                    }
                    None => lost.extend(theirs.class.property_of(Target::Parameter(n))),
                }
            }
            let keeps_arguments = ours.class.property_of(Target::Arguments).is_some();
            if arguments.is_some() && !keeps_arguments {
                lost.extend(theirs.class.property_of(Target::Arguments));
            }
            let mut state = lock(&self.state);
            state.given = kept;
            state.arguments = arguments.filter(|_| keeps_arguments);
            lost
        }

        pub(super) fn set_properties(&self) -> Vec<String> {
            let Some(class) = self.setup.get().map(|setup| &setup.class) else {
                return Vec::new();
            };
            let state = lock(&self.state);
            let given = state.given.keys().map(|&n| Target::Parameter(n));
            let arguments = state.arguments.is_some().then_some(Target::Arguments);
            let targets = given.chain(arguments);
            targets.filter_map(|t| class.property_of(t)).collect()
        }

        pub(super) fn take(&self) -> Option<(ModelCommand, bool)> {
            let class = &self.setup.get()?.class;
            let mut state = lock(&self.state);
            let mut required = class.parameters.iter().enumerate();
            let is_missing = |(n, parameter): (usize, &crate::platform::schema::Parameter)| {
                parameter.required && !state.given.contains_key(&n)
            };
            if !state.changed || required.any(is_missing) {
                return None;
            }
            let by_binding = !state.changed_by_hand;
            (state.changed, state.changed_by_hand) = (false, false);
            let mut data = state.arguments.clone().unwrap_or_default();
            let mut files = BTreeMap::new();
            for (n, argument) in &state.given {
                let Some(parameter) = class.parameters.get(*n) else {
                    continue;
                };
                let name = parameter.name.clone();
                match argument {
                    Argument::Json(value) => {
                        data.insert(name, value.clone());
                    }
                    Argument::File(path) => {
                        let path = <Path as ToOwned>::to_owned(path);
                        files.insert(name, CommandFile::Local(path));
                    }
                }
            }
            let name = class.name.clone();
            Some((ModelCommand { name, data, files }, by_binding))
        }
    }
}
