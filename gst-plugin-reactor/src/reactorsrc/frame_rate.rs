// SPDX-License-Identifier: MIT

//! The nominal frame rate of a video track: what its caps say before the second
//! picture is there. Asked on the event thread, fed on the transport's streaming
//! thread; the pad's streaming thread adopts it.
//!
//! Caps keep the rate that they begin with for as long as the size stays:
//! matroskamux and webmmux 1.22 fail at any change of the caps, also at one of
//! the frame rate alone.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use crate::element::lock;

/// The rate at which the platform plays a model out that names none (runtime
/// 3.10.0, `ReactorCore.fps`), and at which it records.
const DEFAULT_RATE: (i32, i32) = (30, 1);
/// The highest rate that is believed, in frames per second.
const MAX_FPS: f64 = 1000.0;
/// Rates that a measured one is taken for.
const STANDARD_RATES: [i32; 12] = [5, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 120];
/// A measured rate is a standard rate if it differs by no more than this part.
const MEASURED_TOLERANCE: f64 = 0.04;
/// Two rates that differ by less than this part may stand for each other.
const RATE_TOLERANCE: f64 = 0.15;
/// A measurement takes this number of intervals between pictures.
const MEASURED_INTERVALS: usize = 30;

/// The nominal rate: the model's own (`emission_fps`), or the one nearest to the
/// platform's default that `downstream` takes.
pub fn nominal(emission_fps: Option<f64>, downstream: Option<&gst::Caps>) -> gst::Fraction {
    let default = gst::Fraction::new(DEFAULT_RATE.0, DEFAULT_RATE.1);
    let nearest = || downstream.and_then(|caps| nearest_accepted(caps, default));
    let stated = emission_fps.and_then(from_fps);
    stated.or_else(nearest).unwrap_or(default)
}

/// The rate nearest to `rate` that video caps take; `None` if they leave it open.
fn nearest_accepted(caps: &gst::Caps, rate: gst::Fraction) -> Option<gst::Fraction> {
    let mut nearest: Option<gst::Fraction> = None;
    for structure in caps.iter().filter(|s| s.name().starts_with("video/")) {
        let mut structure = structure.to_owned();
        if !structure.has_field("framerate") {
            return None;
        }
        structure.fixate_field_nearest_fraction("framerate", rate);
        let Ok(accepted) = structure.get::<gst::Fraction>("framerate") else {
            continue;
        };
        if accepted == rate {
            return None;
        }
        let distance = |other: gst::Fraction| (fps(other) - fps(rate)).abs();
        if nearest.is_none_or(|n| distance(accepted) < distance(n)) {
            nearest = Some(accepted);
        }
    }
    nearest
}

/// The fraction for a rate that the platform names as a number: 29.97 is
/// 30000/1001.
fn from_fps(fps: f64) -> Option<gst::Fraction> {
    if !(fps > 0.0 && fps <= MAX_FPS) {
        return None;
    }
    let near = |rate: f64| (fps - rate).abs() < 0.005;
    let whole = fps.round();
    let ntsc = (fps * 1.001).round();
    if near(whole) && whole >= 1.0 {
        Some(gst::Fraction::new(whole as i32, 1))
    } else if near(ntsc / 1.001) {
        Some(gst::Fraction::new(ntsc as i32 * 1000, 1001))
    } else {
        gst::Fraction::approximate_f64(fps)
    }
}

/// As caps write it: 30/1.
pub fn text(rate: gst::Fraction) -> String {
    format!("{}/{}", rate.numer(), rate.denom())
}

/// Frames per second.
pub fn fps(rate: gst::Fraction) -> f64 {
    f64::from(rate.numer()) / f64::from(rate.denom())
}

/// The time between two pictures; `None` for a rate of 0, which stands for any.
pub fn interval(rate: gst::Fraction) -> Option<gst::ClockTime> {
    let numer = u64::try_from(rate.numer())
        .ok()
        .filter(|numer| *numer > 0)?;
    gst::ClockTime::SECOND.mul_div_floor(u64::try_from(rate.denom()).ok()?, numer)
}

