// SPDX-License-Identifier: MIT

//! `install.sh` and what the packages are made from.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use reactor_tests::{plugin_environment, scratch, server::repository};

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// Runs a command, and returns whether it succeeded and what it printed.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn install(home: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(repository().join("install.sh"));
    run(command.args(arguments).env("XDG_DATA_HOME", home))
}

fn install_library(home: &Path) -> String {
    let library = plugin_environment::library();
    let (success, output) = install(home, &["--user", "--library", library.to_str().unwrap()]);
    assert!(success, "{output}");
    output
}

/// All files and directories below a directory.
fn tree(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        }
        found.insert(path);
    }
    found
}

/// Like an application of that user's: no variable names the plugin or its presets.
fn inspect(home: &Path, element: &str) -> (bool, String) {
    let registry = scratch::TempFile::new("install-registry");
    let mut command = Command::new("gst-inspect-1.0");
    command.arg(element).env("XDG_DATA_HOME", home);
    for variable in ["GST_PLUGIN_PATH", "GST_PLUGIN_PATH_1_0", "GST_PRESET_PATH"] {
        command.env_remove(variable);
    }
    run(command.env("GST_REGISTRY", &registry.0))
}

#[test]
fn user_installation_is_found_and_removed_without_a_trace() {
    let home = scratch::directory().join("install with a space");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(home.join("gstreamer-1.0")).unwrap();
    fs::write(home.join("gstreamer-1.0/kept"), "").unwrap();
    let before = tree(&home);

    let output = install_library(&home);
    assert!(output.contains("reactorfilter: "), "{output}");
    let (found, shown) = inspect(&home, "reactorsrc");
    assert!(found && shown.contains("\"broadcast\""), "{shown}");
    let documents = home.join("doc/gst-plugin-reactor");
    for file in [
        "LICENSE",
        "third-party-licenses.txt",
        "docs/reference/reactorsrc.md",
    ] {
        assert!(documents.join(file).exists(), "no {file}");
    }
    let installed = tree(&home);
    // An update: nothing is there twice, and nothing is left of it.
    install_library(&home);
    assert_eq!(tree(&home), installed);

    let (success, output) = install(&home, &["--uninstall"]);
    assert!(success && !output.contains("kept"), "{output}");
    assert_eq!(tree(&home), before);
    let (success, output) = install(&home, &["--user", "--uninstall"]);
    assert!(!success && output.contains("not installed"), "{output}");
    fs::remove_dir_all(&home).unwrap();
}

/// GStreamer writes a user's own presets where those of the plugin are installed.
#[test]
fn presets_of_the_user_outlive_update_and_removal() {
    let home = scratch::directory().join("install-presets");
    let _ = fs::remove_dir_all(&home);
    let presets = home.join("gstreamer-1.0/presets");
    let [before, later] = ["GstReactorSrc.prs", "GstReactorFilter.prs"].map(|f| presets.join(f));
    fs::create_dir_all(&presets).unwrap();
    fs::write(&before, "[mine]").unwrap();
    install_library(&home);
    fs::write(&later, "[mine too]").unwrap();
    let output = install_library(&home);
    assert_eq!(output.matches("kept").count(), 2, "{output}");
    let (success, output) = install(&home, &["--uninstall"]);
    assert!(
        success && output.contains("GstReactorFilter.prs"),
        "{output}"
    );
    let left: Vec<_> = tree(&home)
        .into_iter()
        .filter(|path| path.is_file())
        .collect();
    assert_eq!(left, [later.clone(), before.clone()]);
    assert_eq!(fs::read_to_string(&before).unwrap(), "[mine]");
    assert_eq!(fs::read_to_string(&later).unwrap(), "[mine too]");
    fs::remove_dir_all(&home).unwrap();
}

#[test]
fn unknown_options_change_nothing() {
    let home = scratch::path("install-nothing");
    for arguments in [
        &[][..],
        &["--system"],
        &["--user", "x"],
        &["--user", "--library"],
    ] {
        let (success, output) = install(&home, arguments);
        assert!(
            !success && output.contains("--help"),
            "{arguments:?}: {output}"
        );
    }
    assert!(!home.exists());
}

#[test]
fn versions_of_crate_package_and_changes_agree() {
    let version = env!("CARGO_PKG_VERSION");
    let debian = read("packaging/debian/changelog");
    assert!(
        debian.starts_with(&format!("gst-plugin-reactor ({version}-")),
        "{debian}"
    );
    assert!(read("CHANGELOG.md").contains(&format!("## [{version}]")));
}

/// For each crate that the library is linked with, a licence.
#[test]
fn third_party_licenses_name_the_crates_of_the_library() {
    let mut tree = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    tree.args([
        "tree",
        "--offline",
        "--locked",
        "--package",
        "gst-plugin-reactor",
    ]);
    tree.args(["--edges", "normal", "--prefix", "none", "--color", "never"]);
    for target in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        tree.args(["--target", target]);
    }
    let (success, linked) = run(tree.current_dir(repository()));
    assert!(success, "{linked}");
    // Lines such as `bytes v1.10.0` or `glib-macros v0.22.9 (proc-macro)`.
    let linked: BTreeSet<_> = linked
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| format!("  {name} {}", rest.split(' ').next().unwrap()))
        .collect();
    let licenses = read("gst-plugin-reactor/third-party-licenses.txt");
    let named: BTreeSet<_> = licenses.lines().map(str::to_owned).collect();
    let missing: Vec<_> = linked.difference(&named).collect();
    assert!(
        missing.is_empty(),
        "packaging/licenses.sh writes the file anew; it has not: {missing:?}"
    );
    // Those of crates that are gone: in the list of a licence there are names and versions only.
    let is_crate = |line: &&String| {
        line.strip_prefix("  ")
            .and_then(|line| line.split_once(' '))
            .is_some_and(|(name, version)| {
                let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
                name.chars().all(is_name)
                    && version.starts_with(|c: char| c.is_ascii_digit())
                    && version.split('.').count() >= 3
                    && !version.contains(' ')
            })
    };
    let named: BTreeSet<_> = named.iter().filter(is_crate).collect();
    let gone: Vec<_> = named
        .into_iter()
        .filter(|line| !linked.contains(*line))
        .collect();
    assert!(
        gone.is_empty(),
        "packaging/licenses.sh writes the file anew: {gone:?}"
    );
}

/// What `cargo publish` uploads: the plugin without its tests, with what an installation needs.
#[test]
fn published_crates_have_licence_and_presets_but_no_tests() {
    let list = |package: &str| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.args([
            "package",
            "--list",
            "--allow-dirty",
            "--offline",
            "--package",
            package,
        ]);
        let (success, files) = run(command.current_dir(repository()));
        assert!(success, "{files}");
        for line in files.lines() {
            let is_test = ["tests.rs", "tests/", "testdata/"]
                .iter()
                .any(|t| line.contains(t));
            assert!(!is_test, "{package}: {line}");
        }
        files
    };
    let plugin = list("gst-plugin-reactor");
    for file in [
        "LICENSE",
        "README.md",
        "third-party-licenses.txt",
        "presets/GstReactorSrc.prs",
    ] {
        assert!(
            plugin.lines().any(|line| line == file),
            "no {file}: {plugin}"
        );
    }
    assert!(list("dynamic-gobject").contains("LICENSE"));
}
