// SPDX-License-Identifier: MIT

//! Saves clips of a model's stream as MP4 files.
//!
//! ```text
//! save-clip fetch PLAYLIST_URL FILE.mp4     save the clip with this playlist
//! save-clip live DIRECTORY                  play; Enter saves the last seconds
//! ```
//!
//! A file has a temporary name until it is complete. After Ctrl-C, no incomplete
//! file remains.

use std::{
    fs,
    io::BufRead,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use gst::prelude::*;

/// How often a running pipeline checks whether it has to stop.
const POLL_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// Saves clips of a real-time generative model's stream as MP4.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Save the clip whose playlist has this address.
    Fetch {
        #[command(flatten)]
        server: ServerOptions,
        playlist_url: String,
        file: PathBuf,
        /// Cut the clip to the requested range; the platform returns whole chunks.
        #[arg(long)]
        trim: bool,
    },
    /// Play a model's stream; Enter saves its last seconds while it continues.
    Live {
        #[command(flatten)]
        server: ServerOptions,
        /// The directory for clip-1.mp4, clip-2.mp4...
        directory: PathBuf,
        /// The duration of a clip in seconds.
        #[arg(long, value_name = "N", default_value_t = 10.0)]
        seconds: f64,
        /// Play without a window and without sound.
        #[arg(long)]
        headless: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct ServerOptions {
    /// The address of the local runtime, or of the cloud's API.
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// Connect to this model in the cloud, with the key in REACTOR_API_KEY.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

impl ServerOptions {
    fn apply(&self, element: &gst::Element) {
        element.set_property("local", self.model.is_none());
        if let Some(url) = &self.api_url {
            element.set_property("api-url", url);
        }
        if let Some(model) = &self.model
            && element.has_property("model")
        {
            element.set_property("model", model);
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    gst::init()?;
    let stop = Arc::new(AtomicBool::new(false));
    let signal_stop = stop.clone();
    ctrlc::set_handler(move || signal_stop.store(true, Ordering::Relaxed))?;
    match options.mode {
        Mode::Fetch {
            server,
            playlist_url,
            file,
            trim,
        } => {
            let clip = make_element("reactorclip")?;
            server.apply(&clip);
            clip.set_property("playlist-url", playlist_url);
            clip.set_property("trim", trim);
            save_clip(&clip, &file, &stop)
        }
        Mode::Live {
            server,
            directory,
            seconds,
            headless,
        } => play(&server, &directory, seconds, headless, &stop),
    }
}

fn make_element(factory: &str) -> Result<gst::Element> {
    let element = gst::ElementFactory::make(factory).build();
    element
        .with_context(|| format!("is GST_PLUGIN_PATH the directory of libgstreactor? no {factory}"))
}

/// A pipeline that goes to NULL when it is dropped.
struct RunningPipeline(gst::Pipeline);

impl Drop for RunningPipeline {
    fn drop(&mut self) {
        // A failure has no consequence: the pipeline is not used any more.
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// A file that gets its name when it is complete, and is removed if it never is.
struct PartialFile<'a> {
    part: PathBuf,
    file: &'a Path,
}

impl<'a> PartialFile<'a> {
    fn new(file: &'a Path) -> Result<Self> {
        let name = file.file_name().context("not the name of a file")?;
        let mut part = name.to_owned();
        part.push(format!(".{}.part", std::process::id()));
        Ok(Self {
            part: file.with_file_name(part),
            file,
        })
    }

    fn finish(&self) -> Result<()> {
        // The data is on disk before the name is.
        fs::File::open(&self.part)?.sync_all()?;
        fs::rename(&self.part, self.file)
            .with_context(|| format!("{} cannot be written", self.file.display()))
    }
}

impl Drop for PartialFile<'_> {
    fn drop(&mut self) {
        // This fails if the file was finished, since it was renamed.
        let _ = fs::remove_file(&self.part);
    }
}

/// Saves the output of this reactorclip, and prints the clip's duration.
fn save_clip(clip: &gst::Element, file: &Path, stop: &AtomicBool) -> Result<()> {
    let partial = PartialFile::new(file)?;
    let sink = gst::ElementFactory::make("filesink")
        .property("location", &partial.part)
        .build()?;
    let running = RunningPipeline(gst::Pipeline::new());
    running.0.add_many([clip, &sink])?;
    clip.link(&sink)?;
    let duration = run(&running.0, stop)?;
    drop(running);
    partial.finish()?;
    println!("saved {}{duration}", file.display());
    Ok(())
}

/// Runs a pipeline until EOS; returns the duration that reactorclip reported, as
/// ` (10.00 s)`, or an empty string.
fn run(pipeline: &gst::Pipeline, stop: &AtomicBool) -> Result<String> {
    let bus = pipeline.bus().context("no bus")?;
    // If this fails, the bus has an error message with the reason.
    let _ = pipeline.set_state(gst::State::Playing);
    let mut clip_duration = String::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = bus.timed_pop(POLL_INTERVAL) else {
            continue;
        };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(clip_duration),
            gst::MessageView::Error(error) => bail!(describe_error(error)),
            gst::MessageView::Progress(progress) => println!("{}", progress.get().2),
            gst::MessageView::Element(element) => {
                if let Some(structure) = element.structure()
                    && structure.name() == "reactor-clip"
                    && let Ok(Some(duration)) = structure.get::<Option<gst::ClockTime>>("duration")
                {
                    clip_duration = format!(" ({:.2} s)", duration.mseconds() as f64 / 1000.0);
                }
            }
            _ => {}
        }
    }
    bail!("interrupted")
}

/// Describes an error with its code.
fn describe_error(error: &gst::message::Error) -> String {
    let code = error
        .details()
        .and_then(|details| details.get::<String>("code").ok());
    match code {
        Some(code) => format!("{} [{code}]", error.error()),
        None => error.error().to_string(),
    }
}

/// Plays a model's stream, and saves its last seconds at each Enter.
fn play(
    server: &ServerOptions,
    directory: &Path,
    seconds: f64,
    headless: bool,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    let src = make_element("reactorsrc")?;
    server.apply(&src);
    let running = RunningPipeline(gst::Pipeline::new());
    running.0.add(&src)?;
    let weak = running.0.downgrade();
    src.connect_pad_added(move |src, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = link_track(&pipeline, pad, headless)
        {
            gst::element_error!(src, gst::CoreError::Pad, ("{error:#}"));
        }
    });
    let pending_clips = Arc::new(AtomicUsize::new(0));
    let (pending, input_stop) = (pending_clips.clone(), stop.clone());
    let (server, directory) = (server.clone(), directory.to_owned());
    thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for (number, _) in (1..).zip(lines) {
            let file = directory.join(format!("clip-{number}.mp4"));
            let (src, server) = (src.clone(), server.clone());
            let (pending, stop) = (pending.clone(), input_stop.clone());
            pending.fetch_add(1, Ordering::Relaxed);
            // A thread for each clip: the next clip may be requested before this one is saved.
            thread::spawn(move || {
                let result = save_last_seconds(&src, &server, seconds, &file, &stop);
                result.unwrap_or_else(|error| println!("{}: {error:#}", file.display()));
                pending.fetch_sub(1, Ordering::Relaxed);
            });
        }
        // At the end of the input, the application stops after the last clip.
        wait_for_clips(&pending);
        input_stop.store(true, Ordering::Relaxed);
    });
    println!("Enter saves the last {seconds} s; Ctrl-C ends");
    let result = match run(&running.0, stop) {
        Err(_) if stop.load(Ordering::Relaxed) => Ok(()),
        result => result.map(drop),
    };
    // The stream has ended: clips that are still being saved are cancelled.
    stop.store(true, Ordering::Relaxed);
    wait_for_clips(&pending_clips);
    result
}

