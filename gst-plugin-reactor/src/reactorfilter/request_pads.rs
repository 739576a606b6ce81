// SPDX-License-Identifier: MIT

//! The request pads of reactorfilter, which are those of its two elements: the
//! sink's that take commands, and the source's that has the model's messages. Called
//! by the application's and streaming threads; owns the ghost pads' templates.

use std::sync::LazyLock;

use gst::{glib, prelude::*, subclass::prelude::*};

use super::imp::ReactorFilter;
use crate::{element::pad_children, reactorsink::ReactorSink};

/// The templates of the pads, and those of the elements that they are pads of.
static TEMPLATES: LazyLock<Vec<(gst::PadTemplate, gst::PadTemplate)>> = LazyLock::new(|| {
    let of_sink = crate::reactorsink::pad_templates().iter();
    let of_source = crate::reactorsrc::pad_templates().iter();
    let commands = of_sink.filter(|template| template.name_template().starts_with("command"));
    let messages = of_source.filter(|template| template.name_template() == "messages");
    let with_own = commands.chain(messages).filter_map(|inner| {
        let (name, direction) = (inner.name_template(), inner.direction());
        let own = gst::PadTemplate::new(name, direction, gst::PadPresence::Request, inner.caps());
        Some((own.ok()?, inner.clone()))
    });
    with_own.collect()
});

pub fn templates() -> impl Iterator<Item = gst::PadTemplate> {
    TEMPLATES.iter().map(|(own, _)| own.clone())
}

impl ReactorFilter {
    /// The element inside that has the pads of this direction.
    fn element_with(&self, direction: gst::PadDirection) -> &gst::Element {
        match direction {
            gst::PadDirection::Sink => &self.sink,
            _ => &self.src,
        }
    }

    /// Requests the pad of the element inside, and makes it the filter's.
    pub(super) fn request_inner_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
    ) -> Option<gst::Pad> {
        let (_, inner) = TEMPLATES.iter().find(|(own, _)| own == template)?;
        let owner = self.element_with(template.direction());
        let target = owner.request_pad(inner, name, None)?;
        let pad = gst::GhostPad::builder_from_template_with_target(template, &target);
        let added = pad.and_then(|pad| {
            let element = self.obj();
            let pad = pad.name(target.name()).build();
            pad.set_active(element.current_state() > gst::State::Ready)?;
            element.add_pad(&pad)?;
            Ok(pad)
        });
        if added.is_err() {
            owner.release_request_pad(&target);
        }
        Some(added.ok()?.upcast())
    }

    pub(super) fn release_inner_pad(&self, pad: &gst::Pad) {
        let target = pad.downcast_ref::<gst::GhostPad>();
        let Some(target) = target.and_then(GhostPadExt::target) else {
            return;
        };
        // First, because whoever pushes may wait in there.
        self.element_with(pad.direction())
            .release_request_pad(&target);
        let _ = pad.set_active(false);
        let _ = self.obj().remove_pad(pad);
    }

    /// The video has ended: commands have nothing to act on any more, and do not keep
    /// the output from its end.
    pub(super) fn end_commands(&self, forwarded: &gst::StructureRef) {
        let message = forwarded.get::<gst::Message>("message").ok();
        let ended = message.filter(|message| message.type_() == gst::MessageType::Eos);
        if let Some(ended) = ended.as_ref().and_then(|message| message.src())
            && let Some(sink) = self.sink.downcast_ref::<ReactorSink>()
        {
            sink.imp().end_commands_after(ended);
        }
    }

    /// The pad of this name that has properties.
    pub(super) fn find_pad(&self, name: &str) -> Option<glib::Object> {
        let mut elements = [&self.sink, &self.src].into_iter();
        elements.find_map(|element| pad_children::find(element, name))
    }

    /// All pads that have properties.
    pub(super) fn pads_with_properties(&self) -> impl Iterator<Item = gst::Pad> {
        let elements = [&self.sink, &self.src].into_iter();
        elements.flat_map(pad_children::pads)
    }
}
