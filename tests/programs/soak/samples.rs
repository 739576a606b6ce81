// SPDX-License-Identifier: MIT

//! What is sampled, and what is judged of it.

use std::{fmt, time::Duration};

use reactor_tests::{
    resources::ProcessResources,
    trend::{median, slope},
};

use crate::{player::Tally, sessions::ROUND};

/// Caches and pools are filled by then; of a shorter run, half of it.
const WARM: Duration = Duration::from_secs(600);
/// Rounds without which there is no slope: each has its own outages in it.
const MIN_ROUNDS: usize = 5;
/// How much the median latency may rise, in ms: a busy machine's.
const MAX_LATENCY_RISE: f64 = 200.0;

/// One line of the CSV.
#[derive(Debug)]
pub struct Sample {
    seconds: f64,
    resources: ProcessResources,
    /// The median age of a picture in ms, if any came.
    latency: Option<f64>,
    pictures: usize,
    connections: u64,
    clips: u64,
    link: String,
}

impl Sample {
    pub const HEADER: &str = "seconds,heap_kib,rss_kib,threads,descriptors,latency_ms,pictures,\
         connections,clips,link";

    pub fn now(elapsed: Duration, tally: &Tally) -> Self {
        let mut ages = tally.take_ages();
        Self {
            seconds: elapsed.as_secs_f64(),
            resources: ProcessResources::now(),
            pictures: ages.len(),
            latency: median(&mut ages),
            connections: tally.count("connections"),
            clips: tally.count("clips"),
            link: tally.link(),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = self
            .latency
            .map_or_else(String::new, |ms| format!("{ms:.1}"));
        write!(
            f,
            "{:.1},{},{},{},{},{latency},{},{},{},{}",
            self.seconds,
            self.resources.heap_kib,
            self.resources.rss_kib,
            self.resources.threads,
            self.resources.descriptors,
            self.pictures,
            self.connections,
            self.clips,
            self.link
        )
    }
}

/// A figure that must not rise.
struct Figure {
    name: &'static str,
    of: fn(&Sample) -> f64,
    /// The steepest slope, per hour.
    limit: f64,
}

const FIGURES: [Figure; 4] = [
    Figure {
        name: "heap, MB",
        of: |sample| sample.resources.heap_kib as f64 / 1024.0,
        limit: 1.0,
    },
    Figure {
        name: "resident, MB",
        of: |sample| sample.resources.rss_kib as f64 / 1024.0,
        limit: 1.0,
    },
    // One of a pool may come or go.
    Figure {
        name: "threads",
        of: |sample| sample.resources.threads as f64,
        limit: 2.0,
    },
    Figure {
        name: "descriptors",
        of: |sample| sample.resources.descriptors as f64,
        limit: 2.0,
    },
];

impl Figure {
    /// The median of each round, against the time in hours.
    fn points(&self, samples: &[&Sample]) -> Vec<(f64, f64)> {
        let round = |sample: &Sample| (sample.seconds / ROUND as f64) as u64;
        let rounds = samples.chunk_by(|a, b| round(a) == round(b));
        let points = rounds.filter_map(|chunk| {
            let mut values: Vec<_> = chunk.iter().map(|sample| (self.of)(sample)).collect();
            let middle = chunk[chunk.len() / 2].seconds / 3600.0;
            Some((middle, median(&mut values)?))
        });
        points.collect()
    }

    /// Prints what became of it; returns that if it has grown too much.
    fn judge(&self, samples: &[&Sample]) -> Option<String> {
        let points = self.points(samples);
        let (first, last) = (points.first()?.1, points.last()?.1);
        let begin = format!("{}: {first:.1} -> {last:.1}", self.name);
        let Some(slope) = slope(&points).filter(|_| points.len() >= MIN_ROUNDS) else {
            println!("{begin}, too short for a slope");
            return None;
        };
        let text = format!(
            "{begin}, {:+.2} per hour (standard error {:.2})",
            slope.value, slope.error
        );
        println!("{text}");
        (slope.value - 2.0 * slope.error > self.limit).then_some(text)
    }
}

/// Prints what became of each figure; returns what has grown too much.
pub fn judge(samples: &[Sample]) -> Vec<String> {
    let Some(last) = samples.last() else {
        return vec!["no samples".into()];
    };
    let warm = WARM.as_secs_f64().min(last.seconds / 2.0);
    let (early, judged): (Vec<_>, Vec<_>) = samples.iter().partition(|s| s.seconds <= warm);
    println!("judged: {} samples after {warm:.0} s", judged.len());
    let mut complaints: Vec<_> = FIGURES
        .iter()
        .filter_map(|figure| figure.judge(&judged))
        .collect();
    complaints.extend(judge_threads(&early, &judged));
    complaints.extend(judge_latency(&judged));
    if judged.iter().all(|sample| sample.pictures == 0) {
        complaints.push("no pictures".into());
    }
    complaints
}

/// What accumulates is always there: the least of a run is never above the most of its beginning.
fn judge_threads(early: &[&Sample], judged: &[&Sample]) -> Option<String> {
    let most = early.iter().map(|sample| sample.resources.threads).max()?;
    let least = judged.iter().map(|sample| sample.resources.threads).min()?;
    (least > most).then(|| format!("threads: at most {most} at first, then at least {least}"))
}

fn judge_latency(samples: &[&Sample]) -> Option<String> {
    let third = samples.len().div_ceil(3);
    let (early, late) = (&samples[..third], &samples[samples.len() - third..]);
    let middle = |list: &[&Sample]| {
        let mut latencies: Vec<_> = list.iter().filter_map(|sample| sample.latency).collect();
        median(&mut latencies)
    };
    let (before, now) = (middle(early)?, middle(late)?);
    let text = format!("latency: {before:.0} -> {now:.0} ms");
    println!("{text}");
    (now > before + MAX_LATENCY_RISE).then_some(text)
}
