// SPDX-License-Identifier: MIT

//! The statistics of a session: the newest ones, and how the most important changed.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

/// The gauge of the frames per second.
const FRAMES: &str = "frames";
/// How many values of a gauge are kept, one a second.
const KEPT: usize = 300;

/// A figure over time.
#[derive(Debug, Clone)]
pub struct Gauge {
    pub name: &'static str,
    pub unit: Unit,
    /// Whether a person should look at a value.
    is_odd: fn(f64) -> bool,
    values: VecDeque<Option<f64>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    BitsPerSecond,
    PerSecond,
    Seconds,
}

impl Gauge {
    fn new(name: &'static str, unit: Unit, is_odd: fn(f64) -> bool) -> Self {
        Self {
            name,
            unit,
            is_odd,
            values: VecDeque::new(),
        }
    }

    /// Whether a person should look at it: the last two values are odd.
    pub fn is_alarming(&self) -> bool {
        let newest = self.values.iter().rev().take(2);
        let odd = newest.filter(|value| value.is_some_and(self.is_odd));
        odd.count() == 2
    }

    fn push(&mut self, value: Option<f64>) {
        if self.values.len() == KEPT {
            self.values.pop_front();
        }
        self.values
            .push_back(value.filter(|value| value.is_finite()));
    }

    /// The newest value with its unit, or a dash if it is not known.
    pub fn text(&self) -> String {
        let newest = self.values.back().copied().flatten();
        newest.map_or_else(|| "–".to_owned(), |value| self.unit.format(value))
    }

    /// The newest values in thousandths of their greatest, the newest one last.
    pub fn bars(&self, count: usize) -> Vec<Option<u64>> {
        let newest = self.values.len().saturating_sub(count);
        let values = self.values.range(newest..);
        let greatest = values.clone().flatten().copied().fold(0.0, f64::max);
        let scale = if greatest > 0.0 {
            1000.0 / greatest
        } else {
            0.0
        };
        values
            .map(|value| value.map(|value| (value.max(0.0) * scale) as u64))
            .collect()
    }
}

impl Unit {
    pub fn format(self, value: f64) -> String {
        match self {
            Self::BitsPerSecond if value < 1e6 => format!("{:.0} kbit/s", value / 1e3),
            Self::BitsPerSecond => format!("{:.2} Mbit/s", value / 1e6),
            Self::PerSecond => format!("{value:.1} /s"),
            Self::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
        }
    }
}

/// A track's row: the pad, and its fields.
pub type Track<'a> = (&'a str, &'a Map<String, Value>);

/// What the elements of a session say of it.
#[derive(Debug, Clone)]
pub struct Stats {
    /// The newest `stats` of each element.
    elements: BTreeMap<String, Map<String, Value>>,
    pub gauges: Vec<Gauge>,
    lost: Option<f64>,
}

impl Default for Stats {
    fn default() -> Self {
        let gauge = Gauge::new;
        let gauges = vec![
            gauge("received", Unit::BitsPerSecond, |_| false),
            gauge("sent", Unit::BitsPerSecond, |_| false),
            gauge(FRAMES, Unit::PerSecond, |rate| rate < 1.0),
            // A command and its effect are felt as one up to here.
            gauge("round trip", Unit::Seconds, |time| time > 0.2),
            // More than the jitter buffer's least latency.
            gauge("jitter", Unit::Seconds, |jitter| jitter > 0.06),
            gauge("lost packets", Unit::PerSecond, |lost| lost >= 1.0),
        ];
        Self {
            elements: BTreeMap::new(),
            gauges,
            lost: None,
        }
    }
}

impl Stats {
    /// Takes an element's newest statistics. Those of the `main` element add a value to the gauges.
    pub fn update(&mut self, element: &str, fields: Map<String, Value>, main: bool) {
        self.elements.insert(element.to_owned(), fields);
        if !main {
            return;
        }
        let connection = |name: &str| self.connection().and_then(|fields| fields[name].as_f64());
        let greatest = |name: &str| {
            let tracks = self.tracks().into_iter();
            let values = tracks.filter_map(|(_, fields)| fields.get(name)?.as_f64());
            values.reduce(f64::max)
        };
        let tracks = self.tracks().into_iter();
        let lost: f64 = tracks
            .filter_map(|(_, fields)| fields.get("packets-lost")?.as_f64())
            .sum();
        // A counter that was set back is that of another session.
        let since = self.lost.map(|before| (lost - before).max(0.0));
        let values = [
            connection("incoming-bitrate"),
            connection("outgoing-bitrate"),
            greatest("frames-per-second"),
            connection("round-trip-time"),
            greatest("jitter"),
            since,
        ];
        self.lost = Some(lost);
        for (gauge, value) in self.gauges.iter_mut().zip(values) {
            gauge.push(value);
        }
    }

