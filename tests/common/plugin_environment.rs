// SPDX-License-Identifier: MIT

//! The environment in which GStreamer's own tools find the plugin that was built, and the
//! applications of `examples/`.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{scratch, server::repository};

/// Sets the variables with which a program finds the plugin and its presets, but for those that the
/// command sets itself.
pub fn set(command: &mut Command) -> &mut Command {
    let presets = repository().join("gst-plugin-reactor/presets");
    for (name, value) in [
        ("GST_PLUGIN_PATH", plugin_path()),
        ("GST_PRESET_PATH", presets),
        ("GST_REGISTRY", registry()),
        // A script that builds the plugin finds it built.
        ("REACTOR_BUILD", "--workspace --all-targets".into()),
    ] {
        if command.get_envs().all(|(set, _)| set != name) {
            command.env(name, value);
        }
    }
    command
}

/// Has a program find fallbackswitch and fallbacksrc as well, which cargo builds for the tests.
pub fn add_fallbackswitch(command: &mut Command) -> &mut Command {
    // Tests of a process run side by side.
    static PREPARED: OnceLock<(OsString, PathBuf)> = OnceLock::new();
    let (path, registry) = PREPARED.get_or_init(prepare_fallbackswitch);
    command.env("GST_PLUGIN_PATH", path);
    command.env("GST_REGISTRY", registry)
}

/// Returns the path of the plugins, and a registry.
fn prepare_fallbackswitch() -> (OsString, PathBuf) {
    let directory = scratch::directory().join("fallbackswitch");
    fs::create_dir_all(&directory).expect("a directory");
    let link = directory.join("libgstfallbackswitch.so");
    let _ = fs::remove_file(&link);
    symlink(fallbackswitch(), &link).expect("a link");
    let path = env::join_paths([plugin_path(), directory]).expect("no colons");
    // Scanning what is new takes less time than scanning everything.
    let registry_of_its_own = scratch::directory().join("fallbackswitch-registry.bin");
    if !registry_of_its_own.exists() {
        let _ = fs::copy(registry(), &registry_of_its_own);
    }
    (path, registry_of_its_own)
}

/// The newest: those of earlier builds stay next to it.
fn fallbackswitch() -> PathBuf {
    let test = env::current_exe().expect("a path");
    let files = fs::read_dir(test.parent().expect("a directory")).expect("a directory");
    let files = files.map(|entry| entry.expect("a file").path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libgstfallbackswitch-") && path.extension() == Some(OsStr::new("so"))
    };
    let built = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let newest = files.filter(is_library).max_by_key(|path| built(path));
    newest.expect("the tests depend on gst-plugin-fallbackswitch")
}

/// For GST_PLUGIN_PATH.
fn plugin_path() -> PathBuf {
    if let Some(path) = env::var_os("GST_PLUGIN_PATH") {
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
    env::split_paths(&plugin_path())
        .map(|directory| directory.join("libgstreactor.so"))
        .find(|file| file.exists())
        .expect("a library in GST_PLUGIN_PATH")
}

/// For GST_REGISTRY: one file for all runs, as scanning all of GStreamer's plugins takes seconds.
fn registry() -> PathBuf {
    let own = || scratch::directory().join("gstreamer-registry.bin");
    env::var_os("GST_REGISTRY").map_or_else(own, PathBuf::from)
}

/// An application of `examples/`.
pub fn example(name: &str) -> Command {
    // Next to the directory of the tests, whatever the profile.
    let test = env::current_exe().expect("a path");
    let binary = test.parent().expect("a directory").with_file_name(name);
    assert!(
        binary.exists(),
        "cargo build --workspace has to run first: no {name}"
    );
    Command::new(binary)
}
