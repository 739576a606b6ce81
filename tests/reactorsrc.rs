// SPDX-License-Identifier: MIT

//! reactorsrc against the real local runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use reactor_tests::{
    frames::{Reader, assert_contiguous},
    pipeline::Running,
    server::Server,
};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn raw_video_comes_whole() {
    let server = Server::playground();
    let running = Running::parse(&format!(
        "reactorsrc local=true api-url={} ! identity name=i ! fakesink sync=false",
        server.url()
    ));
    let reader = Reader::watch(&running.pad("i", "src"));
    running.play();
    reader.wait_for(90, SOON);
    assert_contiguous(&reader.frames());
    assert_eq!(reader.unreadable(), 0);
}
