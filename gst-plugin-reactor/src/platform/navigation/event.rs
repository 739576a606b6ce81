// SPDX-License-Identifier: MIT

//! The input events that navigation maps to commands. Plain data.

/// What a user did. Coordinates are fractions of the picture, 0.0 (left, top)
/// to 1.0 (right, bottom), and are brought into that range.
#[derive(Debug, Clone, PartialEq)]
pub enum InputEvent {
    /// A key's name, as the system has it: `w`, `space`, `Left`...
    KeyPress(String),
    KeyRelease(String),
    MouseMove {
        x: f64,
        y: f64,
    },
    /// The left button is 1.
    MousePress {
        button: i32,
        x: f64,
        y: f64,
    },
    MouseRelease {
        button: i32,
        x: f64,
        y: f64,
    },
    /// `dx` and `dy` in the unit of the event, usually steps of the wheel.
    Scroll {
        x: f64,
        y: f64,
        dx: f64,
        dy: f64,
    },
}
