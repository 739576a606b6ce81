// SPDX-License-Identifier: MIT

//! Commands as a person types them: lines for the real gst-launch-1.0, which a shell reads. The
//! proof is what the model says of its prompt.

use std::{process::Command, str::FromStr, time::Duration};

use reactor_tests::{
    TIMEOUT, pipeline::wait_until, process::Process, scratch::TempFile, server::Server,
};
use serde_json::Value;

/// A reactorsrc with what is typed behind it.
fn launch(server: &Server, typed: &str) -> Process {
    let line = format!(
        "exec gst-launch-1.0 -m reactorsrc local=true api-url={} {typed} ! fakesink",
        server.url()
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &line]);
    Process::start("typed", shell)
}

/// The model's messages of a type, with what they say.
fn messages(process: &Process, of: &str) -> Vec<Value> {
    let output = process.output();
    let structures = output.lines().filter_map(|line| {
        let start = line.find("reactor-message, ")?;
        gst::Structure::from_str(&line[start..]).ok()
    });
    let said = structures.filter(|structure| structure.get("type") == Ok(of));
    said.map(|structure| serde_json::from_str(structure.get::<&str>("data").unwrap()).unwrap())
        .collect()
}

/// Waits until the model has told of this prompt, and stops the pipeline.
fn expect_prompt(mut process: Process, server: &Server, prompt: &str) {
    wait_until(prompt, TIMEOUT, || {
        assert!(!process.has_ended(), "{}", process.output());
        let prompts = messages(&process, "prompt_changed");
        prompts.iter().any(|said| said["prompt"] == prompt)
    });
    process.interrupt_group();
    process.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
}

#[test]
fn commands_typed_as_json5_reach_model() {
    reactor_tests::init();
    let server = Server::playground_640x360();
    let typed = "commands=\"[{set_prompt:{prompt:'a forest, at dawn'}},{start:{}}]\"";
    expect_prompt(launch(&server, typed), &server, "a forest, at dawn");
    let file = TempFile::new("typed show.json5");
    let prompt = "it's \"a forest\", at dawn 🌲";
    let text = format!(
        "// one object\n{{set_prompt:{{prompt:{}}}}}\n",
        Value::from(prompt)
    );
    std::fs::write(&file.0, text).unwrap();
    let typed = format!("commands=\"@{}\"", file.0.display());
    expect_prompt(launch(&server, &typed), &server, prompt);
}

#[test]
fn commands_are_properties_of_children() {
    reactor_tests::init();
    let server = Server::playground_640x360();
    let typed = "set_prompt::prompt=\"a forest at dawn\" set_brightness::value=0.5";
    let mut launched = launch(&server, typed);
    let has = |text| launched.output().contains(text);
    wait_until("both commands", TIMEOUT, || {
        has("reactor-reply, command=(string)set_prompt")
            && has("reactor-reply, command=(string)set_brightness")
    });
    // A decoder is a child as well, and makes gst-launch-1.0 look again.
    wait_until("a picture", TIMEOUT, || has("video-codec"));
    wait_until("the model's word", TIMEOUT, || {
        !messages(&launched, "prompt_changed").is_empty()
    });
    std::thread::sleep(Duration::from_millis(300));
    let said = messages(&launched, "prompt_changed");
    let prompts: Vec<_> = said.iter().map(|said| said["prompt"].as_str()).collect();
    assert_eq!(prompts, [Some("a forest at dawn")]);
    launched.interrupt_group();
    launched.assert_succeeds(TIMEOUT);
    server.wait_for_state("ready", TIMEOUT);
    let typed = "set_promt::prompt=x set_brightness::brightness=abc \
                 set_prompt::prompt=\"it's a forest, at dawn 🌲\"";
    let launched = launch(&server, typed);
    wait_until("warnings", TIMEOUT, || {
        let output = launched.output();
        output.contains("the model has no command \"set_promt\"; it has set_prompt")
            && output.contains("nothing was set of the command \"set_brightness\"")
    });
    expect_prompt(launched, &server, "it's a forest, at dawn 🌲");
}

/// Double quotes are part of a prompt; around a space they need others around the whole, and
/// backslashes. A command without parameters is triggered.
#[test]
fn properties_of_children_take_quotes_and_triggers() {
    reactor_tests::init();
    let server = Server::playground_640x360();
    let typed = r#"set_prompt::prompt='a "forest" at dawn' fail::trigger=true"#;
    let launched = launch(&server, typed);
    wait_until("the trigger", TIMEOUT, || {
        launched.output().contains("told_to_fail")
    });
    expect_prompt(launched, &server, "a \"forest\" at dawn");
    let typed = r#"'set_prompt::prompt="say \"at dawn\", and no \"dusk\""'"#;
    let launched = launch(&server, typed);
    expect_prompt(launched, &server, "say \"at dawn\", and no \"dusk\"");
}

/// The camera as reference image, as in the documentation of reactorsink.
#[test]
fn camera_is_the_reference_image() {
    reactor_tests::init();
    let server = Server::playground_640x360();
    let seen = TempFile::new("typed-camera.rgb");
    let line = format!(
        "exec gst-launch-1.0 -m reactorsink name=s local=true api-url={url} \
         videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=180 ! videorate \
         ! video/x-raw,framerate=1/5 ! jpegenc ! s.command_set_image \
         reactorsrc local=true api-url={url} ! videorate ! video/x-raw,framerate=2/1 \
         ! videoconvert ! video/x-raw,format=RGB ! filesink buffer-mode=unbuffered location={}",
        seen.0.display(),
        url = server.url()
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &line]);
    let mut launched = Process::start("typed-camera", shell);
    wait_until("the camera's picture", TIMEOUT, || {
        assert!(!launched.has_ended(), "{}", launched.output());
        let pictures = std::fs::read(&seen.0).unwrap_or_default();
        // The middle of the right third of 640x360, where the playground shows the image.
        let last = pictures.chunks_exact(640 * 360 * 3).last();
        last.is_some_and(|picture| {
            let at = (172 * 640 + 533) * 3;
            let [red, green, blue] = [0, 1, 2].map(|n| picture[at + n]);
            red > 180 && green < 80 && blue < 80
        })
    });
    launched.interrupt_group();
    launched.assert_succeeds(TIMEOUT);
}

