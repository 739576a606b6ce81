// SPDX-License-Identifier: MIT

//! GStreamer's leaks tracer.

/// Environment with which a process reports live objects at its end.
pub const ENVIRONMENT: [(&str, &str); 3] = [
    ("GST_TRACERS", "leaks"),
    ("GST_DEBUG", "GST_TRACER:7,reactor*:INFO"),
    ("GST_DEBUG_NO_COLOR", "1"),
];

/// Panics if the log of such a process names an object that is still alive.
pub fn assert_none(log: &str) {
    assert!(
        log.contains("object-alive"),
        "the leaks tracer did not report:\n{log}"
    );
    let alive: Vec<_> = log
        .lines()
        .filter(|line| line.contains("object-alive, type-name=(string)"))
        // The description of the record, and the agent with the process's certificate, which
        // GStreamer keeps on purpose.
        .filter(|line| !line.contains("type-name=(string)%s"))
        .filter(|line| !line.contains("type-name=(string)GstDtlsAgent"))
        .collect();
    assert!(alive.is_empty(), "{alive:#?}");
}
