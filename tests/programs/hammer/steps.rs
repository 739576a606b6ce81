// SPDX-License-Identifier: MIT

//! The steps, and how often each is taken.

use std::time::Duration;

use gst::{glib, prelude::*};
use reactor_tests::random::SplitMix64;

use super::world::{Mischief, World, set_state, unblock};

pub type Step = (&'static str, fn(&mut World, &mut SplitMix64));

/// The shares of the steps.
const STEPS: [(usize, Step); 15] = [
    (6, ("add or end a pipeline", World::add_or_end_pipeline)),
    (6, ("state of a pipeline", pipeline_state)),
    (6, ("state of an element", element_state)),
    (3, ("locked state", locked_state)),
    (4, ("take out or put back", take_out_or_put_back)),
    (10, ("set a property", set_property)),
    (5, ("read properties", read_properties)),
    (16, ("action", action)),
    (8, ("event", event)),
    (4, ("query", query)),
    (8, ("link or unlink a source pad", source_pad)),
    (4, ("request or release a sink pad", sink_pad)),
    (5, ("mischief in the next callback", mischief)),
    (3, ("several threads at once", several_threads)),
    (12, ("pause", pause)),
];

/// Draws a step.
pub fn draw(random: &mut SplitMix64) -> &'static Step {
    let all: usize = STEPS.iter().map(|(share, _)| share).sum();
    let mut at = random.below(all);
    for (share, step) in &STEPS {
        if at < *share {
            return step;
        }
        at -= share;
    }
    &STEPS[0].1
}

// GStreamer 1.22 waits for ever where a source that is not live pushes into a sink that is paused,
// and the source alone is to stop: `videotestsrc ! fakesink` in PAUSED, then EOS; or the sink's
// state locked, then NULL. So what `Player::waits` is not brought out of step with its pipeline.

const STATES: [gst::State; 6] = [
    gst::State::Playing,
    gst::State::Playing,
    gst::State::Playing,
    gst::State::Paused,
    gst::State::Ready,
    gst::State::Null,
];

fn pipeline_state(world: &mut World, random: &mut SplitMix64) {
    if let Some(player) = world.pick_player(random) {
        set_state(&player.pipeline, *random.pick(&STATES));
    }
}

fn element_state(world: &mut World, random: &mut SplitMix64) {
    let Some((_, element)) = world.pick(random).filter(|(player, _)| !player.waits) else {
        return;
    };
    match random.one_in(3) {
        true => drop(element.sync_state_with_parent()),
        false => set_state(&element, *random.pick(&STATES)),
    }
}

fn locked_state(world: &mut World, random: &mut SplitMix64) {
    if let Some((_, element)) = world.pick(random).filter(|(player, _)| !player.waits) {
        element.set_locked_state(random.one_in(2));
    }
}

fn take_out_or_put_back(world: &mut World, random: &mut SplitMix64) {
    let Some((player, element)) = world.pick(random) else {
        return;
    };
    match element.parent().and_downcast::<gst::Bin>() {
        Some(bin) => {
            let _ = bin.remove(&element);
            // An application may stop it before, after, or later.
            if player.waits || random.one_in(2) {
                set_state(&element, gst::State::Null);
            }
        }
        None => {
            let _ = player.pipeline.add(&element);
            let _ = element.sync_state_with_parent();
        }
    }
}

