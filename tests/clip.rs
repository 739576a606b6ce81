// SPDX-License-Identifier: MIT

//! reactorclip against recordings of the real runtime.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use gst::{
    glib::{self, error::ErrorDomain},
    prelude::*,
};
use reactor_coordinator::{Coordinator, Route, Seen, Settings};
use reactor_tests::{
    clips::{GRAIN, assert_lasts, assert_ordinary, live, playlist_url, record},
    frames::Reader,
    launch::Place,
    media,
    pipeline::{Running, wait_until},
    process::Process,
    recording::Recording,
    server::Server,
    sound, tool,
};

/// The playground records in chunks of so many seconds.
const CHUNK: f64 = 2.0;
const SOON: Duration = Duration::from_secs(30);
const PLACE: Place = Place {
    directory: env!("CARGO_TARGET_TMPDIR"),
    test: "clip",
};

fn assert_chunks(duration: f64, least: f64) {
    let chunks = duration / CHUNK;
    assert!((chunks - chunks.round()).abs() < GRAIN, "{duration} s");
    assert!(duration + GRAIN >= least, "{duration} s");
}

#[test]
fn a_line_saves_its_own_clip() {
    let server = Server::playground();
    let (whole, cut) = (PLACE.scrap("whole.mp4"), PLACE.scrap("cut.mp4"));
    let line = format!(
        "{}  reactorclip duration=5 ! filesink location={}  \
         reactorclip duration=5 trim=true ! filesink location={}",
        live(&server),
        whole.0.display(),
        cut.0.display()
    );
    let mut launch = PLACE.launch("filled", &["-e", "-m"], &line, &[]);
    wait_until("two clips", SOON, || {
        launch.output().matches("reactor-clip, ").count() == 2
    });
    // The model goes on meanwhile.
    assert_eq!(server.session_state(), "streaming");
    launch.interrupt_group();
    launch.assert_succeeds(SOON);
    let (duration, all) = assert_ordinary(&whole.0);
    assert_chunks(duration, 5.0);
    let (duration, kept) = assert_ordinary(&cut.0);
    assert_lasts(duration, 5.0);
    assert!(all.len() > kept.len(), "{} {}", all.len(), kept.len());
}

#[test]
fn ctrl_c_saves_the_last_seconds() {
    let server = Server::playground();
    let file = PLACE.scrap("last.mp4");
    let line = format!(
        "{}  reactorclip duration=3 request=eos trim=true ! filesink location={}",
        live(&server),
        file.0.display()
    );
    let mut launch = PLACE.launch("last", &["-e"], &line, &[]);
    // It plays meanwhile.
    launch.wait_for_output("Setting pipeline to PLAYING", SOON);
    std::thread::sleep(Duration::from_secs(6));
    let state = server.session_state();
    assert_eq!(state, "streaming", "{}", launch.output());
    launch.interrupt_group();
    launch.assert_succeeds(SOON);
    server.wait_for_state("ready", SOON);
    let (duration, counters) = assert_ordinary(&file.0);
    assert_lasts(duration, 3.0);
    // The last of six seconds and not the first.
    assert!(counters[0] > 60, "it begins with picture {}", counters[0]);
}

/// Saves what this reactorclip gets, in a pipeline of its own.
fn save(properties: &str, file: &Path) -> Duration {
    let line = format!(
        "reactorclip name=c {properties} ! filesink location={}",
        file.display()
    );
    let begun = Instant::now();
    Running::launch(&line).wait_eos(SOON);
    begun.elapsed()
}

#[test]
fn the_official_client_gets_the_same() {
    let server = Server::playground();
    let clip = record(&server, 5.0);
    let url = playlist_url(&server, &clip);
    let (own, theirs) = (PLACE.scrap("own.mp4"), PLACE.scrap("theirs.mp4"));
    let (parts, fragmented) = (PLACE.scrap("parts.mp4"), "format=fragmented");
    // Waits until the last chunk is closed.
    tool::download(&url, &theirs.0);
    save(&format!("local=true playlist-url=\"{url}\""), &own.0);
    save(
        &format!("local=true {fragmented} playlist-url=\"{url}\""),
        &parts.0,
    );
    let (_, counters) = assert_ordinary(&own.0);
    assert_eq!(counters, media::recorded_counters(&theirs.0));
    // As they come: byte for byte what the official client puts together.
    assert_eq!(
        std::fs::read(&parts.0).unwrap(),
        std::fs::read(&theirs.0).unwrap()
    );
    let length = media::samples(&own.0).len() as f64 / f64::from(sound::RATE);
    let before = media::samples(&theirs.0).len() as f64 / f64::from(sound::RATE);
    assert!((length - before).abs() < GRAIN, "{length} s, {before} s");
}

