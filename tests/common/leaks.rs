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
        .filter(|line| !is_leaked_by_statistics(line))
        .collect();
    assert!(alive.is_empty(), "{alive:#?}");
}

/// Each answer of webrtcbin 1.28's to `get-stats` keeps a reference to the session of the data channel
/// (`_get_data_channel_transport_stats`), and that one the caps of its payload types.
fn is_leaked_by_statistics(line: &str) -> bool {
    let is_session = line.contains("type-name=(string)GstRtpSession");
    let is_caps = line.contains("type-name=(string)GstCaps") && line.contains("application/x-rtp");
    gst::version() >= (1, 28, 0, 0) && (is_session || is_caps)
}
