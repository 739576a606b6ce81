// SPDX-License-Identifier: MIT

//! What a look tells: the picture in half blocks, two pixels in each cell, and how loud it is.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Stylize},
    text::Line,
};

use crate::model::{App, Level, Picture};

/// The least width of the screen and height of the part with which it is drawn.
const MIN_WIDTH: u16 = 70;
const MIN_HEIGHT: u16 = 6;
/// The quietest level that a meter shows, in dB below full scale, and where it gets too loud.
const QUIETEST: f64 = -60.0;
const LOUD: f64 = -9.0;
const TOO_LOUD: f64 = -1.0;

/// How many columns are needed on the right of the messages; 0 if there is nothing to see.
pub fn width(app: &App, area: Rect) -> u16 {
    let is_empty = app.picture.is_none() && app.levels.is_empty();
    if is_empty || area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        return 0;
    }
    // Rows of two pixels each, in 16:9.
    let by_height = area.height.saturating_sub(meters(app)) * 2 * 16 / 9;
    by_height.min(area.width * 2 / 5)
}

fn meters(app: &App) -> u16 {
    u16::try_from(app.levels.len()).unwrap_or(u16::MAX).min(2)
}

pub fn draw(frame: &mut Frame, area: Rect, app: &App) {
    let meters = meters(app);
    let rows = (area.width * 9 / 16).div_ceil(2);
    let rows = match &app.picture {
        Some(_) => rows.min(area.height.saturating_sub(meters)),
        None => 0,
    };
    let [picture, sound] =
        Layout::vertical([Constraint::Length(rows), Constraint::Length(meters)]).areas(area);
    if let Some(pixels) = &app.picture {
        draw_picture(frame, picture, pixels, app.has_true_color);
    }
    for (level, row) in app.levels.iter().zip(sound.rows()) {
        frame.render_widget(meter(level, row.width), row);
    }
}

fn draw_picture(frame: &mut Frame, area: Rect, picture: &Picture, true_color: bool) {
    let (columns, rows) = (usize::from(area.width), 2 * usize::from(area.height));
    let pixel = |x: usize, y: usize| {
        let at = (x * picture.width / columns, y * picture.height / rows);
        let begin = 3 * (at.1 * picture.width + at.0);
        match picture.rgb.get(begin..begin + 3) {
            Some([r, g, b]) => color([*r, *g, *b], true_color),
            _ => Color::Reset,
        }
    };
    for position in area.positions() {
        let (x, y) = (
            usize::from(position.x - area.x),
            usize::from(position.y - area.y),
        );
        if let Some(cell) = frame.buffer_mut().cell_mut(position) {
            cell.set_symbol("▀");
            cell.set_fg(pixel(x, 2 * y)).set_bg(pixel(x, 2 * y + 1));
        }
    }
}

/// The nearest color that the terminal has: one of 2^24, or one of the 6x6x6 of xterm.
fn color([r, g, b]: [u8; 3], true_color: bool) -> Color {
    if true_color {
        return Color::Rgb(r, g, b);
    }
    let step = |value: u8| (value.saturating_add(25) / 51).min(5);
    Color::Indexed(16 + 36 * step(r) + 6 * step(g) + step(b))
}

/// `██████▌     -12 dB`, for a channel.
fn meter(level: &Level, width: u16) -> Line<'static> {
    let label = match level.rms > QUIETEST {
        true => format!(" {:>3.0} dB", level.rms),
        false => " quiet ".to_owned(),
    };
    let columns = usize::from(width).saturating_sub(label.len());
    let part = (level.rms - QUIETEST).max(0.0) / -QUIETEST;
    let filled = ((part * columns as f64) as usize).min(columns);
    let color = match level.peak {
        peak if peak >= TOO_LOUD => Color::Red,
        peak if peak >= LOUD => Color::Yellow,
        _ => Color::Green,
    };
    let bar = "█".repeat(filled).fg(color);
    Line::from(vec![bar, "·".repeat(columns - filled).dim(), label.into()])
}
