// SPDX-License-Identifier: MIT

//! How long the server may take until it has a clip. Pure; called by the job's thread.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::settings::ClipSettings;
use crate::platform::recording::DownloadLimits;

/// How far in the future the server may expect to have a clip. What a clip lacks is a part of
/// one chunk, some seconds; but a clock may be wrong.
const MAX_PREDICTION: Duration = Duration::from_secs(60);

/// The limits of the download of a clip that this element has requested from a `live`
/// session, or of another one. `predicted_ready_at_ms` is when the server expects to have it,
/// in Unix time, and 0 where that is not known.
///
/// That time is when the model would have made the rest of the chunk that holds the clip's
/// end, if it were as fast as what it makes plays. A slower one takes longer.
pub fn download_limits(
    settings: &ClipSettings,
    live: bool,
    predicted_ready_at_ms: i64,
    now: SystemTime,
) -> DownloadLimits {
    let defaults = DownloadLimits::default();
    let ahead = time_until(predicted_ready_at_ms, now);
    DownloadLimits {
        ready_timeout: settings.ready_limit().map(|limit| limit + ahead),
        // The server of a live session answered a moment ago.
        tries_refused: if live { defaults.tries } else { 1 },
        ..defaults
    }
}

fn time_until(unix_ms: i64, now: SystemTime) -> Duration {
    let at = Duration::from_millis(u64::try_from(unix_ms).unwrap_or_default());
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    at.saturating_sub(now).min(MAX_PREDICTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limits(ready_timeout: Option<u32>, predicted: i64) -> DownloadLimits {
        let mut settings = ClipSettings::default();
        if let Some(milliseconds) = ready_timeout {
            settings.ready_timeout = milliseconds;
        }
        download_limits(
            &settings,
            false,
            predicted,
            UNIX_EPOCH + Duration::from_secs(1000),
        )
    }

    #[test]
    fn ready_timeout_counts_from_predicted_time_within_bounds() {
        let wait = |predicted| limits(None, predicted).ready_timeout.unwrap();
        assert_eq!(wait(1_003_500), MINUTE + Duration::from_millis(3500));
        // In the past, or not known.
        for predicted in [999_000, 0, -1, i64::MIN] {
            assert_eq!(wait(predicted), MINUTE, "{predicted}");
        }
        // In microseconds, by a wrong clock, or by a server that means harm.
        for predicted in [1_000_000_000, i64::MAX] {
            assert_eq!(wait(predicted), MINUTE + MAX_PREDICTION, "{predicted}");
        }
        assert_eq!(limits(Some(0), 1_003_500).ready_timeout, None);
    }
}
