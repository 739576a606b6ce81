// SPDX-License-Identifier: MIT

//! The newest messages, the lowest one last.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Style, Stylize},
    text::{Line, Span},
};

use crate::model::messages::{Kind, Message, Messages};

/// How many lines a message may take. What is longer is cut.
const MAX_LINES: usize = 4;
/// The least width with which the time of day is shown, in columns.
const WITH_TIME: u16 = 40;

pub fn draw(frame: &mut Frame, area: Rect, messages: &Messages) {
    let mut bottom = area.bottom();
    for message in messages.upwards() {
        for line in lines(message, area.width).into_iter().rev() {
            if bottom == area.top() {
                return;
            }
            bottom -= 1;
            frame.render_widget(line, Rect::new(area.x, bottom, area.width, 1));
        }
    }
}

fn lines(message: &Message, width: u16) -> Vec<Line<'_>> {
    let (mark, style) = look(message.kind);
    let time = match width >= WITH_TIME {
        true => format!("{} ", message.time),
        false => String::new(),
    };
    let indent = time.len() + mark.len();
    let mut text = message.text.clone();
    if message.count > 1 {
        text.insert_str(0, &format!("({}×) ", message.count));
    }
    let rows = wrap(&text, usize::from(width).saturating_sub(indent), MAX_LINES);
    let rows = rows.into_iter().enumerate().map(|(row, text)| {
        let head = match row {
            0 => vec![Span::raw(time.clone()).dim(), Span::styled(mark, style)],
            _ => vec![Span::raw(" ".repeat(indent))],
        };
        let mut line = Line::from(head);
        line.push_span(Span::styled(text, style));
        line
    });
    rows.collect()
}

fn look(kind: Kind) -> (&'static str, Style) {
    let style = Style::new();
    match kind {
        Kind::Command => ("> ", style.bold()),
        Kind::Reply => ("< ", style.fg(Color::Green)),
        Kind::Model => ("  ", style),
        Kind::Platform => ("  ", style.fg(Color::Blue)),
        Kind::Status => ("- ", style.fg(Color::Cyan)),
        Kind::Warning => ("! ", style.fg(Color::Yellow)),
        Kind::Error => ("! ", style.fg(Color::Red)),
        Kind::Log => ("  ", style.dim()),
    }
}

/// Cuts a text into rows of this width, at spaces where there are some; the last one ends with an
/// ellipsis if there is more.
fn wrap(text: &str, width: usize, max_rows: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let mut row = String::new();
    let span = Span::raw(text);
    for grapheme in span.styled_graphemes(Style::new()) {
        let columns = columns(grapheme.symbol);
        if columns > width {
            continue;
        }
        if self::columns(&row) + columns > width {
            if rows.len() + 1 >= max_rows {
                row.pop();
                row.push('…');
                break;
            }
            // A word that is longer than half a row, such as JSON, is cut.
            let space = row.rfind(' ').filter(|at| *at > row.len() / 2);
            let rest = row.split_off(space.map_or(row.len(), |at| at + 1));
            rows.push(std::mem::replace(&mut row, rest));
        }
        row.push_str(grapheme.symbol);
    }
    rows.push(row);
    rows
}

fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_by_columns() {
        assert_eq!(wrap("", 5, 2), [""]);
        assert_eq!(wrap("abcdefg", 3, 4), ["abc", "def", "g"]);
        assert_eq!(wrap("abcdefg", 3, 2), ["abc", "de…"]);
        assert_eq!(wrap("a forest at dawn", 10, 4), ["a forest ", "at dawn"]);
        assert_eq!(wrap("🌲🌲🌲", 5, 2), ["🌲🌲", "🌲"]);
        assert_eq!(wrap("🌲", 1, 2), [""]);
        assert_eq!(wrap("abc", 0, 2), [""]);
    }
}
