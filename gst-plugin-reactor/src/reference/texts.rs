// SPDX-License-Identifier: MIT

//! What GObject does not carry: the parameters of signals by name, and their meaning.

pub struct SignalText {
    pub parameters: &'static [&'static str],
    pub meaning: &'static str,
}

pub const ACTIONS: &str = "\
An application emits these. Each returns at once; the *promise* (which may be NULL) is answered once, on \
the element's own thread, with a structure that has the fields named below, or with `error`, a \
structure like `last-error`. A request waits for the session at most 30 s, and for its reply at \
most 10 s. An unknown track is answered with `NOT_FOUND`, what cannot be in this state with \
`INVALID_STATE`, a session that is gone with `DISCONNECTED`. Without a promise a failure is a \
warning on the bus.";

pub const SIGNALS: &str = "\
Emitted on the element's own thread, one after the other. Handlers may block, emit actions and set \
any state.";

/// # Panics
///
/// When a signal has no text here.
pub fn signal(name: &str) -> SignalText {
    let (parameters, meaning): (&'static [&'static str], _) = match name {
        "send-command" => (
            &["name", "json", "promise"],
            "Sends a command to the model; `json` is an object with its arguments, or NULL. Reply: `type` and \
             `data` (JSON), or nothing where the model replies nothing. A command that the schema does not \
             allow is refused with what it allows.",
        ),
        "upload-file" => (
            &["path", "name", "mime", "promise"],
            "Uploads a regular file of at most `max-upload-size`; `name` and `mime` may be NULL: they \
             follow from the path. Reply: `upload_id`, `name`, `mime_type`, `size` (bytes), what a command takes as its file.",
        ),
        "upload-bytes" => (
            &["bytes", "name", "mime", "promise"],
            "As `upload-file`, of bytes in memory.",
        ),
        "request-clip" => (
            &["seconds", "promise"],
            "Asks for a clip of the last *seconds*. Reply: `kind`, `start`, `end`, `playlist-url` and what \
             else the platform says; `reactorclip` takes it as `clip`.",
        ),
        "request-recording" => (
            &["promise"],
            "Asks for the whole recording. Reply: as `request-clip`.",
        ),
        "request-schema" => (
            &["promise"],
            "Asks for the model's OpenAPI document. Reply: `data` (JSON).",
        ),
        "pause-track" => (
            &["name", "promise"],
            "Stops an output track on the server; it stays so until it is resumed.",
        ),
        "resume-track" => (
            &["name", "promise"],
            "Lets it flow again, if a pad is linked and plays.",
        ),
        "publish-track" => (
            &["name", "promise"],
            "Claims an input track that is fed, again. The reply comes when the server has granted it.",
        ),
        "unpublish-track" => (&["name", "promise"], "Gives an input track up."),
        "disconnect" => (
            &["recoverable", "promise"],
            "Ends the session, or with *recoverable* only the connection. Never an error on the bus.",
        ),
        "reconnect" => (
            &["promise"],
            "Makes a new connection for the session, for 30 s. The reply comes when it is ready.",
        ),
        "message" => (&["type", "json"], "The model said something."),
        "runtime-message" => (&["type", "json"], "The platform said something."),
        "session-ended" => (
            &["reason"],
            "The session ended, and not by a failure; *reason* may be NULL.",
        ),
        "session-expiration-changed" => (
            &["seconds"],
            "`session-expiration` is another: Unix time in s, 0 = not known.",
        ),
        "encoder-setup" => (
            &["track", "encoder"],
            "Before a new encoder starts: its properties may be set here.",
        ),
        _ => panic!("the signal {name} has no text in reference/texts.rs"),
    };
    SignalText {
        parameters,
        meaning,
    }
}
