// SPDX-License-Identifier: MIT

//! The pipeline without a description: a model's tracks, played.

use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use gst::prelude::*;

use crate::{
    Options, Video,
    model::{Input, Picture},
    send,
};

/// The picture in the terminal, in pixels. A row of RGB has no padding if the width is divisible
/// by 4. 5 a second are as much as a slow SSH connection carries, some 100 kB/s.
const WIDTH: usize = 64;
const HEIGHT: usize = 36;
const PICTURES_PER_SECOND: u32 = 5;

pub fn pipeline(options: &Options, inputs: &Sender<Input>) -> Result<gst::Pipeline> {
    let pipeline = gst::Pipeline::new();
    let src = gst::ElementFactory::make("reactorsrc")
        .name("model")
        .property("local", options.model.is_none())
        .property("model", &options.model)
        .build()
        .context("is GST_PLUGIN_PATH the directory of libgstreactor? no reactorsrc")?;
    if let Some(url) = &options.api_url {
        src.set_property("api-url", url);
    }
    pipeline.add(&src)?;
    let video = options.video.unwrap_or_else(default_video);
    let sound = !options.no_audio;
    let (weak, inputs) = (pipeline.downgrade(), inputs.clone());
    src.connect_pad_added(move |src, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = play_track(&pipeline, pad, video, sound, &inputs)
        {
            gst::element_error!(src, gst::CoreError::Pad, ("{error:#}"));
        }
    });
    Ok(pipeline)
}

fn default_video() -> Video {
    let mut displays = ["DISPLAY", "WAYLAND_DISPLAY"].into_iter();
    match displays.any(|name| std::env::var_os(name).is_some()) {
        true => Video::Window,
        false => Video::Terminal,
    }
}

fn play_track(
    pipeline: &gst::Pipeline,
    pad: &gst::Pad,
    video: Video,
    sound: bool,
    inputs: &Sender<Input>,
) -> Result<()> {
    let is_video = pad.name().starts_with("video_");
    let description = match (is_video, video) {
        (true, Video::Window) => "queue ! videoconvert ! autovideosink".to_owned(),
        (true, Video::Terminal) => format!(
            "queue ! videorate drop-only=true max-rate={PICTURES_PER_SECOND} ! videoscale \
             add-borders=true ! videoconvert ! appsink name=picture max-buffers=1 drop=true \
             caps=video/x-raw,format=RGB,width={WIDTH},height={HEIGHT},pixel-aspect-ratio=1/1"
        ),
        // Decoded, for the statistics.
        (true, Video::None) => "queue ! video/x-raw(ANY) ! fakesink sync=true".to_owned(),
        // The meters; what a channel of the model's is called does not matter.
        (false, _) => {
            let sink = if sound {
                "autoaudiosink"
            } else {
                "fakesink sync=true"
            };
            format!("queue ! audioconvert ! level ! audioresample ! {sink}")
        }
    };
    let branch = gst::parse::bin_from_description(&description, true)?;
    if let Some(sink) = branch.by_name("picture") {
        send_pictures(&sink, inputs);
    }
    pipeline.add(&branch)?;
    branch.sync_state_with_parent()?;
    pad.link(&branch.static_pad("sink").context("no sink pad")?)?;
    Ok(())
}

fn send_pictures(sink: &gst::Element, inputs: &Sender<Input>) {
    let Some(sink) = sink.downcast_ref::<gst_app::AppSink>() else {
        return;
    };
    let inputs = inputs.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let buffer = sample
            .buffer()
            .and_then(|buffer| buffer.map_readable().ok());
        if let Some(buffer) = buffer {
            let picture = Picture {
                width: WIDTH,
                height: HEIGHT,
                rgb: buffer.to_vec(),
            };
            send(&inputs, Input::Picture(picture));
        }
        Ok(gst::FlowSuccess::Ok)
    });
    sink.set_callbacks(callbacks.build());
}
