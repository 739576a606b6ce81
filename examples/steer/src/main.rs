// SPDX-License-Identifier: MIT

//! Camera in, the model's picture and sound out, steered from the terminal.
//!
//! ```text
//! cargo run --release -p steer -- [--camera [DEVICE]] [--output FILE.mp4]
//! ```
//!
//! Each line that is typed becomes the prompt; a line such as
//! `/set_brightness {"brightness":0.5}` is any other command. Ctrl-C, or the
//! end of the input, ends it.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use gst::{glib, prelude::*};

/// How long the file may take to be finished.
const FINISH_LIMIT: Duration = Duration::from_secs(10);

/// Steers a real-time generative model: type prompts, or /COMMAND {JSON}.
#[derive(Debug, Parser)]
struct Options {
    /// Where the local runtime is.
    #[arg(long, default_value = "http://localhost:8080")]
    api_url: String,

    /// Record into this MP4 file instead of opening a window.
    #[arg(long, value_name = "FILE.mp4")]
    output: Option<PathBuf>,

    /// Feed the model with a camera, such as /dev/video0, and not a test picture.
    #[arg(long, value_name = "DEVICE", num_args = 0..=1)]
    camera: Option<Option<String>>,

    /// Stop after so long, and not at the end of the input.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    gst::init()?;
    let (pipeline, model) = build(&options)?;

    let interrupted = pipeline.clone();
    ctrlc::set_handler(move || post(&interrupted, gst::Structure::new_empty("interrupt")))?;
    let typed = pipeline.clone();
    std::thread::spawn(move || read_lines(&typed));

    let result = run(&pipeline, &model, options.seconds.map(Duration::from_secs));
    // Whatever has happened: this ends the session on the server.
    let stopped = pipeline.set_state(gst::State::Null);
    result.and_then(|()| stopped.map(drop).context("stopping"))
}

/// The whole pipeline but for the model's output, which is not known yet.
fn build(options: &Options) -> Result<(gst::Pipeline, gst::Element)> {
    let pipeline = gst::Pipeline::new();
    let model = reactor("reactorsrc", options)?;
    let sink = reactor("reactorsink", options)?;
    let input = input(options)?;
    pipeline.add_many([&model, &sink, input.upcast_ref()])?;
    // The pad that this requests takes the model's first video input.
    input.link(&sink)?;

    let recorder = match &options.output {
        Some(file) => Some(recorder(&pipeline, file)?),
        None => None,
    };
    let weak = pipeline.downgrade();
    model.connect_pad_added(move |model, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = attach(&pipeline, recorder.as_ref(), pad)
        {
            gst::element_error!(model, gst::CoreError::Pad, ("{error:#}"));
        }
    });
    Ok((pipeline, model))
}

/// One of the two elements. They are in one pipeline, so they share a session.
fn reactor(factory: &str, options: &Options) -> Result<gst::Element> {
    gst::ElementFactory::make(factory)
        .property("local", true)
        .property("api-url", &options.api_url)
        .build()
        .with_context(|| format!("is GST_PLUGIN_PATH the directory of libgstreactor? no {factory}"))
}

