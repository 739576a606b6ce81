// SPDX-License-Identifier: MIT

//! The environment in which GStreamer's own tools find the plugin that was built, and the
//! applications of `examples/`.

use std::{path::PathBuf, process::Command};

use crate::{scratch, server::repository};

/// Sets the variables with which a program finds the plugin and its presets.
pub fn set(command: &mut Command) -> &mut Command {
    command
        .env("GST_PLUGIN_PATH", plugin_path())
        .env(
            "GST_PRESET_PATH",
            repository().join("gst-plugin-reactor/presets"),
        )
        .env("GST_REGISTRY", registry())
}

/// For GST_PLUGIN_PATH.
fn plugin_path() -> PathBuf {
    if let Some(path) = std::env::var_os("GST_PLUGIN_PATH") {
        return path.into();
    }
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let path = scratch::target_directory()
        .join("gst-plugins")
        .join(profile);
    assert!(
        path.exists(),
        "build_plugin of pipelines/lib/plugin.sh has to run first"
    );
    path
}

/// The plugin's library.
pub fn library() -> PathBuf {
    std::env::split_paths(&plugin_path())
        .map(|directory| directory.join("libgstreactor.so"))
        .find(|file| file.exists())
        .expect("a library in GST_PLUGIN_PATH")
}

/// For GST_REGISTRY: one file for all runs, as scanning all of GStreamer's plugins takes seconds.
fn registry() -> PathBuf {
    let own = || scratch::directory().join("gstreamer-registry.bin");
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
