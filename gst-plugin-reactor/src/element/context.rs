// SPDX-License-Identifier: MIT

//! [`SessionContext`]: the GstContext by which the elements of a pipeline
//! that name no session find each other. Called at state changes; never joins
//! a session itself.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::{bus, inherited_settings};
use crate::{
    platform::{Code, Error},
    session::lock,
};

/// The context's type. Its structure has a string, `name`.
const CONTEXT: &str = "gst.reactor.session";

/// The context, once the element has one.
#[derive(Default)]
pub struct SessionContext(Mutex<Option<gst::Context>>);

impl SessionContext {
    /// Keeps the context if it is of our type.
    pub fn set(&self, context: &gst::Context) {
        if context.context_type() == CONTEXT {
            *lock(&self.0) = Some(context.clone());
        }
    }

    /// Drops the context at READY -> NULL, unless it is persistent.
    pub fn release(&self) {
        lock(&self.0).take_if(|context| !context.is_persistent());
    }

    /// The key of the session in the registry: the user's name for it, or one
    /// that all elements of the pipeline share.
    pub fn session_key(&self, element: &gst::Element, name: Option<&str>) -> String {
        if let Some(name) = name {
            return format!("name {name}");
        }
        if lock(&self.0).is_none() {
            let need = gst::message::NeedContext::builder(CONTEXT).src(element);
            bus::post_message(element, need.build());
        }
        // The lock is released meanwhile: the answer comes through `set`.
        let known = lock(&self.0).clone();
        let context = known.unwrap_or_else(|| self.create(element));
        let name = context
            .structure()
            .get::<String>("name")
            .unwrap_or_default();
        format!("context {name}")
    }

    /// The name of the one session that the pipeline has, or will have; `None`
    /// if it is shared without a name.
    ///
    /// # Errors
    ///
    /// When no element of the pipeline has a session, or there are several.
    pub fn session_of_pipeline(&self, element: &gst::Element) -> Result<Option<String>, Error> {
        let mut names = inherited_settings::session_names(element);
        let text = match names.len() {
            _ if names.contains(&None) => return Ok(None),
            0 if lock(&self.0).is_some() => return Ok(None),
            1 => return Ok(names.pop_first().flatten()),
            0 => {
                "there is no session to take part in: put a reactorsrc or reactorsink into the \
                 pipeline, or set session, playlist-url or clip"
            }
            _ => {
                "there are several sessions in this pipeline: set the same 'session' here and \
                 on the elements of one of them"
            }
        };
        Err(Error::api(Code::InvalidSettings, text))
    }

    fn create(&self, element: &gst::Element) -> gst::Context {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut context = gst::Context::new(CONTEXT, false);
        let structure = context.make_mut().structure_mut();
        structure.set("name", format!("pipeline {number}"));
        *lock(&self.0) = Some(context.clone());
        let have = gst::message::HaveContext::builder(context.clone()).src(element);
        bus::post_message(element, have.build());
        context
    }
}