/// Whether one of the rates may stand for the other.
pub fn is_near(one: gst::Fraction, other: gst::Fraction) -> bool {
    let ratio = fps(one) / fps(other);
    (1.0 - RATE_TOLERANCE..=1.0 / (1.0 - RATE_TOLERANCE)).contains(&ratio)
}

/// The rate of a video track: what its caps say, and the durations of its pictures.
/// Clones are one rate.
#[derive(Debug, Clone)]
pub struct SharedRate(Arc<Mutex<Rates>>);

#[derive(Debug)]
struct Rates {
    /// What the present caps say.
    now: gst::Fraction,
    /// What the next caps will say.
    next: gst::Fraction,
}

impl SharedRate {
    pub fn new(rate: gst::Fraction) -> Self {
        let (now, next) = (rate, rate);
        Self(Arc::new(Mutex::new(Rates { now, next })))
    }

    /// Has the next caps say this rate.
    pub fn set_next(&self, rate: gst::Fraction) {
        lock(&self.0).next = rate;
    }

    /// The rate for caps that pass now.
    pub fn adopt(&self) -> gst::Fraction {
        let mut rates = lock(&self.0);
        rates.now = rates.next;
        rates.now
    }

    /// What the present caps say.
    pub fn now(&self) -> gst::Fraction {
        lock(&self.0).now
    }
}

/// Measures the rate of a track's first frames by their RTP times.
#[derive(Debug, Default)]
pub struct RateMeter {
    last: Option<gst::ClockTime>,
    intervals: Vec<f64>,
    is_done: bool,
}

impl RateMeter {
    /// Counts a frame. Returns the rate once, when it is known.
    pub fn add(&mut self, time: gst::ClockTime) -> Option<gst::Fraction> {
        let last = self.last.replace(time);
        if self.is_done {
            return None;
        }
        let interval = last.and_then(|last| time.checked_sub(last))?;
        self.intervals.push(interval.nseconds() as f64 / 1e9);
        if self.intervals.len() < MEASURED_INTERVALS {
            return None;
        }
        self.is_done = true;
        let in_order = std::mem::take(&mut self.intervals);
        let mut intervals = in_order.clone();
        intervals.sort_by(f64::total_cmp);
        let median = intervals[intervals.len() / 2];
        if median <= 0.0 {
            return None;
        }
        let seconds: f64 = in_order.iter().sum();
        standard(count_frames(&in_order, median) / seconds)
    }
}

/// How many frames the model made in these intervals, each of about `usual`
/// seconds. A long one is that of several frames, of which some were dropped, or of
/// a frame that is late: then the next one is as much too short. Half of what an
/// interval is too long or too short counts for the next one, so that nothing adds
/// up where `usual` is not exact.
fn count_frames(intervals: &[f64], usual: f64) -> f64 {
    let mut rest = 0.0;
    let count = |interval: &f64| {
        let time = interval + rest;
        let frames = (time / usual).round().max(0.0);
        rest = (time - frames * usual) / 2.0;
        frames
    };
    intervals.iter().map(count).sum()
}

