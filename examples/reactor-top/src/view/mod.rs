// SPDX-License-Identifier: MIT

//! Draws the control room. The smaller the terminal, the fewer parts: the line to type into stays
//! last, then the status, then the messages.

mod gauges;
mod messages;
mod picture;
mod tracks;

#[cfg(test)]
mod tests;

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span},
};

use serde_json::Value;

use crate::model::{App, Run, session::Session};

/// The height from which on a part is drawn, in lines.
const WITH_STATUS: u16 = 2;
const WITH_HINT: u16 = 5;
const WITH_PHASES: u16 = 8;
const WITH_GAUGES: u16 = 12;
const WITH_TRACKS: u16 = 16;

pub fn draw(frame: &mut Frame, app: &App) {
    let height = frame.area().height;
    let from = |least: u16, lines: u16| Constraint::Length(if height >= least { lines } else { 0 });
    let tracks = app.session().map_or(0, tracks::height);
    let gauges = gauges::height(frame.area().width, height);
    let parts = Layout::vertical([
        from(WITH_STATUS, 1),
        from(WITH_PHASES, 1),
        from(WITH_GAUGES, gauges),
        from(WITH_TRACKS, tracks.min(height / 4)),
        Constraint::Min(0),
        from(WITH_HINT, 1),
        Constraint::Length(1),
    ]);
    let [status, phases, gauges, tracks, messages, hint, prompt] = parts.areas(frame.area());
    frame.render_widget(status_line(app), status);
    if let Some(session) = app.session() {
        frame.render_widget(phases_line(session), phases);
        gauges::draw(frame, gauges, &session.stats);
        tracks::draw(frame, tracks, &session.stats);
    }
    let width = picture::width(app, messages);
    let columns = Layout::horizontal([Constraint::Min(0), Constraint::Length(width)]);
    let [messages, picture] = columns.spacing(u16::from(width > 0)).areas(messages);
    picture::draw(frame, picture, app);
    messages::draw(frame, messages, &app.messages);
    frame.render_widget(hint_line(app), hint);
    draw_prompt(frame, prompt, app);
}

/// Where everything stands, the most important first.
fn status_line(app: &App) -> Line<'_> {
    let (text, color) = state(app);
    let mut spans = vec![
        Span::from(format!(" {text} "))
            .fg(Color::Black)
            .bg(color)
            .bold(),
    ];
    if let Run::Failed(error) = &app.run {
        spans.push(format!(" {error}").fg(color));
        return Line::from(spans);
    }
    let Some(session) = app.session() else {
        return Line::from(spans);
    };
    if let Some(since) = session.ready_since {
        spans.push(format!(" {}", hours(app.now.elapsed.saturating_sub(since))).into());
    }
    if session.outages > 0 {
        spans.push(format!("  outages {}", session.outages).fg(Color::Yellow));
    }
    spans.extend(end_of_session(session));
    let waiting = session.pending.len();
    if waiting > 0 {
        spans.push(format!("  unanswered {waiting}").fg(Color::Yellow));
    }
    let title = session
        .schema
        .as_ref()
        .and_then(|schema| schema.title.as_ref());
    let label = |name: &str, value: &str| format!("  {name} {value}").into();
    spans.extend(title.map(|title| label("model", title)));
    if app.sessions.len() > 1 {
        let name = format!(
            "{} ({} of {}, F2)",
            session.name,
            app.shown + 1,
            app.sessions.len()
        );
        spans.push(label("element", &name));
    }
    spans.push(label("server", &session.server));
    spans.extend(session.id.as_ref().map(|id| label("session", id)));
    Line::from(spans)
}

