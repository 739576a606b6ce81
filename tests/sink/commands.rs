// SPDX-License-Identifier: MIT

//! Pads that take commands: text, JSON and files in time, what is refused, and what they do not
//! hold up.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gst::prelude::*;
use gst_app::AppSrc;
use reactor_tests::{
    TIMEOUT,
    camera_view::Colour,
    frames::{FrameReader, longest_gap},
    model_messages,
    pipeline::{TestPipeline, count_buffers, is_v0, wait_until},
    proxy::{Proxy, Rule, RuntimeRoute},
    scratch::TempFile,
    server::Server,
    slow,
};
use serde_json::Value;

use crate::support::{CAMERA, assert_stops_soon, sent};

/// The texts of a member of each message.
fn texts(heard: &Mutex<Vec<Value>>, member: &str) -> Vec<String> {
    let heard = heard.lock().unwrap();
    let texts = heard
        .iter()
        .map(|data| data[member].as_str().unwrap().to_owned());
    texts.collect()
}

/// What `stats` says of a pad.
fn count(running: &TestPipeline, pad: &str, field: &str) -> u64 {
    running.pad_stats("s", pad).get(field).unwrap()
}

/// `sink name=s` with an `appsrc` of this name and these caps in front of a pad.
fn appsrc(name: &str, caps: &str, properties: &str, pad: &str) -> String {
    format!("appsrc name={name} format=time caps=\"{caps}\" {properties} ! s.{pad} ")
}

fn push(running: &TestPipeline, appsrc: &str, content: impl AsRef<[u8]>, at: Option<Duration>) {
    let mut buffer = gst::Buffer::from_slice(content.as_ref().to_vec());
    let time = at.map(|at| gst::ClockTime::try_from(at).unwrap());
    buffer.get_mut().unwrap().set_pts(time);
    let appsrc = running.by_name(appsrc).downcast::<AppSrc>().unwrap();
    appsrc.push_buffer(buffer).unwrap();
}

const TEXT: &str = "text/x-raw,format=utf8";
const JSON: &str = "application/x-json";

/// The next refused buffer: pad and code of the error.
fn refused(running: &TestPipeline) -> (String, String) {
    let reply = running.wait_element("reactor-reply", TIMEOUT);
    let error: gst::Structure = reply.get("error").unwrap();
    (reply.get("pad").unwrap(), error.get("code").unwrap())
}

#[test]
fn show_from_subtitles_is_played_in_time() {
    let server = Server::playground();
    let show = TempFile::new("show.srt");
    let srt = "1\n00:00:00,500 --> 00:00:01,000\na forest, at <i>dawn</i>\n\n\
               2\n00:00:01,200 --> 00:00:02,000\nthe sea's \"blue\" & <b>green</b>\n\n\
               3\n00:00:02,500 --> 00:00:03,000\ntwo\nlines 🌊\n\n\
               4\n00:01:00,000 --> 00:02:00,000\nmuch later\n\n";
    std::fs::write(&show.0, srt).unwrap();
    let proxy = Proxy::before(&server);
    proxy.rule(
        RuntimeRoute::StartSession,
        Rule::delay(Duration::from_secs(1)),
    );
    // Alone: there is no video to be sent.
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={} \
         filesrc location={} ! subparse ! text/x-raw,format=utf8 ! s.command_set_prompt",
        proxy.url(),
        show.0.display()
    ));
    let prompts = model_messages::collect(&running.by_name("s"), "prompt_changed");
    running.play();
    wait_until("three prompts", TIMEOUT, || {
        prompts.lock().unwrap().len() == 3
    });
    // What waits for its time does not keep the application waiting.
    running.pipeline.send_event(gst::event::Eos::new());
    running.wait_eos(TIMEOUT);
    assert_eq!(
        texts(&prompts, "prompt"),
        [
            "a forest, at dawn",
            "the sea's \"blue\" & green",
            "two\nlines 🌊"
        ]
    );
    // By the model's counter, at 30 frames a second; `prompts_of_a_minute_are_in_time` has the
    // exact figures.
    let frames: Vec<_> = {
        let prompts = prompts.lock().unwrap();
        prompts
            .iter()
            .map(|data| data["frame"].as_f64().unwrap() / 30.0)
            .collect()
    };
    let times = frames.iter().zip([0.5, 1.2, 2.5]);
    let mut offsets: Vec<f64> = times.map(|(frame, time)| frame - time).collect();
    offsets.sort_by(f64::total_cmp);
    // The middle one: a busy machine may be late with one. Sent at once, or in time from the start of
    // the pipeline, all are more than this away.
    assert!(offsets[1].abs() < 0.4, "{frames:?}");
    assert_eq!(count(&running, "command_set_prompt", "sent"), 3);
    assert_stops_soon(&running);
}

