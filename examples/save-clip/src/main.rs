// SPDX-License-Identifier: MIT

//! Saves what a model showed, as MP4 files that are whole or not there.
//!
//! ```text
//! save-clip fetch PLAYLIST_URL FILE.mp4     a clip whose address is known
//! save-clip live DIRECTORY                  Enter saves the last seconds
//! ```
//!
//! A file has another name until it is complete. Ctrl-C leaves none behind
//! that is not.

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

/// How often a pipeline that runs is asked whether it is to go on.
const LOOK_INTERVAL: gst::ClockTime = gst::ClockTime::from_mseconds(100);

/// Saves what a real-time generative model showed, as MP4.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Save a clip whose playlist's address is known.
    Fetch {
        #[command(flatten)]
        server: Server,
        playlist_url: String,
        file: PathBuf,
        /// Cut it to what was asked for; the platform gives whole chunks.
        #[arg(long)]
        trim: bool,
    },
    /// Watch a model; Enter saves the last seconds, while it goes on.
    Live {
        #[command(flatten)]
        server: Server,
        /// Where to put clip-1.mp4, clip-2.mp4...
        directory: PathBuf,
        /// How much to save each time.
        #[arg(long, value_name = "N", default_value_t = 10.0)]
        seconds: f64,
        /// Open no window.
        #[arg(long)]
        headless: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct Server {
    /// Where the local runtime is, or the cloud.
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// Speak to the cloud, with the key in REACTOR_API_KEY, about this model.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

impl Server {
    fn set_on(&self, element: &gst::Element) {
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
    let interrupted = stop.clone();
    ctrlc::set_handler(move || interrupted.store(true, Ordering::Relaxed))?;
    match options.what {
        What::Fetch {
            server,
            playlist_url,
            file,
            trim,
        } => {
            let clip = element("reactorclip")?;
            server.set_on(&clip);
            clip.set_property("playlist-url", playlist_url);
            clip.set_property("trim", trim);
            save(&clip, &file, &stop)
        }
        What::Live {
            server,
            directory,
            seconds,
            headless,
        } => watch(&server, &directory, seconds, headless, &stop),
    }
}

fn element(factory: &str) -> Result<gst::Element> {
    let made = gst::ElementFactory::make(factory).build();
    made.with_context(|| format!("is GST_PLUGIN_PATH the directory of libgstreactor? no {factory}"))
}

/// A pipeline that goes to NULL when it is not needed any more.
struct Running(gst::Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing is left to be told of a failure.
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// A file that has its name only when it is complete.
struct Unfinished<'a> {
    part: PathBuf,
    file: &'a Path,
}

impl<'a> Unfinished<'a> {
    fn new(file: &'a Path) -> Result<Self> {
        let name = file.file_name().context("that is no file's name")?;
        let mut part = name.to_owned();
        part.push(format!(".{}.part", std::process::id()));
        Ok(Self {
            part: file.with_file_name(part),
            file,
        })
    }

    fn finish(&self) -> Result<()> {
        // On disk before it has the name.
        fs::File::open(&self.part)?.sync_all()?;
        fs::rename(&self.part, self.file)
            .with_context(|| format!("{} cannot be written", self.file.display()))
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // There is none any more if it was finished.
        let _ = fs::remove_file(&self.part);
    }
}

/// Saves what this reactorclip gets.
fn save(clip: &gst::Element, file: &Path, stop: &AtomicBool) -> Result<()> {
    let unfinished = Unfinished::new(file)?;
    let sink = gst::ElementFactory::make("filesink")
        .property("location", &unfinished.part)
        .build()?;
    let running = Running(gst::Pipeline::new());
    running.0.add_many([clip, &sink])?;
    clip.link(&sink)?;
    let made = run(&running.0, stop)?;
    drop(running);
    unfinished.finish()?;
    println!("saved {}{made}", file.display());
    Ok(())
}

/// Runs it to its end; says what was made.
fn run(pipeline: &gst::Pipeline, stop: &AtomicBool) -> Result<String> {
    let bus = pipeline.bus().context("no bus")?;
    // A failure is on the bus as well, with its reason.
    let _ = pipeline.set_state(gst::State::Playing);
    let mut made = String::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(message) = bus.timed_pop(LOOK_INTERVAL) else {
            continue;
        };
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(made),
            gst::MessageView::Error(error) => bail!(explain(error)),
            gst::MessageView::Progress(progress) => println!("{}", progress.get().2),
            gst::MessageView::Element(element) => {
                if let Some(structure) = element.structure()
                    && structure.name() == "reactor-clip"
                    && let Ok(Some(duration)) = structure.get::<Option<gst::ClockTime>>("duration")
                {
                    made = format!(" ({:.2} s)", duration.mseconds() as f64 / 1000.0);
                }
            }
            _ => {}
        }
    }
    bail!("given up")
}

fn explain(error: &gst::message::Error) -> String {
    let code = error
        .details()
        .and_then(|details| details.get::<String>("code").ok());
    match code {
        Some(code) => format!("{} [{code}]", error.error()),
        None => error.error().to_string(),
    }
}

/// Shows the model, and saves its last seconds at each Enter.
fn watch(
    server: &Server,
    directory: &Path,
    seconds: f64,
    headless: bool,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    let model = element("reactorsrc")?;
    server.set_on(&model);
    let running = Running(gst::Pipeline::new());
    running.0.add(&model)?;
    let weak = running.0.downgrade();
    model.connect_pad_added(move |model, pad| {
        if let Some(pipeline) = weak.upgrade()
            && let Err(error) = show(&pipeline, pad, headless)
        {
            gst::element_error!(model, gst::CoreError::Pad, ("{error:#}"));
        }
    });
    let saving = Arc::new(AtomicUsize::new(0));
    let (count, keys) = (saving.clone(), stop.clone());
    let (server, directory) = (server.clone(), directory.to_owned());
    thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for (number, _) in (1..).zip(lines) {
            let file = directory.join(format!("clip-{number}.mp4"));
            let (model, server) = (model.clone(), server.clone());
            let (count, stop) = (count.clone(), keys.clone());
            count.fetch_add(1, Ordering::Relaxed);
            // Each on its own: the next may be asked for meanwhile.
            thread::spawn(move || {
                let result = save_last(&model, &server, seconds, &file, &stop);
                result.unwrap_or_else(|error| println!("{}: {error:#}", file.display()));
                count.fetch_sub(1, Ordering::Relaxed);
            });
        }
        // The end of the input is that of the last clip.
        wait_for_none(&count);
        keys.store(true, Ordering::Relaxed);
    });
    println!("Enter saves the last {seconds} s; Ctrl-C ends");
    let result = match run(&running.0, stop) {
        Err(_) if stop.load(Ordering::Relaxed) => Ok(()),
        result => result.map(drop),
    };
    // The model is gone; what is being saved is given up, or was complete.
    stop.store(true, Ordering::Relaxed);
    wait_for_none(&saving);
    result
}

fn wait_for_none(count: &AtomicUsize) {
    while count.load(Ordering::Relaxed) > 0 {
        thread::sleep(LOOK_INTERVAL.into());
    }
}

/// Shows one of the model's tracks.
fn show(pipeline: &gst::Pipeline, pad: &gst::Pad, headless: bool) -> Result<()> {
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

/// Asks for a clip, and saves it while the model goes on.
fn save_last(
    model: &gst::Element,
    server: &Server,
    seconds: f64,
    file: &Path,
    stop: &AtomicBool,
) -> Result<()> {
    let promise = gst::Promise::new();
    model.emit_by_name::<()>("request-clip", &[&seconds, &promise]);
    promise.wait();
    let answer = promise.get_reply().context("no answer")?.to_owned();
    if let Ok(error) = answer.get::<gst::Structure>("error") {
        let why = error.get::<String>("message").unwrap_or_default();
        return Err(anyhow!("no clip: {why}"));
    }
    let clip = element("reactorclip")?;
    server.set_on(&clip);
    clip.set_property("clip", answer);
    clip.set_property("trim", true);
    save(&clip, file, stop)
}
