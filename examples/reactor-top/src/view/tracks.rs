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

/// Head, width and value of a column; the first ones are drawn in any case.
type Column = (&'static str, u16, fn(&Fields) -> String);

const COLUMNS: [Column; 9] = [
    ("size", 9, size),
    ("fps", 5, |fields| {
        number(fields, &["frames-per-second"], |rate| format!("{rate:.1}"))
    }),
    ("bitrate", 11, |fields| {
        number(fields, &["incoming-bitrate", "outgoing-bitrate"], |rate| {
            Unit::BitsPerSecond.format(rate)
        })
    }),
    ("lost", 6, |fields| number(fields, &["packets-lost"], whole)),
    ("jitter", 8, |fields| {
        number(fields, &["jitter"], |jitter| Unit::Seconds.format(jitter))
    }),
    ("dropped", 7, |fields| number(fields, &["dropped"], whole)),
    ("freezes", 7, |fields| {
        number(fields, &["freeze-count"], whole)
    }),
    ("codec", 5, |fields| text(fields, &["codec"])),
    ("by", 14, |fields| {
        text(
            fields,
            &["decoder-implementation", "encoder-implementation"],
        )
    }),
];
/// The width of a track's name.
const NAME: u16 = 20;

pub fn draw(frame: &mut Frame, area: Rect, stats: &Stats) {
    let mut free = area.width.saturating_sub(NAME);
    let columns = COLUMNS.iter().take_while(|(_, width, _)| {
        let fits = free > *width;
        free = free.saturating_sub(width + 1);
        fits
    });
    let columns: Vec<_> = columns.collect();
    let rows = stats.tracks().into_iter().map(|(name, fields)| {
        let values = columns.iter().map(|(_, _, value)| value(fields));
        Row::new([name.to_owned()].into_iter().chain(values))
    });
    let head = columns.iter().map(|(head, ..)| *head);
    let head = Row::new(["track"].into_iter().chain(head));
    let widths = columns.iter().map(|(_, width, _)| *width);
    let widths = [NAME].into_iter().chain(widths).map(Constraint::Length);
    frame.render_widget(Table::new(rows, widths).header(head.dim()), area);
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