/// A show of a minute: each prompt is within 100 ms of its time by the model's own counter. Not
/// beside other tests: a model that waits for a processor counts late.
#[test]
fn prompts_of_a_minute_are_in_time() {
    if !slow() {
        return;
    }
    let server = Server::playground();
    let show = TempFile::new("minute.srt");
    // Not at the same part of the model's 1/30 s.
    let times: Vec<u64> = (0..60).map(|n| 500 + 1000 * n + 7 * n % 33).collect();
    let stamp = |ms: u64| {
        format!(
            "00:{:02}:{:02},{:03}",
            ms / 60_000,
            ms / 1000 % 60,
            ms % 1000
        )
    };
    let cues = times.iter().enumerate().map(|(n, &time)| {
        let (start, end) = (stamp(time), stamp(time + 800));
        format!("{}\n{start} --> {end}\nprompt {n}\n\n", n + 1)
    });
    std::fs::write(&show.0, cues.collect::<String>()).unwrap();
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={} \
         filesrc location={} ! subparse ! text/x-raw,format=utf8 ! s.command_set_prompt",
        server.url(),
        show.0.display()
    ));
    let prompts = model_messages::collect::<Value>(&running.by_name("s"), "prompt_changed");
    running.play();
    running.wait_eos(Duration::from_secs(60) + TIMEOUT);
    wait_until("the last prompt", TIMEOUT, || {
        prompts.lock().unwrap().len() == times.len()
    });
    let prompts = prompts.lock().unwrap();
    let at = |n: usize| prompts[n]["frame"].as_f64().unwrap() / 30.0;
    let mut late: Vec<_> = (0..times.len())
        .map(|n| at(n) - at(0) - (times[n] - times[0]) as f64 / 1000.0)
        .collect();
    late.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let (median, worst) = (late[late.len() / 2], late[late.len() - 1]);
    println!("60 prompts: median {median:.3} s, worst {worst:.3} s off their times");
    assert!(worst.abs() < 0.1, "{late:?}");
}

