// SPDX-License-Identifier: MIT

//! A control room for real-time generative models, in the terminal: status, statistics, messages,
//! and a line to type commands into.
//!
//! ```text
//! cargo run --release -p reactor-top -- [--model NAME] [--api-url URL] [--video WHERE] [--no-audio]
//! cargo run --release -p reactor-top -- reactorsrc local=true ! videoconvert ! autovideosink
//! ```
//!
//! `model/` is the state, which knows neither terminal nor GStreamer, `view/` draws it, `pipeline/`
//! is what GStreamer does, `terminal.rs` the terminal. All of them meet in the loop below.

mod model;
mod pipeline;
mod terminal;
mod view;

use std::{
    io::IsTerminal,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use gst::glib;

use self::{
    model::{App, Effect, Input, Moment, Run},
    pipeline::Player,
    terminal::Screen,
};

/// The screen is drawn as often, at most.
const FRAME: Duration = Duration::from_millis(50);
/// It is drawn at least as often: the time since the session is ready is on it.
const REDRAW: Duration = Duration::from_secs(1);
/// How long the pipeline may take to end. The elements' close-timeout is 2 s.
const END_TIMEOUT: Duration = Duration::from_secs(15);
/// What is never shown.
const SECRETS: [&str; 2] = ["REACTOR_API_KEY", "REACTOR_JWT"];

/// A control room for real-time generative models, in the terminal.
///
/// Plays a model's stream, or any pipeline with a live element of the plugin in it; shows its
/// status, statistics and messages; sends the commands that are typed, which Tab completes. The
/// cloud's key is read from the environment (REACTOR_API_KEY or REACTOR_JWT) only.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// The address of the local runtime, or of the cloud's API.
    #[arg(long, value_name = "URL", conflicts_with = "pipeline")]
    api_url: Option<String>,

    /// Connect to this model in the cloud instead of a local runtime.
    #[arg(long, value_name = "NAME", conflicts_with = "pipeline")]
    model: Option<String>,

    /// Where the picture is: a window unless there is no display.
    #[arg(long, value_name = "WHERE", conflicts_with = "pipeline")]
    video: Option<Video>,

    /// Play no sound.
    #[arg(long, conflicts_with = "pipeline")]
    no_audio: bool,

    /// A pipeline as gst-launch-1.0 takes it, instead of the options above.
    #[arg(trailing_var_arg = true)]
    pipeline: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Video {
    Window,
    /// In coarse blocks, beside the messages.
    Terminal,
    None,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("this needs a terminal; pipelines/play.sh needs none");
    }
    gst::init()?;
    let (sender, receiver) = channel();
    let player = Player::new(&options, &sender)?;
    let signals = sender.clone();
    ctrlc::set_handler(move || drop(signals.send(Input::Leave)))?;
    let secrets = SECRETS.iter().filter_map(|name| std::env::var(name).ok());
    let mut app = App::new(secrets.collect());
    // What terminals with 2^24 colors set.
    let colors = std::env::var("COLORTERM").unwrap_or_default();
    app.has_true_color = ["truecolor", "24bit"].contains(&colors.as_str());

    let result = {
        let mut screen = Screen::open(sender.clone()).context("opening the terminal")?;
        player.play();
        run(&mut app, &player, &mut screen, &receiver)
    };
    // Also after a failure of the terminal's: this ends the session.
    drop(player);
    result?;
    match app.run {
        Run::Failed(error) => bail!(error),
        _ => Ok(()),
    }
}

/// Runs until the application is left.
fn run(
    app: &mut App,
    player: &Player,
    screen: &mut Screen,
    receiver: &Receiver<Input>,
) -> Result<()> {
    let start = Instant::now();
    let (mut drawn, mut leaving_since) = (None::<Instant>, None);
    // Whether something has changed since it was drawn.
    let mut changed = true;
    loop {
        let since = drawn.map_or(REDRAW, |drawn| drawn.elapsed());
        let frame = if changed { FRAME } else { REDRAW };
        let input = match receiver.recv_timeout(frame.saturating_sub(since)) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => bail!("nothing sends inputs any more"),
        };
        if let Some(input) = input {
            changed = true;
            for effect in app.handle(now(start), input) {
                if effect == Effect::Leave {
                    return Ok(());
                }
                player.perform(effect);
            }
        }
        if drawn.is_none_or(|drawn| drawn.elapsed() >= frame) {
            app.now = now(start);
            screen.draw(app).context("drawing")?;
            (drawn, changed) = (Some(Instant::now()), false);
        }
        if app.is_leaving {
            let since = *leaving_since.get_or_insert_with(Instant::now);
            if since.elapsed() > END_TIMEOUT {
                bail!("the pipeline did not end within {END_TIMEOUT:?}");
            }
        }
    }
}

fn now(start: Instant) -> Moment {
    let clock = glib::DateTime::now_local().and_then(|time| time.format("%H:%M:%S"));
    Moment {
        clock: clock.map(Into::into).unwrap_or_default(),
        elapsed: start.elapsed(),
    }
}

/// Sends an input. It is of no use any more if the application has ended.
fn send(sender: &Sender<Input>, input: Input) {
    let _ = sender.send(input);
}
