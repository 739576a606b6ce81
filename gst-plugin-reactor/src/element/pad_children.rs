// SPDX-License-Identifier: MIT

//! The pads that have properties, as children of their element (GstChildProxy), so
//! that gst-launch-1.0 can set them: `messages::format=text`.

use gst::{glib, prelude::*};

/// Whether a pad has properties of its own.
fn has_properties(pad: &gst::Pad) -> bool {
    let own = pad.type_();
    let properties = pad.list_properties();
    properties.iter().any(|spec| spec.owner_type() == own)
}

fn pads(element: &gst::Element) -> impl Iterator<Item = gst::Pad> {
    element.pads().into_iter().filter(has_properties)
}

/// The pad of this name.
pub fn find(element: &gst::Element, name: &str) -> Option<glib::Object> {
    let pad = element.static_pad(name).filter(has_properties);
    pad.map(Cast::upcast)
}

pub fn count(element: &gst::Element) -> u32 {
    u32::try_from(pads(element).count()).unwrap_or(u32::MAX)
}

/// The pad with this index, and after the pads what is `inside`.
pub fn nth(
    element: &gst::Element,
    index: u32,
    inside: impl FnOnce(u32) -> Option<glib::Object>,
) -> Option<glib::Object> {
    match pads(element).nth(index as usize) {
        Some(pad) => Some(pad.upcast()),
        None => inside(index.checked_sub(count(element))?),
    }
}

/// Adds a pad to its element, and says that there is another child.
///
/// # Errors
///
/// As `gst_element_add_pad`.
pub fn add(
    element: &(impl IsA<gst::Element> + IsA<gst::ChildProxy>),
    pad: &gst::Pad,
) -> Result<(), glib::BoolError> {
    element.add_pad(pad)?;
    element.child_added(pad, &pad.name());
    Ok(())
}

/// Removes a pad from its element, and says that there is a child less.
pub fn remove(element: &(impl IsA<gst::Element> + IsA<gst::ChildProxy>), pad: &gst::Pad) {
    if element.remove_pad(pad).is_ok() {
        element.child_removed(pad, &pad.name());
    }
}