#[test]
fn an_application_saves_what_request_clip_answers() {
    let server = Server::playground();
    let clip = record(&server, 3.0);
    // Nobody says where the server is: the clip does.
    let running = Running::parse("reactorclip name=c ! filesink name=f");
    let file = PLACE.scrap("answer.mp4");
    running.by_name("c").set_property("clip", &clip);
    running.by_name("f").set_property("location", &file.0);
    running.play();
    let made = running.wait_element("reactor-clip", SOON);
    running.wait_eos(SOON);
    let size = std::fs::metadata(&file.0).unwrap().len();
    assert_eq!(made.get::<u64>("bytes").unwrap(), size);
    let (duration, _) = assert_ordinary(&file.0);
    let said = made.get::<gst::ClockTime>("duration").unwrap();
    assert_lasts(duration, said.mseconds() as f64 / 1000.0);
}

#[test]
fn another_pipeline_names_the_session() {
    let server = Server::playground();
    let file = PLACE.scrap("named.mp4");
    // In this order too: the session comes later.
    let saving = Running::launch(&format!(
        "reactorclip name=c session=s request=now duration=2 ! filesink location={}",
        file.0.display()
    ));
    std::thread::sleep(Duration::from_millis(300));
    let running = Running::launch(&format!(
        "reactorsrc session=s local=true api-url={} ! fakesink",
        server.url()
    ));
    saving.wait_eos(SOON);
    let clip: gst::Structure = saving.by_name("c").property("clip");
    assert!(clip.has_field("playlist-url"), "{clip}");
    assert_ordinary(&file.0);
    drop(running);
    server.wait_for_state("ready", SOON);
}

/// A filter's session is its own, and so is each other's.
#[test]
fn a_filter_in_the_pipeline_will_do() {
    let server = Server::playground();
    let file = PLACE.scrap("filter.mp4");
    let running = Running::launch(&format!(
        "videotestsrc is-live=true ! video/x-raw,width=640,height=360 ! \
         reactorfilter local=true api-url={} ! fakesink  \
         reactorclip request=now duration=2 ! filesink location={}",
        server.url(),
        file.0.display()
    ));
    running.wait_element("reactor-clip", SOON);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(SOON);
    assert_ordinary(&file.0);
    let two = Running::parse(
        "videotestsrc ! reactorfilter local=true ! fakesink  \
         videotestsrc ! reactorfilter local=true ! fakesink  reactorclip ! fakesink",
    );
    let _ = two.pipeline.set_state(gst::State::Playing);
    let failure = two.wait_error(SOON);
    let text = failure.error.message();
    assert!(text.contains("several sessions"), "{failure:?}");
}

/// The live element leaves while there is less than was asked for: what there
/// is is saved, and the session is kept until it is.
#[test]
fn what_there_is_is_saved_when_the_live_element_leaves() {
    let server = Server::playground();
    let file = PLACE.scrap("deserted.mp4");
    let running = Running::launch(&format!(
        "reactorsrc session=d local=true api-url={} ! fakesink",
        server.url()
    ));
    let saving = Running::launch(&format!(
        "reactorclip session=d duration=100 ! filesink location={}",
        file.0.display()
    ));
    while {
        let recording = saving.wait_element("reactor-clip-recording", SOON);
        recording.get::<f64>("recorded").unwrap() < 3.0
    } {}
    running.stop();
    let code = saving.wait_message(SOON, |message| match message.view() {
        gst::MessageView::Warning(warning) => {
            let details = warning.details()?;
            details.get::<String>("code").ok()
        }
        _ => None,
    });
    assert_eq!(code, "CLIP_SHORTER");
    saving.wait_eos(SOON);
    server.wait_for_state("ready", SOON);
    let (duration, _) = assert_ordinary(&file.0);
    assert!(duration >= 3.0, "{duration} s");
}

