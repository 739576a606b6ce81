// SPDX-License-Identifier: MIT

//! Sends camera video to a model, plays or records the model's video and audio,
//! and sends commands that are typed in the terminal.
//!
//! ```text
//! cargo run --release -p steer -- [--model NAME] [--camera [DEVICE]] [--output FILE.mp4]
//! ```
//!
//! Each input line is sent as the prompt; a line such as
//! `/set_brightness {"brightness":0.5}` is sent as that command. Ctrl-C, or the
//! end of the input, stops the application.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use gst::{glib, prelude::*};

/// How long the pipeline has to finish the file after EOS was sent.
const EOS_TIMEOUT: Duration = Duration::from_secs(30);

/// Steers a real-time generative model: type prompts, or /COMMAND {JSON}.
#[derive(Debug, Parser)]
struct Options {
    /// A model of the cloud, instead of the local runtime; the key is in REACTOR_API_KEY.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// The address of the local runtime, http://localhost:8080 if not set, or of the cloud's API.
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,

    /// Record into this MP4 file instead of opening a window.
    #[arg(long, value_name = "FILE.mp4")]
    output: Option<PathBuf>,

    /// Send a camera's video, such as /dev/video0's, instead of a test pattern.
    #[arg(long, value_name = "DEVICE", num_args = 0..=1)]
    camera: Option<Option<String>>,

    /// Stop after N seconds instead of at the end of the input.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    gst::init()?;
    let (pipeline, src) = build_pipeline(&options)?;

    let signal_pipeline = pipeline.clone();
    ctrlc::set_handler(move || post(&signal_pipeline, gst::Structure::new_empty("interrupt")))?;
    let input_pipeline = pipeline.clone();
    std::thread::spawn(move || read_lines(&input_pipeline));

    let result = run(&pipeline, &src, options.seconds.map(Duration::from_secs));
    // Also after a failure: the transition to NULL closes the session on the server.
    let stopped = pipeline.set_state(gst::State::Null);
    result.and_then(|()| stopped.map(drop).context("stopping"))
}

/// Builds the pipeline except for the branches of the model's output tracks,
/// which are not known before the session is connected.
fn build_pipeline(options: &Options) -> Result<(gst::Pipeline, gst::Element)> {
    let pipeline = gst::Pipeline::new();
    let src = make_reactor_element("reactorsrc", options)?;
    let sink = make_reactor_element("reactorsink", options)?;
    let video_source = make_video_source(options)?;
    pipeline.add_many([&src, &sink, video_source.upcast_ref()])?;
    // The sink pad that is requested here sends to the model's first video input track.
    video_source.link(&sink)?;

    let mux = match &options.output {
        Some(file) => Some(add_muxer(&pipeline, file)?),
        None => None,
    };
    let weak = pipeline.downgrade();
    src.connect_pad_added(move |src, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = link_track(&pipeline, mux.as_ref(), pad)
        {
            gst::element_error!(src, gst::CoreError::Pad, ("{error:#}"));
        }
    });
    Ok((pipeline, src))
}

/// Makes one of the two elements, which share a session because they are in one
/// pipeline.
fn make_reactor_element(factory: &str, options: &Options) -> Result<gst::Element> {
    gst::ElementFactory::make(factory)
        .property("local", options.model.is_none())
        .property_if_some("model", options.model.as_ref())
        .property_if_some("api-url", options.api_url.as_ref())
        .build()
        .with_context(|| format!("is GST_PLUGIN_PATH the directory of libgstreactor? no {factory}"))
}

/// Makes the source of the video that is sent to the model.
fn make_video_source(options: &Options) -> Result<gst::Bin> {
    let description = match &options.camera {
        None => "videotestsrc is-live=true ! capsfilter caps=video/x-raw,width=640,height=360",
        Some(None) => "autovideosrc ! videoconvert",
        Some(Some(_)) => "v4l2src name=camera ! videoconvert",
    };
    let bin = gst::parse::bin_from_description(description, true)?;
    if let (Some(Some(device)), Some(camera)) = (&options.camera, bin.by_name("camera")) {
        camera.set_property("device", device);
    }
    Ok(bin)
}

/// Adds a muxer that writes to this file.
fn add_muxer(pipeline: &gst::Pipeline, file: &Path) -> Result<gst::Element> {
    let mux = gst::ElementFactory::make("mp4mux").build()?;
    let sink = gst::ElementFactory::make("filesink")
        .property("location", file)
        .build()?;
    pipeline.add_many([&mux, &sink])?;
    mux.link(&sink)?;
    Ok(mux)
}

