// SPDX-License-Identifier: MIT

//! The two data channels (RFC 8831). The transport thread creates them and sends;
//! webrtcbin's threads call back, and each callback only reports. Frames are not
//! decoded here.

use std::{
    collections::VecDeque,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCDataChannel, WebRTCDataChannelState};

use super::handles::{ReportSender, TransportHandles};
use crate::{
    gst_helpers::internal,
    platform::{
        Code, Error, lock,
        wire::{Channel, WireFrame},
    },
    session::machine::Input,
};

/// How long a server may take to acknowledge what was sent last: a round trip and a
/// retransmission.
const CLOSE_LIMIT: Duration = Duration::from_millis(300);
const CLOSE_POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Two for each channel, and a server may open some.
const MAX_KEPT_BINS: usize = 32;

pub(super) struct DataChannels {
    control: WebRTCDataChannel,
    data: WebRTCDataChannel,
}

impl DataChannels {
    /// webrtcbin must be in READY, and must outlive the channels.
    pub(super) fn create(
        webrtcbin: &gst::Element,
        handles: &TransportHandles,
    ) -> Result<Self, Error> {
        take_errors(webrtcbin, &handles.reports);
        keep_bins(webrtcbin);
        Ok(Self {
            control: create_channel(webrtcbin, Channel::Control, &handles.reports)?,
            data: create_channel(webrtcbin, Channel::Data, &handles.reports)?,
        })
    }

    /// # Errors
    ///
    /// `Disconnected` if the channel does not take a frame.
    pub(super) fn send(&self, channel: Channel, frames: Vec<WireFrame>) -> Result<(), Error> {
        let target = match channel {
            Channel::Control => &self.control,
            Channel::Data => &self.data,
        };
        let label = channel.label();
        for frame in frames {
            // GStreamer before 1.23.1 does not free what it refuses for that reason.
            if target.ready_state() != WebRTCDataChannelState::Open {
                return Err(disconnected(format!("the {label} channel is closed")));
            }
            let sent = match frame {
                WireFrame::Text(text) => target.send_string_full(Some(&text)),
                WireFrame::Binary(bytes) => {
                    target.send_data_full(Some(&glib::Bytes::from_owned(bytes)))
                }
            };
            sent.map_err(|error| disconnected(format!("sending on the {label} channel: {error}")))?;
        }
        Ok(())
    }

    /// Closes the channels: what was sent on them arrives first (RFC 8831, 6.7).
    /// Waits for that, at most [`CLOSE_LIMIT`].
    pub(super) fn close(&self, webrtcbin: &gst::Element) {
        let channels = [&self.control, &self.data];
        let deadline = Instant::now() + CLOSE_LIMIT;
        let wait_until = |condition: fn(&WebRTCDataChannel) -> bool| {
            while !channels.into_iter().all(condition) && Instant::now() < deadline {
                thread::sleep(CLOSE_POLL_INTERVAL);
            }
        };
        wait_until(|channel| channel.buffered_amount() == 0);
        wait_for_pushes(webrtcbin, deadline);
        for channel in channels {
            channel.close();
        }
        wait_until(|channel| channel.ready_state() == WebRTCDataChannelState::Closed);
    }
}

/// Waits until what has left the channels' buffers is with SCTP.
///
/// A channel of webrtcbin counts a message as sent just before it pushes it, and one that
/// closes then takes the pad away that it would be pushed to (GStreamer before 1.23.1).
fn wait_for_pushes(webrtcbin: &gst::Element, deadline: Instant) {
    let pads = children(webrtcbin, "sctpenc").flat_map(|encoder| encoder.sink_pads());
    let sources = pads.filter_map(|pad| pad.peer()?.downcast::<gst::GhostPad>().ok()?.target());
    for source in sources {
        let (idle, is_idle) = mpsc::channel();
        // It is called at once if nothing is being pushed.
        let probe = source.add_probe(gst::PadProbeType::IDLE, move |_, _| {
            let _ = idle.send(());
            gst::PadProbeReturn::Remove
        });
        let left = deadline.saturating_duration_since(Instant::now());
        if let (Err(_), Some(probe)) = (is_idle.recv_timeout(left), probe) {
            source.remove_probe(probe);
        }
    }
}

/// The elements of a kind that webrtcbin has.
fn children(webrtcbin: &gst::Element, factory: &'static str) -> impl Iterator<Item = gst::Element> {
    let bin = webrtcbin.downcast_ref::<gst::Bin>();
    let elements = bin.map(|bin| bin.children()).unwrap_or_default();
    elements
        .into_iter()
        .filter(move |element| element.factory().is_some_and(|f| f.name() == factory))
}

/// Takes SCTP out of the flow of packets, and waits for the packet that it handles now.
///
/// The packet that establishes the association has webrtcbin request a pad of sctpenc
/// for each channel. If sctpenc stops meanwhile, it reads its association when that is
/// gone ("`g_object_get: assertion 'G_IS_OBJECT (object)' failed`", seen with 1.22).
pub(super) fn detach(webrtcbin: &gst::Element) {
    for decoder in children(webrtcbin, "sctpdec") {
        let Some(sink) = decoder.static_pad("sink") else {
            continue;
        };
        if let Some(peer) = sink.peer() {
            let _ = peer.unlink(&sink);
        }
        let _ = sink.set_active(false);
    }
}

