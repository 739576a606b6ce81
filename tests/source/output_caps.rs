// SPDX-License-Identifier: MIT

//! What the caps of reactorsrc say, and what is converted for downstream.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use reactor_tests::{
    TIMEOUT, actions,
    frames::FrameReader,
    pipeline::{TestPipeline, wait_for, wait_until},
    proxy::{Proxy, Rule, RuntimeRoute},
    server::Server,
};

/// The caps that pass a pad, in their order.
fn watch_caps(pad: &gst::Pad) -> Arc<Mutex<Vec<gst::Caps>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let caps_seen = seen.clone();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view()) {
            caps_seen.lock().unwrap().push(caps.caps_owned());
        }
        gst::PadProbeReturn::Ok
    });
    seen
}

fn rate_of(caps: &gst::Caps) -> (i32, i32) {
    let structure = caps.structure(0).unwrap();
    let rate: gst::Fraction = structure.get("framerate").expect("a rate");
    (rate.numer(), rate.denom())
}

/// One session feeds raw video, a compositor, and sound that is converted.
#[test]
fn caps_have_nominal_rate_and_what_fits_is_not_converted() {
    let server = Server::playground_640x360();
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} session=caps name=r \
         r.video_main_video ! tee name=t \
         t. ! queue ! identity name=raw ! fakesink \
         t. ! queue ! compositor ! identity name=mixed ! fakesink \
         r.audio_main_audio ! audio/x-raw,format=F32LE,rate=44100,channels=1 \
           ! identity name=sound ! fakesink",
        server.url()
    ));
    let frames = FrameReader::watch(&running.pad("raw", "src"));
    let caps = ["raw", "mixed", "sound"].map(|name| watch_caps(&running.pad(name, "src")));
    let durations = watch_durations(&running.pad("raw", "src"));
    running.play();
    frames.wait_for(60, TIMEOUT);
    assert_eq!(frames.unreadable(), 0);
    for seen in &caps {
        wait_until("caps", TIMEOUT, || !seen.lock().unwrap().is_empty());
    }
    let [raw, mixed, sound] = caps.map(|seen| seen.lock().unwrap().clone());
    // One each: nothing downstream has to begin anew.
    assert_eq!((raw.len(), mixed.len()), (1, 1), "{raw:?} {mixed:?}");
    for caps in [&raw[0], &mixed[0]] {
        let structure = caps.structure(0).unwrap();
        assert_eq!(rate_of(caps), (30, 1));
        assert_eq!(structure.get::<i32>("width").unwrap(), 640, "{caps}");
        assert_eq!(structure.get::<i32>("height").unwrap(), 360, "{caps}");
    }
    assert_eq!(
        raw[0].structure(0).unwrap().get::<&str>("format").unwrap(),
        "I420"
    );
    assert_eq!(
        sound[0].structure(0).unwrap().get::<i32>("rate").unwrap(),
        44_100
    );
    let interval = Some(gst::ClockTime::from_nseconds(33_333_333));
    assert!(
        durations
            .lock()
            .unwrap()
            .iter()
            .all(|duration| *duration == interval)
    );
    // The converter of the picture hands through what it gets.
    let source: gst::Bin = running.by_name("r").downcast().unwrap();
    let converters = source.iterate_all_by_element_factory_name("videoconvert");
    let converter = converters.into_iter().next().unwrap().unwrap();
    let pads = ["sink", "src"].map(|name| converter.static_pad(name).unwrap().current_caps());
    assert_eq!(pads[0], pads[1]);
    running.assert_no_error();
}

