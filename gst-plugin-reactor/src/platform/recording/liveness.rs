// SPDX-License-Identifier: MIT

//! What is left of the session that a clip is of. A value: whoever takes part in the
//! session tells the download.

/// From more to less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Liveness {
    /// Live elements take part in it, or it is not known.
    #[default]
    Live,
    /// They have left; the session is kept until the clip is there.
    Deserted,
    Over,
}
