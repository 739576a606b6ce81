// SPDX-License-Identifier: MIT

//! The two data channels.

use bytes::Bytes;
use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCDataChannel, WebRTCDataChannelState};

use super::{TransportHandles, peer_connection::internal};
use crate::{
    platform::{
        Code, Error,
        wire::{Channel, WireFrame},
    },
    session::machine::Input,
};

pub(super) struct Channels {
    control: WebRTCDataChannel,
    data: WebRTCDataChannel,
}

impl Channels {
    /// webrtcbin must be in READY, and stay alive as long as this.
    pub(super) fn create(
        webrtcbin: &gst::Element,
        handles: &TransportHandles,
    ) -> Result<Self, Error> {
        Ok(Self {
            control: create(webrtcbin, Channel::Control, handles)?,
            data: create(webrtcbin, Channel::Data, handles)?,
        })
    }

    pub(super) fn send(&self, channel: Channel, frames: Vec<WireFrame>) -> Result<(), Error> {
        let target = match channel {
            Channel::Control => &self.control,
            Channel::Data => &self.data,
        };
        for frame in frames {
            let sent = match frame {
                WireFrame::Text(text) => target.send_string_full(Some(&text)),
                WireFrame::Binary(bytes) => {
                    target.send_data_full(Some(&glib::Bytes::from_owned(bytes)))
                }
            };
            sent.map_err(|error| {
                Error::gpu(
                    Code::Disconnected,
                    format!("sending on the {} channel: {error}", channel.label()),
                )
            })?;
        }
        Ok(())
    }
}

fn create(
    webrtcbin: &gst::Element,
    channel: Channel,
    handles: &TransportHandles,
) -> Result<WebRTCDataChannel, Error> {
    let created = webrtcbin.emit_by_name::<Option<WebRTCDataChannel>>(
        "create-data-channel",
        &[&channel.label(), &None::<gst::Structure>],
    );
    let object = created.ok_or_else(|| internal("webrtcbin made no data channel"))?;

    let inputs = handles.inputs.clone();
    object.connect_on_open(move |_| inputs(Input::ChannelOpen(channel)));
    let inputs = handles.inputs.clone();
    object.connect_on_message_data(move |_, data| {
        let bytes = data
            .map(|data| Bytes::copy_from_slice(data))
            .unwrap_or_default();
        inputs(Input::Frame(channel, WireFrame::Binary(bytes)));
    });
    let inputs = handles.inputs.clone();
    object.connect_on_message_string(move |_, text| {
        let text = text.unwrap_or_default().to_owned();
        inputs(Input::Frame(channel, WireFrame::Text(text)));
    });
    let inputs = handles.inputs.clone();
    object.connect_on_error(move |_, error| {
        inputs(Input::TransportFailed(Error::gpu(
            Code::Disconnected,
            format!("the {} channel failed: {error}", channel.label()),
        )));
    });
    let inputs = handles.inputs.clone();
    object.connect_on_close(move |_| {
        inputs(Input::TransportFailed(Error::gpu(
            Code::Disconnected,
            format!("the server closed the {} channel", channel.label()),
        )));
    });
    if object.ready_state() == WebRTCDataChannelState::Open {
        (handles.inputs)(Input::ChannelOpen(channel));
    }
    Ok(object)
}