fn state(app: &App) -> (&str, Color) {
    let session = app.session();
    match &app.run {
        _ if app.is_leaving => ("ENDING", Color::Yellow),
        Run::Failed(_) => ("FAILED", Color::Red),
        Run::Ended => ("END OF STREAM", Color::Gray),
        Run::Stopped => ("STOPPED", Color::Gray),
        Run::Playing => match session.map(|session| session.status.as_str()) {
            Some(_) if session.is_some_and(|session| session.is_interrupted) => {
                ("RECONNECTING", Color::Red)
            }
            Some("ready") if session.is_some_and(|session| session.stats.has_no_picture()) => {
                ("READY, NO PICTURE", Color::Red)
            }
            Some("ready") => ("READY", Color::Green),
            Some("connecting") => ("CONNECTING", Color::Yellow),
            Some("waiting") => ("WAITING", Color::Yellow),
            Some(_) => ("DISCONNECTED", Color::Gray),
            None => ("NO SESSION", Color::Gray),
        },
    }
}

fn hours(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// From when on the end of the session is near, in seconds.
const SOON: f64 = 300.0;

/// When the platform will end the session.
fn end_of_session(session: &Session) -> Option<Span<'static>> {
    let seconds = session.stats.number("ends-in")?;
    let left = Duration::try_from_secs_f64(seconds).ok()?;
    let color = if seconds < SOON {
        Color::Red
    } else {
        Color::Reset
    };
    Some(format!("  ends in {}", hours(left)).fg(color))
}

/// When each step of connecting was reached.
fn phases_line(session: &Session) -> Line<'_> {
    let stats = &session.stats;
    let reached = |name: &str| stats.number(&format!("{name}-ms"));
    let mut spans = Vec::new();
    for name in ["session", "gpu", "offer", "answer", "connected", "ready"] {
        if let Some(time) = reached(name) {
            let before = if spans.is_empty() { "" } else { " › " };
            spans.push(Span::from(format!("{before}{name} ")).dim());
            spans.push(Span::from(format!("{time:.0} ms")));
        }
    }
    if session.status != "ready" || spans.is_empty() {
        let before = if spans.is_empty() { "" } else { "  " };
        spans.push(format!("{before}{}", session.progress).fg(Color::Yellow));
    }
    if let Some(protocol) = stats.of_connection("protocol").and_then(Value::as_str) {
        let relayed = stats.of_connection("relay").and_then(Value::as_bool);
        let path = if relayed == Some(true) {
            "by a relay"
        } else {
            "direct"
        };
        spans.push(format!("  {protocol}, {path}").dim());
    }
    let reconnects = stats.number("reconnects").filter(|count| *count > 0.0);
    if let Some(count) = reconnects {
        let outage = reached("outage").unwrap_or_default() / 1e3;
        spans.push(format!("  reconnects {count}, last outage {outage:.1} s").fg(Color::Yellow));
    }
    Line::from(spans)
}

/// What Tab offers, or how the command is typed.
fn hint_line(app: &App) -> Line<'_> {
    let Some(completion) = &app.prompt.completion else {
        return Line::from(app.hint()).dim();
    };
    let words = completion.words().iter().enumerate();
    let chosen = completion.chosen;
    let spans = words.skip(chosen.unwrap_or(0)).flat_map(|(at, word)| {
        let style = match Some(at) == chosen {
            true => Style::new().reversed(),
            false => Style::new().fg(Color::Cyan),
        };
        [Span::styled(word.trim_end(), style), Span::raw("  ")]
    });
    spans.collect()
}

fn draw_prompt(frame: &mut Frame, area: Rect, app: &App) {
    let [mark, line] = Layout::horizontal([Constraint::Length(2), Constraint::Min(0)]).areas(area);
    frame.render_widget("> ".bold(), mark);
    if line.is_empty() {
        return;
    }
    let input = &app.prompt.input;
    // The cursor may stand behind the last character.
    let hidden = input.visual_scroll(usize::from(line.width) - 1);
    let text = ratatui::widgets::Paragraph::new(input.value());
    frame.render_widget(
        text.scroll((0, u16::try_from(hidden).unwrap_or(u16::MAX))),
        line,
    );
    let column = input.visual_cursor().saturating_sub(hidden);
    let column = u16::try_from(column).unwrap_or(u16::MAX);
    let x = line.x.saturating_add(column).min(line.right() - 1);
    frame.set_cursor_position(Position::new(x, line.y));
}
