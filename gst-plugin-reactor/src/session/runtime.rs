// SPDX-License-Identifier: MIT

//! The process's I/O threads, and those that may block. All sessions share them.
//! No task on the I/O threads ever blocks, but where no thread can be had that may.
//! A blocking thread is started where none is idle, and ends soon after its work.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::runtime::Runtime;

use super::headroom;
use crate::platform::{Code, Error, lock};

const WORKERS: usize = 2;
/// Of all elements and connections together. Most have nothing to do most of the
/// time; a handler of the application that blocks keeps one.
const MAX_BLOCKING_THREADS: usize = 4096;
/// Idle blocking threads take turns, so with a longer time a few events per second
/// would keep alive all threads that were ever needed at once.
const IDLE_BLOCKING_THREAD: Duration = Duration::from_millis(250);

/// The tokio runtime of the process, started by the first call.
///
/// # Errors
///
/// If the process cannot start another thread.
pub fn runtime() -> Result<&'static Runtime, Error> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    static STARTING: Mutex<Starting> = Mutex::new(Starting);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    // A later call may find the threads that this one does not.
    let _starting = lock(&STARTING);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    // tokio panics where it gets no thread.
    headroom::require()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(IDLE_BLOCKING_THREAD)
        .thread_name("reactor-io")
        .enable_all()
        .build()
        .map_err(|error| Error::api(Code::ResourceLimit, format!("no I/O threads: {error}")))?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

/// What the lock of [`runtime`] protects.
struct Starting;

/// Runs a function that may block, on a thread of its own for that time.
///
/// Where the process gets no further thread, an I/O thread runs it: an application
/// that is told of an error late is better than one that waits for ever.
pub fn run_blocking(run: impl FnOnce() + Clone + Send + 'static) {
    // Without I/O threads there is no session.
    if let Ok(runtime) = runtime() {
        run_once(runtime, run, |run| {
            runtime.spawn_blocking(run);
        });
    }
}

/// Has `spawn` run the function, or, where that panics, an I/O thread.
fn run_once<F: FnOnce() + Clone + Send + 'static>(
    runtime: &Runtime,
    run: F,
    spawn: impl FnOnce(Box<dyn FnOnce() + Send>),
) {
    // tokio 1.54 panics where it gets no thread, but keeps the function for the next.
    let is_taken = Arc::new(AtomicBool::new(false));
    let once = move || {
        if !is_taken.swap(true, Ordering::Relaxed) {
            run();
        }
    };
    let other = once.clone();
    let spawned = catch_unwind(AssertUnwindSafe(|| spawn(Box::new(once))));
    if spawned.is_err() {
        runtime.spawn(async move { other() });
    }
}

/// Runs a function on an I/O thread once `delay` has passed.
pub fn run_after(delay: Duration, run: impl FnOnce() + Send + 'static) {
    if let Ok(runtime) = runtime() {
        runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            run();
        });
    }
}

/// Stops its task when it is dropped.
#[derive(Debug)]
pub struct Timer(tokio::task::AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a function on an I/O thread once `delay` has passed, and again after the
/// time that it returns each time.
///
/// # Errors
///
/// If the process cannot start another thread.
pub fn run_repeatedly(
    delay: Duration,
    mut run: impl FnMut() -> Duration + Send + 'static,
) -> Result<Timer, Error> {
    let task = runtime()?.spawn(async move {
        let mut delay = delay;
        loop {
            tokio::time::sleep(delay).await;
            delay = run();
        }
    });
    Ok(Timer(task.abort_handle()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn io_thread_runs_what_no_other_thread_can() {
        let (sender, receiver) = mpsc::channel();
        let mut kept = None;
        run_once(
            runtime().unwrap(),
            move || sender.send(()).unwrap(),
            |run| {
                kept = Some(run);
                panic!("no thread");
            },
        );
        receiver.recv_timeout(TIMEOUT).expect("a call");
        // A later thread finds it in tokio's queue.
        kept.unwrap()();
        assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }
}