#[test]
fn a_clip_plays_and_can_be_searched() {
    let server = Server::playground();
    let clip = record(&server, 5.0);
    let url = playlist_url(&server, &clip);
    for format in ["faststart", "fragmented"] {
        let running = Running::parse(&format!(
            "reactorclip name=c local=true format={format} playlist-url=\"{url}\" ! \
             decodebin name=d  d. ! video/x-raw ! queue ! videoconvert ! \
             fakesink name=f sync=false signal-handoffs=true"
        ));
        let pictures = Reader::rendered_by(&running.by_name("f"));
        running.pipeline.set_state(gst::State::Paused).unwrap();
        let (result, ..) = running.pipeline.state(gst::ClockTime::from_seconds(30));
        result.expect("PAUSED");
        if format == "faststart" {
            let length = running.pipeline.query_duration::<gst::ClockTime>().unwrap();
            assert!(length.mseconds() >= 5000, "{length}");
            let bytes = running.by_name("c").query_duration::<gst::format::Bytes>();
            assert!(bytes.is_some_and(|bytes| *bytes > 10_000), "{bytes:?}");
            let place = gst::ClockTime::from_seconds(3);
            let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
            running.pipeline.seek_simple(flags, place).expect("a seek");
            running.play();
            pictures.wait_for(1, SOON);
            let first = pictures.frames()[0];
            let pts = first.pts.unwrap().mseconds();
            assert!((2950..3100).contains(&pts), "{first:?}");
        }
        running.play();
        running.wait_eos(SOON);
        assert!(pictures.len() >= 55, "{format}: {}", pictures.len());
    }
}

/// Waiting for a session, for a GPU's recording, for a clip, for a disk: at
/// each moment it stops at once.
#[test]
fn it_stops_at_once_at_any_moment() {
    let server = Server::playground();
    let clip = record(&server, 3.0);
    let url = playlist_url(&server, &clip);
    let never = format!("{}&end=9999", url.split("&end").next().unwrap());
    for line in [
        "reactorclip session=nobody ! fakesink".to_owned(),
        format!("reactorclip local=true playlist-url=\"{never}\" ! fakesink"),
        format!(
            "reactorclip local=true playlist-url=\"{url}\" ! identity sleep-time=300000 ! fakesink"
        ),
        format!("{}  reactorclip duration=1000 ! fakesink", live(&server)),
    ] {
        for milliseconds in [0, 40, 300, 1500] {
            let running = Running::launch(&line);
            std::thread::sleep(Duration::from_millis(milliseconds));
            let begun = Instant::now();
            running.pipeline.set_state(gst::State::Ready).unwrap();
            let took = begun.elapsed();
            // 200 ms, and what a busy machine adds.
            assert!(took < Duration::from_secs(1), "{line}: {took:?}");
            assert!(!running.has_failed(), "{line}");
        }
    }
    server.wait_for_state("ready", SOON);
}

