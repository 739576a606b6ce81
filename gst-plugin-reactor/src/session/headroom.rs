// SPDX-License-Identifier: MIT

//! Whether the process may still have the threads and descriptors that a connection
//! takes. GLib and libnice end the process where they get none ("Creating pipes for
//! GWakeup: Too many open files", "creating thread: Resource temporarily
//! unavailable"), and GStreamer plays on without the poll sets that wake it, so
//! both are tried before anything is made. Called by whoever starts a session and on
//! transport threads; it takes 0.6 to 2 ms (measured).

use std::{io, sync::mpsc, thread::Builder};

use crate::platform::{Code, Error};

/// The threads of one connection: webrtcbin's 13 (measured), the transport's, those
/// that resolve names and handle events, and the process's own two of I/O.
const THREADS: usize = 20;
/// Pipes of two descriptors each. A connection with one network address takes 21
/// descriptors, each further address one more (measured, GStreamer 1.22).
const PIPES: usize = 16;
/// What GLib's threads take of the address space, which `ulimit -v` limits. Memory is
/// only what they use of it.
const STACK: usize = 8 << 20;

/// Fails if there is no room for one more connection.
///
/// # Errors
///
/// `ResourceLimit` with the limit that is in the way.
pub fn require() -> Result<(), Error> {
    try_descriptors().map_err(|error| {
        let text = format!(
            "this process may not open the {} descriptors that a connection takes: {error} \
             (the limit is that of `ulimit -n`)",
            2 * PIPES
        );
        Error::api(Code::ResourceLimit, text)
    })?;
    try_threads().map_err(|error| {
        let text = format!(
            "this process may not start the {THREADS} threads that a connection takes: {error} \
             (the limit is that of `ulimit -u` or of the container's processes, or of memory, \
             `ulimit -v`)"
        );
        Error::api(Code::ResourceLimit, text)
    })
}

/// Opens as many as a connection takes, and closes them.
fn try_descriptors() -> io::Result<()> {
    let pipes: io::Result<Vec<_>> = (0..PIPES).map(|_| io::pipe()).collect();
    pipes.map(drop)
}

/// Starts as many as a connection takes, all at once, and ends them.
fn try_threads() -> io::Result<()> {
    // A thread ends when its sender is dropped.
    let mut senders = Vec::with_capacity(THREADS);
    let mut threads = Vec::with_capacity(THREADS);
    let mut result = Ok(());
    for _ in 0..THREADS {
        let (sender, receiver) = mpsc::channel::<()>();
        let builder = Builder::new().stack_size(STACK);
        match builder.spawn(move || receiver.recv()) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        senders.push(sender);
    }
    drop(senders);
    for thread in threads {
        let _ = thread.join();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_with_room_has_it() {
        require().unwrap();
    }
}