fn set_property(world: &mut World, random: &mut SplitMix64) {
    let Some((_, element)) = world.pick(random) else {
        return;
    };
    let (name, value) = *random.pick(&[
        ("latency", "10"),
        ("latency", "200"),
        ("max-latency", "0"),
        ("max-latency", "500"),
        ("max-receive-bitrate", "300000"),
        ("max-receive-bitrate", "0"),
        ("stats-interval", "100"),
        ("stats-interval", "0"),
        ("stall-timeout", "500"),
        ("stall-timeout", "5000"),
        ("waiting-timeout", "200"),
        ("waiting-timeout", "0"),
        ("reconnect", "false"),
        ("reconnect", "true"),
        ("restart-session", "true"),
        ("restart-session", "false"),
        ("check-commands", "false"),
        ("check-commands", "true"),
        ("on-gap", "black"),
        ("on-gap", "hold-last-frame"),
        ("on-gap", "stall"),
        ("commands", r#"[{"echo":{"text":"start"}},{"no_such":{}}]"#),
        ("commands", "this is no JSON"),
        ("navigation", r#"{"mouse-move":{"echo":{"text":"$x"}}}"#),
        ("session", "shared"),
        ("session", "other"),
        ("track-out", "nope"),
        ("track-out", "main_video"),
        ("drain-time", "0"),
        ("max-upload-size", "10"),
        ("wire", "v0"),
        ("wire", "v1"),
    ]);
    if element.has_property(name) {
        element.set_property_from_str(name, value);
    }
}

fn read_properties(world: &mut World, random: &mut SplitMix64) {
    let Some((_, element)) = world.pick(random) else {
        return;
    };
    for property in element.list_properties() {
        if property.flags().contains(glib::ParamFlags::READABLE) {
            let _ = element.property_value(property.name());
        }
    }
}

const ACTIONS: [&str; 12] = [
    "send-command",
    "send-command",
    "upload-bytes",
    "upload-file",
    "request-clip",
    "request-recording",
    "request-schema",
    "publish-track",
    "unpublish-track",
    "pause-track",
    "resume-track",
    "disconnect or reconnect",
];

/// Emits an action, several times at once now and then.
fn action(world: &mut World, random: &mut SplitMix64) {
    let Some((player, element)) = world.pick(random) else {
        return;
    };
    let name = match *random.pick(&ACTIONS) {
        "disconnect or reconnect" if random.one_in(2) => "disconnect",
        "disconnect or reconnect" => "reconnect",
        name => name,
    };
    let Some(signal) = glib::subclass::SignalId::lookup(name, element.type_()) else {
        return;
    };
    let query = signal.query();
    let types: Vec<glib::Type> = query.param_types().iter().map(|t| t.type_()).collect();
    for _ in 0..if random.one_in(8) { 20 } else { 1 } {
        let mut texts = texts_for(name, random).into_iter();
        let arguments: Vec<glib::Value> = types
            .iter()
            .map(|of| match *of {
                t if t == String::static_type() => texts.next().flatten().to_value(),
                t if t == gst::Promise::static_type() => match random.one_in(10) {
                    true => None::<gst::Promise>.to_value(),
                    false => Some(player.promise(name, &element)).to_value(),
                },
                t if t == f64::static_type() => (*random.pick(&[1.0, 0.0, -1.0, 1e9])).to_value(),
                t if t == bool::static_type() => random.one_in(2).to_value(),
                t if t == glib::Bytes::static_type() => {
                    glib::Bytes::from_owned(vec![0; *random.pick(&[0, 3, 100_000])]).to_value()
                }
                other => glib::Value::from_type(other),
            })
            .collect();
        element.emit_by_name_with_values(name, &arguments);
    }
}

/// The arguments of an action that are texts, right and wrong.
fn texts_for(action: &str, random: &mut SplitMix64) -> Vec<Option<&'static str>> {
    let pairs = match action {
        "send-command" => [
            [Some("echo"), Some(r#"{"text":"x"}"#)],
            [Some("echo"), Some("{")],
            [Some("echo"), None],
            [Some("no_such_command"), Some("{}")],
            [None, None],
        ],
        "upload-file" => [
            [Some("/dev/null"), None],
            [Some("/etc/hostname"), Some("name.txt")],
            [Some("/no/such/file"), None],
            [Some("/etc"), None],
            [None, None],
        ],
        _ => [
            [Some("main_video"), None],
            [Some("main_audio"), None],
            [Some("camera"), None],
            [Some("nope"), None],
            [None, None],
        ],
    };
    let mut texts = random.pick(&pairs).to_vec();
    texts.push(None);
    texts
}

fn event(world: &mut World, random: &mut SplitMix64) {
    let Some((player, element)) = world.pick(random) else {
        return;
    };
    let event = match random.below(9) {
        // It would wait for a source that waits for a sink to play.
        0 if player.waits && player.pipeline.current_state() != gst::State::Playing => return,
        0 => {
            player.pipeline.send_event(gst::event::Eos::new());
            return;
        }
        1 => gst::event::Eos::new(),
        // To a source from here, GStreamer 1.22 deadlocks with a sink's return to its state: the
        // sender has the source's state lock.
        2 | 3 if !element.src_pads().is_empty() || element.sink_pads().is_empty() => return,
        2 | 3 => {
            element.send_event(gst::event::FlushStart::new());
            element.send_event(gst::event::FlushStop::new(true));
            return;
        }
        4 => gst::event::Latency::new(gst::ClockTime::from_mseconds(100)),
        5 => gst::event::Reconfigure::new(),
        6 => gst_video::UpstreamForceKeyUnitEvent::builder().build(),
        7 => gst::event::CustomUpstream::new(
            gst::Structure::builder("reactor-command")
                .field("name", "echo")
                .field("data", r#"{"text":"by event"}"#)
                .build(),
        ),
        _ => gst_video::NavigationEvent::new_mouse_move(1.0, 1.0).build(),
    };
    // As downstream of a pad would send it.
    let pads = element.src_pads();
    match pads.get(random.below(pads.len())) {
        Some(pad) if event.is_upstream() && !event.is_downstream() => pad.send_event(event),
        _ => element.send_event(event),
    };
}

fn query(world: &mut World, random: &mut SplitMix64) {
    let Some((player, element)) = world.pick(random) else {
        return;
    };
    let mut query = gst::query::Latency::new();
    player.pipeline.query(&mut query);
    let _ = player.pipeline.recalculate_latency();
    let _ = element.query_position::<gst::ClockTime>();
    let _ = element.query_duration::<gst::ClockTime>();
    for pad in element.pads() {
        let _ = pad.query_caps(None);
        let _ = pad.peer_query_caps(None);
    }
}

/// Links a source's pad to another sink, or unlinks it.
fn source_pad(world: &mut World, random: &mut SplitMix64) {
    let Some((_, element)) = world.pick(random) else {
        return;
    };
    let Some(bin) = element.parent().and_downcast::<gst::Bin>() else {
        return;
    };
    let pads = element.src_pads();
    let Some(pad) = pads.get(random.below(pads.len())) else {
        return;
    };
    if let Some(peer) = pad.peer() {
        let _ = pad.unlink(&peer);
        return;
    }
    let description = "queue name=queue leaky=downstream ! fakesink async=false";
    let sink = gst::parse::bin_from_description(description, true).expect("a bin");
    unblock(&sink.by_name("queue").expect("a queue"));
    if bin.add(&sink).is_ok() {
        let _ = sink.sync_state_with_parent();
        let _ = pad.link(&sink.static_pad("sink").expect("a pad"));
    }
}

/// Feeds another pad of a sink, or releases one.
fn sink_pad(world: &mut World, random: &mut SplitMix64) {
    let Some((_, element)) = world.pick(random) else {
        return;
    };
    let is_sink = element.factory().is_some_and(|f| f.name() == "reactorsink");
    let Some(bin) = element
        .parent()
        .and_downcast::<gst::Bin>()
        .filter(|_| is_sink)
    else {
        return;
    };
    let pads = element.sink_pads();
    if let Some(pad) = pads
        .get(random.below(pads.len()))
        .filter(|_| random.one_in(2))
    {
        if let Some(peer) = pad.peer() {
            let _ = peer.unlink(pad);
        }
        element.release_request_pad(pad);
        return;
    }
    let (kind, factory) = *random.pick(&[("video", "videotestsrc"), ("audio", "audiotestsrc")]);
    let template = element
        .pad_template(&format!("{kind}_%s"))
        .expect("a template");
    let name = *random.pick(&[
        None,
        Some("video_camera"),
        Some("audio_microphone"),
        Some("video_x"),
    ]);
    let name = name.filter(|name| name.starts_with(kind) && element.static_pad(name).is_none());
    let source = gst::ElementFactory::make(factory)
        .property("is-live", true)
        .build()
        .expect("a source");
    let Some(pad) = element.request_pad(&template, name, None) else {
        return;
    };
    if bin.add(&source).is_ok() {
        let _ = source.static_pad("src").expect("a pad").link(&pad);
        let _ = source.sync_state_with_parent();
    }
}

fn mischief(world: &mut World, random: &mut SplitMix64) {
    if let Some(player) = world.pick_player(random) {
        player.armed.arm(*random.pick(&Mischief::ALL));
    }
}

/// States, actions and properties from several threads.
fn several_threads(world: &mut World, random: &mut SplitMix64) {
    let Some((player, element)) = world.pick(random) else {
        return;
    };
    let (one, other) = (*random.pick(&STATES), *random.pick(&STATES));
    let other = if player.waits { one } else { other };
    let promise = player.promise("send-command of a thread", &element);
    std::thread::scope(|scope| {
        scope.spawn(|| set_state(&player.pipeline, one));
        scope.spawn(|| set_state(&element, other));
        scope.spawn(|| {
            let _ = element.list_properties().len();
            if glib::subclass::SignalId::lookup("send-command", element.type_()).is_some() {
                element
                    .emit_by_name::<()>("send-command", &[&"echo", &r#"{"text":"x"}"#, &promise]);
            } else {
                promise.reply(Some(gst::Structure::new_empty("none")));
            }
        });
    });
}

/// Most of what the elements do takes a moment.
fn pause(_: &mut World, random: &mut SplitMix64) {
    std::thread::sleep(Duration::from_millis(random.below(400) as u64));
}
