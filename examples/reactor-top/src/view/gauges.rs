// SPDX-License-Identifier: MIT

//! The most important figures, each over its sparkline.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Stylize},
    text::Line,
    widgets::Sparkline,
};

use crate::model::stats::{Gauge, Stats};

/// The least width of a gauge, in columns.
const MIN_WIDTH: u16 = 24;
/// The height of a gauge with its sparkline, in lines.
const HEIGHT: u16 = 3;
/// The height from which on all gauges are drawn in two rows.
const TWO_ROWS: u16 = 20;
const COUNT: u16 = 6;

fn columns(width: u16) -> u16 {
    (width / MIN_WIDTH).clamp(1, COUNT)
}

fn rows(width: u16, height: u16) -> u16 {
    let needed = COUNT.div_ceil(columns(width));
    needed.min(if height >= TWO_ROWS { 2 } else { 1 })
}

pub fn height(width: u16, height: u16) -> u16 {
    rows(width, height) * HEIGHT
}

pub fn draw(frame: &mut Frame, area: Rect, stats: &Stats) {
    let columns = columns(area.width);
    let lines = Layout::vertical(vec![
        Constraint::Length(HEIGHT);
        usize::from(area.height / HEIGHT)
    ]);
    let cells = lines.split(area);
    let cells = cells.iter().flat_map(|line| {
        let cells = vec![Constraint::Fill(1); usize::from(columns)];
        Layout::horizontal(cells).spacing(2).split(*line).to_vec()
    });
    for (gauge, cell) in stats.gauges.iter().zip(cells) {
        draw_gauge(frame, cell, gauge);
    }
}

fn draw_gauge(frame: &mut Frame, area: Rect, gauge: &Gauge) {
    let [label, bars] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let color = if gauge.is_alarming() {
        Color::Red
    } else {
        Color::Cyan
    };
    let value = match gauge.is_alarming() {
        true => gauge.text().bold().fg(color),
        false => gauge.text().bold(),
    };
    let text = Line::from(vec![gauge.name.dim(), "  ".into(), value]);
    frame.render_widget(text, label);
    let sparkline = Sparkline::default()
        .data(gauge.bars(usize::from(bars.width)))
        .max(1000)
        .absent_value_symbol("×")
        .absent_value_style(Color::Red)
        .fg(color);
    frame.render_widget(sparkline, bars);
}