/// Links one of the model's tracks to the muxer or to a player. All pads are
/// added before one of them has data, so the muxer gets all its pads in time.
/// audiorate fills the gaps that packet loss leaves in the audio.
fn link_track(pipeline: &gst::Pipeline, mux: Option<&gst::Element>, pad: &gst::Pad) -> Result<()> {
    let video = pad.name().starts_with("video_");
    let description = match (video, mux.is_some()) {
        (true, true) => {
            "queue ! videoconvert ! x264enc tune=zerolatency speed-preset=veryfast ! h264parse"
        }
        (false, true) => "queue ! audioconvert ! audiorate ! avenc_aac ! aacparse",
        (true, false) => "queue ! videoconvert ! autovideosink",
        (false, false) => "queue ! audioconvert ! audioresample ! autoaudiosink",
    };
    let branch = gst::parse::bin_from_description(description, true)?;
    pipeline.add(&branch)?;
    if let Some(mux) = mux {
        let input = if video { "video_%u" } else { "audio_%u" };
        branch.link_pads(Some("src"), mux, Some(input))?;
    }
    // The branch starts before it is linked: data may arrive as soon as it is linked.
    branch.sync_state_with_parent()?;
    pad.link(&branch.static_pad("sink").context("no sink pad")?)?;
    Ok(())
}

/// Runs the pipeline until EOS, an error or the second interrupt. What other
/// threads report arrives as bus messages.
fn run(pipeline: &gst::Pipeline, src: &gst::Element, duration: Option<Duration>) -> Result<()> {
    let bus = pipeline.bus().context("no bus")?;
    // If this fails, the bus has an error message with the reason.
    let _ = pipeline.set_state(gst::State::Playing);
    let mut deadline = duration.map(|duration| Instant::now() + duration);
    let (mut input_open, mut pending_replies, mut eos_sent) = (true, 0_usize, false);
    loop {
        let mut end = false;
        match pop_message(&bus, deadline) {
            Some(message) => match message.view() {
                gst::MessageView::Eos(_) => return Ok(()),
                gst::MessageView::Error(error) => return Err(describe_error(error)),
                gst::MessageView::Warning(warning) => eprintln!("warning: {}", warning.error()),
                // Both elements post these messages.
                gst::MessageView::Element(message) if message.src() == Some(src.upcast_ref()) => {
                    print_message(message.structure());
                }
                gst::MessageView::Application(message) => {
                    let Some(structure) = message.structure() else {
                        continue;
                    };
                    match structure.name().as_str() {
                        "line" => {
                            pending_replies += 1;
                            send_command(pipeline, src, structure.get("text")?);
                        }
                        "reply" => {
                            pending_replies -= 1;
                            println!("{}", structure.get::<&str>("text")?);
                        }
                        "end-of-input" => input_open = false,
                        "interrupt" if eos_sent => bail!("interrupted"),
                        _ => end = true,
                    }
                }
                _ => {}
            },
            None if eos_sent => bail!("the pipeline did not end within {EOS_TIMEOUT:?}"),
            None => end = true,
        }
        // At the end of the input, replies to commands are still waited for.
        end |= duration.is_none() && !input_open && pending_replies == 0;
        if end && !eos_sent {
            // The muxer finishes its file at EOS; the EOS message then ends the loop.
            eos_sent = true;
            deadline = Some(Instant::now() + EOS_TIMEOUT);
            pipeline.send_event(gst::event::Eos::new());
        }
    }
}

/// Waits for the next message until the deadline.
fn pop_message(bus: &gst::Bus, deadline: Option<Instant>) -> Option<gst::Message> {
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // A timeout that exceeds 2^64 ns (584 years) means: without one.
    bus.timed_pop(timeout.and_then(|timeout| gst::ClockTime::try_from(timeout).ok()))
}

/// Posts an application message, from any thread.
fn post(pipeline: &gst::Pipeline, structure: gst::Structure) {
    // This fails if the bus is flushing, after the loop has ended.
    let _ = pipeline.post_message(gst::message::Application::new(structure));
}

/// Posts each input line, in a thread of its own.
fn read_lines(pipeline: &gst::Pipeline) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let line = line.trim();
        if !line.is_empty() {
            let structure = gst::Structure::builder("line").field("text", line);
            post(pipeline, structure.build());
        }
    }
    post(pipeline, gst::Structure::new_empty("end-of-input"));
}

