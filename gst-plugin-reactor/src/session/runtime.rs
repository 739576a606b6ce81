// SPDX-License-Identifier: MIT

//! The process's I/O threads. All sessions share them, and no task on them ever
//! blocks.

use std::{sync::OnceLock, time::Duration};

use tokio::runtime::Runtime;

use crate::platform::{Code, Error};

const WORKERS: usize = 2;

/// The tokio runtime of the process, started by the first call.
///
/// # Errors
///
/// If the process cannot start another thread.
pub fn runtime() -> Result<&'static Runtime, Error> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("reactor-io")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
    });
    runtime
        .as_ref()
        .map_err(|error| Error::api(Code::Internal, format!("no I/O threads: {error}")))
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
