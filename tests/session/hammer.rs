// SPDX-License-Identifier: MIT

//! Random steps, other ones each time: see `programs/hammer`.

use std::{process::Command, time::Duration};

use reactor_tests::{TIMEOUT, process::Process};

const SECONDS: u64 = 60;

#[test]
fn random_steps_hang_and_leave_nothing() {
    let mut hammer = Command::new(env!("CARGO_BIN_EXE_reactor-hammer"));
    hammer.args(["--seconds", &SECONDS.to_string()]);
    hammer.env("REACTOR_LOCK_ORDER_STRICT", "1");
    let mut hammer = Process::start("hammer", hammer);
    hammer.assert_succeeds(Duration::from_secs(SECONDS) + 2 * TIMEOUT);
    print!("{}", hammer.output());
}
