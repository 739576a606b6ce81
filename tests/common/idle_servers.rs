// SPDX-License-Identifier: MIT

//! Servers that one test has left and the next one takes. A start takes 1.1 s of processor time;
//! Python's imports take 0.85 s of that.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use crate::{
    process::send_signal,
    server_process::{Kind, ServerProcess},
};

/// `tests/run.sh` runs two tests at once.
const MAX_IDLE: usize = 2;

static IDLE: Mutex<Vec<ServerProcess>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<ServerProcess>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn take(kind: Kind) -> Option<ServerProcess> {
    let mut servers = idle();
    let found = servers.iter().position(|server| server.kind == kind)?;
    Some(servers.remove(found))
}

/// Keeps a server for the next test. Of more than [`MAX_IDLE`], it ends the oldest.
pub(crate) fn put(server: ServerProcess) {
    static AT_EXIT: Once = Once::new();
    // SAFETY: `end_all` is a plain function of this program.
    #[allow(unsafe_code)]
    AT_EXIT.call_once(|| {
        let _ = unsafe { libc::atexit(end_all) };
    });
    let surplus = {
        let mut servers = idle();
        servers.push(server);
        (servers.len() > MAX_IDLE).then(|| servers.remove(0))
    };
    drop(surplus);
}

/// Rust does not drop statics.
extern "C" fn end_all() {
    // A test that still runs may hold the lock.
    let Ok(servers) = IDLE.try_lock() else {
        return;
    };
    for server in servers.iter() {
        // Nobody reaps the process before it gets the signal.
        send_signal(server.pid().cast_signed(), libc::SIGKILL);
    }
}