#[test]
fn pads_take_what_files_and_people_write() {
    reactor_tests::init();
    let server = Server::playground_640x360();
    // A show of prompts, which ends by itself.
    let show = TempFile::new("typed-show.srt");
    let srt = "1\n00:00:00,200 --> 00:00:00,700\na forest, at dawn\n\n\
               2\n00:00:01,000 --> 00:00:01,500\nit's \"blue\" 🌊\n\n";
    std::fs::write(&show.0, srt).unwrap();
    let sink = format!(
        "exec gst-launch-1.0 -m reactorsink name=s local=true api-url={}",
        server.url()
    );
    let start = |name: &str, line: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{sink} {line}")]);
        Process::start_with_stdin(name, shell)
    };
    let line = format!(
        "filesrc location={} ! subparse ! text/x-raw,format=utf8 ! s.command_set_prompt",
        show.0.display()
    );
    let mut launched = start("typed-show", &line);
    launched.assert_succeeds(2 * TIMEOUT);
    let prompts = messages(&launched, "prompt_changed");
    let prompts: Vec<_> = prompts.iter().map(|said| said["prompt"].as_str()).collect();
    let expected = ["a forest, at dawn", "it's \"blue\" 🌊"];
    assert_eq!(prompts, expected.map(Some));
    // Each line typed is a prompt, and what the model says of it a text. The pads'
    // properties are those of children.
    let said = TempFile::new("typed-said.json");
    let line = format!(
        "command_set_prompt::param=prompt fdsrc ! text/x-raw,format=utf8 ! s.command_set_prompt \
         reactorsrc name=r messages::format=text messages::path=/data/prompt messages::duration=0 \
         r.messages ! filesink async=false buffer-mode=unbuffered location={}",
        said.0.display()
    );
    let mut launched = start("typed-lines", &line);
    let said = || std::fs::read_to_string(&said.0).unwrap_or_default();
    launched.write("a forest\nit's a \"ship\", or ");
    wait_until("the first line", TIMEOUT, || said() == "a forest");
    launched.write("two 🚢\n");
    wait_until("the second line", TIMEOUT, || {
        said() == "a forestit's a \"ship\", or two 🚢"
    });
    launched.interrupt_group();
    launched.assert_succeeds(TIMEOUT);
}

/// What a program in Python does, as of the documentation of GstChildProxy.
const PYTHON: &str = r#"
import sys
import gi
gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst
Gst.init(None)
pipeline = Gst.parse_launch(f"reactorsrc name=r local=true api-url={sys.argv[1]} ! fakesink")
src = pipeline.get_by_name("r")
loop = GLib.MainLoop()

def added(proxy, child, name):
    names = [spec.name for spec in child.list_properties()]
    print(name, sorted(set(names) - {"name", "parent", "command-summary"}), flush=True)
    if name == "set_prompt":
        Gst.ChildProxy.set_property(src, "set_prompt::prompt", '''say "hello", it's me 🌲''')

def message(bus, message):
    structure = message.get_structure()
    if structure and structure.get_name() == "reactor-message":
        if structure.get_string("type") == "prompt_changed":
            print(structure.get_string("data"), flush=True)
            print("again:", src.get_child_by_name("set_prompt").props.prompt, flush=True)
            loop.quit()

src.connect("child-added", added)
pipeline.get_bus().add_signal_watch()
pipeline.get_bus().connect("message::element", message)
pipeline.set_state(Gst.State.PLAYING)
GLib.timeout_add_seconds(30, loop.quit)
loop.run()
pipeline.set_state(Gst.State.NULL)
"#;

#[test]
fn python_sets_properties_of_children() {
    let server = Server::playground_640x360();
    // The system's own, which has GStreamer's bindings.
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", PYTHON, &server.url()]);
    let mut python = Process::start("typed-python", python);
    python.assert_succeeds(2 * TIMEOUT);
    let output = python.output();
    for line in [
        "set_resolution ['height', 'width']",
        "fail ['trigger']",
        "set_brightness ['brightness', 'value']",
        r#""prompt":"say \"hello\", it's me 🌲""#,
        r#"again: say "hello", it's me 🌲"#,
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
}

#[test]
fn commands_cut_by_gst_launch_are_explained() {
    // What everybody types first.
    let typed = r#"gst-launch-1.0 reactorsrc local=true \
        commands='[{"set_prompt":{"prompt":"a forest at dawn"}}]' ! fakesink"#;
    let mut shell = Command::new("bash");
    shell.args(["-c", typed]);
    let mut launch = Process::start("typed-cut", shell);
    assert!(!launch.wait(Duration::from_secs(20)).success());
    let output = launch.output();
    assert!(
        output.contains("the property commands is [{\"set_prompt\""),
        "{output}"
    );
    assert!(output.contains("{prompt:'a forest at dawn'}"), "{output}");
    assert!(output.contains("no element \"forest\""), "{output}");
}
