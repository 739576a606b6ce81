// SPDX-License-Identifier: MIT

//! The statistics: keeps the session's totals, and tells the elements when theirs
//! are due.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Driver, DriverMessage};
use crate::{
    platform::{
        lock,
        wire::{ClientEnvironment, ClientMessage, ClientStats},
    },
    session::{
        events::SessionEvent, replies::Reply, runtime::run_repeatedly,
        statistics::ConnectionStatistics,
    },
};

/// The interval of the platform's own clients. The server drops reports that are
/// less than 1 s apart.
const CLIENT_STATS_INTERVAL: Duration = Duration::from_secs(5);

/// When the platform was told, and what.
pub(super) struct ClientStatsReporter {
    /// None while there is no connection that is ready.
    due: Option<Duration>,
    /// Nothing was reported on this connection yet.
    is_first: bool,
    reported: Arc<ConnectionStatistics>,
    environment: ClientEnvironment,
}

impl ClientStatsReporter {
    pub(super) fn new() -> Self {
        Self {
            due: None,
            is_first: true,
            reported: Arc::default(),
            environment: ClientEnvironment::of_process(os_version()),
        }
    }

    fn begin(&mut self, now: Duration) {
        self.due = Some(now + CLIENT_STATS_INTERVAL);
        self.is_first = true;
    }

    fn is_due(&self, now: Duration) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    fn reported(&mut self, now: Duration, statistics: Arc<ConnectionStatistics>) {
        self.due = Some(now + CLIENT_STATS_INTERVAL);
        self.is_first = false;
        self.reported = statistics;
    }
}

/// The version of the distribution, such as `12`; empty if it does not say.
fn os_version() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let mut lines = release.lines();
    let version = lines.find_map(|line| line.strip_prefix("VERSION_ID="));
    version.unwrap_or_default().trim_matches('"').to_owned()
}

impl Driver {
    /// Starts the element's timer anew; 0 stops it.
    pub(super) fn set_stats_interval(&mut self, id: u64, interval: Duration) {
        self.stats_timers.remove(&id);
        if interval.is_zero() {
            return;
        }
        let messages = self.messages.downgrade();
        let timer = run_repeatedly(interval, move || {
            if let Some(messages) = messages.upgrade() {
                let _ = messages.send(DriverMessage::StatisticsDue(id));
            }
            interval
        });
        if let Ok(timer) = timer {
            self.stats_timers.insert(id, timer);
        }
    }

    pub(super) fn statistics_due(&self, id: u64) {
        if self.stats_timers.contains_key(&id) {
            self.participants.send(id, SessionEvent::StatisticsDue);
        }
    }

    /// Takes in a reading of the present connection.
    pub(super) fn update_statistics(&mut self, reading: ConnectionStatistics) {
        let now = self.epoch.elapsed();
        let Some(statistics) = self.statistics.update(now, reading) else {
            return;
        };
        let statistics = Arc::new(statistics);
        *lock(&self.shared.statistics) = statistics.clone();
        // Wire v0 has no such message.
        if self.client_stats.is_due(now)
            && self.participants.report_stats()
            && self.machine.speaks_v1()
        {
            let stats = self.client_stats(&statistics);
            self.client_stats.reported(now, statistics);
            self.request(
                ClientMessage::ClientStats(Box::new(stats)),
                Reply::ignored(),
            );
        }
    }

    fn client_stats(&self, statistics: &ConnectionStatistics) -> ClientStats {
        let timings = self.machine.timings();
        let connect = timings.ready.filter(|_| self.client_stats.is_first);
        let connection = [
            (
                "time_to_connect_ms",
                connect.map(|time| time.as_secs_f64() * 1000.0),
            ),
            (
                "available_outgoing_bitrate_bps",
                statistics.available_outgoing_bitrate.map(f64::from),
            ),
        ];
        let known = connection.into_iter();
        let tracks = self.participants.client_track_stats(
            statistics,
            &self.client_stats.reported,
            |track| self.machine.is_track_paused(track),
        );
        let unix_time = SystemTime::now().duration_since(UNIX_EPOCH);
        ClientStats {
            timestamp: unix_time.map_or(0, |time| time.as_millis() as i64),
            tracks,
            connection: known
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
            environment: self.client_stats.environment.clone(),
        }
    }

    /// The connection is ready: the first report follows after the interval.
    pub(super) fn begin_client_stats(&mut self) {
        self.client_stats.begin(self.epoch.elapsed());
        self.statistics.begin_connection();
    }

    /// The connection is over: only the totals remain.
    pub(super) fn end_statistics(&mut self) {
        self.client_stats.due = None;
        *lock(&self.shared.statistics) = Arc::new(self.statistics.end_connection());
    }
}
