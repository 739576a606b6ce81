// SPDX-License-Identifier: MIT

//! The children of a live element (GstChildProxy): the model's commands, before the
//! pads that have properties, before the elements inside. Pads are among them so
//! that gst-launch-1.0 can set their properties: `messages::format=text`.

use gst::{glib, prelude::*, subclass::prelude::*};

use super::lifecycle::Lifecycle;

/// Whether a pad has properties of its own.
fn has_properties(pad: &gst::Pad) -> bool {
    let own = pad.type_();
    let properties = pad.list_properties();
    properties.iter().any(|spec| spec.owner_type() == own)
}

/// The pads that have properties.
pub fn pads(element: &gst::Element) -> impl Iterator<Item = gst::Pad> + use<> {
    element.pads().into_iter().filter(has_properties)
}

/// The pad of this name.
pub fn find(element: &gst::Element, name: &str) -> Option<glib::Object> {
    let pad = element.static_pad(name).filter(has_properties);
    pad.map(Cast::upcast)
}

fn count(element: &gst::Element) -> u32 {
    u32::try_from(pads(element).count()).unwrap_or(u32::MAX)
}

/// For `ChildProxyImpl::child_by_name`.
pub fn child_by_name<T: Lifecycle + ChildProxyImpl>(imp: &T, name: &str) -> Option<glib::Object> {
    let object = imp.obj();
    let pad = || find(object.upcast_ref(), name);
    let inside = || pad().or_else(|| imp.parent_child_by_name(name));
    imp.membership().commands.find(name, inside)
}

/// For `ChildProxyImpl::child_by_index`.
pub fn child_by_index<T: Lifecycle + ChildProxyImpl>(imp: &T, index: u32) -> Option<glib::Object> {
    let object = imp.obj();
    let element = object.upcast_ref();
    let others = |index: u32| match pads(element).nth(index as usize) {
        Some(pad) => Some(pad.upcast()),
        None => imp.parent_child_by_index(index.checked_sub(count(element))?),
    };
    imp.membership().commands.nth(index, others)
}

/// For `ChildProxyImpl::children_count`.
pub fn children_count<T: Lifecycle + ChildProxyImpl>(imp: &T) -> u32 {
    let pads = count(imp.obj().upcast_ref());
    imp.membership().commands.count() + pads + imp.parent_children_count()
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