#[test]
fn buffers_become_commands_or_are_refused() {
    let server = Server::playground();
    let line = format!(
        "reactorsink name=s local=true api-url={} {}{}{}{} fakesrc num-buffers=1 sizetype=fixed sizemax=4 ! s.command_fail",
        server.url(),
        appsrc("any", JSON, "", "commands"),
        appsrc(
            "echo",
            TEXT,
            "is-live=true do-timestamp=true",
            "command_echo"
        ),
        appsrc("lines", TEXT, "", "command_set_prompt"),
        appsrc("value", JSON, "", "command_set_brightness"),
    );
    let running = TestPipeline::parse(&line);
    let sink = running.by_name("s");
    assert!(sink.request_pad_simple("command_").is_none());
    let (echoes, prompts) = (
        model_messages::collect(&sink, "echoed"),
        model_messages::collect(&sink, "prompt_changed"),
    );
    // Lines without timestamps, before anything is connected, spread over buffers.
    for part in ["one\ntwo\r\n\nthr", "ee\n@file:/etc/passwd\n"] {
        push(&running, "lines", part, None);
    }
    running.play();
    // The pad without caps.
    assert_eq!(
        refused(&running),
        ("command_fail".into(), "BAD_REQUEST".into())
    );
    wait_until("the lines", TIMEOUT, || prompts.lock().unwrap().len() == 4);
    assert_eq!(
        texts(&prompts, "prompt"),
        ["one", "two", "three", "@file:/etc/passwd"]
    );
    push(
        &running,
        "any",
        r#"{"echo":{"text":"a"}}  [{"echo":{"text":"@file:b"}},{"ec"#,
        None,
    );
    push(&running, "any", r#"ho":{"text":"c"}}]{"nothing":{}}"#, None);
    assert_eq!(
        refused(&running),
        ("commands".into(), "invalid_command".into())
    );
    push(&running, "echo", "live", None);
    wait_until("echoes", TIMEOUT, || echoes.lock().unwrap().len() == 4);
    assert_eq!(texts(&echoes, "text"), ["a", "@file:b", "c", "live"]);
    let soon = Duration::from_millis(1);
    for wrong in ["{\"value\":", "[0.5]", "{\"value\":3}", "{\"other\":1}"] {
        push(&running, "value", wrong, Some(soon));
        assert_eq!(refused(&running).0, "command_set_brightness", "{wrong}");
    }
    push(&running, "lines", b"\xff\n", None);
    assert_eq!(refused(&running).1, "BAD_REQUEST");
    assert_eq!(count(&running, "command_set_brightness", "refused"), 4);
    // What is refused is an error if the pad says so.
    running
        .pad("s", "command_set_brightness")
        .set_property("strict", true);
    push(&running, "value", "{\"value\":3}", Some(soon));
    let error = running.wait_error(TIMEOUT);
    assert!(
        error.error.message().contains("command_set_brightness"),
        "{error:?}"
    );
    assert_stops_soon(&running);
}

/// Of a live stream the newest command of each name waits, and all of one buffer; what is refused
/// costs none its place.
#[test]
fn newest_of_each_command_is_kept() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(
        RuntimeRoute::StartSession,
        Rule::delay(Duration::from_secs(3)),
    );
    let live = appsrc("any", JSON, "is-live=true do-timestamp=true", "commands");
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={} {live}",
        proxy.url()
    ));
    let sink = running.by_name("s");
    let (echoes, prompts) = (
        model_messages::collect(&sink, "echoed"),
        model_messages::collect(&sink, "prompt_changed"),
    );
    running.play();
    for buffer in [
        r#"{"echo":{"text":"old"}}"#,
        r#"[{"set_prompt":{"prompt":"p"}},{"echo":{"text":"a"}},{"echo":{"text":"b"}}]"#,
        "{oops",
    ] {
        push(&running, "any", buffer, None);
    }
    assert_eq!(refused(&running), ("commands".into(), "BAD_REQUEST".into()));
    wait_until("the echoes", TIMEOUT, || echoes.lock().unwrap().len() == 2);
    assert_eq!(texts(&echoes, "text"), ["a", "b"]);
    assert_eq!(texts(&prompts, "prompt"), ["p"]);
    assert_eq!(count(&running, "commands", "dropped"), 1);
    // So it is with a limit of the rate.
    running.pad("s", "commands").set_property("max-rate", 1.0);
    for buffer in [
        r#"{"echo":{"text":"1"}}"#,
        "{oops",
        r#"{"set_prompt":{"prompt":"q"}}"#,
        r#"{"echo":{"text":"2"}}"#,
        r#"{"echo":{"text":"3"}}"#,
    ] {
        push(&running, "any", buffer, None);
    }
    wait_until("the last echo", TIMEOUT, || {
        texts(&echoes, "text").last().unwrap() == "3"
    });
    assert_eq!(texts(&prompts, "prompt"), ["p", "q"]);
    assert_eq!(texts(&echoes, "text"), ["a", "b", "1", "3"]);
    assert_eq!(count(&running, "commands", "refused"), 2);
    assert_stops_soon(&running);
}

