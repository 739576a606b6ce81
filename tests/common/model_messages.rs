// SPDX-License-Identifier: MIT

//! What the model says, by the signal `message` of an element.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use serde::de::DeserializeOwned;

/// Collects the data of the messages of this type. Panics, in the element's thread, at data of
/// another shape.
pub fn collect<T>(element: &gst::Element, wanted: &'static str) -> Arc<Mutex<Vec<T>>>
where
    T: DeserializeOwned + Send + 'static,
{
    let collected = Arc::new(Mutex::new(Vec::new()));
    let list = collected.clone();
    element.connect("message", false, move |values| {
        let name = values[1].get::<String>().expect("a name");
        let json = values[2].get::<String>().expect("JSON");
        if name == wanted {
            let data = serde_json::from_str(&json).expect(wanted);
            list.lock().unwrap().push(data);
        }
        None
    });
    collected
}
