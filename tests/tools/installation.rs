// SPDX-License-Identifier: MIT

//! `install.sh` and what the packages are made from.

use std::{fs, process::Command};

use reactor_tests::{scratch, server::repository};

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn install(home: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(repository().join("install.sh"))
        .args(arguments)
        .env("XDG_DATA_HOME", home)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn uninstall_removes_the_library_and_its_directories_alone() {
    let home = scratch::directory().join("install");
    let _ = fs::remove_dir_all(&home);
    let plugins = home.join("gstreamer-1.0/plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(home.join("kept"), "").unwrap();
    fs::write(plugins.join("libgstreactor.so"), "").unwrap();
    let (success, output) = install(&home, &["--user", "--uninstall"]);
    assert!(success && output.contains("removed"), "{output}");
    assert!(home.join("kept").exists() && !home.join("gstreamer-1.0").exists());
    let (success, output) = install(&home, &["--user", "--uninstall"]);
    assert!(!success && output.contains("not installed"), "{output}");
    fs::remove_dir_all(&home).unwrap();
}

#[test]
fn unknown_options_change_nothing() {
    let home = scratch::path("install-nothing");
    for arguments in [&[][..], &["--system"], &["--user", "x"]] {
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