/// Writes a picture of this pattern as PNG.
fn write_png(file: &TempFile, pattern: &str) {
    let writer = TestPipeline::launch(&format!(
        "videotestsrc num-buffers=1 pattern={pattern} ! video/x-raw,width=320,height=180 \
         ! pngenc ! filesink location={}",
        file.0.display()
    ));
    writer.wait_eos(TIMEOUT);
}

/// A file comes in parts, which are one upload at its end.
#[test]
fn file_that_comes_in_parts_is_one() {
    let server = Server::playground();
    let url = server.url();
    let (picture, sound) = (TempFile::new("blue.png"), TempFile::new("voice.wav"));
    write_png(&picture, "blue");
    let size = std::fs::metadata(&picture.0).unwrap().len();
    assert!(size > 200, "{size}");
    std::fs::write(&sound.0, [b"RIFF".as_slice(), &[0; 20_000]].concat()).unwrap();
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={url} \
         filesrc blocksize=100 location={} ! image/png ! s.command_set_image \
         reactorsrc name=r local=true api-url={url} \
         r.video_main_video ! videoconvert ! video/x-raw,format=I420 ! identity name=i \
         ! fakesink sync=false",
        picture.0.display()
    ));
    let image = image_colour(&running);
    running.play();
    wait_until("the file", TIMEOUT, || {
        count(&running, "command_set_image", "sent") == 1
    });
    wait_until("the picture", TIMEOUT, || {
        image().is_some_and(|it| is_shown(Colour::Blue, it))
    });
    for (field, expected) in [("sent", 1), ("refused", 0), ("dropped", 0)] {
        assert_eq!(
            count(&running, "command_set_image", field),
            expected,
            "{field}"
        );
    }
    running.stop();
    if is_v0() {
        // Commands have no replies there.
        return;
    }
    // The model says of a sound that it is no image, and names the one file.
    let refusal = |limit: &str| {
        let running = TestPipeline::launch(&format!(
            "reactorsink name=s local=true api-url={url} {limit} \
             filesrc location={} ! audio/x-wav ! s.command_set_image",
            sound.0.display()
        ));
        let reply = running.wait_element("reactor-reply", TIMEOUT);
        let error: gst::Structure = reply.get("error").unwrap();
        running.wait_eos(TIMEOUT);
        assert_eq!(count(&running, "command_set_image", "refused"), 1);
        format!("{error:?}")
    };
    let error = refusal("");
    assert!(error.contains("bad_image"), "{error}");
    assert!(error.contains("set_image.wav is not an image"), "{error}");
    let error = refusal("max-upload-size=10000");
    assert!(error.contains("max-upload-size"), "{error}");
}

/// The colour in the middle of the right third, where the playground shows the image.
fn image_colour(running: &TestPipeline) -> impl Fn() -> Option<[u8; 3]> + use<> {
    use gst_video::prelude::*;
    let last = Arc::new(Mutex::new(None));
    let colour = last.clone();
    running
        .pad("i", "src")
        .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
                let frame =
                    gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
                if (info.width(), info.height()) == (320, 180) {
                    *last.lock().unwrap() = Some([0, 1, 2].map(|plane| {
                        let shift = u32::from(plane > 0);
                        let stride = frame.plane_stride()[plane as usize] as usize;
                        frame.plane_data(plane).unwrap()[(86 >> shift) * stride + (266 >> shift)]
                    }));
                }
            }
            gst::PadProbeReturn::Ok
        });
    move || *colour.lock().unwrap()
}

fn is_shown(colour: Colour, [_, u, v]: [u8; 3]) -> bool {
    match colour {
        Colour::Red => v > 180 && u < 128,
        Colour::Green => u < 100 && v < 100,
        Colour::Blue => u > 180 && v < 128,
    }
}

