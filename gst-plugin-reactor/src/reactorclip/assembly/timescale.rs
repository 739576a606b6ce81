// SPDX-License-Identifier: MIT

//! Conversion of times between time scales (ISO/IEC 14496-12, 3.1). Pure
//! functions.

/// The largest time of a recording, in units of its time scale and in nanoseconds: from
/// any epoch, and so that sums of a few of them cannot overflow.
const MAX_TICKS: i64 = 1 << 50;
pub(super) const MAX_NS: i64 = 1 << 61;

/// Whether a time, which may be negative, is not beyond all bounds.
pub(super) fn is_plausible(ticks: i64, timescale: u32) -> bool {
    let is_below = |time: i64, limit: i64| (-limit..=limit).contains(&time);
    is_below(ticks, MAX_TICKS) && is_below(to_ns(ticks, timescale), MAX_NS)
}

/// Nanoseconds from units of a time scale, to the nearest.
pub(super) fn to_ns(ticks: i64, timescale: u32) -> i64 {
    scale(ticks, 1_000_000_000, timescale)
}

/// Units of a time scale from nanoseconds, to the nearest.
pub(super) fn to_ticks(ns: i64, timescale: u32) -> i64 {
    scale(ns, timescale, 1_000_000_000)
}

/// Units of the time scale `to` from units of the time scale `from`, to the
/// nearest.
pub(super) fn scale(value: i64, to: u32, from: u32) -> i64 {
    let (to, from) = (i128::from(to), i128::from(from.max(1)));
    let scaled = (i128::from(value) * to + from / 2).div_euclid(from);
    scaled.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// A movie time scale in which the times of all tracks are exact, if there is
/// one up to 1 MHz; otherwise the finest of the tracks.
pub(super) fn movie_timescale(tracks: impl Iterator<Item = u32>) -> u32 {
    /// Finer than any camera's; a file of an hour still has 32-bit times.
    const FINEST: u64 = 1_000_000;
    let tracks: Vec<_> = tracks.map(u64::from).collect();
    let common = tracks.iter().try_fold(1, |common: u64, scale| {
        let lcm = common / gcd(common, *scale) * scale;
        (lcm <= FINEST).then_some(lcm)
    });
    let finest = || tracks.iter().copied().max().unwrap_or(1000);
    u32::try_from(common.unwrap_or_else(finest)).unwrap_or(1000)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}
