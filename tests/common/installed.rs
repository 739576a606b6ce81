// SPDX-License-Identifier: MIT

//! Where GStreamer's own tools find the plugin that was built.
//!
//! `scratch` is the caller's `env!("CARGO_TARGET_TMPDIR")`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Lets a program find the plugin.
pub fn equip<'a>(command: &'a mut Command, scratch: &str) -> &'a mut Command {
    command
        .env("GST_PLUGIN_PATH", plugin_path(scratch))
        .env("GST_REGISTRY", registry(scratch))
}

/// For GST_PLUGIN_PATH.
fn plugin_path(scratch: &str) -> PathBuf {
    if let Some(path) = std::env::var_os("GST_PLUGIN_PATH") {
        return path.into();
    }
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let target = Path::new(scratch).parent().expect("a target directory");
    let path = target.join("gst-plugins").join(profile);
    assert!(
        path.exists(),
        "build_plugin of pipelines/lib/plugin.sh has to run first"
    );
    path
}

/// For GST_REGISTRY: one file for all runs, as reading all of GStreamer anew
/// takes seconds.
fn registry(scratch: &str) -> PathBuf {
    let own = || Path::new(scratch).join("gstreamer-registry.bin");
    std::env::var_os("GST_REGISTRY").map_or_else(own, PathBuf::from)
}

/// An application of `examples/`.
pub fn example(name: &str) -> Command {
    // Next to the directory of the tests, whatever the profile.
    let test = std::env::current_exe().expect("a path");
    let binary = test.parent().expect("a directory").with_file_name(name);
    assert!(
        binary.exists(),
        "cargo build --workspace has to run first: no {name}"
    );
    Command::new(binary)
}
