// SPDX-License-Identifier: MIT

//! Detects problems that a test does not notice by itself: panics on the plugin's threads, critical
//! warnings of libraries.

use std::{
    cell::RefCell,
    panic,
    sync::{Mutex, Once},
};

use reactor_tests::criticals;

/// What was complained of, and the tests that ran then: one of them is the cause, and which is not
/// known, since most threads of a pipeline are not the plugin's.
static COMPLAINTS: Mutex<Vec<(String, Vec<String>)>> = Mutex::new(Vec::new());

/// The names of the tests that run.
static RUNNING: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// The test that this thread runs.
    static TEST: RefCell<Option<RunningTest>> = const { RefCell::new(None) };
}

/// A test that runs, until its thread ends.
struct RunningTest(String);

impl RunningTest {
    fn begin() -> Self {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        RUNNING.lock().unwrap().push(name.clone());
        Self(name)
    }
}

impl Drop for RunningTest {
    fn drop(&mut self) {
        RUNNING.lock().unwrap().retain(|name| *name != self.0);
    }
}

/// Prefixes of the names of the plugin's own threads.
const THREADS: [&str; 1] = ["reactor"];

/// Installs the panic hook and listens for criticals, once per process, and begins to charge what they
/// see to the test that calls it.
pub fn watch() {
    TEST.with_borrow_mut(|test| {
        test.get_or_insert_with(RunningTest::begin);
    });
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            let place = info.location().map_or("", |location| location.file());
            let ours = THREADS.iter().any(|begin| name.starts_with(begin))
                || place.contains("gst-plugin-reactor");
            if ours {
                complain(format!("panic on {name}: {info}"));
            }
            previous(info);
        }));
        criticals::listen(complain);
    });
}

fn complain(text: String) {
    let running = RUNNING.lock().unwrap().clone();
    COMPLAINTS.lock().unwrap().push((text, running));
}

/// Panics if there was any problem in this process while this test ran. Another test that ran at
/// the same time may be the cause.
pub fn assert_clean() {
    let name = TEST.with_borrow(|test| test.as_ref().map(|test| test.0.clone()));
    let name = name.unwrap_or_default();
    // Not held by an assertion that fails: other tests would fail of that.
    let complaints = COMPLAINTS.lock().unwrap().clone();
    let charged: Vec<_> = complaints
        .iter()
        .filter(|(_, running)| running.contains(&name))
        .collect();
    assert!(charged.is_empty(), "{charged:#?}");
}

/// A critical warning is charged to the test in which it arose, and to no later one.
#[test]
fn complaint_is_charged_to_running_test() {
    watch();
    let earlier = ("in another test".to_owned(), vec!["another".to_owned()]);
    COMPLAINTS.lock().unwrap().push(earlier);
    assert_clean();
    let name = TEST.with_borrow(|test| test.as_ref().unwrap().0.clone());
    let own = ("in this one".to_owned(), vec![name, "another".to_owned()]);
    COMPLAINTS.lock().unwrap().push(own);
    let failed = panic::catch_unwind(assert_clean);
    COMPLAINTS.lock().unwrap_or_else(|e| e.into_inner()).pop();
    COMPLAINTS.clear_poison();
    assert!(failed.is_err());
}
