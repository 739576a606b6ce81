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
    let server = Server::playground();
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
