// SPDX-License-Identifier: MIT

//! A row for each track.

use ratatui::{
    Frame,
    layout::{Constraint, Rect},
    style::Stylize,
    widgets::{Row, Table},
};
use serde_json::{Map, Value};

use crate::model::{
    session::Session,
    stats::{Stats, Unit},
};

type Fields = Map<String, Value>;

/// With the head; 0 if there are no tracks.
pub fn height(session: &Session) -> u16 {
    let count = session.stats.tracks().len();
    u16::try_from(count).map_or(u16::MAX, |count| if count == 0 { 0 } else { count + 1 })
}

pub fn draw(frame: &mut Frame, area: Rect, stats: &Stats) {
    let rows = stats.tracks().into_iter().map(|(name, fields)| {
        Row::new([
            name.to_owned(),
            text(fields, &["codec"]),
            text(
                fields,
                &["decoder-implementation", "encoder-implementation"],
            ),
            size(fields),
            number(fields, &["frames-per-second"], |rate| format!("{rate:.1}")),
            number(fields, &["incoming-bitrate", "outgoing-bitrate"], |rate| {
                Unit::BitsPerSecond.format(rate)
            }),
            number(fields, &["packets-lost"], whole),
            number(fields, &["jitter"], |jitter| Unit::Seconds.format(jitter)),
            number(fields, &["dropped"], whole),
            number(fields, &["freeze-count"], whole),
        ])
    });
    let head = [
        "track", "codec", "by", "size", "fps", "bitrate", "lost", "jitter", "dropped", "freezes",
    ];
    let widths = [20, 5, 10, 9, 5, 11, 6, 8, 7, 7].map(Constraint::Max);
    let table = Table::new(rows, widths).header(Row::new(head).dim());
    frame.render_widget(table, area);
}

fn text(fields: &Fields, names: &[&str]) -> String {
    let mut values = names.iter().filter_map(|name| fields.get(*name)?.as_str());
    values.next().unwrap_or_default().to_owned()
}

fn number(fields: &Fields, names: &[&str], format: impl Fn(f64) -> String) -> String {
    let mut values = names.iter().filter_map(|name| fields.get(*name)?.as_f64());
    values.next().map_or_else(String::new, format)
}

fn size(fields: &Fields) -> String {
    let side = |name| fields.get(name).and_then(Value::as_u64);
    match (side("frame-width"), side("frame-height")) {
        (Some(width), Some(height)) => format!("{width}x{height}"),
        _ => String::new(),
    }
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}
