// SPDX-License-Identifier: MIT

//! GStreamer's leaks tracer.

/// Environment with which a process reports live objects at its end.
pub const ENVIRONMENT: [(&str, &str); 3] = [
    ("GST_TRACERS", "leaks"),
    ("GST_DEBUG", "GST_TRACER:7,reactor*:INFO"),
    ("GST_DEBUG_NO_COLOR", "1"),
];

/// Whether each answer of webrtcbin's to `get-stats` keeps a reference to the session of the data
/// channel (`_get_data_channel_transport_stats`, 1.28), and that one its caps and packets.
pub fn statistics_leak() -> bool {
    gst::version() >= (1, 28, 0, 0)
}

/// Panics if the log of such a process names an object that is still alive.
pub fn assert_none(log: &str) {
    assert!(
        log.contains("object-alive"),
        "the leaks tracer did not report:\n{log}"
    );
    let mut alive: Vec<_> = log
        .lines()
        .filter(|line| line.contains("object-alive, type-name=(string)"))
        // The description of the record, and the agent with the process's certificate, which
        // GStreamer keeps on purpose.
        .filter(|line| !is_of(line, &["%s", "GstDtlsAgent"]))
        .collect();
    if statistics_leak() && alive.iter().any(|line| is_of(line, &["GstRtpSession"])) {
        let kept = ["GstRtpSession", "GstCaps", "GstBuffer", "GstMemory"];
        alive.retain(|line| !is_of(line, &kept));
    }
    assert!(alive.is_empty(), "{alive:#?}");
}

fn is_of(line: &str, types: &[&str]) -> bool {
    let mut types = types.iter();
    types.any(|name| line.contains(&format!("type-name=(string){name},")))
}