fn wait_for_clips(pending: &AtomicUsize) {
    while pending.load(Ordering::Relaxed) > 0 {
        thread::sleep(POLL_INTERVAL.into());
    }
}

/// Links one of the model's tracks to a player.
fn link_track(pipeline: &gst::Pipeline, pad: &gst::Pad, headless: bool) -> Result<()> {
    let description = match (headless, pad.name().starts_with("video_")) {
        (true, _) => "queue ! fakesink",
        (false, true) => "queue ! videoconvert ! autovideosink",
        (false, false) => "queue ! audioconvert ! audioresample ! autoaudiosink",
    };
    let branch = gst::parse::bin_from_description(description, true)?;
    pipeline.add(&branch)?;
    branch.sync_state_with_parent()?;
    pad.link(&branch.static_pad("sink").context("no sink pad")?)?;
    Ok(())
}

/// Requests a clip of the last seconds, and saves it while the stream continues.
fn save_last_seconds(
    src: &gst::Element,
    server: &ServerOptions,
    seconds: f64,
    file: &Path,
    stop: &AtomicBool,
) -> Result<()> {
    let promise = gst::Promise::new();
    src.emit_by_name::<()>("request-clip", &[&seconds, &promise]);
    promise.wait();
    let reply = promise.get_reply().context("no reply")?.to_owned();
    if let Ok(error) = reply.get::<gst::Structure>("error") {
        let message = error.get::<String>("message").unwrap_or_default();
        return Err(anyhow!("no clip: {message}"));
    }
    let clip = make_element("reactorclip")?;
    server.apply(&clip);
    clip.set_property("clip", reply);
    clip.set_property("trim", true);
    save_clip(&clip, file, stop)
}
