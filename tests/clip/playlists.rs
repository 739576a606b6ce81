// SPDX-License-Identifier: MIT

//! Clips by the URL of their playlist: what is saved, plays and seeks; errors, stopping, memory.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use gst::{
    glib::{self, error::ErrorDomain},
    prelude::*,
};
use reactor_tests::{
    TIMEOUT, audio,
    clips::{GRAIN, assert_complete_mp4, assert_duration, live, playlist_url, record},
    frames::FrameReader,
    media, official_client,
    pipeline::TestPipeline,
    process::Process,
    recording_server::RecordingServer,
    scratch::TempFile,
    server::Server,
};

/// Saves the clip of a reactorclip with these properties in a pipeline of its own.
fn save(properties: &str, file: &Path) -> Duration {
    let line = format!(
        "reactorclip name=c {properties} ! filesink location={}",
        file.display()
    );
    let begun = Instant::now();
    TestPipeline::launch(&line).wait_eos(TIMEOUT);
    begun.elapsed()
}

#[test]
fn clip_equals_that_of_official_client() {
    let server = Server::recording();
    let clip = record(&server, 5.0);
    let url = playlist_url(&server, &clip);
    let (own, theirs) = (
        TempFile::new("clip-own.mp4"),
        TempFile::new("clip-theirs.mp4"),
    );
    let (parts, fragmented) = (TempFile::new("clip-parts.mp4"), "format=fragmented");
    // Waits until the last chunk is closed.
    official_client::download_clip(&url, &theirs.0);
    save(&format!("local=true playlist-url=\"{url}\""), &own.0);
    save(
        &format!("local=true {fragmented} playlist-url=\"{url}\""),
        &parts.0,
    );
    let (_, counters) = assert_complete_mp4(&own.0);
    assert_eq!(counters, media::recorded_counters(&theirs.0));
    // Byte for byte what the official client concatenates.
    assert_eq!(
        std::fs::read(&parts.0).unwrap(),
        std::fs::read(&theirs.0).unwrap()
    );
    let length = media::samples(&own.0).len() as f64 / f64::from(audio::RATE);
    let before = media::samples(&theirs.0).len() as f64 / f64::from(audio::RATE);
    assert!((length - before).abs() < GRAIN, "{length} s, {before} s");
}

#[test]
fn clip_property_saves_reply_of_request_clip() {
    let server = Server::recording();
    let clip = record(&server, 3.0);
    // No property names the server: the clip does.
    let running = TestPipeline::parse("reactorclip name=c ! filesink name=f");
    let file = TempFile::new("clip-answer.mp4");
    running.by_name("c").set_property("clip", &clip);
    running.by_name("f").set_property("location", &file.0);
    running.play();
    let made = running.wait_element("reactor-clip", TIMEOUT);
    running.wait_eos(TIMEOUT);
    let size = std::fs::metadata(&file.0).unwrap().len();
    assert_eq!(made.get::<u64>("bytes").unwrap(), size);
    let (duration, _) = assert_complete_mp4(&file.0);
    let said = made.get::<gst::ClockTime>("duration").unwrap();
    assert_duration(duration, said.mseconds() as f64 / 1000.0);
}

#[test]
fn clip_plays_and_seeks() {
    let server = Server::recording();
    let clip = record(&server, 5.0);
    let url = playlist_url(&server, &clip);
    for format in ["faststart", "fragmented"] {
        let running = TestPipeline::parse(&format!(
            "reactorclip name=c local=true format={format} playlist-url=\"{url}\" ! \
             decodebin name=d  d. ! video/x-raw ! queue ! videoconvert ! \
             fakesink name=f sync=false signal-handoffs=true"
        ));
        let pictures = FrameReader::rendered_by(&running.by_name("f"));
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
            pictures.wait_for(1, TIMEOUT);
            let first = pictures.frames()[0];
            let pts = first.pts.unwrap().mseconds();
            assert!((2950..3100).contains(&pts), "{first:?}");
        }
        running.play();
        running.wait_eos(TIMEOUT);
        assert!(pictures.len() >= 55, "{format}: {}", pictures.len());
    }
}

/// It stops at once while it waits for a session, for the recording, for the playlist, or for a
/// slow sink.
#[test]
fn stop_in_any_phase_is_immediate() {
    let server = Server::recording();
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
            let running = TestPipeline::launch(&line);
            std::thread::sleep(Duration::from_millis(milliseconds));
            let begun = Instant::now();
            running.pipeline.set_state(gst::State::Ready).unwrap();
            let took = begun.elapsed();
            // 200 ms, and a tolerance for a busy machine.
            assert!(took < Duration::from_secs(1), "{line}: {took:?}");
            assert!(running.pop_error().is_none(), "{line}");
        }
    }
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn unavailable_clip_posts_error_with_code() {
    let server = Server::recording();
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
        let file = TempFile::new("clip-none.mp4");
        let running = TestPipeline::parse(&format!(
            "reactorclip local=true ready-timeout=1000 playlist-url=\"{url}\" ! \
             filesink location={}",
            file.0.display()
        ));
        let begun = Instant::now();
        let _ = running.pipeline.set_state(gst::State::Playing);
        let failure = running.wait_error(TIMEOUT);
        if url.starts_with("http://127.0.0.1:1/") {
            // It would be tried again for some 8 s.
            assert!(begun.elapsed() < Duration::from_secs(6));
        }
        assert_eq!(failure.code(), code, "{url}: {failure:?}");
        assert!(kind(&failure.error), "{url}: {failure:?}");
        // Nobody else complains about the same failure.
        std::thread::sleep(Duration::from_millis(100));
        running.assert_no_error();
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
        let running = TestPipeline::parse(line);
        let _ = running.pipeline.set_state(gst::State::Playing);
        let failure = running.wait_error(TIMEOUT);
        assert!(failure.error.message().contains(said), "{failure:?}");
        running.assert_no_error();
    }
}

/// Memory does not grow with the recording: ten times the length takes no more.
#[test]
fn long_recording_takes_bounded_memory() {
    let server = Server::recording();
    let clip = record(&server, 10.5);
    let base = TempFile::new("clip-base.mp4");
    official_client::download_clip(&playlist_url(&server, &clip), &base.0);
    drop(server);
    let base = std::fs::read(&base.0).unwrap();
    for format in ["fragmented", "faststart"] {
        let peak = |segments| {
            let recording = RecordingServer::serve(&base, segments, Duration::from_millis(1));
            let line = format!(
                "reactorclip local=true format={format} playlist-url={} ! \
                 fakesink",
                recording.url()
            );
            let name = format!("clip-{format}-{segments}");
            let mut launch = Process::gst_launch(&name, &[], &line, &[]);
            let peak = peak_memory(&mut launch);
            assert_eq!(recording.requests(), segments + 2);
            peak
        };
        let (short, long) = (peak(40), peak(400));
        // 16 MB of video and audio in one, 160 MB in the other.
        assert!(long < short + 24_000, "{format}: {short} KiB, {long} KiB");
    }
}

/// The peak resident size of a process (VmHWM) until it ends, in KiB.
fn peak_memory(launch: &mut Process) -> u64 {
    let status = format!("/proc/{}/status", launch.pid());
    let begun = Instant::now();
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        // A process that has ended has no VmHWM.
        let Some(number) = number else { break };
        peak = number;
        assert!(begun.elapsed() < TIMEOUT * 2, "{}", launch.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    launch.assert_succeeds(TIMEOUT);
    peak
}