/// The standard rate near a measured one, or the whole number nearest to it.
fn standard(fps: f64) -> Option<gst::Fraction> {
    let distance = |rate: &&i32| (f64::from(**rate) - fps).abs();
    let rates = STANDARD_RATES.iter();
    let near = rates.min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
    match distance(&near) <= fps * MEASURED_TOLERANCE {
        true => Some(gst::Fraction::new(*near, 1)),
        false => from_fps(fps.round().max(1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nominal_for(emission_fps: Option<f64>, caps: &str) -> (i32, i32) {
        gst::init().unwrap();
        let caps = caps.parse::<gst::Caps>().unwrap();
        let rate = nominal(emission_fps, Some(&caps));
        (rate.numer(), rate.denom())
    }

    #[test]
    fn nominal_rate_is_the_models_or_one_that_downstream_takes() {
        assert_eq!(nominal_for(None, "ANY"), (30, 1));
        assert_eq!(nominal_for(None, "video/x-raw"), (30, 1));
        assert_eq!(nominal_for(None, "video/x-raw,framerate=60/1"), (60, 1));
        let range = "video/x-raw,framerate=[1/1,24/1]; video/x-raw,framerate=[50/1,60/1]";
        assert_eq!(nominal_for(None, range), (24, 1));
        let open = "video/x-raw,framerate=60/1; video/x-vp9";
        assert_eq!(nominal_for(None, open), (30, 1));
        let variable = "video/x-raw,framerate=0/1";
        assert_eq!(nominal_for(None, variable), (0, 1));
        // What the model says is not bent: the caps are refused, with a reason.
        assert_eq!(
            nominal_for(Some(24.0), "video/x-raw,framerate=60/1"),
            (24, 1)
        );
        assert_eq!(nominal_for(Some(29.97), "ANY"), (30_000, 1001));
        assert_eq!(nominal_for(Some(12.5), "ANY"), (25, 2));
        for nonsense in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e9] {
            assert_eq!(nominal_for(Some(nonsense), "ANY"), (30, 1));
        }
    }

    /// The rate that is measured of frames this far apart, in ms.
    fn measure(intervals: impl Iterator<Item = u64>) -> Option<(i32, i32)> {
        let (mut meter, mut time, mut found) = (RateMeter::default(), 0, Vec::new());
        for interval in intervals {
            time += interval;
            found.extend(meter.add(gst::ClockTime::from_mseconds(time)));
        }
        assert!(found.len() < 2);
        found.first().map(|rate| (rate.numer(), rate.denom()))
    }

    #[test]
    fn measured_rate_withstands_jitter_and_dropped_frames() {
        let jitter = [33, 34, 33, 30, 36, 34, 33, 66];
        let jittered = (0..60).map(|n| jitter[n % jitter.len()]);
        assert_eq!(measure(jittered), Some((30, 1)));
        // Frames that a busy server sends late: the rest of their interval is short.
        let late = [67, 67, 104, 40, 56, 67, 66, 120, 14, 67];
        let late = (0..60).map(|n| late[n % late.len()]);
        assert_eq!(measure(late), Some((15, 1)));
        assert_eq!(
            measure([41, 42, 42].into_iter().cycle().take(90)),
            Some((24, 1))
        );
        assert_eq!(measure([40].into_iter().cycle().take(90)), Some((25, 1)));
        assert_eq!(measure([143].into_iter().cycle().take(90)), Some((7, 1)));
        assert_eq!(measure([5000].into_iter().cycle().take(90)), Some((1, 1)));
        assert_eq!(measure([0].into_iter().cycle().take(90)), None);
        assert_eq!(measure([33].into_iter().cycle().take(30)), None);
    }

    #[test]
    fn rates_that_differ_by_little_stand_for_each_other() {
        let rate = |fps| gst::Fraction::new(fps, 1);
        assert!(is_near(rate(24), rate(25)) && is_near(rate(25), rate(24)));
        assert!(!is_near(rate(24), rate(30)) && !is_near(rate(60), rate(30)));
        assert_eq!(
            interval(rate(30)),
            Some(gst::ClockTime::from_nseconds(33_333_333))
        );
        assert_eq!(interval(rate(0)), None);
    }

    #[test]
    fn next_rate_is_that_of_the_next_caps() {
        let rate = |fps| gst::Fraction::new(fps, 1);
        let shared = SharedRate::new(rate(30));
        assert_eq!((shared.adopt(), shared.now()), (rate(30), rate(30)));
        shared.clone().set_next(rate(15));
        assert_eq!(shared.now(), rate(30));
        assert_eq!((shared.adopt(), shared.now()), (rate(15), rate(15)));
    }
}