/// Sends an input line as a command. The reply arrives in another thread, which
/// posts it on the bus.
fn send_command(pipeline: &gst::Pipeline, src: &gst::Element, line: &str) {
    let (name, json) = match line.strip_prefix('/') {
        None => {
            let json = serde_json::json!({ "prompt": line });
            ("set_prompt", json.to_string())
        }
        Some(command) => {
            let (name, json) = command.split_once(' ').unwrap_or((command, "{}"));
            (name, json.to_owned())
        }
    };
    let (weak, command) = (pipeline.downgrade(), name.to_owned());
    let promise = gst::Promise::with_change_func(move |reply| {
        if let Some(pipeline) = weak.upgrade() {
            let text = match reply {
                Ok(reply) => format_reply(&command, reply),
                Err(error) => format!("{command} was not answered: {error:?}"),
            };
            post(
                &pipeline,
                gst::Structure::builder("reply").field("text", text).build(),
            );
        }
    });
    src.emit_by_name::<()>("send-command", &[&name, &json, &promise]);
}

/// Formats a reply: it has `error`, or `type` and `data`, or no fields if the
/// command succeeded without a result.
fn format_reply(command: &str, reply: Option<&gst::StructureRef>) -> String {
    let error = reply.and_then(|reply| reply.get::<gst::Structure>("error").ok());
    if let Some(error) = error {
        return format!(
            "{command} failed: {}: {}",
            text(&error, "code"),
            text(&error, "message")
        );
    }
    match reply {
        Some(reply) if reply.has_field("type") => {
            format!("{command}: {} {}", text(reply, "type"), text(reply, "data"))
        }
        _ => format!("{command}: done"),
    }
}

/// Prints the model's messages, and changes of the session's status.
fn print_message(structure: Option<&gst::StructureRef>) {
    match structure {
        Some(s) if s.name() == "reactor-message" => {
            println!("model: {} {}", text(s, "type"), text(s, "data"));
        }
        Some(s) if s.name() == "reactor-status" => println!("status: {}", nick(s, "status")),
        Some(s) if s.name() == "reactor-interrupted" => {
            println!("the connection is lost, another one is made");
        }
        Some(s) if s.name() == "reactor-resumed" => {
            println!("connected again");
        }
        Some(s) if s.name() == "reactor-session-ended" => {
            println!("the model ended the session: {}", text(s, "reason"));
        }
        _ => {}
    }
}

/// Returns a field as text, or an empty string if the field is missing.
fn text(structure: &gst::StructureRef, field: &str) -> String {
    let value = structure.value(field).ok();
    let text = value.and_then(|value| value.transform::<Option<String>>().ok());
    text.and_then(|value| value.get().ok().flatten())
        .unwrap_or_default()
}

/// Returns the nick of an enumeration's value, or an empty string.
fn nick(structure: &gst::StructureRef, field: &str) -> String {
    let value = structure.value(field).ok();
    let entry = value.and_then(|value| glib::EnumValue::from_value(value));
    entry.map_or_else(String::new, |(_, value)| value.nick().to_owned())
}

/// Describes an error with its details, for the user.
fn describe_error(message: &gst::message::Error) -> anyhow::Error {
    let error = message.error();
    let mut lines = vec![error.to_string()];
    if let Some(details) = message.details() {
        // For example the error's code, the HTTP status, when to retry.
        let fields = details.iter().filter(|(field, _)| *field != "message");
        lines.extend(fields.map(|(field, _)| format!("{field}: {}", text(details, field))));
    } else if let Some(debug) = message.debug() {
        lines.push(debug.to_string());
    }
    lines.extend(advice(&error).map(|advice| format!("what to do: {advice}")));
    anyhow!(lines.join("\n  "))
}

/// Returns what the user can do about an error.
fn advice(error: &glib::Error) -> Option<&'static str> {
    use gst::{CoreError, ResourceError, StreamError};
    if error.matches(CoreError::MissingPlugin) || error.matches(StreamError::CodecNotFound) {
        return Some("install the missing GStreamer plugin");
    }
    Some(match error.kind::<ResourceError>()? {
        ResourceError::OpenRead => "is the runtime running? examples/models/serve.sh run",
        ResourceError::Read => "start it again; if the error returns, check the network",
        ResourceError::Busy => "try again a little later",
        ResourceError::NotAuthorized => "check the credentials",
        ResourceError::Settings => "check the options; this plugin may also be too old",
        _ => return None,
    })
}
