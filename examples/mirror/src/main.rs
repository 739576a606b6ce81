// SPDX-License-Identifier: MIT

//! A magic mirror: a camera's video through a model, in a window.
//!
//! ```text
//! cargo run --release -p mirror -- [--pattern]
//! ```
//!
//! Each input line becomes the prompt; the keys Up and Down in the window change the brightness, and
//! a line such as `/echo {"text":"hello"}` is sent as that command. What happens to the connection is
//! written into the picture. Ctrl-C, or closing the window, ends the session.

use std::{
    io::BufRead,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use gst::{glib, prelude::*};

/// What is tried anew after an error that may pass. An outage of less than 30 s needs none of it:
/// the element makes another connection by itself.
const ATTEMPTS: u32 = 5;
/// If an error does not say when to try again.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// Keys of the window as commands of the playground; another model has others.
const KEYS: &str = "{'key:Up':{set_brightness:{brightness:0.4}},\
                    'key:Down':{set_brightness:{brightness:-0.4}}}";

/// Shows what a real-time generative model makes of a camera: type prompts.
#[derive(Debug, Parser)]
struct Options {
    /// The address of the local runtime.
    #[arg(long, default_value = "http://localhost:8080")]
    api_url: String,

    /// Send a test pattern instead of a camera's video.
    #[arg(long)]
    pattern: bool,

    /// The element that shows the video.
    #[arg(long, value_name = "ELEMENT", default_value = "autovideosink")]
    sink: String,
}

/// How a run of the pipeline ended, but for an error that no other attempt mends.
enum End {
    Wanted,
    Failed {
        reason: String,
        retry_after: Duration,
    },
}

fn main() -> Result<()> {
    let options = Options::parse();
    gst::init()?;
    let mirror = Mirror::new(&options)?;
    let pipeline = mirror.pipeline.clone();
    ctrlc::set_handler(move || post(&pipeline, gst::Structure::new_empty("interrupt")))?;
    let pipeline = mirror.pipeline.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let line = gst::Structure::builder("line").field("text", line.trim());
            post(&pipeline, line.build());
        }
    });
    let result = mirror.run();
    // Also after a failure: the transition to NULL ends the session on the server.
    let stopped = mirror.pipeline.set_state(gst::State::Null);
    result.and_then(|()| stopped.map(drop).context("stopping"))
}

/// Posts an application message, from any thread: one loop hears all that happens.
fn post(pipeline: &gst::Pipeline, structure: gst::Structure) {
    // This fails when the pipeline has been stopped.
    let _ = pipeline.post_message(gst::message::Application::new(structure));
}

struct Mirror {
    pipeline: gst::Pipeline,
    model: gst::Element,
    /// Writes into the picture.
    notice: gst::Element,
    bus: gst::Bus,
}