#[test]
fn rate_is_the_one_that_the_platform_says() {
    let server = Server::playground_640x360();
    let proxy = Proxy::before(&server);
    let says_24 = |body: String| {
        let mut json: serde_json::Value = serde_json::from_str(&body).unwrap();
        if let Some(capabilities) = json["capabilities"].as_object_mut() {
            capabilities.insert("emission_fps".into(), 24.into());
        }
        json.to_string()
    };
    for route in [RuntimeRoute::Session, RuntimeRoute::StartSession] {
        proxy.rule(route, Rule::edit_reply(says_24));
    }
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={} name=r \
         r.video_main_video ! video/x-vp9 ! identity name=i ! fakesink",
        proxy.url()
    ));
    let caps = watch_caps(&running.pad("i", "src"));
    running.play();
    let first = wait_for(TIMEOUT, "caps", || caps.lock().unwrap().first().cloned());
    assert_eq!(rate_of(&first), (24, 1));
    // Only a size that downstream insists on is refused otherwise.
    running.stop();
    let running = TestPipeline::launch(&format!(
        "reactorsrc local=true api-url={} ! video/x-raw,framerate=60/1 ! fakesink",
        proxy.url()
    ));
    let error = running.wait_error(TIMEOUT);
    assert!(error.error.matches(gst::StreamError::Format), "{error:?}");
    let text = error.error.to_string();
    for part in [
        "framerate=(fraction)60/1",
        "framerate=(fraction)24/1",
        "put videorate in between",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

/// Durations follow the rate that the caps of another size say, raw and encoded.
#[test]
fn measured_rate_is_that_of_the_next_size() {
    let server = Server::start(&[("PLAYGROUND_FPS", "15")]);
    let running = TestPipeline::parse(&format!(
        "reactorsrc local=true api-url={url} name=r \
         r.video_main_video ! identity name=raw ! fakesink \
         reactorsrc local=true api-url={url} session=second name=e \
         e.video_main_video ! video/x-vp9 ! identity name=encoded ! fakesink",
        url = server.url()
    ));
    let pads = ["raw", "encoded"].map(|name| running.pad(name, "src"));
    let caps = [watch_caps(&pads[0]), watch_caps(&pads[1])];
    let durations = pads.each_ref().map(watch_durations);
    running.play();
    for (caps, durations) in caps.iter().zip(&durations) {
        wait_until("a measurement", TIMEOUT, || {
            durations.lock().unwrap().len() > 45
        });
        assert_eq!(rate_of(&caps.lock().unwrap()[0]), (30, 1));
    }
    // What a busy server sends is measured later, and as a frame or two more or less per second.
    let is_measured = |(frames, seconds): &(i32, i32)| (12..=18).contains(frames) && *seconds == 1;
    let mut rates = [(30, 1); 2];
    for (count, width) in [(2, 320), (3, 480), (4, 320)] {
        let size = format!(r#"{{"width":{width},"height":{}}}"#, width * 9 / 16);
        let reply = actions::send_command(&running.by_name("r"), "set_resolution", &size);
        assert_eq!(reply.error_code(TIMEOUT), None);
        rates = caps.each_ref().map(|caps| {
            wait_until("another size", TIMEOUT, || {
                caps.lock().unwrap().len() >= count
            });
            rate_of(caps.lock().unwrap().last().unwrap())
        });
        if rates.iter().all(is_measured) {
            break;
        }
    }
    assert!(rates.iter().all(is_measured), "{rates:?}");
    for (rate, durations) in rates.iter().zip(&durations) {
        // Some were on their way.
        durations.lock().unwrap().clear();
        wait_until("pictures", TIMEOUT, || durations.lock().unwrap().len() > 20);
        let interval = Some(gst::ClockTime::from_nseconds(1_000_000_000 / rate.0 as u64));
        let durations = durations.lock().unwrap();
        assert!(
            durations[5..].iter().all(|duration| *duration == interval),
            "{durations:?}"
        );
    }
    running.assert_no_error();
}

/// The durations of the buffers that pass a pad.
fn watch_durations(pad: &gst::Pad) -> Arc<Mutex<Vec<Option<gst::ClockTime>>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let durations = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        durations
            .lock()
            .unwrap()
            .push(info.buffer().unwrap().duration());
        gst::PadProbeReturn::Ok
    });
    seen
}

/// A model that comes slower than downstream relies on is a warning.
#[test]
fn measured_rate_that_downstream_does_not_take_is_a_warning() {
    let server = Server::start(&[("PLAYGROUND_FPS", "15")]);
    let running = TestPipeline::launch(&format!(
        "reactorsrc local=true api-url={} ! video/x-raw,framerate=60/1 ! fakesink",
        server.url()
    ));
    let text = running.wait_message(TIMEOUT, |message| match message.view() {
        gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
        _ => None,
    });
    assert!(text.contains("put videorate in between"), "{text}");
    running.assert_no_error();
}