    /// There is no connection: a gap in each gauge.
    pub fn interrupt(&mut self) {
        for gauge in &mut self.gauges {
            gauge.push(None);
        }
    }

    /// Whether a model's video has stopped, while everything else may go on.
    pub fn has_no_picture(&self) -> bool {
        let mut frames = self.gauges.iter().filter(|gauge| gauge.name == FRAMES);
        frames.any(Gauge::is_alarming)
    }

    fn connection(&self) -> Option<&Value> {
        self.elements
            .values()
            .find_map(|fields| fields.get("connection"))
    }

    /// A text or number of the connection.
    pub fn of_connection(&self, field: &str) -> Option<&Value> {
        self.connection()?.get(field)
    }

    /// A number that the elements have beside the tracks and the connection.
    pub fn number(&self, field: &str) -> Option<f64> {
        let mut elements = self.elements.values();
        elements.find_map(|fields| fields.get(field)?.as_f64())
    }

    /// All tracks: those that are received, then those that are sent.
    pub fn tracks(&self) -> Vec<Track<'_>> {
        let fields = self.elements.values().flatten();
        let tracks = fields.filter_map(|(name, fields)| {
            let fields = fields
                .as_object()
                .filter(|fields| fields.contains_key("kind"))?;
            Some((name.as_str(), fields))
        });
        let mut tracks: Vec<_> = tracks.collect();
        tracks.sort_by_key(|(name, fields)| {
            let audio = fields["kind"] != "video";
            (fields.contains_key("sent"), audio, *name)
        });
        tracks
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    pub fn sample(lost: u64) -> Map<String, Value> {
        let sample = json!({
            "session-ms": 130.2, "ready-ms": 561.6, "reconnects": 1, "outage-ms": 1200, "ends-in": 3723.4,
            "connection": {"round-trip-time": 0.0027, "incoming-bitrate": 1_815_440.2,
                "outgoing-bitrate": 14_092.4, "protocol": "udp", "relay": false},
            "video_main_video": {"kind": "video", "frames-per-second": 29.7, "jitter": 0.0003,
                "packets-lost": lost, "frame-width": 640, "frame-height": 360, "dropped": 0,
                "incoming-bitrate": 1_717_563.5, "decoder-implementation": "vp9dec"},
            "audio_main_audio": {"kind": "audio", "jitter": 0.0035, "packets-lost": 0},
        });
        sample.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn gauges_follow_the_main_element() {
        let mut stats = Stats::default();
        stats.update("sink", Map::new(), false);
        for lost in [0, 5, 2] {
            stats.update("src", sample(lost), true);
        }
        let texts: Vec<_> = stats.gauges.iter().map(Gauge::text).collect();
        assert_eq!(
            texts,
            [
                "1.82 Mbit/s",
                "14 kbit/s",
                "29.7 /s",
                "2.7 ms",
                "3.5 ms",
                "0.0 /s"
            ]
        );
        assert_eq!(stats.gauges[5].bars(10), [None, Some(1000), Some(0)]);
        assert_eq!(stats.gauges[5].bars(2), [Some(1000), Some(0)]);
        stats.interrupt();
        assert_eq!(stats.gauges[0].text(), "–");
        let names: Vec<_> = stats.tracks().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["video_main_video", "audio_main_audio"]);
        assert_eq!(stats.number("ready-ms"), Some(561.6));
    }

    #[test]
    fn stopped_picture_is_an_alarm() {
        let mut stats = Stats::default();
        let mut still = sample(0);
        still["video_main_video"]["frames-per-second"] = 0.0.into();
        stats.update("src", still.clone(), true);
        assert!(!stats.has_no_picture());
        stats.update("src", still, true);
        assert!(stats.has_no_picture());
        let alarms: Vec<_> = stats.gauges.iter().map(Gauge::is_alarming).collect();
        assert_eq!(alarms, [false, false, true, false, false, false]);
        stats.update("src", sample(0), true);
        assert!(!stats.has_no_picture());
    }

    #[test]
    fn odd_values_are_not_known() {
        let mut stats = Stats::default();
        let odd = json!({"connection": 3, "video_x": {"kind": "video", "jitter": "much"}});
        stats.update("src", odd.as_object().cloned().unwrap_or_default(), true);
        for _ in 0..2 * KEPT {
            stats.update("src", Map::new(), true);
        }
        assert!(stats.gauges[..5].iter().all(|gauge| gauge.text() == "–"));
        assert_eq!(stats.gauges[0].bars(2 * KEPT).len(), KEPT);
    }
}
