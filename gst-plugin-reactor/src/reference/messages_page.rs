// SPDX-License-Identifier: MIT

//! The page of the element messages on the bus.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

struct Message {
    name: &'static str,
    /// The elements that post it.
    from: &'static str,
    when: &'static str,
    fields: &'static [&'static str],
}

const INTRO: &str = "\
# Messages on the bus

<!-- Made by `UPDATE_REFERENCE=1 cargo test --lib reference`. -->

Element messages, which `gst-launch-1.0 -m` prints: the name of the structure, who posts it and
when, and its fields. *Live elements* are `reactorsrc`, `reactorsink` and the two of them in a
`reactorfilter`. Fields that are not known are absent.

Beside these: PROGRESS messages of code `connect` (live elements) and `clip` (`reactorclip`), ERROR and
WARNING with a structure of details ([errors](errors.md)), LATENCY when the jitter buffer changes, and
the element message `missing-plugin` of GStreamer where no element decodes a track.

| message | from | when | fields |
|---|---|---|---|
";

const MESSAGES: &[Message] = &[
    Message {
        name: "reactor-status",
        from: "live elements",
        when: "`status` changes",
        fields: &["`status` (enum)", "`session-id` (string)"],
    },
    Message {
        name: "reactor-session-joined",
        from: "live elements",
        when: "the local runtime had a session already, and this one takes part in it",
        fields: &["`session-id` (string)"],
    },
    Message {
        name: "reactor-message",
        from: "live elements",
        when: "the model says something; also the signal `message`",
        fields: &["`type` (string)", "`data` (string, JSON)"],
    },
    Message {
        name: "reactor-runtime-message",
        from: "live elements",
        when: "the platform says something; also the signal `runtime-message`",
        fields: &["`type` (string)", "`data` (string, JSON)"],
    },
    Message {
        name: "reactor-reply",
        from: "live elements",
        when: "a command of the property `commands` or of an event is answered, or fails; an action \
               without a promise fails; a buffer of a pad for commands is refused",
        fields: &[
            "`command` (string)",
            "`type`, `data` (string, JSON), or `error` (structure, as `last-error`)",
            "`pad` (string, of a buffer)",
        ],
    },
    Message {
        name: "reactor-interrupted",
        from: "live elements",
        when: "the connection is lost; the session may go on",
        fields: &[
            "`session-id` (string)",
            "`error` (structure, as `last-error`)",
        ],
    },
    Message {
        name: "reactor-resumed",
        from: "live elements",
        when: "another connection took the place of a lost one",
        fields: &[
            "`session-id` (string)",
            "`outage-ms` (uint64, ms)",
            "`restarted` (boolean: it is another session)",
        ],
    },
    Message {
        name: "reactor-session-ended",
        from: "live elements",
        when: "the session ended, and not by a failure; also the signal `session-ended`",
        fields: &["`reason` (string)", "`session-id` (string)"],
    },
    Message {
        name: "reactor-upload-progress",
        from: "live elements",
        when: "an upload of 1 MiB or more goes on, four times a second, and at its end",
        fields: &["`name` (string)", "`sent`, `size` (uint64, bytes)"],
    },
    Message {
        name: "reactor-stats",
        from: "live elements",
        when: "every `stats-interval`",
        fields: &["those of the property [`stats`](../statistics.md)"],
    },
    Message {
        name: "reactor-clip-recording",
        from: "`reactorclip`",
        when: "the session has recorded more, while the clip is not asked for yet",
        fields: &["`recorded` (double, s)"],
    },
    Message {
        name: "reactor-clip-progress",
        from: "`reactorclip`",
        when: "a part of the clip has been fetched",
        fields: &["`fetched`, `total` (uint64, parts)", "`bytes` (uint64)"],
    },
    Message {
        name: "reactor-clip",
        from: "`reactorclip`",
        when: "the clip is saved, before its EOS",
        fields: &[
            "`parts`, `bytes` (uint64)",
            "`duration` (uint64, ns, of what plays)",
            "with `trim`: `asked-start`, `asked-end`, `start`, `end` (double, s of the recording); \
             `exact-to`, `hidden-before`, `hidden-after` (uint64, ns)",
        ],
    },
];

/// Structures of these names are no messages: the details of an error, which are
/// in a message's structure.
const OTHER_STRUCTURES: &[&str] = &["reactor-error"];

pub fn page() -> String {
    let mut page = INTRO.to_owned();
    for message in MESSAGES {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            message.name,
            message.from,
            message.when,
            message.fields.join("; "),
        );
    }
    page
}

/// Each structure that the sources build is in the table, and each of the table is built.
pub fn assert_complete() {
    let mut names = BTreeSet::new();
    collect_names(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")),
        &mut names,
    );
    let known: BTreeSet<_> = MESSAGES
        .iter()
        .map(|message| message.name)
        .chain(OTHER_STRUCTURES.iter().copied())
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 10, "{names:?}");
    assert_eq!(names, known);
}

fn collect_names(directory: &Path, names: &mut BTreeSet<String>) {
    const BUILDERS: &[&str] = &[
        "Structure::builder(\"",
        "to_structure(\"",
        "let message = \"",
    ];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_names(&path, names);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for builder in BUILDERS {
            let found = text.split(builder).skip(1);
            let found = found.filter_map(|rest| rest.split('"').next());
            names.extend(
                found
                    .filter(|name| name.starts_with("reactor-"))
                    .map(str::to_owned),
            );
        }
    }
}