/// Gives the elements inside the channels a bus of their own.
///
/// The bin that webrtcbin puts around each drops error messages without freeing them, with the
/// element that they name, and then closes a channel whose elements may be gone (GStreamer before
/// 1.29.2). An element that sends while the connection is taken down has such an error.
fn take_errors(webrtcbin: &gst::Element, reports: &ReportSender) {
    let Some(bin) = webrtcbin.downcast_ref::<gst::Bin>() else {
        return;
    };
    let reports = reports.clone();
    bin.connect_deep_element_added(move |_, parent, element| {
        if !is_channel_bin(parent.upcast_ref()) {
            return;
        }
        let reports = reports.clone();
        let bus = gst::Bus::new();
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Error(error) = message.view() {
                let error = error.error();
                reports.fail(disconnected(format!("a data channel failed: {error}")));
            }
            gst::BusSyncReply::Drop
        });
        element.set_bus(Some(&bus));
    });
}

/// Keeps the bins of the channels that have closed.
///
/// A channel that the server closes while this side does may use its bin once more when webrtcbin
/// has dropped that (GStreamer before 1.29.2): "`gst_element_get_static_pad: assertion
/// 'GST_IS_ELEMENT (element)' failed`", or a crash.
fn keep_bins(webrtcbin: &gst::Element) {
    let Some(bin) = webrtcbin.downcast_ref::<gst::Bin>() else {
        return;
    };
    let kept = Mutex::new(VecDeque::new());
    bin.connect_element_added(move |_, element| {
        if !is_channel_bin(element) {
            return;
        }
        let mut kept = lock(&kept);
        kept.push_back(element.clone());
        if kept.len() > MAX_KEPT_BINS {
            kept.pop_front();
        }
    });
}

/// Whether an element is the bin that webrtcbin puts around one end of a channel.
fn is_channel_bin(element: &gst::Element) -> bool {
    element.type_().name() == "WebRTCErrorIgnoreBin"
}

fn create_channel(
    webrtcbin: &gst::Element,
    channel: Channel,
    reports: &ReportSender,
) -> Result<WebRTCDataChannel, Error> {
    let created = webrtcbin.emit_by_name::<Option<WebRTCDataChannel>>(
        "create-data-channel",
        &[&channel.label(), &None::<gst::Structure>],
    );
    let object = created.ok_or_else(|| internal("webrtcbin made no data channel"))?;

    let sender = reports.clone();
    object.connect_on_open(move |_| sender.input(Input::ChannelOpened(channel)));
    let sender = reports.clone();
    object.connect_on_message_data(move |_, data| {
        let bytes = data.map(|data| Bytes::copy_from_slice(data));
        let frame = WireFrame::Binary(bytes.unwrap_or_default());
        sender.input(Input::FrameReceived(channel, frame));
    });
    let sender = reports.clone();
    object.connect_on_message_string(move |_, text| {
        let text = text.unwrap_or_default().to_owned();
        sender.input(Input::FrameReceived(channel, WireFrame::Text(text)));
    });
    let sender = reports.clone();
    object.connect_on_error(move |_, error| {
        let label = channel.label();
        sender.fail(disconnected(format!("the {label} channel failed: {error}")));
    });
    let sender = reports.clone();
    object.connect_on_close(move |_| {
        let label = channel.label();
        sender.closed(disconnected(format!(
            "the server closed the {label} channel"
        )));
    });
    if object.ready_state() == WebRTCDataChannelState::Open {
        reports.input(Input::ChannelOpened(channel));
    }
    Ok(object)
}

fn disconnected(reason: String) -> Error {
    Error::gpu(Code::Disconnected, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_of_closed_channels_are_kept() {
        gst::init().unwrap();
        let webrtcbin = gst::ElementFactory::make("webrtcbin").build().unwrap();
        webrtcbin.set_state(gst::State::Ready).unwrap();
        keep_bins(&webrtcbin);
        let arguments: &[&dyn ToValue] = &[&"control", &None::<gst::Structure>];
        let channel =
            webrtcbin.emit_by_name::<Option<WebRTCDataChannel>>("create-data-channel", arguments);
        assert!(channel.is_some());
        let bin = webrtcbin.downcast_ref::<gst::Bin>().unwrap();
        // What webrtcbin does when a channel has closed.
        let remove = |element: gst::Element| {
            let weak = element.downgrade();
            element.set_locked_state(true);
            element.set_state(gst::State::Null).unwrap();
            bin.remove(&element).unwrap();
            weak
        };
        let ends = bin.children().into_iter().filter(is_channel_bin);
        let removed: Vec<_> = ends.map(remove).collect();
        assert_eq!(removed.len(), 2);
        assert!(removed.iter().all(|end| end.upgrade().is_some()));
        webrtcbin.set_state(gst::State::Null).unwrap();
        drop((webrtcbin, channel));
        assert!(removed.iter().all(|end| end.upgrade().is_none()));
    }
}
