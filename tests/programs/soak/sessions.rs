// SPDX-License-Identifier: MIT

//! The sessions, and what happens to each of them in a round.

use std::{
    process::Command,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT, actions, clips::save_again, command_pads::CommandPads, frames::FrameReader,
    pipeline::TestPipeline, process::Process, server::Server, watch,
};

use crate::player::{Player, Tally, pause};

/// The length of a round in seconds.
pub const ROUND: u64 = 120;

/// What the relay is told, by the second of the round, and what the network is like then: an outage
/// that the connection outlives, a narrow link, an outage that costs the connection.
const LINKS: [(u64, &str, &str); 6] = [
    (20, "down", "outage"),
    (23, "up", ""),
    (45, "rate 300", "narrow"),
    (65, "rate 0", ""),
    (80, "down", "outage"),
    (95, "up", ""),
];
/// When the filter's server is killed, and how long none is there: longer than `stall-timeout`, so
/// that its end is noticed before another answers.
const RESTART: u64 = 60;
const DOWN: Duration = Duration::from_secs(8);
/// The time of a short session, and of the pause after it, in seconds: no multiple of the time
/// between samples, which would see one and the same moment of each session for minutes, and slowly
/// another one. (With 30 s the heap seemed to grow by 1.4 MB/h; that of one moment grew by 0.5.)
const CYCLE: u64 = 37;

/// Small pictures: three servers and three sessions share the processors. A runtime keeps its
/// session for 30 s, as the platform does.
const SERVER: [(&str, &str); 4] = [
    ("PLAYGROUND_WIDTH", "320"),
    ("PLAYGROUND_HEIGHT", "180"),
    ("PLAYGROUND_FPS", "15"),
    ("ORPHAN_TIMEOUT_SECONDS", "30"),
];

/// Starts all sessions, each on a thread of its own.
pub fn start(tally: &Arc<Tally>, seed: u64) -> Vec<JoinHandle<()>> {
    let spawn = |run: fn(&Tally, u64)| {
        let tally = tally.clone();
        thread::spawn(move || run(&tally, seed))
    };
    vec![
        spawn(on_bad_network),
        spawn(with_restarts),
        spawn(short_sessions),
    ]
}

fn properties(url: &str) -> String {
    format!("local=true api-url={url} close-timeout=1500 restart-session=true")
}

/// reactorsrc and reactorsink share a session for all the time, with commands through pads, behind
/// the relay.
fn on_bad_network(tally: &Tally, seed: u64) {
    let server = Server::start_recording(&SERVER);
    let program = std::env::current_exe().expect("a path");
    let mut relay = Command::new(program.with_file_name("reactor-relay"));
    relay.args([&server.url(), "--seed", &seed.to_string()]);
    let mut relay = Process::start_with_stdin("relay", relay);
    relay.wait_for_output("\n", TIMEOUT);
    let properties = properties(relay.output().trim());
    let mut player = Player::start(
        "commands",
        tally,
        || CommandPads::parse(&properties),
        |pads| (&pads.running, &pads.frames),
    );
    let begun = Instant::now();
    for second in 0.. {
        let at = begun + Duration::from_secs(second);
        if pause(tally, at.saturating_duration_since(Instant::now())) {
            break;
        }
        player.playing().push_second(second);
        player.tick();
        if let Some((_, command, link)) = LINKS.iter().find(|link| link.0 == second % ROUND) {
            relay.write(&format!("{command}\n"));
            tally.set_link(link);
            if !link.is_empty() {
                tally.add(link);
            }
        }
    }
    player.stop();
}

/// reactorfilter, whose server is killed and replaced in each round.
fn with_restarts(tally: &Tally, _: u64) {
    let mut server = Server::start_recording(&SERVER);
    let line = format!(
        "videotestsrc is-live=true pattern=ball \
         ! video/x-raw,format=I420,width=320,height=180,framerate=15/1 \
         ! reactorfilter {} ! videoconvert ! video/x-raw,format=I420 \
         ! identity name=i ! fakesink sync=false",
        properties(&server.url())
    );
    let open = || {
        let running = TestPipeline::parse(&line);
        let frames = FrameReader::watch(&running.pad("i", "src"));
        (running, frames)
    };
    let mut player = Player::start("filter", tally, open, |(running, frames)| (running, frames));
    for second in 1.. {
        if pause(tally, Duration::from_secs(1)) {
            break;
        }
        player.tick();
        if second % ROUND == RESTART {
            server.kill();
            if pause(tally, DOWN) {
                break;
            }
            server.start_again();
            tally.add("server restarts");
            player.excuse();
        }
    }
    player.stop();
}

/// A session that lasts for some seconds, with a command, an upload, and a clip of it, saved while
/// it plays and again by its URL; nothing fails here.
fn short_sessions(tally: &Tally, _: u64) {
    let server = Server::start_recording(&SERVER);
    let line = format!(
        "reactorsrc name=r {0} r.video_main_video ! videoconvert ! video/x-raw,format=I420 \
         ! identity name=i ! fakesink sync=false r.audio_main_audio ! fakesink sync=false \
         reactorclip name=c request=now duration=2 ! fakesink sync=false",
        properties(&server.url())
    );
    loop {
        let end = Instant::now() + Duration::from_secs(CYCLE);
        let running = TestPipeline::parse(&line);
        let frames = FrameReader::watch(&running.pad("i", "src"));
        running.play();
        tally.add("connections");
        frames.wait_for(10, TIMEOUT);
        let source = running.by_name("r");
        actions::send_command(&source, "echo", r#"{"text":"x"}"#).wait_ok(TIMEOUT);
        let bytes = gst::glib::Bytes::from_owned(vec![7; 100_000]);
        let upload = vec![
            bytes.to_value(),
            "x.bin".to_value(),
            "application/octet-stream".to_value(),
        ];
        actions::emit_action(&source, "upload-bytes", upload).wait_ok(TIMEOUT);
        let saving = save_again(&running, TIMEOUT);
        watch::timed("the stop of a clip", || saving.stop());
        tally.add("clips");
        watch::timed("the stop of a short session", || running.stop());
        if pause(tally, end.saturating_duration_since(Instant::now())) {
            return;
        }
    }
}