/// What the model is fed with.
fn input(options: &Options) -> Result<gst::Bin> {
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

fn recorder(pipeline: &gst::Pipeline, file: &Path) -> Result<gst::Element> {
    let mux = gst::ElementFactory::make("mp4mux").build()?;
    let sink = gst::ElementFactory::make("filesink")
        .property("location", file)
        .build()?;
    pipeline.add_many([&mux, &sink])?;
    mux.link(&sink)?;
    Ok(mux)
}

/// Records or shows one of the model's tracks. The pads are all added before
/// any of them has data, so the muxer learns of each in time. audiorate makes
/// the sound seamless, which is of a network and so is not always.
fn attach(pipeline: &gst::Pipeline, mux: Option<&gst::Element>, pad: &gst::Pad) -> Result<()> {
    let video = pad.name().starts_with("video_");
    let description = match (video, mux.is_some()) {
        (true, true) => "queue ! videoconvert ! x264enc tune=zerolatency ! h264parse",
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
    // Started first: what is linked may be pushed to at once.
    branch.sync_state_with_parent()?;
    pad.link(&branch.static_pad("sink").context("no sink pad")?)?;
    Ok(())
}

/// Everything that happens, in any thread, arrives here as a bus message.
fn run(pipeline: &gst::Pipeline, model: &gst::Element, length: Option<Duration>) -> Result<()> {
    let bus = pipeline.bus().context("no bus")?;
    // A failure is on the bus as well, with its reason.
    let _ = pipeline.set_state(gst::State::Playing);
    let mut deadline = length.map(|length| Instant::now() + length);
    let (mut typing, mut unanswered, mut ending) = (true, 0_usize, false);
    loop {
        let mut end = false;
        match pop(&bus, deadline) {
            Some(message) => match message.view() {
                gst::MessageView::Eos(_) => return Ok(()),
                gst::MessageView::Error(error) => return Err(describe(error)),
                gst::MessageView::Warning(warning) => eprintln!("warning: {}", warning.error()),
                // Both elements post it; once is enough.
                gst::MessageView::Element(message) if message.src() == Some(model.upcast_ref()) => {
                    show(message.structure());
                }
                gst::MessageView::Application(message) => {
                    let Some(structure) = message.structure() else {
                        continue;
                    };
                    match structure.name().as_str() {
                        "line" => {
                            unanswered += 1;
                            send(pipeline, model, structure.get("text")?);
                        }
                        "reply" => {
                            unanswered -= 1;
                            println!("{}", structure.get::<&str>("text")?);
                        }
                        "end-of-input" => typing = false,
                        "interrupt" if ending => bail!("interrupted"),
                        _ => end = true,
                    }
                }
                _ => {}
            },
            None if ending => bail!("the pipeline did not end within {FINISH_LIMIT:?}"),
            None => end = true,
        }
        // Who pipes commands in wants to see what becomes of them.
        end |= length.is_none() && !typing && unanswered == 0;
        if end && !ending {
            // EOS reaches the muxer, which finishes its file, and comes back on the bus.
            ending = true;
            deadline = Some(Instant::now() + FINISH_LIMIT);
            pipeline.send_event(gst::event::Eos::new());
        }
    }
}

/// The next message, or nothing if it is not there in time.
fn pop(bus: &gst::Bus, deadline: Option<Instant>) -> Option<gst::Message> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // One that is too long to be told in nanoseconds is as good as none.
    bus.timed_pop(left.and_then(|left| gst::ClockTime::try_from(left).ok()))
}

fn post(pipeline: &gst::Pipeline, structure: gst::Structure) {
    // It fails while the bus is flushing, when nobody is interested any more.
    let _ = pipeline.post_message(gst::message::Application::new(structure));
}

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

/// Sends what was typed. The reply comes in another thread; it goes to the bus.
fn send(pipeline: &gst::Pipeline, model: &gst::Element, line: &str) {
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
                Ok(reply) => outcome(&command, reply),
                Err(error) => format!("{command} was not answered: {error:?}"),
            };
            post(
                &pipeline,
                gst::Structure::builder("reply").field("text", text).build(),
            );
        }
    });
    model.emit_by_name::<()>("send-command", &[&name, &json, &promise]);
}

/// A reply has `error`, or `type` and `data`, or nothing if all that there is
/// to say is that it was done.
fn outcome(command: &str, reply: Option<&gst::StructureRef>) -> String {
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

/// What the model says, and where the session stands.
fn show(structure: Option<&gst::StructureRef>) {
    match structure {
        Some(s) if s.name() == "reactor-message" => {
            println!("model: {} {}", text(s, "type"), text(s, "data"));
        }
        Some(s) if s.name() == "reactor-status" => println!("status: {}", nick(s, "status")),
        Some(s) if s.name() == "reactor-session-ended" => {
            println!("the model ended the session: {}", text(s, "reason"));
        }
        _ => {}
    }
}

/// A field as text; empty if there is none.
fn text(structure: &gst::StructureRef, field: &str) -> String {
    let value = structure.value(field).ok();
    let text = value.and_then(|value| value.transform::<Option<String>>().ok());
    text.and_then(|value| value.get().ok().flatten())
        .unwrap_or_default()
}

/// The short name of an enumeration's value.
fn nick(structure: &gst::StructureRef, field: &str) -> String {
    let value = structure.value(field).ok();
    let known = value.and_then(|value| glib::EnumValue::from_value(value));
    known.map_or_else(String::new, |(_, value)| value.nick().to_owned())
}

/// Everything that is known of an error, for people.
fn describe(message: &gst::message::Error) -> anyhow::Error {
    let error = message.error();
    let mut lines = vec![error.to_string()];
    if let Some(details) = message.details() {
        // The code, how long to wait, the HTTP status: what there is.
        let known = details.iter().filter(|(field, _)| *field != "message");
        lines.extend(known.map(|(field, _)| format!("{field}: {}", text(details, field))));
    } else if let Some(debug) = message.debug() {
        lines.push(debug.to_string());
    }
    lines.extend(advice(&error).map(|advice| format!("what to do: {advice}")));
    anyhow!(lines.join("\n  "))
}

fn advice(error: &glib::Error) -> Option<&'static str> {
    use gst::{CoreError, ResourceError, StreamError};
    if error.matches(CoreError::MissingPlugin) || error.matches(StreamError::CodecNotFound) {
        return Some("install the missing GStreamer plugin");
    }
    Some(match error.kind::<ResourceError>()? {
        ResourceError::OpenRead => "is the runtime running? examples/models/serve.sh run",
        ResourceError::Read => {
            "start it again; if that helps for a moment only, see to the network"
        }
        ResourceError::Busy => "try again a little later",
        ResourceError::NotAuthorized => "see to the credentials",
        ResourceError::Settings => "see to the options; this plugin may also be too old",
        _ => return None,
    })
}