#[test]
fn what_cannot_be_had_says_why() {
    let server = Server::playground();
    let clip = record(&server, 3.0);
    let url = playlist_url(&server, &clip);
    let recording = clip.get::<&str>("session-id").unwrap();
    let at = |query: &str| format!("{}/clips?session_id={query}", server.url());
    let unknown = url.replace(recording, "00000000-0000-4000-8000-000000000000");
    fn is<E: ErrorDomain + Copy + 'static>(kind: E) -> Box<dyn Fn(&glib::Error) -> bool> {
        Box::new(move |error| error.matches(kind))
    }
    let cases = [
        (unknown, "CLIP_GONE", is(gst::ResourceError::NotFound)),
        (
            at(&format!("{recording}&start=5&end=1")),
            "BAD_REQUEST",
            is(gst::ResourceError::OpenRead),
        ),
        (
            at(&format!("{recording}&start=0&end=9999")),
            "CLIP_NOT_READY",
            is(gst::ResourceError::Busy),
        ),
        (
            "http://127.0.0.1:1/clips".into(),
            "PLAYLIST_FETCH_FAILED",
            is(gst::ResourceError::Read),
        ),
        (
            "file:///etc/passwd".into(),
            "INVALID_SETTINGS",
            is(gst::ResourceError::Settings),
        ),
        (
            format!("{}/health", server.url()),
            "INVALID_PLAYLIST",
            is(gst::StreamError::Format),
        ),
    ];
    for (url, code, kind) in cases {
        let file = PLACE.scrap("none.mp4");
        let running = Running::parse(&format!(
            "reactorclip local=true ready-timeout=1000 playlist-url=\"{url}\" ! \
             filesink location={}",
            file.0.display()
        ));
        let _ = running.pipeline.set_state(gst::State::Playing);
        let failure = running.wait_error(SOON);
        assert_eq!(failure.code(), code, "{url}: {failure:?}");
        assert!(kind(&failure.error), "{url}: {failure:?}");
        running.stop();
        assert_eq!(
            std::fs::metadata(&file.0).map_or(0, |m| m.len()),
            0,
            "{url}"
        );
    }
    for (line, said) in [
        ("reactorclip ! fakesink", "no session to take part in"),
        (
            "reactorclip session=s ready-timeout=200 ! fakesink",
            "no session \"s\"",
        ),
    ] {
        let running = Running::parse(line);
        let _ = running.pipeline.set_state(gst::State::Playing);
        let failure = running.wait_error(SOON);
        assert!(failure.error.message().contains(said), "{failure:?}");
    }
}

/// The cloud's parts are on another host, which gets no token.
#[test]
fn a_clip_of_the_cloud_is_fetched_without_its_token() {
    const KEY: &str = "rk_test";
    let server = Server::playground();
    let settings = Settings {
        runtime: Some(server.url()),
        ..Settings::default()
    };
    let coordinator = Coordinator::start(settings).unwrap();
    let file = PLACE.scrap("cloud.mp4");
    let running = Running::launch(&format!(
        "reactorsrc api-url={} model=playground api-key={KEY} ! fakesink  \
         reactorclip duration=3 ! filesink location={}",
        coordinator.url(),
        file.0.display()
    ));
    running.wait_element("reactor-clip", SOON);
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(SOON);
    running.stop();
    assert_ordinary(&file.0);
    wait_until("the ledger is empty", SOON, || {
        coordinator.open_sessions().is_empty()
    });
    let clips = coordinator.requests(Route::Clips);
    let fetched = coordinator.requests(Route::Fetch);
    assert!(!clips.is_empty() && fetched.len() >= 3, "{}", fetched.len());
    let has_token = |seen: &Seen| seen.header("authorization").is_some();
    assert!(clips.iter().all(has_token));
    assert!(!fetched.iter().any(has_token));
}

/// Much memory is none that grows: with ten times the recording it takes as
/// much.
#[test]
fn a_long_recording_takes_no_more_memory() {
    let server = Server::playground();
    let clip = record(&server, 10.5);
    let base = PLACE.scrap("base.mp4");
    tool::download(&playlist_url(&server, &clip), &base.0);
    drop(server);
    let base = std::fs::read(&base.0).unwrap();
    for format in ["fragmented", "faststart"] {
        let peak = |segments| {
            let recording = Recording::serve(&base, segments, Duration::from_millis(1));
            let line = format!(
                "reactorclip local=true format={format} playlist-url={} ! \
                 fakesink",
                recording.url()
            );
            let name = format!("{format}-{segments}");
            let mut launch = PLACE.launch(&name, &[], &line, &[]);
            let peak = peak_memory(&mut launch);
            assert_eq!(recording.requests(), segments + 2);
            peak
        };
        let (short, long) = (peak(40), peak(400));
        // 16 MB of pictures and sound in the one, 160 in the other.
        assert!(long < short + 24_000, "{format}: {short} KiB, {long} KiB");
    }
}

/// Until it ends, in KiB.
fn peak_memory(launch: &mut Process) -> u64 {
    let status = format!("/proc/{}/status", launch.pid());
    let begun = Instant::now();
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        // A process that has ended has no memory.
        let Some(number) = number else { break };
        peak = number;
        assert!(begun.elapsed() < SOON * 2, "{}", launch.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    launch.assert_succeeds(SOON);
    peak
}
