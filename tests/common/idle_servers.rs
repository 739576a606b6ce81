// SPDX-License-Identifier: MIT

//! Servers that one test has left and the next one takes. A start costs more than a second of a
//! processor, nearly all of it for Python's imports.

use std::{
    mem,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use crate::{process::send_signal, server::Server};

/// As many as tests run at once.
const MAX_IDLE: usize = 2;

static IDLE: Mutex<Vec<Server>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<Server>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that records, or one that does not.
pub(crate) fn take(records: bool) -> Option<Server> {
    let mut servers = idle();
    let found = servers
        .iter()
        .position(|server| server.records() == records)?;
    Some(servers.remove(found))
}

/// Gives the oldest one back if there are too many.
pub(crate) fn put(server: Server) -> Option<Server> {
    static AT_EXIT: Once = Once::new();
    // SAFETY: `end_all` is a plain function of this program.
    #[allow(unsafe_code)]
    AT_EXIT.call_once(|| {
        let _ = unsafe { libc::atexit(end_all) };
    });
    let mut servers = idle();
    servers.push(server);
    (servers.len() > MAX_IDLE).then(|| servers.remove(0))
}

/// Statics are not dropped.
extern "C" fn end_all() {
    // A test that still runs may hold the lock.
    let Ok(mut servers) = IDLE.try_lock() else {
        return;
    };
    for server in mem::take(&mut *servers) {
        // The child is not reaped before it is dropped, and never after.
        send_signal(server.pid().cast_signed(), libc::SIGKILL);
        mem::forget(server);
    }
}
