// SPDX-License-Identifier: MIT

//! A webrtcbin that plays the server, for what the real one cannot do.
