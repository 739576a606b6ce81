// SPDX-License-Identifier: MIT

//! `pipelines/fanout.sh`: one session for many viewers, through Janus.

use std::{path::Path, thread, time::Duration};

use reactor_tests::{
    TIMEOUT,
    chromium::{Chromium, Page},
    frames::{assert_nearly_contiguous, decode_frame_code},
    http,
    janus::{Janus, Viewer, free_udp_ports},
    pipeline::wait_until,
    process::Process,
    resources::cpu_time,
    scratch,
    server::{Server, repository},
    slow,
};

use crate::support::{CONNECTED, local, script};

/// Janus with the mountpoint that the script prints, and the first of its ports.
fn start_janus(name: &str) -> (Janus, String) {
    let port = free_udp_ports().to_string();
    let mut prints = script("fanout.sh");
    prints.args(["--mountpoint", "1", "--port", &port, "127.0.0.1"]);
    let printed = prints.output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let mountpoint = String::from_utf8(printed.stdout).unwrap();
    (Janus::start(scratch::path(name), &mountpoint), port)
}

fn start_fanout(server: &Server, port: &str) -> Process {
    let command = local(
        "fanout.sh",
        server,
        &["--port", port],
        Path::new("127.0.0.1"),
    );
    let mut fanout = Process::start("fanout", command);
    fanout.wait_for_output(CONNECTED, TIMEOUT);
    fanout
}

/// The model's own keyframes are 100 s apart: a viewer who sees a picture sooner has one that was
/// asked for.
#[test]
fn each_viewer_sees_model_from_keyframe_on() {
    const DECODED: &str = "vp8dec ! identity name=i ! fakesink sync=false async=false";
    let server = Server::playground_640x360();
    let (janus, port) = start_janus("janus");
    let mut fanout = start_fanout(&server, &port);
    let first = Viewer::join(&janus, DECODED);
    let first_frames = first.frames("i");
    // Janus cannot ask before it has had the first RTCP, which has the address.
    first.ask_for_keyframes(&first_frames);
    first_frames.wait_for(60, TIMEOUT);
    // This one asks for nothing: Janus does.
    let second = Viewer::join(&janus, DECODED);
    let second_frames = second.frames("i");
    second_frames.wait_for(60, TIMEOUT);
    // Nobody's picture stops because somebody comes or goes.
    drop(second);
    let so_far = first_frames.len();
    wait_until("30 more pictures", TIMEOUT, || {
        first_frames.len() > so_far + 30
    });
    assert_nearly_contiguous(&first_frames.frames());
    assert_nearly_contiguous(&second_frames.frames());
    drop(first);
    let stop = format!("{}/stop_session", server.url());
    http::post(&stop, r#"{"reason":"test"}"#).unwrap();
    fanout.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);

    let mut again = start_fanout(&server, &port);
    again.interrupt_group();
    again.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
}

/// How long what viewers cost is measured.
const MEASURED: Duration = Duration::from_secs(20);
const VIEWERS: usize = 20;

/// Browsers: the picture that a page's video element shows is looked at, of the first and of the
/// last. Prints what they cost.
#[test]
fn chromium_shows_model() {
    if !slow() {
        return;
    }
    let server = Server::playground_640x360();
    let (janus, port) = start_janus("janus-chromium");
    let fanout = start_fanout(&server, &port);
    let chromium = Chromium::start("chromium");
    let page = repository().join("pipelines/fanout.html");
    let url = format!("file://{}?janus={}&id=1", page.display(), janus.url());
    let processes = [
        (
            "fanout.sh",
            fanout.child_pid("gst-launch-1.0").cast_unsigned(),
        ),
        ("Janus", janus.pid()),
        ("Chromium", chromium.pid()),
    ];
    let mut pages = Vec::new();
    for viewers in [1, VIEWERS] {
        while pages.len() < viewers {
            pages.push(chromium.open(&url));
        }
        for page in &pages {
            assert_plays(page);
        }
        let shown = || pages.iter().map(frames_shown).collect::<Vec<_>>();
        let (before, frames) = (processes.map(|(_, pid)| cpu_time(pid)), shown());
        thread::sleep(MEASURED);
        for ((name, pid), before) in processes.into_iter().zip(before) {
            let share = (cpu_time(pid) - before).div_duration_f64(MEASURED);
            println!(
                "{viewers} viewers: {name} {:.1} % of one core",
                100.0 * share
            );
        }
        let rates = shown().into_iter().zip(frames);
        let rates = rates.map(|(after, before)| (after - before) / MEASURED.as_secs_f64());
        let rates: Vec<_> = rates.collect();
        let least = rates.iter().copied().fold(f64::MAX, f64::min);
        println!("{viewers} viewers: {least:.1} pictures/s and more of {rates:.1?}");
        assert!(least > 1.0, "{rates:?}");
        assert_plays(pages.last().unwrap());
    }
}

/// Pictures that the video element has taken.
fn frames_shown(page: &Page<'_>) -> f64 {
    let count = page
        .evaluate("document.getElementById('video').getVideoPlaybackQuality().totalVideoFrames");
    count.as_f64().unwrap()
}

/// The counter in what the video element shows.
fn counter_shown(page: &Page<'_>) -> Option<u32> {
    const ROWS: &str = "(() => {
        const video = document.getElementById('video');
        if (video?.videoWidth !== 640 || video.paused) return [];
        const canvas = document.createElement('canvas');
        canvas.width = 640;
        canvas.height = 360;
        const context = canvas.getContext('2d');
        context.drawImage(video, 0, 0);
        const green = (_, n) => n % 4 === 1;
        return Array.from(context.getImageData(0, 0, 640, 32).data).filter(green);
    })()";
    let luma = page.evaluate(ROWS);
    let luma = luma.as_array().unwrap().iter();
    let luma: Vec<_> = luma.map(|value| value.as_u64().unwrap() as u8).collect();
    decode_frame_code(&luma, 640, 640, 360).map(|(counter, _)| counter)
}

/// Waits until the video element shows the model, and then more of it.
fn assert_plays(page: &Page<'_>) {
    let state = || page.evaluate("document.getElementById('state').textContent");
    let mut first = None;
    let limit = 2 * TIMEOUT;
    wait_until("a picture of the model in the page", limit, || {
        first = counter_shown(page);
        first.is_some()
    });
    wait_until("more pictures", limit, || counter_shown(page) > first);
    assert_eq!(state(), "connected");
}
