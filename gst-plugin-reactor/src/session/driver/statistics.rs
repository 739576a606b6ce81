// SPDX-License-Identifier: MIT

//! The statistics: keeps the session's totals, and tells the elements when theirs
//! are due.

use std::{sync::Arc, time::Duration};

use super::{Driver, DriverMessage};
use crate::{
    platform::{Error, lock},
    session::{events::SessionEvent, runtime::runtime, statistics::ConnectionStatistics},
};

/// A timer that ends when it is dropped.
pub(super) struct StatsTimer(tokio::task::JoinHandle<()>);

impl Drop for StatsTimer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Driver {
    /// Starts the element's timer anew; 0 stops it.
    pub(super) fn set_stats_interval(&mut self, id: u64, interval: Duration) {
        self.stats_timers.remove(&id);
        if interval.is_zero() {
            return;
        }
        if let Ok(timer) = self.start_stats_timer(id, interval) {
            self.stats_timers.insert(id, timer);
        }
    }

    fn start_stats_timer(&self, id: u64, interval: Duration) -> Result<StatsTimer, Error> {
        let messages = self.messages.downgrade();
        let task = runtime()?.spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let Some(messages) = messages.upgrade() else {
                    return;
                };
                if messages.send(DriverMessage::StatisticsDue(id)).is_err() {
                    return;
                }
            }
        });
        Ok(StatsTimer(task))
    }

    pub(super) fn statistics_due(&self, id: u64) {
        if self.stats_timers.contains_key(&id) {
            self.participants.send(id, SessionEvent::StatisticsDue);
        }
    }

    /// Takes in a reading of the present connection.
    pub(super) fn update_statistics(&mut self, reading: ConnectionStatistics) {
        let statistics = self.statistics.update(self.epoch.elapsed(), reading);
        *lock(&self.shared.statistics) = Arc::new(statistics);
    }

    /// The connection is over: only the totals remain.
    pub(super) fn end_statistics(&mut self) {
        *lock(&self.shared.statistics) = Arc::new(self.statistics.end_connection());
    }
}