#[test]
fn camera_is_the_reference_image_and_slow_command_delays_no_frame() {
    let server = Server::playground();
    let url = server.url();
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={url} {CAMERA} ! tee name=t ! queue ! s.video_camera \
         t. ! queue ! videorate ! video/x-raw,framerate=5/1 ! jpegenc ! s.command_set_image \
         {} reactorsrc name=r local=true api-url={url} \
         r.video_main_video ! videoconvert ! video/x-raw,format=I420 ! identity name=i \
         ! fakesink sync=false r.messages ! fakesink name=m",
        appsrc("slow", JSON, "is-live=true do-timestamp=true", "commands"),
    ));
    let image = image_colour(&running);
    let frames = FrameReader::watch(&running.pad("i", "src"));
    let messages = count_buffers(&running.pad("m", "sink"));
    running.play();
    wait_until("the image", TIMEOUT, || {
        image().is_some_and(|it| is_shown(Colour::Red, it))
    });
    // One a second is enough.
    running
        .pad("s", "command_set_image")
        .set_property("max-rate", 1.0);
    wait_until("pictures sent", TIMEOUT, || {
        sent(&running, "video_camera") > 15
    });
    let before = (frames.len(), sent(&running, "video_camera"), messages());
    let sent_images = count(&running, "command_set_image", "sent");
    push(&running, "slow", r#"{"sleep":{"seconds":3}}"#, None);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(3500));
    let gap = longest_gap(&frames.frames()[before.0..]);
    // A frame that waits for the command is 3 s late.
    assert!(gap < 2.0, "no frame for {gap} s");
    let took = begun.elapsed();
    assert!(sent(&running, "video_camera") > before.1 + 30);
    assert!(messages() > before.2);
    let images = count(&running, "command_set_image", "sent") - sent_images;
    assert!((1..=7).contains(&images), "{images} images in {took:?}");
    assert!(count(&running, "command_set_image", "dropped") > 3);
    // The end of the commands is not that of the video.
    let slow = running.by_name("slow").downcast::<AppSrc>().unwrap();
    slow.end_of_stream().unwrap();
    let now = frames.len();
    wait_until("more frames", TIMEOUT, || frames.len() > now + 30);
    assert_eq!(server.session_state(), "streaming");
    assert_stops_soon(&running);
}

#[test]
fn commands_do_not_keep_a_pipeline_from_stopping() {
    let server = Server::playground();
    let proxy = Proxy::before(&server);
    proxy.rule(RuntimeRoute::StartSession, Rule::Hang);
    let running = TestPipeline::parse(&format!(
        "reactorsink name=s local=true api-url={} {}{CAMERA} ! jpegenc ! s.command_set_image",
        proxy.url(),
        appsrc("lines", TEXT, "", "command_set_prompt"),
    ));
    let camera = count_buffers(&running.pad("s", "command_set_image"));
    for n in 0..2 {
        running.play();
        for line in 0..1000 {
            push(&running, "lines", format!("line {line}\n"), None);
        }
        let before = camera();
        // The camera does not wait, and of its pictures the newest is kept.
        wait_until("20 pictures", TIMEOUT, || camera() > before + 20);
        assert_eq!(count(&running, "command_set_image", "sent"), 0);
        assert!(count(&running, "command_set_image", "dropped") > 10);
        let begun = Instant::now();
        running.pipeline.send_event(gst::event::FlushStart::new());
        running
            .pipeline
            .send_event(gst::event::FlushStop::new(true));
        assert!(begun.elapsed() < Duration::from_secs(1));
        let begun = Instant::now();
        running.stop();
        assert!(begun.elapsed() < Duration::from_secs(3), "stop {n}");
    }
    // Afterwards it works as before.
    proxy.reset();
    let prompts = model_messages::collect(&running.by_name("s"), "prompt_changed");
    running.play();
    push(&running, "lines", "last\n", None);
    wait_until("the prompt", TIMEOUT, || {
        texts(&prompts, "prompt") == ["last"]
    });
    assert_stops_soon(&running);
}
