// SPDX-License-Identifier: MIT

//! Reads media files with ffprobe.