impl Mirror {
    fn new(options: &Options) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        // Messages stay on the bus when the pipeline goes to NULL between two attempts.
        pipeline.set_auto_flush_bus(false);
        let source = if options.pattern {
            let pattern =
                "videotestsrc is-live=true ! capsfilter caps=video/x-raw,width=640,height=360";
            gst::parse::bin_from_description(pattern, true)?.upcast()
        } else {
            first_camera()?
        };
        // While nothing comes, the last picture stays, and the notice in it can be read.
        let model = gst::ElementFactory::make("reactorfilter")
            .property("local", true)
            .property("api-url", &options.api_url)
            .property("navigation", KEYS)
            .property_from_str("on-gap", "hold-last-frame")
            .build()
            .context("is GST_PLUGIN_PATH the directory of libgstreactor? no reactorfilter")?;
        let converter = gst::ElementFactory::make("videoconvert").build()?;
        let shown = gst::ElementFactory::make("videoconvert").build()?;
        let notice = gst::ElementFactory::make("textoverlay")
            .property_from_str("valignment", "bottom")
            .property("text", "connecting")
            .build()?;
        let sink = gst::ElementFactory::make(&options.sink).build()?;
        let chain = [&source, &converter, &model, &shown, &notice, &sink];
        pipeline.add_many(chain)?;
        gst::Element::link_many(chain)?;
        connect_signals(&pipeline, &model);
        let bus = pipeline.bus().context("no bus")?;
        Ok(Self {
            pipeline,
            model,
            notice,
            bus,
        })
    }

    /// Plays until it is ended, again after an error that may pass.
    fn run(&self) -> Result<()> {
        let mut prompt = None;
        for attempt in 1.. {
            match self.play(&mut prompt)? {
                End::Wanted => break,
                End::Failed { reason, .. } if attempt == ATTEMPTS => return Err(anyhow!(reason)),
                End::Failed {
                    reason,
                    retry_after,
                } => {
                    println!("{reason}\ntrying again in {} s", retry_after.as_secs());
                    self.pipeline.set_state(gst::State::Null)?;
                    if self.is_interrupted_within(retry_after) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_interrupted_within(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            let rest = gst::ClockTime::try_from(rest).unwrap_or_default();
            match self
                .bus
                .timed_pop_filtered(rest, &[gst::MessageType::Application])
            {
                None => return false,
                Some(message) if message.structure().is_some_and(|s| s.name() == "interrupt") => {
                    return true;
                }
                Some(_) => {}
            }
        }
    }

    /// Plays until EOS, an error or Ctrl-C.
    fn play(&self, prompt: &mut Option<String>) -> Result<End> {
        // If this fails, the bus has an error message with the reason.
        let _ = self.pipeline.set_state(gst::State::Playing);
        for message in self.bus.iter_timed(gst::ClockTime::NONE) {
            match message.view() {
                gst::MessageView::Eos(_) => return Ok(End::Wanted),
                gst::MessageView::Error(error) => return failure(error),
                gst::MessageView::Warning(warning) => eprintln!("warning: {}", warning.error()),
                gst::MessageView::Element(message) => {
                    if let Some(structure) = message.structure() {
                        self.show(structure);
                    }
                }
                gst::MessageView::Application(message) => {
                    let Some(structure) = message.structure() else {
                        continue;
                    };
                    match structure.name().as_str() {
                        "interrupt" => return Ok(End::Wanted),
                        // The prompt waited for the model's commands.
                        "commands" => self.send_prompt(prompt),
                        _ => self.take_line(structure.get("text")?, prompt),
                    }
                }
                _ => {}
            }
        }
        Ok(End::Wanted)
    }

    /// Shows what the bus says of the connection.
    fn show(&self, message: &gst::StructureRef) {
        let text = match message.name().as_str() {
            "reactor-interrupted" => "the connection is lost, another one is made".to_owned(),
            "reactor-resumed" => {
                let outage = message.get::<u64>("outage-ms").unwrap_or_default();
                println!("connected again after {outage} ms");
                String::new()
            }
            "reactor-status" => match message.value("status").map(nick) {
                Ok(Some(status)) if status != "ready" => status,
                _ => {
                    println!("the model is ready");
                    String::new()
                }
            },
            // A command that was a property, or a key, and was refused.
            "reactor-reply" if message.has_field("error") => {
                println!("{}", describe_reply(Some(message)));
                return;
            }
            _ => return,
        };
        if !text.is_empty() {
            println!("{text}");
        }
        self.notice.set_property("text", text);
    }

    /// A line is a prompt, or a command such as `/echo {"text":"hello"}`.
    fn take_line(&self, line: &str, prompt: &mut Option<String>) {
        if let Some(command) = line.strip_prefix('/') {
            let (name, json) = command.split_once(' ').unwrap_or((command, "{}"));
            let promise = gst::Promise::with_change_func(|reply| {
                // In a thread of the element's. An error of its own: the element is gone.
                println!("{}", describe_reply(reply.ok().flatten()));
            });
            self.model
                .emit_by_name::<()>("send-command", &[&name, &json, &promise]);
        } else if !line.is_empty() {
            *prompt = Some(line.to_owned());
            self.send_prompt(prompt);
        }
    }

    /// Sets the prompt, a parameter of a command and so a property of a child, which is there once
    /// the model has told its commands. Set once, it is sent to the sessions that follow as well.
    fn send_prompt(&self, prompt: &mut Option<String>) {
        let Some(model) = self.model.dynamic_cast_ref::<gst::ChildProxy>() else {
            return;
        };
        if let Some(text) = prompt.take_if(|_| model.child_by_name("set_prompt").is_some()) {
            match model.lookup("set_prompt::prompt") {
                Ok(_) => model.set_child_property("set_prompt::prompt", text),
                Err(_) => println!("this model's set_prompt has another parameter"),
            }
        }
    }
}

/// The signals of the model, which are emitted in a thread of the element's.
fn connect_signals(pipeline: &gst::Pipeline, model: &gst::Element) {
    model.connect("message", false, |values| {
        let [_, kind, json] = values else { return None };
        let [kind, json] = [kind, json].map(|value| value.get::<String>().unwrap_or_default());
        println!("model: {kind} {json}");
        None
    });
    let weak = pipeline.downgrade();
    if let Some(model) = model.dynamic_cast_ref::<gst::ChildProxy>() {
        model.connect_child_added(move |_, _, name| {
            if let Some(pipeline) = weak.upgrade()
                && name == "set_prompt"
            {
                post(&pipeline, gst::Structure::new_empty("commands"));
            }
        });
    }
}

/// The first camera that GStreamer finds, whatever its kind.
fn first_camera() -> Result<gst::Element> {
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some("Video/Source"), None);
    monitor.start()?;
    let camera = monitor.devices().into_iter().next();
    monitor.stop();
    let camera = camera.context("no camera was found; --pattern sends a test pattern")?;
    println!("camera: {}", camera.display_name());
    Ok(camera.create_element(None)?)
}

/// Tells errors that may pass from those that nothing but a change mends.
fn failure(message: &gst::message::Error) -> Result<End> {
    let details = message.details();
    let text = |field| details.and_then(|d| d.get::<String>(field).ok());
    let code = text("code").unwrap_or_else(|| "no code".to_owned());
    let reason = format!("{} ({code})", message.error());
    if details.and_then(|d| d.get::<bool>("recoverable").ok()) != Some(true) {
        return Err(anyhow!(reason));
    }
    let retry_after = details.and_then(|d| d.get::<u64>("retry-after").ok());
    let retry_after = retry_after.map_or(RETRY_AFTER, Duration::from_millis);
    Ok(End::Failed {
        reason,
        retry_after,
    })
}

/// A reply has `error`, or `type` and `data`, or nothing if the command has no result.
fn describe_reply(reply: Option<&gst::StructureRef>) -> String {
    let text = |s: &gst::StructureRef, field| s.get::<String>(field).unwrap_or_default();
    match reply {
        Some(reply) if reply.has_field("error") => {
            let error = reply.get::<gst::Structure>("error");
            error.map_or_else(
                |_| "refused".to_owned(),
                |error| {
                    format!(
                        "refused: {} ({})",
                        text(&error, "message"),
                        text(&error, "code")
                    )
                },
            )
        }
        Some(reply) if reply.has_field("type") => {
            format!("reply: {} {}", text(reply, "type"), text(reply, "data"))
        }
        _ => "done".to_owned(),
    }
}

/// The nick of an enumeration's value.
fn nick(value: &glib::SendValue) -> Option<String> {
    glib::EnumValue::from_value(value).map(|(_, value)| value.nick().to_owned())
}
